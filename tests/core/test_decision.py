"""The decision of a session: rules, then gates in their order, then size. What blocks an entry, and an exit."""

from dataclasses import replace
from datetime import date
from itertools import combinations
from math import nan
from typing import Any

import pytest
from evidence_by_hand import FUNDS_FLAT, FUNDS_LONG, HALT, HALT_BUT_EXITS, HELD, HOLE, flat, long, numbers, parameters
from hypothesis import given
from hypothesis import strategies as st

from mtum_eod.core import decision as decision_module
from mtum_eod.core.decision import decide, judge_entry
from mtum_eod.core.evidence import Decision, Evidence, Funds, Gate, Indicators, PendingExit, Window
from mtum_eod.core.market import Finding, FindingKind
from mtum_eod.core.parameters import LateExit, Parameters, RiskParameters, StrategyParameters
from mtum_eod.core.sizing import Size, share_cost
from mtum_eod.core.strategy import EntryRule, ExitReason
from mtum_eod.core.trading import Action, Position

DEFAULTS = Parameters()


def outcome(decision: Decision) -> tuple[Action, int, Gate | None]:
    return decision.action, decision.shares, decision.blocked_by


# -- flat -------------------------------------------------------------------------------------------------------------


def test_an_entry_buys_where_all_four_rules_hold():
    """5,000 USD at 202.202 a share."""
    assert (Action.BUY, 24, None) == outcome(decide(flat(), DEFAULTS))


@pytest.mark.parametrize(
    ("changes", "rule", "held"),
    [
        ({"close": 190.0}, EntryRule.TREND_BULLISH, False),
        ({"vix": 25.0}, EntryRule.VIX_STABLE, False),
        ({"rsi": 50.0}, EntryRule.RSI_BULLISH, False),
        ({"volume": 1e6}, EntryRule.VOLUME_CONFIRM, False),
        ({"close": nan}, EntryRule.TREND_BULLISH, None),
        ({"ma_50": nan}, EntryRule.TREND_BULLISH, None),
        ({"vix": nan}, EntryRule.VIX_STABLE, None),
        ({"rsi": nan}, EntryRule.RSI_BULLISH, None),
        ({"volume": nan}, EntryRule.VOLUME_CONFIRM, None),
        ({"volume_ma_20": nan}, EntryRule.VOLUME_CONFIRM, None),
    ],
)
def test_a_single_rule_that_does_not_hold_keeps_the_money(changes, rule, held):
    """Each row: what differs, and the one rule that is then false, or unknown (None)."""
    decision = decide(flat(numbers(**changes)), DEFAULTS)

    assert ({**dict.fromkeys(EntryRule, True), rule: held}, False, Action.HOLD, 0) == (
        decision.entry_rules,
        decision.entry_confluence,
        decision.action,
        decision.shares,
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"volume": nan}, Gate.VOLUME_UNAVAILABLE),
        ({"volume_ma_20": nan}, Gate.VOLUME_UNAVAILABLE),
        ({"volume": nan, "rsi": 40.0}, None),  # the rules say no whatever the volume
        ({"volume": nan, "vix": nan}, Gate.DATA),
        ({"vix": nan}, Gate.DATA),
        ({"ma_50": nan}, Gate.DATA),
        ({"vix": nan, "rsi": 40.0}, None),
        ({"rsi": 40.0}, None),
    ],
)
def test_a_missing_input_is_told_where_it_made_the_difference(changes, expected):
    """Each row: what differs, and the gate."""
    assert (Action.HOLD, 0, expected) == outcome(decide(flat(numbers(**changes)), DEFAULTS))


