"""What the jobs need from outside, in our words. Adapters implement these; every implementation passes one suite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from mtum_eod.core.checks import Check
from mtum_eod.core.events import Beat as Beat
from mtum_eod.core.events import Event as Event  # a Notice has one, so it is named from here too
from mtum_eod.core.ledger import SinceFlat
from mtum_eod.core.market import DailyBars, StoredBars
from mtum_eod.core.money import Usd
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
    Split,
    Step,
)

T = TypeVar("T")


# -- time -------------------------------------------------------------------------------------------------------------


class Clock(Protocol):
    """The only source of the present."""

    def now(self) -> datetime:
        """The present instant, aware, UTC."""
        ...

    def sleep(self, duration: timedelta) -> None:
        """Let time pass."""
        ...


class Calendar(Protocol):
    """The exchange's sessions. Sessions are plain dates, instants aware and UTC.

    Every method raises SettingsError for a day outside `first_session` .. `last_session`: what lies beyond is
    unknown, not a holiday.
    """

    @property
    def first_session(self) -> date: ...

    @property
    def last_session(self) -> date: ...

    def is_session(self, day: date) -> bool:
        """Whether the exchange opens on that date."""
        ...

    def open(self, session: date) -> datetime:
        """When the session opens."""
        ...

    def close(self, session: date) -> datetime:
        """When the session closes; half days close early."""
        ...

    def sessions(self, first: date, last: date) -> list[date]:
        """The sessions from `first` to `last`, both included, ascending."""
        ...

    def window(self, session: date, count: int) -> list[date]:
        """The `count` sessions ending at `session`, ascending; fewer where the calendar starts later."""
        ...

    def nearest(self, day: date) -> tuple[date, date]:
        """The last session before `day` and the first after it."""
        ...

    def local_date(self, instant: datetime) -> date:
        """The date in the exchange's zone, whatever the server's zone."""
        ...

    def at(self, day: date, wall_time: str) -> datetime:
        """The instant of a wall time `HH:MM` at the exchange on that date."""
        ...


# -- market data ------------------------------------------------------------------------------------------------------


class MarketData(Protocol):
    """Where bars come from. Raises MarketDataError with the cure where a source cannot be read at all."""

    @property
    def name(self) -> str:
        """The source's name in settings, views and messages."""
        ...

    @property
    def is_synthetic(self) -> bool:
        """Whether the bars are made up; then they are marked so wherever they appear."""
        ...

    def daily(self, symbol: str, first: date, last: date, as_of: datetime) -> DailyBars:
        """Daily bars from `first` to `last` as known at `as_of`; nothing later is ever in the answer.

        The rows have the source's own order and faults; there is none where the source has none in the range.
        A last row of the session of `as_of` itself is PARTIAL before that session's close and PROVISIONAL after.
        """
        ...

    def volume_until(self, symbol: str, cuts: Mapping[date, datetime], as_of: datetime) -> dict[date, float]:
        """Regular-hours volume of each session from its open up to its cut, shares; unknown ones are absent."""
        ...


# -- the broker -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Known(Generic[T]):
    """A read that ended with the broker's own end mark; empty means empty."""

    value: T


@dataclass(frozen=True, slots=True)
class Unknown:
    """A read that failed or never ended. It says nothing, least of all 'none'."""

    why: str


Answer: TypeAlias = Known[T] | Unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerOrder:
    """An order as the broker reports it, working or done."""

    reference: str
    order_id: int | None  # absent from some lists
    perm_id: int | None
    status: OrderStatus
    filled_shares: int
    words: str = ""
    shares: int | None = None  # as ordered; absent from some lists, as is the type
    order_type: OrderType | None = None
    needs_person: bool = False  # refused or held back by the broker's word, though its lists have it as working

    @property
    def final_count(self) -> int | None:
        """The shares executed, by the broker's count; None while more may be, and where it counted none."""
        return None if self.status.is_open else self.filled_shares or None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cash:
    """USD at the broker. Never a base-currency total."""

    spendable_usd: Usd  # min(USD balance, available funds)
    settled_usd: Usd


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    """What the broker says of an order that is not placed."""

    is_accepted: bool
    words: str  # the broker's own: margin and commission, or why it would refuse


