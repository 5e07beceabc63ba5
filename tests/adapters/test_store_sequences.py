"""Writes in sequences nobody thought of: the real store answers as the one in memory does, whatever fails between.

Hypothesis draws the sequences. Nothing is random from run to run; `pytest -m slow` goes further.
"""

import sqlite3
from collections.abc import Callable
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import date
from functools import cache
from math import nan
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from book_by_hand import BOOK, SETTINGS, at, day, fill, intent, mark, recording, reference, signal
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from simulation.fake_store import FakeStore

from mtum_eod.adapters.store import SqlStore, open_store, reading, sql_store
from mtum_eod.adapters.store.statements import Statement
from mtum_eod.core.events import Event
from mtum_eod.core.market import VIX, BarStatus, DailyBars, days_of
from mtum_eod.core.trading import (
    Act,
    CashFlow,
    CashKind,
    Halt,
    Mode,
    OrderKind,
    OrderStatus,
    OwnerAct,
    SessionStatus,
    Side,
    Split,
    Step,
)
from mtum_eod.errors import MtumEodError
from mtum_eod.ports import Notice, SessionRow, Store

DAYS = ("01-03", "01-04", "01-05")
SESSIONS = [day(text) for text in DAYS]
VIEWS = ("equity", "fills", "position", "runs", "sessions", "signals", "trades")

# -- what can be written, the impossible included ---------------------------------------------------------------------

texts, sessions, sides, flags = st.sampled_from(DAYS), st.sampled_from(SESSIONS), st.sampled_from(Side), st.booleans()
run_ids, few = st.sampled_from((1, 1, 1, 2)), st.integers(1, 2)
references = st.builds(reference, texts, sides)
ratios = st.sampled_from((2.0, 0.5, 1.5, 0.25))


@dataclass(frozen=True)
class Write:
    """One call of a store's method, printed as it would be typed."""

    name: str
    values: tuple[Any, ...]
    named: dict[str, Any]

    def __call__(self, store: Store) -> Any:
        return getattr(store, self.name)(*self.values, **self.named)


def write(name: str, *values: Any, **named: Any) -> st.SearchStrategy[Write]:
    """The store's method of that name, called with what the strategies draw."""
    return st.builds(Write, st.just(name), st.tuples(*values), st.fixed_dictionaries(named))


@st.composite
def fills(draw: st.DrawFn) -> Any:
    text, side, number = draw(texts), draw(sides), draw(st.sampled_from((1, 1, 1, 2)))
    shares, price = (
        draw(st.sampled_from((20, 20, 20, 20, 4, 8, 4, 8, 4, 8, 4, 0))),
        draw(st.sampled_from((100.0, 101.25, 110.5, 101.25, 100.0, 101.25, 110.5, 101.25, nan))),
    )
    commission = draw(st.sampled_from((None, None, 1.0, 2.25)))
    made = fill(text, side, shares, price, commission, number)
    return replace(made, is_estimated=draw(flags), revision=draw(st.integers(0, 1)))


@st.composite
def bars(draw: st.DrawFn) -> DailyBars:
    symbol = draw(st.sampled_from(("MTUM", "VIX")))
    closes = draw(st.lists(st.sampled_from((100.0, 100.0 * (1 + 1e-12), 101.5)), min_size=0, max_size=3))
    days = SESSIONS[draw(st.integers(0, len(SESSIONS) - len(closes))) :][: len(closes)]
    volume = nan if symbol == VIX else 1000.0
    return DailyBars(
        symbol=symbol,
        days=days_of(days),
        values=np.array([[close] * 4 + [volume] for close in closes]).reshape(-1, 5),
        as_of=at(draw(st.sampled_from(("01-08", "01-09")))),
        last_status=draw(st.sampled_from(BarStatus)),
        source="csv",
    )


books = st.builds(
    lambda changes: replace(BOOK, **changes),
    st.sampled_from(
        (
            {},
            {},
            {},
            {},
            {},
            {},
            {"account": ""},
            {"account": "SIM2"},
            {"capital_usd": 6e3},
            {"capital_usd": 6e3},
            {"capital_usd": 7e3},
            {"mode": Mode.PAPER},
        )
    ),
)


