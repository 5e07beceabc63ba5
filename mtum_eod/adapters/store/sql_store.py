"""The book in SQLite: ports.Store on SQLAlchemy Core. As in `reading`, the statements are composed once, on import."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Connection, Engine, bindparam, delete, func, or_, select, update
from sqlalchemy.dialects.sqlite import Insert, insert

from mtum_eod.adapters.store import schema
from mtum_eod.adapters.store.connect import SQLITE_FAILURES, apart, refusals, together
from mtum_eod.adapters.store.known_bars import KnownBars
from mtum_eod.adapters.store.reading import IS_UNSENT, BookQueries
from mtum_eod.adapters.store.statements import Statement
from mtum_eod.core.ledger import rescale
from mtum_eod.core.market import COLUMNS, BarStatus, DailyBars, StoredBars, shared
from mtum_eod.core.trading import (
    Book,
    CashFlow,
    Fill,
    Halt,
    OrderIntent,
    OrderKind,
    OrderStatus,
    OrderType,
    OwnerAct,
    SessionStatus,
    Split,
    Step,
)
from mtum_eod.errors import OrderStateUnknown, SettingsError
from mtum_eod.ports import EquityMark, Notice, Recording, SessionRow

SAME_BAR_RELATIVE = 1e-9
"""Two prices or volumes closer than this are the same; what is nearer comes from reading decimals."""

STATUSES = [str(status) for status in BarStatus]
RANKS = {status: rank for rank, status in enumerate(STATUSES)}
"""How far a bar is on its way to final."""


# -- statements -------------------------------------------------------------------------------------------------------


def _news(statement: Insert, *names: str) -> dict[str, Any]:
    """What an upsert sets: these columns, as the row that was to be inserted has them."""
    return {name: statement.excluded[name] for name in names}


ADD_RUN, ADD_BOOK, ADD_BAR, ADD_SIGNAL, ADD_ORDER, ADD_NOTICE = (
    Statement(insert(table))
    for table in (schema.run, schema.book, schema.bar, schema.signal, schema.order_intent, schema.notice)
)
ADD_ACT, ADD_FLOW, ADD_HALT, ADD_LEFT = (
    Statement(insert(table)) for table in (schema.owner_act, schema.cash_flow, schema.halt, schema.left_shares)
)
_split = insert(schema.split)
ADD_SPLIT = Statement(  # what a source shows and takes back on one day comes to a ratio of 1
    _split.on_conflict_do_update(
        index_elements=["session"],
        set_=_news(_split, "recorded_at") | {"ratio": schema.split.c.ratio * _split.excluded.ratio},
    )
)
END_RUN = Statement(update(schema.run).where(schema.run.c.id == bindparam("run_id")))
SET_ACCOUNT = Statement(update(schema.book))
# With trades in the book its capital stands: money is added by `cash add`.
SET_CAPITAL = Statement(update(schema.book).where(~select(schema.execution.c.id).exists()))
ADD_SETTINGS = Statement(insert(schema.settings_version).on_conflict_do_nothing())
SETTINGS_ID = Statement(
    select(schema.settings_version.c.id).where(schema.settings_version.c.sha256 == bindparam("sha256"))
)

_row = insert(schema.session)
ADD_ROW = Statement(_row.on_conflict_do_nothing())
UPSERT_ROW = Statement(
    _row.on_conflict_do_update(
        index_elements=["session"],
        set_=_news(_row, "status", "why", "written_at")
        | {"is_settled": or_(schema.session.c.is_settled, _row.excluded.is_settled)},
        # Only a skip can still become something else, and never a miss.
        where=(schema.session.c.status == SessionStatus.SKIPPED) & (_row.excluded.status != SessionStatus.MISSED),
    )
)
SETTLE_ROW = Statement(update(schema.session).where(schema.session.c.session == bindparam("settled")))

UPDATE_ORDER = Statement(update(schema.order_intent).where(schema.order_intent.c.reference == bindparam("of")))

_execution, _fill = schema.execution.c, insert(schema.execution)
FILL_GAP = Statement(
    _fill.on_conflict_do_update(
        index_elements=["execution_id"],
        set_=_news(_fill, "commission_usd"),
        where=(_execution.revision == _fill.excluded.revision) & _execution.commission_usd.is_(None),
    )
)
CORRECT_FILL = Statement(
    _fill.on_conflict_do_update(
        index_elements=["execution_id"],
        set_=_news(_fill, "executed_at", "side", "shares", "price_usd", "commission_usd", "is_estimated", "revision"),
        where=_execution.revision < _fill.excluded.revision,
    )
)
DROP_ESTIMATES = Statement(
    delete(schema.execution).where(_execution.reference == bindparam("of"), _execution.is_estimated)
)
RESCALE_FILL = Statement(update(schema.execution).where(_execution.execution_id == bindparam("of")))

_basis = insert(schema.entry_basis)
BASIS = Statement(
    select(schema.entry_basis.c.atr, schema.entry_basis.c.atr_multiplier).where(
        schema.entry_basis.c.entry_session == bindparam("session")
    )
)
UPSERT_BASIS = Statement(
    _basis.on_conflict_do_update(
        index_elements=["entry_session"], set_=_news(_basis, "atr", "atr_multiplier", "recorded_at")
    )
)

_mark = insert(schema.equity_mark)
UPSERT_MARK = Statement(
    _mark.on_conflict_do_update(
        index_elements=["session"],
        set_=_news(_mark, "cash", "position_value", "value", "realised", "unrealised", "is_final", "written_at"),
        where=or_(_mark.excluded.is_final, ~schema.equity_mark.c.is_final),
    )
)
_signal = schema.signal.c
SET_DRIFT = Statement(
    update(schema.signal).where(
        _signal.id == select(func.max(_signal.id)).where(_signal.session == bindparam("of")).scalar_subquery()
    )
)

_lift = update(schema.halt).where(schema.halt.c.lifted_at.is_(None))
LIFT = Statement(_lift)
LIFT_KIND = Statement(_lift.where(schema.halt.c.is_daily_loss == bindparam("kind")))

_notice = schema.notice.c
COUNT_UP = Statement(
    update(schema.notice)
    .where(_notice.event == bindparam("same_event"), _notice.words == bindparam("same_words"), IS_UNSENT)
    .values(times_told=_notice.times_told + 1)
)
NOTICE_TRIED = Statement(
    update(schema.notice).where(_notice.id == bindparam("of")).values(attempts=_notice.attempts + 1)
)


# -- writing ----------------------------------------------------------------------------------------------------------


class SqlStore(BookQueries):
    """A Store for one thread at a time. Reads inside `transaction()` see what it has written so far."""

    def __init__(self, path: Path, engine: Engine) -> None:
        self.path = path
        self._engine = engine
        self._kept: Connection | None = None  # kept from the first use on
        self._db: Connection | None = None  # the same, while a transaction is under way on it
        self._known_bars = KnownBars(self.rows)  # of this connection

    def close(self) -> None:
        """Close the database; SQLite folds the WAL into the file."""
        self._known_bars.forget()
        if self._kept is not None:
            self._kept.close()
        self._engine.dispose()

    def rows(self, statement: Statement, **values: Any) -> Sequence[tuple[Any, ...]]:
        with refusals(self.path):
            return statement.rows(self._connection(), values)

    def _connection(self) -> Connection:
        if self._kept is None or self._kept.closed:
            self._kept = self._engine.connect()
            self._known_bars.forget()  # another connection counts its data versions anew
        return self._kept

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self.writing():
            yield

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A connection whose writes become durable together at the end of the outermost block, or not at all."""
        # Not OSError: a failure of the caller's own work inside the block is not the database's.
        with refusals(self.path, SQLITE_FAILURES):
            if self._db is not None:
                with apart(self._db):
                    yield self._db
                return
            db = self._connection()
            with together(db):
                self._db = db
                try:
                    yield db
                finally:
                    self._db = None

    def bars(self, symbol: str, first: date, last: date, revision: int | None = None) -> StoredBars:
        if revision is None:
            return self._known_bars.newest(symbol, first, last)
        return super().bars(symbol, first, last, revision)

    def bind(self, book: Book, at: datetime) -> None:
        bound = self.book()
        if bound is None or bound != replace(book, account=book.account or bound.account):
            with self.writing() as db:
                self._bind(db, book, at)

    def start_run(self, step: Step, session: date | None, at: datetime) -> int:
        row = {"step": step, "session": session, "started_at": at, "outcome": "", "error": "", "retries": 0}
        with self.writing() as db:
            return _add(db, ADD_RUN, row)

    def end_run(
        self,
        run_id: int,
        at: datetime,
        outcome: str,
        exit_code: int,
        error: str = "",
        retries: int = 0,
        document: dict[str, Any] | None = None,
    ) -> None:
        ended = {
            "ended_at": at,
            "outcome": outcome,
            "exit_code": exit_code,
            "error": error,
            "retries": retries,
            "document": document,
        }
        with self.writing() as db:
            END_RUN.run(db, {"run_id": run_id} | ended)

    def record(self, recording: Recording) -> None:
        """As the port says.

        Raises SettingsError for another book or a session that was missed, OrderStateUnknown for a second order.
        """
        at = recording.recorded_at
        with self.writing() as db:
            self._bind(db, recording.book, at)
            self._write_bars(db, recording.bars)
            signal_id = self._write_signal(db, recording)
            self._write_row(db, recording.row, at)
            if recording.intent is not None:
                self._write_intent(db, recording.intent, recording.run_id, signal_id, at)

    def _bind(self, db: Connection, book: Book, at: datetime) -> None:
        bound = self.book()
        if bound is None:
            ADD_BOOK.run(db, {"id": 1, "bound_at": at} | _values(book))
            return
        if not bound.matches(book):
            raise SettingsError(
                f"database {self.path} belongs to the book {bound.name}; this run is for {book.name}",
                hint=f"use another database: MTUM_EOD_DATABASE__URL=sqlite:///mtum-eod-{book.mode}.db",
            )
        if book.account and not bound.account:
            SET_ACCOUNT.run(db, {"account": book.account})
        if bound.capital_usd != book.capital_usd:
            SET_CAPITAL.run(db, {"capital_usd": book.capital_usd})

    def _write_signal(self, db: Connection, recording: Recording) -> int | None:
        if recording.signal is None:
            return None
        values = {
            "session": recording.row.session,
            "run_id": recording.run_id,
            "settings_id": _settings_id(db, recording.settings, recording.recorded_at),
            "document": recording.signal,
            "inputs": recording.inputs,
            "bars_revision": self.bars_revision(),
            "recorded_at": recording.recorded_at,
        }
        return _add(db, ADD_SIGNAL, values)

    def _write_row(self, db: Connection, row: SessionRow, at: datetime) -> None:
        existing = next(iter(self.ledger(row.session, row.session)), None)
        if existing and existing.status is SessionStatus.MISSED and row.status is SessionStatus.DECIDED:
            raise SettingsError(
                f"session {row.session} stands in the ledger as missed; it cannot be decided any more",
                hint=f"see what it would have been with `mtum-eod run --date {row.session} --dry-run`",
            )
        UPSERT_ROW.run(db, _values(row, written_at=at))

    def _write_intent(
        self, db: Connection, intent: OrderIntent, run_id: int, signal_id: int | None, at: datetime
    ) -> None:
        values = _values(intent) | {
            "status": OrderStatus.INTENT,
            "intended_at": at,
            "updated_at": at,
            "words": "",
            "run_id": run_id,
            "signal_id": signal_id,
        }
        try:
            ADD_ORDER.run(db, values)
        except sqlite3.IntegrityError as error:
            first = self.order(intent.session)
            if first is None:
                raise
            raise OrderStateUnknown(
                f"a second order for session {intent.session} was refused: {intent.side} {intent.shares}, where "
                f"{first.intent.side} {first.intent.shares} is on record as {first.status} ({first.intent.reference})",
                hint="a session has one order at most; see what became of it with `mtum-eod status`",
            ) from error

    def update_order(
        self,
        reference: str,
        status: OrderStatus,
        at: datetime,
        *,
        order_id: int | None = None,
        perm_id: int | None = None,
        order_type: OrderType | None = None,
        kind: OrderKind | None = None,
        filled_shares: int | None = None,
        words: str = "",
    ) -> None:
        """As the port says. Raises OrderStateUnknown where no such order is on record."""
        changes = {
            "order_id": order_id,
            "perm_id": perm_id,
            "order_type": order_type,
            "kind": kind,
            "filled_shares": filled_shares,
        }
        values: dict[str, Any] = {"of": reference, "status": status, "updated_at": at, "words": words}
        values |= {name: value for name, value in changes.items() if value is not None}
        with self.writing() as db:
            if UPDATE_ORDER.run(db, values).rowcount == 0:
                raise OrderStateUnknown(
                    f"order {reference} is {status} at the broker, but not on record in {self.path}",
                    hint="look at the broker's own order list, then at `mtum-eod status`",
                )

    def add_fills(self, fills: Sequence[Fill]) -> None:
        if not fills:
            return
        rows = [_values(fill) for fill in fills]
        with self.writing() as db:
            FILL_GAP.run_each(db, rows)
            CORRECT_FILL.run_each(db, rows)

    def replace_estimates(self, reference: str, fills: Sequence[Fill]) -> None:
        with self.writing() as db:
            DROP_ESTIMATES.run(db, {"of": reference})
            self.add_fills(fills)

    def adopt(self, fill: Fill, entry_atr: float, atr_multiplier: float, at: datetime) -> None:
        with self.writing() as db:
            self.add_fills([fill])
            _write_basis(db, fill.session, entry_atr, atr_multiplier, at)

    def leave(self, shares: float, at: datetime) -> None:
        with self.writing() as db:
            ADD_LEFT.run(db, {"shares": shares, "recorded_at": at})

    def split(self, split: Split, at: datetime) -> None:
        with self.writing() as db:
            ADD_SPLIT.run(db, _values(split, recorded_at=at))
            entry = rescale(self.since_flat(split.eve).fills, split.ratio)
            for fill in entry:
                RESCALE_FILL.run(db, {"of": fill.execution_id, "shares": fill.shares, "price_usd": fill.price_usd})
            if entry:
                basis = self._basis(db, entry[0].session)
                if basis is not None:
                    _write_basis(db, entry[0].session, basis[0] / split.ratio, basis[1], at)

    def _basis(self, db: Connection, entry_session: date) -> tuple[float, float] | None:
        """ATR at entry and its multiplier, on the scale in force; None where no decision entered."""
        for atr, multiplier in BASIS.rows(db, {"session": entry_session}):
            return float(atr), float(multiplier)
        entry = self.signal(entry_session)
        if entry is None or entry.document["atr"] is None:
            return None
        return float(entry.document["atr"]), float(entry.settings["strategy"]["atr_multiplier"])

    def add_act(self, act: OwnerAct) -> None:
        row = {"act": act.act, "session": act.session, "acted_at": act.at, "acted_by": act.by, "words": act.words}
        with self.writing() as db:
            ADD_ACT.run(db, row)

    def settle(
        self,
        session: date,
        at: datetime,
        marks: Sequence[EquityMark],
        *,
        is_settled: bool,
        drift_actions: Mapping[date, str],
    ) -> None:
        """As the port says. A final mark is not replaced by one that is not; settled stays settled."""
        with self.writing() as db:
            for mark in marks:
                UPSERT_MARK.run(db, _values(mark, written_at=at))
            if is_settled:
                SETTLE_ROW.run(db, {"settled": session, "is_settled": True})
            for drifted, action in drift_actions.items():
                SET_DRIFT.run(db, {"of": drifted, "drift_action": action})

    def add_rows(self, rows: Sequence[SessionRow], at: datetime) -> None:
        if not rows:
            return
        with self.writing() as db:
            ADD_ROW.run_each(db, [_values(row, written_at=at) for row in rows])

    def add_bars(self, bars: Sequence[DailyBars]) -> int:
        with self.writing() as db:
            return self._write_bars(db, bars)

    def _write_bars(self, db: Connection, bars: Sequence[DailyBars]) -> int:
        """Add a revision for each session that is new, has other numbers, or is further on its way to final."""
        written = 0
        for read in bars:
            if read.is_empty:
                continue
            stored = self.bars(read.symbol, read.first, read.last)  # `KnownBars` counts on it: read, then written
            at, stored_at = shared(read.days, stored.days)
            old, new = stored.values[stored_at], read.values[at]
            same = np.zeros(len(read.days), dtype=bool)
            same[at] = np.isclose(new, old, rtol=SAME_BAR_RELATIVE, atol=0.0, equal_nan=True).all(axis=1)
            ranks = np.where(read.days == read.days.max(), RANKS[read.last_status], RANKS[BarStatus.FINAL])
            stored_ranks = np.full(len(read.days), -1)  # a session without a stored bar ranks below all
            stored_ranks[at] = [RANKS[status] for status in stored.statuses[stored_at]]
            rows = [
                {
                    "symbol": read.symbol,
                    "session": read.days[row].item(),
                    **{name: _known(value) for name, value in zip(COLUMNS, read.values[row], strict=True)},
                    "status": STATUSES[ranks[row]],
                    "source": read.source,
                    "as_of": read.as_of,
                }
                for row in np.flatnonzero(~same | (ranks > stored_ranks)).tolist()
            ]
            if rows:
                ADD_BAR.run_each(db, rows)
            written += len(rows)
        return written

    def add_cash_flow(self, flow: CashFlow, at: datetime) -> None:
        with self.writing() as db:
            ADD_FLOW.run(db, _values(flow, recorded_at=at))

    def halt(self, halt: Halt) -> None:
        row = {
            "halted_at": halt.halted_at,
            "why": halt.why,
            "halted_by": halt.by,
            "allow_exits": halt.allow_exits,
            "is_daily_loss": halt.is_daily_loss,
        }
        with self.writing() as db:
            LIFT_KIND.run(db, {"kind": halt.is_daily_loss, "lifted_at": halt.halted_at, "lifted_by": halt.by})
            ADD_HALT.run(db, row)

    def resume(self, at: datetime, by: str) -> int:
        with self.writing() as db:
            return LIFT.run(db, {"lifted_at": at, "lifted_by": by}).rowcount

    def add_notice(self, notice: Notice, at: datetime, run_id: int | None, *, is_to_send: bool) -> None:
        with self.writing() as db:
            if is_to_send:
                again = COUNT_UP.run(db, {"same_event": notice.event, "same_words": notice.words})
                if again.rowcount:
                    return
            ADD_NOTICE.run(db, _values(notice, run_id=run_id, told_at=at, is_to_send=is_to_send))

    def notice_tried(self, notice_id: int, at: datetime, *, is_sent: bool) -> None:
        with self.writing() as db:
            NOTICE_TRIED.run(db, {"of": notice_id, "last_tried_at": at, "sent_at": at if is_sent else None})


def _add(db: Connection, statement: Statement, row: dict[str, Any]) -> int:
    """Add a row; its number."""
    return statement.run(db, row).lastrowid or 0


def _values(value: Any, **more: Any) -> dict[str, Any]:
    """The fields of a dataclass by name, as its table's columns are called, and `more`."""
    return {field.name: getattr(value, field.name) for field in fields(value)} | more


def _settings_id(db: Connection, settings: dict[str, Any], at: datetime) -> int:
    """The id of these settings; those of an earlier day are used again where they are the same."""
    sha256 = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    ADD_SETTINGS.run(db, {"sha256": sha256, "settings": settings, "first_used_at": at})
    return int(SETTINGS_ID.rows(db, {"sha256": sha256})[0][0])


def _write_basis(db: Connection, entry_session: date, atr: float, atr_multiplier: float, at: datetime) -> None:
    values = {"entry_session": entry_session, "atr": atr, "atr_multiplier": atr_multiplier, "recorded_at": at}
    UPSERT_BASIS.run(db, values)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
