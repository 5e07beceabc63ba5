"""Every question a book answers, on SQLAlchemy Core; and `SqlReader`, which asks them without leaving a trace.

The statements are composed once, on import: composing one costs more than SQLite takes to answer it. What varies is
bound by name when it is asked; `statements` runs them.
"""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import fields
from datetime import date, datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from sqlalchemy import (
    FromClause,
    Select,
    Text,
    and_,
    bindparam,
    case,
    func,
    or_,
    select,
    table,
    text,
    type_coerce,
)

from mtum_eod.adapters.store import schema
from mtum_eod.adapters.store.connect import Reading, read_copy, refusals
from mtum_eod.adapters.store.statements import Statement
from mtum_eod.core.ledger import SinceFlat
from mtum_eod.core.market import COLUMNS, StoredBars
from mtum_eod.core.trading import (
    Action,
    Book,
    CashFlow,
    Fill,
    Halt,
    Order,
    OrderIntent,
    OrderKind,
    OrderStatus,
    OwnerAct,
    Side,
    Split,
    Step,
)
from mtum_eod.ports import EquityMark, Notice, RecordedSignal, Records, RunRecord, SessionRow, UnsentNotice

T = TypeVar("T")


OF_ORDER = tuple(field.name for field in fields(Order) if field.name != "intent")
"""The columns of an order beside those of its intent."""


# -- questions --------------------------------------------------------------------------------------------------------


class Question(Generic[T]):
    """A statement, and what a row of its answer is read as: its columns are the arguments of `kind`, by name."""

    def __init__(self, kind: Callable[..., T], composed: Select[Any]) -> None:
        self.statement = Statement(composed)
        self._kind = kind
        self._names = tuple(str(column.key) for column in composed.selected_columns)

    def read(self, row: tuple[Any, ...]) -> T:
        """The row as its value."""
        return self._kind(**dict(zip(self._names, row, strict=True)))


def _fields(kind: type, source: FromClause, *more: str, **elsewhere: str) -> Select[Any]:
    """A SELECT of all fields of a dataclass, from columns of their names or of the other names given, and of `more`."""
    names = (*(field.name for field in fields(kind)), *more)
    return select(*(source.c[elsewhere[name]].label(name) if name in elsewhere else source.c[name] for name in names))


def _order(**row: Any) -> Order:
    of_order = {name: row.pop(name) for name in OF_ORDER}
    return Order(intent=OrderIntent(**row), **of_order)


def _unsent(id: int, told_at: datetime, last_tried_at: datetime | None, **rest: Any) -> UnsentNotice:  # noqa: A002
    counts = {name: rest.pop(name) for name in ("times_told", "attempts")}
    return UnsentNotice(id=id, notice=Notice(**rest), told_at=told_at, last_tried_at=last_tried_at, **counts)


def _running(held: int, earned: float, **fill: Any) -> tuple[int, float, Fill]:
    return held, earned, Fill(**fill)


_bar, _execution, _flow, _halt = schema.bar.c, schema.execution.c, schema.cash_flow.c, schema.halt.c
_row, _order_intent, _split, _basis = schema.session.c, schema.order_intent.c, schema.split.c, schema.entry_basis.c
_act, _notice, _signal, _mark, _run = (
    table.c for table in (schema.owner_act, schema.notice, schema.signal, schema.equity_mark, schema.run)
)

BOOK = Question(Book, _fields(Book, schema.book))
CAPITAL = Statement(select(schema.book.c.capital_usd).where(select(_execution.id).exists()))

# The index alone tells the newest revisions: only their rows are read. Sessions stay text: numpy reads many at once.
_newest_bars = (
    select(func.max(_bar.revision))
    .where(
        _bar.symbol == bindparam("symbol"),
        _bar.session.between(bindparam("first"), bindparam("last")),
        _bar.revision <= bindparam("revision"),
    )
    .group_by(_bar.session)
)
BARS = Statement(
    select(type_coerce(_bar.session, Text), *(_bar[name] for name in (*COLUMNS, "status")))
    .where(_bar.revision.in_(_newest_bars))
    .order_by(_bar.session)
)
NEWEST_REVISION = 2**63 - 1
BARS_REVISION = Statement(select(func.coalesce(func.max(_bar.revision), 0)))
BAR_AS_OF = Statement(
    select(_bar.as_of)
    .where(_bar.symbol == bindparam("symbol"), _bar.session == bindparam("session"))
    .order_by(_bar.revision.desc())
    .limit(1)
)