@pytest.mark.parametrize(
    ("indicators", "changes", "expected"),
    [
        (numbers(volume=nan), {"halt": HALT}, Gate.HALTED),
        (numbers(volume=nan), {"findings": (HOLE,)}, Gate.DATA),
        (numbers(rsi=40.0), {"halt": HALT}, None),
        (numbers(rsi=40.0), {"findings": (HOLE,)}, Gate.DATA),  # on faulty data a no is no decision either
        (numbers(rsi=40.0), {"findings": (replace(HOLE, is_fatal=False),)}, None),
    ],
)
def test_without_an_entry_signal_only_what_made_a_difference_blocks(indicators, changes, expected):
    """Rules that say no need no gate."""
    assert (Action.HOLD, 0, expected) == outcome(decide(flat(indicators, **changes), DEFAULTS))


def test_when_flat_no_exit_reason_is_told():
    """Below the average with a VIX of 40: there is nothing to sell, pending or not."""
    pending = PendingExit(since=date(2024, 11, 4), words="Trend breakdown")
    decision = decide(flat(numbers(close=150.0, vix=40.0, rsi=20.0), pending_exit=pending), DEFAULTS)

    assert ((), (), False) == (decision.exit_reasons, decision.exit_unknown, decision.is_unattended)


def test_a_fault_in_the_data_is_told_with_the_decision():
    """Repaired or fatal, each finding is a warning in its own words."""
    told = Finding(kind=FindingKind.ZERO_VOLUME, symbol="MTUM", session=None, words="MTUM: volume 0")
    decision = decide(flat(findings=(told, HOLE)), DEFAULTS)

    assert ("MTUM: volume 0", "MTUM 2024-10-09: no bar inside the window") == decision.warnings


@pytest.mark.parametrize("rsi", [nan, 40.0])
def test_a_session_without_trustworthy_bars_says_why(rsi: float):
    """The ledger's row keeps the reason alone: 'RSI unknown' explains nothing."""
    decision = decide(flat(numbers(rsi=rsi), findings=(HOLE,)), DEFAULTS)

    assert (Gate.DATA, True) == (decision.blocked_by, decision.reason.startswith("No entry: RSI"))
    assert decision.reason.endswith(". Blocked: MTUM 2024-10-09: no bar inside the window")


# -- gates of an entry ------------------------------------------------------------------------------------------------

# Each stands against an entry by itself. Keys: indicators, evidence, funds, settings. In the documented order.
AGAINST_AN_ENTRY: list[tuple[Gate, dict[str, dict[str, Any]]]] = [
    (Gate.HALTED, {"evidence": {"halt": HALT}}),
    (Gate.OUTSIDE_WINDOW, {"evidence": {"window": Window.EARLY}}),
    (Gate.ALREADY_DECIDED, {"evidence": {"has_order": True}}),
    (Gate.ORDER_UNKNOWN, {"evidence": {"order_unknown": "an order is in an unknown state"}}),
    (Gate.RECONCILE_MISMATCH, {"evidence": {"mismatch": "the book holds 0 shares, the broker 3"}}),
    (Gate.DATA, {"evidence": {"findings": (HOLE,)}}),
    (Gate.VOLUME_UNAVAILABLE, {"indicators": {"volume": nan}}),
    (Gate.CASH, {"funds": {"cash": 202.0}}),
    (Gate.DAILY_LOSS, {"evidence": {"daily_loss_latched": True}}),
    (Gate.PRICE_MOVE, {"indicators": {"previous_close": 170.0}}),
    (Gate.AWAITING_APPROVAL, {"settings": {"require_confirmation": True}}),
    (Gate.SIZE, {"settings": {"max_position_size": 202.0}}),
]


def against(*obstacles: dict[str, dict[str, Any]]) -> tuple[Evidence, Parameters]:
    """A day to buy, with these obstacles."""
    changes: dict[str, dict[str, Any]] = {"indicators": {}, "evidence": {}, "funds": {}, "settings": {}}
    for obstacle in obstacles:
        for key, values in obstacle.items():
            changes[key] |= values
    funds = replace(FUNDS_FLAT, **changes["funds"])
    evidence = flat(numbers(**changes["indicators"]), funds=funds, **changes["evidence"])
    return evidence, parameters(**changes["settings"])


