"""One run of the program, as a process that can be killed: after that no call of its gets through to the world."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from math import nan
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from mtum_eod.adapters import notices
from mtum_eod.core.checks import Check
from mtum_eod.core.market import DailyBars
from mtum_eod.core.trading import Act, OrderIntent, OrderStatus
from mtum_eod.errors import BrokerUnavailable, MarketDataError, StoreError
from mtum_eod.jobs.filing import CLOCK_STEP
from mtum_eod.ports import Event, Known, Notice, Unknown, WhatIf
from simulation.broker import Sent
from simulation.owner import WorldNotices
from simulation.plan import BOOK_READS, CALLS, CHECKS, TORN, kind_of
from simulation.stores import FileStore, Torn

if TYPE_CHECKING:
    from simulation.plan import Trouble
    from simulation.world import World


BY_THE_CLOCK = ("broker.submit", "store.record")
"""What is done for the session that the clock says it is."""


class Died(BaseException):
    """The process was killed: nothing of the program may catch it, and what it does while unwinding has no effect."""


class Process:
    """The ports as one process has them; the troubles of the day sit between it and the world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.is_dead = False
        self.torn: Torn | None = None  # what the disk kept, where the power failed
        self.said: dict[str, Any] = dict.fromkeys(("broker.orders", "broker.executions", "broker.shares_held"))
        self.answers: dict[str, list[Any]] = {place: [] for place in (*self.said, *ALSO_KEPT)}  # all of them
        self.needs_no_clock = False  # the broker did not tell its time, or what is written holds at any hour
        self.was_word_refused = False  # by the disk; it waits for the end of the run
        self.unsaid: list[Notice] | None = None  # inside a transaction: messages that are kept only with it

    def port(self, name: str, real: Any) -> Any:
        """`real` with trouble on the way."""
        return Port(self, name, real)

    def notices(self, store: Any) -> WorldNotices:
        """What this process tells the owner with."""
        return WorldNotices(store=store, clock=self.world.clock, post=Mail(self), events=tuple(Event))

    def hear(self, notice: Notice) -> None:
        """A message is in the book, durable once its transaction is."""
        if self.unsaid is None:
            self.world.hear(notice)
        else:
            self.unsaid.append(notice)

    def die(self, place: str) -> None:
        self.is_dead = True
        if place != "post.send":  # by then all there was to tell has been kept
            self.world.notices_lost = True
        if self.was_word_refused:
            self.world.word_gone_on = self.world.today
        raise Died

    def pass_on(self, real: Callable[..., Any], *args: Any, **values: Any) -> Any:
        """Call `real`, where no trouble ever waits."""
        if self.is_dead:
            raise Died
        return real(*args, **values)

    def look(self, place: str, real: Callable[..., Any], *args: Any, **values: Any) -> Any:
        """Read the book by `real`, hundreds of times a session: trouble seldom waits there."""
        if place in self.world.waiting:
            return self.call(place, real, *args, **values)
        if self.is_dead:
            raise Died
        return real(*args, **values)

    def write(self, place: str, real: Callable[..., Any], *args: Any, **values: Any) -> Any:
        """Call `real`, after which the book is another, whatever becomes of the call."""
        try:
            return self.call(place, real, *args, **values)
        finally:
            self.world.book_is_written(place)

    def call(self, place: str, real: Callable[..., Any], *args: Any, **values: Any) -> Any:
        """Call `real` as the trouble that waits there will have it."""
        if self.is_dead:
            raise Died
        if place == "broker.submit":
            self._leaves(args[0])
        elif place == "store.update_order" and args[1] is OrderStatus.NOT_SENT:
            self._given_up(args[0])
        if place == "store.add_act" and args[0].act is Act.DECLINE:
            self.needs_no_clock = True
        if place in BY_THE_CLOCK and not self.needs_no_clock and abs(self.world.broker.clock_ahead_by) > CLOCK_STEP:
            self.world.given_up_blind.append(f"{place} by a clock that is {self.world.broker.clock_ahead_by} ahead")
        if place == "broker.clock_ahead":
            answer = self._through(place, real, *args, **values)
            self.needs_no_clock = isinstance(answer, Unknown)
            return answer
        if place not in self.answers:
            return self._through(place, real, *args, **values)
        said = self.said if place in self.said else {}
        said[place] = None
        self.answers[place].append(None)  # unless one comes
        answer = self._through(place, real, *args, **values)
        value = answer if isinstance(answer, dict) else None
        said[place] = self.answers[place][-1] = answer.value if isinstance(answer, Known) else value
        return answer

    def _leaves(self, intent: OrderIntent) -> None:
        world, broker = self.world, self.world.broker
        is_again = any(sent.intent.reference == intent.reference for sent in broker.sent[world.sent_before :])
        if not is_again:
            world.count_as_the_book_must(leaving=intent.reference)
        world.reached["order", kind_of(intent)] += 1
        broker.sent.append(
            Sent(
                at=world.clock.now(),
                intent=intent,
                halted=world.halted,
                word=world.word,
                booked=world.book_shares(),
                beside=world.beside(),
                next_id=broker.last_id + 1,
                is_again=is_again,
                said=dict(self.said),
            )
        )

    def _given_up(self, reference: str) -> None:
        """The program is about to write down that an order never reached the broker; later the owner may say so."""
        broker = self.world.broker
        if str(self.world.today) not in reference:
            return
        tries = [sent for sent in broker.sent[self.world.sent_before :] if sent.intent.reference == reference]
        if tries and None in self.said.values():
            self.world.given_up_blind.append(f"{reference} counts as never sent, and the broker has not said so")

    def _through(self, place: str, real: Callable[..., Any], *args: Any, **values: Any) -> Any:
        trouble = self.world.trouble_at(place)
        if trouble is None:
            answer = real(*args, **values)
            if place == "store.add_notice":
                self.hear(args[0])
            return answer
        if trouble.what == "dies_before":
            self.die(place)
        if trouble.what in ("dies_after", TORN):
            real(*args, **values)
            if place == "store.add_notice":
                self.hear(args[0])
            if trouble.what == TORN and isinstance(self.world.store, FileStore):
                self.torn = self.world.store.torn(trouble.size)
            self.die(place)
        if place.startswith("store."):
            if place not in BOOK_READS:
                self.world.notices_lost = True
            if trouble.what == "unsure":  # the commit is durable, the disk says it is not
                real(*args, **values)
                if place == "store.add_notice":
                    self.hear(args[0])
            elif place == "store.add_notice":
                self.was_word_refused = True
            raise StoreError(f"{place}: the disk refused", hint="look at the disk")
        if trouble.what in ("meanwhile", "halted_meanwhile"):
            self.world.meanwhile(trouble.what)
            return real(*args, **values)
        if trouble.what == "slow":
            self.world.clock.sleep(timedelta(seconds=10 + 400 * trouble.size))
            is_lost = place.startswith("broker.") and place not in ANSWERS_LATE
            return Unknown("no answer in time") if is_lost else real(*args, **values)
        if place == "lock.hold":
            raise StoreError("the lock cannot be taken", hint="look at the disk")
        if place == "post.send":
            return self._send(real, trouble.what, *args)
        if place.startswith("broker."):
            return self._ask_broker(place, real, trouble, *args)
        if trouble.what == "absent":
            return {}
        if trouble.what == "unknown":
            raise MarketDataError("the source does not answer", hint="wait")
        return _spoilt(real(*args, **values), trouble.what)

    def _send(self, real: Callable[..., Any], what: str, *args: Any) -> bool:
        if what == "raises":
            raise RuntimeError("whatever a vendor's plugin may raise")
        if what == "unanswered":
            real(*args)
        self.world.clock.sleep(notices.PATIENCE)
        return False

    def _ask_broker(self, place: str, real: Callable[..., Any], trouble: Trouble, *args: Any) -> Any:
        if place == "broker.submit":
            return self._submit(real, trouble.what, trouble.size, *args)
        if place in ("broker.next_order_id", "broker.account"):
            raise BrokerUnavailable("no answer came", hint="look at the Gateway")
        if trouble.what == "fails":
            return (*real(*args), Check(name="hours", passed=False, words="other hours than the calendar's"))
        if trouble.what == "silent":
            words = "the contract's details never came"
            return (Check(name="contract", passed=False, words=words, exit_code=BrokerUnavailable.exit_code),)
        if trouble.what == "refused":
            return Known(WhatIf(is_accepted=False, words="201: order rejected"))
        if trouble.what == "unanswered":
            real(*args)
        return Unknown("the list never ended")

    def _submit(self, real: Callable[..., Any], what: str, size: float, intent: OrderIntent) -> Any:
        if what == "twice":
            real(intent)
            return real(intent)
        if what == "late":
            arrives_at = self.world.clock.now() + timedelta(seconds=1 + 30 * size)
            self.world.broker.on_the_wire.append((arrives_at, intent))
            self.world.broker.last_id = max(self.world.broker.last_id, intent.order_id)
        if size > 0.5:  # the line that swallowed the answer stays bad for a while: a list does not come either
            self.world.broker.silent_until = self.world.clock.now() + timedelta(minutes=2)
        if what == "restarted":
            self.world.broker.restart()
        if what == "unanswered":
            real(intent)
        raise BrokerUnavailable("the connection dropped", hint="look at the Gateway")