class Broker(Protocol):
    """Where orders go. Reads answer Known or Unknown; none of them raises for a silent broker."""

    @property
    def account(self) -> str: ...

    def finish_by(self, deadline: datetime) -> None:
        """From now on every wait for the broker ends at that instant, however long it could otherwise take."""
        ...

    def clock_ahead(self) -> Answer[timedelta]:
        """By how much this computer's clock is ahead of the broker's; negative where it is behind."""
        ...

    def inspect(self, session: date) -> Sequence[Check]:
        """The broker's own links of the chain: login, permissions, contract, hours, clock, data; reads only."""
        ...

    def contract(self, session: date) -> Sequence[Check]:
        """What `inspect` says of the contract alone: its listing, the order types it takes, the session's hours."""
        ...

    def what_if(self, intent: OrderIntent) -> Answer[WhatIf]:
        """What the broker would say to this order; nothing is placed."""
        ...

    @property
    def retries(self) -> int:
        """How often a connection or a read had to be repeated so far."""
        ...

    @property
    def reread_pause(self) -> timedelta:
        """How far apart two reads must lie before an order counts as surely absent."""
        ...

    def next_order_id(self) -> int:
        """The id the next order will use. Raises BrokerUnavailable."""
        ...

    def submit(self, intent: OrderIntent) -> BrokerOrder:
        """Send the order, once. Raises BrokerUnavailable where no acknowledgement came: the state is then unknown."""
        ...

    def cancel(self, reference: str) -> Answer[BrokerOrder]: ...

    def orders(self) -> Answer[list[BrokerOrder]]:
        """All orders of ours the broker still knows, working and done.

        And those without a reference, which may be the owner's: only a permanent id says whose they are.
        """
        ...

    def executions(self) -> Answer[list[Fill]]:
        """All executions of ours the broker still knows, with commissions where reported."""
        ...

    def shares_held(self, symbol: str) -> Answer[float]: ...

    def cash(self) -> Answer[Cash]: ...


# -- telling the owner ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One message to the owner."""

    event: Event
    words: str
    is_urgent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsentNotice:
    """A message that has not reached the owner yet; the same one told again counts up."""

    id: int
    notice: Notice
    told_at: datetime
    times_told: int
    attempts: int
    last_tried_at: datetime | None


class Notifier(Protocol):
    """Reaches the owner. Never raises and never delays a trade: what could not be sent is kept and sent later."""

    def tell(self, notice: Notice) -> None: ...

    def beat(self, beat: Beat, words: str = "") -> None:
        """Tell a watchman outside, whose alarm is silence, how a step goes."""
        ...


# -- the lock ---------------------------------------------------------------------------------------------------------


class Lock(Protocol):
    """One run at a time on a database."""

    def hold(self) -> AbstractContextManager[None]:
        """Hold it for the `with` block. Raises AlreadyRunning, naming the holder and since when."""
        ...


# -- the store --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRow:
    """The ledger's line for one session."""

    session: date
    status: SessionStatus
    why: str = ""
    is_settled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedSignal:
    """A decision as it was written, with what it was made from."""

    session: date
    document: dict[str, Any]  # the keys of `run --json`
    settings: dict[str, Any]  # of that day, as `settings.Settings` takes them
    inputs: dict[str, Any]  # what `jobs.replay` needs besides bars
    bars_revision: int  # bars as the store knew them then: see `BookReader.bars`


