"""The book's arithmetic: by hand with partial fills and flows, and what holds for any history of executions."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtum_eod.core.ledger import Holding, Ledger, ledger, lost_fraction, rescale
from mtum_eod.core.money import TOLERANCE_USD
from mtum_eod.core.trading import CashFlow, CashKind, Fill, Side
from mtum_eod.errors import StoreError

BUY, SELL = Side.BUY, Side.SELL


def day(text: str) -> date:
    """A session of 2024, from `MM-DD`."""
    return date.fromisoformat(f"2024-{text}")


def fill(session: date, side: Side, shares: int, price: float, commission: float | None, number: int = 1) -> Fill:
    return Fill(
        execution_id=f"{session}.{number}",
        reference=f"mtum-eod/simulated/SIM/MTUM/{session}/{side}",
        session=session,
        executed_at=datetime(session.year, session.month, session.day, 21, 0, number % 60, tzinfo=UTC),
        side=side,
        shares=shares,
        price_usd=price,
        commission_usd=commission,
    )


def flow(kind: CashKind, amount: float, text: str) -> CashFlow:
    return CashFlow(kind=kind, amount_usd=amount, session=day(text))


def same_usd(left: float, right: float) -> bool:
    """Whether two amounts are the same to the cent."""
    return abs(left - right) < TOLERANCE_USD


def numbers(book: Ledger) -> dict[str, float]:
    """Everything about money, marked at 110.00."""
    return {
        "flows": book.flows,
        "realised": book.realised,
        "sizing_equity": book.sizing_equity,
        "cash": book.cash,
        "unrealised": book.unrealised(110.0),
        "equity": book.equity(110.0),
    }


# -- by hand ----------------------------------------------------------------------------------------------------------


def test_a_new_book_is_its_capital():
    expected = {"flows": 0, "realised": 0, "sizing_equity": 5000, "cash": 5000, "unrealised": 0, "equity": 5000}

    assert (expected, None) == (numbers(ledger(5000.0, [])), ledger(5000.0, []).holding)
    assert Ledger(capital=5000.0) == ledger(5000.0, [])


def test_a_purchase_takes_its_price_and_commission_from_the_cash_and_leaves_the_sizing_equity():
    """20 at 100.00 for 2.00: 5,000 - 2,002 = 2,998 in cash; at 110.00 20 x 10 - 2 = 198 up."""
    book = ledger(5000.0, [fill(day("01-03"), BUY, 20, 100.0, 2.0)])

    assert {
        "flows": 0,
        "realised": 0,
        "sizing_equity": 5000,
        "cash": 2998,
        "unrealised": 198,
        "equity": 5198,
    } == numbers(book)


def test_the_entry_price_is_the_average_execution_price_without_commission():
    """12 at 100.00 and 8 at 101.00: (1200 + 808) / 20 = 100.40; 1.20 + 0.81 of commission."""
    book = ledger(5000.0, [fill(day("01-03"), BUY, 12, 100.0, 1.2, 1), fill(day("01-03"), BUY, 8, 101.0, 0.81, 2)])

    assert Holding(
        shares=20, entry_price=100.4, entry_session=day("01-03"), entry_commission_usd=pytest.approx(2.01, abs=1e-12)
    ) == (book.holding)


def test_a_later_purchase_keeps_the_session_of_the_first():
    """The position began when its first share was bought."""
    book = ledger(5000.0, [fill(day("01-03"), BUY, 10, 100.0, 1.0), fill(day("01-04"), BUY, 10, 110.0, 1.1)])

    assert (day("01-03"), 20, 105.0) == (book.holding.entry_session, book.holding.shares, book.holding.entry_price)


def test_a_partial_exit_realises_its_share_of_the_entrys_cost():
    """20 at 100.00 for 2.00; 12 sold at 110.00 for 1.32: 12 x 10 - 1.20 - 1.32 = 117.48; 8 are left with 0.80."""
    book = ledger(5000.0, [fill(day("01-03"), BUY, 20, 100.0, 2.0), fill(day("01-08"), SELL, 12, 110.0, 1.32)])

    assert (
        pytest.approx(117.48, abs=1e-9),
        pytest.approx(5000 - 2002 + 1320 - 1.32, abs=1e-9),
        Holding(
            shares=8,
            entry_price=100.0,
            entry_session=day("01-03"),
            entry_commission_usd=pytest.approx(0.8, abs=1e-12),
        ),
    ) == (book.realised, book.cash, book.holding)


def test_an_exit_in_two_prints_closes_the_round_trip():
    """12 at 110.00 (1.32) and 8 at 111.00 (0.888) of 20 at 100.00 (2.00): 120 + 88 - 4.208 = 203.792."""
    book = ledger(
        5000.0,
        [
            fill(day("01-03"), BUY, 20, 100.0, 2.0),
            fill(day("01-08"), SELL, 12, 110.0, 1.32, 1),
            fill(day("01-08"), SELL, 8, 111.0, 0.888, 2),
        ],
    )

    assert (pytest.approx(203.792, abs=1e-9), pytest.approx(5203.792, abs=1e-9), None) == (
        book.realised,
        book.cash,
        book.holding,
    )


def test_the_next_position_begins_afresh():
    """Nothing of the closed round trip's price, session or cost is left in the new one."""
    book = ledger(
        5000.0,
        [
            fill(day("01-03"), BUY, 20, 100.0, 2.0),
            fill(day("01-08"), SELL, 20, 110.0, 2.2),
            fill(day("01-09"), BUY, 10, 108.0, 1.08),
        ],
    )

    assert (
        Holding(shares=10, entry_price=108.0, entry_session=day("01-09"), entry_commission_usd=1.08)
    ) == book.holding
    assert 195.8 == pytest.approx(book.realised, abs=1e-9)  # 20 x 10 - 4.20