ALSO_KEPT = ("broker.cash", "prices.volume_until")
"""Answers that invariants ask for, besides those under which an order leaves."""

ANSWERS_LATE = ("broker.next_order_id", "broker.account", *(place for place in CALLS if CALLS[place] is CHECKS))
"""What answers after all where it is slow; of the rest nobody waits for the end."""


class Port:
    """A port of one process: what it is asked goes through `Process.call`."""

    def __init__(self, process: Process, name: str, real: Any) -> None:
        self._process = process
        self._name = name
        self._real = real

    def __getattr__(self, name: str) -> Any:
        place, process = f"{self._name}.{name}", self._process
        if place == "broker.account":  # not a method, and asks the broker all the same
            return process.call(place, getattr, self._real, name)
        real = getattr(self._real, name)
        if not callable(real):
            return real
        if place not in CALLS:
            asked = partial(process.pass_on, real)
        elif name == "transaction":
            asked = partial(self._transaction, place, real)
        elif place in BOOK_READS:
            asked = partial(process.look, place, real)
        else:
            asked = partial(process.write if self._name == "store" else process.call, place, real)
        self.__dict__[name] = asked  # found at once the next time
        return asked

    @contextmanager
    def _transaction(self, place: str, real: Callable[..., Any]) -> Iterator[None]:
        """The call that counts is the commit."""
        done = False

        def commit() -> None:
            nonlocal done
            done = True
            block.__exit__(None, None, None)

        process, is_outermost = self._process, self._process.unsaid is None
        block = real()
        block.__enter__()
        if is_outermost:
            process.unsaid = []
        try:
            yield
            process.write(place, commit)
        except BaseException as error:
            if not done:
                block.__exit__(type(error), error, error.__traceback__)
            raise
        finally:
            said, process.unsaid = process.unsaid or (), None if is_outermost else process.unsaid
            # Durable is durable, whatever became of the process; of a torn log nobody knows.
            for notice in said if done and is_outermost and not process.torn else ():
                process.world.hear(notice)


