"""A command typed in a process of its own, forked from a warm parent, that may die at a commit as by a power cut."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import platformdirs  # noqa: F401

# Imported here for the warm parent: no cell has the time for it.
from mtum_eod import bootstrap
from mtum_eod.adapters.calendar import ExchangeCalendar
from mtum_eod.adapters.clock import SessionClock
from mtum_eod.adapters.store import SqlStore
from mtum_eod.cli import cli

When = Literal["before", "after"]

FORKS = multiprocessing.get_context("forkserver")

CALENDAR = ExchangeCalendar(date(2024, 11, 5))
CALENDAR.is_session(date(2024, 11, 5))  # now it is worked out, for all processes to come


@dataclass(frozen=True, kw_only=True)
class Typed:
    """A command, where and when it is typed."""

    folder: Path
    environment: Mapping[str, str]
    command: str
    at: datetime
    dies_at: tuple[str, int, When] | None = None  # before or after the nth commit of that method of the store
    traces: bool = False  # each commit's method is written to the file `commits`
    begins: float = 0.0  # time.monotonic() before which nothing happens: for several at the same moment


def warm_up() -> None:
    """Start the parent that has imported all this; the first process would wait for it otherwise."""
    FORKS.set_forkserver_preload(["__main__", __name__])
    places = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, places))  # where it finds this module
    FORKS.Process(target=int).start()


def start(typed: Typed) -> ForkServerProcess:
    """The process, under way."""
    process = FORKS.Process(target=live, args=(typed,))
    process.start()
    return process


def live(typed: Typed) -> None:
    """Be `mtum-eod` until the end, whose exit code is the process's own."""
    os.chdir(typed.folder)
    os.environ.update(typed.environment)
    out = os.open("out", os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    os.dup2(out, 1)
    os.dup2(out, 2)
    bootstrap.SystemClock = lambda: SessionClock(typed.at)  # type: ignore[assignment,misc]
    bootstrap.ExchangeCalendar = lambda _: CALENDAR  # type: ignore[assignment,misc]
    if typed.dies_at or typed.traces:
        watch_commits(typed)
    time.sleep(max(0.0, typed.begins - time.monotonic()))
    sys.exit(cli(typed.command.split(), prog_name="mtum-eod"))


def watch_commits(typed: Typed) -> None:
    """Count the store's commits by the method that makes them; one of them may be the last thing that happens."""
    living = SqlStore.writing
    seen: Counter[str] = Counter()

    @contextmanager
    def writing(self: SqlStore) -> Iterator[Any]:
        name, is_outermost = writer(sys._getframe(1)), self._db is None
        with living(self) as db:
            yield db
            if is_outermost:  # all is written, nothing is committed
                seen[name] += 1
                arrive(name, "before")
        if is_outermost:
            arrive(name, "after")

    def arrive(name: str, when: When) -> None:
        if typed.traces and when == "before":
            with Path("commits").open("a") as file:
                file.write(f"{name}\n")
        if (name, seen[name], when) == typed.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)

    SqlStore.writing = writing  # type: ignore[assignment,method-assign]


def writer(frame: FrameType) -> str:
    """The name of the method that begins to write."""
    while frame.f_code.co_name == "__enter__":
        assert frame.f_back
        frame = frame.f_back
    return frame.f_code.co_name
