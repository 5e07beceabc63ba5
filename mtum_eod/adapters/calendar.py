"""The New York Stock Exchange's sessions, by the package exchange_calendars; wall times, by pytz."""

from __future__ import annotations

import warnings
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfoNotFoundError

import pytz

from mtum_eod.errors import SettingsError

if TYPE_CHECKING:
    import pandas as pd

NEW_YORK = pytz.timezone("America/New_York")

FIRST_DAY = date(2012, 1, 1)
"""Where the calendar starts: more than a warm-up before MTUM's first session, 2013-04-18."""

HORIZON = timedelta(days=730)
"""How far ahead the rules are trusted; the exchange itself publishes its holidays about that far."""


@lru_cache(maxsize=64)
def exchange_instant(day: date, wall_time: time) -> datetime:
    """The instant, UTC, of a wall time in New York: the one place where a wall time becomes an instant.

    `localize` rather than `tzinfo=`, which would attach the zone's local mean time of 1883. Of the hour that
    comes twice in autumn the later one is meant; one that spring leaves out is read on winter time.
    """
    return NEW_YORK.localize(datetime.combine(day, wall_time), is_dst=False).astimezone(UTC)


def local_date(instant: datetime) -> date:
    """The date in New York, whatever the server's zone.

    Raises ValueError for an instant without a zone, which would silently be read in the server's.
    """
    if instant.tzinfo is None:
        raise ValueError(f"an instant without a zone: {instant.isoformat()}")
    return _new_york_date(instant.astimezone(UTC))


@lru_cache(maxsize=1024)
def _new_york_date(instant: datetime) -> date:
    return instant.astimezone(NEW_YORK).date()


@dataclass(frozen=True, kw_only=True)
class _Sessions:
    """The package's answer as plain values: looking one up costs no pandas."""

    days: list[date]
    opens: list[int]  # seconds since 1970, UTC
    closes: list[int]
    package_end: date | None  # where the package itself stops

    @cached_property
    def place(self) -> dict[date, int]:
        """Where each day stands in these lists."""
        return {day: place for place, day in enumerate(self.days)}


class ExchangeCalendar:
    """`ports.Calendar` for XNYS, from 2012 to two years after `today`, or to where the package's own rules end.

    Built on first use (0.1 s, importing the package included), so that a command without a session pays nothing.
    """

    def __init__(self, today: date) -> None:
        self._today = today

    @property
    def first_session(self) -> date:
        return self._sessions.days[0]

    @property
    def last_session(self) -> date:
        return self._sessions.days[-1]

    def is_session(self, day: date) -> bool:
        """Whether the exchange opens on that date."""
        if day in self._sessions.place:
            return True
        self._check_known(day)
        return False

    def open(self, session: date) -> datetime:
        """When the session opens. Raises SettingsError for a day that is none, naming the nearest ones."""
        return datetime.fromtimestamp(self._sessions.opens[self._position(session)], UTC)

    def close(self, session: date) -> datetime:
        """When the session closes. Raises SettingsError for a day that is none, naming the nearest ones."""
        return datetime.fromtimestamp(self._sessions.closes[self._position(session)], UTC)

    def sessions(self, first: date, last: date) -> list[date]:
        """The sessions from `first` to `last`, both included, ascending."""
        self._check_known(first)
        self._check_known(last)
        days = self._sessions.days
        return days[bisect_left(days, first) : bisect_right(days, last)]

    def window(self, session: date, count: int) -> list[date]:
        """The `count` sessions ending at `session`, ascending; fewer where the calendar starts later."""
        end = self._position(session) + 1
        return self._sessions.days[max(0, end - count) : end]

    def nearest(self, day: date) -> tuple[date, date]:
        """The last session before `day` and the first after it. Raises SettingsError where one of them is unknown."""
        self._check_known(day)
        days = self._sessions.days
        before, after = bisect_left(days, day) - 1, bisect_right(days, day)
        if before < 0 or after == len(days):
            raise self._unknown(day, "has no known neighbour at the edge of")
        return days[before], days[after]

    def local_date(self, instant: datetime) -> date:
        """The date in the exchange's zone, whatever the server's zone."""
        return local_date(instant)

    def at(self, day: date, wall_time: str) -> datetime:
        """The instant of a wall time `HH:MM` at the exchange on that date."""
        return exchange_instant(day, time.fromisoformat(wall_time))

    @cached_property
    def _sessions(self) -> _Sessions:
        return _build(FIRST_DAY, self._today + HORIZON)

    def _position(self, session: date) -> int:
        place = self._sessions.place.get(session)
        if place is None:
            before, after = self.nearest(session)
            raise SettingsError(
                f"{session:%A %Y-%m-%d} is no session of the exchange",
                hint=f"The nearest sessions are {before} and {after}.",
            )
        return place

    def _check_known(self, day: date) -> None:
        if not self.first_session <= day <= self.last_session:
            raise self._unknown(day, "lies beyond")

    def _unknown(self, day: date, where: str) -> SettingsError:
        package_end = self._sessions.package_end
        if day > FIRST_DAY and package_end is not None and package_end < self._today + HORIZON:
            hint = f"The installed package ends at {package_end}: pip install --upgrade exchange_calendars"
        else:
            hint = "Whether the exchange opens then is unknown. Choose a date inside that range."
        return SettingsError(
            f"{day} {where} the exchange calendar, known from {self.first_session} to {self.last_session}", hint=hint
        )


