"""The owner's commands killed at every point where something durable, or something on the wire, has just happened.

After the kill nothing more is written, as when the power fails; then cron goes on, and the day is settled.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import date
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from fakes import SESSION, Bench

from mtum_eod.core.parameters import Parameters, RiskParameters
from mtum_eod.core.trading import Side
from mtum_eod.errors import MtumEodError
from mtum_eod.jobs import wheel
from mtum_eod.jobs.due import do_due
from mtum_eod.jobs.flatten import flatten

NEXT = date(2024, 11, 6)


class Killed(BaseException):
    """The process is gone."""


class Killer:
    """Kills at the `point`-th commit or message to the broker, before or after it; from then on nothing is done."""

    def __init__(self, bench: Bench, point: int, moment: str) -> None:
        self.point, self.moment = point, moment
        self.seen = 0
        self.is_dead = False
        self._bench = bench

    @contextmanager
    def __call__(self) -> Iterator[None]:
        store, broker = self._bench.store, self._bench.broker
        writing, submit, cancel = store.writing, broker.submit, broker.cancel

        @contextmanager
        def commit() -> Iterator[Any]:
            self._must_live()
            if store._db is not None:  # inside a transaction: durable with it
                with writing() as db:
                    yield db
                return
            self.seen += 1
            with writing() as db:
                yield db
                self._dies("before")
            self._dies("after")

        def over_the_wire(send: Callable[[Any], Any]) -> Callable[[Any], Any]:
            def sent(what: Any) -> Any:
                self._must_live()
                self.seen += 1
                self._dies("before")
                answer = send(what)
                self._dies("after")
                return answer

            return sent

        store.writing = commit  # type: ignore[method-assign]
        broker.submit, broker.cancel = over_the_wire(submit), over_the_wire(cancel)  # type: ignore[method-assign]
        try:
            yield
        except Killed:
            pass
        finally:
            store.writing = writing  # type: ignore[method-assign]
            broker.submit, broker.cancel = submit, cancel  # type: ignore[method-assign]

    def _dies(self, moment: str) -> None:
        if self.seen == self.point and moment == self.moment:
            self.is_dead = True
            raise Killed

    def _must_live(self) -> None:
        if self.is_dead:
            raise Killed


def killed_everywhere(start: Callable[[], Bench], command: Callable[[Bench], object]) -> Iterator[tuple[Bench, bool]]:
    """The bench after each kill in turn, and whether the command came to its end unharmed (the last two)."""
    for moment in ("before", "after"):
        for point in count(1):
            bench = start()
            killer = Killer(bench, point, moment)
            with killer():
                command(bench)
            yield bench, not killer.is_dead
            if not killer.is_dead:
                break


def cron(bench: Bench, session: date, *before_close: int) -> None:
    """What cron does so many minutes before the close; what it raises was told."""
    for minutes in before_close:
        bench.at(session, minutes)
        try:
            do_due(bench.desk)
        except MtumEodError:
            continue


def end_of_day(bench: Bench, session: date) -> None:
    """The closing auction, and the settlement until it is done."""
    for reference, order in bench.broker.at_broker.items():
        if order.status.is_open and str(session) in reference:
            intent = next(i for i in bench.broker.received if i.reference == reference)
            bench.broker.execute(reference, intent.shares, 148.0, 1.0)
    cron(bench, session, -20, -21)


def orders_of(bench: Bench, session: date) -> list[str]:
    return [str(intent.side) for intent in bench.broker.received if intent.session == session]


def book(bench: Bench) -> tuple[float, list[tuple[Any, ...]]]:
    """The broker's shares, and what the book says of its sessions."""
    return bench.broker.shares, bench.sql("SELECT status, settled FROM sessions")


def acts(bench: Bench) -> list[str]:
    return [act for (act,) in bench.sql("SELECT act FROM owner_act")]


@pytest.fixture
def asked(tmp_path: Path) -> Callable[[], Bench]:
    """Asks an hour before the close whether to buy 33; anew each time."""
    number = count()

    def start() -> Bench:
        parameters = Parameters(risk=RiskParameters(require_confirmation=True))
        bench = Bench(tmp_path / f"{next(number)}.db", parameters=parameters)
        bench.decide(before_close=60)
        bench.at(SESSION, 50)
        return bench

    return start


