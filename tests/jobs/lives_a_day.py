"""`mtum-eod schedule` as a process in a virtual day: the clock stands in a file, and every minute lived moves it on.

    python lives_a_day.py CLOCK mtum-eod-arguments...

The clock does not run while the process is down: what the next one finds is the minute in which this one died.
"""

import os
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from apscheduler.triggers.interval import IntervalTrigger

from mtum_eod import bootstrap, daemon
from mtum_eod.cli import main

STEP = timedelta(minutes=10)


class FileClock:
    """A clock whose hands are a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def now(self) -> datetime:
        return datetime.fromisoformat(self.file.read_text())

    def sleep(self, duration: timedelta) -> None:
        self.set(self.now() + duration)

    def set(self, instant: datetime) -> None:
        beside = self.file.with_suffix(".new")
        beside.write_text(instant.isoformat())
        os.replace(beside, self.file)  # noqa: PTH105  # whole or not at all, whenever this process dies


if __name__ == "__main__":
    clock = FileClock(Path(sys.argv.pop(1)))
    live = daemon.minute

    def live_and_move_on(*args: Any) -> Any:
        lived = None
        try:
            lived = live(*args)
            return lived
        finally:
            if lived is None or not lived.held:  # a run of another process may not lose its minute under way
                now = clock.now()
                clock.set(now.replace(minute=now.minute // 10 * 10, second=0, microsecond=0) + STEP)

    bootstrap.SystemClock = lambda: clock  # type: ignore[assignment,misc]
    daemon.minute = live_and_move_on
    daemon.every_minute = lambda: IntervalTrigger(seconds=0.02)
    main()