_fills = _fields(Fill, schema.execution).order_by(_execution.executed_at, _execution.id)
FILLS = Question(Fill, _fills)
FILLS_OF = Question(Fill, _fills.where(_execution.reference == bindparam("reference")))

_signed = case((_execution.side == Side.BUY, _execution.shares), else_=-_execution.shares)
_happened: dict[str, Any] = {"order_by": (_execution.executed_at, _execution.id), "rows": (None, 0)}
_ran = (
    _fields(Fill, schema.execution)
    .add_columns(
        func.row_number().over(order_by=_happened["order_by"]).label("place"),
        func.sum(_signed).over(**_happened).label("held"),
        func.sum(-_signed * _execution.price_usd - func.coalesce(_execution.commission_usd, 0.0))
        .over(**_happened)
        .label("earned"),
    )
    .where(_execution.session <= bindparam("up_to"))
    .cte("ran")
)
_short = select(func.min(_ran.c.place)).where(_ran.c.held < 0).scalar_subquery()  # the ledger has to see it
_flat = select(func.max(_ran.c.place)).where(_ran.c.held == 0, _ran.c.place < func.coalesce(_short, NEWEST_REVISION))
SINCE_FLAT = Question(
    _running,
    _fields(Fill, _ran, "held", "earned")
    .where(_ran.c.place >= func.coalesce(_flat.scalar_subquery(), 0))
    .order_by(_ran.c.place),
)

CASH_FLOWS = Question(CashFlow, _fields(CashFlow, schema.cash_flow).order_by(_flow.session, _flow.id))
SPLITS = Question(Split, _fields(Split, schema.split).order_by(_split.session))
SHARES_LEFT = Statement(select(schema.left_shares.c.shares).order_by(schema.left_shares.c.id.desc()).limit(1))

_orders = _fields(OrderIntent, schema.order_intent, *OF_ORDER)
_is_open = or_(*(_order_intent.status == status for status in OrderStatus if status.is_open))
ORDER = Question(_order, _orders.where(_order_intent.session == bindparam("session")))
OPEN_ORDERS = Question(_order, _orders.where(_is_open).order_by(_order_intent.session))

_acts = _fields(OwnerAct, schema.owner_act, at="acted_at", by="acted_by").order_by(_act.id)
ACTS = Question(OwnerAct, _acts)
ACTS_OF = Question(OwnerAct, _acts.where(_act.session == bindparam("session")))
HALTS = Question(
    Halt, _fields(Halt, schema.halt, by="halted_by").where(_halt.lifted_at.is_(None)).order_by(_halt.is_daily_loss)
)

IS_UNSENT = and_(_notice.is_to_send, _notice.sent_at.is_(None))
UNSENT = Question(
    _unsent,
    _fields(Notice, schema.notice, "id", "told_at", "times_told", "attempts", "last_tried_at")
    .where(IS_UNSENT)
    .order_by(_notice.id),
)
SENT_SINCE = Question(Notice, _fields(Notice, schema.notice).where(_notice.sent_at >= bindparam("at")))
TOLD_SINCE = Question(Notice, _fields(Notice, schema.notice).where(_notice.told_at >= bindparam("at")))

_rows = _fields(SessionRow, schema.session)
LEDGER = Question(
    SessionRow, _rows.where(_row.session.between(bindparam("first"), bindparam("last"))).order_by(_row.session)
)
LAST_ROW = Question(SessionRow, _rows.order_by(_row.session.desc()).limit(1))
UNSETTLED = Question(SessionRow, _rows.where(~_row.is_settled).order_by(_row.session))

