"""Each gate's own arithmetic and boundary. The order in which they block is told in test_decision."""

from dataclasses import replace
from datetime import timedelta
from math import inf, isnan, nan, nextafter

import pytest
from evidence_by_hand import FUNDS_LONG, HALT, HALT_BUT_EXITS, HELD, HOLE, flat, long, numbers, parameters

from mtum_eod.core import gates
from mtum_eod.core.evidence import Gate, Window
from mtum_eod.core.gates import Blocked
from mtum_eod.core.parameters import LateExit, RiskParameters


def test_prices_may_be_so_old():
    """5 minutes to buy on, 30 to sell on, and 30 for the VIX."""
    minutes = [5, 30, 30]

    assert [timedelta(minutes=m) for m in minutes] == [
        gates.MAX_ENTRY_PRICE_AGE,
        gates.MAX_EXIT_PRICE_AGE,
        gates.MAX_VIX_AGE,
    ]


# -- daily loss -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("close", "last_final_equity", "expected"),
    [
        (200.0, 5056.1, 0.0),  # 5000 + 20 x 5 - 3.90 = 5096.10: a gain
        (198.0, 5056.1, 0.0),  # 5000 + 20 x 3 - 3.90 = 5056.10: nothing moved
        (190.0, 5056.1, 160.0),  # 5000 - 20 x 5 - 3.90 = 4896.10
        (173.0, 5056.1, 500.0),  # 5000 - 20 x 22 - 3.90 = 4556.10
        (nan, 5056.1, 0.0),  # no price: told by other gates
        (150.0, nan, 0.0),  # a replay that knows no last close
    ],
)
def test_the_daily_loss_is_how_far_equity_fell_since_the_last_final_close(close, last_final_equity, expected):
    """20 shares bought at 195.00 for 3.90 USD, marked at the decision price; each row's sum beside it."""
    evidence = long(numbers(close=close), funds=replace(FUNDS_LONG, last_final_equity=last_final_equity))

    assert expected == pytest.approx(gates.daily_loss(evidence), abs=1e-9)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (500.0, True),
        (500.0 - 1e-10, True),  # the same cents, added up in another order
        (499.99, False),
        (0.0, False),
    ],
)
def test_a_daily_loss_reaches_its_limit_whichever_way_it_was_added_up(loss, expected):
    """500 USD; a book and a backtest add in different orders."""
    assert expected == (loss >= gates.daily_loss_limit(500.0))


def test_without_shares_there_is_no_daily_loss():
    """A withdrawal or an old equity makes none."""
    evidence = flat(funds=replace(FUNDS_LONG, last_final_equity=9000.0))

    assert 0.0 == gates.daily_loss(evidence)


def test_unrealised_profit_has_the_entrys_cost_booked():
    """20 x (200 - 195) - 3.90."""
    assert 96.1 == pytest.approx(gates.unrealised(HELD, 200.0), abs=1e-12)


# -- price move -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("close", "before", "expected"), [(110.0, 100.0, 10.0), (90.0, 100.0, 10.0), (100.0, 80.0, 25.0), (5.0, 5.0, 0.0)]
)
def test_the_price_move_is_unsigned_percent_of_the_close_before(close, before, expected):
    assert expected == pytest.approx(gates.price_move_pct(numbers(close=close, previous_close=before)), abs=1e-12)


def test_the_price_move_is_unknown_where_a_close_is():
    moves = [gates.price_move_pct(numbers(close=nan)), gates.price_move_pct(numbers(previous_close=nan))]

    assert [True, True] == [isnan(move) for move in moves]


def test_a_move_of_exactly_the_limit_passes():
    """100 to 125 is 25 % in binary too."""
    evidence = flat(numbers(close=125.0, previous_close=100.0))
    at, under = (gates.risk_block(evidence, False, parameters(max_price_move_pct=limit)) for limit in (25.0, 24.9))

    assert (None, Blocked(gate=Gate.PRICE_MOVE, why="close moved 25.0 % since the last one, more than 24.9 %")) == (
        at,
        under,
    )


