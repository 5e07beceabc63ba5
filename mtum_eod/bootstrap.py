"""The real parts, built from settings and handed to the jobs. The one place that knows all adapters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytz

from mtum_eod.adapters.calendar import ExchangeCalendar, local_date
from mtum_eod.adapters.clock import SessionClock, SystemClock
from mtum_eod.adapters.heartbeat import Heartbeat
from mtum_eod.adapters.machine import look_at_disks
from mtum_eod.adapters.no_history import NoHistory
from mtum_eod.adapters.notices import QUIET, OwnerNotices, Post, is_time
from mtum_eod.adapters.secrets import hider
from mtum_eod.core.checks import Check
from mtum_eod.core.events import Beat, Event
from mtum_eod.core.market import VIX
from mtum_eod.core.trading import Book, Mode
from mtum_eod.errors import AlreadyRunning, MtumEodError, SettingsError, StoreError
from mtum_eod.jobs.desk import Desk, TradingDesk
from mtum_eod.jobs.filing import run_id
from mtum_eod.jobs.market import Sources
from mtum_eod.ports import BookReader, Broker, Calendar, Clock, MarketData, Notice, Records
from mtum_eod.settings import DataSource, Loaded, NotificationSettings, VixSource

if TYPE_CHECKING:
    from mtum_eod.adapters.ib.line import Line
    from mtum_eod.adapters.store import SimulatedOrders, SqlReader, SqlStore
    from mtum_eod.adapters.store.upkeep import Restored
    from mtum_eod.jobs.sweep import Spread

PATIENCE_SECONDS = 90
"""How long a person's command waits for a run under way to end; most runs take seconds."""

HASTE_SECONDS = 20
"""The same where an order is to be withdrawn: a run that hangs must not take all the time until the hard stop."""

SPARE_IDS = 4
"""How many client ids beside its own the program may use."""


