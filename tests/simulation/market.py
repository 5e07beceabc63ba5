"""A market made of one seed: bars that trade often, seen as far as the clock has come."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime
from functools import cache

import numpy as np
import numpy.typing as npt

from mtum_eod.adapters.bars import last_known, status
from mtum_eod.adapters.calendar import ExchangeCalendar
from mtum_eod.core.market import VIX, BarStatus, DailyBars
from simulation.plan import is_calm

SYMBOL = "MTUM"
WARM_UP = 400
FIRST_SESSIONS = (date(2014, 1, 2), date(2021, 1, 4))
"""Between these a life begins; the calendar must know it to its end, ten years later."""


@cache
def calendar() -> ExchangeCalendar:
    """The exchange's real sessions, with their half days and clock changes, built once a process."""
    return ExchangeCalendar(date(2031, 1, 2))


class KnownCalendar(ExchangeCalendar):
    """The calendar as the program knows it: of an unplanned closure it learns some day."""

    def __init__(self) -> None:
        super().__init__(date(2031, 1, 2))
        self.__dict__["_sessions"] = calendar()._sessions  # in the place of the property's own cache

    def learn_closed(self, day: date) -> None:
        """From now on the day is no session."""
        known = self._sessions
        kept = [n for n, session in enumerate(known.days) if session != day]
        self.__dict__["_sessions"] = replace(
            known,
            days=[known.days[n] for n in kept],
            opens=[known.opens[n] for n in kept],
            closes=[known.closes[n] for n in kept],
        )


class Market:
    """A MarketData: a random walk that crosses its mean often, under a VIX that crosses both thresholds."""

    name = "virtual"
    is_synthetic = False

    def __init__(self, seed: int, sessions: int) -> None:
        first, last = (calendar().nearest(day)[1] for day in FIRST_SESSIONS)
        chance = np.random.RandomState([seed % 2**32, 1])
        begins = calendar().sessions(first, last)
        start = begins[chance.randint(len(begins))]
        at = calendar().sessions(calendar().first_session, start)[-1]
        days = [*calendar().window(at, WARM_UP + 1)]
        days += calendar().sessions(calendar().nearest(at)[1], date(2031, 1, 2))[: sessions + 1]
        self.lived = days[WARM_UP : WARM_UP + sessions]
        self.bars = _bars(seed, len(days))
        self.vix = _vix(seed, len(days))
        self.faults: dict[date, str] = {}  # what is wrong with a session's last bar while it is the last
        self.no_volume_until: datetime | None = None  # intraday, as where a subscription lapsed
        self.felt: set[tuple[str, str]] = set()  # what troubles of its have had an effect
        self.halted: dict[date, datetime] = {}  # since when the symbol is not traded in that session
        self.seen = {} if is_calm(seed) else self._drifted(seed, sessions)  # the price late in a session
        self._tabulate(days)

    def _tabulate(self, days: list[date]) -> None:
        self.days: npt.NDArray[np.datetime64] = np.array(days, dtype="datetime64[D]")
        self._dates = days
        self.position = {day: n for n, day in enumerate(days)}

    def split(self, ratio: float) -> None:
        """So many new shares for one: every bar stands on the new scale from now on, those to come too."""
        self.bars[:, :4] /= ratio
        self.bars[:, 4] *= ratio
        self.seen = {day: price / ratio for day, price in self.seen.items()}

    def _drifted(self, seed: int, sessions: int) -> dict[date, float]:
        """A price for each lived session up to 3 % beside its close, which the bar then has room for."""
        lived = self.bars[WARM_UP : WARM_UP + sessions]
        seen = np.round(lived[:, 3] * (1 + _draws(seed, 9).uniform(-0.03, 0.03, sessions)), 2)
        lived[:, 1], lived[:, 2] = np.maximum(lived[:, 1], seen), np.minimum(lived[:, 2], seen)
        return dict(zip(self.lived, seen.tolist(), strict=True))

    def at_decision(self, day: int, *, is_over: bool = False) -> tuple[float, float, float]:
        """High, low and last price of the day by its number, as a decision sees them. is_over: after the close."""
        _, high, low, close, _ = self.bars[day].tolist()
        return high, low, close if is_over else self.seen.get(self._dates[day], close)

    def revise(self, day: date, share: float, *, prices: bool) -> None:
        """The source says something else of a session that was final: its volume, and where its prices ended."""
        row = self.bars[self.position[day]]
        row[4] = np.round(row[4] * (1 + 0.06 * (share - 0.5)))
        if prices:
            row[3] = np.clip(np.round(row[3] + 0.2 * share * (row[0] - row[3]), 2), row[2], row[1])

    def jump(self, day: date, factor: float) -> None:
        """From that session's open on every price is so many times what it would have been."""
        place = self.position[day]
        self.bars[place:, :4] = np.round(self.bars[place:, :4] * factor, 2)
        self.seen |= {later: float(np.round(price * factor, 2)) for later, price in self.seen.items() if later >= day}

    def close_exchange(self, day: date) -> None:
        """The exchange stays closed on a day that every calendar had as a session: it has no bar, now or ever."""
        place = self.position[day]
        self.bars, self.vix = np.delete(self.bars, place, axis=0), np.delete(self.vix, place, axis=0)
        self._tabulate([session for session in self.position if session != day])

    def is_without_volume(self, as_of: datetime) -> bool:
        return self.no_volume_until is not None and as_of < self.no_volume_until

    def is_open(self, session: date) -> bool:
        return session in self.position

    def price(self, instant: datetime) -> float:
        """The last price at an instant of a session, or of the session before it where that has none."""
        session = calendar().local_date(instant)
        if session not in self.position:
            return float(self.bars[np.searchsorted(self.days, np.datetime64(session)) - 1, 3])
        return float(self._partial(self.bars[self.position[session]], session, instant, self.seen.get(session))[3])

    def close(self, session: date) -> float:
        return float(self.bars[self.position[session], 3])

    def daily(self, symbol: str, first: date, last: date, as_of: datetime) -> DailyBars:
        newest = last_known(calendar(), last, as_of)
        low, high = bisect_left(self._dates, first), bisect_right(self._dates, newest)
        values = (self.vix if symbol == VIX else self.bars)[low:high].copy()
        end = newest if len(values) else None
        last_status = status(calendar(), end, as_of) if end else BarStatus.FINAL
        if end not in self.position:  # a closure: this day has no bar
            end, last_status = None, BarStatus.FINAL
        seen = as_of
        if symbol == SYMBOL and last_status is BarStatus.PARTIAL and end in self.halted:
            seen = min(as_of, self.halted[end])
            if seen < as_of:
                self.felt.add(("market", "halts_trading"))
        if end and last_status is BarStatus.PARTIAL:
            values[-1] = self._partial(values[-1], end, seen, self.seen.get(end) if symbol == SYMBOL else None)
        fault = self.faults.get(end) if end and end == calendar().local_date(as_of) else None
        if fault == "no_bar":
            high, values = high - 1, values[:-1]
        elif fault == "nan":
            values[-1, 3] = np.nan
        if fault:
            self.felt.add(("market", fault))
        days = self.days[low:high]
        return DailyBars(symbol=symbol, days=days, values=values, as_of=seen, last_status=last_status, source=self.name)

    def volume_until(self, symbol: str, cuts: Mapping[date, datetime], as_of: datetime) -> dict[date, float]:  # noqa: ARG002
        if self.is_without_volume(as_of):
            self.felt.add(("market", "no_volume"))
            return {}
        return {
            day: float(round(self.bars[self.position[day], 4] * _elapsed(day, min(cut, as_of))))
            for day, cut in cuts.items()
            if day in self.position
        }

    def _partial(
        self, final: npt.NDArray[np.float64], session: date, instant: datetime, late: float | None
    ) -> npt.NDArray[np.float64]:
        """The bar so far: the price goes straight from the open to `late`, and has arrived after 70 % of the session.

        In a calm life that is at its close: the decision's bar is the final one but for its volume, and a backtest
        must decide the same. In others the price stays there until the auction makes another.
        """
        opened, high, low, close, volume = final
        elapsed = _elapsed(session, instant)
        reached = min(1.0, elapsed / 0.7)
        late = close if late is None or elapsed == 1.0 else late
        last = round(opened + (late - opened) * reached, 2)
        if reached == 1.0:
            return np.array([opened, high, low, late, np.round(volume * elapsed)])
        return np.array([opened, max(opened, last), min(opened, last), last, np.round(volume * elapsed)])