# -- the day's risk ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("evidence", "loss_hit", "changes", "expected"),
    [
        (flat(), False, {}, None),
        (flat(daily_loss_latched=True), False, {}, Gate.DAILY_LOSS),
        (flat(), True, {}, Gate.DAILY_LOSS),
        (flat(numbers(previous_close=100.0)), False, {}, Gate.PRICE_MOVE),
        (flat(numbers(previous_close=nan)), False, {}, None),
    ],
)
def test_the_days_risk_blocks(evidence, loss_hit, changes, expected):
    blocked = gates.risk_block(evidence, loss_hit, parameters(**changes))

    assert expected == (blocked and blocked.gate)


@pytest.mark.parametrize(
    ("approved", "shares", "why"),
    [
        (None, 24, "waiting for the owner's approval"),
        (24, 24, None),
        (24, 25, None),
        (24, 23, None),
        (24, 26, "waiting for the owner's approval again: 24 shares approved, now it would be 26"),
        (24, 22, "waiting for the owner's approval again: 24 shares approved, now it would be 22"),
    ],
)
def test_an_approval_is_good_for_one_share_more_or_fewer(approved, shares, why):
    blocked = gates.approval_block(flat(approved_shares=approved), shares, RiskParameters(require_confirmation=True))

    assert (why and Blocked(gate=Gate.AWAITING_APPROVAL, why=why)) == blocked


def test_nobody_is_asked_where_no_confirmation_is_required():
    assert gates.approval_block(flat(), 24, RiskParameters()) is None


@pytest.mark.parametrize(
    ("shares", "price", "equity", "risk", "expected"),
    [
        (50, 100.0, 5000.0, {}, False),  # at both caps
        (50, nextafter(100.0, inf), 9000.0, {}, True),  # over the size
        (50, nextafter(100.0, inf), 5000.0, {"max_position_size": 9000.0}, True),  # over the equity
        (25, 100.0, 5000.0, {"max_position_pct": 50.0}, False),
        (26, 100.0, 5000.0, {"max_position_pct": 50.0}, True),
        (1, 100.0, 99.0, {}, True),
        (0, 100.0, 0.0, {}, False),
        (0, 100.0, -300.0, {}, False),  # no share passes no cap
    ],
)
def test_the_position_limit_is_passed_beyond_either_cap(shares, price, equity, risk, expected):
    assert expected == gates.exceeds_position_limit(shares, price, equity, RiskParameters(**risk))


# -- in words ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"halt": HALT}, "halted: on holiday"),
        ({"halt": HALT_BUT_EXITS}, "halted: on holiday"),
        ({"window": Window.EARLY}, "before the decision time of this session"),
        ({"window": Window.LATE}, "past the hard stop for market-on-close orders"),
        ({"window": Window.SHUT}, "the market is closing or closed"),
        ({"has_order": True}, "this session has had its order"),
        ({"order_unknown": "order k is in an unknown state"}, "order k is in an unknown state"),
        ({"mismatch": "the book holds 0 shares, the broker 3"}, "the book holds 0 shares, the broker 3"),
        ({"findings": (HOLE,)}, "MTUM 2024-10-09: no bar inside the window"),
    ],
)
def test_an_entry_gate_says_what_it_saw(changes, expected):
    assert expected == gates.entry_block(flat(**changes)).why


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"halt": HALT}, "halted: on holiday"),
        ({"window": Window.EARLY}, "before the decision time of this session"),
        ({"window": Window.LATE}, "past the hard stop for market-on-close orders"),
        ({"window": Window.SHUT}, "the market is closing or closed"),
        ({"has_order": True}, "this session has had its order"),
        ({"order_unknown": "order k is in an unknown state"}, "order k is in an unknown state"),
        ({"broker_shares": None}, "the broker's position is not known"),
        ({"broker_shares": 0}, "the broker holds no share of this book"),
        ({"broker_shares": -5}, "the broker holds no share of this book"),
        ({"indicators": numbers(close=nan)}, "no trustworthy price"),
        ({"indicators": numbers(close=0.0)}, "no trustworthy price"),
        ({"indicators": numbers(close=-1.0)}, "no trustworthy price"),
    ],
)
def test_an_exit_gate_says_what_it_saw(changes, expected):
    """Late exits are skipped here, as an owner can choose."""
    assert expected == gates.exit_block(long(**changes), parameters(late_exit=LateExit.SKIP)).why