@dataclass(frozen=True, slots=True, kw_only=True)
class EquityMark:
    """The book's worth at one session's close, USD."""

    session: date
    cash: Usd
    position_value: Usd
    value: Usd
    realised: Usd
    unrealised: Usd
    is_final: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One run of one step, as filed."""

    id: int
    step: Step
    session: date | None
    started_at: datetime
    ended_at: datetime | None
    outcome: str
    exit_code: int | None
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """All rows of one view."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


class BookReader(Protocol):
    """Reading the book. An absent database reads as an empty book."""

    def book(self) -> Book | None: ...

    def bars(self, symbol: str, first: date, last: date, revision: int | None = None) -> StoredBars:
        """Stored bars from `first` to `last`.

        Bars are never overwritten: a change is a new row with a higher revision. With `revision` the answer is
        what was stored when that revision was the newest; without, the newest of each session.
        """
        ...

    def bars_revision(self) -> int:
        """The newest revision of any bar; 0 where none is stored."""
        ...

    def bar_as_of(self, symbol: str, session: date) -> datetime | None:
        """Up to when the newest stored bar of a session was known, UTC; None where none is stored."""
        ...

    def fills(self) -> list[Fill]:
        """All executions, in the order they happened."""
        ...

    def fills_of(self, reference: str) -> list[Fill]:
        """The executions of one order, in the order they happened."""
        ...

    def since_flat(self, up_to: date | None = None) -> SinceFlat:
        """The executions since the book last held nothing, those of sessions up to `up_to` alone counted."""
        ...

    def capital(self) -> Usd | None:
        """The capital that stands for a book that has traded; None while it has not."""
        ...

    def cash_flows(self) -> list[CashFlow]: ...

    def order(self, session: date) -> Order | None: ...

    def splits(self) -> list[Split]:
        """The splits the book has gone through, ascending."""
        ...

    def shares_left(self) -> float:
        """Shares of the symbol at the broker that are the owner's own: never counted, never sold."""
        ...

    def entry_atr(self, entry_session: date) -> float | None:
        """ATR at entry of a position entered in that session, USD a share of today's scale."""
        ...

    def acts(self, session: date | None = None) -> list[OwnerAct]:
        """What the owner did by hand, in order; of one session where one is given."""
        ...

    def unsent_notices(self) -> list[UnsentNotice]:
        """Messages still to be sent, oldest first."""
        ...

    def sent_since(self, at: datetime) -> set[Notice]:
        """Messages that have reached the owner since then."""
        ...

    def told_since(self, at: datetime) -> set[Notice]:
        """Messages kept since then, whether they have reached the owner or not."""
        ...

    def open_orders(self) -> list[Order]:
        """Orders something may still happen to, oldest first."""
        ...

    def halts(self) -> list[Halt]:
        """The standing ones: at most one manual halt and one daily-loss latch."""
        ...

    def ledger(self, first: date | None = None, last: date | None = None) -> list[SessionRow]:
        """The ledger's rows, ascending."""
        ...

    def last_row(self) -> SessionRow | None:
        """The newest row of the ledger."""
        ...

    def unsettled_rows(self) -> list[SessionRow]:
        """The ledger's rows whose session is not settled, ascending."""
        ...

    def signal(self, session: date) -> RecordedSignal | None: ...

    def exit_decided_since(self, entry_session: date) -> tuple[date, str] | None:
        """The first session after `entry_session` whose recorded action is SELL, with its reason in words.

        An order to sell says so too, but for the owner's own: a restored book may have no more of the decision.
        """
        ...

    def equity_marks(self, first: date | None = None, last: date | None = None) -> list[EquityMark]: ...

    def provisional_marks(self) -> list[EquityMark]:
        """The marks still waiting for their session's final bar, ascending."""
        ...

    def last_equity(self, before: date) -> EquityMark | None:
        """The newest mark of a session earlier than `before`."""
        ...

    def last_runs(self, session: date) -> dict[Step, RunRecord]:
        """The newest run of each step that was run for a session."""
        ...

    def first_run(self, session: date, step: Step) -> RunRecord | None:
        """The oldest run of a step for a session."""
        ...

    def runs(self, limit: int) -> list[RunRecord]:
        """The newest runs, newest first."""
        ...

    def view(self, name: str) -> Records:
        """All rows of one of the stable views, as SQL on the database would give them."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """Everything one decision writes; it becomes durable whole or not at all."""

    run_id: int
    book: Book
    row: SessionRow
    bars: Sequence[DailyBars]  # checked bars of the window; only what differs from the store is written
    signal: dict[str, Any] | None  # the document, None where nothing was decided
    settings: dict[str, Any]
    inputs: dict[str, Any]
    intent: OrderIntent | None
    recorded_at: datetime


class Store(BookReader, Protocol):
    """Writing the book. Each method is one transaction, durable when it returns; raises StoreError."""

    def bind(self, book: Book, at: datetime) -> None:
        """Bind what is unbound to this book, an account to what has none yet; capital is set until there is a trade.

        Raises SettingsError where it belongs to another book.
        """
        ...

    def start_run(self, step: Step, session: date | None, at: datetime) -> int: ...

    def end_run(
        self,
        run_id: int,
        at: datetime,
        outcome: str,
        exit_code: int,
        error: str = "",
        retries: int = 0,
        document: dict[str, Any] | None = None,
    ) -> None: ...

    def record(self, recording: Recording) -> None:
        """Bind the book as `bind` does; write bars, snapshot, settings, ledger row and order intent together."""
        ...

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
        """Where an order stands now. What is None stays as it is; the words belong to the status and are replaced."""
        ...

    def add_fills(self, fills: Sequence[Fill]) -> None:
        """Keyed by execution id: adding twice equals once; a late commission fills the gap it left.

        A higher revision takes its predecessor's place.
        """
        ...

    def replace_estimates(self, reference: str, fills: Sequence[Fill]) -> None:
        """Put what is now known of an order in the place of the estimated executions booked for it."""
        ...

    def adopt(self, fill: Fill, entry_atr: float, atr_multiplier: float, at: datetime) -> None:
        """Take shares bought by hand into the book, with the ATR (USD a share) of the session they count from."""
        ...

    def leave(self, shares: float, at: datetime) -> None:
        """From now on so many shares at the broker are the owner's own."""
        ...

    def split(self, split: Split, at: datetime) -> None:
        """Rescale what is held since before the split's session: its executions and its ATR at entry.

        What it cost stays the same. Raises StoreError where the shares would not come out whole.
        """
        ...

    def add_act(self, act: OwnerAct) -> None: ...

    def settle(
        self,
        session: date,
        at: datetime,
        marks: Sequence[EquityMark],
        *,
        is_settled: bool,
        drift_actions: Mapping[date, str],
    ) -> None:
        """The session's books closed: equity (of it and of earlier ones now final), and drift by session."""
        ...

    def add_rows(self, rows: Sequence[SessionRow], at: datetime) -> None:
        """Ledger rows for sessions that have none yet; existing ones stay."""
        ...

    def add_bars(self, bars: Sequence[DailyBars]) -> int:
        """Write what differs from the stored bars; returns how many rows were new or changed."""
        ...

    def add_cash_flow(self, flow: CashFlow, at: datetime) -> None: ...

    def halt(self, halt: Halt) -> None:
        """Stand still from now on; a second halt of the same kind replaces the first."""
        ...

    def resume(self, at: datetime, by: str) -> int:
        """Lift every standing halt; returns how many there were."""
        ...

    def add_notice(self, notice: Notice, at: datetime, run_id: int | None, *, is_to_send: bool) -> None:
        """Keep a message; one that is still to be sent and says the same is counted up instead."""
        ...

    def notice_tried(self, notice_id: int, at: datetime, *, is_sent: bool) -> None:
        """What came of sending a kept message."""
        ...

    def transaction(self) -> AbstractContextManager[None]:
        """Several writes as one: all of them become durable at the end of the block, or none."""
        ...