@pytest.mark.parametrize(("gate", "obstacle"), AGAINST_AN_ENTRY)
def test_each_gate_alone_blocks_an_entry(gate, obstacle):
    """No order goes out; the rules' word stands, but that nothing is known of a rule without its input."""
    action = Action.HOLD if gate is Gate.VOLUME_UNAVAILABLE else Action.BUY

    assert (action, 0, gate) == outcome(decide(*against(obstacle)))


def test_the_owner_is_asked_for_as_many_shares_as_would_go_out():
    """5,000 USD at 200.00, with buffer and cost 202.202 a share."""
    asked = decide(flat(), parameters(require_confirmation=True))
    approved = decide(flat(approved_shares=24), parameters(require_confirmation=True))

    assert (24, 0, Gate.AWAITING_APPROVAL) == (asked.shares_awaiting, asked.shares, asked.blocked_by)
    assert (0, 24, None) == (approved.shares_awaiting, approved.shares, approved.blocked_by)


def test_an_entry_that_no_longer_holds_is_not_bought_for_having_been_approved():
    """The VIX rose while the owner read the question."""
    decision = decide(flat(numbers(vix=26.0), approved_shares=24), parameters(require_confirmation=True))

    assert (Action.HOLD, 0, None) == outcome(decision)
    assert "No entry: VIX 26.0 not below 25. Approved, and not bought: 24 shares" == decision.reason


PAIRS = [
    (first, second)
    for first, second in combinations(AGAINST_AN_ENTRY, 2)
    # a book too small for a share is not short of cash, and has nothing to approve
    if (first[0], second[0]) not in ((Gate.CASH, Gate.SIZE), (Gate.AWAITING_APPROVAL, Gate.SIZE))
]


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_of_two_gates_the_first_in_the_documented_order_is_told(first, second):
    """Every pair of obstacles at once."""
    assert first[0] == decide(*against(first[1], second[1])).blocked_by


def test_the_documented_order_is_the_gates_own():
    """SPEC section 4 prints it; position_limit and not_a_session are told elsewhere."""
    told_elsewhere = (Gate.NOT_A_SESSION, Gate.POSITION_LIMIT)

    assert [gate for gate in Gate if gate not in told_elsewhere] == [gate for gate, _ in AGAINST_AN_ENTRY]


def test_the_gates_are_named_as_documented():
    """SPEC section 4, word for word."""
    documented = (
        "halted, not_a_session, outside_window, already_decided, order_unknown, reconcile_mismatch, data, "
        "volume_unavailable, position_limit, cash, daily_loss, price_move, awaiting_approval, size"
    )

    assert documented == ", ".join(Gate)


@pytest.mark.parametrize("window", [Window.EARLY, Window.LATE, Window.SHUT])
def test_an_entry_goes_out_in_its_window_only(window):
    """Neither before the decision time nor as a late market order."""
    assert (Action.BUY, 0, Gate.OUTSIDE_WINDOW) == outcome(decide(flat(window=window), DEFAULTS))


def test_a_halt_that_allows_exits_still_blocks_entries():
    assert (Action.BUY, 0, Gate.HALTED) == outcome(decide(flat(halt=HALT_BUT_EXITS), DEFAULTS))


def test_cash_the_broker_did_not_tell_buys_nothing():
    """Unknown is not plenty."""
    evidence = flat(funds=replace(FUNDS_FLAT, cash=nan))

    assert (Action.BUY, 0, Gate.CASH) == outcome(decide(evidence, DEFAULTS))


def test_less_cash_than_equity_buys_fewer_shares():
    """1,500 USD at 202.202 a share: 7."""
    evidence = flat(funds=replace(FUNDS_FLAT, cash=1500.0))

    assert (Action.BUY, 7, None) == outcome(decide(evidence, DEFAULTS))


@pytest.mark.parametrize("equity", [100.0, 0.0, -300.0])
def test_a_book_worth_less_than_a_share_is_too_small(equity):
    """Whatever cash the broker shows: fewer than one share is `size`."""
    evidence = flat(funds=replace(FUNDS_FLAT, sizing_equity=equity))

    assert (Action.BUY, 0, Gate.SIZE) == outcome(decide(evidence, DEFAULTS))


