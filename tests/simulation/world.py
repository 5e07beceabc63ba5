"""A life: years of sessions of the whole program, in a world that follows from one integer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from math import isclose, prod
from pathlib import Path
from re import findall
from tempfile import TemporaryDirectory
from typing import Any, TypeVar, cast

import numpy as np

from mtum_eod.adapters.clock import SessionClock
from mtum_eod.adapters.lock import DatabaseLock, NoLock
from mtum_eod.adapters.store import upkeep
from mtum_eod.core.ledger import Ledger, ledger
from mtum_eod.core.parameters import LateExit, Parameters, RiskParameters, StrategyParameters
from mtum_eod.core.trading import Book, CashKind, Fill, Halt, Mode, OrderKind, OrderStatus, SessionStatus, Side
from mtum_eod.errors import AlreadyRunning, MtumEodError, SettingsError, StoreError
from mtum_eod.jobs import doctor, reconcile, wheel
from mtum_eod.jobs.desk import TradingDesk
from mtum_eod.jobs.due import do_due
from mtum_eod.jobs.filing import TOLD
from mtum_eod.jobs.flatten import flatten
from mtum_eod.ports import Lock, Notice, RecordedSignal, SessionRow
from simulation import invariants
from simulation.broker import ACCOUNT, CUT_OFF, VirtualBroker, whole
from simulation.market import SYMBOL, KnownCalendar, Market, calendar
from simulation.oracle import Oracle
from simulation.owner import VirtualPost
from simulation.plan import CALLS, Life, Trouble, is_calm, stream
from simulation.process import Died, Process
from simulation.stores import AnyStore, FileStore

T = TypeVar("T")

CAPITAL = 5000.0
MINUTE = timedelta(minutes=1)
SPLIT_APART = 20  # sessions; of two at once a book could not tell where a fraction was cut
CHEAPEST, DEAREST = 20.0, 700.0  # USD a share after a split
ODD = (0.5, 0.1, 1.5)
"""New shares for one, where a fraction of one may be left over."""


BESIDE_THE_BOOKS = ("store.bind", "store.start_run", "store.end_run", "store.add_notice", "store.notice_tried")
"""What writes no row that an invariant asks for."""

EXECUTIONS = ("store.add_fills", "store.replace_estimates", "store.adopt", "store.split")
"""What writes executions: a life has hundreds, too many to read again after every other write."""


MEMORY = Path("/dev/shm")  # noqa: S108 (where there is one, files cost less in it; the lock's own are all we write)
MEETINGS = [place for place, kinds in CALLS.items() if "meanwhile" in kinds]
"""Where a second run may begin in the midst of the first."""


class WorldClock(SessionClock):
    """The present of everything in one world."""

    def __init__(self, instant: datetime, broker: VirtualBroker) -> None:
        super().__init__(instant)
        self._broker = broker

    def set(self, instant: datetime) -> None:
        super().set(instant)
        if hasattr(self, "_broker"):
            self._broker.reach(instant)

    def sleep(self, duration: timedelta) -> None:
        self.set(self.now() + duration)


@dataclass(frozen=True)
class Ended:
    """How one run of the program ended."""

    step: str
    exit_code: int | None  # None: it was killed
    error: str = ""
    is_claimed_told: bool = False  # the program says that the owner has heard of it; else its caller tells

    @property
    def is_done(self) -> bool:
        """Whether it came to its end, whatever it found there."""
        return self.step not in ("failed", "killed")


@dataclass(frozen=True)
class Accounts:
    """How the book's executions differ from the broker's: what it lacks, and where it has only an estimate."""

    apart_usd: float  # by which the account has more than the book for that
    lost: list[Fill]  # executions that the book has not, and no estimate for


@dataclass
class World:
    """Everything outside the program, and the driver that plays cron."""

    life: Life
    store: AnyStore
    log: list[str] = field(default_factory=list)
    reached: Counter[tuple[str, str]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        seed = self.life.seed
        self.market = Market(seed, self.life.sessions)
        begin = calendar().open(self.market.lived[self.life.first])
        self.broker = VirtualBroker(market=self.market, usd=CAPITAL, chance=stream(seed, "broker"), now=begin)
        self.clock = WorldClock(begin, self.broker)
        self.broker.say = self.say
        self.calendar = KnownCalendar()
        self.given_up_blind: list[str] = []  # and what was done by a clock that the broker contradicts
        self.to_learn: list[tuple[int, date]] = []  # closures the calendar hears of later: in which session
        self.post = VirtualPost(self.clock)
        self.book = Book(mode=Mode.PAPER, account=ACCOUNT, symbol=SYMBOL, is_synthetic=False, capital_usd=CAPITAL)
        self.parameters = _parameters(seed)
        if is_calm(seed):  # nothing but the market: a backtest must come to the same
            risk = replace(self.parameters.risk, daily_loss_exit=stream(seed, "daily loss").random() < 0.5)
            self.parameters = replace(self.parameters, risk=risk)
            self.broker.commission = lambda usd: risk.transaction_cost * usd
        self._folder = TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)
        self._lock = DatabaseLock(Path(self._folder.name) / "book.db", self.clock)
        self.waiting: dict[str, list[tuple[int, Trouble]]] = {}  # by place: at how many calls from now
        self.number = self.life.first
        self.today: date = self.market.lived[self.number]
        self.minute = MINUTE
        self.settings_today = [self.parameters]
        self._oracles: dict[StrategyParameters, Oracle] = {}
        self.ratio: float = 1  # new shares for one since yesterday
        self.splits: list[tuple[date, float]] = []  # each with the first session on its new scale
        self.places_today: set[str] = set()  # where trouble came
        self.runs_today = 0  # that came to an end
        self.steps_today = 0  # of those that were a step of the day's, and not a word of the owner's alone
        self.apart_since: date | None = None  # since when book and broker have differed
        self.taken_out: set[str] = set()  # references of sales that the owner only told of
        self.adopted_on: dict[str, date] = {}  # by reference, when the owner gave the book shares of their own
        self.halted = ""  # what the owner's halt stands against: entries or all
        self.halted_on: date | None = None  # when the owner said so
        self.are_exits_halted = False  # by that halt, or by one before it that stands still
        self.word = ""  # the owner's last on today's order, where it was carried out or may have been
        self.cash_moves: list[tuple[CashKind, float]] = []  # USD, all that ever came in without a trade, or went out
        self.jumped_on: date | None = None  # when the price last did, overnight; no entry goes out then
        self.elsewhere: list[tuple[int, float]] = []  # USD in another symbol, and until which session
        self.misjudged: set[date] = set()  # sessions whose order ended while the owner traded, and was looked at since
        self.answers: dict[str, list[Any]] = {}  # what the broker told the last run, by the question
        self.hand_trades: list[date] = []  # when the owner traded past the program
        self.hand_usd = 0.0  # what the owner's own trades at the broker brought
        self.told: list[tuple[date, Notice]] = []
        self.told_before = 0  # messages, when the last run to end began
        self.past_the_book_before = 0  # the same of those that no book kept
        self.notices_lost = False  # a message may be lost: the run was killed, or the disk refused it something
        self.cut_off_on: date | None = None  # when that last came upon a run
        self.word_gone_on: date | None = None  # when last a kill took a message that waited for the end of its run
        self.ended = Ended("", 0)  # the last run
        self.is_crons = False  # whether it was cron's
        self.began_at = begin
        self.order_was: OrderStatus | None = None  # today's order, when the last run ended
        self.is_latched = False  # by the loss of a day, when the last run ended
        self.was_latched = False  # when the exchange opened
        self.equity_before = CAPITAL  # at the last close, USD, without what was paid in
        self.missed_told: set[date] = set()
        self.fills_told: set[tuple[str, bool]] = set()  # by the order, and whether they are an estimate
        self.restored: set[date] = set()
        self.is_astray = False  # the book came back from a backup, and has not held what it should since
        self.decided: dict[date, dict[str, Any]] = {}
        self.ledger_checked_from: date | None = None
        self.recent: tuple[date, date] = (self.today, self.today)
        self.entry: tuple[float, int] | None = None
        self.flat_at = 0  # how many executions there had been when they last added up to nothing
        self.entry_is_blurred = False
        self.exits_decided: list[date] = []  # of the position held
        self.judged: dict[str, Any] | None = None  # the decision last held against the rules
        self.is_untroubled = True  # no trouble came today, and the server was on
        self.is_quiet_outside = True  # neither broker, market nor owner stood in the way when the exchange opened
        self.quiet_for = 0  # sessions, today's among them, since either was otherwise
        self.left_open = ""  # what the book had not brought to its end when the exchange opened
        self.by_hand_at_decision = 0  # the owner's own shares when the last run began
        self.runs_at_once = 0
        self.by_hand_since: date | None = None
        self.by_hand_for = 0  # sessions until they are undone
        self._read: dict[str, Any] = {}  # of the book, since it was last written
        self._are_fills_written = False  # since the last commit
        self._ledger_of: tuple[Any, Ledger] | None = None  # executions and cash flows, and what they add up to
        self._accounts_of: tuple[Any, int, Accounts] | None = None  # the same, and how many the broker has executed
        self.backups: dict[Trouble, Any] = {}
        self.sent_before = 0  # tries to send that the book knows nothing of, or that are over
        self.restores: dict[int, list[Trouble]] = {}  # by the session whose morning's backup will come back
        for trouble in self.life.troubles:
            if trouble.what == "restores":
                self.restores.setdefault(trouble.session - backup_age(trouble), []).append(trouble)

    # -- the days -----------------------------------------------------------------------------------------------------

    def begin(self, number: int, troubles: list[Trouble]) -> None:
        """The exchange opens."""
        self.number, self.today = number, self.market.lived[number]
        session = self.today
        self.settings_today = [self.parameters]
        self.places_today.clear()
        self.sent_before = len(self.broker.sent)
        self.ratio, self.broker.unbooked = 1, 0
        if number > self.life.first:  # its auction was held, also where no run has seen that
            self.clock.set(max(self.clock.now(), calendar().close(calendar().nearest(session)[0])))
        for trouble in troubles:
            if trouble.place == "night":
                self.overnight(trouble, session)
        for learns_in, day in [due for due in self.to_learn if due[0] <= number]:
            self.to_learn.remove((learns_in, day))
            self.calendar.learn_closed(day)
        for trouble in self.restores.get(number, ()):
            self.backups[trouble] = self.store.image()
        self.clock.set(calendar().open(session))
        self.recent = (calendar().window(session, 4)[0], session)
        self.book_is_written()  # no longer yesterday
        for trouble in troubles:
            if trouble.place in CALLS:
                self.waiting.setdefault(trouble.place, []).append((trouble.nth, trouble))
        self.order_was, self.word = None, ""
        self.runs_today = self.steps_today = 0
        self.is_untroubled = True
        self.put_right()
        is_put_right = self.is_untroubled  # the owner's morning met no trouble: the day itself has not begun
        # By the book itself: restored from before two splits that undo each other, it never hears of either.
        is_settled = self.broker.ours == self.book_shares() and not self.store.open_orders()
        self.is_astray = self.is_astray and not is_settled
        self.entry = self.held()
        entered = self.market.days[self.entry[1]].item() if self.entry else session
        self.exits_decided = [day for day in self.exits_decided if day > entered]
        holding = self.ledger().holding
        is_sold = self.is_astray and self.broker.ours + self.broker.by_hand <= 0  # in part by the owner
        if is_sold and not (holding and self.store.exit_decided_since(holding.entry_session)):  # and forgotten
            self.exits_decided.clear()
        is_adopted_now = any(self.adopted_on.get(fill.reference) == session for fill in self.book_fills()[-1:])
        since = 1 if is_adopted_now else self.ratio  # at a price of today, whatever was split overnight
        booked = (holding.entry_price / since, holding.entry_session) if holding else None
        true = self.entry and (self.entry[0], entered)
        is_same = booked == true or bool(
            booked and true and booked[1] == true[1] and isclose(booked[0], true[0], abs_tol=1e-6)
        )
        self.left_open = self.still_open()
        self.entry_is_blurred = not is_same and self._may_entry_differ()
        if not is_same and not self.entry_is_blurred:
            raise invariants.Broken("the_entry_is_the_brokers", f"{session}: the book has {booked}, true is {true}")
        self.is_untroubled = not self.broker.clock_ahead_by
        self.is_quiet_outside = is_put_right and not (
            self.broker.by_hand
            or self.broker.unbooked
            or self.broker.is_away
            or self.broker.is_silent
            or self.broker.clock_ahead_by
            or self.market.is_without_volume(self.clock.now())
            or session in self.market.halted
            or session == self.jumped_on
            or not self.is_session(session)
            or self.has_hole(session)
            or self.broker.differs
            or self.broker.rejects
            or self.halted
        )
        self.was_latched = self.is_latched
        self.equity_before = self.equity(session - timedelta(days=1))

    def _may_entry_differ(self) -> bool:
        """Whether the book has reason to hold another entry than the account: one that the world itself knows of."""
        since_flat = self.broker.executed[self.flat_at :]
        true = [execution.fill for execution in since_flat]
        booked = self.book_fills()[-8:]
        listed, known = ({fill.execution_id for fill in fills} for fills in (true, booked))
        apart = [fill for fill in (*true, *booked) if (fill.execution_id in listed) != (fill.execution_id in known)]
        return bool(
            self.is_astray
            or self.left_open  # its fills are still to come
            or any(fill.reference == "by hand" for fill in true)
            or any(fill.session in self.restored or fill.session in self.misjudged for fill in apart)
            or any(fill.is_estimated for fill in apart)
            or self._is_split_since(since_flat[0].fill.session if since_flat else self.today)
        )

    def _is_split_since(self, session: date) -> bool:
        """Whether a split came after a session that left a fraction, or that the book has not followed before today."""
        since = [ratio for day, ratio in self.splits if day > session]
        followed = prod(split.ratio for split in self.store.splits() if split.session > session)
        return prod(since) != followed * self.ratio or any(ratio % 1 for ratio in since)

    def still_open(self) -> str:
        """What a book has not brought to its end, in words; a day that was no session has none."""
        if orders := self.store.open_orders():
            return f"order {orders[0].intent.reference} is {orders[0].status}"
        rows = [row.session for row in self.store.unsettled_rows() if self.is_session(row.session)]
        if rows:
            return f"{rows[0]} is not settled"
        # Of tonight's split the book has yet to hear.
        held = self.book_shares() if self.ratio == 1 else self.book_shares_today()
        return f"the book holds {held} shares, the broker {self.broker.ours}" if held != self.broker.ours else ""

    def end(self) -> None:
        """The last night before the next session is over, and all is as it will be of this one."""
        self.quiet_for = self.quiet_for + 1 if self.is_untroubled and self.is_quiet_outside else 0
        self.check(invariants.AT_SESSION_END)
        recorded, order = self.recorded(), self.store.order(self.today)
        is_sale = order and order.intent.side is Side.SELL and order.intent.kind is not OrderKind.FLATTEN
        if is_sale or (recorded and recorded.document["action"] == "SELL"):
            self._exit_decided()
        self.told = [told for told in self.told if told[0] >= self.recent[0]]
        self.post.past_the_book.clear()
        self.post.sent = [sent for sent in self.post.sent if calendar().local_date(sent[0]) >= self.recent[0]]

    # -- trouble ------------------------------------------------------------------------------------------------------

    def trouble_at(self, place: str) -> Trouble | None:
        """The trouble that waits at this call of `place`, counted from the session it came in."""
        queue = self.waiting.get(place)
        if not queue:
            return None
        left = [(calls - 1, trouble) for calls, trouble in queue]
        due = [trouble for calls, trouble in left if calls <= 0][:1]
        self.waiting[place] = [(calls, trouble) for calls, trouble in left if trouble not in due]
        if not self.waiting[place]:
            del self.waiting[place]
        for trouble in due:
            self.reach(trouble)
        return due[0] if due else None

    def reach(self, trouble: Trouble) -> None:
        """Trouble comes, and has an effect."""
        self.arm(trouble)
        self.reached[trouble.place, trouble.what] += 1

    def arm(self, trouble: Trouble) -> None:
        """Trouble comes; whether anything will be felt of it remains to be seen."""
        self.is_untroubled = False
        self.places_today.add(trouble.place)
        self.say(f"{trouble.place} {trouble.what}")

    def say(self, words: str) -> None:
        self.log.append(f"{self.clock.now():%Y-%m-%d %H:%M:%S} {words}")

    def meanwhile(self, what: str) -> None:
        """Something else happens in the midst of a run."""
        if what == "halted_meanwhile":
            self.halt(allow_exits=False)
        else:
            self.run()

    def check(self, kinds: tuple[invariants.Invariant, ...]) -> None:
        invariants.check(self, kinds)

    def overnight(self, trouble: Trouble, session: date) -> None:
        """What happens before the exchange opens, or instead of it."""
        if trouble.what.startswith("split"):
            ratio = self._ratio(trouble)
            if not ratio or any(day >= calendar().window(session, SPLIT_APART)[0] for day, _ in self.splits):
                return  # nobody splits a share that is cheap already, or twice in a month
            self.reach(trouble)
            price = self.market.price(self.clock.now()) / ratio
            self.market.split(ratio)
            before, held = self.broker.usd, self.broker.ours + self.broker.by_hand
            paid = max(0.0, round(self.broker.split(ratio, price), 2))
            self.hand_usd += self.broker.usd - before - paid
            if paid:
                self.cash_moves.append((CashKind.DIVIDEND, paid))
            self._oracles.clear()
            self.ratio *= ratio
            self.splits.append((session, ratio))
            if trouble.what == "split_booked_late":
                self.broker.unbooked = self.broker.ours + self.broker.by_hand - held
        elif trouble.what == "jump" and self.is_session(session):
            self.reach(trouble)
            self.jumped_on = session
            self.market.jump(session, 1.3 if trouble.size < 0.5 else 0.75)
            self._oracles.clear()
        elif trouble.what == "revision":
            self._revise(trouble, calendar().nearest(session)[0])
        elif trouble.what.startswith("closure") and self.is_session(session) and self.number > self.life.first:
            self.reach(trouble)
            self.market.close_exchange(session)
            self._oracles.clear()
            if session == self.jumped_on:  # what opens next opens there
                self.jumped_on = calendar().nearest(session)[1]
            later = int(6 * trouble.size) if trouble.what == "closure_known_late" else 0
            self.to_learn.append((self.number + later, session))

    def _ratio(self, trouble: Trouble) -> float:
        """New shares for one; 0 where there is no split."""
        price, ours = self.market.price(self.clock.now()), self.broker.ours
        if trouble.what != "split_odd":
            whole_ratio = min(2 + int(2.999 * trouble.size), int(price / CHEAPEST))
            return whole_ratio if whole_ratio > 1 else 0
        ratio = ODD[int(len(ODD) * 0.999 * trouble.size)]
        is_fit = CHEAPEST < price / ratio < DEAREST and (not ours or ours * ratio >= 4)
        return ratio if is_fit else 0

    def _revise(self, trouble: Trouble, day: date) -> None:
        """Yesterday's bar is another today; not its prices where shares were bought on them: the ATR was of then."""
        if self.is_session(day) and self.number > self.life.first:
            self.reach(trouble)
            is_entry = any(e.fill.session == day for e in self.broker.executed[-6:])
            self.market.revise(day, trouble.size, prices=not is_entry)
            self._oracles.clear()

    def is_session(self, day: date) -> bool:
        """Whether the exchange opened that day, whatever any calendar says."""
        return self.market.is_open(day)

    def has_hole(self, session: date) -> bool:
        """Whether the program takes a day for a session that was none, in the window of a decision."""
        return any(not self.market.is_open(day) for _, day in self.to_learn if day <= session)

    # -- one run of the program ---------------------------------------------------------------------------------------

    @property
    def lock(self) -> Lock:
        """The program's own on a real file where two runs may meet; where none comes beside, it would cost too much."""
        waiting = (trouble.what for place in MEETINGS for _, trouble in self.waiting.get(place, ()))
        return self._lock if self.runs_at_once or any(what.endswith("meanwhile") for what in waiting) else NoLock()

    def close(self) -> None:
        """Nothing is left of it."""
        self.store.close()
        self._folder.cleanup()

    def desk(self, process: Process) -> TradingDesk:
        """What one process works with; the file system's and the network's parts are the world's."""
        store = process.port("store", self.store)
        prices = process.port("prices", self.market)
        clock = process.port("clock", self.clock)
        return TradingDesk(
            calendar=self.calendar,
            clock=clock,
            wall_clock=clock,
            prices=prices,
            vix=prices,
            broker=process.port("broker", self.broker),
            store=store,
            notifier=process.notices(store),
            book=self.book,
            parameters=self.parameters,
            latches_losses=not is_calm(self.life.seed),  # a backtest does not
        )

    def run(self) -> Ended:
        """What cron does once a minute: `mtum-eod run --if-due`, in a process of its own."""
        return self.typed(lambda desk: do_due(desk), needs_lock=True, by_cron=True)

    def typed(self, command: Callable[[TradingDesk], Any], *, needs_lock: bool = False, by_cron: bool = False) -> Ended:
        """Run one command in a fresh process."""
        process, halted = Process(self), self.halted
        began = self.clock.now(), len(self.told), len(self.post.past_the_book)
        if not self.runs_at_once:
            self.notices_lost = False
        ended = Ended("", 1, "unexpected")
        try:
            if needs_lock:
                with process.port("lock", self.lock).hold():
                    done = self._alone(command, process)
            else:
                done = self._to_its_end(command, process)
            ended = Ended(str(getattr(done, "step", None) or ""), getattr(done, "exit_code", 0))
            self.runs_today += 1
            self.steps_today += bool(ended.step)
        except Died:
            ended = Ended("killed", None)
            if process.torn and isinstance(self.store, FileStore):
                self.store.come_back(process.torn)
                self.forget([self.today])
                if self.halted != halted:  # the owner's word came in the midst of it
                    self._look_for_halts()
        except MtumEodError as error:
            is_told = TOLD in getattr(error, "__notes__", ())
            # A lock that is held names a file and a process of the real machine, in no life the same.
            said = "" if isinstance(error, AlreadyRunning) else f": {error.message}"
            ended = Ended("failed", error.exit_code, f"{type(error).__name__}{said}", is_told)
        except invariants.Broken:
            raise
        except Exception as error:  # whatever else comes out is a defect by itself
            raise invariants.Broken("nothing_unexpected", f"{type(error).__name__}: {error}") from error
        if isinstance(self.store, FileStore) and not self.runs_at_once:
            self.store.end_of_process()
        self.count_as_the_book_must()
        self.began_at, self.told_before, self.past_the_book_before = began
        self.ended, self.is_crons, self.answers = ended, by_cron, process.answers
        self.check(invariants.AFTER_EVENTS + invariants.AFTER_RUNS)
        if not self.runs_at_once:
            self.check(invariants.WORDS_OF_A_RUN)
            self.order_was, self.is_latched = self.order_status(), self.has_latch()
            self.cut_off_on = self.today if self.notices_lost else self.cut_off_on
        self._judge_no_more()
        if ended.step or not needs_lock:
            self.say(f"{ended.step or 'done'} -> {ended.exit_code} {ended.error}".rstrip())
        return ended

    def _alone(self, command: Callable[[TradingDesk], Any], process: Process) -> Any:
        self.by_hand_at_decision = self.broker.by_hand
        self.runs_at_once += 1
        try:
            self.check((invariants.one_run_at_a_time,))
            return self._to_its_end(command, process)
        finally:
            self.runs_at_once -= 1

    def _to_its_end(self, command: Callable[[TradingDesk], Any], process: Process) -> Any:
        """The command, and after it, done or failed, the messages that wait."""
        desk = self.desk(process)
        try:
            desk.store.bind(replace(self.book, account=""), self.clock.now())  # as the program does on opening it
            return command(desk)
        finally:
            if not process.is_dead:
                desk.notifier.send()  # type: ignore[attr-defined]  # a port does not tell when, the program does

    # -- what invariants ask for ---------------------------------------------------------------------------------------

    def book_is_written(self, place: str = "") -> None:
        """Whatever was read of the book may be otherwise now; executions from one write of them to its commit."""
        if place in BESIDE_THE_BOOKS:
            return
        fills = self._read.get("fills")
        self._read.clear()
        self._are_fills_written = self._are_fills_written or not place or place in EXECUTIONS
        if fills is not None and not self._are_fills_written:
            self._read["fills"] = fills
        if place == "store.transaction":
            self._are_fills_written = False

    def _once(self, name: str, read: Callable[[], T]) -> T:
        """What `read` gives, asked again only after the book was written: invariants ask the same after every run."""
        if name not in self._read:
            self._read[name] = read()
        return cast("T", self._read[name])

    def book_fills(self) -> list[Fill]:
        return self._once("fills", self.store.fills)

    def recorded(self) -> RecordedSignal | None:
        """Today's newest decision."""
        return self._once("signal", lambda: self.store.signal(self.today))

    def newly_recorded(self) -> RecordedSignal | None:
        """The same, where it has not been held against the rules yet."""
        recorded = self.recorded()
        return recorded if recorded and recorded.document != self.judged else None

    def _judge_no_more(self) -> None:
        """Today's newest decision has been held against the rules; an exit it decided is due from now on."""
        recorded = self.newly_recorded()
        if recorded:
            self.judged = recorded.document
            if recorded.document["action"] == "SELL":
                self._exit_decided()

    def _exit_decided(self) -> None:
        if self.today not in self.exits_decided:
            self.exits_decided.append(self.today)

    def recent_rows(self) -> list[SessionRow]:
        """The ledger's rows of the last sessions, today's among them."""
        return self._once("rows", lambda: self.store.ledger(*self.recent))

    def row(self) -> SessionRow | None:
        """The ledger's row of today."""
        return next((row for row in self.recent_rows() if row.session == self.today), None)

    def oracle(self, strategy: StrategyParameters) -> Oracle:
        """What the rules say under these parameters, of the market as it is scaled now."""
        if strategy not in self._oracles:
            self._oracles[strategy] = Oracle(self.market, strategy)
        return self._oracles[strategy]

    def book_shares(self) -> int:
        holding = self.ledger().holding
        return holding.shares if holding else 0

    def count_as_the_book_must(self, leaving: str = "") -> None:
        """Past midnight the position tells how an order ended; what the owner traded in the same hours looks like it.

        From then on such shares are the book's, and not the owner's. leaving: the order that is about to be sent.
        """
        today, differ = calendar().local_date(self.clock.now()), 0
        if self.hand_trades and len(calendar().sessions(self.hand_trades[-1], today)) <= 5:
            differ = self.book_shares_today() - self.broker.ours
        is_agreed = self.broker.by_hand == differ
        is_agreed = is_agreed and all(order.intent.reference == leaving for order in self.store.open_orders())
        if differ and is_agreed and not self.is_astray:
            self.misjudged.update(e.fill.session for e in self.broker.executed[-3:])
            self.misjudged.update(fill.session for fill in self.book_fills()[-3:] if fill.is_estimated)
            self.broker.by_hand = 0
            self.broker.correct(differ, calendar().nearest(today)[0], self.market.price(self.clock.now()))
            self.entry_is_blurred = True  # what was decided in the same run was decided on them
            self.say(f"{differ} of the owner's shares count as the book's")

    def beside(self) -> int:
        """Shares that the broker has held beyond the book's since the run began; bought by the owner, or sold: below 0.

        What the owner traded and what a restored book has forgotten can make up for each other, where nobody sees it.
        """
        return self.broker.ours + self.broker.by_hand - self.book_shares_today() if self.by_hand_at_decision else 0

    def book_shares_today(self) -> int:
        """The same in shares of today, also where it has not followed every split since; each by its own session."""
        return self._once("shares today", self._book_shares_today) if self.splits else self.book_shares()

    def _book_shares_today(self) -> int:
        held, since_flat, today, followed = 0, [], 0.0, self.store.splits()
        for fill in self.book_fills():
            held += fill.side.sign * fill.shares
            since_flat.append(fill)
            if not held:
                since_flat.clear()
        for fill in since_flat:
            since = self.adopted_on.get(fill.reference, fill.session)
            happened = prod(ratio for day, ratio in self.splits if day > since)
            of_today = happened / prod(split.ratio for split in followed if split.session > fill.session)
            today += fill.side.sign * fill.shares * of_today
        return whole(today)

    def ledger(self) -> Ledger:
        """The book's own, by its executions; one that sells what it has not got is broken."""
        try:
            return self._once("ledger", self._ledger)
        except StoreError as error:
            raise invariants.Broken("the_book_adds_up", error.message) from error

    def _ledger(self) -> Ledger:
        written = self.book_fills(), self.store.cash_flows()
        if self._ledger_of is None or self._ledger_of[0] != written:
            self._ledger_of = written, ledger(CAPITAL, *written)
        return self._ledger_of[1]

    def accounts(self) -> Accounts:
        """Book and account beside each other; made anew only where one of them has changed."""
        self.ledger()
        assert self._ledger_of is not None
        written, executed = self._ledger_of[0], len(self.broker.executed)
        of = self._accounts_of
        if of is None or of[0] is not written or of[1] != executed:
            self._accounts_of = of = written, executed, self._accounts()
        return of[2]

    def _accounts(self) -> Accounts:
        true = {e.fill.execution_id: e.fill for e in self.broker.executed if e.fill.reference != "by hand"}
        lost, only_ours, replaced = dict(true), 0.0, set()
        for fill in self.book_fills():
            execution = lost.pop(fill.execution_id, None)
            if execution is None or fill.is_estimated or fill.commission_usd is None:
                only_ours += effect(fill) - (effect(execution) if execution else 0.0)
            if execution is None:
                replaced.add(fill.reference)
        gone = sum(effect(fill) for fill in lost.values())
        return Accounts(gone - only_ours, [fill for fill in lost.values() if fill.reference not in replaced])

    def order_status(self) -> OrderStatus | None:
        """Of today's order."""
        order = self._once("order", lambda: self.store.order(self.today))
        return order.status if order else None

    def has_latch(self) -> bool:
        """Whether a day's loss blocks entries."""
        return self._once("latch", lambda: any(halt.is_daily_loss for halt in self.store.halts()))

    def equity(self, day: date) -> float:
        """What the account is worth at the last close up to a day, USD, without what was paid in; our shares only."""
        close = float(self.market.bars[np.searchsorted(self.market.days, np.datetime64(day), side="right") - 1, 3])
        return self.broker.usd - self.hand_usd - self.moved_usd() + self.broker.ours * close

    def sizing_equity(self) -> float:
        """What a book that holds nothing is sized on, USD: the account less what the book lacks."""
        return self.broker.usd - self.hand_usd - sum(self.untold_deposits()) - self.accounts().apart_usd

    def is_entry_learned(self) -> bool:
        """Whether no decision on record has entered the position held: it was adopted, or a backup has forgotten it."""
        day = self.market.days[self.entry[1]].item() if self.entry else None
        adopted = (
            e.fill.session for e in self.broker.executed[self.flat_at :] if e.fill.reference.endswith("/ADOPTED")
        )
        return day in self.restored or day in adopted

    def told_today(self) -> list[Notice]:
        return [notice for day, notice in self.told if day >= self.today] + self.post.past_the_book

    def told_in_run(self) -> list[Notice]:
        """What the last run told."""
        kept = [notice for _, notice in self.told[self.told_before :]]
        return kept + self.post.past_the_book[self.past_the_book_before :]

    def is_word_lost(self) -> bool:
        """Whether the last run may have left a message behind: it was killed, or its disk refused it something."""
        return self.notices_lost or not self.ended.is_done

    def is_word_gone(self) -> bool:
        """Whether the disk refused a run a message today, and a kill took it then."""
        return self.word_gone_on == self.today

    def hear(self, notice: Notice) -> None:
        """A message that was kept for the owner."""
        self.say(f"tells {notice.event}: {notice.words}")
        self.told.append((calendar().local_date(self.clock.now()), notice))
        if notice.event == "run_missed":
            self.missed_told.update(self.days_named(notice.words))

    def days_named(self, words: str) -> list[date]:
        """The sessions a message about missed ones covers."""
        days = [date.fromisoformat(word) for word in findall(r"\d{4}-\d\d-\d\d", words)]
        return calendar().sessions(min(days), max(days))

    def held(self) -> tuple[float, int] | None:
        """Average price and day of the position our executions add up to, None where they add up to nothing."""
        shares, paid, day = 0, 0.0, 0
        for number, execution in enumerate(self.broker.executed[self.flat_at :], self.flat_at + 1):
            fill = execution.fill
            if fill.side is Side.BUY:
                day = day if shares else int(np.searchsorted(self.market.days, np.datetime64(fill.session)))
                shares, paid = shares + execution.shares, paid + fill.shares * fill.price_usd
            else:
                paid -= paid / shares * execution.shares if shares else 0.0
                shares -= execution.shares
            if not shares:
                self.flat_at, paid = number, 0.0
        return (paid / shares, day) if shares > 0 else None

    # -- the owner ----------------------------------------------------------------------------------------------------

    def halt(self, *, allow_exits: bool, cancel: bool = False) -> None:
        turn = self.lock.hold
        is_out = cancel and any(order.intent.session == self.today for order in self.store.open_orders())
        ended = self.typed(
            lambda desk: wheel.halt(
                desk, why="a feeling", by="owner", allow_exits=allow_exits, cancel=cancel, turn=turn
            )
        )
        if ended.is_done:
            self.halted, self.halted_on = "entries" if allow_exits else "all", self.today
            self.are_exits_halted = self.are_exits_halted or not allow_exits
            self.check((invariants.a_halt_is_told,))
            if is_out:
                self._has_said("cancel", ended)
        else:
            self._look_for_halts()

    def _look_for_halts(self) -> None:
        """A command failed, or a backup is back, so the owner looks: what stands is what the book says."""
        manual = [halt for halt in self.store.halts() if not halt.is_daily_loss]
        self.halted = ("entries" if manual[0].allow_exits else "all") if manual else ""
        self.halted_on = calendar().local_date(manual[0].halted_at) if manual else None
        self.are_exits_halted = not all(halt.allow_exits for halt in manual)

    def cancel(self) -> None:
        ended = self.typed(lambda desk: wheel.cancel(desk, why="a feeling", by="owner", turn=self.lock.hold))
        self._has_said("cancel", ended)

    def flatten(self) -> None:
        self._says("flatten", lambda desk: flatten(desk, why="a feeling", by="owner"))

    def approve(self) -> None:
        self._says("approve", lambda desk: wheel.approve(desk, why="", by="owner"))

    def refuse(self) -> None:
        ended = self.typed(lambda desk: wheel.refuse(desk, why="", by="owner"), needs_lock=True)
        self._has_said("refuse", ended)

    def _says(self, word: str, command: Callable[[TradingDesk], Any]) -> None:
        """A word that lets an order go, from now on unless there was nothing to say it to."""
        before, self.word = self.word, word
        if self.typed(command, needs_lock=True).exit_code == SettingsError.exit_code:
            self.word = before

    def _has_said(self, word: str, ended: Ended) -> None:
        """A word that lets none go, which counts once the command says that it is done, and was in time."""
        is_in_time = self.clock.now() < calendar().close(self.today) - CUT_OFF and not self.broker.on_the_wire
        if ended.is_done and ended.exit_code == 0 and is_in_time and self.word != "refuse":  # a no stays one
            self.word = word

    def restore(self, trouble: Trouble) -> None:
        """The owner brings back a backup: this morning's, or an older one."""
        if trouble not in self.backups:  # a life cut short to show a fault may begin after it
            return
        image, remembered = self.backups.pop(trouble), self.halted
        while not self._brought_back(image):  # nothing has changed, and the owner types it again
            self.say("restore killed")
        self.sent_before = len(self.broker.sent)
        self.forget(self.market.lived[trouble.session - backup_age(trouble) : trouble.session + 1])
        # Of what the backup has as missed its own book told, even where one brought back in between had forgotten that.
        self.missed_told.update(row.session for row in self.recent_rows() if row.status is SessionStatus.MISSED)
        self._look_for_halts()
        if remembered and remembered != self.halted:  # the command has named what it could not carry over
            self.halt(allow_exits=remembered == "entries")

    def _brought_back(self, image: Any) -> bool:
        """Whether the command came to its end: the backup takes the book's place as its last act, or not at all.

        What the program does with files around `carry_over` is here too: where the disk refuses one of the owner's
        words, entries are halted and the owner is told so.
        """
        process, unfinished = Process(self), type(self.store)()
        try:
            unfinished.put_back(image)
            restored = process.port("store", unfinished)
            try:
                upkeep.carry_over(self.store, restored)
            except StoreError:
                if all(halt.is_daily_loss for halt in unfinished.halts()):
                    doubt = Halt(halted_at=self.clock.now(), why=upkeep.IN_DOUBT, by="owner", allow_exits=True)
                    unfinished.halt(doubt)
            self.store.put_back(unfinished.image())
        except Died:
            return False
        finally:
            unfinished.close()
            self.book_is_written()
        return True

    def forget(self, lost: Sequence[date]) -> None:
        """The book has lost what happened in these sessions, or part of it."""
        self.is_astray = True
        self.word = self.word if self.word == "approve" else ""
        self.book_is_written()
        # What was open in the backup may have ended since, and no list of the broker tells it any more; shares that
        # were adopted since stand under the session before.
        known = {fill.reference for fill in self.book_fills()}
        adopted = [e.fill for e in self.broker.executed if e.fill.reference.endswith("/ADOPTED")]
        self.restored.update(lost, (row.session for row in self.store.unsettled_rows()))
        self.restored.update(fill.session for fill in adopted if fill.reference not in known)
        for session in lost:
            self.decided.pop(session, None)
        self.ledger_checked_from = None
        self.entry_is_blurred = True  # till tomorrow: what the book holds now is not what it held this morning
        self.missed_told.difference_update(lost)
        self.order_was = None
        self.is_latched = any(halt.is_daily_loss for halt in self.store.halts())
        self.exits_decided = [day for day in self.exits_decided if day not in lost]

    def put_right(self) -> None:
        """What the owner does in the morning: let go, undo trades of last week, replace what was estimated."""
        if self.by_hand_since and len(calendar().sessions(self.by_hand_since, self.today)) > self.by_hand_for:
            if self.broker.by_hand > 0 and self.number % 2:
                self.adopt(self.broker.by_hand)
            if self.broker.by_hand:
                self.trade_by_hand(-self.broker.by_hand)
            self.by_hand_since = None
        for order in self.store.open_orders():
            session = order.intent.session
            if len(calendar().sessions(session, self.today)) > 3:  # the statement says what became of it
                fills = [e.fill for e in self.broker.executed if e.fill.reference == order.intent.reference]
                done = sum(fill.shares for fill in fills)
                if order.intent.side is Side.SELL:  # of a purchase that a backup has forgotten nothing was sold
                    booked = sum(f.shares for f in self.book_fills() if f.reference == order.intent.reference)
                    done = min(done, booked + self.book_shares())
                self.typed(lambda desk, day=session, n=done: reconcile.resolve(desk, day, executed=n, by="owner"))
        self.put_book_right()
        for due in [due for due in self.elsewhere if due[0] <= self.number]:
            self.elsewhere.remove(due)
            self._spend_elsewhere(-due[1])
        self.tell_deposits()
        halted_on = [calendar().local_date(halt.halted_at) for halt in self.store.halts()]
        if self.halted_on and not halted_on:  # the owner remembers one that the book has lost
            halted_on.append(self.halted_on)
        if halted_on and len(calendar().sessions(halted_on[-1], self.today)) > 2:
            self.resume()
        for session in sorted({fill.session for fill in self.book_fills() if fill.is_estimated}):
            if self.today > session:
                self.fill_estimates(session)

    def adopt(self, shares: int) -> None:
        """The owner gives the book shares of their own, as bought at the last close, where it takes them."""
        session = calendar().nearest(self.today)[0]
        if not self.is_session(session):
            return
        price = self.market.close(session)
        fill = self.broker.adopt(shares, session, price)
        self.adopted_on[fill.reference] = self.today  # in shares of today, whatever was split overnight
        self.typed(lambda desk: reconcile.adopt(desk, shares, price, session, "owner"), needs_lock=True)
        if any(booked.reference == fill.reference for booked in self.book_fills()):
            self.hand_usd += shares * price  # the book has them, whatever became of the command
        else:
            self.broker.disown(fill)

    def fill_estimates(self, session: date) -> None:
        """The owner puts the statement's price and commission, on the book's scale, in the place of estimates."""
        booked = [fill for fill in self.book_fills() if fill.session == session]
        exact = {fill.execution_id for fill in booked if not fill.is_estimated}
        executed = [e for e in self.broker.executed if e.fill.reference == booked[0].reference]
        executed = [e for e in executed if e.fill.execution_id not in exact]
        if not executed:
            return
        true = [e.fill for e in executed]
        estimated = sum(fill.shares for fill in booked if fill.is_estimated)
        scale = estimated / sum(fill.shares for fill in true)
        if scale in executed[0].scales:  # of another number than its own the statement has no price
            price, commission = true[0].price_usd / scale, sum(fill.commission_usd or 0.0 for fill in true)
            self.typed(lambda desk: reconcile.fill(desk, session, price, commission, "owner"), needs_lock=True)

    def look(self) -> None:
        """The owner asks for all that can be seen; nothing is written, and no lock is needed."""

        def examined(desk: TradingDesk) -> None:
            session = doctor.session_in_hand(desk)
            for _ in (*doctor.examine(desk, session), doctor.examine_order(desk, session)):
                pass
            reconcile.compare(desk)

        self.typed(examined)

    def put_book_right(self) -> None:
        """Where a backup lacks what the broker forgot at midnight, the owner ends it after days: by a trade, or a word.

        Any other difference is the program's to end, but for shares of which a split leaves no whole one.
        """
        differ = self.broker.ours - self.book_shares_today()
        is_less_than_one = not differ and not self.broker.ours and self.book_shares() > 0
        is_apart = differ or is_less_than_one
        if not is_apart or self.broker.by_hand or self.store.open_orders() or self.store.book() is None:
            self.apart_since = None
            return
        self.apart_since = self.apart_since or self.today
        if len(calendar().sessions(self.apart_since, self.today)) <= 3:
            return
        if is_less_than_one or (self.is_astray and not self.broker.ours and self.number % 2):
            self.take_out()
        elif self.is_astray:
            price = self.market.price(self.clock.now())
            self.broker.usd += differ * price
            self.hand_usd += differ * price
            self.broker.correct(-differ, calendar().nearest(self.today)[0], price)
            self.quiet_for = 0  # what hung on it begins to come to its end now
            self.say(f"owner trades {-differ} shares to put the book right")

    def take_out(self) -> None:
        """The owner says of all shares in the book that they were sold: at the last close, on the scale of the book."""
        session, last = calendar().nearest(self.today)[0], self.book_fills()[-1]
        if not self.is_session(session) or session <= last.session:
            return
        shares, price = self.book_shares(), self.market.close(session)
        price *= prod(ratio for day, ratio in self.splits if day > last.session)
        price /= prod(split.ratio for split in self.store.splits() if split.session > last.session)
        self.taken_out.add(f"mtum-eod/paper/{ACCOUNT}/{SYMBOL}/{session}/SOLD")
        self.typed(lambda desk: reconcile.sold(desk, shares, price, session, "owner"), needs_lock=True)
        self.quiet_for = 0  # what hung on it begins to come to its end now

    def resume(self) -> None:
        ended = self.typed(lambda desk: wheel.resume(desk, why="", by="owner"))
        if ended.is_done:
            self.halted, self.halted_on, self.are_exits_halted = "", None, False
        else:
            self._look_for_halts()

    def move_cash(self, kind: CashKind, usd: float) -> bool:
        """The money moves at the broker, whatever becomes of the command that tells of it; not what is not there."""
        usd = round(1 + usd, 2)
        if kind.sign < 0 and not self._is_to_spare(usd):
            return False
        self.cash_moves.append((kind, usd))
        self.broker.usd += kind.sign * usd
        return True

    def _is_to_spare(self, usd: float) -> bool:
        """Whether so much is free in book and account: no order waits that was sized on it."""
        is_free = not (self.broker.working or self.broker.on_the_wire or self.store.open_orders())
        return is_free and usd <= min(self.ledger().cash, self.broker.usd) / 2

    def trade_elsewhere(self, usd: float) -> bool:
        """The owner buys another symbol in the same account for a week, and has an order without a reference there."""
        if not self._is_to_spare(usd):
            return False
        self.elsewhere.append((self.number + 5, usd))
        self._spend_elsewhere(usd)
        return True

    def _spend_elsewhere(self, usd: float) -> None:
        self.broker.usd -= usd
        self.hand_usd -= usd
        self.broker.has_foreign_order = bool(self.elsewhere)

    def tell_deposits(self) -> None:
        """The owner types again what the book has not got: a command failed, or a backup is from before it."""
        for kind, usd in self._untold():
            self.typed(lambda desk, k=kind, moved=usd: wheel.add_cash(desk, k, moved, None, ""))

    def moved_usd(self) -> float:
        return sum(kind.sign * usd for kind, usd in self.cash_moves)

    def untold_deposits(self) -> list[float]:
        """What the book has not got of them, USD; what went out is below 0."""
        return [kind.sign * usd for kind, usd in self._untold()]

    def _untold(self) -> list[tuple[CashKind, float]]:
        booked = Counter((flow.kind, flow.amount_usd) for flow in self.store.cash_flows())
        return list((Counter(self.cash_moves) - booked).elements())

    def change_settings(self, trouble: Trouble) -> None:
        """Other thresholds, periods and limits from the next run on."""
        self.parameters = _parameters(self.life.seed, f"settings {trouble.session}")
        self.settings_today.append(self.parameters)

    def trade_by_hand(self, shares: int) -> None:
        """The owner trades the same symbol past the program."""
        price = self.market.price(self.clock.now())
        self.broker.by_hand += shares
        self.hand_trades.append(calendar().local_date(self.clock.now()))
        self.by_hand_since = self.by_hand_since or self.today
        self.by_hand_for = 2 + abs(shares) * 3
        self.broker.usd -= shares * price
        self.hand_usd -= shares * price


