"""Market values: bars as they were seen, and what was found in them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import pandas as pd

VIX = "VIX"
"""Symbol under which the CBOE Volatility Index is asked for and stored."""

COLUMNS = ("open", "high", "low", "close", "volume")


def as_array(frame: pd.DataFrame) -> npt.NDArray[np.float64]:
    """The columns open to volume of bars, one row a session. Picking columns by a list of names costs far more."""
    names = tuple(frame.columns)
    bars = frame if names == COLUMNS else frame.iloc[:, [names.index(name) for name in COLUMNS]]
    return bars.to_numpy(dtype=np.float64)


class BarStatus(StrEnum):
    """How far a bar can be trusted to be the session's last word."""

    PARTIAL = "partial"  # seen before the close
    BUILT = "built"  # partial, put together from intraday bars
    PROVISIONAL = "provisional"  # seen after the close on the session's own day
    FINAL = "final"  # seen at a later date


class VolumeBasis(StrEnum):
    """Which volumes were compared: whole sessions, or up to the same time of day."""

    SESSION = "session"
    SAME_TIME = "same_time"


class FindingKind(StrEnum):
    """What a look at the data can find."""

    BAR_MISSING = "bar_missing"  # the session's own bar
    VALUE_MISSING = "value_missing"  # NaN or text where a price belongs
    NOT_POSITIVE = "not_positive"
    IMPOSSIBLE_RANGE = "impossible_range"  # high < low, or close outside them
    CONFLICTING_DUPLICATE = "conflicting_duplicate"
    SESSION_MISSING = "session_missing"  # a hole inside the window
    SHORT_HISTORY = "short_history"
    STALE_PRICE = "stale_price"
    VOLUME_UNITS = "volume_units"  # lots, not shares?
    RATIO = "ratio"  # fetched and stored closes differ by one factor
    ZERO_VOLUME = "zero_volume"
    OUTLIER = "outlier"
    OPEN_OUTSIDE_RANGE = "open_outside_range"
    NO_SESSION = "no_session"  # a row on a day without a session
    IDENTICAL_DUPLICATE = "identical_duplicate"
    DISORDER = "disorder"
    REVISED = "revised"  # a final bar changed at its source
    POSSIBLY_ADJUSTED = "possibly_adjusted"
    SERVED_FROM_STORE = "served_from_store"
    UNREADABLE = "unreadable"  # the source did not answer


ENTRY_ONLY = (FindingKind.STALE_PRICE, FindingKind.VOLUME_UNITS)
"""Fatal findings that say nothing against an exit, nor against keeping the shares."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing noticed in the data: named with symbol, session and value, and whether it stops a decision."""

    kind: FindingKind
    symbol: str
    session: date | None
    words: str  # the whole finding as a person reads it
    is_fatal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DailyBars:
    """Daily bars of one symbol as a source gave them, nothing repaired yet.

    frame: one row as read; index `session` (datetime64, midnight, no zone), float64 columns open, high, low,
    close (USD a share or index points) and volume (shares; NaN for an index). Unreadable numbers are NaN.
    Order, duplicates and rows on non-sessions are the source's own: `core.quality` judges them.
    """

    symbol: str
    frame: pd.DataFrame
    as_of: datetime  # UTC; up to when the last row was known
    last_status: BarStatus  # of the last row; earlier rows are final
    source: str
    findings: tuple[Finding, ...] = ()
    """What only the source can see, such as a file that looks dividend-adjusted."""

    adjusted: pd.Series | None = None
    """Closes adjusted for dividends, indexed like `frame`; None where the source does not know them. They are there for
    the total return in a report: no decision looks at them."""
