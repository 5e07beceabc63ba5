"""The store as ports.Store describes it: the real one on SQLite files, and the simulation's own in memory."""

import sqlite3
from contextlib import closing, nullcontext, suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from book_by_hand import BOOK, at, day, fill, intent, mark, recording, reference, signal, write_book
from simulation.fake_store import FakeStore

from mtum_eod.adapters.store import SimulatedOrder, SimulatedOrders, open_reader, open_store
from mtum_eod.core.events import Event
from mtum_eod.core.ledger import SinceFlat, ledger
from mtum_eod.core.market import BarStatus, DailyBars
from mtum_eod.core.trading import (
    Act,
    CashFlow,
    CashKind,
    Halt,
    Mode,
    OrderKind,
    OrderStatus,
    OrderType,
    OwnerAct,
    SessionStatus,
    Side,
    Split,
    Step,
)
from mtum_eod.errors import OrderStateUnknown, SettingsError, StoreError
from mtum_eod.ports import Notice, SessionRow, Store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "book.db"


@pytest.fixture(params=["file", "memory"])
def store(path: Path, request: pytest.FixtureRequest):
    opened = open_store(path) if request.param == "file" else FakeStore()
    yield opened
    opened.close()


in_a_file = pytest.mark.parametrize("store", ["file"], indirect=True)
"""For what only a database can show."""


@pytest.fixture
def run_id(store: Store) -> int:
    return store.start_run(Step.DECIDE, day("01-03"), at("01-03"))


def bars(first: str, closes: list[float], last_status: BarStatus = BarStatus.FINAL, symbol: str = "MTUM") -> DailyBars:
    volume = np.nan if symbol == "VIX" else 1000.0
    return DailyBars(
        symbol=symbol,
        days=np.datetime64(f"2024-{first}") + np.arange(len(closes)),
        values=np.array([[close] * 4 + [volume] for close in closes]).reshape(-1, 5),
        as_of=at(first),
        last_status=last_status,
        source="csv",
    )


def sql(path: Path, query: str) -> list[tuple[Any, ...]]:
    """What a person with sqlite3 and nothing else sees."""
    db = sqlite3.connect(path)
    try:
        return db.execute(query).fetchall()
    finally:
        db.close()


def view(store: Store, name: str, *columns: str) -> list[tuple[Any, ...]]:
    """The rows of a view, floats rounded to six places; of some columns where these are named."""
    records = store.view(name)
    wanted = [records.columns.index(column) for column in columns or records.columns]
    rows = [[row[place] for place in wanted] for row in records.rows]
    return [tuple(round(value, 6) if isinstance(value, float) else value for value in row) for row in rows]


# -- one book ---------------------------------------------------------------------------------------------------------


def test_a_database_is_bound_to_the_book_of_its_first_decision(store: Store, run_id: int):
    unbound = store.book()
    store.record(recording(run_id, "01-03"))

    assert (None, BOOK) == (unbound, store.book())


@pytest.mark.parametrize(
    "change", [{"mode": Mode.PAPER}, {"account": "DU1"}, {"symbol": "SPY"}, {"is_synthetic": True}], ids=str
)
def test_another_book_is_refused_and_nothing_is_written(store: Store, run_id: int, change: dict[str, Any]):
    store.record(recording(run_id, "01-03"))
    other = SimpleNamespace(**{name: getattr(BOOK, name) for name in BOOK.__slots__} | change)
    other.name = type(BOOK)(**vars(other)).name

    with pytest.raises(SettingsError, match="simulated / SIM / MTUM on real data") as refused:
        store.record(recording(run_id, "01-04", book=other))

    assert (2, True, 1) == (refused.value.exit_code, other.name in refused.value.message, len(store.ledger()))
    assert f"MTUM_EOD_DATABASE__URL=sqlite:///mtum-eod-{other.mode}.db" in refused.value.hint


def test_an_account_that_is_not_known_yet_is_bound_by_the_first_decision_on_it(store: Store, run_id: int):
    """Bars and halts come before the first connection; from then on another account's decision is refused."""
    paper = replace(BOOK, mode=Mode.PAPER, account="")
    store.bind(paper, at("01-02"))
    bound = store.book()
    store.bind(replace(BOOK, mode=Mode.PAPER, account="DU1"), at("01-03"))
    store.bind(paper, at("01-04"))
    with pytest.raises(SettingsError, match="paper / DU1 / MTUM on real data"):
        store.record(recording(run_id, "01-04", book=replace(BOOK, mode=Mode.PAPER, account="DU2")))

    assert (paper, replace(paper, account="DU1")) == (bound, store.book())


@pytest.mark.parametrize("change", [{"mode": Mode.LIVE}, {"symbol": "SPY"}, {"is_synthetic": True}], ids=str)
def test_what_is_bound_without_an_account_is_another_books_all_the_same(store: Store, change: dict[str, Any]):
    store.bind(replace(BOOK, mode=Mode.PAPER, account=""), at("01-02"))

    with pytest.raises(SettingsError, match="an account still to be connected"):
        store.bind(replace(BOOK, **{"mode": Mode.PAPER, "account": "DU1"} | change), at("01-03"))


