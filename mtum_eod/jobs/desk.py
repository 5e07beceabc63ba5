"""What every job works with: the ports, the parameters, and whose book it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, tzinfo

from mtum_eod.core.checks import Check
from mtum_eod.core.ledger import Ledger, ledger
from mtum_eod.core.parameters import Parameters
from mtum_eod.core.timing import Timetable, timetable
from mtum_eod.core.trading import Book, OrderType
from mtum_eod.jobs.market import Sources
from mtum_eod.ports import BookReader, Broker, Calendar, Clock, MarketData, Notice, Notifier, SessionRow, Store


@dataclass(frozen=True, kw_only=True)
class Desk:
    """The real parts, or fakes of them, for a job that only looks: its type cannot record, send or tell.

    clock: the instant the session is lived at; a run over history sets it to that session's own times.
    wall_clock: the present; data are read as known then, and rows are stamped with it.
    """

    calendar: Calendar
    clock: Clock
    wall_clock: Clock
    prices: MarketData
    vix: MarketData
    broker: Broker
    store: BookReader
    book: Book
    parameters: Parameters
    zone: tzinfo | None = None
    """The owner's: times are told in it beside the exchange's, where it is another."""
    look_at_machine: Callable[[], Sequence[Check]] = tuple
    """The computer's own links of the chain, its disks for instance; nothing to look at unless given."""

    @property
    def sources(self) -> Sources:
        """Where market readings come from."""
        return Sources(
            calendar=self.calendar, prices=self.prices, vix=self.vix, store=self.store, symbol=self.book.symbol
        )

    def timetable(self, session: date, order_type: OrderType | None = None) -> Timetable:
        """The session's timetable under these parameters.

        order_type: of an order that is there already; its cut-off stays its own when the settings change.
        """
        p = self.parameters
        return timetable(
            session,
            self.calendar.open(session),
            self.calendar.close(session),
            p.schedule,
            require_confirmation=p.risk.require_confirmation,
            order_type=order_type or p.order_type,
        )

    def has_told(self, notice: Notice, session: date) -> bool:
        """Whether the owner was told that since the session's midnight."""
        return notice in self.store.told_since(self.calendar.at(session, "00:00"))

    def unsettled(self) -> list[SessionRow]:
        """The ledger's rows still to be settled, ascending.

        The row of a day that proved to be no session, an unplanned closure that the calendar learned of later, has no
        close to be settled at: it stays as it is, and in nobody's way.
        """
        return [row for row in self.store.unsettled_rows() if self.calendar.is_session(row.session)]

    def ledger(self, up_to: date | None = None) -> Ledger:
        """What the book's executions and cash flows add up to."""
        since = self.store.since_flat(up_to)
        flows = self.store.cash_flows()
        return ledger(self.capital, since.fills, flows, up_to=up_to, realised=since.realised)

    def shares(self) -> int:
        """The shares that the book's own executions add up to."""
        holding = self.ledger().holding
        return holding.shares if holding else 0

    @property
    def has_begun(self) -> bool:
        """Whether there is a book to put right: one whose account is known, with a session in its ledger."""
        bound = self.store.book()
        return bool(bound and bound.account and self.store.last_row())

    @property
    def capital(self) -> float:
        """The capital the book started with; while nothing has been traded, the settings' own."""
        traded = self.store.capital()
        return self.book.capital_usd if traded is None else traded


@dataclass(frozen=True, kw_only=True)
class TradingDesk(Desk):
    """A desk that records, sends and tells."""

    store: Store
    notifier: Notifier
    latches_losses: bool = True
    """Whether a day's loss beyond the limit blocks entries until the owner resumes. Over history nobody could: there
    it is told, and the next entry goes ahead, as in a backtest."""
    look_at_book: Callable[[], Sequence[Check]] = tuple
    """Whether the database is sound and adds up."""
    copy_book: Callable[[], object] = tuple
    """Make a backup. Raises StoreError."""

    def tell_once(self, notice: Notice, session: date) -> None:
        """Tell what has not been told in these very words since the session's midnight: cron meets it every minute."""
        if not self.has_told(notice, session):
            self.notifier.tell(notice)

    def connected(self) -> TradingDesk:
        """The same desk, its book that of the account the broker is connected to: a first run learns it only here.

        Raises BrokerUnavailable where no broker answers, SettingsError where it is another account than the book's.
        """
        return replace(self, book=replace(self.book, account=self.broker.account))
