"""The present: the machine's own, or one that is set for runs over history."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta


class SystemClock:
    """`ports.Clock` of the machine."""

    def now(self) -> datetime:
        """The present instant, UTC."""
        return datetime.now(UTC)

    def sleep(self, duration: timedelta) -> None:
        """Let time pass."""
        time.sleep(duration.total_seconds())


class SessionClock:
    """`ports.Clock` that stands where it was set; sleeping moves it on at once."""

    def __init__(self, instant: datetime) -> None:
        self.set(instant)

    def set(self, instant: datetime) -> None:
        """Stand at `instant` from now on. Raises ValueError for one without a zone."""
        if instant.tzinfo is None:
            raise ValueError(f"an instant without a zone: {instant.isoformat()}")
        self._now = instant.astimezone(UTC)

    def now(self) -> datetime:
        """The instant it stands at, UTC."""
        return self._now

    def sleep(self, duration: timedelta) -> None:
        """Move on by `duration`; nobody waits."""
        self._now += duration