def test_capital_can_change_until_the_book_has_a_trade(store: Store, run_id: int):
    def with_capital(usd: float) -> Any:
        values = {name: getattr(BOOK, name) for name in BOOK.__slots__}
        return type(BOOK)(**values | {"capital_usd": usd})

    store.record(recording(run_id, "01-03"))
    store.record(recording(run_id, "01-04", book=with_capital(6000.0)))
    store.add_fills([fill("01-04", Side.BUY, 1, 100.0, 0.1)])
    store.record(recording(run_id, "01-05", book=with_capital(9000.0)))

    assert with_capital(6000.0) == store.book()


# -- one transaction --------------------------------------------------------------------------------------------------


def test_a_decision_reads_back_as_it_was_recorded(store: Store, run_id: int):
    order = intent("01-03", Side.BUY, 20)
    document = signal("01-03", "BUY", shares=20)
    store.record(recording(run_id, "01-03", signal=document, intent=order, bars=[bars("01-01", [1.0, 2.0, 3.0])]))

    recorded, kept = store.signal(day("01-03")), store.order(day("01-03"))
    assert recorded is not None
    assert kept is not None
    assert (document, {"strategy": {"atr_multiplier": 4.0}}, {"seen": "01-03"}, 3) == (
        recorded.document,
        recorded.settings,
        recorded.inputs,
        recorded.bars_revision,
    )
    assert (order, OrderStatus.INTENT, at("01-03")) == (kept.intent, kept.status, kept.intended_at)


@pytest.mark.parametrize("side", Side)
def test_a_second_order_in_a_session_is_impossible(store: Store, run_id: int, side: Side):
    """Whatever its kind or side: the second recording leaves nothing, its bars and signal included."""
    store.record(recording(run_id, "01-03", intent=intent("01-03", Side.BUY, 20)))

    order = intent("01-03", side, 5, reference=f"another/{side}")
    second = recording(run_id, "01-03", intent=order, inputs={"second": 1}, bars=[bars("01-03", [1.0])])
    with pytest.raises(OrderStateUnknown, match="a second order for session 2024-01-03") as refused:
        store.record(second)

    recorded = store.signal(day("01-03"))
    assert recorded is not None
    assert (5, 20, {"seen": "01-03"}, 0) == (
        refused.value.exit_code,
        store.open_orders()[0].intent.shares,
        recorded.inputs,
        len(store.bars("MTUM", day("01-01"), day("01-31")).days),
    )


def test_several_writes_in_one_transaction_become_durable_together_or_not_at_all(store: Store, run_id: int):
    def write_and_fail() -> None:
        with store.transaction(), store.transaction():
            store.record(recording(run_id, "01-03"))
            store.add_fills([fill("01-03", Side.BUY, 20, 100.0, 2.0)])
            assert 1 == len(store.fills())  # the transaction sees itself
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_and_fail()

    assert ([], [], None) == (store.fills(), store.ledger(), store.book())


def test_a_refused_write_inside_a_transaction_leaves_its_neighbours_alone(store: Store, run_id: int):
    store.record(recording(run_id, "01-03", intent=intent("01-03", Side.BUY, 20)))
    with store.transaction():
        store.add_fills([fill("01-03", Side.BUY, 20, 100.0, 2.0)])
        with pytest.raises(OrderStateUnknown):
            store.record(recording(run_id, "01-03", intent=intent("01-03", Side.SELL, 20), bars=[bars("01-03", [1.0])]))

    assert (1, 0) == (len(store.fills()), len(store.bars("MTUM", day("01-01"), day("01-31")).days))


@in_a_file
def test_settings_are_kept_once_for_all_decisions_made_with_them(store: Store, run_id: int, path: Path):
    for text in ("01-03", "01-04"):
        store.record(recording(run_id, text))
    store.record(recording(run_id, "01-05", settings={"strategy": {"atr_multiplier": 3.0}}))

    assert [(1, 2), (2, 1)] == sql(path, "SELECT settings_id, count(*) FROM signal GROUP BY settings_id ORDER BY 1")


def test_a_document_with_a_nan_is_refused_before_it_can_spoil_every_query(store: Store, run_id: int):
    with pytest.raises(StoreError):
        store.record(recording(run_id, "01-03", signal=signal("01-03", rsi=float("nan"))))

    assert [] == store.ledger()


# -- the ledger -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "then", "stands"),
    [
        (SessionStatus.SKIPPED, SessionStatus.DECIDED, SessionStatus.DECIDED),
        (SessionStatus.SKIPPED, SessionStatus.MISSED, SessionStatus.SKIPPED),
        (SessionStatus.DECIDED, SessionStatus.SKIPPED, SessionStatus.DECIDED),
        (SessionStatus.DECIDED, SessionStatus.MISSED, SessionStatus.DECIDED),
        (SessionStatus.MISSED, SessionStatus.SKIPPED, SessionStatus.MISSED),
    ],
)
def test_decided_never_goes_back(
    store: Store, run_id: int, first: SessionStatus, then: SessionStatus, stands: SessionStatus
):
    for status in (first, then):
        row = SessionRow(session=day("01-03"), status=status, why=f"was {status}")
        store.record(recording(run_id, "01-03", row=row))

    assert [SessionRow(session=day("01-03"), status=stands, why=f"was {stands}")] == store.ledger()


