"""Closed lots and wash sales: cases in the manner of IRS Publication 550, on paper, and what always holds."""

import csv
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtum_eod.core.ledger import ledger, rescale
from mtum_eod.core.tax import ClosedLot, Term, tax_lots, term
from mtum_eod.core.trading import Book, Fill, Mode, Side, Split
from mtum_eod.errors import StoreError
from mtum_eod.views import tax as view

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "tax.md").read_text(encoding="utf-8")
BOOK = Book(mode=Mode.LIVE, account="U1", symbol="XYZ", is_synthetic=False, capital_usd=50_000.0)


def day(text: str) -> date:
    return date.fromisoformat(text)


def fill(
    session: str, shares: int, price: float, commission: float | None = 0.0, *, number: int = 1, estimated: bool = False
) -> Fill:
    """One execution; shares below zero are sold."""
    return Fill(
        execution_id=f"{session}.{number}",
        reference=session,
        session=day(session),
        executed_at=datetime.combine(day(session), time(20, 0, number), UTC),
        side=Side.BUY if shares > 0 else Side.SELL,
        shares=abs(shares),
        price_usd=price,
        commission_usd=commission,
        is_estimated=estimated,
    )


def rows(*fills: Fill) -> list[tuple[int, str, float, float, float, str]]:
    """Shares, acquired, basis, adjustment, gain, term: what the cases below are about."""
    return [
        (r.shares, r.acquired.isoformat(), round(r.cost_basis, 6), round(r.disallowed, 6), round(r.gain, 6), r.term)
        for r in tax_lots(fills, "XYZ").closed
    ]


# -- plain lots -------------------------------------------------------------------------------------------------------


def test_commissions_lower_the_proceeds_and_raise_the_basis() -> None:
    """20 at 100 with 2.00 of commission, sold at 110 with 2.20: 2,197.80 less 2,002.00."""
    [row] = tax_lots([fill("2024-01-03", 20, 100.0, 2.0), fill("2024-01-08", -20, 110.0, 2.2)], "XYZ").closed

    assert ("20 sh. XYZ", 2197.8, 2002.0, "", 0.0) == (
        row.description,
        pytest.approx(row.proceeds),
        row.cost_basis,
        row.code,
        row.disallowed,
    )
    assert pytest.approx(195.8) == row.gain == row.net_pnl


def test_the_executions_of_one_order_are_one_lot() -> None:
    """12 at 110 and 8 at 111 close the 20 bought on one day: one row of 2,208.00."""
    fills = [fill("2024-01-03", 20, 100.0), fill("2024-01-08", -12, 110.0), fill("2024-01-08", -8, 111.0, number=2)]

    assert [(20, "2024-01-03", 2000.0, 0.0, 208.0, "short")] == rows(*fills)


def test_the_oldest_purchase_is_sold_first() -> None:
    """10 at 100, later 10 at 120; 15 sold at 130 are the first 10 and 5 of the second."""
    fills = [fill("2024-01-02", 10, 100.0), fill("2024-05-02", 10, 120.0), fill("2024-06-03", -15, 130.0)]

    assert [
        (10, "2024-01-02", 1000.0, 0.0, 300.0, "short"),
        (5, "2024-05-02", 600.0, 0.0, 50.0, "short"),
    ] == rows(*fills)


def test_selling_more_than_was_bought_is_refused() -> None:
    with pytest.raises(StoreError, match="2024-01-08 sells 5 shares more"):
        tax_lots([fill("2024-01-03", 10, 100.0), fill("2024-01-08", -15, 110.0)], "XYZ")


@pytest.mark.parametrize(
    ("bought", "sold", "expected"),
    [
        ("2023-02-06", "2024-02-06", Term.SHORT),  # exactly one year
        ("2023-02-06", "2024-02-07", Term.LONG),  # Publication 550: held more than one year from here on
        ("2020-02-29", "2021-02-28", Term.SHORT),
        ("2020-02-29", "2021-03-01", Term.LONG),
        ("2023-02-28", "2024-02-29", Term.SHORT),  # Rev. Rul. 66-7: the last day of a month counts to the month's last
        ("2023-02-28", "2024-03-01", Term.LONG),
        ("2020-02-28", "2021-02-28", Term.SHORT),
        ("2020-02-28", "2021-03-01", Term.LONG),
    ],
)
def test_more_than_one_year_is_long(bought: str, sold: str, expected: Term) -> None:
    assert expected == term(day(bought), day(sold))


# -- wash sales -------------------------------------------------------------------------------------------------------