_newest_signal = select(_signal.id).where(_signal.session == bindparam("session")).order_by(_signal.id.desc()).limit(1)
SIGNAL = Question(
    RecordedSignal,
    select(
        _signal.session,
        _signal.document,
        schema.settings_version.c.settings,
        _signal.inputs,
        _signal.bars_revision,
    )
    .join(schema.settings_version, schema.settings_version.c.id == _signal.settings_id)
    .where(_signal.id == _newest_signal.scalar_subquery()),
)
ENTRY_ATR = Statement(
    select(
        select(_basis.atr).where(_basis.entry_session == bindparam("session")).scalar_subquery(),
        select(_signal.document).where(_signal.id == _newest_signal.scalar_subquery()).scalar_subquery(),
    )
)
EXIT_DECIDED = Statement(
    select(_signal.session, _signal.document)
    .where(
        _signal.session > bindparam("entry_session"),
        func.json_extract(_signal.document, "$.action") == str(Action.SELL),
    )
    .order_by(_signal.session, _signal.id)
    .limit(1)
)
EXIT_ORDERED = Statement(
    select(_order_intent.session, _order_intent.reference)
    .where(
        _order_intent.session > bindparam("entry_session"),
        _order_intent.side == Side.SELL,
        _order_intent.kind != OrderKind.FLATTEN,
    )
    .order_by(_order_intent.session)
    .limit(1)
)

_marks = _fields(EquityMark, schema.equity_mark)
MARKS = Question(
    EquityMark, _marks.where(_mark.session.between(bindparam("first"), bindparam("last"))).order_by(_mark.session)
)
PROVISIONAL = Question(EquityMark, _marks.where(~_mark.is_final).order_by(_mark.session))
LAST_MARK = Question(
    EquityMark, _marks.where(_mark.session < bindparam("before")).order_by(_mark.session.desc()).limit(1)
)

_runs = _fields(RunRecord, schema.run)
_newest_runs = select(func.max(_run.id)).where(_run.session == bindparam("session")).group_by(_run.step)
RUNS = Question(RunRecord, _runs.order_by(_run.id.desc()).limit(bindparam("count")))
LAST_RUNS = Question(RunRecord, _runs.where(_run.id.in_(_newest_runs)))
FIRST_RUN = Question(
    RunRecord,
    _runs.where(_run.session == bindparam("session"), _run.step == bindparam("step")).order_by(_run.id).limit(1),
)


def bars_of(rows: Sequence[tuple[Any, ...]]) -> StoredBars:
    """Rows of session, prices, volume and status, ascending, as a table."""
    days, *numbers, statuses = zip(*rows, strict=True) if rows else [()] * (len(COLUMNS) + 2)
    return StoredBars(
        days=np.array(days, dtype="datetime64[D]"),
        values=np.array(numbers, dtype="float64").T,
        statuses=np.array(statuses, dtype=object),
    )


# -- answers ----------------------------------------------------------------------------------------------------------