@dataclass(frozen=True)
class Workplace:
    """What one command works with; each part is built when it is first asked for."""

    loaded: Loaded
    clock: Clock

    @cached_property
    def calendar(self) -> Calendar:
        return ExchangeCalendar(local_date(self.clock.now()))

    @cached_property
    def prices(self) -> MarketData:
        return self._source(self.loaded.settings.data.source)

    @cached_property
    def vix(self) -> MarketData:
        chosen = self.loaded.settings.data.vix_source
        return self.prices if chosen is VixSource.SAME else self._source(DataSource(chosen))

    @property
    def database(self) -> Path:
        return self.loaded.settings.database_path(self.loaded.folder)

    @property
    def backups(self) -> Path:
        return self.loaded.settings.backup_dir(self.loaded.folder)

    @cached_property
    def book(self) -> Book:
        """The book these settings ask for. A paper account has no name here until a decision has bound it."""
        settings = self.loaded.settings
        return Book(
            mode=settings.mode,
            account=self._account(),
            symbol=settings.symbol,
            is_synthetic=self.prices.is_synthetic or self.vix.is_synthetic,
            capital_usd=settings.capital,
        )

    def reader(self) -> SqlReader | NoHistory:
        """The book for reading; nothing beside or in the database is created, deleted or touched."""
        if not self._has_database():
            return NoHistory()
        from mtum_eod.adapters.store import open_reader

        reader = open_reader(self.database)
        self._opened.callback(reader.close)
        self._refuse_other_book(reader)
        return reader

    @contextmanager
    def store(self) -> Iterator[SqlStore]:
        """The book for writing, created or upgraded where that is needed."""
        from mtum_eod.adapters.store import open_store

        is_simulated = self.loaded.settings.mode is Mode.SIMULATED
        store = open_store(self.database, backup_dir=self.backups)
        try:
            self._refuse_other_book(store)
            # A broker's account is bound by the first decision on it: until then its name is what somebody has typed.
            store.bind(self.book if is_simulated else replace(self.book, account=""), self.clock.now())
            yield store
        finally:
            store.close()

    @contextmanager
    def locked(self, say: Callable[[str], None] | None = None, patience: int = PATIENCE_SECONDS) -> Iterator[None]:
        """Alone on the database. Raises AlreadyRunning; with someone to `say` it to, after `patience` seconds only."""
        from mtum_eod.adapters.lock import DatabaseLock

        lock, patience = DatabaseLock(self.database, self.clock), patience if say else 0
        with ExitStack() as held:
            for left in range(patience, -1, -1):
                try:
                    held.enter_context(lock.hold())
                    break
                except AlreadyRunning as error:
                    if not left:
                        raise
                    if say and left == patience:
                        say(f"waiting up to {patience} s: {error.message}")
                    self.clock.sleep(timedelta(seconds=1))
            yield

    def turn(self, say: Callable[[str], None]) -> AbstractContextManager[None]:
        """What is best held to speak with the broker beside a run: the lock, as IB lets a client id in only once."""
        return nullcontext() if self.loaded.settings.mode is Mode.SIMULATED else self.locked(say, HASTE_SECONDS)

    @contextmanager
    def trading(
        self, clock: Clock | None = None, *, locked: bool = True, say: Callable[[str], None] | None = None
    ) -> Iterator[TradingDesk]:
        """A desk that trades and records, alone on its database unless `locked` is false. Raises AlreadyRunning.

        clock: the instant sessions are lived at, for runs over history: their messages are kept, not sent. Raises
        SettingsError for one in paper or live mode.
        say: told while a person waits for a run under way to end.
        """
        from mtum_eod.adapters import log

        settings, is_present = self.loaded.settings, clock is None
        if not is_present and settings.mode is not Mode.SIMULATED:
            # An order of another day's decision, sent under that day's clock, would be filled today.
            raise SettingsError(
                f"sessions of the past are run in simulated mode only, the settings say {settings.mode}",
                hint="`mtum-eod run --date D --dry-run` replays one; `mtum-eod settle` finishes what is open",
            )
        _ = self.book  # a mode or source that cannot be had is refused before any file is made
        logged = log.to_file(
            settings.log_dir(self.loaded.folder),
            settings.log.level,
            settings.log.keep_days,
            run_id,
            _hider(settings.notifications),
        )
        with self.locked(say) if locked else nullcontext(), logged, self.store() as store:
            notifier = self._notifier(store) if is_present else OwnerNotices(store=store, clock=self.clock)
            present: dict[str, Any] = {"look_at_book": self._look_at_book, "copy_book": self.back_up}
            try:
                with self._run_line(store, is_beside=not locked) as line:
                    parts = self._parts(store, store, clock or self.clock, line) | (present if is_present else {})
                    yield TradingDesk(store=store, notifier=notifier, latches_losses=is_present, **parts)
            finally:
                notifier.send()  # only now: the order is out, its run filed, the line hung up

    def has_mail(self, reader: BookReader) -> bool:
        """Whether messages wait to be sent, and it is time to try."""
        if not self.loaded.settings.notifications.urls:
            return False
        now = self.clock.now()
        return is_time(reader.unsent_notices(), reader.sent_since(now - QUIET), now)

    def _notifier(self, store: SqlStore) -> OwnerNotices:
        told = self.loaded.settings.notifications
        wanted = [event for event in told.events if told.daily_summary or event is not Event.DAILY_SUMMARY]
        return OwnerNotices(
            store=store,
            clock=self.clock,
            post=Post(told.urls, self._whose_news()) if told.urls else None,
            events=wanted,
            run_id=run_id,
            heartbeat=Heartbeat(told.heartbeat_url),
            near=self.database.parent,
        )

    def _whose_news(self) -> str:
        return f"{self.book.mode}{', SYNTHETIC data' if self.book.is_synthetic else ''}"

    def _look_at_book(self) -> list[Check]:
        return [self.examine_database()]

    def _look_at_disks(self) -> list[Check]:
        folder = self.loaded.folder
        return list(look_at_disks([self.database.parent, self.loaded.settings.log_dir(folder), self.backups]))

    def sources(self) -> Sources:
        """Where a reading of the market comes from, the stored bars included."""
        return Sources(
            calendar=self.calendar, prices=self.prices, vix=self.vix, store=self.reader(), symbol=self.book.symbol
        )

    def history(self) -> SqlReader:
        """The book for reading. Raises StoreError where there is no database yet."""
        reader = self.reader()
        if isinstance(reader, NoHistory):
            raise StoreError(
                f"there is no database {self.database} yet",
                hint="the first `mtum-eod run` makes it; MTUM_EOD_DATABASE__URL names another one",
            )
        return reader

    def records(self, view: str) -> Records:
        """All rows of one of the database's views. Raises StoreError where there is no database yet."""
        return self.history().view(view)

    def desk(self) -> Desk:
        """A desk for looking only."""
        reader = self.reader()
        return Desk(store=reader, **self._parts(reader, None, self.clock, self._looking_line))

    def upgrade(self) -> str | None:
        """The schema revision before; the database is at the newest one now. Raises AlreadyRunning."""
        from mtum_eod.adapters.store import upkeep

        with self.locked():
            return upkeep.upgrade(self.database, self.backups)

    def back_up(self) -> Path:
        """The backup just made, verified; the oldest ones beyond those to keep are gone."""
        from mtum_eod.adapters.store import upkeep

        return upkeep.backup(self.database, self.backups, self.loaded.settings.backup.keep)

    def restore(self, backup: Path) -> Restored:
        """Bring a backup back; what came of it. Raises AlreadyRunning, StoreError."""
        from mtum_eod.adapters.store import upkeep

        if not backup.is_file():
            kept = upkeep.backups(self.database, self.backups)
            newest = f"the newest is {kept[-1]}" if kept else f"there is none in {self.backups}; backup.dir says where"
            raise StoreError(f"{backup}: there is no such backup", hint=newest)
        with self.locked():
            return upkeep.restore(backup, self.database)

    def check(self) -> list[str]:
        """What is wrong with the database, in words; nothing where it is sound."""
        from mtum_eod.adapters.store import upkeep

        return upkeep.check(self.database)

    def examine_database(self) -> Check:
        """Whether the database will do; none at all will, the first run makes it."""
        try:
            if not self._has_database():
                return Check(name="database", passed=True, words=f"none yet; the first run makes {self.database}")
            found, cure = self.check(), "`mtum-eod db restore` brings a backup back"
        except StoreError as error:
            found, cure = [error.message], error.hint
        words = "; ".join(found) or f"{self.database}: sound, and the books add up"
        code = StoreError.exit_code
        return Check(name="database", passed=not found, words=words, cure=cure if found else "", exit_code=code)

    def _has_database(self) -> bool:
        """Raises StoreError where its folder may not be searched: an unseen book is no empty one."""
        try:
            return self.database.exists()
        except OSError as error:
            raise StoreError(
                f"database {self.database}: its folder cannot be looked into ({error.strerror})",
                hint="`chmod u+rwx` it, give it to this user, or name another file in database.url",
            ) from error

    @contextmanager
    def restored(self) -> Iterator[BookReader | None]:
        """The book as it comes back from a backup made now and restored aside; None where there is no database."""
        if not self._has_database():
            yield None
            return
        from mtum_eod.adapters.store.rehearsal import rehearse

        with rehearse(self.database) as book:
            yield book

    def spread(self, jobs: int, backend: str, address: str | None) -> Spread:
        """What spreads a sweep over `jobs` processes, or over a Dask cluster."""
        from mtum_eod.adapters import workers

        if jobs == 1 and backend != "dask":
            return workers.in_turn
        return workers.Spread(jobs, backend, address)

    def session_clock(self) -> SessionClock:
        """A clock that a run over history sets from session to session."""
        return SessionClock(self.clock.now())

    def close(self) -> None:
        """Close what was opened for reading, and hang up, where something was asked of the broker.

        A trading desk does so itself. In a daemon it is not to wait for the garbage collector: each minute opens files.
        """
        self._opened.close()
        if self._uses_ib and "_looking_line" in self.__dict__ and self._looking_line:
            self._looking_line.close()

    def _account(self) -> str:
        """The account that is to be traded; empty for a paper book that no run has bound yet."""
        settings = self.loaded.settings
        if settings.mode is Mode.SIMULATED:
            from mtum_eod.adapters.simulated_broker import ACCOUNT

            return ACCOUNT
        if settings.mode is Mode.LIVE:
            return settings.ib.live_account
        if not self._has_database():
            return ""
        from mtum_eod.adapters.store import open_reader

        with closing(open_reader(self.database)) as reader:
            bound = reader.book()
        return bound.account if bound and bound.mode is Mode.PAPER else ""

    def _parts(
        self, reader: SqlReader | SqlStore | NoHistory, store: SqlStore | None, clock: Clock, line: Line | None
    ) -> dict[str, Any]:
        prices, vix = self._sources_on(line)
        bound, book = reader.book(), self.book
        if bound and not book.account:
            book = replace(book, account=bound.account)
        return {
            "calendar": self.calendar,
            "clock": clock,
            "wall_clock": self.clock,
            "prices": prices,
            "vix": vix,
            "broker": self._broker(reader, store, clock, line, prices),
            "book": book,
            "parameters": self.loaded.settings.parameters(),
            "zone": pytz.timezone(self.loaded.settings.schedule.timezone),
            "look_at_machine": self._look_at_disks,
        }

    def _broker(
        self,
        reader: SqlReader | SqlStore | NoHistory,
        store: SqlStore | None,
        clock: Clock,
        line: Line | None,
        prices: MarketData,
    ) -> Broker:
        settings = self.loaded.settings
        if line and settings.mode is not Mode.SIMULATED:
            from mtum_eod.adapters.ib.broker import IbBroker
            from mtum_eod.adapters.ib.inspection import Needs

            served = () if settings.data.source is not DataSource.IB else (settings.symbol, VIX)
            return IbBroker(
                line,
                symbol=settings.symbol,
                primary_exchange=settings.ib.primary_exchange,
                calendar=self.calendar,
                needs=Needs(
                    order_type=settings.ib.order_type,
                    quotes=served if settings.data.vix_source is VixSource.SAME else served[:1],
                    clock=self.clock,
                ),
            )
        from mtum_eod.adapters.simulated_broker import SimulatedBroker

        bound = reader.book()
        return SimulatedBroker(
            orders=_simulated_orders(reader, store),
            book=reader,
            capital_usd=(bound or self.book).capital_usd,
            prices=prices,
            symbol=settings.symbol,
            calendar=self.calendar,
            clock=clock,
            cost_ratio=settings.risk.transaction_cost,
        )

    @cached_property
    def _opened(self) -> ExitStack:
        return ExitStack()

    @property
    def _uses_ib(self) -> bool:
        settings = self.loaded.settings
        return settings.mode is not Mode.SIMULATED or settings.data.source is DataSource.IB

    @cached_property
    def _looking_line(self) -> Line | None:
        """For commands that only look: under the next free client id, so that they never disturb a run."""
        return self._line(self._spare_ids, self._account()) if self._uses_ib else None

    @property
    def _spare_ids(self) -> Sequence[int]:
        """Client ids of looks and hands beside a run; a few, as several may look at the same time."""
        client_id = self.loaded.settings.ib.client_id
        return range(client_id + 1, client_id + 1 + SPARE_IDS)

    @contextmanager
    def _run_line(self, store: SqlStore, *, is_beside: bool) -> Iterator[Line | None]:
        """The connection of a trading desk, made when something is first asked of the broker.

        is_beside: a run may have the program's own client id, which alone can withdraw its orders one by one; another
        one will do then.
        """
        if not self._uses_ib:
            yield None
            return
        bound = store.book()
        account = bound.account if bound else ""
        own = self.loaded.settings.ib.client_id
        ids = [own, *self._spare_ids] if is_beside else [own]
        line = self._line(ids, account or self._account())
        try:
            yield line
        finally:
            line.close()

    def _line(self, client_ids: Sequence[int], account: str) -> Line:
        from mtum_eod.adapters.ib.accounts import chooser
        from mtum_eod.adapters.ib.line import Line

        mode, ib = self.loaded.settings.mode, self.loaded.settings.ib
        live, paper = (ib.live_port, ib.paper_port) if ib.gateway else (ib.tws_live_port, ib.tws_paper_port)
        return Line(
            host=ib.host,
            port=live if mode is Mode.LIVE else paper,
            client_ids=client_ids,
            choose_account=chooser(mode, account),
            clock=self.clock,
            request_timeout=ib.request_timeout,
            reconnect_timeout=ib.reconnect_timeout,
            max_retries=ib.max_retries,
        )

    def _sources_on(self, line: Line | None) -> tuple[MarketData, MarketData]:
        """Where bars and the VIX come from, over this connection where they come from IB."""
        data = self.loaded.settings.data
        if line is None or data.source is not DataSource.IB:
            return self.prices, self.vix
        prices = self._ib_data(line)
        return prices, prices if data.vix_source is VixSource.SAME else self.vix

    def _ib_data(self, line: Line) -> MarketData:
        from mtum_eod.adapters.ib.data import IbData

        return IbData(line, primary_exchange=self.loaded.settings.ib.primary_exchange, calendar=self.calendar)

    def _source(self, source: DataSource) -> MarketData:
        data, calendar = self.loaded.settings.data, self.calendar
        if source is DataSource.SAMPLE:
            from mtum_eod.adapters.sample import SampleData

            return SampleData(calendar, data.sample_seed)
        if source is DataSource.CSV:
            from mtum_eod.adapters.csv_files import CsvData

            return CsvData(self.loaded.settings.csv_dir(self.loaded.folder), calendar)
        if source is DataSource.YAHOO:
            from mtum_eod.adapters.yahoo import YahooData

            return YahooData(calendar)
        if self._looking_line is None:
            raise SettingsError(f"{source} is no source of bars", hint="choose one of sample, csv, yahoo, ib")
        return self._ib_data(self._looking_line)

    def _refuse_other_book(self, reader: BookReader) -> None:
        """Raise SettingsError where the database belongs to another book than the settings ask for."""
        bound = reader.book()
        wanted = self.book
        if bound is not None and not bound.matches(wanted):
            raise SettingsError(
                f"database {self.database} belongs to {bound.name}, the settings ask for {wanted.name}",
                hint=f"name another file, such as MTUM_EOD_DATABASE__URL={_other_name(self.database, wanted)}",
            )
        if bound is not None and bound.capital_usd != wanted.capital_usd and reader.fills():
            raise SettingsError(
                f"capital = {wanted.capital_usd:g}, but this book has traded on {bound.capital_usd:g}: it is fixed now",
                hint="set capital back, and tell of money paid in with `mtum-eod cash add deposit AMOUNT`",
            )