def test_publication_550_bought_back_within_30_days() -> None:
    """100 for 1,000; sold for 750; 100 bought back for 800: the 250 are not deductible, the new basis is 1,050."""
    fills = [
        fill("2024-01-02", 100, 10.0),
        fill("2024-06-03", -100, 7.5),
        fill("2024-06-20", 100, 8.0),
        fill("2024-12-02", -100, 11.0),
    ]

    assert [
        (100, "2024-01-02", 1000.0, 250.0, 0.0, "short"),
        (100, "2024-06-20", 1050.0, 0.0, 50.0, "short"),
    ] == rows(*fills)


def test_publication_550_fewer_bought_back_than_sold() -> None:
    """100 sold at a loss of 700, 75 of them replaced: 525 of the loss is disallowed, 175 counts."""
    fills = [fill("2024-01-02", 100, 50.0), fill("2024-03-01", -100, 43.0), fill("2024-03-04", 75, 45.0)]

    assert [(100, "2024-01-02", 5000.0, 525.0, -175.0, "short")] == rows(*fills)
    assert 525.0 == tax_lots(fills, "XYZ").deferred


def test_publication_550_more_bought_back_than_sold() -> None:
    """10 sold at a loss of 100, 25 bought back: 10 of these are split off with a basis of their own."""
    fills = [
        fill("2024-01-02", 10, 50.0),
        fill("2024-03-01", -10, 40.0),
        fill("2024-03-04", 25, 42.0),
        fill("2024-09-03", -25, 60.0),
    ]

    assert [
        (10, "2024-01-02", 500.0, 100.0, 0.0, "short"),
        (10, "2024-03-04", 520.0, 0.0, 80.0, "short"),
        (15, "2024-03-04", 630.0, 0.0, 270.0, "short"),
    ] == rows(*fills)


@pytest.mark.parametrize(
    ("bought", "disallowed"),
    [("2024-03-31", 100.0), ("2024-04-01", 0.0)],
    ids=["the 30th day after", "the 31st day after"],
)
def test_the_window_ends_on_the_30th_day_after(bought: str, disallowed: float) -> None:
    fills = [fill("2024-01-02", 10, 50.0), fill("2024-03-01", -10, 40.0), fill(bought, 10, 42.0)]

    assert disallowed == tax_lots(fills, "XYZ").closed[0].disallowed


@pytest.mark.parametrize(
    ("bought", "disallowed"),
    [("2024-01-31", 100.0), ("2024-01-30", 0.0)],
    ids=["the 30th day before", "the 31st day before"],
)
def test_shares_bought_before_the_loss_replace_those_sold(bought: str, disallowed: float) -> None:
    """The second 10 were bought first and kept: they replace the first 10."""
    fills = [fill("2023-01-03", 10, 50.0), fill(bought, 10, 42.0), fill("2024-03-01", -10, 40.0)]

    assert disallowed == tax_lots(fills, "XYZ").closed[0].disallowed


def test_shares_sold_together_do_not_replace_each_other() -> None:
    fills = [fill("2024-02-01", 10, 50.0), fill("2024-02-05", 10, 48.0), fill("2024-02-09", -20, 40.0)]

    assert [0.0, 0.0] == [row.disallowed for row in tax_lots(fills, "XYZ").closed]


def test_the_rest_of_one_purchase_does_not_replace_its_sold_part() -> None:
    """An exit filled over two sessions: 12 of 20 today, 8 tomorrow. Nothing was bought again."""
    fills = [fill("2024-02-01", 20, 50.0), fill("2024-02-08", -12, 45.0), fill("2024-02-09", -8, 44.0)]

    assert [-60.0, -48.0] == [row.gain for row in tax_lots(fills, "XYZ").closed]


def test_shares_sold_before_the_loss_do_not_replace_it() -> None:
    """Bought and sold at a gain, bought again and sold at a loss: the first are gone and can take nothing over."""
    fills = [
        fill("2024-02-01", 10, 50.0),
        fill("2024-02-05", -10, 55.0),
        fill("2024-02-06", 10, 55.0),
        fill("2024-02-12", -10, 50.0),
    ]

    assert [50.0, -50.0] == [row.gain for row in tax_lots(fills, "XYZ").closed]


def test_a_share_replaces_one_share_only() -> None:
    """Two losses of 10 shares each, then 10 bought back: the earlier loss is washed, the later one counts."""
    fills = [
        fill("2024-01-02", 20, 50.0),
        fill("2024-03-01", -10, 40.0),
        fill("2024-03-05", -10, 39.0),
        fill("2024-03-11", 10, 41.0),
    ]

    assert [100.0, 0.0] == [row.disallowed for row in tax_lots(fills, "XYZ").closed]