def test_a_commission_not_reported_yet_counts_as_nothing_until_it_is():
    """Collected again with its commission, the same execution costs 1.50 more."""
    silent = fill(day("01-03"), BUY, 20, 100.0, None)
    before, after = (ledger(5000.0, [one]) for one in (silent, replace(silent, commission_usd=1.5)))

    assert (3000.0, 2998.5, 1.5) == (before.cash, after.cash, before.equity(100.0) - after.equity(100.0))


def test_a_late_commission_of_an_exit_lowers_the_realised_profit():
    """20 x 10 without, and 2.20 less with it."""
    entry, exit_ = fill(day("01-03"), BUY, 20, 100.0, 0.0), fill(day("01-08"), SELL, 20, 110.0, None)
    before, after = (ledger(5000.0, [entry, one]) for one in (exit_, replace(exit_, commission_usd=2.2)))

    assert (200.0, 197.8) == (before.realised, pytest.approx(after.realised, abs=1e-9))


def test_cash_flows_count_by_their_kind():
    """1,000 in, 200 out, 12.50 of dividend, 4.50 of fees: 808.00, none of it profit."""
    flows = [
        flow(CashKind.DEPOSIT, 1000.0, "01-04"),
        flow(CashKind.WITHDRAWAL, 200.0, "01-05"),
        flow(CashKind.DIVIDEND, 12.5, "01-08"),
        flow(CashKind.FEE, 4.5, "01-09"),
    ]
    book = ledger(5000.0, [], flows)

    assert (808.0, 0.0, 5808.0, 5808.0) == (book.flows, book.realised, book.sizing_equity, book.cash)


STORY = [
    fill(day("01-03"), BUY, 20, 100.0, 2.0),
    fill(day("01-08"), SELL, 20, 110.0, 2.2),
    fill(day("01-09"), BUY, 10, 108.0, 1.08),
]
FLOWS = [flow(CashKind.DEPOSIT, 1000.0, "01-08")]


@pytest.mark.parametrize(
    ("up_to", "sizing_equity", "cash", "shares"),
    [
        ("01-02", 5000.0, 5000.0, 0),
        ("01-03", 5000.0, 2998.0, 20),  # the session itself counts
        ("01-05", 5000.0, 2998.0, 20),
        ("01-08", 6195.8, 6195.8, 0),  # the deposit of that session too
        ("01-09", 6195.8, 5114.72, 10),  # less 1,081.08
        ("12-31", 6195.8, 5114.72, 10),
    ],
)
def test_the_book_as_it_stood_after_a_session(up_to, sizing_equity, cash, shares):
    """20 at 100.00, sold at 110.00 with 1,000 USD paid in that day, then 10 at 108.00."""
    book = ledger(5000.0, STORY, FLOWS, up_to=day(up_to))

    assert (pytest.approx(sizing_equity, abs=1e-9), pytest.approx(cash, abs=1e-9), shares) == (
        book.sizing_equity,
        book.cash,
        book.holding.shares if book.holding else 0,
    )


@pytest.mark.parametrize(
    ("bought", "sold", "held"),
    [([], 1, 0), ([20], 21, 20), ([12, 8], 25, 20)],
)
def test_a_book_is_never_short(bought, sold, held):
    """An execution that sells more than is held is refused, with what to do."""
    fills = [fill(day("01-03"), BUY, shares, 100.0, 0.0, number) for number, shares in enumerate(bought)]

    with pytest.raises(StoreError, match=f"sells {sold} shares?, the book holds {held}$") as caught:
        ledger(5000.0, [*fills, fill(day("01-08"), SELL, sold, 100.0, 0.0)])

    assert (
        "look at the executions with `mtum-eod export fills`; restore a backup with `mtum-eod db restore`"
        == caught.value.hint
    )


