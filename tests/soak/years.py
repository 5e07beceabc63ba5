"""Years with the daemon and everything that goes wrong in them, and what must be true afterwards.

The daemon's process lives from due instant to due instant; between them a Gateway restarts each night, connections
break, the power fails in the middle of steps, and for some weeks nobody takes a message. All of it by a fixed seed.
"""

from __future__ import annotations

import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from statistics import median

import pandas as pd
from receivers import Received

from mtum_eod.adapters.sample import SampleData
from mtum_eod.core.market import VIX
from mtum_eod.ports import Calendar
from soak.machine import Machine, Size, minutes
from tws_server import Server
from tws_server.faults import Fault

STEPS = ("preflight", "decide", "settle", "evening")

ALWAYS = {
    "preflight": "reqHistoricalData historicalData reqContractDetails contractDetails reqPositions accountSummary",
    "decide": "startApi reqHistoricalData historicalData reqPositions positionEnd reqAccountSummary accountSummary",
    "settle": "startApi managedAccounts nextValidId reqHistoricalData historicalData",
}
"""Messages of every session, by step: at one of them the week's connection is lost."""

WITH_ORDER = {
    "decide": "placeOrder openOrder orderStatus",
    "settle": "reqAllOpenOrders reqCompletedOrders completedOrder reqExecutions execDetails commissionReport",
}
"""Messages about an order: every third step that sees one loses its connection there as well."""

DOWN = (minutes(1), minutes(4), minutes(12), minutes(90), minutes(20 * 60), minutes(75 * 60))
"""How long the machine stays off after a power cut."""

SETTINGS = """
[strategy]
ma_period = 10
rsi_entry_threshold = 40
atr_multiplier = 0.5
vix_entry_threshold = 30
vix_exit_threshold = 35
[notifications]
urls = ["json://127.0.0.1:{web}/inbox", "mailto://owner:secret@127.0.0.1:{mail}?from=a@b.example&to=c@d.example"]
heartbeat_url = "http://127.0.0.1:{web}/ping"
"""
"""A strategy that trades more often than the owner's: there is more to go wrong."""

LIFE = 12
"""Sessions a process has lived when its growth is looked at, and after its start has faded: the first five."""


@dataclass(kw_only=True)
class Deaf:
    """A week in which both of the owner's addresses turn every message away."""

    first: datetime
    last: datetime
    posts: list[int] = field(default_factory=list)  # how many had come at its begin, its end, and two days later
    mails: int = 0  # at its end