OWNERS = vars(notices.Post(["virtual://owner"], "paper"))
"""What the post of every process is made with."""


class Mail(notices.Post):
    """The program's own post of one process, the world's in the place of Apprise."""

    def __init__(self, process: Process) -> None:
        vars(self).update(OWNERS)
        self._process = process
        self._sending: tuple[Sequence[str], Notice]

    @property
    def past_the_book(self) -> list[Notice]:
        return self._process.world.post.past_the_book

    def send(self, lines: Sequence[str], gravest: Notice) -> bool:
        self._sending = lines, gravest
        return super().send(lines, gravest)

    def deliver(self, title: str, body: str, is_urgent: bool) -> list[str]:  # noqa: ARG002
        """As the program's, but for its threads."""
        apprise = SimpleNamespace(Apprise=lambda: self)
        return [notices._notify(apprise, url, title, body, kind="") for url in self._urls]

    def add(self, url: str) -> bool:  # noqa: ARG002
        return True

    def notify(self, **_: str) -> bool:
        process = self._process
        return bool(process.call("post.send", process.world.post.send, *self._sending))


def _spoilt(bars: DailyBars, what: str) -> DailyBars:
    """Bars with the fault asked for in the last row."""
    if what == "old":
        return replace(bars, as_of=bars.as_of - timedelta(minutes=40))
    if what == "no_bar" or bars.is_empty:
        return replace(bars, days=bars.days[:-1], values=bars.values[:-1])
    values = bars.values.copy()
    values[-1, 3] = nan
    return replace(bars, values=values)
