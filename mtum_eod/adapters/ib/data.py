"""Bars from Interactive Brokers: TRADES in regular hours, as printed (split-adjusted), the VIX as an index at CBOE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any

import numpy as np
import pandas as pd

from mtum_eod.adapters.bars import between, daily_bars, last_known, of_unknown_age, volumes_by, with_built
from mtum_eod.adapters.ib import codes
from mtum_eod.adapters.ib.line import Line, Refusal, Talk
from mtum_eod.core.market import COLUMNS, VIX, DailyBars, Finding, FindingKind, arrays_of
from mtum_eod.errors import BrokerUnavailable, MarketDataError
from mtum_eod.ports import Calendar

PRICE_BAR = timedelta(minutes=1)
VOLUME_BAR = timedelta(minutes=5)
SIZES = {PRICE_BAR: "1 min", VOLUME_BAR: "5 mins"}

NO_DATA = "query returned no data"
"""What IB's error 162 says where there is simply no bar."""

PACED = "pacing violation"
PACE = timedelta(seconds=16)
"""IB takes the same request for history again after 15 seconds."""

DELAY = timedelta(minutes=10)
"""A newest bar older than this, while the exchange is open, is a delayed feed's, or nothing trades."""


class BarsUnreachable(BrokerUnavailable, MarketDataError):
    """IB did not answer about bars: stored ones may serve, and where none do it is the connection that failed."""


class IbData:
    """A MarketData on one connection; each question is one request for history.

    Raises MarketDataError with IB's words where it refuses, BarsUnreachable where it does not answer.
    """

    name = "ib"
    is_synthetic = False

    def __init__(self, line: Line, *, primary_exchange: str, calendar: Calendar) -> None:
        self._line = line
        self._primary_exchange = primary_exchange
        self._calendar = calendar

    def daily(self, symbol: str, first: date, last: date, as_of: datetime) -> DailyBars:
        """Daily bars; today's with its age, built from the minutes of regular hours where IB has none yet."""
        last = last_known(self._calendar, last, as_of)
        span = _duration(first, last)
        frame = self._history(symbol, "1 day", span, self._end(last, as_of)) if first <= last else _frame([])
        if symbol == VIX:
            frame["volume"] = np.nan
        bars = daily_bars(self._calendar, symbol, *arrays_of(frame), first, last, as_of, self.name)
        today = self._calendar.local_date(as_of)
        return self._with_today(bars, today) if last == today else bars

    def volume_until(self, symbol: str, cuts: Mapping[date, datetime], as_of: datetime) -> dict[date, float]:
        """Volume of the 5-minute bars that ended by each cut; sessions without any are absent."""
        wanted = {day: min(cut, as_of) for day, cut in cuts.items() if as_of >= self._calendar.open(day)}
        if symbol == VIX or not wanted:
            return {}
        sessions = len(self._calendar.sessions(min(wanted), self._calendar.local_date(as_of)))
        return volumes_by(self._calendar, self._minutes(symbol, VOLUME_BAR, sessions, as_of), VOLUME_BAR, wanted)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _with_today(self, bars: DailyBars, today: date) -> DailyBars:
        """The bars with the age of today's price; today's row built where there is none."""
        opened, closed = self._calendar.open(today), self._calendar.close(today)
        has_row = bars.close_of(today) is not None
        if has_row and bars.as_of >= closed:
            return bars
        minutes = self._minutes(bars.symbol, PRICE_BAR, 1, bars.as_of)
        minutes = between(minutes, opened, min(bars.as_of, closed) - timedelta(seconds=1))
        if minutes.empty:
            return of_unknown_age(bars, PRICE_BAR) if has_row else bars
        newest = minutes.index[-1].to_pydatetime() + PRICE_BAR
        known = min(newest, bars.as_of)
        late = min(bars.as_of, closed) - known
        if late > DELAY:
            bars = replace(bars, findings=(*bars.findings, _delayed(bars.symbol, today, late)))
        if has_row:
            return replace(bars, as_of=known)
        return with_built(bars, today, minutes, known)

    def _minutes(self, symbol: str, size: timedelta, sessions: int, as_of: datetime) -> pd.DataFrame:
        """Intraday bars on the UTC instants they start at; empty where IB gives none.

        Not an error: without them an entry is blocked and the daily bars still decide an exit.
        """
        end = self._end(self._calendar.local_date(as_of), as_of)
        try:
            return self._history(symbol, SIZES[size], f"{sessions} D", end, UTC)
        except MarketDataError:
            return _frame([], UTC)

    def _end(self, last: date, as_of: datetime) -> datetime | str:
        """Up to when IB is asked; empty for now, which alone includes a running bar for certain."""
        today = self._calendar.local_date(as_of)
        return "" if last >= today else self._calendar.at(last, "23:59")

    def _history(
        self, symbol: str, size: str, duration: str, end: datetime | str, zone: tzinfo | None = None
    ) -> pd.DataFrame:
        """The bars of one request: see `_frame`. Raises MarketDataError, BarsUnreachable."""

        async def ask(talk: Talk) -> pd.DataFrame:
            from mtum_eod.adapters.ib.library import contract_of

            # Times are asked for as seconds: the names of zones are the terminal's own.
            rows = await talk.ib.reqHistoricalDataAsync(
                contract_of(symbol, self._primary_exchange),
                endDateTime=end,
                durationStr=duration,
                barSizeSetting=size,
                whatToShow="TRADES",
                useRTH=True,
                formatDate=2,
                timeout=0,  # the line has its own, and tells silence from an empty answer
            )
            return _frame(rows, zone)

        what = f"{size} bars of {symbol}"
        for may_repeat in (True, False):
            try:
                return self._line.ask(what, ask)
            except BrokerUnavailable as error:
                raise BarsUnreachable(error.message, hint=error.hint) from error
            except Refusal as refusal:
                said = refusal.said
                if NO_DATA in said.text:
                    break
                if not (may_repeat and PACED in said.text):
                    raise MarketDataError(f"IB refuses {what}: {said.words}", hint=codes.cure(said.code)) from refusal
            self._line.pause(PACE)
        return _frame([], zone)


def _frame(rows: Sequence[Any], zone: tzinfo | None = None) -> pd.DataFrame:
    """The library's bars as a table on their dates, or on instants where a zone is given."""
    return pd.DataFrame(
        [[row.open, row.high, row.low, row.close, row.volume] for row in rows],
        index=pd.DatetimeIndex([row.date for row in rows], tz=zone).as_unit("ns"),
        columns=list(COLUMNS),
        dtype="float64",
    )


def _duration(first: date, last: date) -> str:
    """A duration in IB's words that reaches from the end back to `first`; more than asked for is left out later."""
    days = (last - first).days + 1
    return f"{days} D" if days <= 365 else f"{days // 365 + 1} Y"


def _delayed(symbol: str, today: date, late: timedelta) -> Finding:
    minutes = int(late.total_seconds() // 60)
    words = f"{symbol} {today}: the newest price is {minutes} min old: delayed data, no trading, or a wrong clock here"
    return Finding(kind=FindingKind.STALE_PRICE, symbol=symbol, session=today, words=words)
