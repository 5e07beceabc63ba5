"""A machine's time as Python tells it: `now()` by the server's own zone, `now(UTC)` in UTC, both of one instant."""

from __future__ import annotations

from datetime import datetime, tzinfo

SERVER_ZONES = ("America/New_York", "UTC", "Europe/Berlin", "Asia/Tokyo", "Pacific/Kiritimati")


class MachineTime(datetime):
    """`datetime` on a machine whose time a test sets. Stands for the class in `mtum_eod.adapters.clock`."""

    _seconds = 0.0

    @classmethod
    def set(cls, instant: datetime) -> None:
        """From now on it is that late, in every zone."""
        cls._seconds = instant.timestamp()

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        """What Python says: wall time without a zone in the server's own, where no other is asked for."""
        return datetime.fromtimestamp(cls._seconds, tz)
