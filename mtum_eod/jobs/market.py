"""Reading the market for one session: fetch, check, measure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from math import nan

import numpy as np

from mtum_eod.core import gates, quality
from mtum_eod.core.evidence import Indicators
from mtum_eod.core.indicators import atr, rsi, sma
from mtum_eod.core.market import (
    UNFINISHED,
    VIX,
    BarStatus,
    DailyBars,
    Finding,
    FindingKind,
    Floats,
    StoredBars,
    VolumeBasis,
    days_of,
)
from mtum_eod.core.parameters import StrategyParameters, VolumeChoice
from mtum_eod.core.timing import volume_cuts
from mtum_eod.errors import MarketDataError
from mtum_eod.ports import BookReader, Calendar, MarketData


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the market data say about one session."""

    indicators: Indicators
    findings: tuple[Finding, ...]
    bars: tuple[DailyBars, DailyBars]  # of the price and of the VIX, checked: what the store keeps
    volumes: dict[date, float] | None  # up to the same time of day, where those were compared


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where a reading comes from."""

    calendar: Calendar
    prices: MarketData
    vix: MarketData
    store: BookReader
    symbol: str


def read(sources: Sources, session: date, as_of: datetime, p: StrategyParameters) -> Reading:
    """Fetch the session's window as known at `as_of` and measure it.

    Raises MarketDataError where neither the source nor the store has a bar.
    """
    window = sources.calendar.window(session, p.history_bars)
    prices = fetch(sources.prices, sources.symbol, window, as_of, sources.store)
    vix = fetch(sources.vix, VIX, window, as_of, sources.store)
    volumes = None
    if prices.last_status in UNFINISHED and p.volume_basis is not VolumeChoice.SESSION:
        volumes = _volumes_until(sources, window[-p.volume_lookback :], min(as_of, prices.as_of))
    reading = measure(prices, vix, window, p, volumes)
    stored = sources.store.bars(sources.symbol, window[0], window[-1])
    found = reading.indicators
    if _age(prices, as_of) > gates.MAX_EXIT_PRICE_AGE:
        found = replace(found, close=nan)  # too old to sell on either
    fetched, last = reading.bars[0], window[-1]
    findings = (
        *reading.findings,
        *too_old((prices, vix), as_of),
        *quality.compare_with_store(fetched, stored),
        *quality.check_volume_units(last, fetched, stored),
    )
    return replace(reading, indicators=found, findings=findings)


def measure(
    prices: DailyBars,
    vix: DailyBars,
    window: list[date],
    p: StrategyParameters,
    volumes: Mapping[date, float] | None,
) -> Reading:
    """The indicators of the last session of `window`, and what is wrong with the data. Pure.

    volumes: up to the same time of day for each of the last `volume_lookback` sessions; None compares whole sessions.
    A number that faulty data would make wrong is NaN: the session's own bar spoils the close and all that follows
    from it, a fault elsewhere in the window spoils the averages only.
    """
    days = days_of(window)
    checked = quality.check(prices, days)
    checked_vix = quality.check(vix, days, is_index=True)
    bars = checked.bars
    close = bars.close
    found = Indicators(vix=float(checked_vix.bars.close[-1]) if checked_vix.has_session else nan)
    if checked.has_session:
        found = replace(found, close=float(close[-1]), previous_close=float(close[-2]) if len(close) > 1 else nan)
    if checked.has_session and not checked.fatal:
        found = replace(
            found,
            ma_50=float(sma(close, p.ma_period)[-1]),
            rsi=float(rsi(close, p.rsi_period)[-1]),
            atr=float(atr(bars.high, bars.low, close, p.atr_period)[-1]),
        )
        found = _with_volume(found, bars.volume[-p.volume_lookback :], window, p, volumes)
    return Reading(
        indicators=found,
        findings=(*checked.findings, *checked_vix.findings),
        bars=(bars, checked_vix.bars),
        volumes=dict(volumes) if volumes is not None else None,
    )


def _with_volume(
    found: Indicators,
    daily: Floats,
    window: list[date],
    p: StrategyParameters,
    volumes: Mapping[date, float] | None,
) -> Indicators:
    """The volumes to compare: whole sessions, or up to the same time of day where these are wanted."""
    basis = VolumeBasis.SESSION
    if volumes is not None:
        basis = VolumeBasis.SAME_TIME
        daily = np.array([volumes.get(session, nan) for session in window[-p.volume_lookback :]])
    if len(daily) < p.volume_lookback or np.isnan(daily).any():
        return replace(found, volume_basis=basis)
    mean = float(sma(daily, p.volume_lookback)[-1])
    return replace(found, volume=float(daily[-1]), volume_ma_20=mean, volume_basis=basis)


def fetch(source: MarketData, symbol: str, window: list[date], as_of: datetime, store: BookReader) -> DailyBars:
    """The source wins over stored bars; the store serves when the source cannot be reached.

    Without a price nothing can be decided, so that raises; a VIX that nobody knows leaves its rules unknown.
    """
    try:
        return source.daily(symbol, window[0], window[-1], as_of)
    except MarketDataError as error:
        stored = store.bars(symbol, window[0], window[-1])
        if stored.is_empty and symbol != VIX:
            raise
        instead = "nothing stored could stand in" if stored.is_empty else "stored bars were used"
        told = Finding(
            kind=FindingKind.UNREADABLE if stored.is_empty else FindingKind.SERVED_FROM_STORE,
            symbol=symbol,
            session=window[-1],
            words=f"{symbol}: {source.name} could not be read ({error.message}); {instead}",
        )
        if not stored.is_empty and stored.statuses[-1] in UNFINISHED:
            # Stored when it was seen: it is as old as that, however long ago.
            as_of = store.bar_as_of(symbol, stored.last) or as_of
        return from_store(symbol, stored, as_of, findings=(told,))


def from_store(symbol: str, stored: StoredBars, as_of: datetime, findings: tuple[Finding, ...] = ()) -> DailyBars:
    """Stored bars as a source would give them."""
    return DailyBars(
        symbol=symbol,
        days=stored.days,
        values=stored.values,
        as_of=as_of,
        last_status=BarStatus.FINAL if stored.is_empty else BarStatus(stored.statuses[-1]),
        source="store",
        findings=findings,
    )


def _volumes_until(sources: Sources, sessions: list[date], as_of: datetime) -> dict[date, float]:
    hours = {session: (sources.calendar.open(session), sources.calendar.close(session)) for session in sessions}
    return sources.prices.volume_until(sources.symbol, volume_cuts(as_of, sessions[-1], hours), as_of)


def _age(bars: DailyBars, as_of: datetime) -> timedelta:
    """How old the last price is; a finished bar does not age."""
    return as_of - bars.as_of if bars.last_status in UNFINISHED else timedelta(0)


def too_old(bars: tuple[DailyBars, DailyBars], as_of: datetime) -> tuple[Finding, ...]:
    """A price or VIX too old at `as_of` to buy on; fatal for entries, told for exits.

    bars: those of the price and of the VIX.
    """
    limits = zip(bars, (gates.MAX_ENTRY_PRICE_AGE, gates.MAX_VIX_AGE), strict=True)
    return tuple(
        Finding(
            kind=FindingKind.STALE_PRICE,
            symbol=one.symbol,
            session=None,
            words=f"{one.symbol}: last known {_minutes(_age(one, as_of))} min ago, {_minutes(limit)} allowed",
            is_fatal=True,
        )
        for one, limit in limits
        if _age(one, as_of) > limit
    )


def _minutes(age: timedelta) -> int:
    return int(age.total_seconds() // 60)
