"""Made-up bars that look like MTUM and VIX, the same on every machine and in every year.

A momentum fund's price with clustered volatility that rises when it falls, a volatility index that follows, and
intraday paths with U-shaped volume. numpy's `RandomState` is used because its streams are frozen (NEP 19); draws
are laid out by weekday since 2013, so a closure the calendar learns of later takes one row out and moves no other.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from functools import lru_cache
from math import sqrt

import numpy as np

from mtum_eod.adapters.bars import daily_bars
from mtum_eod.core.market import COLUMNS, VIX, DailyBars, Floats, days_of
from mtum_eod.ports import Calendar

FIRST_DAY = date(2013, 1, 1)
DEFAULT_SEED = 20130418
"""The default of `data.sample_seed`."""

_HISTORY = 8313  # chosen so that under the default seed every rule speaks by 2025, and all entry rules on 2024-11-05
_START_USD = 50.0
_DRIFT = 0.00050  # a day, log; with the volatility below about 12 % a year
_VOLATILITY = 0.0089  # a day, in calm and storm alike at the middle
_PERSISTENCE = 0.965  # of log volatility, a day: storms last weeks
_SHOCK = 0.095  # of log volatility, a day
_LEVERAGE = -0.75  # correlation of return and volatility shocks: falls stir, rises calm
_CRASHES_A_DAY = 0.003
_CRASH = -0.05  # log, and as much volatility again
_OVERNIGHT = 0.25  # share of a day's variance between close and open
_HALF_DAY_VOLUME = 0.45


class SampleData:
    """Synthetic bars of VIX and of any other symbol, from one seed."""

    name = "sample"
    is_synthetic = True

    def __init__(self, calendar: Calendar, seed: int = DEFAULT_SEED) -> None:
        self._calendar = calendar
        self._seed = seed

    def daily(self, symbol: str, first: date, last: date, as_of: datetime) -> DailyBars:
        """Bars of every session from 2013 on; today's as its own intraday path has reached by `as_of`."""
        today = self._calendar.local_date(as_of)
        sessions = self._calendar.sessions(max(first, FIRST_DAY), min(last, today)) if first <= today else []
        values = self._values(symbol, sessions)
        if sessions and sessions[-1] == today and as_of < self._calendar.close(today):
            values[-1] = self._partial(symbol, today, values[-1], as_of)
        return daily_bars(self._calendar, symbol, days_of(sessions), values, first, last, as_of, self.name)

    def volume_until(self, symbol: str, cuts: Mapping[date, datetime], as_of: datetime) -> dict[date, float]:
        """Volume up to each cut on the session's own intraday curve; none for the index."""
        if symbol == VIX:
            return {}
        known = [session for session in cuts if session >= FIRST_DAY and as_of >= self._calendar.open(session)]
        volumes = self._values(symbol, known)[:, 4]
        return {
            session: self._volume_by(session, volume, min(cuts[session], as_of))
            for session, volume in zip(known, volumes, strict=True)
        }

    def _values(self, symbol: str, sessions: list[date]) -> Floats:
        """Final open, high, low, close, volume of the sessions, one row each; a fresh array."""
        if not sessions:
            return np.empty((0, len(COLUMNS)))
        weekdays = np.busday_count(FIRST_DAY, days_of(sessions))
        fund, index = _history(self._seed, _whole_years(sessions[-1]))
        if symbol == VIX:
            return index[weekdays]
        values = fund[weekdays]
        is_half = [self._is_half_day(session) for session in sessions]
        values[is_half, 4] = np.round(values[is_half, 4] * _HALF_DAY_VOLUME)
        return values

    def _is_half_day(self, session: date) -> bool:
        return self._calendar.close(session) - self._calendar.open(session) < timedelta(hours=6)

    def _partial(self, symbol: str, session: date, final: Floats, as_of: datetime) -> Floats:
        """The bar as it stands at `as_of`: open fixed, high, low and last as far as the path has gone."""
        minute, minutes = self._minute(session, as_of)
        path = price_path(self._seed, symbol == VIX, session, minutes, final)[: minute + 1]
        volume = np.nan if symbol == VIX else self._volume_by(session, final[4], as_of)
        return np.array([final[0], path.max(), path.min(), path[-1], volume])

    def _volume_by(self, session: date, volume: float, instant: datetime) -> float:
        minute, minutes = self._minute(session, instant)
        return float(np.round(volume * volume_curve(self._seed, session, minutes)[minute]))

    def _minute(self, session: date, instant: datetime) -> tuple[int, int]:
        """Minutes from the open to `instant`, and to the close."""
        opened, closed = self._calendar.open(session), self._calendar.close(session)
        minute = (min(max(instant, opened), closed) - opened) // timedelta(minutes=1)
        return minute, (closed - opened) // timedelta(minutes=1)