@pytest.mark.parametrize("changes", [{}, {"daily_loss_latched": True}])
def test_a_size_beyond_the_cap_is_caught_whatever_reckoned_it(monkeypatch, changes):
    """26 shares of 200.00 are 5,200 USD; 5,000 are allowed. It is told before the day's risk."""
    monkeypatch.setattr(decision_module, "size_entry", lambda *_: Size(shares=26))
    decision = decide(flat(**changes), DEFAULTS)

    assert (Action.BUY, 0, Gate.POSITION_LIMIT) == outcome(decision)
    assert decision.reason.endswith("1,000,000. Blocked: 26 shares would pass the cap")


# -- long -------------------------------------------------------------------------------------------------------------

SPIKE = numbers(vix=31.0)


@pytest.mark.parametrize(
    ("changes", "settings", "expected"),
    [
        ({}, {}, []),
        ({"close": 189.0}, {}, ["trend"]),
        ({"close": 190.0}, {}, []),
        ({"vix": 30.0}, {}, []),
        ({"vix": 31.0}, {}, ["vix"]),
        ({"rsi": 30.0}, {}, []),
        ({"rsi": 29.0}, {}, ["rsi"]),
        ({"close": 210.99}, {}, []),
        ({"close": 211.0}, {}, ["atr_profit"]),  # 195 + 4 x 4, the entry's ATR: today's of 3.00 is not asked
        ({"close": 175.5}, {}, ["trend"]),
        ({"close": 175.5}, {"stop_loss_enabled": True}, ["trend", "stop_loss"]),  # 195 less 10 %
        ({"close": 189.0, "vix": 31.0, "rsi": 29.0}, {}, ["trend", "vix", "rsi"]),
        ({"volume": nan, "volume_ma_20": nan, "atr": nan}, {}, []),  # volume never touches an exit
    ],
)
def test_an_exit_sells_where_any_rule_fires(changes, settings, expected):
    """20 shares bought at 195.00; each row: what differs from a day to hold, settings, rules in order."""
    decision = decide(long(numbers(**changes)), parameters(**settings))
    sold = (Action.SELL, 20, None) if expected else (Action.HOLD, 0, None)

    assert (expected, bool(expected), sold) == (
        [str(reason) for reason in decision.exit_reasons],
        decision.exit_confluence,
        outcome(decision),
    )


def test_while_long_the_entry_rules_are_judged_but_buy_nothing():
    """One position at a time: all four hold, and nothing is bought."""
    decision = decide(long(), DEFAULTS)

    assert (True, Action.HOLD, 0, None) == (decision.entry_confluence, *outcome(decision))


@pytest.mark.parametrize(
    ("changes", "unknown", "expected"),
    [
        ({"vix": nan}, ["vix"], (Action.HOLD, 0, Gate.DATA)),
        ({"ma_50": nan}, ["trend"], (Action.HOLD, 0, Gate.DATA)),
        ({"rsi": nan}, ["rsi"], (Action.HOLD, 0, Gate.DATA)),
        ({"close": nan}, ["trend", "atr_profit"], (Action.HOLD, 0, Gate.DATA)),
        ({"vix": nan, "close": 189.0}, ["vix"], (Action.SELL, 20, None)),  # one true rule sells
        ({"ma_50": nan, "rsi": nan, "vix": 31.0}, ["trend", "rsi"], (Action.SELL, 20, None)),
        ({"close": nan, "vix": 31.0}, ["trend", "atr_profit"], (Action.SELL, 0, Gate.DATA)),  # no price to sell at
    ],
)
def test_one_true_rule_sells_though_others_are_unknown(changes, unknown, expected):
    """None true and one unknown: no order, and a person must look."""
    decision = decide(long(numbers(**changes)), DEFAULTS)

    assert (unknown, expected, expected[0] is Action.HOLD) == (
        [str(rule) for rule in decision.exit_unknown],
        outcome(decision),
        decision.is_unattended,
    )


