"""The daemon as a real process: it shows what comes, lives its minutes, outlives trouble, ends or dies at any time."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from apscheduler.events import EVENT_JOB_MISSED
from lived import book_rows, query, work_in

from mtum_eod import daemon
from mtum_eod.bootstrap import Workplace

DAEMON = [sys.executable, str(Path(__file__).with_name("lives_a_day.py"))]
PREFLIGHT, EVENING_DONE = datetime(2024, 11, 5, 18, 50, tzinfo=UTC), datetime(2024, 11, 5, 23, 10, tzinfo=UTC)
PATIENCE = 60.0
"""Seconds a daemon may take to get on with its day."""


class Day:
    """A folder with a book, a clock that stands before the session's preflight, and the daemon that lives there."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.place: Workplace = work_in(folder, {})
        self.clock, self.journal = folder / "clock", folder / "journal"
        self.clock.write_text(PREFLIGHT.isoformat())
        self.journal.touch()

    @property
    def said(self) -> str:
        """All that its daemons have said."""
        return self.journal.read_text()

    def start(self) -> None:
        """Start the daemon, and wait until it is at work: before that, what SIGTERM ends is Python."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith("MTUM_EOD_")}
        command = [*DAEMON, str(self.clock), "--config", str(self.place.loaded.path), "schedule"]
        starts = self.said.count("asking every minute")
        with self.journal.open("a") as journal:
            self.process = subprocess.Popen(command, env=environ, stdout=journal, stderr=journal)
        self._wait(lambda: self.said.count("asking every minute") > starts)

    def now(self) -> datetime:
        return datetime.fromisoformat(self.clock.read_text())

    def wait_until(self, instant: datetime) -> None:
        self._wait(lambda: self.now() >= instant)

    def _wait(self, is_so: Callable[[], bool]) -> None:
        patient_until = time.monotonic() + PATIENCE
        while not is_so():
            assert self.process.poll() is None, self.said
            assert time.monotonic() < patient_until, self.said
            time.sleep(0.005)

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        return self.process.wait(PATIENCE)

    def live(self) -> int:
        """From wherever the clock stands to the end of the day, undisturbed; the exit code."""
        self.start()
        self.wait_until(EVENING_DONE)
        return self.end()


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Day:
    day = Day(tmp_path_factory.mktemp("daemon") / "unbroken")
    assert 0 == day.live(), day.said
    return day


def test_the_daemon_lives_a_session_and_shows_what_comes(unbroken: Day):
    steps = query(unbroken.place.database, "SELECT step, exit_code FROM runs ORDER BY id")
    first = unbroken.said.splitlines()

    assert [("preflight", 0), ("decide", 0), ("settle", 0), ("evening", 0)] == steps
    assert "asking every minute what is due" in first[0]
    assert ["preflight", "decide", "settle", "evening"] == [line.split()[-2] for line in first[2:6]]
    assert "ended" == first[-1]


@pytest.mark.parametrize("kills", [10, pytest.param(200, marks=pytest.mark.slow)])
def test_however_often_it_is_stopped_the_day_ends_in_the_same_book(unbroken: Day, tmp_path: Path, kills: int):
    """SIGTERM and SIGKILL in turn, at random moments of the day; several days of it where there are many."""
    chance = random.Random(kills)  # noqa: S311  # no secret is made of it
    length = (EVENING_DONE - PREFLIGHT) // timedelta(minutes=10)
    for number in range(0, kills, 10):
        day = Day(tmp_path / f"day{number}")
        codes = []
        for moment in sorted(chance.randrange(length) for _ in range(10)):
            day.start()
            day.wait_until(PREFLIGHT + moment * timedelta(minutes=10))
            time.sleep(chance.uniform(0, 0.1))
            how = chance.choice((signal.SIGTERM, signal.SIGKILL))
            codes.append((how, day.end(how)))
        day.live()

        assert {(signal.SIGTERM, 0), (signal.SIGKILL, -9)} >= set(codes), day.said
        assert book_rows(unbroken.place.database) == book_rows(day.place.database)
        assert [(1,)] == query(day.place.database, "SELECT count(*) FROM simulated_order")


def test_broken_settings_are_outlived_and_mended_ones_hold_from_the_next_minute(tmp_path: Path):
    """The owner saves the file half-way, in the hour of the decision, and mends it."""
    day = Day(tmp_path / "day")
    settings = day.place.loaded.path
    assert settings is not None
    day.start()
    day.wait_until(PREFLIGHT + timedelta(minutes=20))
    settings.write_text("captial = 1\n")
    broken_at = day.now()
    day.wait_until(broken_at + timedelta(minutes=30))
    settings.write_text("[strategy]\nvix_entry_threshold = 1\n")
    day.wait_until(EVENING_DONE)
    code = day.end()

    assert (0, True) == (code, "did you mean capital" in day.said), day.said
    assert [("HOLD",)] == query(day.place.database, "SELECT action FROM signals")


CRON = """
import sys
import threading
import time
from pathlib import Path
from lives_a_day import FileClock
from mtum_eod import bootstrap
from mtum_eod.cli import cli
clock, until = FileClock(Path(sys.argv[1])), sys.argv[2]
bootstrap.SystemClock = lambda: clock
while clock.now().isoformat() < until:
    time.sleep(0.05)
    try:
        cli(sys.argv[3:])
    except SystemExit as ended:
        assert not ended.code