def test_a_loss_wanders_through_a_chain_of_wash_sales() -> None:
    """Losses of 100, 20 and 30 in a row, then 31 days of rest: 150 in all, and all of it counts in the last sale."""
    fills = [
        fill("2024-01-02", 10, 50.0),
        fill("2024-01-10", -10, 40.0),
        fill("2024-01-16", 10, 41.0),
        fill("2024-01-23", -10, 39.0),
        fill("2024-02-01", 10, 40.0),
        fill("2024-02-08", -10, 37.0),
        fill("2024-04-01", 10, 36.0),
    ]

    assert [
        (10, "2024-01-02", 500.0, 100.0, 0.0, "short"),
        (10, "2024-01-16", 510.0, 120.0, 0.0, "short"),
        (10, "2024-02-01", 520.0, 0.0, -150.0, "short"),
    ] == rows(*fills)


def test_the_replacement_takes_over_the_time_held() -> None:
    """364 days of the first lot and 8 of the second are more than a year."""
    fills = [
        fill("2023-03-01", 10, 50.0),
        fill("2024-02-28", -10, 40.0),  # 364 days
        fill("2024-03-01", 10, 41.0),
        fill("2024-03-09", -10, 60.0),
    ]

    assert ["short", "long"] == [row.term for row in tax_lots(fills, "XYZ").closed]


def test_a_loss_of_december_is_washed_by_a_purchase_of_january() -> None:
    """The purchase is of another tax year; the row of the old one knows it."""
    fills = [fill("2023-11-01", 10, 50.0), fill("2023-12-20", -10, 40.0), fill("2024-01-08", 10, 41.0)]

    assert [100.0] == [row.disallowed for row in tax_lots(fills, "XYZ").closed]


@pytest.mark.parametrize(
    "purchase",
    [fill("2024-01-02", 10, 50.0, estimated=True), fill("2024-01-02", 10, 50.0, None)],
    ids=["a price was estimated", "a commission is not reported"],
)
def test_what_is_not_the_brokers_last_word_is_flagged(purchase: Fill) -> None:
    assert [True] == [r.is_estimated for r in tax_lots([purchase, fill("2024-05-01", -10, 60.0)], "XYZ").closed]


# -- what always holds ------------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.integers(1, 45),  # days since the step before
        st.integers(-30, 30).filter(bool),
        st.integers(1000, 20_000).map(lambda cents: cents / 100),
        st.integers(0, 500).map(lambda cents: cents / 100),
    ),
    max_size=25,
)


def history(steps: Sequence[tuple[int, int, float, float]]) -> list[Fill]:
    """Purchases and sales that never sell more than is held."""
    session, held, fills = date(2023, 1, 2), 0, []
    for days, shares, price, commission in steps:
        session += timedelta(days=days)
        traded = max(shares, -held)
        if traded:
            fills.append(fill(session.isoformat(), traded, price, commission))
            held += traded
    return fills


@given(steps=STEPS)
def test_gains_and_what_waits_in_the_basis_are_the_realised_profit(steps: list[tuple[int, int, float, float]]) -> None:
    """Wash sales move losses in time and lose nothing. The other side is added up in cash."""
    fills = history(steps)
    lots = tax_lots(fills, "XYZ")
    received = sum(f.shares * f.price_usd - (f.commission_usd or 0) for f in fills if f.side is Side.SELL)

    cost = sum(row.purchase_cost for row in lots.closed)
    assert pytest.approx(received - cost, abs=1e-6) == sum(row.gain for row in lots.closed) - lots.deferred
    assert pytest.approx(received - cost, abs=1e-6) == sum(row.net_pnl for row in lots.closed)


@given(steps=STEPS)
def test_shares_are_conserved(steps: list[tuple[int, int, float, float]]) -> None:
    """Each sale's rows hold its shares, and no purchase gives more than it has."""
    fills = history(steps)
    closed = tax_lots(fills, "XYZ").closed

    sold = {f.session: f.shares for f in fills if f.side is Side.SELL}
    assert sold == {session: sum(r.shares for r in closed if r.sold == session) for session in sold}
    assert all(
        sum(row.shares for row in closed if row.acquired == f.session) <= f.shares for f in fills if f.side is Side.BUY
    )