def test_a_missed_session_is_not_decided_afterwards(store: Store, run_id: int):
    store.add_rows([SessionRow(session=day("01-03"), status=SessionStatus.MISSED, why="no run")], at("01-04"))

    with pytest.raises(SettingsError, match="2024-01-03 stands in the ledger as missed"):
        store.record(recording(run_id, "01-03", intent=intent("01-03", Side.BUY, 1)))

    assert (None, None) == (store.order(day("01-03")), store.signal(day("01-03")))


def test_rows_are_added_only_where_the_ledger_has_none(store: Store, run_id: int):
    store.record(recording(run_id, "01-03"))
    missed = [SessionRow(session=day(text), status=SessionStatus.MISSED, why="no run") for text in ("01-03", "01-04")]
    store.add_rows(missed, at("01-05"))
    store.add_rows([], at("01-05"))

    decided = SessionRow(session=day("01-03"), status=SessionStatus.DECIDED)
    assert ([decided, missed[1]], missed[1]) == (store.ledger(), store.last_row())
    assert ([decided], [missed[1]]) == (store.ledger(last=day("01-03")), store.ledger(first=day("01-04")))


def test_a_session_decided_again_answers_with_its_latest_word(store: Store, run_id: int):
    """A skip records what it saw; the retry decides."""
    skipped = SessionRow(session=day("01-03"), status=SessionStatus.SKIPPED)
    store.record(recording(run_id, "01-03", row=skipped))
    store.record(recording(run_id, "01-03", signal=signal("01-03", "BUY")))

    recorded = store.signal(day("01-03"))
    assert recorded is not None
    assert ("BUY", [("BUY",)]) == (recorded.document["action"], view(store, "signals", "action"))


# -- bars -------------------------------------------------------------------------------------------------------------


def test_bars_come_back_as_they_were_written(store: Store):
    written = store.add_bars([bars("01-03", [100.0, 101.5], BarStatus.PARTIAL), bars("01-03", [15.0], symbol="VIX")])

    stored = store.bars("MTUM", day("01-01"), day("01-31"))
    assert (3, [day("01-03"), day("01-04")]) == (written, stored.days.tolist())
    assert [[100.0, 100.0, 100.0, 100.0, 1000.0], [101.5, 101.5, 101.5, 101.5, 1000.0]] == stored.values.tolist()
    assert ["final", "partial"] == stored.statuses.tolist()
    assert np.isnan(store.bars("VIX", day("01-03"), day("01-03")).volume[0])


@pytest.mark.parametrize(
    ("stored", "read", "rows", "status"),
    [
        ((100.0, BarStatus.FINAL), (100.0, BarStatus.FINAL), 0, "final"),
        ((100.0, BarStatus.FINAL), (100.0 * (1 + 1e-12), BarStatus.FINAL), 0, "final"),
        ((100.0, BarStatus.FINAL), (100.01, BarStatus.FINAL), 1, "final"),
        ((100.0, BarStatus.FINAL), (100.0, BarStatus.PARTIAL), 0, "final"),
        ((100.0, BarStatus.FINAL), (99.0, BarStatus.PARTIAL), 1, "partial"),
        ((100.0, BarStatus.PARTIAL), (100.0, BarStatus.FINAL), 1, "final"),
        ((100.0, BarStatus.BUILT), (100.0, BarStatus.PROVISIONAL), 1, "provisional"),
        ((100.0, BarStatus.PROVISIONAL), (100.0, BarStatus.PROVISIONAL), 0, "provisional"),
    ],
)
def test_only_a_bar_that_says_something_new_is_written(store: Store, stored: Any, read: Any, rows: int, status: str):
    store.add_bars([bars("01-03", [stored[0]], stored[1])])
    written = store.add_bars([bars("01-03", [read[0]], read[1])])

    assert (rows, status) == (written, store.bars("MTUM", day("01-03"), day("01-03")).statuses[0])


def test_bars_of_a_recorded_decision_stay_what_they_were(store: Store, run_id: int):
    """The partial close was 99, the final one 101; the replay sees 99."""
    partial = bars("01-02", [98.0, 99.0], BarStatus.PARTIAL)
    store.record(recording(run_id, "01-03", bars=[partial]))
    store.add_bars([bars("01-02", [98.0, 101.0, 102.0])])

    recorded = store.signal(day("01-03"))
    assert recorded is not None
    then = store.bars("MTUM", day("01-01"), day("01-31"), recorded.bars_revision)
    now = store.bars("MTUM", day("01-01"), day("01-31"))
    assert ([98.0, 99.0], [98.0, 101.0, 102.0]) == (then.close.tolist(), now.close.tolist())