def test_a_position_without_the_atr_of_its_entry_is_unattended():
    """Its target cannot be told."""
    decision = decide(long(position=replace(HELD, entry_atr=nan)), DEFAULTS)

    assert ((ExitReason.ATR_PROFIT,), Gate.DATA, True) == (
        decision.exit_unknown,
        decision.blocked_by,
        decision.is_unattended,
    )


STALE = replace(HOLE, kind=FindingKind.STALE_PRICE, words="VIX: last known 31 min ago, 30 allowed")


@pytest.mark.parametrize(
    ("findings", "expected"),
    [
        ((HOLE,), (Action.HOLD, 0, Gate.DATA, True)),
        ((STALE, HOLE), (Action.HOLD, 0, Gate.DATA, True)),
        ((STALE,), (Action.HOLD, 0, None, False)),  # too old to buy on says nothing against keeping
        ((replace(STALE, kind=FindingKind.VOLUME_UNITS),), (Action.HOLD, 0, None, False)),  # nor does volume
        ((replace(HOLE, is_fatal=False),), (Action.HOLD, 0, None, False)),
    ],
)
def test_on_faulty_data_a_position_is_unattended_though_no_exit_rule_fires(findings, expected):
    """That no exit is due cannot be said where the bars themselves are in doubt."""
    decision = decide(long(findings=findings), DEFAULTS)

    assert expected == (*outcome(decision), decision.is_unattended)


PENDING = PendingExit(since=date(2024, 11, 4), words="VIX spike (31.2 > 30)")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ["exit_pending"]),
        ({"vix": nan, "rsi": nan}, ["exit_pending"]),
        ({"close": 189.0, "rsi": 29.0}, ["trend", "rsi", "exit_pending"]),
    ],
)
def test_an_exit_once_decided_stays_due(changes, expected):
    """Whatever the signals say then; what fires as well is told first."""
    decision = decide(long(numbers(**changes), pending_exit=PENDING), DEFAULTS)

    assert (expected, Action.SELL, 20, False) == (
        [str(reason) for reason in decision.exit_reasons],
        decision.action,
        decision.shares,
        decision.is_unattended,
    )


# -- daily loss -------------------------------------------------------------------------------------------------------

# Equity at 180.00 is 5,000 - 20 x 15 - 3.90 = 4,696.10; the MA is put under it so that no other rule fires.
FALLEN = numbers(close=180.0, ma_50=170.0)


@pytest.mark.parametrize(
    ("last_final_equity", "hit"),
    [(5196.1, True), (5196.09, False), (5300.0, True)],
)
def test_a_daily_loss_of_exactly_the_limit_is_hit(last_final_equity, hit):
    """4,696.10 against the last final close's equity, where 500 USD are the limit."""
    decision = decide(long(FALLEN, funds=replace(FUNDS_LONG, last_final_equity=last_final_equity)), DEFAULTS)

    assert (hit, pytest.approx(last_final_equity - 4696.1, abs=1e-9)) == (
        decision.daily_loss_hit,
        decision.daily_loss_usd,
    )


@pytest.mark.parametrize(
    ("settings", "last_final_equity", "expected"),
    [
        ({}, 5300.0, []),
        ({"daily_loss_exit": True}, 5300.0, ["daily_loss"]),
        ({"daily_loss_exit": True}, 5100.0, []),
        ({"daily_loss_exit": True, "max_daily_loss": 400.0}, 5100.0, ["daily_loss"]),
    ],
)
def test_a_daily_loss_sells_only_where_the_owner_wants_it(settings, last_final_equity, expected):
    """Each row: settings, equity at the last final close against 4,696.10 now, and the reasons."""
    evidence = long(FALLEN, funds=replace(FUNDS_LONG, last_final_equity=last_final_equity))

    assert expected == list(decide(evidence, parameters(**settings)).exit_reasons)