def _elapsed(session: date, instant: datetime) -> float:
    opened, closed = calendar().open(session), calendar().close(session)
    return min(max((instant - opened) / (closed - opened), 0.0), 1.0)


def _draws(seed: int, what: int) -> np.random.RandomState:
    """Numbers of their own for each column, so that a longer life begins with the shorter one."""
    return np.random.RandomState([seed % 2**32, what])


def _bars(seed: int, count: int) -> npt.NDArray[np.float64]:
    period, size = _draws(seed, 2).uniform((15, 0), (60, 1))
    swing = 0.012 * size * np.sin(np.arange(count) * 2 * np.pi / period)
    moves = 0.0002 + swing + 0.009 * _draws(seed, 3).standard_t(5, count)
    close = 120 * np.exp(np.cumsum(np.clip(moves, -0.12, 0.12)) * 0.8)
    before = np.append(120.0, close[:-1])
    opened = before * np.exp(0.004 * _draws(seed, 4).standard_normal(count))
    high = np.maximum(opened, close) * (1 + 0.003 * _draws(seed, 5).random_sample(count))
    low = np.minimum(opened, close) * (1 - 0.003 * _draws(seed, 6).random_sample(count))
    volume = np.round(900_000 * np.exp(0.4 * _draws(seed, 7).standard_normal(count)))
    return np.column_stack([np.round(np.column_stack([opened, high, low, close]), 2), volume])


def _vix(seed: int, count: int) -> npt.NDArray[np.float64]:
    level = np.empty(count)
    now = 18.0
    for day, shock in enumerate(_draws(seed, 8).standard_normal(count)):
        now = max(9.0, now + 0.08 * (19.0 - now) + 1.5 * shock)
        level[day] = round(now, 2)
    prices = np.column_stack([level, np.round(level + 0.5, 2), np.round(level - 0.5, 2), level])
    return np.column_stack([prices, np.full(count, np.nan)])