def _whole_years(day: date) -> int:
    """Weekdays from the first to the end of `day`'s year, so that neighbouring days share one history."""
    return int(np.busday_count(FIRST_DAY, date(day.year + 1, 1, 1)))


@lru_cache(maxsize=4)
def _history(seed: int, weekdays: int) -> tuple[Floats, Floats]:
    """Final bars of fund and index for that many weekdays; a longer history begins with the shorter one."""
    draws = np.random.RandomState([seed, _HISTORY]).standard_normal((weekdays, 12))
    uniform = np.random.RandomState([seed, _HISTORY, 1]).random_sample(weekdays)
    crash = np.where(uniform < _CRASHES_A_DAY, _CRASH - 0.02 * np.abs(draws[:, 11]), 0.0)
    shocks = _LEVERAGE * draws[:, 0] + sqrt(1 - _LEVERAGE**2) * draws[:, 1]
    heat, reach = np.empty(weekdays), 0.0
    for day, (shock, fall) in enumerate(zip(shocks.tolist(), crash.tolist(), strict=True)):
        heat[day] = reach  # of the day before: what the day's return is drawn with
        reach = _PERSISTENCE * reach + _SHOCK * shock - 8 * fall
    after = np.append(heat[1:], reach)

    spread = _VOLATILITY * np.exp(heat)
    moves = _DRIFT + spread * draws[:, 0] + crash
    close = _START_USD * np.exp(np.cumsum(moves))
    before = np.append(_START_USD, close[:-1])
    night = _OVERNIGHT * moves + spread * sqrt(_OVERNIGHT * (1 - _OVERNIGHT)) * draws[:, 2]
    opened = before * np.exp(night)
    high = np.maximum(opened, close) * np.exp(0.35 * spread * np.abs(draws[:, 3]))
    low = np.minimum(opened, close) * np.exp(-0.35 * spread * np.abs(draws[:, 4]))
    # busy in storms and on large moves, quiet in summer calm
    volume = 700_000 * np.exp(0.45 * heat + 0.15 * np.abs(moves / spread) + 0.28 * draws[:, 5] - 0.12)
    fund = np.column_stack([np.round(np.column_stack([opened, high, low, close]), 2), np.round(volume)])

    fear = 8 + 8 * np.exp(1.3 * after + 0.08 * draws[:, 6])
    fear_before = np.append(fear[:1], fear[:-1])
    fear_open = fear_before * np.exp(0.4 * np.log(fear / fear_before) + 0.02 * draws[:, 7])
    fear_high = np.maximum(fear, fear_open) * np.exp(0.03 * np.abs(draws[:, 8]))
    fear_low = np.minimum(fear, fear_open) * np.exp(-0.03 * np.abs(draws[:, 9]))
    prices = np.round(np.column_stack([fear_open, fear_high, fear_low, fear]), 2)
    return fund, np.column_stack([prices, np.full(weekdays, np.nan)])


def _stream(seed: int, session: date, what: int) -> np.random.RandomState:
    """A session's own random numbers, whatever else was drawn before."""
    return np.random.RandomState([seed, session.toordinal(), what])


def price_path(seed: int, is_index: bool, session: date, minutes: int, final: Floats) -> Floats:
    """Last price at each minute from open to close, both included; its extremes are the day's."""
    opened, high, low, close, _ = final
    steps = np.append(0.0, np.cumsum(_stream(seed, session, 1 if is_index else 2).standard_normal(minutes)))
    elapsed = np.linspace(0.0, 1.0, minutes + 1)
    bridge = (steps - steps[-1] * elapsed) / sqrt(minutes)
    walk = opened + (close - opened) * elapsed + (high - low) * bridge
    inner = walk[1:-1]
    top, bottom = 1 + int(inner.argmax()), 1 + int(inner.argmin())
    path: Floats = np.round(np.clip(walk, low, high), 2)
    path[[top, bottom]] = high, low
    return path


def volume_curve(seed: int, session: date, minutes: int) -> Floats:
    """Share of the day's volume traded by each minute, 0 at the open and 1 at the close; U-shaped."""
    elapsed = (np.arange(minutes) + 0.5) / minutes
    shape = 1 + 1.5 * np.exp(-elapsed / 0.08) + 2.5 * np.exp((elapsed - 1) / 0.03)
    weights = shape * np.exp(0.4 * _stream(seed, session, 3).standard_normal(minutes))
    share: Floats = np.append(0.0, np.cumsum(weights))
    share /= share[-1]
    return share