def effect(fill: Fill) -> float:
    """What an execution does to the cash, USD; of a commission not known yet nothing."""
    return -fill.side.sign * fill.shares * fill.price_usd - (fill.commission_usd or 0.0)


def backup_age(trouble: Trouble) -> int:
    """How many sessions old the backup is that the owner brings back.

    Half of them are of this very morning, most others of the last three; one in ten is up to 20 sessions old.
    """
    size = trouble.size
    age = 0 if size < 0.5 else int(1 + (size - 0.5) * 7.5) if size < 0.9 else int(4 + (size - 0.9) * 170)
    return min(trouble.session, age)


def _parameters(seed: int, name: str = "settings") -> Parameters:
    """Settings under which a life trades often."""
    chance = stream(seed, name)
    return Parameters(
        strategy=StrategyParameters(
            ma_period=chance.choice((5, 10, 20, 50)),
            atr_multiplier=chance.choice((0.8, 1.5, 4.0)),
            rsi_entry_threshold=chance.choice((40.0, 45.0, 50.0)),
            rsi_exit_threshold=chance.choice((30.0, 38.0)),
            volume_lookback=chance.choice((5, 20)),
        ),
        risk=RiskParameters(
            max_daily_loss=chance.choice((60.0, 150.0, 500.0)),
            max_position_size=chance.choice((3000.0, 5000.0)),
            late_exit=chance.choice((LateExit.MARKET, LateExit.MARKET, LateExit.SKIP)),
            require_confirmation=chance.random() < 0.25,
            max_position_pct=chance.choice((100.0, 100.0, 60.0)),
        ),
    )