def test_the_reasons_stand_in_their_documented_order():
    """Signals first, then the day's loss, then what was decided before."""
    evidence = long(
        numbers(close=175.0, vix=31.0, rsi=29.0),
        funds=replace(FUNDS_LONG, last_final_equity=6000.0),
        pending_exit=PENDING,
    )
    decision = decide(evidence, parameters(stop_loss_enabled=True, daily_loss_exit=True))

    assert ["trend", "vix", "rsi", "stop_loss", "daily_loss", "exit_pending"] == list(decision.exit_reasons)


# -- gates of an exit -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "settings", "gate"),
    [
        ({"halt": HALT}, {}, Gate.HALTED),
        ({"window": Window.EARLY}, {}, Gate.OUTSIDE_WINDOW),
        ({"window": Window.SHUT}, {}, Gate.OUTSIDE_WINDOW),
        ({"window": Window.SHUT}, {"late_exit": LateExit.SKIP}, Gate.OUTSIDE_WINDOW),
        ({"window": Window.LATE}, {"late_exit": LateExit.SKIP}, Gate.OUTSIDE_WINDOW),
        ({"has_order": True}, {}, Gate.ALREADY_DECIDED),
        ({"has_order": True, "window": Window.LATE}, {}, Gate.ALREADY_DECIDED),
        ({"order_unknown": "an order is in an unknown state"}, {}, Gate.ORDER_UNKNOWN),
        ({"broker_shares": None}, {}, Gate.RECONCILE_MISMATCH),
        ({"broker_shares": 0}, {}, Gate.RECONCILE_MISMATCH),
        ({"broker_shares": -20}, {}, Gate.RECONCILE_MISMATCH),  # short at the broker: selling makes it worse
        ({"indicators": numbers(vix=31.0, close=nan)}, {}, Gate.DATA),
    ],
)
def test_these_alone_block_an_exit(changes, settings, gate):
    """The VIX has spiked; each row: what stands against selling, and its name. The rules' word stands."""
    evidence = long(**({"indicators": SPIKE} | changes))

    assert (Action.SELL, 0, gate) == outcome(decide(evidence, parameters(**settings)))


@pytest.mark.parametrize(
    ("changes", "settings"),
    [
        ({}, {}),
        ({"halt": HALT_BUT_EXITS}, {}),
        ({"window": Window.LATE}, {}),
        ({"mismatch": "the book holds 20 shares, the broker 35", "broker_shares": 35}, {}),
        ({"findings": (HOLE,)}, {}),
        ({"indicators": replace(SPIKE, volume=nan, volume_ma_20=nan, atr=nan)}, {}),
        ({"indicators": replace(SPIKE, ma_50=nan, rsi=nan)}, {}),
        ({"indicators": replace(SPIKE, previous_close=100.0)}, {}),
        ({"indicators": replace(SPIKE, previous_close=nan)}, {}),
        ({"position": replace(HELD, entry_atr=nan)}, {}),
        ({"daily_loss_latched": True}, {}),
        ({"funds": Funds(sizing_equity=nan, cash=nan, settled_cash=nan, last_final_equity=nan)}, {}),
        ({"funds": Funds(sizing_equity=-1.0, cash=0.0, settled_cash=0.0, last_final_equity=9e9)}, {}),
        ({}, {"require_confirmation": True}),
        ({}, {"max_position_size": 1.0}),
        ({}, {"max_price_move_pct": 0.5}),
    ],
)
def test_nothing_else_holds_an_exit_back(changes, settings):
    """All 20 shares go, whatever is uncertain besides."""
    evidence = long(**({"indicators": SPIKE} | changes))

    assert (Action.SELL, 20, None) == outcome(decide(evidence, parameters(**settings)))


