"""Sessions by the hundred through the real client, in one process: everything is booked, and nothing piles up."""

from __future__ import annotations

import gc
import resource
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from datetime import date, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from crash.cell import Day, Life
from crash.victim import CALENDAR, FORKS
from mtum_eod.adapters.clock import SessionClock
from mtum_eod.bootstrap import Workplace
from mtum_eod.jobs.session import decide_step, settle_all
from mtum_eod.settings import load

LAST = date(2024, 11, 5)
WARM_UP = 10
"""Sessions until caches are full and the interpreter has its memory."""

KB_A_SESSION = 16
"""Tolerated growth of the resident memory: a window of 400 bars held on to would be 20, a connection's memory 100."""

KB_AT_ALL = 2048
"""What the memory of a process goes up and down by whatever it does; little beside that of a thousand sessions."""

OBJECTS_A_SESSION = 5
"""Tolerated growth of the objects that Python's collector watches: one connection held on to would be hundreds."""


@dataclass(frozen=True)
class Held:
    """What a process holds at a moment."""

    threads: int
    descriptors: int  # files and sockets
    objects: int
    kilobytes: int

    @staticmethod
    def now() -> Held:
        """All this after a collection of what is garbage."""
        gc.collect()
        return Held(threading.active_count(), len([*Path("/dev/fd").iterdir()]), len(gc.get_objects()), resident())


def resident() -> int:
    """This process's memory, kB; where the system does not tell the present, its peak."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize() // 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // 1024 if sys.platform == "darwin" else peak


@pytest.mark.usefixtures("day_of")
@pytest.mark.parametrize("count", [50, pytest.param(1000, marks=pytest.mark.slow)])
def test_sessions_are_run_and_settled_without_a_leak(tmp_path: Path, count: int) -> None:
    """The book ends as the server has it; threads and descriptors are as many as before, memory within tolerance."""
    started = time.monotonic()
    with Life(Day(side="BUY", session=LAST, eve=LAST, book=tmp_path), tmp_path) as life:
        here, there = FORKS.Pipe()
        process = FORKS.Process(target=live, args=(there, tmp_path, life.environment, count))
        process.start()
        there.close()
        while isinstance(instant := here.recv(), datetime):
            life.tws.clock.set(instant)
            here.send(None)
        process.join()
        before, after = (Held(*held) for held in instant)
        complaints, prints = life.complaints(), len(life.tws.executions)
    objects, kilobytes = ((getattr(after, name) - getattr(before, name)) / count for name in ("objects", "kilobytes"))
    seconds = (time.monotonic() - started) / (count + WARM_UP)
    print(
        f"FIGURE {count} sessions, {prints} executions, {seconds:.2f} s a session; more held at the end:"
        f" {after.threads - before.threads} threads, {after.descriptors - before.descriptors} descriptors,"
        f" {objects:.1f} objects and {kilobytes:.1f} kB a session"
    )

    assert [] == complaints
    assert (before.threads, before.descriptors) == (after.threads, after.descriptors)
    assert objects < OBJECTS_A_SESSION
    assert kilobytes < KB_A_SESSION + KB_AT_ALL / count


def live(door: Connection, folder: Path, environment: Mapping[str, str], count: int) -> None:
    """In a process of its own: decide and settle session after session, and tell what is held before and after."""
    file, clock = folder / "settings.toml", SessionClock(CALENDAR.open(LAST))
    file.touch()

    def at(instant: datetime) -> Workplace:
        """Parts of its own for each command, when the server's clock stands there too."""
        door.send(instant)
        door.recv()
        clock.set(instant)
        place = Workplace(loaded=load(file, environment), clock=clock)
        vars(place)["calendar"] = CALENDAR
        return place

    before = None
    for number, session in enumerate(CALENDAR.window(LAST, WARM_UP + count)):
        if number == WARM_UP:
            before = Held.now()
        for minutes, step in ((-20, lambda desk: decide_step(desk, session)), (20, settle_all)):  # noqa: B023
            with at(CALENDAR.close(session) + timedelta(minutes=minutes)).trading() as desk:
                step(desk)
        gc.collect()  # the collector comes when it pleases, and what waits for it is no leak
    assert before
    door.send((astuple(before), astuple(Held.now())))