class BookQueries(ABC):
    """Every question a BookReader answers, each one statement."""

    @abstractmethod
    def rows(self, statement: Statement, **values: Any) -> Sequence[tuple[Any, ...]]:
        """All rows of one statement, from one state of the database. Raises StoreError."""

    def _all(self, question: Question[T], **values: Any) -> list[T]:
        return [question.read(row) for row in self.rows(question.statement, **values)]

    def _first(self, question: Question[T], **values: Any) -> T | None:
        return next(iter(self._all(question, **values)), None)

    def book(self) -> Book | None:
        return self._first(BOOK)

    def capital(self) -> float | None:
        return next((float(usd) for (usd,) in self.rows(CAPITAL)), None)

    def bars(self, symbol: str, first: date, last: date, revision: int | None = None) -> StoredBars:
        newest = NEWEST_REVISION if revision is None else revision
        return bars_of(self.rows(BARS, symbol=symbol, first=first, last=last, revision=newest))

    def bars_revision(self) -> int:
        return int(self.rows(BARS_REVISION)[0][0])

    def bar_as_of(self, symbol: str, session: date) -> datetime | None:
        return next((as_of for (as_of,) in self.rows(BAR_AS_OF, symbol=symbol, session=session)), None)

    def fills(self) -> list[Fill]:
        return self._all(FILLS)

    def fills_of(self, reference: str) -> list[Fill]:
        return self._all(FILLS_OF, reference=reference)

    def since_flat(self, up_to: date | None = None) -> SinceFlat:
        found = self._all(SINCE_FLAT, up_to=up_to or date.max)
        realised = 0.0
        if found and found[0][0] == 0:  # the execution that closed the last round trip
            realised = found.pop(0)[1]
        return SinceFlat(realised=realised, fills=tuple(fill for _, _, fill in found))

    def cash_flows(self) -> list[CashFlow]:
        return self._all(CASH_FLOWS)

    def order(self, session: date) -> Order | None:
        return self._first(ORDER, session=session)

    def splits(self) -> list[Split]:
        return self._all(SPLITS)

    def shares_left(self) -> float:
        return next((float(shares) for (shares,) in self.rows(SHARES_LEFT)), 0.0)

    def entry_atr(self, entry_session: date) -> float | None:
        basis, entry = self.rows(ENTRY_ATR, session=entry_session)[0]
        atr = entry["atr"] if basis is None and entry else basis
        return None if atr is None else float(atr)

    def acts(self, session: date | None = None) -> list[OwnerAct]:
        return self._all(ACTS) if session is None else self._all(ACTS_OF, session=session)

    def unsent_notices(self) -> list[UnsentNotice]:
        return self._all(UNSENT)

    def sent_since(self, at: datetime) -> set[Notice]:
        return set(self._all(SENT_SINCE, at=at))

    def told_since(self, at: datetime) -> set[Notice]:
        return set(self._all(TOLD_SINCE, at=at))

    def open_orders(self) -> list[Order]:
        return self._all(OPEN_ORDERS)

    def halts(self) -> list[Halt]:
        return self._all(HALTS)

    def ledger(self, first: date | None = None, last: date | None = None) -> list[SessionRow]:
        return self._all(LEDGER, first=first or date.min, last=last or date.max)

    def last_row(self) -> SessionRow | None:
        return self._first(LAST_ROW)

    def unsettled_rows(self) -> list[SessionRow]:
        return self._all(UNSETTLED)

    def signal(self, session: date) -> RecordedSignal | None:
        return self._first(SIGNAL, session=session)

    def exit_decided_since(self, entry_session: date) -> tuple[date, str] | None:
        decided = self.rows(EXIT_DECIDED, entry_session=entry_session)
        # Of a decision that a restored backup has forgotten, its order may be all there is.
        ordered = self.rows(EXIT_ORDERED, entry_session=entry_session)
        exits = [(session, str(document["reason"])) for session, document in decided]
        exits += [(session, f"order {reference}") for session, reference in ordered]
        return min(exits, key=lambda exit_: exit_[0], default=None)

    def equity_marks(self, first: date | None = None, last: date | None = None) -> list[EquityMark]:
        return self._all(MARKS, first=first or date.min, last=last or date.max)

    def provisional_marks(self) -> list[EquityMark]:
        return self._all(PROVISIONAL)

    def last_equity(self, before: date) -> EquityMark | None:
        return self._first(LAST_MARK, before=before)

    def last_runs(self, session: date) -> dict[Step, RunRecord]:
        return {run.step: run for run in self._all(LAST_RUNS, session=session)}

    def first_run(self, session: date, step: Step) -> RunRecord | None:
        return self._first(FIRST_RUN, session=session, step=step)

    def runs(self, limit: int) -> list[RunRecord]:
        return self._all(RUNS, count=limit)

    def view(self, name: str) -> Records:
        """As the port says. Raises StoreError."""
        rows = self.rows(Statement(select(text("*")).select_from(table(name))))
        columns = self.rows(Statement(select(text("name")).select_from(text(f"pragma_table_info('{name}')"))))
        return Records(columns=tuple(column for (column,) in columns), rows=tuple(rows))


class SqlReader(BookQueries):
    """A BookReader that leaves no trace beside the database, also while another process writes."""

    def __init__(self, path: Path, reading: Reading) -> None:
        self._path = path
        self._reading = reading

    def rows(self, statement: Statement, **values: Any) -> Sequence[tuple[Any, ...]]:
        with refusals(self._path):
            try:
                rows = statement.rows(self._reading.db, values)
            except sqlite3.Error:
                if self._reading.is_current():
                    raise
            else:
                if self._reading.is_current():
                    return rows
            # Another process wrote into the file under our hands: what was read may be torn.
            self.close()
            self._reading = read_copy(self._path)
            return statement.rows(self._reading.db, values)

    def close(self) -> None:
        """Close the database."""
        self._reading.close()