@st.composite
def recordings(draw: st.DrawFn) -> Any:
    text, action = draw(texts), draw(st.sampled_from(("BUY", "SELL", "HOLD")))
    atr = draw(st.sampled_from((2.5, 2.5, 3.0, None, nan)))
    order = None
    if action != "HOLD" and draw(flags):
        by_hand = draw(st.sampled_from((OrderKind.DECISION, OrderKind.FLATTEN)))
        shares, price = draw(st.sampled_from((20, 20, 20, 0))), draw(st.sampled_from((100.0, 100.0, 100.0, nan)))
        order = intent(text, Side(action), shares, kind=by_hand, order_id=draw(few), decision_price_usd=price)
    document = signal(text, action, atr=atr, exit_reasons=["trend"] if action == "SELL" else [])
    return recording(
        draw(run_ids),
        text,
        book=draw(books),
        row=SessionRow(session=day(text), status=draw(st.sampled_from(SessionStatus)), why=draw(texts)),
        bars=draw(st.lists(bars(), max_size=2)),
        signal=draw(st.sampled_from((document, None))),
        settings=draw(st.sampled_from((SETTINGS, {"strategy": {"atr_multiplier": 3.0}}))),
        intent=order,
    )


rows = st.builds(SessionRow, session=sessions, status=st.sampled_from(SessionStatus), why=texts)
marks = st.builds(
    lambda text, cash, is_final: replace(mark(text, cash, 0.0, 0.0, 0.0), is_final=is_final),
    *(texts, st.sampled_from((5000.0, 5001.5, 5002.5, 5000.0, 5001.5, nan)), flags),
)
notices = st.builds(
    Notice, event=st.sampled_from((Event.RUN_FAILED, Event.MISMATCH)), words=st.sampled_from(("a", "b"))
)

WRITES: dict[str, st.SearchStrategy[Write]] = {
    "bind": write("bind", books, texts.map(at)),
    "start_run": write("start_run", st.sampled_from(Step), st.none() | sessions, texts.map(at)),
    "end_run": write("end_run", run_ids, texts.map(at), texts, few, error=texts, retries=few),
    "record": write("record", recordings()),
    "update_order": write(
        "update_order",
        *(references, st.sampled_from(OrderStatus), texts.map(at)),
        order_id=st.none() | few,
        perm_id=st.none() | few,
        filled_shares=st.none() | few,
        words=texts,
    ),
    "add_fills": write("add_fills", st.lists(fills(), min_size=1, max_size=3) | st.just([])),
    "replace_estimates": write("replace_estimates", references, st.lists(fills(), max_size=2)),
    "adopt": write("adopt", fills(), st.sampled_from((2.5, 3.0, 0.0)), st.just(4.0), texts.map(at)),
    "leave": write("leave", st.sampled_from((0.0, 5.0, 0.5, -1.0)), texts.map(at)),
    "split": write("split", st.builds(Split, session=sessions, ratio=ratios), texts.map(at)),
    "add_act": write(
        "add_act",
        st.builds(
            OwnerAct,
            act=st.sampled_from(Act),
            session=st.none() | sessions,
            at=texts.map(at),
            by=st.just("owner"),
            words=texts,
        ),
    ),
    "settle": write(
        "settle",
        *(sessions, texts.map(at), st.lists(marks, max_size=2)),
        is_settled=flags,
        drift_actions=st.dictionaries(sessions, st.sampled_from(("BUY", "HOLD")), max_size=2),
    ),
    "add_rows": write("add_rows", st.lists(rows, max_size=3), texts.map(at)),
    "add_bars": write("add_bars", st.lists(bars(), max_size=2)),
    "add_cash_flow": write(
        "add_cash_flow",
        st.builds(
            CashFlow,
            kind=st.sampled_from(CashKind),
            amount_usd=st.sampled_from((100.0, 12.5, 0.0)),
            session=sessions,
            note=texts,
        ),
        texts.map(at),
    ),
    "halt": write(
        "halt",
        st.builds(
            Halt, halted_at=texts.map(at), why=texts, by=st.just("owner"), allow_exits=flags, is_daily_loss=flags
        ),
    ),
    "resume": write("resume", texts.map(at), st.just("owner")),
    "add_notice": write("add_notice", notices, texts.map(at), st.none() | run_ids, is_to_send=flags),
    "notice_tried": write("notice_tried", few, texts.map(at), is_sent=flags),
}


