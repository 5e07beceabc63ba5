"""Bars and prices at the server's time, from any source of daily bars."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtum_eod.adapters.bars import daily_bars
from mtum_eod.adapters.sample import DEFAULT_SEED, price_path, volume_curve
from mtum_eod.core.market import COLUMNS, VIX, DailyBars, arrays_of
from mtum_eod.errors import MarketDataError
from mtum_eod.ports import Calendar, MarketData

NEW_YORK = ZoneInfo("America/New_York")
INTRADAY_MINUTES = {
    "1 min": 1, "2 mins": 2, "3 mins": 3, "5 mins": 5, "10 mins": 10, "15 mins": 15, "20 mins": 20, "30 mins": 30,
    "1 hour": 60, "2 hours": 120, "3 hours": 180, "4 hours": 240,
}  # fmt: skip
"""Bar sizes by the words of a request."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar; `start` is when an intraday bar begins, and the date of a daily one."""

    start: datetime | date
    open: float
    high: float
    low: float
    close: float
    volume: float


class Arrays:
    """A `MarketData` of frames by symbol, as a test writes them down: `DailyBars.frame` says how."""

    name = "arrays"
    is_synthetic = False

    def __init__(self, calendar: Calendar, frames: Mapping[str, pd.DataFrame]) -> None:
        self._calendar = calendar
        self.frames = frames

    def daily(self, symbol: str, first: date, last: date, as_of: datetime) -> DailyBars:
        """The rows of the symbol's frame."""
        return daily_bars(self._calendar, symbol, *arrays_of(self.frames[symbol]), first, last, as_of, self.name)

    def volume_until(self, symbol: str, cuts: Mapping[date, datetime], as_of: datetime) -> dict[date, float]:
        """Nothing: the server makes its own intraday volumes."""
        del symbol, cuts, as_of
        return {}


class Market:
    """What has traded by an instant. A session's minutes walk from its open to its close, with its high and low."""

    def __init__(self, source: MarketData, calendar: Calendar, seed: int = DEFAULT_SEED) -> None:
        self.source = source
        self.calendar = calendar
        self.splits: dict[str, tuple[date, float]] = {}  # by symbol: from which session, new shares for one
        self.scales: dict[str, float] = {}  # by symbol: new shares for one, of the splits that have happened
        self._seed = seed

    def daily(self, symbol: str, first: date, last: date, now: datetime) -> list[Bar]:
        """Daily bars of the sessions from `first` to `last` that have begun by `now`; the running one as it stands."""
        bars = self._final(symbol, first, last, now)
        if bars and now < self.calendar.close(bars[-1][0]):
            session, final = bars.pop()
            minutes = self._minutes(symbol, session, final)
            bars.append((session, _joined(minutes[: self._minute(session, now) + 1])))
        return [Bar(session, *values) for session, values in bars]

    def intraday(self, symbol: str, sessions: list[date], minutes: int, now: datetime) -> Iterator[Bar]:
        """Bars of so many minutes; the last one as far as it has come by `now`."""
        for session, final in self._final(symbol, sessions[0], sessions[-1], now) if sessions else []:
            opened, end = self.calendar.open(session), self._minute(session, now)
            if end == 0:
                continue
            walked = self._minutes(symbol, session, final)[: end + 1]
            prices, volume = walked[:, 0], walked[:, 1]
            starts = np.arange(0, end, minutes)
            stops = np.append(starts[1:], end)
            # a bar ends on the price the next one begins with
            high = np.maximum(np.maximum.reduceat(prices[:-1], starts), prices[stops])
            low = np.minimum(np.minimum.reduceat(prices[:-1], starts), prices[stops])
            columns = (starts, prices[starts], high, low, prices[stops], volume[stops] - volume[starts])
            for start, *values in np.column_stack(columns).tolist():
                yield Bar(opened + timedelta(minutes=start), *values)

    def last(self, symbol: str, now: datetime) -> float | None:
        """The last price by `now`; None where there never was one."""
        today = self.calendar.local_date(now)
        bars = self.daily(symbol, today - timedelta(days=10), today, now)
        return bars[-1].close if bars else None

    def close(self, symbol: str, session: date) -> float | None:
        """The auction's price at a session's close, as printed."""
        bars = self._final(symbol, session, session, self.calendar.close(session))
        return float(bars[0][1][3]) if bars else None

    def daily_open(self, symbol: str, session: date) -> float:
        """The first price of a session."""
        return float(self._final(symbol, session, session, self.calendar.close(session))[0][1][0])

    def _final(self, symbol: str, first: date, last: date, now: datetime) -> list[tuple[date, Floats]]:
        """Final bars of the sessions that have begun by `now`, on the scale of today whatever `now` is."""
        today = self.calendar.local_date(now)
        last = min(last, today)
        if last == today and (not self.calendar.is_session(today) or now < self.calendar.open(today)):
            last = today - timedelta(days=1)
        sessions = set(self.calendar.sessions(first, last)) if first <= last else set()
        if not sessions:
            return []
        # asked for the day after, so that no source holds back what it takes for the future
        as_of = self.calendar.close(max(sessions)) + timedelta(days=1)
        try:
            frame = self.source.daily(symbol, first, last, as_of).frame
        except (KeyError, MarketDataError):  # the source has nothing of that symbol
            return []
        ratio = self.scales.get(symbol, 1.0)
        scale = np.array([1 / ratio] * 4 + [ratio])
        values = np.nan_to_num(frame[list(COLUMNS)].to_numpy(dtype=float)) * scale
        days = [stamp.date() for stamp in frame.index]
        return [(day, row) for day, row in zip(days, values, strict=True) if day in sessions]

    def _minutes(self, symbol: str, session: date, final: Floats) -> Floats:
        """Last price and volume so far at each minute from open to close, both included."""
        minutes = self._minute(session, self.calendar.close(session))
        return _walk(self._seed, symbol == VIX, session, minutes, tuple(final.tolist()))

    def _minute(self, session: date, instant: datetime) -> int:
        opened, closed = self.calendar.open(session), self.calendar.close(session)
        return (min(max(instant, opened), closed) - opened) // timedelta(minutes=1)


