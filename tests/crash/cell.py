"""One cell of the crash matrix: a session begun on the eve's book, a process killed in it, what follows, and the books.

The server is Interactive Brokers here, and the only witness of what was really traded: what it says at the end is what
the database must say.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import StrEnum
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from shutil import copytree
from typing import Any, Literal

from crash.victim import CALENDAR, Typed, When, start
from mtum_eod.adapters.store import upkeep
from mtum_eod.bootstrap import Workplace
from mtum_eod.settings import load
from tws_server import Auction, Order, Reply, Request, Server
from tws_server.faults import NAMES

OURS = "mtum-eod/"
PATIENCE_SECONDS = 60.0
FIRST_ID = 50
"""The order ids begin here, so that a Gateway that begins anew gives smaller ones."""

QUIET = {"STRATEGY__VIX_ENTRY_THRESHOLD": "1"}
EXIT = QUIET | {"STRATEGY__VIX_EXIT_THRESHOLD": "1"}


OF_FILLS = ("add_fills", "execDetails", "commissionReport")
"""What a settlement without executions has none of."""


class NotMet(Exception):
    """The process ended before it came to the point where it was to die."""


class Fate(StrEnum):
    """What happens to the order before the next start, and before the close."""

    AS_IT_IS = "as it is"
    PART_FILLED = "part filled"
    FILLED = "filled"
    REJECTED = "rejected"


class Restart(StrEnum):
    """When the next process comes, and to whom."""

    AT_ONCE = "at once"
    AFTER_HARD_STOP = "after the hard stop"
    NEXT_SESSION = "the next session"
    TWICE = "twice at the same time"
    IDS_REISSUED = "with ids reissued"


@dataclass(frozen=True, order=True)
class Point:
    """A moment to die at: around a commit of the store, or around a message that the server gets or gives."""

    step: Literal["run", "settle"]
    what: Literal["commit", "wire"]
    name: str
    nth: int
    when: When
    has_order: bool = field(default=True, compare=False)  # whether the broker may have the order by then

    def __str__(self) -> str:
        return f"{self.step}: {self.when} {self.what} {self.name} {self.nth}"


@dataclass(frozen=True, kw_only=True)
class Day:
    """A session with an order, and the book on its eve."""

    side: Literal["BUY", "SELL"]
    session: date
    eve: date
    book: Path  # its folder

    @property
    def after(self) -> date:
        return CALENDAR.nearest(self.session)[1]

    @property
    def settings(self) -> Mapping[str, str]:
        return EXIT if self.side == "SELL" else {}


def eve_of(side: Literal["BUY", "SELL"], folder: Path) -> Day:
    """A session with an order of that side, with a book that was lived until the session before was settled."""
    session = date(2024, 11, 5) if side == "BUY" else date(2024, 11, 6)
    eve = CALENDAR.nearest(session)[0]
    with Life(
        Day(side=side, session=eve, eve=eve, book=folder), folder, settings=QUIET if side == "BUY" else {}
    ) as life:
        life.type("run")
        life.go_to(eve, 20).type("settle")
        assert {0} == set(life.exit_codes), life.out
    return Day(side=side, session=session, eve=eve, book=folder)


class Life:
    """A folder with a book, and a server with what that book has traded."""

    def __init__(self, day: Day, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        self.day = day
        self.folder = folder
        self.restart = Restart.AT_ONCE
        self.exit_codes: list[int] = []
        if folder != day.book:
            copytree(day.book, folder, dirs_exist_ok=True)
        self.tws = Server(at=CALENDAR.close(day.eve) - timedelta(minutes=20))
        self._settings = day.settings if settings is None else settings
        self._ends = ExitStack()

    def __enter__(self) -> Life:
        self._ends.enter_context(self.tws)
        self.tws.exchange.first_id = FIRST_ID
        if self.day.eve != self.day.session:
            for quantity, price in self.sql("SELECT shares, price_usd FROM execution"):
                self.tws.trade_by_hand("BUY", "MTUM", quantity, price)
                self.tws.exchange.first_id += 1
            self.go_to(self.day.session, -20)
        return self

    def __exit__(self, *exception: Any) -> None:
        self._ends.__exit__(*exception)

    # -- what happens -----------------------------------------------------------------------------------------------

    def go_to(self, session: date, minutes_after_close: float) -> Life:
        """Let time pass until so long after the close of a session, before it where negative."""
        self.tws.clock.set(CALENDAR.close(session) + timedelta(minutes=minutes_after_close))
        return self

    @property
    def environment(self) -> Mapping[str, str]:
        """What the commands find in their environment."""
        names = {"MODE": "paper", "DATA__SOURCE": "ib", "IB__PAPER_PORT": str(self.tws.port)}
        values = {f"MTUM_EOD_{key}": value for key, value in (names | dict(self._settings)).items()}
        return {"HOME": str(self.folder), "XDG_CONFIG_HOME": str(self.folder)} | values

    def place(self) -> Workplace:
        """The parts of a command in this very process."""
        file = self.folder / "settings.toml"
        file.touch()
        place = Workplace(loaded=load(file, self.environment), clock=self.tws.clock)
        vars(place)["calendar"] = CALENDAR  # worked out already
        return place

    def start(self, command: str, **how: Any) -> ForkServerProcess:
        """A process in which a command is typed now."""
        at = self.tws.clock.now()
        return start(Typed(folder=self.folder, environment=self.environment, command=command, at=at, **how))

    def type(self, command: str, times: int = 1, **how: Any) -> None:
        """Type a command, or several at the same moment, and wait for the end."""
        begins = time.monotonic() + 0.05 if times > 1 else 0.0
        processes = [self.start(command, begins=begins, **how) for _ in range(times)]
        self.exit_codes += [end_of(process) for process in processes]

    def die(self, point: Point, fate: Fate = Fate.AS_IT_IS) -> None:
        """Type the step's command, and see its process killed at that point; let that happen to the session's order.

        It happens before the close, which is before the settlement that dies. Raises NotMet where the process does not
        come by the point.
        """
        if point.step == "settle":
            self.type("run")
            self._meet(fate)
            self.go_to(self.day.session, 20)
        if point.what == "commit":
            process = self.start(point.step, dies_at=(point.name, point.nth, point.when))
        else:
            process = self._killed_by_wire(point)
        if end_of(process) != -signal.SIGKILL:
            raise NotMet(f"{point}, {fate}: {self.out}")
        self._wait_for_goodbye()
        if point.step == "run":
            self._meet(fate)

    def _meet(self, fate: Fate) -> None:
        """Let that happen to the session's order, if the broker has it."""
        order = self.order
        if order is None or not order.is_live:
            return
        if fate is Fate.PART_FILLED:
            self.tws.fill(order, 5)
            self.tws.exchange.auctions[order.session] = Auction(shares=0)
        elif fate is Fate.FILLED:
            self.tws.fill(order)
        elif fate is Fate.REJECTED:
            self.tws.reject(order)

    def go_on(self, step: Literal["run", "settle"], restart: Restart) -> None:
        """Start again as told, and live until the session is settled."""
        self.restart, session = restart, self.day.session
        if restart is Restart.NEXT_SESSION:
            self.go_to(self.day.after, -20).type("run")
            self.go_to(self.day.after, 20).type("settle")
            return
        if restart is Restart.AFTER_HARD_STOP:
            self.go_to(session, -10 if step == "run" else 60)
        elif restart is Restart.IDS_REISSUED:
            self.tws.restart(first_id=1)
        self.type(step, times=2 if restart is Restart.TWICE else 1)
        if step == "run":
            self.go_to(session, 20).type("settle")

    def trace(self) -> list[Point]:
        """Every point that a session passes from its decision to its settlement, where nothing goes wrong."""
        points: list[Point] = []
        counted: Counter[tuple[str, str, When]] = Counter()
        step: Literal["run", "settle"]

        def note(what: Literal["commit", "wire"], name: str, when: When, *, has_order: bool) -> None:
            counted[step, name, when] += 1
            points.append(Point(step, what, name, counted[step, name, when], when, has_order))

        def note_wire(when: When, message: Request | Reply) -> None:
            note("wire", message.name, when, has_order=message.name == "placeOrder" or self.order is not None)

        for name in NAMES:
            self.tws.on(name, partial(note_wire, "before"), "before")
            self.tws.on(name, partial(note_wire, "after"), "after")
        for step in ("run", "settle"):
            self.type(step, traces=True)
            self._wait_for_goodbye()
            is_sent = step == "settle"
            for name in (self.folder / "commits").read_text().split():
                is_sent = is_sent or (name == "transaction" and counted[step, name, "before"] > 0)
                note("commit", name, "before", has_order=is_sent)
                note("commit", name, "after", has_order=is_sent)
            (self.folder / "commits").unlink()
            self.go_to(self.day.session, 20)
        return points

    def _killed_by_wire(self, point: Point) -> ForkServerProcess:
        """The process that the server kills at the nth message of that name."""
        has_begun, seen = threading.Event(), Counter[str]()

        def kill(_: Request | Reply) -> None:
            seen[point.name] += 1
            if seen[point.name] == point.nth:
                has_begun.wait(PATIENCE_SECONDS)
                sentinel = os.dup(process.sentinel)  # our own: who waits for the end may close the process before us
                os.kill(process.pid, signal.SIGKILL)
                wait([sentinel], PATIENCE_SECONDS)
                os.close(sentinel)

        self.tws.on(point.name, kill, point.when)
        process = self.start(point.step)
        has_begun.set()
        return process

    def _wait_for_goodbye(self) -> None:
        """Until the server has read what was under way, and then the end."""
        until = time.monotonic() + PATIENCE_SECONDS
        while self.tws.sessions and time.monotonic() < until:
            time.sleep(0.002)

    # -- what is there ----------------------------------------------------------------------------------------------

    @property
    def out(self) -> str:
        """All that the commands have said."""
        path = self.folder / "out"
        return path.read_text() if path.exists() else ""

    @property
    def order(self) -> Order | None:
        """The session's order at the server."""
        orders = [order for order in self.tws.orders if order.session == self.day.session and order.reference]
        return orders[-1] if orders else None

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """What the database says, past all code under test."""
        with closing(sqlite3.connect(self.folder / "mtum-eod-paper.db")) as db:
            return db.execute(statement, values).fetchall()

    def complaints(self) -> list[str]:
        """Everything in which the end is not as it must be; nothing, if all is well."""
        books = self._of_doubt() if self.is_in_doubt else self._of_books()
        return [*self._of_orders(), *books, *self._of_silence(), *self._of_exits()]

    def _of_orders(self) -> Iterator[str]:
        """At most one order a session, and never a share less than none."""
        ours = [order for order in self.tws.orders if order.reference]
        for session, count in Counter(order.session for order in ours).items():
            if count > 1:
                yield f"{count} orders of {session}"
        held = 0.0
        for print_ in self.tws.executions:
            held += print_.shares if print_.side == "BOT" else -print_.shares
            if held < 0:
                yield f"short by {-held} shares"

    def _of_books(self) -> Iterator[str]:
        """The database has what the server has: to the cent, or by quantity and marked as estimated past midnight."""
        for order in (order for order in self.tws.orders if order.reference):
            there = [
                (print_.exec_id.rpartition(".")[0], int(print_.shares), round(print_.price, 2), print_.commission)
                for print_ in self.tws.executions
                if print_.order is order
            ]
            columns = "execution_id, shares, round(price_usd, 2), commission_usd, is_estimated"
            query = f"SELECT {columns} FROM execution WHERE reference = ? ORDER BY executed_at, id"  # noqa: S608
            here = self.sql(query, order.reference)
            if any(row[-1] for row in here):
                if not self._is_past(order):
                    yield f"estimated within the day: {here}"
                if sum(row[1] for row in here) != order.filled:
                    yield f"{order.filled} shares at the server, {here} in the book"
            elif sorted(there) != sorted(row[:-1] for row in here):
                yield f"executions {there} at the server, {here} in the book"
        [(shares,)] = self.sql(
            "SELECT coalesce(sum(CASE side WHEN 'BUY' THEN shares ELSE -shares END), 0) FROM execution"
        )
        held = self.tws.positions.get("MTUM")
        if shares != (held.shares if held else 0):
            yield f"{shares} shares in the book, {held} at the server"
        for reference, status, quantity in self.sql("SELECT reference, status, shares FROM order_intent"):
            order = next((order for order in self.tws.orders if order.reference == reference), None)
            if self.day.eve.isoformat() not in reference and status not in self._right_ends(order, quantity):
                yield f"order {reference} is {status}, the server has {order}"
        for session, why in self.sql("SELECT session, why FROM session WHERE NOT is_settled AND status <> 'missed'"):
            yield f"session {session} is not settled: {why}"
        yield from upkeep.check(self.folder / "mtum-eod-paper.db")

    def _of_doubt(self) -> Iterator[str]:
        """Nothing is sent while a person must look, and they are told so."""
        if 5 not in self.exit_codes:
            yield f"in doubt, and exit codes {self.exit_codes}"
        [(sent,)] = self.sql("SELECT count(*) FROM order_intent WHERE session > ?", self.day.session.isoformat())
        if sent:
            yield "an order left while another was in doubt"

    def _right_ends(self, order: Order | None, quantity: int) -> set[str]:
        """What the book may call the end of an order that ended so at the server."""
        if order is None:
            return {"not_sent"}
        if order.filled:
            return {"filled" if order.filled == quantity else "partly_filled"}
        # Past midnight no list has it any more: that it was refused and that it never came look alike.
        return {"rejected", "cancelled"} | ({"not_sent"} if self._is_past(order) else set())

    def _is_past(self, order: Order) -> bool:
        """Whether the broker's lists had forgotten the order before anybody asked."""
        return self.restart is Restart.NEXT_SESSION and order.session == self.day.session

    @property
    def is_in_doubt(self) -> bool:
        """Whether a person must look: the position stands between before and after, and nobody heard of the order."""
        order = self.order
        is_part = order is not None and self._is_past(order) and 0 < order.filled < order.quantity
        return is_part and self.sql("SELECT 1 FROM order_intent WHERE status = 'unknown'") == [(1,)]

    def _of_silence(self) -> Iterator[str]:
        """Whatever became of an order, and that there was none, stands in a message to the owner."""
        notices = self.sql("SELECT event, words, is_urgent FROM notice")
        for reference, session, status in self.sql("SELECT reference, session, status FROM order_intent"):
            told = [(event, is_urgent) for event, words, is_urgent in notices if session in words]
            if status in ("filled", "partly_filled"):
                if ("order_filled", 0) not in told and ("order_filled", 1) not in told:
                    yield f"nobody heard that {reference} was filled: {notices}"
            elif not any(is_urgent for _, is_urgent in told):
                yield f"nobody heard that {reference} is {status}: {notices}"
        for (session,) in self.sql("SELECT session FROM session WHERE status = 'missed'"):
            if not any(event == "run_missed" and session in words for event, words, _ in notices):
                yield f"nobody heard that {session} was missed"
        [(rows,)] = self.sql("SELECT count(*) FROM session WHERE session = ?", self.day.session.isoformat())
        if not rows:
            yield "the session has no row in the ledger"
        allowed = {0, 5, 6} if self.restart is Restart.TWICE else {0, 5}
        if not set(self.exit_codes) <= allowed:
            yield f"exit codes {self.exit_codes}"
        if "Traceback" in self.out:
            yield self.out

    def _of_exits(self) -> Iterator[str]:
        """A sale that was due is done, unless the broker itself ended the session's order short of its shares."""
        held, order = self.tws.positions.get("MTUM"), self.order
        has_had_it = self.restart is not Restart.NEXT_SESSION and order is not None and not order.is_live
        if self.day.side == "SELL" and held and held.shares and not has_had_it and not self.is_in_doubt:
            yield f"{held.shares:g} shares are not sold; the session's order at the server: {order}"


def end_of(process: ForkServerProcess) -> int:
    """The exit code of a process, negative where a signal ended it."""
    process.join(PATIENCE_SECONDS)
    code = process.exitcode
    assert code is not None, "the process does not end"
    process.close()
    return code


def play(day: Day, folder: Path, point: Point, fate: Fate, restart: Restart) -> list[str]:
    """What is not as it must be in the end, where a session's process died at that point, and this followed."""
    with Life(day, folder) as life:
        life.die(point, fate)
        life.go_on(point.step, restart)
        return [f"{day.side}, {point}, {fate}, restarted {restart}: {complaint}" for complaint in life.complaints()]