@given(steps=STEPS)
def test_only_losses_are_disallowed_and_never_more_than_the_loss(steps: list[tuple[int, int, float, float]]) -> None:
    def is_sound(row: ClosedLot) -> bool:
        loss = max(0.0, row.cost_basis - row.proceeds)
        return 0 <= row.disallowed <= loss + 1e-9

    assert all(map(is_sound, tax_lots(history(steps), "XYZ").closed))


@given(data=st.data(), steps=STEPS)
def test_the_order_in_which_executions_arrive_changes_nothing(
    data: st.DataObject, steps: list[tuple[int, int, float, float]]
) -> None:
    fills = history(steps)
    shuffled = data.draw(st.permutations(fills))

    assert tax_lots(fills, "XYZ") == tax_lots(shuffled, "XYZ")


@given(steps=STEPS)
def test_a_book_that_only_holds_one_purchase_at_a_time_agrees_with_the_ledger(
    steps: list[tuple[int, int, float, float]],
) -> None:
    """The runner buys only when flat; then average cost and first in, first out are the same."""
    fills: list[Fill] = []
    for one in history([(days, abs(shares), price, fee) for days, shares, price, fee in steps]):
        shares = -fills[-1].shares if len(fills) % 2 else one.shares
        fills.append(fill(one.session.isoformat(), shares, one.price_usd, one.commission_usd))

    realised = ledger(0.0, fills).realised
    assert pytest.approx(realised, abs=1e-6) == sum(row.net_pnl for row in tax_lots(fills, "XYZ").closed)


# -- the page and the export ------------------------------------------------------------------------------------------


def test_the_worked_example_of_the_page_is_what_the_program_writes() -> None:
    given_, written = re.findall(r"^```csv\n(.*?)```", PAGE, re.MULTILINE | re.DOTALL)
    fills = [
        fill(
            row["session"],
            int(row["quantity"]) * (1 if row["action"] == "BUY" else -1),
            float(row["price"]),
            float(row["commission"]),
        )
        for row in csv.DictReader(StringIO(given_))
    ]

    assert written == view.as_csv(tax_lots(fills, "MTUM").closed)


def test_the_page_names_every_column() -> None:
    table = PAGE.split("## Columns")[1].split("\n## ")[0]

    assert [] == [column for column in view.COLUMNS if not re.search(rf"\b{column}\b", table)]


@given(steps=STEPS)
def test_each_line_adds_up_in_cents(steps: list[tuple[int, int, float, float]]) -> None:
    def cents(text: str) -> int:
        return round(float(text) * 100)

    for row in csv.DictReader(StringIO(view.as_csv(tax_lots(history(steps), "XYZ").closed))):
        added = cents(row["proceeds"]) - cents(row["cost_basis"]) + cents(row["adjustment"])
        assert cents(row["gain_or_loss"]) == added


def test_losses_that_can_still_be_washed_are_told() -> None:
    lots = tax_lots([fill("2024-01-02", 10, 50.0), fill("2024-03-01", -10, 40.0)], "XYZ")

    told = "buying again up to 2024-03-31 can still make a wash sale of the losses of the last 30 days"
    assert [view.BANNER, told] == view.notes(lots, lots.closed, BOOK, day("2024-03-31"))
    assert [view.BANNER] == view.notes(lots, lots.closed, BOOK, day("2024-04-01"))


# -- splits -----------------------------------------------------------------------------------------------------------


def test_a_split_changes_the_shares_of_what_is_held_and_neither_cost_nor_gain() -> None:
    """20 at 100 with 2.00 of commission; two for one; 40 sold at 55.00 with 2.20: 2,197.80 less 2,002.00, long."""
    bought = rescale([fill("2024-01-03", 20, 100.0, 2.0)], 2.0)

    assert [(40, "2024-01-03", 2002.0, 0.0, 195.8, "long")] == rows(*bought, fill("2025-01-08", -40, 55.0, 2.2))


@pytest.mark.parametrize(("session", "told"), [("2024-02-01", 1), ("2024-01-05", 0)])
def test_a_split_after_a_loss_is_told(session: str, told: int) -> None:
    """Sold at a loss on 2024-01-08: shares before the split are not those after it, and a wash sale counts shares."""
    lots = tax_lots([fill("2024-01-03", 20, 100.0), fill("2024-01-08", -20, 90.0)], "XYZ")
    notes = view.notes(lots, lots.closed, BOOK, day("2024-06-01"), [Split(session=day(session), ratio=2.0)])

    assert told == sum(note.startswith("split of 2 for 1 on 2024-02-01") for note in notes)