@pytest.mark.parametrize(
    ("changes", "settings", "gate"),
    [
        ({"halt": HALT, "window": Window.SHUT}, {}, Gate.HALTED),
        ({"window": Window.EARLY, "has_order": True}, {}, Gate.OUTSIDE_WINDOW),
        ({"has_order": True, "order_unknown": "unknown"}, {}, Gate.ALREADY_DECIDED),
        ({"order_unknown": "unknown", "broker_shares": None}, {}, Gate.ORDER_UNKNOWN),
        ({"broker_shares": None, "indicators": numbers(vix=31.0, close=nan)}, {}, Gate.RECONCILE_MISMATCH),
    ],
)
def test_of_two_gates_of_an_exit_the_first_in_the_documented_order_is_told(changes, settings, gate):
    """Each row: an obstacle and the one that follows it."""
    evidence = long(**({"indicators": SPIKE} | changes))

    assert gate == decide(evidence, parameters(**settings)).blocked_by


@pytest.mark.parametrize(("at_broker", "sold"), [(20, 20), (15, 15), (1, 1), (35, 20)])
def test_an_exit_sells_the_smaller_of_ours_and_the_brokers(at_broker, sold):
    """20 are the book's. What is more at the broker is not ours, what is missing would be a short sale."""
    evidence = long(SPIKE, broker_shares=at_broker, mismatch="the book and the broker differ")

    assert (Action.SELL, sold, None) == outcome(decide(evidence, DEFAULTS))


@pytest.mark.parametrize(("window", "late"), [(Window.OPEN, False), (Window.LATE, True)])
def test_past_the_hard_stop_an_exit_is_late(window, late):
    """A late exit goes out as a market order; an exit in time does not."""
    decision = decide(long(SPIKE, window=window), DEFAULTS)

    assert (Action.SELL, 20, late) == (decision.action, decision.shares, decision.is_late_exit)


@pytest.mark.parametrize(
    "evidence", [flat(window=Window.LATE), long(window=Window.LATE), long(SPIKE, window=Window.SHUT)]
)
def test_what_is_not_sold_is_no_late_exit(evidence):
    assert decide(evidence, DEFAULTS).is_late_exit is False


# -- what holds for any evidence --------------------------------------------------------------------------------------

UNKNOWN = st.just(nan)
PRICES = st.sampled_from([150.0, 175.5, 189.99, 190.0, 190.01, 200.0, 211.0, 230.0]) | st.floats(1.0, 500.0) | UNKNOWN
INDICATORS = st.builds(
    Indicators,
    close=PRICES,
    ma_50=PRICES,
    rsi=st.sampled_from([29.0, 30.0, 45.0, 50.0, 60.0]) | UNKNOWN,
    atr=st.sampled_from([3.0, nan]),
    volume=st.sampled_from([0.0, 1e6, 2e6]) | UNKNOWN,
    volume_ma_20=st.sampled_from([1e6, nan]),
    vix=st.sampled_from([18.0, 25.0, 30.0, 31.0]) | UNKNOWN,
    previous_close=PRICES,
)
USD = st.sampled_from([-100.0, 0.0, 150.0, 1500.0, 5000.0, 9000.0])
FUNDS = st.builds(
    Funds, sizing_equity=USD, cash=USD | UNKNOWN, settled_cash=USD | UNKNOWN, last_final_equity=USD | UNKNOWN
)
POSITIONS = st.builds(
    Position,
    shares=st.integers(1, 40),
    entry_price=st.floats(50.0, 400.0),
    entry_session=st.just(HELD.entry_session),
    entry_atr=st.floats(0.1, 20.0) | UNKNOWN,
    entry_commission_usd=st.floats(0.0, 10.0),
)
GATED = {
    "findings": st.lists(st.sampled_from([HOLE, replace(HOLE, is_fatal=False)]), max_size=2).map(tuple),
    "window": st.sampled_from([Window.OPEN, Window.OPEN, *Window]),
    "halt": st.sampled_from([None, None, HALT, HALT_BUT_EXITS]),
    "daily_loss_latched": st.booleans(),
    "order_unknown": st.sampled_from(["", "", "an order is in an unknown state"]),
    "mismatch": st.sampled_from(["", "", "the book and the broker differ"]),
    "broker_shares": st.none() | st.integers(-20, 60),
    "has_order": st.sampled_from([False, False, True]),
}