def test_every_write_of_the_port_is_among_the_sequences():
    methods = {name for name in vars(Store) if not name.startswith("_")}

    assert methods - {"transaction"} == set(WRITES)


# -- the sequences ----------------------------------------------------------------------------------------------------


class Stop(Exception):
    """What a caller inside a transaction fails with."""


def outcome(write: Write, store: Store) -> Any:
    """What a write answers, or the kind of its refusal."""
    try:
        return write(store)
    except MtumEodError as error:
        return type(error)


def everything(store: Store) -> dict[str, Any]:
    """The answer to every question of the port."""
    answers: dict[str, Any] = {
        name: getattr(store, name)()
        for name in (
            *("book", "capital", "bars_revision", "fills", "cash_flows", "splits", "shares_left", "acts"),
            *("unsent_notices", "open_orders", "halts", "ledger", "last_row", "unsettled_rows", "equity_marks"),
            "provisional_marks",
        )
    }
    for name in ("order", "entry_atr", "acts", "signal", "exit_decided_since", "last_equity"):
        answers |= {f"{name} {session}": getattr(store, name)(session) for session in SESSIONS}
    answers |= {f"last_runs {session}": store.last_runs(session) for session in SESSIONS}
    answers |= {f"first_run {s} {step}": store.first_run(s, step) for s in SESSIONS for step in Step}
    answers |= {f"sent_since {text}": store.sent_since(at(text)) for text in DAYS}
    answers |= {f"told_since {text}": store.told_since(at(text)) for text in DAYS}
    first, last = SESSIONS[1:]
    answers |= {
        "some": (store.ledger(first, last), store.ledger(last=first), store.equity_marks(first), store.runs(limit=2))
    }
    for symbol in ("MTUM", "VIX"):
        for revision in (None, store.bars_revision() // 2):
            stored = store.bars(symbol, date(2024, 1, 1), SESSIONS[-1], revision)
            answers[f"{symbol} {revision}"] = str((stored.frame, stored.statuses))
        answers |= {f"bar_as_of {symbol} {session}": store.bar_as_of(symbol, session) for session in SESSIONS}
    for session in (None, *SESSIONS):
        since = store.since_flat(session)
        answers[f"since_flat {session}"] = round(since.realised, 9), since.fills
    for key in {one.reference for one in store.fills()}:
        answers[f"fills_of {key}"] = store.fills_of(key)
    return answers | {f"view {name}": _rounded(store.view(name).rows) for name in VIEWS}


def _rounded(found: Any) -> list[Any]:
    """SQLite adds floats up more exactly than Python does."""
    return [tuple(round(value, 9) if isinstance(value, float) else value for value in row) for row in found]


@cache
def empty_book() -> bytes:
    """A new database, made once."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "book.db"
        open_store(path).close()
        return path.read_bytes()


def contents(path: Path) -> tuple[Any, ...]:
    """Every row of every table. The integrity of the file is checked on the way."""
    with closing(sqlite3.connect(path)) as db:
        assert [("ok",)] == db.execute("PRAGMA integrity_check").fetchall()
        assert [] == db.execute("PRAGMA foreign_key_check").fetchall()
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        return tuple((name, *db.execute(f"SELECT * FROM {name}")) for name in tables)  # noqa: S608 (its own name)


class Sequences(RuleBasedStateMachine):
    """A file and a model of it go through the same, and answer alike."""

    kinds: tuple[str, ...] = tuple(WRITES)
    has_orders = True

    @initialize()
    def open(self) -> None:
        self.writes = st.sampled_from(self.kinds).flatmap(WRITES.__getitem__)
        self.folder = TemporaryDirectory()
        self.number = 0
        self.model = FakeStore()
        self.open_file(empty_book(), b"")
        self.commits = {contents(self.path): self.model.image()}
        self.both(lambda store: store.start_run(Step.DECIDE, SESSIONS[0], at("01-03")))
        for text, side in zip(DAYS, (Side.BUY, Side.SELL, Side.BUY), strict=True) if self.has_orders else ():
            made = recording(1, text, signal=signal(text, str(side)), intent=intent(text, side, 20))
            self.both(lambda store, made=made: store.record(made))

    def both(self, write: Callable[[Store], Any]) -> None:
        """The same write into model and file, by itself."""
        write(self.model)
        write(self.store)
        self.committed()

    def open_file(self, database: bytes, wal: bytes) -> None:
        self.number += 1
        self.path = Path(self.folder.name) / f"{self.number}.db"
        self.path.write_bytes(database)
        if wal:
            self.wal.write_bytes(wal)
        self.store: SqlStore = open_store(self.path)

    @property
    def wal(self) -> Path:
        return self.path.with_name(f"{self.path.name}-wal")

    def committed(self) -> None:
        self.commits[contents(self.path)] = self.model.image()

    @rule(data=st.data(), count=st.integers(2, 8))
    def write(self, data: st.DataObject, count: int) -> None:
        """Each by itself, one after the other."""
        for one in data.draw(st.lists(self.writes, min_size=count, max_size=count)):
            assert outcome(one, self.model) == outcome(one, self.store)
            self.committed()

    @rule(data=st.data(), fails=flags, is_nested=flags)
    def write_together(self, data: st.DataObject, fails: bool, is_nested: bool) -> None:
        """All of it becomes durable or nothing, and a refused write leaves its neighbours alone."""
        first, *others = data.draw(st.lists(self.writes, min_size=2, max_size=8))

        def together(store: Store) -> list[Any]:
            done = []
            with suppress(Stop), store.transaction():
                done += [outcome(one, store) for one in others]
                with suppress(Stop) if is_nested else nullcontext(), store.transaction():
                    done.append(outcome(first, store))
                    if fails:
                        raise Stop
            return done

        assert together(self.model) == together(self.store)
        self.committed()

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = open_store(self.path)

    @rule(cut=st.integers(0, 1 << 20), tail=st.sampled_from((b"", b"\0", b"\xa5")))
    def lose_power(self, cut: int, tail: bytes) -> None:
        """The log is torn at some byte, what follows is lost or noise: what is left is one of the commits, whole."""
        wal = self.wal.read_bytes() if self.wal.exists() else b""
        kept = wal[: cut % (len(wal) + 1)]
        database = self.path.read_bytes()
        self.store.close()
        self.open_file(database, kept + tail * (len(wal) - len(kept)))
        left = contents(self.path)
        assert left in self.commits
        self.model.put_back(self.commits[left])

    @rule()
    def ask(self) -> None:
        """Every question of the port; what went wrong on the way still shows."""
        assert everything(self.model) == everything(self.store)

    def teardown(self) -> None:
        try:
            self.ask()
        finally:
            self.store.close()
            self.folder.cleanup()


def sequences(*kinds: str, has_orders: bool = False) -> Any:
    """The test case of sequences of these writes: the same ones in every run, to be met in seconds.

    has_orders: every session has one from the start, so that most executions are of an order on record.
    """
    case = type("Sequences", (Sequences,), {"kinds": kinds, "has_orders": has_orders}).TestCase
    case.settings = settings(
        derandomize=True,
        max_examples=20,
        stateful_step_count=8,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    return case


# Few kinds at a time, so that those that touch the same rows meet often.
TestDecisions = sequences("record", "record", "add_rows", "update_order")
TestSettlement = sequences("record", "settle")
TestMoney = sequences("record", "add_fills", has_orders=True)
TestExecutions = sequences("add_fills", "add_fills", "replace_estimates", "record", has_orders=True)
TestPositions = sequences("record", "add_fills", "adopt", "split", has_orders=True)
TestBars = sequences("add_bars", "record")
TestOwner = sequences("halt", "resume", "add_act", "leave", "add_cash_flow", "record")
TestRuns = sequences("start_run", "end_run", "add_notice")
TestNotices = sequences("add_notice", "add_notice", "notice_tried")
THEMES = {
    "decisions": TestDecisions,
    "settlement": TestSettlement,
    "money": TestMoney,
    "executions": TestExecutions,
    "positions": TestPositions,
    "bars": TestBars,
    "owner": TestOwner,
    "runs": TestRuns,
    "notices": TestNotices,
}


@pytest.mark.slow
class TestManySequences(Sequences.TestCase):
    """All kinds at once, for minutes, other sequences each time."""

    settings = settings(
        max_examples=300, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
    )


# -- bugs on purpose: sequences that find none of them prove nothing ---------------------------------------------------


class Altered(Statement):
    """A statement of which a part of the text is another one."""

    def __init__(self, real: Statement, old: str, new: str) -> None:
        super().__init__(real._composed)
        self._change = old, new

    def _text(self, values: Any) -> Any:
        is_new = tuple(values) not in self._texts
        text = super()._text(values)
        if is_new:
            assert self._change[0] in text.sql
            text.sql = text.sql.replace(*self._change)
        return text


def altered(holder: Any, name: str, old: str, new: str) -> Any:
    return patch.object(holder, name, Altered(getattr(holder, name), old, new))


FINAL_STAYS = "excluded.is_final = 1 OR equity_mark.is_final = 0"
PLANTED = {
    "a final mark is replaced by one that is not": altered(sql_store, "UPSERT_MARK", FINAL_STAYS, "1"),
    "no savepoints": patch.object(sql_store, "apart", nullcontext),
    "an older report fills a newer one's gap": altered(
        sql_store, "FILL_GAP", "execution.revision = excluded.revision", "1"
    ),
    "a correction of a lower revision is taken": altered(
        sql_store, "CORRECT_FILL", "execution.revision < excluded.revision", "execution.revision != excluded.revision"
    ),
    "estimates of other orders are removed": altered(
        sql_store, "DROP_ESTIMATES", "execution.reference = ?", "? IS NOT NULL"
    ),
    "a skip becomes a miss": altered(sql_store, "UPSERT_ROW", "excluded.status != ?", "? IS NOT NULL"),
    "a settled session is unsettled": altered(sql_store, "UPSERT_ROW", "session.is_settled = 1 OR ", ""),
    "another kind of halt is lifted": altered(sql_store, "LIFT_KIND", "halt.is_daily_loss = ?", "? IS NOT NULL"),
    "a message already sent is counted up": altered(sql_store, "COUNT_UP", "notice.sent_at IS NULL", "1"),
    "a bar never becomes final": patch.object(sql_store, "RANKS", dict.fromkeys(sql_store.RANKS, 0)),
    "the mark before a session is its own": altered(
        reading.LAST_MARK, "statement", "equity_mark.session < ?", "equity_mark.session <= ?"
    ),
    "an exit decided at the entry counts": altered(
        reading, "EXIT_DECIDED", "signal.session > ?", "signal.session >= ?"
    ),
    "executions come in the order of arrival": altered(
        reading.FILLS, "statement", "ORDER BY execution.executed_at, execution.id", "ORDER BY execution.id"
    ),
    "capital changes after a trade": altered(sql_store, "SET_CAPITAL", "NOT (EXISTS", "1 OR NOT (EXISTS"),
    "drift is written to every decision of a session": altered(
        sql_store, "SET_DRIFT", "signal.id = (SELECT max(signal.id) AS max_1", "signal.id IN (SELECT signal.id"
    ),
}
UNSEEN = ("drift is written to every decision of a session",)
"""Of several decisions of a session only the last one is ever shown."""


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_found_by_the_sequences_of_one_run(name: str):
    with PLANTED[name]:
        found = [theme for theme, case in THEMES.items() if is_broken(case)]
    print(f"FIGURE {name}: {', '.join(found) or 'not found'}")

    assert bool(found) == (name not in UNSEEN)


def is_broken(case: Any) -> bool:
    """Whether store and model differ in one of its sequences. Whatever else is raised is no finding."""
    run = case()
    run.settings = settings(run.settings, phases=[Phase.generate], report_multiple_bugs=False, print_blob=False)
    try:
        run.runTest()
    except AssertionError:
        return True
    return False