def test_a_sale_before_its_purchase_is_refused():
    """Executions count in the order they happened, not as a sum."""
    with pytest.raises(StoreError):
        ledger(5000.0, [fill(day("01-03"), SELL, 5, 100.0, 0.0), fill(day("01-03"), BUY, 5, 100.0, 0.0)])


# -- what holds for any history ---------------------------------------------------------------------------------------

PRICES = st.integers(1_00, 500_00).map(lambda cents: cents / 100)
COMMISSIONS = st.none() | st.integers(0, 5_00).map(lambda cents: cents / 100)
CAPITAL = 5000.0


@st.composite
def histories(draw: st.DrawFn) -> list[Fill]:
    """Executions one after another that never sell more than is held; sessions go on by zero to three days."""
    session, held, fills = day("01-02"), 0, []
    for number in range(draw(st.integers(0, 12))):
        session += timedelta(days=draw(st.integers(0, 3)))
        side = draw(st.sampled_from(Side)) if held else BUY
        shares = draw(st.integers(1, held if side is SELL else 60))
        held += shares if side is BUY else -shares
        fills.append(fill(session, side, shares, draw(PRICES), draw(COMMISSIONS), number))
    return fills


CASH_FLOWS = st.lists(
    st.builds(
        CashFlow,
        kind=st.sampled_from(CashKind),
        amount_usd=st.integers(1, 5000_00).map(lambda cents: cents / 100),
        session=st.integers(0, 30).map(lambda days: day("01-02") + timedelta(days=days)),
    ),
    max_size=5,
)


def cents(amount: float | None) -> int:
    return round((amount or 0.0) * 100)


@given(histories(), CASH_FLOWS)
def test_fills_and_ledger_agree_to_the_cent(fills, flows):
    """Cash added up in whole cents, one line a movement, by a second method."""
    plus = (CashKind.DEPOSIT, CashKind.DIVIDEND)
    paid_in = sum(cents(one.amount_usd) if one.kind in plus else -cents(one.amount_usd) for one in flows)
    traded = sum((1 if one.side is SELL else -1) * one.shares * cents(one.price_usd) for one in fills)
    commissions = sum(cents(one.commission_usd) for one in fills)
    shares = sum(one.shares if one.side is BUY else -one.shares for one in fills)
    book = ledger(CAPITAL, fills, flows)

    assert same_usd((cents(CAPITAL) + paid_in + traded - commissions) / 100, book.cash)
    assert shares == (book.holding.shares if book.holding else 0)


@given(histories(), CASH_FLOWS, PRICES)
def test_cash_and_the_positions_value_make_the_equity(fills, flows, close):
    """At any close; and the sizing equity is what equity is without the open profit."""
    book = ledger(CAPITAL, fills, flows)
    value = book.holding.shares * close if book.holding else 0.0

    assert same_usd(book.cash + value, book.equity(close))
    assert same_usd(book.sizing_equity, book.equity(close) - book.unrealised(close))


@given(histories(), CASH_FLOWS, st.integers(0, 40))
def test_a_book_up_to_a_session_is_the_book_of_what_had_happened_by_then(fills, flows, days):
    """Cutting off the future changes nothing of the past."""
    last = day("01-02") + timedelta(days=days)
    then = ledger(CAPITAL, [one for one in fills if one.session <= last], [one for one in flows if one.session <= last])

    assert then == ledger(CAPITAL, fills, flows, up_to=last)


def halves(one: Fill) -> list[Fill]:
    """The same execution reported in two prints."""
    if one.shares == 1:
        return [one]
    first, half = one.shares // 2, None if one.commission_usd is None else one.commission_usd / 2
    return [replace(one, shares=shares, commission_usd=half) for shares in (first, one.shares - first)]


@given(histories())
def test_an_order_filled_in_two_prints_is_the_order_filled_at_once(fills):
    """The same money to the cent, the same shares at the same price."""
    once, twice = ledger(CAPITAL, fills), ledger(CAPITAL, [half for one in fills for half in halves(one)])

    assert same_usd(once.cash, twice.cash)
    assert same_usd(once.realised, twice.realised)
    assert (once.holding and once.holding.shares) == (twice.holding and twice.holding.shares)
    if once.holding:
        assert once.holding.entry_price == pytest.approx(twice.holding.entry_price, rel=1e-9)