def test_a_bar_tells_up_to_when_it_was_known(store: Store):
    """Its newest revision does; what was read again and said nothing new is as old as before."""
    store.add_bars([bars("01-03", [100.0], BarStatus.PARTIAL), bars("01-02", [15.0], symbol="VIX")])
    first = store.bar_as_of("MTUM", day("01-03"))
    later = replace(bars("01-03", [100.0], BarStatus.PARTIAL), as_of=at("01-04"))
    store.add_bars([later])
    same = store.bar_as_of("MTUM", day("01-03"))
    store.add_bars([replace(later, values=later.values + 1)])

    assert (at("01-03"), at("01-03"), at("01-04")) == (first, same, store.bar_as_of("MTUM", day("01-03")))
    assert (at("01-02"), None) == (store.bar_as_of("VIX", day("01-02")), store.bar_as_of("VIX", day("01-03")))


@pytest.mark.parametrize("is_part", [False, True], ids=["all is taken back", "a part of it"])
def test_bars_that_were_taken_back_are_read_no_more(store: Store, is_part: bool):
    """They were read while they stood, and others came in their place, as many as they were."""
    store.add_bars([bars("01-03", [100.0, 101.0])])
    with store.transaction() if is_part else nullcontext(), suppress(ZeroDivisionError), store.transaction():
        store.add_bars([bars("01-03", [110.0, 111.0])])
        store.bars("MTUM", day("01-01"), day("01-31"))
        raise ZeroDivisionError
    store.add_bars([bars("01-05", [105.0, 106.0])])

    stored = store.bars("MTUM", day("01-01"), day("01-31"))
    assert [100.0, 101.0, 105.0, 106.0] == stored.close.tolist()


@in_a_file
def test_bars_another_process_writes_or_a_person_mends_are_read_next(store: Store, path: Path):
    store.add_bars([bars("01-03", [100.0, 101.0])])
    before = store.bars("MTUM", day("01-01"), day("01-31"))
    with closing(open_store(path)) as other:
        other.add_bars([bars("01-04", [102.0, 103.0])])
    added = store.bars("MTUM", day("01-01"), day("01-31"))
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE bar SET close = 99 WHERE session = '2024-01-03'")
    mended = store.bars("MTUM", day("01-01"), day("01-31"))

    closes = [stored.close.tolist() for stored in (before, added, mended)]
    assert [[100.0, 101.0], [100.0, 102.0, 103.0], [99.0, 102.0, 103.0]] == closes


def test_bars_are_read_from_an_earlier_session_than_before(store: Store):
    store.add_bars([bars("01-02", [100.0, 101.0, 102.0])])
    some = store.bars("MTUM", day("01-03"), day("01-31"))
    store.add_bars([bars("01-02", [90.0, 91.0])])
    later = store.bars("MTUM", day("01-03"), day("01-03"))
    every = store.bars("MTUM", day("01-01"), day("01-31"))

    closes = [stored.close.tolist() for stored in (some, later, every)]
    assert [[101.0, 102.0], [91.0], [90.0, 91.0, 102.0]] == closes


@in_a_file
def test_a_window_of_bars_is_found_by_index_however_long_the_history(store: Store, path: Path):
    store.add_bars([bars("01-03", [100.0, 101.5])])

    plan = sql(
        path,
        "EXPLAIN QUERY PLAN SELECT close FROM bar WHERE revision IN (SELECT max(revision) FROM bar "
        "WHERE symbol = 'MTUM' AND session BETWEEN '2024-01-01' AND '2024-01-31' GROUP BY session) ORDER BY session",
    )
    steps = " | ".join(row[-1] for row in plan)
    assert "USING COVERING INDEX bar_by_session (symbol=? AND session>? AND session<?)" in steps
    assert "SCAN" not in steps


def test_no_bars_is_an_empty_table_with_its_columns(store: Store):
    stored = store.bars("MTUM", day("01-01"), day("01-31"))

    assert (True, (0, 5), "datetime64[D]", 0) == (
        stored.is_empty,
        stored.values.shape,
        stored.days.dtype,
        store.add_bars([bars("01-01", [])]),
    )


# -- orders and executions --------------------------------------------------------------------------------------------


def test_an_order_moves_by_the_brokers_word(store: Store, run_id: int):
    key = reference("01-03", Side.BUY)
    store.record(recording(run_id, "01-03", intent=intent("01-03", Side.BUY, 20)))
    store.update_order(key, OrderStatus.WORKING, at("01-03"), order_id=9, perm_id=77, filled_shares=8, words="accepted")
    working = store.open_orders()
    store.update_order(key, OrderStatus.FILLED, at("01-03"))

    order = store.order(day("01-03"))
    assert order is not None
    assert ([(9, 77, 8, "accepted")], []) == (
        [(found.intent.order_id, found.perm_id, found.filled_shares, found.words) for found in working],
        store.open_orders(),
    )
    assert (OrderStatus.FILLED, 9, 77, 8, "") == (
        *(order.status, order.intent.order_id, order.perm_id),
        *(order.filled_shares, order.words),
    )


def test_word_of_an_order_that_was_never_recorded_needs_a_person(store: Store):
    with pytest.raises(OrderStateUnknown, match="not on record"):
        store.update_order("mtum-eod/x", OrderStatus.WORKING, at("01-03"))