@st.composite
def any_evidence(draw: st.DrawFn) -> Evidence:
    """A day of any numbers, some missing, flat or long, with any obstacles."""
    return flat(
        draw(INDICATORS),
        position=draw(st.none() | POSITIONS),
        funds=draw(FUNDS),
        pending_exit=draw(st.sampled_from([None, PENDING])),
        **{name: draw(values) for name, values in GATED.items()},
    )


ANY_PARAMETERS = st.builds(
    Parameters,
    strategy=st.builds(StrategyParameters, stop_loss_enabled=st.booleans()),
    risk=st.builds(
        RiskParameters,
        max_position_pct=st.sampled_from([100.0, 50.0]),
        max_position_size=st.sampled_from([5000.0, 300.0, 100.0]),
        daily_loss_exit=st.booleans(),
        require_confirmation=st.booleans(),
        late_exit=st.sampled_from(LateExit),
    ),
)


@given(any_evidence(), ANY_PARAMETERS)
def test_no_gate_changes_what_the_rules_say(evidence, p):
    """The same numbers with the way free and money enough say the same."""
    free = flat(
        evidence.indicators,
        position=evidence.position,
        funds=replace(evidence.funds, cash=5000.0),
        pending_exit=evidence.pending_exit,
        broker_shares=60,
    )
    decision, unhindered = decide(evidence, p), decide(free, p)

    assert (unhindered.action, unhindered.entry_rules, unhindered.exit_reasons, unhindered.exit_unknown) == (
        decision.action,
        decision.entry_rules,
        decision.exit_reasons,
        decision.exit_unknown,
    )


@given(any_evidence(), ANY_PARAMETERS)
def test_shares_go_out_exactly_where_the_rules_ask_and_no_gate_stands(evidence, p):
    """Never a negative number, never an order behind a gate."""
    decision = decide(evidence, p)
    asked_and_free = decision.action is not Action.HOLD and decision.blocked_by is None

    assert decision.shares >= 0
    assert asked_and_free == (decision.shares > 0)


@given(any_evidence(), ANY_PARAMETERS)
def test_never_short_never_leveraged(evidence, p):
    """A sale is of shares that both the book and the broker hold; a purchase is of one position, paid for."""
    decision = decide(evidence, p)

    if decision.action is Action.SELL and decision.shares:
        assert decision.shares <= evidence.position.shares
        assert decision.shares <= evidence.broker_shares
    if decision.action is Action.BUY:
        assert evidence.position is None
    if decision.action is Action.BUY and decision.shares:
        worst = decision.shares * share_cost(evidence.indicators.close, p.risk)
        assert worst <= min(evidence.funds.cash, evidence.funds.sizing_equity, p.risk.max_position_size) * (1 + 1e-12)


@given(any_evidence(), ANY_PARAMETERS)
def test_nobody_ever_reads_nan(evidence, p):
    """Whatever is missing is told in words."""
    decision = decide(evidence, p)

    assert "nan" not in " ".join((decision.reason, *decision.warnings)).lower()
    assert decision.reason


@given(INDICATORS)
def test_a_rule_is_unknown_exactly_where_it_cannot_be_judged(indicators):
    """Three words, and the third never stands for no."""
    needs = {
        EntryRule.TREND_BULLISH: (indicators.close, indicators.ma_50),
        EntryRule.VIX_STABLE: (indicators.vix,),
        EntryRule.RSI_BULLISH: (indicators.rsi,),
        EntryRule.VOLUME_CONFIRM: (indicators.volume, indicators.volume_ma_20),
    }
    expected = {rule: any(number != number for number in numbers) for rule, numbers in needs.items()}

    assert expected == {rule: holds is None for rule, holds in judge_entry(indicators, DEFAULTS.strategy).items()}