@given(histories())
def test_a_round_trip_earns_what_came_in_less_what_went_out(fills):
    """When all is sold, cash is the capital plus the realised profit."""
    book = ledger(CAPITAL, fills)
    if book.holding:
        out = fill(day("12-31"), SELL, book.holding.shares, 100.0, 1.0)
        book = ledger(CAPITAL, [*fills, out])

    assert (None, True) == (book.holding, same_usd(CAPITAL + book.realised, book.cash))


# -- splits -----------------------------------------------------------------------------------------------------------

HISTORY = [
    fill(day("01-03"), BUY, 20, 100.0, 2.0),
    fill(day("01-08"), SELL, 20, 110.0, 2.0),
    fill(day("01-09"), BUY, 13, 90.0, 1.0, 1),
    fill(day("01-09"), BUY, 7, 90.0, 0.5, 2),
    fill(day("01-10"), SELL, 4, 95.0, 0.5),
]
"""A closed round trip, and an open one of 20 shares of which 4 are sold: 16 held."""


OPEN = HISTORY[2:]


@pytest.mark.parametrize(
    ("ratio", "shares"),
    [(2.0, [26, 14, 8]), (3.0, [39, 21, 12]), (1.5, [20, 10, 6]), (0.25, [3, 2, 1])],
)
def test_a_split_rescales_what_the_shares_held_came_from(ratio: float, shares: list[int]):
    """Three for two of 13 is 19.5: its half share goes to the first print, for 20 become 30 whole ones."""
    after = rescale(OPEN, ratio)
    paid = [(f.shares * f.price_usd, f.commission_usd) for f in after]

    assert (shares, [f.execution_id for f in HISTORY[2:]]) == (
        [f.shares for f in after],
        [f.execution_id for f in after],
    )
    assert [(1170.0, 1.0), (630.0, 0.5), (380.0, 0.5)] == [(round(usd, 9), cost) for usd, cost in paid]


@pytest.mark.parametrize("ratio", [2.0, 3.0, 1.5, 0.25])
def test_a_split_leaves_money_as_it_was(ratio: float):
    """Cash and realised to the cent, the position at its ratio."""
    before = ledger(5000.0, HISTORY)
    after = ledger(5000.0, [*HISTORY[:2], *rescale(OPEN, ratio)])

    assert (16 * ratio, True, True) == (
        after.holding.shares,
        same_usd(before.cash, after.cash),
        same_usd(before.realised, after.realised),
    )


@pytest.mark.parametrize(
    ("ratio", "shares", "fraction"), [(0.1, [1, 1, 1], 0.6), (1.1, [14, 7, 4], 0.6), (1 / 3, [4, 2, 1], 1 / 3)]
)
def test_a_split_leaves_whole_shares_and_all_they_cost(ratio: float, shares: list[int], fraction: float):
    """16 held are 1.6, 17.6 or 5.33: the whole ones stay, the rest is paid in cash; every execution keeps its value."""
    after = rescale(OPEN, ratio)

    assert (shares, pytest.approx(fraction)) == ([f.shares for f in after], lost_fraction(OPEN, ratio))
    assert [1170.0, 630.0, 380.0] == [pytest.approx(f.shares * f.price_usd) for f in after]


def test_a_split_that_leaves_no_share_is_refused():
    """16 held are 0.8."""
    with pytest.raises(StoreError, match=r"makes 0\.8 of 16 shares, less than a whole one"):
        rescale(OPEN, 0.05)


def test_a_flat_book_has_nothing_to_rescale():
    assert [] == rescale([], 2.0)


@given(
    parts=st.lists(st.integers(1, 50), min_size=1, max_size=6),
    ratio=st.sampled_from([2.0, 3.0, 1.5, 4 / 3, 0.5, 0.1, 1.25]),
)
def test_whatever_the_prints_a_split_keeps_their_value(parts: list[int], ratio: float):
    """Or it is refused, where less than one would be left for each. A fraction beside the whole ones is cash."""
    bought = [fill(day("01-03"), BUY, shares, 100.0, None, number) for number, shares in enumerate(parts, 1)]
    total = sum(parts) * ratio
    whole = floor(total + 1e-9)
    if whole < len(parts):
        with pytest.raises(StoreError):
            rescale(bought, ratio)
        return
    after = rescale(bought, ratio)

    assert whole == sum(f.shares for f in after)
    assert pytest.approx(total - whole) == lost_fraction(bought, ratio)
    assert [pytest.approx(shares * 100.0) for shares in parts] == [f.shares * f.price_usd for f in after]
    assert min(f.shares for f in after) >= 1