def test_collecting_twice_equals_once_and_a_late_commission_fills_its_gap(store: Store):
    unreported = fill("01-03", Side.BUY, 20, 100.0, None)
    reported = fill("01-03", Side.BUY, 20, 100.0, 2.0)
    other = fill("01-03", Side.BUY, 20, 100.0, 3.0)
    for collected in ([unreported], [unreported], [reported], [unreported], [other], []):
        store.add_fills(collected)

    assert [reported] == store.fills()


def test_executions_come_in_the_order_they_happened(store: Store):
    second, first = fill("01-08", Side.SELL, 8, 111.0, None, 2), fill("01-08", Side.SELL, 12, 110.0, None, 1)
    store.add_fills([second, first])

    assert [first, second] == store.fills()


def test_the_executions_of_one_order_are_found_by_its_reference(store: Store):
    entry, *exits = (
        fill("01-03", Side.BUY, 20, 100.0, 2.0),
        fill("01-08", Side.SELL, 12, 110.0, 1.2, 1),
        fill("01-08", Side.SELL, 8, 111.0, None, 2),
    )
    store.add_fills([*reversed(exits), entry])

    assert (exits, []) == (store.fills_of(exits[0].reference), store.fills_of("mtum-eod/x"))


def test_capital_stands_from_the_first_execution_on(store: Store, run_id: int):
    store.record(recording(run_id, "01-03"))
    untraded = store.capital()
    store.add_fills([fill("01-03", Side.BUY, 20, 100.0, 2.0)])

    assert (None, BOOK.capital_usd) == (untraded, store.capital())


def test_a_book_that_is_flat_has_no_execution_since_and_what_its_round_trips_came_to(store: Store):
    """20 at 100 sold at 110 in two prints, each with its commission: 120 + 80 - 2 - 1.2."""
    entry = fill("01-03", Side.BUY, 20, 100.0, 2.0)
    store.add_fills([fill("01-08", Side.SELL, 8, 110.0, None, 2), fill("01-08", Side.SELL, 12, 110.0, 1.2, 1), entry])

    assert SinceFlat(realised=pytest.approx(196.8), fills=()) == store.since_flat()
    assert SinceFlat(realised=0.0, fills=(entry,)) == store.since_flat(day("01-07"))


def test_shares_sold_that_nobody_held_are_not_passed_over(store: Store):
    """The book adds up to nothing again later; the ledger must still see the sale that was too large."""
    closed = [fill("01-02", Side.BUY, 5, 90.0, None), fill("01-03", Side.SELL, 5, 91.0, None)]
    wrong = [fill("01-04", Side.SELL, 5, 92.0, None), fill("01-05", Side.BUY, 5, 90.0, None)]
    store.add_fills([*closed, *wrong])
    since = store.since_flat()

    assert SinceFlat(realised=pytest.approx(5.0), fills=tuple(wrong)) == since
    with pytest.raises(StoreError, match="sells 5 shares, the book holds 0"):
        ledger(5000.0, since.fills, realised=since.realised)