@lru_cache(maxsize=256)
def _walk(seed: int, is_index: bool, session: date, minutes: int, final: tuple[float, ...]) -> Floats:
    volume = np.round(final[4] * volume_curve(seed, session, minutes))
    return np.column_stack([price_path(seed, is_index, session, minutes, np.array(final)), volume])


def _joined(minutes: Floats) -> Floats:
    """Open, high, low, close and volume of a run of minutes."""
    prices = minutes[:, 0]
    return np.array([prices[0], prices.max(), prices.min(), prices[-1], minutes[-1, 1]])


_DURATION = re.compile(r"(\d+) ([SDWMY])")


def span(calendar: Calendar, duration: str, end: datetime) -> tuple[date, date]:
    """The first and last date of a request's duration ending at `end`; days are counted in sessions.

    Raises ValueError, in the terminal's words, for one that it would refuse.
    """
    match = _DURATION.fullmatch(duration)
    if match is None:
        raise ValueError("Historical data query end date/time string is invalid.")
    count, unit, last = int(match[1]), match[2], calendar.local_date(end)
    if unit == "D" and count > 365:
        raise ValueError("Historical data requests for durations longer than 365 days must be made in years.")
    if unit == "M" and count > 12:
        raise ValueError("Historical data requests for durations longer than 12 months must be made in years.")
    if unit in "SD":
        has_begun = calendar.is_session(last) and end >= calendar.open(last)
        session = last if has_begun else calendar.nearest(last)[0]
        return calendar.window(session, count if unit == "D" else 1)[0], last
    back = {"W": pd.DateOffset(weeks=count), "M": pd.DateOffset(months=count), "Y": pd.DateOffset(years=count)}[unit]
    return max((pd.Timestamp(last) - back).date() + timedelta(days=1), calendar.first_session), last


def instant_of(text: str, now: datetime) -> datetime:
    """The instant a request's end names; `now` where it names none. Raises ValueError for one that cannot be read."""
    if not text:
        return now
    day, _, rest = text.replace("-", " ", 1).partition(" ")
    wall, _, zone = rest.strip().partition(" ")
    at = datetime.strptime(f"{day} {wall or '23:59:59'}", "%Y%m%d %H:%M:%S")  # noqa: DTZ007  # given its zone below
    is_utc = "-" in text and not zone
    return min(at.replace(tzinfo=UTC if is_utc else ZoneInfo(zone or "America/New_York")), now)