def test_an_approval_killed_anywhere_buys_once_or_lapses_once(asked: Callable[[], Bench]):
    """Bought where the owner's yes is durable; else nobody said yes, and that is told once."""
    ends = []
    for bench, _ in killed_everywhere(asked, lambda bench: wheel.approve(bench.desk, why="", by="owner")):
        said_yes = "approve" in acts(bench)
        cron(bench, SESSION, 49, 48, 16, 15, 14)
        end_of_day(bench, SESSION)
        lapses = [words for words, _ in bench.notices("approval") if "was not bought" in words]
        ends.append((said_yes, orders_of(bench, SESSION), len(lapses), book(bench)))

    yes = (True, ["BUY"], 0, (33.0, [("decided", 1)]))
    no = (False, [], 1, (0.0, [("decided", 1)]))
    assert {str(yes), str(no)} == {str(end) for end in ends}
    assert len(ends) > 10


def test_a_no_killed_anywhere_buys_nothing_and_closes_the_question(asked: Callable[[], Bench]):
    ends = []
    for bench, _ in killed_everywhere(asked, lambda bench: wheel.refuse(bench.desk, why="", by="owner")):
        cron(bench, SESSION, 49, 48, 16, 15, 14)
        end_of_day(bench, SESSION)
        ends.append((orders_of(bench, SESSION), book(bench)))

    assert {str(([], (0.0, [("decided", 1)])))} == {str(end) for end in ends}


@pytest.fixture
def long(tmp_path: Path) -> Callable[[], Bench]:
    """Holds 33 shares, on the afternoon after they were bought; anew each time."""
    number = count()

    def start() -> Bench:
        bench = Bench(tmp_path / f"{next(number)}.db")
        bench.buy(SESSION)
        bench.at(NEXT, 100)
        return bench

    return start


def test_a_sale_killed_anywhere_sells_once_or_not_at_all(long: Callable[[], Bench]):
    """Sold where the owner's act is durable, with its intent, and never twice."""
    ends = []
    for bench, _ in killed_everywhere(long, lambda bench: flatten(bench.desk, why="", by="owner")):
        wanted = "flatten" in acts(bench)
        cron(bench, NEXT, 99, 20, 19, 15)
        end_of_day(bench, NEXT)
        ends.append((wanted, orders_of(bench, NEXT), book(bench)))

    done = [("decided", 1), ("decided", 1)]
    assert {str((True, ["SELL"], (0.0, done))), str((False, [], (33.0, done)))} == {str(end) for end in ends}
    assert len(ends) > 10


@pytest.fixture
def bought(tmp_path: Path) -> Callable[[], Bench]:
    """Has a working order of 33 shares, 17 minutes before the close; anew each time."""
    number = count()

    def start() -> Bench:
        bench = Bench(tmp_path / f"{next(number)}.db")
        bench.decide()
        bench.at(SESSION, 17)
        return bench

    return start


def test_a_cancel_killed_anywhere_leaves_book_and_broker_alike(bought: Callable[[], Bench]):
    """Withdrawn or executed, the settlement finds out which."""
    ends = []
    for bench, is_whole in killed_everywhere(
        bought, lambda bench: wheel.cancel(bench.desk, why="", by="owner", turn=nullcontext)
    ):
        cron(bench, SESSION, 16, 15, 14)
        end_of_day(bench, SESSION)
        held = bench.sql("SELECT coalesce(sum(CASE side WHEN 'BUY' THEN shares ELSE -shares END), 0) FROM execution")
        ends.append((is_whole, orders_of(bench, SESSION) == [str(Side.BUY)], bench.broker.shares == held[0][0]))
        assert [("decided", 1)] == bench.sql("SELECT status, settled FROM sessions")
        assert bench.broker.shares in ((0.0,) if is_whole else (0.0, 33.0))

    assert all(once and alike for _, once, alike in ends)