@pytest.mark.parametrize("seed", range(3))
def test_the_ledger_since_the_book_was_flat_is_that_of_all_its_executions(store: Store, seed: int):
    """A hundred executions, some of them without a commission yet: at each session, to the cent."""
    chance, held, fills = Random(seed), 0, []  # noqa: S311
    for number in range(100):
        side = Side.SELL if held and chance.random() < 0.6 else Side.BUY
        shares = chance.choice((held, chance.randint(1, held))) if side is Side.SELL else chance.randint(1, 30)
        held += side.sign * shares
        session = date(2024, 1, 1) + timedelta(days=number // 2)
        fills.append(
            replace(
                fill("01-01", side, shares, round(chance.uniform(90, 250), 2), chance.choice((None, 0.35, 1.17))),
                execution_id=str(number),
                session=session,
                executed_at=datetime(session.year, session.month, session.day, 20 + number % 2, tzinfo=UTC),
            )
        )
    store.add_fills(chance.sample(fills, len(fills)))
    for session in sorted({one.session for one in fills}):
        since, of_all = store.since_flat(session), ledger(5000.0, fills, up_to=session)
        book = ledger(5000.0, since.fills, realised=since.realised)

        assert (of_all.holding, pytest.approx(of_all.cash, abs=1e-6)) == (book.holding, book.cash)
    assert store.since_flat(session) == store.since_flat()


def simulated(text: str, side: Side, shares: int, order_id: int) -> SimulatedOrder:
    return SimulatedOrder(
        reference=reference(text, side),
        order_id=order_id,
        session=day(text),
        side=side,
        order_type=OrderType.MOC,
        shares=shares,
        is_cancelled=False,
        accepted_at=at(text),
    )


@in_a_file
def test_the_embedded_brokers_orders_survive_as_they_were_accepted(store: Store, path: Path):
    bought, sold = simulated("01-03", Side.BUY, 20, 1), simulated("01-08", Side.SELL, 8, 2)
    orders = SimulatedOrders(store, store)
    empty = orders.last_order_id()
    for order in (bought, sold):
        orders.add(order)
    with pytest.raises(StoreError):
        orders.add(bought)
    reader = open_reader(path)
    looking = SimulatedOrders(reader)
    seen = (looking.newest(5), looking.newest(1), looking.last_order_id(), looking.shares_through(day("01-08")))
    reader.close()

    assert (0, ([bought, sold], [sold], 2, 12)) == (empty, seen)


@in_a_file
def test_a_withdrawn_order_of_the_embedded_broker_moves_no_share(store: Store):
    orders = SimulatedOrders(store, store)
    orders.add(simulated("01-03", Side.BUY, 20, 1))
    held = orders.shares_through(day("01-03"))
    orders.cancel(reference("01-03", Side.BUY))

    assert (20, 0, [True]) == (
        held,
        orders.shares_through(day("01-03")),
        [order.is_cancelled for order in orders.newest(5)],
    )


# -- settling, halts, runs --------------------------------------------------------------------------------------------


def test_settling_twice_equals_once_and_a_final_mark_stands(store: Store, run_id: int):
    store.record(recording(run_id, "01-03"))
    provisional = type(mark("01-03", 1, 0, 0, 0))
    first = mark("01-03", 5000.0, 0.0, 0.0, 0.0)
    draft = provisional(
        **{name: getattr(first, name) for name in first.__slots__} | {"is_final": False, "cash": 4999.0}
    )
    for marks in ([draft], [first], [draft]):
        store.settle(day("01-03"), at("01-03"), marks, is_settled=False, drift_actions={})
    unsettled = store.unsettled_rows()
    store.settle(day("01-03"), at("01-03"), [], is_settled=True, drift_actions={day("01-03"): "BUY"})

    assert ([first], [], first, None) == (
        store.equity_marks(),
        store.provisional_marks(),
        store.last_equity(day("01-04")),
        store.last_equity(day("01-03")),
    )
    assert ([False], [], [True]) == (
        [row.is_settled for row in unsettled],
        store.unsettled_rows(),
        [row.is_settled for row in store.ledger()],
    )


def test_a_mark_waits_for_its_final_bar(store: Store):
    first = mark("01-03", 5000.0, 0.0, 0.0, 0.0)
    draft = type(first)(**{name: getattr(first, name) for name in first.__slots__} | {"is_final": False})
    store.settle(day("01-03"), at("01-03"), [draft, mark("01-04", 1, 0, 0, 0)], is_settled=False, drift_actions={})

    assert [draft] == store.provisional_marks()


def test_a_halt_replaces_one_of_its_kind_and_resume_lifts_all(store: Store):
    first = Halt(halted_at=at("01-03"), why="holiday", by="me", allow_exits=False)
    second = Halt(halted_at=at("01-04"), why="illness", by="me", allow_exits=True)
    latch = Halt(halted_at=at("01-04"), why="loss", by="mtum-eod", allow_exits=True, is_daily_loss=True)
    for halt in (first, latch, second):
        store.halt(halt)
    standing = store.halts()

    assert ([second, latch], 2, [], 0) == (
        standing,
        store.resume(at("01-05"), "me"),
        store.halts(),
        store.resume(at("01-05"), "me"),
    )


def test_runs_are_filed_with_what_became_of_them(store: Store):
    first = store.start_run(Step.DECIDE, day("01-03"), at("01-03"))
    store.end_run(first, at("01-03", "20:40:03"), "failed", 4, "no answer", retries=3, document={"shares": 0})
    second = store.start_run(Step.PREFLIGHT, None, at("01-04"))

    newest, older = store.runs(limit=5)
    assert ((second, None, None), (first, "failed", 4, "no answer")) == (
        (newest.id, newest.ended_at, newest.exit_code),
        (older.id, older.outcome, older.exit_code, older.error),
    )
    assert ({Step.DECIDE: older}, {}, [newest]) == (
        store.last_runs(day("01-03")),
        store.last_runs(day("01-02")),
        store.runs(limit=1),
    )
    again = store.start_run(Step.DECIDE, day("01-03"), at("01-05"))
    first_run, none = store.first_run(day("01-03"), Step.DECIDE), store.first_run(day("01-03"), Step.SETTLE)
    assert (again, older, None) == (store.last_runs(day("01-03"))[Step.DECIDE].id, first_run, none)
    row = (1, "decide", "2024-01-03", "2024-01-03T20:40:00Z", "2024-01-03T20:40:03Z", "failed", 4, "no answer", 3)
    assert row == view(store, "runs")[0]


@in_a_file
def test_cash_flows_and_notices_are_kept(store: Store, run_id: int, path: Path):
    flow = CashFlow(kind=CashKind.DIVIDEND, amount_usd=12.5, session=day("01-04"), note="Q4")
    store.add_cash_flow(flow, at("01-04"))
    failed = Notice(event=Event.RUN_FAILED, words="no answer", is_urgent=True)
    store.add_notice(failed, at("01-04"), run_id, is_to_send=False)

    notices = sql(path, "SELECT event, words, is_urgent, run_id FROM notice")
    assert ([flow], [("run_failed", "no answer", 1, 1)]) == (store.cash_flows(), notices)


def test_a_message_told_again_is_counted_whichever_run_tells_it(store: Store, run_id: int):
    """The second run is one the book has lost; the first one's message is still to be sent."""
    failed = Notice(event=Event.RUN_FAILED, words="no answer")
    store.add_notice(failed, at("01-04"), run_id, is_to_send=True)
    store.add_notice(failed, at("01-05"), run_id + 1, is_to_send=True)

    assert [(failed, 2)] == [(kept.notice, kept.times_told) for kept in store.unsent_notices()]


def test_an_exit_stays_due_from_the_first_sell_after_the_entry(store: Store):
    write_book(store)

    assert ((day("01-05"), "Halted: holiday"), None) == (
        store.exit_decided_since(day("01-03")),
        store.exit_decided_since(day("01-10")),
    )


def test_an_exit_stays_due_from_its_order_where_the_decision_is_forgotten(store: Store, run_id: int):
    """A backup came back, and of what it had decided since only the order is told by the broker."""
    forgotten = intent("01-04", Side.SELL, 20)
    store.record(replace(recording(run_id, "01-04", intent=forgotten), signal=None))
    by_hand = replace(intent("01-05", Side.SELL, 20), kind=OrderKind.FLATTEN)
    store.record(replace(recording(run_id, "01-05", intent=by_hand), signal=None))

    assert ((day("01-04"), f"order {forgotten.reference}"), None) == (
        store.exit_decided_since(day("01-03")),
        store.exit_decided_since(day("01-04")),
    )


# -- what the broker, and the owner's hands, can do to a book ---------------------------------------------------------


def test_a_correction_takes_its_predecessors_place_and_comes_once(store: Store, run_id: int):
    """Whatever comes again afterwards: the first print, the correction, the first print without its commission."""
    store.record(recording(run_id, "01-03", intent=intent("01-03", Side.BUY, 20)))
    first = fill("01-03", Side.BUY, 20, 100.0, 2.0)
    corrected = replace(first, shares=19, price_usd=100.5, revision=1)
    for one in (first, corrected, first, corrected, replace(first, commission_usd=None)):
        store.add_fills([one])

    assert [corrected] == store.fills()


def test_a_commission_booked_as_an_estimate_is_flagged(store: Store, run_id: int):
    store.record(recording(run_id, "01-03", intent=intent("01-03", Side.BUY, 20)))
    late = fill("01-03", Side.BUY, 20, 100.0, None)
    assumed = replace(late, commission_usd=2.0, is_estimated=True, revision=1)
    store.add_fills([late])
    store.add_fills([assumed])

    assert [assumed] == store.fills()


def test_what_is_known_takes_the_place_of_estimates_alone(store: Store, run_id: int):
    """12 shares were printed, 8 were estimated; only these 8 are replaced."""
    store.record(recording(run_id, "01-03", intent=intent("01-03", Side.BUY, 20)))
    printed, estimate = fill("01-03", Side.BUY, 12, 100.0, 1.2, 1), fill("01-03", Side.BUY, 8, 101.0, 0.8, 2)
    known = replace(estimate, execution_id="statement", price_usd=100.2)
    store.add_fills([printed, replace(estimate, is_estimated=True)])
    for _ in range(2):
        store.replace_estimates(reference("01-03", Side.BUY), [known])

    assert [printed, known] == store.fills()


def test_adopted_shares_are_a_position_with_the_target_they_were_given(store: Store, run_id: int):
    """100.00 and 4 x 2.50, with no signal of that day."""
    store.record(recording(run_id, "01-08"))
    store.adopt(replace(fill("01-03", Side.BUY, 20, 100.0, 0.0), reference="by hand"), 2.5, 4.0, at("01-08"))

    assert (2.5, [(20, 100.0, "2024-01-03", 2.5, 110.0)]) == (store.entry_atr(day("01-03")), view(store, "position"))


def test_a_split_rescales_the_open_position_its_atr_and_its_target_and_nothing_closed(store: Store):
    """10 at 107.00 with an ATR of 2.20 become 20 at 53.50 with 1.10; the target 115.80 becomes 57.90."""
    write_book(store)
    closed = view(store, "trades")
    store.split(Split(session=day("01-17"), ratio=2.0), at("01-17"))

    assert [(20, 53.5, "2024-01-16", 1.1, 57.9)] == view(store, "position")
    assert (closed, 1.1, [Split(session=day("01-17"), ratio=2.0)]) == (
        view(store, "trades"),
        pytest.approx(store.entry_atr(day("01-16"))),
        store.splits(),
    )


def test_two_splits_multiply(store: Store):
    write_book(store)
    store.split(Split(session=day("01-17"), ratio=3.0), at("01-17"))
    store.split(Split(session=day("01-18"), ratio=0.5), at("01-18"))

    assert [(15, 71.333333, "2024-01-16", 1.466667, 77.2)] == view(store, "position")


def test_a_split_that_leaves_no_share_changes_nothing(store: Store):
    write_book(store)
    before = store.fills()
    with pytest.raises(StoreError, match="less than a whole one"):
        store.split(Split(session=day("01-17"), ratio=0.05), at("01-17"))

    assert (before, []) == (store.fills(), store.splits())


def test_a_split_shown_and_withdrawn_within_a_session_leaves_all_as_it_was(store: Store):
    write_book(store)
    before = store.since_flat().fills
    for ratio in (2.0, 0.5):
        store.split(Split(session=day("01-17"), ratio=ratio), at("01-17"))

    assert (before, [Split(session=day("01-17"), ratio=1.0)]) == (store.since_flat().fills, store.splits())


def test_the_last_word_on_shares_left_counts(store: Store):
    said = [store.shares_left()]
    for shares in (5.5, 0.0, 2.0):
        store.leave(shares, at("01-03"))
        said.append(store.shares_left())

    assert [0.0, 5.5, 0.0, 2.0] == said


def test_acts_are_kept_in_order_and_found_by_session(store: Store):
    acts = [
        OwnerAct(act=act, session=session, at=at("01-03"), by="owner@home", words=f"{act} it")
        for act, session in ((Act.LEAVE, None), (Act.FILL, day("01-03")), (Act.RESOLVE, day("01-04")))
    ]
    for act in acts:
        store.add_act(act)

    assert (acts, [acts[1]]) == (store.acts(), store.acts(day("01-03")))


# -- the views --------------------------------------------------------------------------------------------------------


def test_trades_are_the_closed_round_trips(store: Store):
    """The first exit was decided on 01-05 and executed in two prints on 01-08."""
    write_book(store)

    first = ("2024-01-03", 100.0, 20, 2.5, "2024-01-08", 110.4, "atr_profit", '["atr_profit"]')
    second = ("2024-01-09", 108.0, 21, 2.0, "2024-01-10", 105.0, "trend", '["trend","vix"]')
    assert [(*first, 208.0, 4.208, 203.792, 5, 3, 0), (*second, -63.0, 4.473, -67.473, 1, 1, 0)] == view(
        store, "trades"
    )


def test_position_is_the_open_round_trip_and_none_when_flat(store: Store):
    empty = view(store, "position")
    write_book(store)
    held = view(store, "position")
    store.add_fills([fill("01-17", Side.SELL, 4, 108.0, None)])
    partly = view(store, "position", "shares")
    store.add_fills([fill("01-18", Side.SELL, 6, 108.0, None)])

    assert ([], [(10, 107.0, "2024-01-16", 2.2, 115.8)], [(6,)], []) == (empty, held, partly, view(store, "position"))


def test_a_sale_by_hand_names_its_kind_as_the_reason(store: Store, run_id: int):
    store.record(recording(run_id, "01-03", intent=intent("01-03", Side.BUY, 20)))
    store.add_fills([fill("01-03", Side.BUY, 20, 100.0, 2.0)])
    flatten = intent("01-04", Side.SELL, 20, kind=OrderKind.FLATTEN)
    store.record(recording(run_id, "01-04", signal=None, intent=flatten))
    store.add_fills([fill("01-04", Side.SELL, 20, 101.0, 2.0)])

    assert [("flatten", '["flatten"]')] == view(store, "trades", "exit_reason", "exit_reasons")


def test_fills_carry_their_reason_and_their_signal(store: Store):
    write_book(store)

    row = ("01-08.2", "2024-01-08T21:00:02Z", "2024-01-08", "SELL", "MTUM", 8, 111.0, 888.0, 0.888, 0)
    fills = view(store, "fills")
    assert [(*row, "SELL on 01-08", 5)] == [found for found in fills if found[0] == "01-08.2"]
    assert [("2024-01-16", None)] == view(store, "fills", "session", "commission")[-1:]


def test_signals_have_the_keys_of_the_document_as_columns(store: Store):
    """Nested parts are flattened, booleans are 0 and 1, lists JSON text, unknown is NULL."""
    write_book(store)
    columns, rows = store.view("signals").columns, view(store, "signals")
    row = next(row for row in (dict(zip(columns, row, strict=True)) for row in rows) if row["session"] == "2024-01-08")

    document = signal("01-08")
    flat = [key for key in document if key not in ("order", "position")]
    nested = [f"order_{key}" for key in ("key", "side", "type", "shares", "status")]
    nested += [f"position_{key}" for key in ("shares", "entry_price", "entry_session", "entry_atr", "target")]
    assert {"id", "drift_action", *flat, *nested} == set(row)
    assert (1, None, '["exit_pending"]', "filled", "SELL", 20, 110.0, "[]") == tuple(
        row[key]
        for key in (
            "trend_bullish",
            "volume_confirm",
            "exit_reasons",
            "order_status",
            "order_side",
            "order_shares",
            "position_target",
            "warnings",
        )
    )


def test_equity_and_sessions_read_as_they_were_settled(store: Store):
    write_book(store)

    assert ("2024-01-16", 5066.319, 1070.0, 6136.319, 136.319, 0.0) == view(store, "equity")[-1]
    assert [
        ("2024-01-11", "skipped", "MTUM: no bar for 2024-01-11", 0),
        ("2024-01-12", "missed", "no run", 0),
        ("2024-01-16", "decided", "", 1),
    ] == view(store, "sessions")[-3:]


@in_a_file
def test_sessions_and_instants_are_iso_text_in_every_table(store: Store, path: Path):
    write_book(store)

    assert [("2024-01-03", "2024-01-03T20:40:00.000000Z")] == sql(
        path, "SELECT session, intended_at FROM order_intent WHERE session < '2024-01-08'"
    )
    assert date(2024, 1, 3) == store.fills()[0].session