@dataclass(kw_only=True)
class Years:
    """Sessions lived, and what happened in them.

    calm: months, as (year, month), without a power cut. deaf: Mondays of the weeks without a message.
    """

    folder: Path
    tws: Server
    web: Received
    mail: Received
    first: date
    last: date
    calm: frozenset[tuple[int, int]]
    deaf: tuple[date, ...]
    seed: int = 1
    happened: Counter[str] = field(default_factory=Counter)
    lives: list[list[tuple[date, Size]]] = field(default_factory=lambda: [[]])
    seconds: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))  # a session, by year
    exit_code: int | None = None

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)  # noqa: S311  # no secret is made of it
        calendar = self.tws.calendar
        self.sessions = calendar.sessions(self.first, self.last)
        by_week, by_month = defaultdict(list), defaultdict(list)
        for session in self.sessions:
            by_week[session.isocalendar()[:2]].append(session)
            by_month[session.year, session.month].append(session)
        self._breaks = {(self._chance.choice(week), self._chance.choice([*ALWAYS])) for week in by_week.values()}
        self._cuts = {
            (self._chance.choice(days), self._chance.choice(STEPS))
            for month, days in by_month.items()
            if month not in self.calm
        }
        self._weeks = [
            Deaf(first=calendar.at(day, "00:00"), last=calendar.at(day + timedelta(days=7), "00:00"))
            for day in self.deaf
        ]
        self._usual: dict[str, float] = dict.fromkeys(STEPS, 0.2)  # seconds of a step
        self._fault: Fault | None = None
        self._began = 0.0

    # -- living -----------------------------------------------------------------------------------------------------

    def live(self) -> None:
        """Live from before the first session's preflight to after the last one's evening."""
        calendar, end = self.tws.calendar, self.tws.calendar.at(self.last, "18:30")
        self.tws.clock.set(calendar.close(self.first) - minutes(150))
        self.machine = Machine(self.folder, self.tws, SETTINGS.format(web=self.web.port, mail=self.mail.port))
        with self.machine:
            self._live(end)
            self.exit_code = self.machine.terminate()

    def _live(self, end: datetime) -> None:
        idle_minutes = 0
        self._began = time.monotonic()
        while (wait := self.machine.idle()).until <= end:
            idle_minutes = 0 if wait.step else idle_minutes + 1
            until = wait.due
            if idle_minutes > 3:  # a step that fails is tried every minute: of these each fifth is enough
                until += minutes(4)
            if any(week.first <= self.tws.clock.now() < week.last for week in self._weeks):
                until = min(until, max(wait.until, self.tws.clock.now() + timedelta(hours=3)))
            self._pass(until, wait.step if until == wait.due else "")

    def _pass(self, until: datetime, step: str) -> None:
        session = self.tws.calendar.local_date(until)
        self._meanwhile(until)
        self._break(session, step)
        started = time.monotonic()
        self.machine.go(until)
        if (session, step) in self._cuts:
            self._cuts.discard((session, step))
            self._cut(step)
            return
        self.machine.idle()
        if step:
            self._usual[step] = time.monotonic() - started
        if step == "evening" and self.tws.calendar.is_session(session):
            self.lives[-1].append((session, self.machine.size))
            self.seconds[session.year].append(time.monotonic() - self._began)
            self._began = time.monotonic()

    def _meanwhile(self, until: datetime) -> None:
        """What happens between now and then, while the daemon rests or the machine is off."""
        now, calendar = self.tws.clock.now(), self.tws.calendar
        if calendar.local_date(now) != calendar.local_date(until):
            reissued = self._chance.random() < 0.1
            self.happened["Gateway restarts"] += 1
            self.happened["with ids reissued"] += reissued
            self.tws.restart(first_id=1 if reissued else None)
            self.tws.received.clear()
        for week in self._weeks:
            if not week.posts and until >= week.first:
                week.posts.append(len(self.web.requests))
                self.web.refuses = self.mail.refuses = True
                self.happened["weeks without a message"] += 1
            if len(week.posts) == 1 and until >= week.last:
                week.posts.append(len(self.web.requests))
                week.mails = len(self.mail.mails)
                self.web.refuses = self.mail.refuses = False
            if len(week.posts) == 2 and until >= week.last + timedelta(days=2):
                week.posts.append(len(self.web.requests))

    def _break(self, session: date, step: str) -> None:
        """Lose the connection in this step, if it is its turn."""
        if self._fault:
            self.happened["lost connections"] += self._fault.hit
            about_order = any(self._fault.name in words.split() for words in WITH_ORDER.values())
            self.happened["of them around an order"] += self._fault.hit if about_order else 0
        self.tws.faults.clear()
        self._fault = None
        words = ""
        if (session, step) in self._breaks:
            words = ALWAYS[step]
        elif step in WITH_ORDER and self._chance.random() < 0.3:
            words = WITH_ORDER[step]
        if words:
            name = self._chance.choice(words.split())
            before = self._chance.random() < 0.5
            self._fault = self.tws.faults.drop(before=name) if before else self.tws.faults.drop(after=name)

    def _cut(self, step: str) -> None:
        """The power fails at a random moment of this step, and comes back after a while."""
        if self.machine.works(self._chance.uniform(0, self._usual[step])):
            self.happened["power cuts in a step"] += 1
        else:
            self.happened["power cuts after one"] += 1
        self.machine.kill()
        until = self.tws.clock.now() + self._chance.choice(DOWN)
        self._meanwhile(until)
        self.tws.clock.set(until)
        self.machine.start()
        self.lives.append([])
        self._began = time.monotonic()

    # -- what must be true ------------------------------------------------------------------------------------------

    def complaints(self) -> list[str]:
        """What is not as it must be after all that."""
        return [*self._of_the_ledger(), *self._of_orders(), *self._of_messages(), *self._of_growth()]

    def _of_the_ledger(self) -> Iterator[str]:
        rows = self.machine.sql("SELECT session, status, why, settled FROM sessions")
        if [str(session) for session in self.sessions] != [row[0] for row in rows]:
            yield f"{len(self.sessions)} sessions, {len(rows)} rows"
        for session, status, why, is_settled in rows:
            self.happened[f"sessions {status}"] += 1
            self.happened["of them for lack of history"] += "insufficient history" in why
            if status != "decided" and not why:
                yield f"{session} is {status}, and nobody says why"
            if status == "decided" and not is_settled:
                yield f"{session} is not settled"
        if self.exit_code != 0:
            yield f"told to end, the daemon ended with {self.exit_code}"
        if "Traceback" in self.machine.out:
            yield self.machine.out[self.machine.out.index("Traceback") :][:3000]

    def _of_orders(self) -> Iterator[str]:
        sent = Counter(order.session for order in self.tws.orders)
        yield from (f"{count} orders of {session} at the broker" for session, count in sent.items() if count > 1)
        executions = defaultdict(list)
        held = 0.0
        for execution in self.tws.executions:
            executions[execution.order.reference].append(execution)
            held += execution.shares if execution.side == "BOT" else -execution.shares
            if held < 0:
                yield f"short by {-held:g} after {execution.order.reference}"
        self.happened["orders"] = len(self.tws.orders)
        booked = defaultdict(list)
        for reference, *row in self.machine.sql(
            "SELECT reference, shares, price_usd, commission_usd, is_estimated FROM execution"
        ):
            booked[reference].append(row)
        for reference in executions.keys() | booked.keys():
            theirs = executions[reference]
            ours = booked[reference]
            if sum(one.shares for one in theirs) != sum(row[0] for row in ours):
                yield f"{reference}: the broker filled {theirs}, the book has {ours}"
            if any(row[3] for row in ours):
                self.happened["fills booked by their quantity"] += 1
                continue
            value = sum(one.shares * one.price for one in theirs) - sum(row[0] * row[1] for row in ours)
            commission = sum(one.commission for one in theirs) - sum(row[2] or 0.0 for row in ours)
            if max(abs(value), abs(commission)) > 0.005:
                yield f"{reference}: {value:+.4f} USD and {commission:+.4f} USD commission at the broker"
        known = {order.reference: order.status for order in self.tws.orders}
        for reference, status in self.machine.sql("SELECT reference, status FROM order_intent"):
            if status in ("intent", "working", "unknown"):
                yield f"{reference} is still {status}"
            if (status in ("filled", "partly_filled")) != (known.get(reference) == "Filled"):
                yield f"{reference} is {status} here, {known.get(reference)} at the broker"
            known.pop(reference, None)
        yield from (f"{reference} is in no book" for reference in known)

    def _of_messages(self) -> Iterator[str]:
        for week in self._weeks:
            begun, ended, later = week.posts
            told = self.machine.sql(
                "SELECT words, times_told, sent_at FROM notice WHERE is_to_send AND told_at >= ? AND told_at < ?",
                *(f"{instant:%Y-%m-%dT%H:%M}" for instant in (week.first, week.last)),
            )
            tried = [body for _, path, body in self.web.requests[begun:ended] if path == "/inbox"]
            lines = [line for _, text in posts(self.web, ended, later) for line in text.split("\n")]
            self.happened["messages of those weeks"] += sum(times for _, times, _ in told)
            self.happened["attempts to send them"] += len(tried)
            self.happened["lines of them that came later"] += len(lines)
            for words, _, sent_at in told:
                if sent_at is None or sent_at < f"{week.last:%Y-%m-%dT%H:%M}":
                    yield f"sent at {sent_at}, which is no time to send: {words}"
                first = words.split("\n")[0]
                times = sum(line.startswith(first) for line in lines)
                if times > 1:
                    yield f"came {times} times: {words}"
            if not told or not lines or len(lines) > len(told) + 20:
                yield f"{len(told)} messages of the week of {week.first}, {len(lines)} lines came of them"
            if len(self.mail.mails) == week.mails:
                yield f"no mail came after the week of {week.first}"
        waiting = self.machine.sql("SELECT told_at, words FROM notice WHERE is_to_send AND sent_at IS NULL")
        yield from (f"never sent: {row}" for row in waiting)

    def _of_growth(self) -> Iterator[str]:
        for life in self.lives:
            if len(life) < LIFE:
                continue
            sizes = [size for _, size in life[5:]]
            grown = median(size.resident_kb for size in sizes[-5:]) - median(size.resident_kb for size in sizes[:5])
            for name, more, allowed in (
                ("kB of memory", grown, 4096 + 32 * len(life)),
                ("threads", max(size.threads for size in sizes) - sizes[0].threads, 1),
                ("handles", max(size.handles for size in sizes) - sizes[0].handles, 2),
            ):
                self.happened[f"most growth in {name}"] = max(self.happened[f"most growth in {name}"], int(more))
                if more > allowed:
                    yield f"{more:g} {name} more after {len(life)} sessions, from {life[0][0]}"

    # -- figures ----------------------------------------------------------------------------------------------------

    def figures(self) -> str:
        """What happened, in a line."""
        longest = max(self.lives, key=len)
        a_year = {year: sum(seconds) / len(seconds) for year, seconds in self.seconds.items()}
        years = sorted(a_year)
        megabytes = (self.folder / "mtum-eod-paper.db").stat().st_size / 1e6
        said = [f"{len(self.sessions)} sessions {self.first} to {self.last}"]
        said += [f"{name}: {count}" for name, count in self.happened.items()]
        said += [
            f"longest life of a process: {len(longest)} sessions,"
            f" {longest[5][1].resident_kb} to {longest[-1][1].resident_kb} kB, {longest[-1][1].threads} threads,"
            f" {longest[-1][1].handles} handles",
            f"database {megabytes:.1f} MB",
            f"{a_year[years[0]]:.2f} s a session in {years[0]}, {a_year[years[-1]]:.2f} s in {years[-1]}",
        ]
        return ", ".join(said)


def history(calendar: Calendar, until: date) -> dict[str, pd.DataFrame]:
    """The sample's bars of MTUM and VIX, begun with the calendar in 2012: a year before the sample itself does."""
    made, days = SampleData(calendar), calendar.sessions(calendar.first_session, until)
    frames = (made.daily(symbol, date(2013, 1, 2), until, calendar.close(until)).frame for symbol in ("MTUM", VIX))
    return {
        symbol: frame.set_axis(pd.DatetimeIndex(days[: len(frame)], name=frame.index.name).as_unit("ns"))
        for symbol, frame in zip(("MTUM", VIX), frames, strict=True)
    }


def posts(web: Received, begin: int, end: int) -> list[tuple[str, str]]:
    """The messages among these requests."""
    return Received(port=0, requests=web.requests[begin:end]).messages
