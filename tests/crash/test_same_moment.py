"""Two runs at the same moment, in two processes and in two threads of one: the broker gets one order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Barrier, Thread

import pytest

from crash.cell import Day, Life
from mtum_eod.errors import AlreadyRunning
from mtum_eod.jobs.session import decide_step

TIMES = [20, pytest.param(200, marks=pytest.mark.slow)]


@pytest.mark.parametrize("times", TIMES)
def test_two_processes_at_the_same_moment_send_one_order(
    day_of: Callable[[str], Day], tmp_path: Path, times: int
) -> None:
    """One has the lock: the other says so and leaves with 6, or comes after it and finds the session decided."""
    ends: Counter[tuple[int, ...]] = Counter()
    sent = []
    for number in range(times):
        with Life(day_of(("BUY", "SELL")[number % 2]), tmp_path / f"{number}") as life:
            life.type("run", times=2)
            ends[tuple(sorted(life.exit_codes))] += 1
            sent.append(len(life.tws.asked("placeOrder")))
    print(f"FIGURE {times} pairs of processes, orders sent {Counter(sent)}, exit codes {dict(ends)}")

    assert ([1] * times, True) == (sent, set(ends) <= {(0, 6), (0, 0)})


@pytest.mark.parametrize("times", TIMES)
def test_two_threads_at_the_same_moment_send_one_order(
    day_of: Callable[[str], Day], tmp_path: Path, times: int
) -> None:
    """As a scheduler's workers would; the lock of a process shuts its own threads out too."""
    ends: Counter[tuple[str, ...]] = Counter()
    sent = []
    for number in range(times):
        with Life(day_of(("BUY", "SELL")[number % 2]), tmp_path / f"{number}") as life:
            both, said = Barrier(2), list[str]()

            def run(life: Life = life, both: Barrier = both, said: list[str] = said) -> None:
                both.wait()
                said.append(decided(life))

            threads = [Thread(target=run) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            ends[tuple(sorted(said))] += 1
            sent.append(len(life.tws.asked("placeOrder")))
    print(f"FIGURE {times} pairs of threads, orders sent {Counter(sent)}, ends {dict(ends)}")

    assert ([1] * times, True) == (sent, set(ends) <= {("already running", "sent"), ("already decided", "sent")})


def decided(life: Life) -> str:
    """What a run in this thread came to."""
    try:
        with life.place().trading() as desk:
            outcome = decide_step(desk, life.day.session)
    except AlreadyRunning:
        return "already running"
    return "already decided" if outcome.document["blocked_by"] else "sent"