"""


def test_cron_and_daemon_at_once_are_harmless(tmp_path: Path, unbroken: Day):
    """Another process asks what is due all day long, on the same clock."""
    day = Day(tmp_path / "day")
    day.start()
    arguments = [str(day.clock), EVENING_DONE.isoformat(), "--config", str(day.place.loaded.path), "run", "--if-due"]
    cron = subprocess.Popen(
        [sys.executable, "-c", CRON, *arguments],
        env=os.environ | {"PYTHONPATH": f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    out, _ = cron.communicate(timeout=PATIENCE)
    day.wait_until(EVENING_DONE)
    code = day.end()

    assert (0, 0) == (code, cron.returncode), out
    assert book_rows(unbroken.place.database) == book_rows(day.place.database)


@pytest.mark.parametrize("asleep", [timedelta(minutes=50), timedelta(hours=30)])
def test_the_minutes_that_a_machine_slept_are_made_up_for_by_one(asleep: timedelta):
    """APScheduler wakes up with the minutes behind it, however late they are, and goes on with the next one."""
    lived, missed, woke = [], [], threading.Event()

    def live() -> None:
        lived.append(datetime.now(UTC))
        woke.set()

    scheduler = daemon._scheduler(live)
    [job] = scheduler.get_jobs()
    job.modify(next_run_time=datetime.now(UTC) - asleep)
    scheduler.add_listener(missed.append, EVENT_JOB_MISSED)
    scheduler.start()
    woke.wait(PATIENCE)
    scheduler.shutdown()

    assert (1, []) == (len(lived), missed)
    assert timedelta(0) < job.next_run_time - lived[0] <= timedelta(minutes=1)


def test_the_trigger_fires_every_minute_through_both_changes_of_the_clocks():
    """Two nights of 2024 in New York, minute by minute: none is left out, none comes twice."""
    trigger = daemon.every_minute()
    for night in (date(2024, 3, 10), date(2024, 11, 3)):
        now = datetime(night.year, night.month, night.day, 4, tzinfo=UTC)
        fires, previous = [], None
        for _ in range(300):
            previous = trigger.get_next_fire_time(previous, now)
            fires.append(previous.astimezone(UTC))
            now = previous.astimezone(UTC) + timedelta(seconds=1)

        first = fires[0]
        assert [first + n * timedelta(minutes=1) for n in range(300)] == fires
