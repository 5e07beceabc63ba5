"""The book in SQLite: ports.BookReader and ports.Store on SQLAlchemy Core."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Row,
    Select,
    Table,
    Text,
    and_,
    delete,
    func,
    or_,
    select,
    table,
    text,
    type_coerce,
    update,
)
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import DBAPIError, IntegrityError

from mtum_eod.adapters.store import schema
from mtum_eod.adapters.store.connect import SQLITE_FAILURES, Reading, read_copy, refusals
from mtum_eod.core.events import Event
from mtum_eod.core.ledger import rescale
from mtum_eod.core.market import COLUMNS, BarStatus, DailyBars, StoredBars, shared
from mtum_eod.core.trading import (
    Act,
    Book,
    CashFlow,
    CashKind,
    Fill,
    Halt,
    Mode,
    Order,
    OrderIntent,
    OrderKind,
    OrderStatus,
    OrderType,
    OwnerAct,
    SessionStatus,
    Side,
    Split,
    Step,
)
from mtum_eod.errors import OrderStateUnknown, SettingsError
from mtum_eod.ports import EquityMark, Notice, RecordedSignal, Recording, Records, RunRecord, SessionRow, UnsentNotice

SAME_BAR_RELATIVE = 1e-9
"""Two prices or volumes closer than this are the same; what is nearer comes from reading decimals."""

BAR_RANKS = {str(status): rank for rank, status in enumerate(BarStatus)}
OPEN_STATUSES = [str(status) for status in OrderStatus if status.is_open]


# -- reading ----------------------------------------------------------------------------------------------------------


class BookQueries(ABC):
    """Every question a BookReader answers, each one statement."""

    @abstractmethod
    def rows(self, statement: Select[Any]) -> Sequence[Row[Any]]:
        """All rows of one statement, from one state of the database. Raises StoreError."""

    def book(self) -> Book | None:
        for row in self.rows(select(schema.book)):
            return Book(
                mode=Mode(row.mode),
                account=row.account,
                symbol=row.symbol,
                is_synthetic=row.is_synthetic,
                capital_usd=row.capital_usd,
            )
        return None

    def bars(self, symbol: str, first: date, last: date, revision: int | None = None) -> StoredBars:
        bar = schema.bar.c
        wanted = [bar.symbol == symbol, bar.session.between(first, last)]
        if revision is not None:
            wanted.append(bar.revision <= revision)
        newest = select(func.max(bar.revision)).where(*wanted).group_by(bar.session)
        # Sessions stay text: numpy reads hundreds of them at once, a date each would take longer than the query.
        columns = [type_coerce(bar.session, Text), *(bar[name] for name in (*COLUMNS, "status"))]
        rows = self.rows(select(*columns).where(bar.revision.in_(newest)).order_by(bar.session))
        days, *numbers, statuses = zip(*rows, strict=True) if rows else [()] * len(columns)
        return StoredBars(
            days=np.array(days, dtype="datetime64[D]"),
            values=np.array(numbers, dtype="float64").T,
            statuses=np.array(statuses, dtype=object),
        )

    def bars_revision(self) -> int:
        newest = select(func.coalesce(func.max(schema.bar.c.revision), 0))
        return int(self.rows(newest)[0][0])

    def fills(self) -> list[Fill]:
        execution = schema.execution.c
        return [
            Fill(
                execution_id=row.execution_id,
                reference=row.reference,
                session=row.session,
                executed_at=row.executed_at,
                side=Side(row.side),
                shares=row.shares,
                price_usd=row.price_usd,
                commission_usd=row.commission_usd,
                is_estimated=row.is_estimated,
                revision=row.revision,
            )
            for row in self.rows(select(schema.execution).order_by(execution.executed_at, execution.id))
        ]

    def cash_flows(self) -> list[CashFlow]:
        flow = schema.cash_flow.c
        return [
            CashFlow(kind=CashKind(row.kind), amount_usd=row.amount_usd, session=row.session, note=row.note)
            for row in self.rows(select(schema.cash_flow).order_by(flow.session, flow.id))
        ]

    def order(self, session: date) -> Order | None:
        orders = self._orders(schema.order_intent.c.session == session)
        return orders[0] if orders else None

    def splits(self) -> list[Split]:
        split = schema.split
        return [
            Split(session=row.session, ratio=row.ratio) for row in self.rows(select(split).order_by(split.c.session))
        ]

    def shares_left(self) -> float:
        newest = select(schema.left_shares.c.shares).order_by(schema.left_shares.c.id.desc()).limit(1)
        return next((float(row.shares) for row in self.rows(newest)), 0.0)

    def entry_atr(self, entry_session: date) -> float | None:
        basis = schema.entry_basis.c
        for row in self.rows(select(basis.atr).where(basis.entry_session == entry_session)):
            return float(row.atr)
        entry = self.signal(entry_session)
        atr = entry.document["atr"] if entry else None
        return None if atr is None else float(atr)

    def acts(self, session: date | None = None) -> list[OwnerAct]:
        table = schema.owner_act
        wanted = select(table).order_by(table.c.id)
        return [
            OwnerAct(act=Act(row.act), session=row.session, at=row.acted_at, by=row.acted_by, words=row.words)
            for row in self.rows(wanted if session is None else wanted.where(table.c.session == session))
        ]

    def unsent_notices(self) -> list[UnsentNotice]:
        table = schema.notice
        return [
            UnsentNotice(
                id=row.id,
                notice=Notice(event=Event(row.event), words=row.words, is_urgent=row.is_urgent),
                told_at=row.told_at,
                times_told=row.times_told,
                attempts=row.attempts,
                last_tried_at=row.last_tried_at,
            )
            for row in self.rows(select(table).where(_is_unsent()).order_by(table.c.id))
        ]

    def sent_since(self, at: datetime) -> set[Notice]:
        return {
            Notice(event=Event(row.event), words=row.words, is_urgent=row.is_urgent)
            for row in self.rows(select(schema.notice).where(schema.notice.c.sent_at >= at))
        }

    def open_orders(self) -> list[Order]:
        return self._orders(schema.order_intent.c.status.in_(OPEN_STATUSES))

    def _orders(self, wanted: ColumnElement[bool]) -> list[Order]:
        table = schema.order_intent
        return [
            Order(
                intent=OrderIntent(
                    reference=row.reference,
                    session=row.session,
                    kind=OrderKind(row.kind),
                    side=Side(row.side),
                    order_type=OrderType(row.order_type),
                    shares=row.shares,
                    order_id=row.order_id,
                    decision_price_usd=row.decision_price_usd,
                ),
                status=OrderStatus(row.status),
                intended_at=row.intended_at,
                perm_id=row.perm_id,
                words=row.words,
            )
            for row in self.rows(select(table).where(wanted).order_by(table.c.session))
        ]

    def halts(self) -> list[Halt]:
        halt = schema.halt.c
        return [
            Halt(
                halted_at=row.halted_at,
                why=row.why,
                by=row.halted_by,
                allow_exits=row.allow_exits,
                is_daily_loss=row.is_daily_loss,
            )
            for row in self.rows(select(schema.halt).where(halt.lifted_at.is_(None)).order_by(halt.is_daily_loss))
        ]

    def ledger(self, first: date | None = None, last: date | None = None) -> list[SessionRow]:
        session = schema.session.c.session
        return [_session_row(row) for row in self.rows(_between(schema.session, first, last).order_by(session))]

    def last_row(self) -> SessionRow | None:
        newest = select(schema.session).order_by(schema.session.c.session.desc()).limit(1)
        return next(map(_session_row, self.rows(newest)), None)

    def unsettled_rows(self) -> list[SessionRow]:
        row = schema.session.c
        return [
            _session_row(found)
            for found in self.rows(select(schema.session).where(~row.is_settled).order_by(row.session))
        ]

    def signal(self, session: date) -> RecordedSignal | None:
        signal, settings = schema.signal, schema.settings_version
        newest = (
            select(signal, settings.c.settings)
            .join(settings, settings.c.id == signal.c.settings_id)
            .where(signal.c.session == session)
            .order_by(signal.c.id.desc())
            .limit(1)
        )
        for row in self.rows(newest):
            return RecordedSignal(
                session=row.session,
                document=row.document,
                settings=row.settings,
                inputs=row.inputs,
                bars_revision=row.bars_revision,
            )
        return None

    def exit_decided_since(self, entry_session: date) -> tuple[date, str] | None:
        signal = schema.signal.c
        first = (
            select(signal.session, signal.document)
            .where(signal.session > entry_session, func.json_extract(signal.document, "$.action") == "SELL")
            .order_by(signal.session, signal.id)
            .limit(1)
        )
        return next(((row.session, row.document["reason"]) for row in self.rows(first)), None)

    def equity_marks(self, first: date | None = None, last: date | None = None) -> list[EquityMark]:
        session = schema.equity_mark.c.session
        return [_equity_mark(row) for row in self.rows(_between(schema.equity_mark, first, last).order_by(session))]

    def provisional_marks(self) -> list[EquityMark]:
        mark = schema.equity_mark.c
        return [
            _equity_mark(row)
            for row in self.rows(select(schema.equity_mark).where(~mark.is_final).order_by(mark.session))
        ]

    def last_equity(self, before: date) -> EquityMark | None:
        session = schema.equity_mark.c.session
        newest = select(schema.equity_mark).where(session < before).order_by(session.desc()).limit(1)
        return next(map(_equity_mark, self.rows(newest)), None)

    def last_run(self, step: Step, session: date) -> RunRecord | None:
        run = schema.run.c
        newest = select(schema.run).where(run.step == step, run.session == session).order_by(run.id.desc()).limit(1)
        return next(map(_run_record, self.rows(newest)), None)

    def runs(self, limit: int) -> list[RunRecord]:
        newest = select(schema.run).order_by(schema.run.c.id.desc()).limit(limit)
        return [_run_record(row) for row in self.rows(newest)]

    def view(self, name: str) -> Records:
        """As the port says. Raises StoreError."""
        rows = self.rows(select(text("*")).select_from(table(name)))
        columns = self.rows(select(text("name")).select_from(text(f"pragma_table_info('{name}')")))
        return Records(columns=tuple(column for (column,) in columns), rows=tuple(tuple(row) for row in rows))


def _is_unsent() -> ColumnElement[bool]:
    return and_(schema.notice.c.is_to_send, schema.notice.c.sent_at.is_(None))


def _between(table: Table, first: date | None, last: date | None) -> Select[Any]:
    rows = select(table)
    if first is not None:
        rows = rows.where(table.c.session >= first)
    if last is not None:
        rows = rows.where(table.c.session <= last)
    return rows


def _session_row(row: Row[Any]) -> SessionRow:
    return SessionRow(session=row.session, status=SessionStatus(row.status), why=row.why, is_settled=row.is_settled)


def _equity_mark(row: Row[Any]) -> EquityMark:
    return EquityMark(
        session=row.session,
        cash=row.cash,
        position_value=row.position_value,
        value=row.value,
        realised=row.realised,
        unrealised=row.unrealised,
        is_final=row.is_final,
    )


def _run_record(row: Row[Any]) -> RunRecord:
    return RunRecord(
        id=row.id,
        step=Step(row.step),
        session=row.session,
        started_at=row.started_at,
        ended_at=row.ended_at,
        outcome=row.outcome,
        exit_code=row.exit_code,
        error=row.error,
    )


class SqlReader(BookQueries):
    """A BookReader that leaves no trace beside the database, also while another process writes."""

    def __init__(self, path: Path, reading: Reading) -> None:
        self._path = path
        self._reading = reading

    def rows(self, statement: Select[Any]) -> Sequence[Row[Any]]:
        with refusals(self._path):
            try:
                rows = self._fetch(statement)
            except DBAPIError:
                if self._reading.is_current():
                    raise
            else:
                if self._reading.is_current():
                    return rows
            # Another process wrote into the file under our hands: what was read may be torn.
            self.close()
            self._reading = read_copy(self._path)
            return self._fetch(statement)

    def _fetch(self, statement: Select[Any]) -> Sequence[Row[Any]]:
        with self._reading.engine.connect() as db:
            return db.execute(statement).all()

    def close(self) -> None:
        """Close the database."""
        self._reading.engine.dispose()


# -- writing ----------------------------------------------------------------------------------------------------------


class SqlStore(BookQueries):
    """A Store for one thread at a time. Reads inside `transaction()` see what it has written so far."""

    def __init__(self, path: Path, engine: Engine) -> None:
        self.path = path
        self._engine = engine
        self._writer = engine.execution_options(writes=True)
        self._db: Connection | None = None  # the connection of the transaction under way

    def close(self) -> None:
        """Close the database; SQLite folds the WAL into the file."""
        self._engine.dispose()

    def rows(self, statement: Select[Any]) -> Sequence[Row[Any]]:
        with refusals(self.path):
            if self._db is not None:
                return self._db.execute(statement).all()
            with self._engine.connect() as db:
                return db.execute(statement).all()

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
                with self._db.begin_nested():
                    yield self._db
                return
            with self._writer.begin() as db:
                self._db = db
                try:
                    yield db
                finally:
                    self._db = None

    def start_run(self, step: Step, session: date | None, at: datetime) -> int:
        row = {"step": step, "session": session, "started_at": at, "outcome": "", "error": "", "retries": 0}
        with self.writing() as db:
            return _id(db, schema.run, row)

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
            db.execute(update(schema.run).where(schema.run.c.id == run_id).values(ended))

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
        values = {
            "id": 1,
            "mode": book.mode,
            "account": book.account,
            "symbol": book.symbol,
            "is_synthetic": book.is_synthetic,
            "capital_usd": book.capital_usd,
            "bound_at": at,
        }
        if bound is None:
            db.execute(insert(schema.book).values(values))
        elif bound.name != book.name:
            raise SettingsError(
                f"database {self.path} belongs to the book {bound.name}; this run is for {book.name}",
                hint=f"use another database: MTUM_EOD_DATABASE__URL=sqlite:///mtum-eod-{book.mode}.db",
            )
        elif bound.capital_usd != book.capital_usd:
            # With trades in the book its capital stands: money is added by `cash add`.
            untraded = ~select(schema.execution.c.id).exists()
            db.execute(update(schema.book).where(untraded).values(capital_usd=book.capital_usd))

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
        return _id(db, schema.signal, values)

    def _write_row(self, db: Connection, row: SessionRow, at: datetime) -> None:
        existing = next(iter(self.ledger(row.session, row.session)), None)
        if existing and existing.status is SessionStatus.MISSED and row.status is SessionStatus.DECIDED:
            raise SettingsError(
                f"session {row.session} stands in the ledger as missed; it cannot be decided any more",
                hint=f"see what it would have been with `mtum-eod run --date {row.session} --dry-run`",
            )
        statement = insert(schema.session).values(_ledger_values(row, at))
        new = statement.excluded
        db.execute(
            statement.on_conflict_do_update(
                index_elements=["session"],
                set_={
                    "status": new.status,
                    "why": new.why,
                    "is_settled": or_(schema.session.c.is_settled, new.is_settled),
                    "written_at": new.written_at,
                },
                # Only a skip can still become something else, and never a miss.
                where=(schema.session.c.status == SessionStatus.SKIPPED) & (new.status != SessionStatus.MISSED),
            )
        )

    def _write_intent(
        self, db: Connection, intent: OrderIntent, run_id: int, signal_id: int | None, at: datetime
    ) -> None:
        values = {
            "reference": intent.reference,
            "session": intent.session,
            "kind": intent.kind,
            "side": intent.side,
            "order_type": intent.order_type,
            "shares": intent.shares,
            "order_id": intent.order_id,
            "decision_price_usd": intent.decision_price_usd,
            "status": OrderStatus.INTENT,
            "intended_at": at,
            "updated_at": at,
            "words": "",
            "run_id": run_id,
            "signal_id": signal_id,
        }
        try:
            db.execute(insert(schema.order_intent).values(values))
        except IntegrityError as error:
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
        words: str = "",
    ) -> None:
        """As the port says. Raises OrderStateUnknown where no such order is on record."""
        changes = {"order_id": order_id, "perm_id": perm_id, "order_type": order_type, "kind": kind}
        values: dict[str, Any] = {"status": status, "updated_at": at, "words": words}
        values |= {name: value for name, value in changes.items() if value is not None}
        table = schema.order_intent
        with self.writing() as db:
            if db.execute(update(table).where(table.c.reference == reference).values(values)).rowcount == 0:
                raise OrderStateUnknown(
                    f"order {reference} is {status} at the broker, but not on record in {self.path}",
                    hint="look at the broker's own order list, then at `mtum-eod status`",
                )

    def add_fills(self, fills: Sequence[Fill]) -> None:
        if not fills:
            return
        table, statement = schema.execution.c, insert(schema.execution)
        new = statement.excluded
        fill_gap = statement.on_conflict_do_update(
            index_elements=["execution_id"],
            set_={"commission_usd": new.commission_usd},
            where=(table.revision == new.revision) & table.commission_usd.is_(None),
        )
        corrected = ("executed_at", "side", "shares", "price_usd", "commission_usd", "is_estimated", "revision")
        correct = statement.on_conflict_do_update(
            index_elements=["execution_id"],
            set_={name: new[name] for name in corrected},
            where=table.revision < new.revision,
        )
        rows = [_fill_values(fill) for fill in fills]
        with self.writing() as db:
            db.execute(fill_gap, rows)
            db.execute(correct, rows)

    def replace_estimates(self, reference: str, fills: Sequence[Fill]) -> None:
        table = schema.execution
        with self.writing() as db:
            db.execute(delete(table).where(table.c.reference == reference, table.c.is_estimated))
            self.add_fills(fills)

    def adopt(self, fill: Fill, entry_atr: float, atr_multiplier: float, at: datetime) -> None:
        with self.writing() as db:
            self.add_fills([fill])
            _write_basis(db, fill.session, entry_atr, atr_multiplier, at)

    def leave(self, shares: float, at: datetime) -> None:
        with self.writing() as db:
            db.execute(insert(schema.left_shares).values(shares=shares, recorded_at=at))

    def split(self, split: Split, at: datetime) -> None:
        table = schema.execution
        with self.writing() as db:
            db.execute(insert(schema.split).values(session=split.session, ratio=split.ratio, recorded_at=at))
            entry = rescale(self.fills(), split.ratio)
            for fill in entry:
                rescaled = {"shares": fill.shares, "price_usd": fill.price_usd}
                db.execute(update(table).where(table.c.execution_id == fill.execution_id).values(rescaled))
            if entry:
                basis = self._basis(db, entry[0].session)
                if basis is not None:
                    _write_basis(db, entry[0].session, basis[0] / split.ratio, basis[1], at)

    def _basis(self, db: Connection, entry_session: date) -> tuple[float, float] | None:
        """ATR at entry and its multiplier, on the scale in force; None where no decision entered."""
        basis = schema.entry_basis.c
        row = db.execute(select(basis.atr, basis.atr_multiplier).where(basis.entry_session == entry_session)).first()
        if row is not None:
            return float(row.atr), float(row.atr_multiplier)
        entry = self.signal(entry_session)
        if entry is None or entry.document["atr"] is None:
            return None
        return float(entry.document["atr"]), float(entry.settings["strategy"]["atr_multiplier"])

    def add_act(self, act: OwnerAct) -> None:
        row = {"act": act.act, "session": act.session, "acted_at": act.at, "acted_by": act.by, "words": act.words}
        with self.writing() as db:
            db.execute(insert(schema.owner_act).values(row))

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
        signal, row = schema.signal, schema.session
        with self.writing() as db:
            for mark in marks:
                _write_mark(db, mark, at)
            if is_settled:
                db.execute(update(row).where(row.c.session == session).values(is_settled=True))
            for drifted, action in drift_actions.items():
                newest = select(func.max(signal.c.id)).where(signal.c.session == drifted).scalar_subquery()
                db.execute(update(signal).where(signal.c.id == newest).values(drift_action=action))

    def add_rows(self, rows: Sequence[SessionRow], at: datetime) -> None:
        if not rows:
            return
        with self.writing() as db:
            db.execute(insert(schema.session).on_conflict_do_nothing(), [_ledger_values(row, at) for row in rows])

    def add_bars(self, bars: Sequence[DailyBars]) -> int:
        with self.writing() as db:
            return self._write_bars(db, bars)

    def _write_bars(self, db: Connection, bars: Sequence[DailyBars]) -> int:
        """Add a revision for each session that is new, has other numbers, or is further on its way to final."""
        written = 0
        for read in bars:
            if read.is_empty:
                continue
            stored = self.bars(read.symbol, read.first, read.last)
            at, stored_at = shared(read.days, stored.days)
            old, new = stored.values[stored_at], read.values[at]
            same = np.zeros(len(read.days), dtype=bool)
            same[at] = np.isclose(new, old, rtol=SAME_BAR_RELATIVE, atol=0.0, equal_nan=True).all(axis=1)
            statuses = np.where(read.days == read.days.max(), str(read.last_status), str(BarStatus.FINAL))
            ranks = [BAR_RANKS[status] for status in statuses]
            stored_ranks = np.full(len(read.days), -1)  # a session without a stored bar ranks below all
            stored_ranks[at] = [BAR_RANKS[status] for status in stored.statuses[stored_at]]
            changed = np.flatnonzero(~same | np.greater(ranks, stored_ranks))
            rows = [
                {
                    "symbol": read.symbol,
                    "session": read.days[place].astype(date),
                    **{name: _known(value) for name, value in zip(COLUMNS, read.values[place], strict=True)},
                    "status": str(statuses[place]),
                    "source": read.source,
                    "as_of": read.as_of,
                }
                for place in changed.tolist()
            ]
            if rows:
                db.execute(insert(schema.bar), rows)
            written += len(rows)
        return written

    def add_cash_flow(self, flow: CashFlow, at: datetime) -> None:
        row = {
            "kind": flow.kind,
            "amount_usd": flow.amount_usd,
            "session": flow.session,
            "note": flow.note,
            "recorded_at": at,
        }
        with self.writing() as db:
            db.execute(insert(schema.cash_flow).values(row))

    def halt(self, halt: Halt) -> None:
        row = {
            "halted_at": halt.halted_at,
            "why": halt.why,
            "halted_by": halt.by,
            "allow_exits": halt.allow_exits,
            "is_daily_loss": halt.is_daily_loss,
        }
        with self.writing() as db:
            _lift(db, schema.halt.c.is_daily_loss == halt.is_daily_loss, halt.halted_at, halt.by)
            db.execute(insert(schema.halt).values(row))

    def resume(self, at: datetime, by: str) -> int:
        with self.writing() as db:
            return _lift(db, text("true"), at, by)

    def add_notice(self, notice: Notice, at: datetime, run_id: int | None, *, is_to_send: bool) -> None:
        table = schema.notice
        row = {
            "run_id": run_id,
            "event": notice.event,
            "words": notice.words,
            "is_urgent": notice.is_urgent,
            "told_at": at,
            "is_to_send": is_to_send,
        }
        same = (table.c.event == notice.event) & (table.c.words == notice.words) & _is_unsent()
        with self.writing() as db:
            if is_to_send:
                again = db.execute(update(table).where(same).values(times_told=table.c.times_told + 1))
                if again.rowcount:
                    return
            db.execute(insert(table).values(row))

    def notice_tried(self, notice_id: int, at: datetime, *, is_sent: bool) -> None:
        table = schema.notice
        values = {"attempts": table.c.attempts + 1, "last_tried_at": at, "sent_at": at if is_sent else None}
        with self.writing() as db:
            db.execute(update(table).where(table.c.id == notice_id).values(values))


def _id(db: Connection, table: Table, row: dict[str, Any]) -> int:
    key = db.execute(insert(table).values(row)).inserted_primary_key
    return int(key[0]) if key else 0


def _settings_id(db: Connection, settings: dict[str, Any], at: datetime) -> int:
    """The id of these settings; those of an earlier day are used again where they are the same."""
    table = schema.settings_version
    sha256 = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    row = {"sha256": sha256, "settings": settings, "first_used_at": at}
    db.execute(insert(table).values(row).on_conflict_do_nothing())
    return int(db.execute(select(table.c.id).where(table.c.sha256 == sha256)).scalar_one())


def _fill_values(fill: Fill) -> dict[str, Any]:
    return {
        "execution_id": fill.execution_id,
        "reference": fill.reference,
        "session": fill.session,
        "executed_at": fill.executed_at,
        "side": fill.side,
        "shares": fill.shares,
        "price_usd": fill.price_usd,
        "commission_usd": fill.commission_usd,
        "is_estimated": fill.is_estimated,
        "revision": fill.revision,
    }


def _write_basis(db: Connection, entry_session: date, atr: float, atr_multiplier: float, at: datetime) -> None:
    values = {"atr": atr, "atr_multiplier": atr_multiplier, "recorded_at": at}
    statement = insert(schema.entry_basis).values(entry_session=entry_session, **values)
    db.execute(statement.on_conflict_do_update(index_elements=["entry_session"], set_=values))


def _ledger_values(row: SessionRow, at: datetime) -> dict[str, Any]:
    return {
        "session": row.session,
        "status": row.status,
        "why": row.why,
        "is_settled": row.is_settled,
        "written_at": at,
    }


def _write_mark(db: Connection, mark: EquityMark, at: datetime) -> None:
    values = {
        "cash": mark.cash,
        "position_value": mark.position_value,
        "value": mark.value,
        "realised": mark.realised,
        "unrealised": mark.unrealised,
        "is_final": mark.is_final,
        "written_at": at,
    }
    statement = insert(schema.equity_mark).values(session=mark.session, **values)
    db.execute(
        statement.on_conflict_do_update(
            index_elements=["session"],
            set_=values,
            where=or_(statement.excluded.is_final, ~schema.equity_mark.c.is_final),
        )
    )


def _lift(db: Connection, which: Any, at: datetime, by: str) -> int:
    standing = schema.halt.c.lifted_at.is_(None)
    return db.execute(update(schema.halt).where(standing, which).values(lifted_at=at, lifted_by=by)).rowcount


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
