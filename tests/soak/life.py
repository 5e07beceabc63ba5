"""`mtum-eod schedule` in a process of its own, under a clock that the other end of a pipe moves.

The program is the real one, from the command line to the socket. Time comes in at three places, and only these are
others here: the machine's clock, the `datetime` that the daemon and APScheduler ask for the present, and what
APScheduler waits with for the next minute. Waiting asks the other end for another instant, once no step is under way.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from functools import lru_cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

# Imported here for the warm parent: a life is restarted often.
import apprise  # noqa: F401
import apscheduler.executors.base
import apscheduler.schedulers.background
import apscheduler.schedulers.base

import mtum_eod.adapters.ib.broker
import mtum_eod.adapters.ib.data
import mtum_eod.adapters.ib.library
import mtum_eod.adapters.lock
import mtum_eod.adapters.store
import mtum_eod.jobs.doctor
import mtum_eod.views.text  # noqa: F401
from mtum_eod import bootstrap, daemon
from mtum_eod.adapters.calendar import ExchangeCalendar
from mtum_eod.bootstrap import Workplace
from mtum_eod.cli import cli
from mtum_eod.daemon import Minute
from mtum_eod.settings import NotificationSettings

FORKS = multiprocessing.get_context("forkserver")

MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, kw_only=True)
class Wait:
    """The process asks for time to pass: at least until `until`; a `step` falls due then, where it names one."""

    until: datetime
    due: datetime
    step: str = ""
    is_idle: bool = True  # otherwise a step under way sleeps


class Wall:
    """The clock on the process's wall. Whoever lets time pass here waits for the other end to have moved it."""

    def __init__(self, line: Connection, at: datetime) -> None:
        self._line = line
        self._now = at
        self._turn = threading.Lock()

    def now(self) -> datetime:
        return self._now

    def sleep(self, duration: timedelta) -> None:
        until = self._now + duration
        self.wait(Wait(until=until, due=until, is_idle=False))

    def wait(self, wanted: Wait) -> None:
        with self._turn:
            self._line.send(wanted)
            self._now = self._line.recv()


def warm_up() -> None:
    """Start the parent that has imported all this; the first process would wait for it otherwise."""
    FORKS.set_forkserver_preload([__name__])
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])  # where it finds this module
    FORKS.Process(target=int).start()


def live(folder: Path, environment: Mapping[str, str], line: Connection, at: datetime) -> None:
    """Be the daemon until the end, whose exit code is the process's own."""
    os.chdir(folder)
    os.environ.update(environment)
    out = os.open("out", os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    os.dup2(out, 1)
    os.dup2(out, 2)
    under(Wall(line, at))
    sys.exit(cli(["schedule"], prog_name="mtum-eod"))


def under(wall: Wall) -> None:
    """Put the process under that clock."""
    next_due: list[tuple[datetime, str]] = []
    lived, made = daemon.minute, daemon._scheduler
    executors: dict[str, Any] = {}

    class Present(datetime):
        """What the library asks for the present."""

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return wall.now().astimezone(tz)

    class NextMinute(threading.Event):
        """What the library waits with."""

        def wait(self, timeout: float | None = None) -> bool:
            while any(executors["default"]._instances.values()):  # a step is under way
                if super().wait(0.001):
                    return True
            if self.is_set() or timeout is None or timeout >= threading.TIMEOUT_MAX:
                return super().wait(timeout)
            until = wall.now() + timedelta(seconds=timeout)
            due, step = next_due[0] if next_due else (until, "")
            wall.wait(Wait(until=until, due=max(until, due), step=step))
            return self.is_set()

    def minute(load: Callable[[], Workplace], addresses: Callable[[], NotificationSettings]) -> Minute:
        next_due.clear()
        seen = lived(load, addresses)
        if seen.agenda.due is None:
            next_due.append((seen.agenda.next.at, str(seen.agenda.next.step)))
        return seen

    def scheduler(live: Callable[[], None]) -> Any:
        scheduler = made(live)
        executors.update(scheduler._executors)
        return scheduler

    bootstrap.SystemClock = lambda: wall  # type: ignore[assignment,misc]
    # Once a day, as a person's machine would do it often: it is half of an idle minute's time.
    bootstrap.ExchangeCalendar = lru_cache(1)(ExchangeCalendar)  # type: ignore[assignment,misc]
    for module in (apscheduler.schedulers.base, apscheduler.executors.base, daemon):
        module.datetime = Present  # type: ignore[attr-defined]
    apscheduler.schedulers.background.Event = NextMinute  # type: ignore[attr-defined]
    daemon.minute, daemon._scheduler = minute, scheduler