def _build(first: date, last: date) -> _Sessions:
    """The sessions of XNYS from `first` to `last`, or to the package's own end where that comes sooner.

    The package works out 53 holiday rules, most of them repealed long ago, from 1970 to 2200 however short the range
    asked for. Handing it, through the two properties it offers for that, the rules still in force and our range
    gives the same sessions (a test compares them) in 0.035 s instead of 0.09.
    """
    import pandas as pd

    try:
        from exchange_calendars.exchange_calendar import HolidayCalendar
        from exchange_calendars.exchange_calendar_xnys import XNYSExchangeCalendar
    except ZoneInfoNotFoundError as error:
        raise SettingsError(
            f"this computer has no time-zone database, neither the system nor Python ({error.args[0]})",
            hint="pip install tzdata, or install the system's package of that name",
        ) from error

    bound = XNYSExchangeCalendar.bound_max()
    package_end = None if bound is None else bound.date()
    start = pd.Timestamp(first)
    end = pd.Timestamp(last if package_end is None else min(last, package_end))

    class RulesInForce(HolidayCalendar):  # type: ignore[misc]  # the package ships no types
        """The rules that can still fall inside the range, worked out over the range only."""

        def __init__(self, rules: list[Any]) -> None:
            super().__init__([rule for rule in rules if rule.end_date is None or rule.end_date >= start])

        def holidays(
            self, start: pd.Timestamp = start, end: pd.Timestamp = end, return_name: bool = False
        ) -> pd.DatetimeIndex | pd.Series[str]:
            return super().holidays(start, end, return_name)  # type: ignore[no-any-return]  # as above

    class Recent(XNYSExchangeCalendar):  # type: ignore[misc]  # as above
        @property
        def regular_holidays(self) -> RulesInForce:
            return RulesInForce(super().regular_holidays.rules)

        @property
        def special_closes(self) -> list[tuple[time, RulesInForce]]:
            return [(at, RulesInForce(calendar.rules)) for at, calendar in super().special_closes]

    with warnings.catch_warnings():
        # The package reads its own tables in a way pandas 3.1 announces the end of. Nothing here can change that,
        # and pandas 4, where it would matter, is outside our range.
        warnings.simplefilter("ignore", DeprecationWarning)
        calendar = Recent(start=start, end=end)
    return _Sessions(
        days=calendar.sessions.date.tolist(),
        opens=(calendar.opens_nanos // 10**9).tolist(),
        closes=(calendar.closes_nanos // 10**9).tolist(),
        package_end=package_end,
    )