def _simulated_orders(reader: SqlReader | SqlStore | NoHistory, store: SqlStore | None) -> SimulatedOrders | NoHistory:
    """The simulated broker's order book; SQLAlchemy is not imported where there is no database."""
    if isinstance(reader, NoHistory):
        return reader
    from mtum_eod.adapters.store import SimulatedOrders

    return SimulatedOrders(reader, store)


def _other_name(database: Path, book: Book) -> Path:
    """A database name that the wanted book could have."""
    name = f"mtum-eod-{book.mode}.db"
    return database.with_name(name if name != database.name else f"mtum-eod-{book.mode}-{_kind(book)}.db")


def _kind(book: Book) -> str:
    return "synthetic" if book.is_synthetic else "real"


def alarm(told: NotificationSettings, error: Exception, near: Path | None) -> None:
    """Tell the owner and the watchman of a failure before which there was no book, or none that could be opened.

    near: the database's folder, where it is known.
    """
    from mtum_eod.adapters import notices

    words = f"{type(error).__name__}: {error}"
    if isinstance(error, MtumEodError):
        words = f"{error.message}\n{error.hint}".strip()
    words = _hider(told)(f"No step could begin. {words}")
    notice = Notice(event=Event.RUN_FAILED, words=words, is_urgent=True)
    urls = told.urls if Event.RUN_FAILED in told.events else ()

    def send(said: str) -> bool:
        why = Heartbeat(told.heartbeat_url).ping(Beat.FAIL, said) if told.heartbeat_url else ""
        return Post(urls, "cannot run").send_one(notice, said) if urls else not why

    if urls or told.heartbeat_url:
        notices.alarm(words, send, near or Path(), SystemClock().now())


def try_notices(told: NotificationSettings) -> Iterator[tuple[str, list[str]]]:
    """Send one message of each event, and ping the watchman: of each what came of it, address by address.

    Empty words mean that it was taken. After a message that nobody took the others are not tried.
    """
    post = Post(told.urls, "test")
    for event in told.events if told.urls else ():
        answers = post.deliver(f"mtum-eod test: {event}", f"A test: this is how {event} reaches you.", is_urgent=False)
        yield str(event), answers
        if "" not in answers:
            break
    if told.heartbeat_url:
        watchman = Heartbeat(told.heartbeat_url)
        for beat in (Beat.START, Beat.FAIL, Beat.SUCCESS):  # in this order it ends in good health
            yield f"heartbeat {beat}", [watchman.ping(beat, "a test")]


def _hider(told: NotificationSettings) -> Callable[[str], str]:
    return hider([*told.urls, told.heartbeat_url])


def workplace(loaded: Loaded) -> Workplace:
    """The real parts under these settings, with the system's clock."""
    return Workplace(loaded=loaded, clock=SystemClock())
