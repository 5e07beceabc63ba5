"""What every source of bars shares: how far it may look, and how far its last row can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from mtum_eod.core.gates import MAX_EXIT_PRICE_AGE, MAX_VIX_AGE
from mtum_eod.core.market import VIX, BarStatus, DailyBars, Days, Finding, Floats
from mtum_eod.core.quality import ABSURD
from mtum_eod.ports import Calendar

if TYPE_CHECKING:
    import pandas as pd


def daily_bars(
    calendar: Calendar,
    symbol: str,
    days: Days,
    values: Floats,
    first: date,
    last: date,
    as_of: datetime,
    source: str,
    findings: Sequence[Finding] = (),
    adjusted: Floats | None = None,
) -> DailyBars:
    """The rows from `first` to `last` that were known at `as_of`, with the last one's status.

    days, values and adjusted: as in `DailyBars`, in any order. Findings outside the range are left out.
    """
    last = last_known(calendar, last, as_of)
    wanted = (days >= np.datetime64(first)) & (days <= np.datetime64(last))
    inside = days[wanted]
    return DailyBars(
        symbol=symbol,
        days=inside,
        values=values[wanted],
        as_of=as_of,
        last_status=status(calendar, inside.max().astype(date), as_of) if inside.size else BarStatus.FINAL,
        source=source,
        findings=tuple(finding for finding in findings if finding.session is None or first <= finding.session <= last),
        adjusted=None if adjusted is None else adjusted[wanted],
    )


def with_built(bars: DailyBars, today: date, minutes: pd.DataFrame, as_of: datetime) -> DailyBars:
    """The bars with today's from intraday ones, known up to `as_of`, in the place of whatever they had of today."""
    volume = np.nan if bars.symbol == VIX else minutes["volume"].sum()
    opened, closed = minutes["open"].iloc[0], minutes["close"].iloc[-1]
    row = [opened, minutes["high"].max(), minutes["low"].min(), closed, volume]
    kept = bars.days != np.datetime64(today)
    return replace(
        bars,
        days=np.append(bars.days[kept], np.datetime64(today)),
        values=np.vstack([bars.values[kept], row]),
        adjusted=None if bars.adjusted is None else np.append(bars.adjusted[kept], np.nan),
        as_of=as_of,
        last_status=BarStatus.BUILT,
    )


def of_unknown_age(bars: DailyBars, size: timedelta) -> DailyBars:
    """The bars as old as buys nothing, and may still sell: no intraday bar, of that size, tells today's row's age."""
    age = MAX_VIX_AGE + size if bars.symbol == VIX else MAX_EXIT_PRICE_AGE
    return replace(bars, as_of=bars.as_of - age)


def between(minutes: pd.DataFrame, first: datetime, last: datetime) -> pd.DataFrame:
    """The intraday bars that begin from `first` to `last`."""
    return minutes[(minutes.index >= first) & (minutes.index <= last)]


def volumes_by(
    calendar: Calendar, minutes: pd.DataFrame, size: timedelta, cuts: Mapping[date, datetime]
) -> dict[date, float]:
    """Volume by session of the intraday bars of that size that ended by each cut; absent where it is not known."""
    answer = {}
    for session, cut in cuts.items():
        volume = between(minutes, calendar.open(session), cut - size)["volume"]
        if len(volume) and (volume.abs() < ABSURD).all():  # nor is NaN
            answer[session] = float(volume.sum())
    return answer


def last_known(calendar: Calendar, last: date, as_of: datetime) -> date:
    """The latest date up to `last` that a bar can be of at `as_of`: today's only once the session is open."""
    today = calendar.local_date(as_of)
    if last < today or (calendar.is_session(today) and as_of >= calendar.open(today)):
        return min(last, today)
    return calendar.nearest(today)[0]


def status(calendar: Calendar, session: date, as_of: datetime) -> BarStatus:
    """How far a bar of `session` read at `as_of` can be trusted."""
    if session < calendar.local_date(as_of):
        return BarStatus.FINAL
    return BarStatus.PARTIAL if as_of < calendar.close(session) else BarStatus.PROVISIONAL
