"""The book in memory: a Store that passes the suite of the real one and costs a simulated session next to nothing.

It is a second writing of the same rules, by other means: no SQL, no text forms, the views worked out in Python. So it
also serves as the model that the real store is held against, see tests/adapters/test_store_sequences.py.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import islice
from math import isnan
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from mtum_eod.core.ledger import SinceFlat, rescale
from mtum_eod.core.market import COLUMNS, BarStatus, DailyBars, StoredBars
from mtum_eod.core.trading import (
    Book,
    CashFlow,
    Fill,
    Halt,
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
from mtum_eod.errors import OrderStateUnknown, SettingsError, StoreError
from mtum_eod.ports import EquityMark, Notice, RecordedSignal, Recording, RunRecord, SessionRow, UnsentNotice
from simulation.fake_views import FakeViews

STATUSES = np.array([str(status) for status in BarStatus], dtype=object)
"""By rank: how far a bar is on its way to final."""

RANKS = {status: rank for rank, status in enumerate(BarStatus)}

NO_END = 1 << 62
"""Larger than any number of a row."""

Key = TypeVar("Key", bound=Any)
Row = TypeVar("Row")
Undo = list[Callable[[], None]]


class Table(Generic[Key, Row]):
    """Rows by key, ascending, and which of them are `marked`; each change notes how it is taken back."""

    def __init__(self, undo: Undo, is_marked: Callable[[Row], bool] = lambda row: False) -> None:  # noqa: ARG005
        self.undo = undo
        self.is_marked = is_marked
        self.rows: dict[Key, Row] = {}
        self.keys: list[Key] = []
        self.marked_keys: list[Key] = []
        self.version = 0

    def put(self, key: Key, row: Row) -> None:
        old = self.rows.get(key)
        self.undo.append(lambda: self._set(key, old))
        self._set(key, row)

    def drop(self, key: Key) -> None:
        old = self.rows[key]
        self.undo.append(lambda: self._set(key, old))
        self._set(key, None)

    def add(self, row: Row) -> int:
        """Put a row under the next number."""
        number = self.keys[-1] + 1 if self.keys else 1
        self.put(number, row)
        return int(number)

    def __iter__(self) -> Iterator[Row]:
        return (self.rows[key] for key in self.keys)

    def between(self, first: Key | None, last: Key | None) -> list[Row]:
        begin = 0 if first is None else bisect_left(self.keys, first)
        end = len(self.keys) if last is None else bisect_right(self.keys, last)
        return [self.rows[key] for key in self.keys[begin:end]]

    def before(self, key: Key) -> Row | None:
        """The last row whose key is smaller."""
        place = bisect_left(self.keys, key)
        return self.rows[self.keys[place - 1]] if place else None

    def marked(self) -> list[Row]:
        return [self.rows[key] for key in self.marked_keys]

    def image(self) -> tuple[Any, ...]:
        return dict(self.rows), list(self.keys), list(self.marked_keys)

    def put_back(self, image: tuple[Any, ...]) -> None:
        self.version += 1
        self.rows, self.keys, self.marked_keys = dict(image[0]), list(image[1]), list(image[2])

    def _set(self, key: Key, row: Row | None) -> None:
        self.version += 1
        old = self.rows.get(key)
        if row is None:
            del self.rows[key]
            self.keys.remove(key)
        else:
            self.rows[key] = row
            if old is None:
                insort(self.keys, key)
        was, will = old is not None and self.is_marked(old), row is not None and self.is_marked(row)
        if was and not will:
            self.marked_keys.remove(key)
        elif will and not was:
            insort(self.marked_keys, key)


class Bars:
    """Every bar of one symbol that was ever written, in the order they were: the last of a session is the newest."""

    def __init__(self) -> None:
        self.count = 0
        self.revisions = np.empty(1024, dtype=np.int64)
        self.days = np.empty(1024, dtype="datetime64[D]")
        self.numbers = np.empty((1024, len(COLUMNS)))
        self.ranks = np.empty(1024, dtype=np.int8)
        self.as_of = np.empty(1024, dtype="datetime64[us]")
        self.latest = np.empty(0, dtype=np.intp)  # where the newest bar of each session stands, ascending by session

    def add(self, revisions: Any, days: Any, numbers: Any, ranks: Any, as_of: datetime) -> None:
        end = self.count + len(days)
        while end > len(self.days):
            for name in ("revisions", "days", "numbers", "ranks", "as_of"):
                setattr(self, name, np.concatenate([getattr(self, name)] * 2))
        added = slice(self.count, end)
        self.revisions[added], self.days[added] = revisions, days
        self.numbers[added], self.ranks[added] = numbers, ranks
        self.as_of[added] = as_of.astimezone(UTC).replace(tzinfo=None)  # numpy knows no zones
        self.latest = self._last_of_each(np.append(self.latest, np.arange(self.count, end)))
        self.count = end

    def newest(self, first: Any, last: Any, revision: int | None = None) -> npt.NDArray[np.intp]:
        """Where the newest bar of each session from `first` to `last` stands, ascending by session."""
        known = self.latest
        if revision is not None:
            known = self._last_of_each(np.flatnonzero(self.revisions[: self.count] <= revision))
        days = self.days[known]
        return known[np.searchsorted(days, first) : np.searchsorted(days, last, side="right")]

    def _last_of_each(self, found: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        """Of these places, written later and later, the last one of each session."""
        found = found[np.argsort(self.days[found], kind="stable")]
        days = self.days[found]
        is_last = np.ones(len(found), dtype=bool)
        is_last[:-1] = days[1:] > days[:-1]
        return found[is_last]


@dataclass(frozen=True, slots=True)
class Signal:
    """A decision as it was written."""

    id: int
    recorded: RecordedSignal
    drift: str | None = None


@dataclass(frozen=True, slots=True)
class Intent:
    """An order, and the signal it came from."""

    order: Order
    signal_id: int | None


@dataclass(frozen=True, slots=True)
class Run:
    """A run, and how often it had to ask again."""

    record: RunRecord
    retries: int = 0


@dataclass(frozen=True, slots=True)
class Kept:
    """A message."""

    notice: UnsentNotice
    is_to_send: bool
    is_sent: bool = False

    @property
    def is_waiting(self) -> bool:
        return self.is_to_send and not self.is_sent


class FakeStore(FakeViews):
    """A Store without a file. `image` and `put_back` are its backup and its restore."""

    def __init__(self) -> None:
        self._undo: Undo = []
        self._depth = 0
        self._book: Book | None = None
        self._bars: dict[str, Bars] = {}
        self._bars_revision = 0
        self._runs: Table[int, Run] = Table(self._undo)
        self._first_runs: Table[tuple[date, Step], int] = Table(self._undo)
        self._last_runs: Table[date, dict[Step, int]] = Table(self._undo)
        self._signals: Table[tuple[date, int], Signal] = Table(self._undo, _sells)
        self._ledger: Table[date, SessionRow] = Table(self._undo, lambda row: not row.is_settled)
        self._orders: Table[date, Intent] = Table(self._undo, lambda intent: intent.order.status.is_open)
        self._sessions: Table[str, date] = Table(self._undo)  # of an order, by its reference
        self._fills: Table[int, Fill] = Table(self._undo)
        self._fill_numbers: Table[str, int] = Table(self._undo)  # by execution id
        self._splits: Table[date, Split] = Table(self._undo)
        self._bases: Table[date, tuple[float, float]] = Table(self._undo)
        self._left: Table[int, float] = Table(self._undo)
        self._acts: Table[int, OwnerAct] = Table(self._undo)
        self._flows: Table[int, CashFlow] = Table(self._undo)
        self._halts: Table[bool, Halt] = Table(self._undo)
        self._notices: Table[int, Kept] = Table(self._undo, lambda kept: kept.is_waiting)
        self._sent: Table[tuple[datetime, int], Notice] = Table(self._undo)
        self._marks: Table[date, EquityMark] = Table(self._undo, lambda mark: not mark.is_final)
        self._fills_in_order: tuple[int, list[Fill]] = (0, [])
        self._flat_answers: tuple[int, dict[date | None, SinceFlat]] = (0, {})

    def close(self) -> None:
        """Nothing is open."""

    # -- several writes as one ----------------------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[None]:
        begun = len(self._undo)
        self._depth += 1
        try:
            yield
        except BaseException:
            while len(self._undo) > begun:
                self._undo.pop()()
            raise
        finally:
            self._depth -= 1
            if self._depth == 0:
                self._undo.clear()

    def image(self) -> dict[str, Any]:
        """Everything in the book now."""
        tables = {name: table.image() for name, table in vars(self).items() if isinstance(table, Table)}
        bars = {symbol: deepcopy(bars) for symbol, bars in self._bars.items()}
        return tables | {"book": self._book, "bars": bars, "revision": self._bars_revision}

    def put_back(self, image: Mapping[str, Any]) -> None:
        """The book as it was in `image`."""
        for name, table in vars(self).items():
            if isinstance(table, Table):
                table.put_back(image[name])
        self._book, self._bars_revision = image["book"], image["revision"]
        self._bars = deepcopy(image["bars"])

    # -- reading ------------------------------------------------------------------------------------------------------

    def book(self) -> Book | None:
        return self._book

    def bars(self, symbol: str, first: date, last: date, revision: int | None = None) -> StoredBars:
        bars = self._bars.get(symbol) or Bars()
        found = bars.newest(np.datetime64(first), np.datetime64(last), revision)
        return StoredBars(days=bars.days[found], values=bars.numbers[found], statuses=STATUSES[bars.ranks[found]])

    def bars_revision(self) -> int:
        return self._bars_revision

    def bar_as_of(self, symbol: str, session: date) -> datetime | None:
        bars = self._bars.get(symbol) or Bars()
        found = bars.newest(np.datetime64(session), np.datetime64(session))
        return bars.as_of[found[0]].item().replace(tzinfo=UTC) if len(found) else None

    def fills(self) -> list[Fill]:
        version, fills = self._fills_in_order
        if version != self._fills.version:
            fills = sorted(self._fills, key=lambda fill: fill.executed_at)  # stable: by number where at one instant
            self._fills_in_order = (self._fills.version, fills)
        return list(fills)

    def fills_of(self, reference: str) -> list[Fill]:
        return [fill for fill in self.fills() if fill.reference == reference]

    def since_flat(self, up_to: date | None = None) -> SinceFlat:
        version, answers = self._flat_answers
        if version != self._fills.version:
            self._flat_answers = (self._fills.version, answers := {})
        if up_to not in answers:
            answers[up_to] = self._since_flat(up_to)
        return answers[up_to]

    def _since_flat(self, up_to: date | None) -> SinceFlat:
        realised, closed, fills, held = 0.0, 0.0, [], 0
        for fill in self.fills():
            if up_to is None or fill.session <= up_to:
                signed = fill.side.sign * fill.shares
                held, realised = held + signed, realised - signed * fill.price_usd - (fill.commission_usd or 0.0)
                fills.append(fill)
                if held < 0:  # what follows a sale of shares nobody had is for the ledger to see
                    held = -NO_END
                if held == 0:
                    closed, fills = realised, []
        return SinceFlat(realised=closed, fills=tuple(fills))

    def capital(self) -> float | None:
        return self._book.capital_usd if self._book and self._fills.keys else None

    def cash_flows(self) -> list[CashFlow]:
        return sorted(self._flows, key=lambda flow: flow.session)

    def order(self, session: date) -> Order | None:
        intent = self._orders.rows.get(session)
        return intent.order if intent else None

    def splits(self) -> list[Split]:
        return list(self._splits)

    def shares_left(self) -> float:
        return self._left.before(NO_END) or 0.0

    def entry_atr(self, entry_session: date) -> float | None:
        if entry_session in self._bases.rows:
            return self._bases.rows[entry_session][0]
        entry = self.signal(entry_session)
        return entry.document["atr"] if entry else None

    def acts(self, session: date | None = None) -> list[OwnerAct]:
        return [act for act in self._acts if session is None or act.session == session]

    def unsent_notices(self) -> list[UnsentNotice]:
        return [kept.notice for kept in self._notices.marked()]

    def sent_since(self, at: datetime) -> set[Notice]:
        return set(self._sent.between((at, 0), None))

    def told_since(self, at: datetime) -> set[Notice]:
        return {kept.notice.notice for kept in self._notices if kept.notice.told_at >= at}

    def open_orders(self) -> list[Order]:
        return [intent.order for intent in self._orders.marked()]

    def halts(self) -> list[Halt]:
        return list(self._halts)

    def ledger(self, first: date | None = None, last: date | None = None) -> list[SessionRow]:
        return self._ledger.between(first, last)

    def last_row(self) -> SessionRow | None:
        return self._ledger.before(date.max)

    def unsettled_rows(self) -> list[SessionRow]:
        return self._ledger.marked()

    def signal(self, session: date) -> RecordedSignal | None:
        newest = self._signals.before((session, NO_END))
        return newest.recorded if newest and newest.recorded.session == session else None

    def exit_decided_since(self, entry_session: date) -> tuple[date, str] | None:
        sells = self._signals.marked_keys
        place, found = bisect_left(sells, (entry_session, NO_END)), []
        if place < len(sells):
            recorded = self._signals.rows[sells[place]].recorded
            found.append((recorded.session, recorded.document["reason"]))
        after = (intent.order.intent for intent in self._orders.between(entry_session + timedelta(days=1), None))
        sales = (order for order in after if order.side is Side.SELL and order.kind is not OrderKind.FLATTEN)
        found += [(order.session, f"order {order.reference}") for order in islice(sales, 1)]
        return min(found, key=lambda exit_: exit_[0], default=None)

    def equity_marks(self, first: date | None = None, last: date | None = None) -> list[EquityMark]:
        return self._marks.between(first, last)

    def provisional_marks(self) -> list[EquityMark]:
        return self._marks.marked()

    def last_equity(self, before: date) -> EquityMark | None:
        return self._marks.before(before)

    def last_runs(self, session: date) -> dict[Step, RunRecord]:
        numbers = self._last_runs.rows.get(session, {})
        return {step: self._runs.rows[number].record for step, number in numbers.items()}

    def first_run(self, session: date, step: Step) -> RunRecord | None:
        number = self._first_runs.rows.get((session, step))
        return None if number is None else self._runs.rows[number].record

    def runs(self, limit: int) -> list[RunRecord]:
        return [self._runs.rows[number].record for number in self._runs.keys[: -limit - 1 : -1]]

    # -- writing ------------------------------------------------------------------------------------------------------

    def start_run(self, step: Step, session: date | None, at: datetime) -> int:
        with self.transaction():
            number = len(self._runs.keys) + 1
            record = RunRecord(
                id=number,
                step=step,
                session=session,
                started_at=at,
                ended_at=None,
                outcome="",
                exit_code=None,
                error="",
            )
            self._runs.put(number, Run(record))
            if session is not None:
                self._last_runs.put(session, {**self._last_runs.rows.get(session, {}), step: number})
                if (session, step) not in self._first_runs.rows:
                    self._first_runs.put((session, step), number)
        return number

    def end_run(
        self,
        run_id: int,
        at: datetime,
        outcome: str,
        exit_code: int,
        error: str = "",
        retries: int = 0,
        document: dict[str, Any] | None = None,  # noqa: ARG002 (no read gives it back)
    ) -> None:
        run = self._runs.rows.get(run_id)
        if run is not None:
            record = replace(run.record, ended_at=at, outcome=outcome, exit_code=exit_code, error=error)
            with self.transaction():
                self._runs.put(run_id, Run(record, retries))

    def record(self, recording: Recording) -> None:
        with self.transaction():
            self._bind(recording.book)
            self.add_bars(recording.bars)
            signal_id = self._write_signal(recording)
            self._write_row(recording.row)
            if recording.intent is not None:
                self._write_intent(recording, recording.intent, signal_id)

    def bind(self, book: Book, at: datetime) -> None:  # noqa: ARG002
        with self.transaction():
            self._bind(book)

    def _bind(self, book: Book) -> None:
        bound = self._book
        if bound is not None and not bound.matches(book):
            raise SettingsError(
                f"the book here is {bound.name}; this run is for {book.name}",
                hint=f"use another database: MTUM_EOD_DATABASE__URL=sqlite:///mtum-eod-{book.mode}.db",
            )
        if bound is not None:
            capital = bound.capital_usd if self._fills.rows else book.capital_usd
            book = replace(bound, account=bound.account or book.account, capital_usd=capital)
        _demand(book.capital_usd > 0, "capital is positive")
        self._undo.append(partial(setattr, self, "_book", bound))
        self._book = book

    def _write_signal(self, recording: Recording) -> int | None:
        if recording.signal is None:
            return None
        self._demand_run(recording.run_id)
        number = len(self._signals.keys) + 1
        recorded = RecordedSignal(
            session=recording.row.session,
            document=_as_json(recording.signal),
            settings=_as_json(recording.settings),
            inputs=json.loads(json.dumps(recording.inputs)),
            bars_revision=self._bars_revision,
        )
        self._signals.put((recording.row.session, number), Signal(number, recorded))
        return number

    def _write_row(self, row: SessionRow) -> None:
        old = self._ledger.rows.get(row.session)
        if old and old.status is SessionStatus.MISSED and row.status is SessionStatus.DECIDED:
            raise SettingsError(
                f"session {row.session} stands in the ledger as missed; it cannot be decided any more",
                hint=f"see what it would have been with `mtum-eod run --date {row.session} --dry-run`",
            )
        if old is None:
            self._ledger.put(row.session, row)
        elif old.status is SessionStatus.SKIPPED and row.status is not SessionStatus.MISSED:
            self._ledger.put(row.session, replace(row, is_settled=old.is_settled or row.is_settled))

    def _write_intent(self, recording: Recording, intent: OrderIntent, signal_id: int | None) -> None:
        first = self.order(intent.session)
        if first is not None:
            raise OrderStateUnknown(
                f"a second order for session {intent.session} was refused: {intent.reference} after "
                f"{first.intent.reference}",
                hint="a session has one order at most; see what became of it with `mtum-eod status`",
            )
        _demand(intent.shares > 0 and not isnan(intent.decision_price_usd), "an order has shares and a price")
        _demand(intent.reference not in self._sessions.rows, "a reference is an order's own")
        self._demand_run(recording.run_id)
        order = Order(intent=intent, status=OrderStatus.INTENT, intended_at=recording.recorded_at)
        self._orders.put(intent.session, Intent(order, signal_id))
        self._sessions.put(intent.reference, intent.session)

    def _demand_run(self, run_id: int) -> None:
        _demand(run_id in self._runs.rows, "what is recorded belongs to a run")

    def update_order(
        self,
        reference: str,
        status: OrderStatus,
        at: datetime,  # noqa: ARG002 (no read gives it back)
        *,
        order_id: int | None = None,
        perm_id: int | None = None,
        order_type: OrderType | None = None,
        kind: OrderKind | None = None,
        filled_shares: int | None = None,
        words: str = "",
    ) -> None:
        session = self._sessions.rows.get(reference)
        if session is None:
            raise OrderStateUnknown(
                f"order {reference} is {status} at the broker, but not on record",
                hint="look at the broker's own order list, then at `mtum-eod status`",
            )
        old = self._orders.rows[session]
        changes = {"order_id": order_id, "order_type": order_type, "kind": kind}
        intent = replace(old.order.intent, **{name: value for name, value in changes.items() if value is not None})
        said = {"perm_id": perm_id, "filled_shares": filled_shares}
        said = {name: value for name, value in said.items() if value is not None}
        order = replace(old.order, intent=intent, status=status, words=words, **said)
        with self.transaction():
            self._orders.put(session, Intent(order, old.signal_id))

    def add_fills(self, fills: Sequence[Fill]) -> None:
        with self.transaction():
            for fill in fills:
                _demand(fill.shares > 0 and fill.price_usd > 0, "an execution has shares and a price")
                number = self._fill_numbers.rows.get(fill.execution_id)
                if number is None:
                    self._fill_numbers.put(fill.execution_id, self._fills.add(fill))
                elif (old := self._fills.rows[number]).revision == fill.revision and old.commission_usd is None:
                    self._fills.put(number, replace(old, commission_usd=fill.commission_usd))
            for fill in fills:
                number = self._fill_numbers.rows[fill.execution_id]
                old = self._fills.rows[number]
                if old.revision < fill.revision:
                    # what it belongs to stays
                    self._fills.put(number, replace(fill, reference=old.reference, session=old.session))

    def replace_estimates(self, reference: str, fills: Sequence[Fill]) -> None:
        with self.transaction():
            for fill in list(self._fills):
                if fill.reference == reference and fill.is_estimated:
                    self._fills.drop(self._fill_numbers.rows[fill.execution_id])
                    self._fill_numbers.drop(fill.execution_id)
            self.add_fills(fills)

    def adopt(self, fill: Fill, entry_atr: float, atr_multiplier: float, at: datetime) -> None:  # noqa: ARG002
        with self.transaction():
            self.add_fills([fill])
            self._write_basis(fill.session, entry_atr, atr_multiplier)

    def _write_basis(self, entry_session: date, atr: float, atr_multiplier: float) -> None:
        _demand(atr > 0 and atr_multiplier > 0, "an ATR and its multiplier are positive")
        self._bases.put(entry_session, (atr, atr_multiplier))

    def leave(self, shares: float, at: datetime) -> None:  # noqa: ARG002
        with self.transaction():
            _demand(shares >= 0, "shares left are not negative")
            self._left.add(shares)

    def split(self, split: Split, at: datetime) -> None:  # noqa: ARG002
        with self.transaction():
            _demand(split.ratio > 0, "a split has a ratio")
            that_day = self._splits.rows.get(split.session)
            of_both = replace(split, ratio=split.ratio * that_day.ratio) if that_day else split
            self._splits.put(split.session, of_both)
            entry = rescale(self.since_flat(split.eve).fills, split.ratio)
            for fill in entry:
                self._fills.put(self._fill_numbers.rows[fill.execution_id], fill)
            if entry:
                atr, multiplier = self._basis(entry[0].session, self.signal(entry[0].session))
                if atr is not None:
                    self._write_basis(entry[0].session, atr / split.ratio, multiplier)

    def _basis(self, entry_session: date, signal: RecordedSignal | None) -> tuple[Any, Any]:
        """ATR at entry and its multiplier; None and None where no decision entered."""
        if entry_session in self._bases.rows:
            return self._bases.rows[entry_session]
        return (signal.document["atr"], signal.settings["strategy"]["atr_multiplier"]) if signal else (None, None)

    def add_act(self, act: OwnerAct) -> None:
        with self.transaction():
            self._acts.add(act)

    def settle(
        self,
        session: date,
        at: datetime,  # noqa: ARG002
        marks: Sequence[EquityMark],
        *,
        is_settled: bool,
        drift_actions: Mapping[date, str],
    ) -> None:
        with self.transaction():
            for mark in marks:
                numbers = (mark.cash, mark.position_value, mark.value, mark.realised, mark.unrealised)
                _demand(not any(map(isnan, numbers)), "a mark is made of numbers")
                old = self._marks.rows.get(mark.session)
                if old is None or mark.is_final or not old.is_final:
                    self._marks.put(mark.session, mark)
            row = self._ledger.rows.get(session)
            if is_settled and row:
                self._ledger.put(session, replace(row, is_settled=True))
            for day, action in drift_actions.items():
                signal = self._signals.before((day, NO_END))
                if signal and signal.recorded.session == day:
                    self._signals.put((day, signal.id), replace(signal, drift=action))

    def add_rows(self, rows: Sequence[SessionRow], at: datetime) -> None:  # noqa: ARG002
        with self.transaction():
            for row in rows:
                if row.session not in self._ledger.rows:
                    self._ledger.put(row.session, row)

    def add_bars(self, bars: Sequence[DailyBars]) -> int:
        with self.transaction():
            return sum(self._add_bars(read) for read in bars)

    def _add_bars(self, read: DailyBars) -> int:
        if read.is_empty:
            return 0
        bars = self._bars.setdefault(read.symbol, Bars())
        days, numbers = read.days, read.values
        newest = days.max()
        ranks = np.full(len(days), RANKS[BarStatus.FINAL])
        ranks[days == newest] = RANKS[read.last_status]
        found = bars.newest(days.min(), newest)
        same = np.zeros(len(days), dtype=bool)
        if len(found):
            place = np.minimum(np.searchsorted(bars.days[found], days), len(found) - 1)
            stored = found[place]
            old = bars.numbers[stored]
            near = (np.abs(old - numbers) <= 1e-9 * np.abs(old)) | (np.isnan(old) & np.isnan(numbers))
            same = (bars.days[stored] == days) & near.all(axis=1) & (ranks <= bars.ranks[stored])
        changed = np.flatnonzero(~same)
        if len(changed):
            self._undo.append(partial(setattr, bars, "count", bars.count))
            self._undo.append(partial(setattr, bars, "latest", bars.latest))
            self._undo.append(partial(setattr, self, "_bars_revision", self._bars_revision))
            revisions = self._bars_revision + 1 + np.arange(len(changed))
            bars.add(revisions, days[changed], numbers[changed], ranks[changed], read.as_of)
            self._bars_revision += len(changed)
        return len(changed)

    def add_cash_flow(self, flow: CashFlow, at: datetime) -> None:  # noqa: ARG002
        with self.transaction():
            _demand(flow.amount_usd > 0, "an amount is positive")
            self._flows.add(flow)

    def halt(self, halt: Halt) -> None:
        with self.transaction():
            self._halts.put(halt.is_daily_loss, halt)

    def resume(self, at: datetime, by: str) -> int:  # noqa: ARG002
        with self.transaction():
            standing = list(self._halts.keys)
            for kind in standing:
                self._halts.drop(kind)
        return len(standing)

    def add_notice(self, notice: Notice, at: datetime, run_id: int | None, *, is_to_send: bool) -> None:
        with self.transaction():
            said = (notice.event, notice.words)
            again = [told for told in self.unsent_notices() if (told.notice.event, told.notice.words) == said]
            for told in again if is_to_send else ():
                self._notices.put(told.id, Kept(replace(told, times_told=told.times_told + 1), is_to_send))
            if again and is_to_send:
                return
            if run_id is not None:
                self._demand_run(run_id)
            number = len(self._notices.keys) + 1
            told = UnsentNotice(id=number, notice=notice, told_at=at, times_told=1, attempts=0, last_tried_at=None)
            self._notices.put(number, Kept(told, is_to_send))

    def notice_tried(self, notice_id: int, at: datetime, *, is_sent: bool) -> None:
        kept = self._notices.rows.get(notice_id)
        if kept:
            tried = replace(kept.notice, attempts=kept.notice.attempts + 1, last_tried_at=at)
            with self.transaction():
                self._notices.put(notice_id, Kept(tried, kept.is_to_send, is_sent))
                if kept.is_sent:
                    self._sent.drop((kept.notice.last_tried_at, notice_id))
                if is_sent:
                    self._sent.put((at, notice_id), tried.notice)


def _demand(holds: bool, rule: str) -> None:
    """Refuse, as the tables' own constraints do."""
    if not holds:
        raise StoreError(f"the book refused: {rule}", hint="nothing of it was written")


def _as_json(document: dict[str, Any]) -> Any:
    """The document as it comes back from text."""
    try:
        return json.loads(json.dumps(document, allow_nan=False))
    except ValueError as error:
        raise StoreError(f"the book refused: {error}", hint="nothing of it was written") from error


def _sells(signal: Signal) -> bool:
    return signal.recorded.document.get("action") == "SELL"
