"""The server's present: it stands until a test moves it, or ticks along with the machine's."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta


class Clock:
    """`mtum_eod.ports.Clock` of the server: everyone who should agree with the server on the time can be given it."""

    def __init__(self, instant: datetime, *, ticks: bool = False, moved: Callable[[datetime], None] | None = None):
        if instant.tzinfo is None:
            raise ValueError(f"an instant without a zone: {instant.isoformat()}")
        self.ticks = ticks
        self._instant = instant.astimezone(UTC)
        self._started = time.monotonic()
        self._moved = moved or self.stand

    def now(self) -> datetime:
        """The present instant, UTC."""
        ticked = time.monotonic() - self._started if self.ticks else 0.0
        return self._instant + timedelta(seconds=ticked)

    def set(self, instant: datetime) -> None:
        """Move to `instant`; what falls due on the way has happened when this returns."""
        self._moved(instant.astimezone(UTC))

    def advance(self, duration: timedelta | None = None, **parts: float) -> None:
        """Move on by a duration, or by its parts (`minutes=20`)."""
        self.set(self.now() + (duration or timedelta(**parts)))

    def sleep(self, duration: timedelta) -> None:
        """Let time pass; where the clock stands, it moves on instead."""
        if self.ticks:
            time.sleep(duration.total_seconds())
        else:
            self.advance(duration)

    def stand(self, instant: datetime) -> None:
        """Be at `instant` from now on; nothing happens on the way."""
        self._instant = instant
        self._started = time.monotonic()
