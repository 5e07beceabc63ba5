"""Market values: bars as they were seen, and what was found in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

Days = npt.NDArray[np.datetime64]
"""Sessions as numpy counts them, `datetime64[D]`."""

Floats = npt.NDArray[np.float64]

VIX = "VIX"
"""Symbol under which the CBOE Volatility Index is asked for and stored."""

COLUMNS = ("open", "high", "low", "close", "volume")


EPOCH = date(1970, 1, 1)
"""Where numpy begins to count days."""


def days_of(sessions: Sequence[date] | Days) -> Days:
    """The sessions as numpy's days, by their ordinals: numpy reads a list of dates fifty times slower.

    What is days already comes back as it is.
    """
    if isinstance(sessions, np.ndarray):
        return sessions
    ordinals = np.fromiter(map(date.toordinal, sessions), dtype=np.int64, count=len(sessions))
    return (ordinals - EPOCH.toordinal()).astype("datetime64[D]")


def among(days: Days, ascending: Days) -> npt.NDArray[np.bool_]:
    """Which of `days` stand in `ascending`; numpy's isin sorts, which takes longer than a whole check of bars."""
    return _found(days, ascending)[0]


def shared(one: Days, other: Days) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Where the sessions that both know stand in each; both are ascending."""
    known, places = _found(one, other)
    return np.flatnonzero(known), places[known]


def _found(days: Days, ascending: Days) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.intp]]:
    """Which of `days` stand in `ascending`, and where each does or would."""
    places = np.searchsorted(ascending, days)
    if not len(ascending):
        return np.zeros(len(days), dtype=bool), places
    return np.asarray(ascending[np.minimum(places, len(ascending) - 1)] == days), places


def arrays_of(frame: pd.DataFrame) -> tuple[Days, Floats]:
    """`days` and `values` of a pandas table of bars, for `BarTable`; its index holds midnights without a zone."""
    return frame.index.to_numpy().astype("datetime64[D]"), frame[list(COLUMNS)].to_numpy(dtype=np.float64)


class BarStatus(StrEnum):
    """How far a bar can be trusted to be the session's last word."""

    PARTIAL = "partial"  # seen before the close
    BUILT = "built"  # partial, put together from intraday bars
    PROVISIONAL = "provisional"  # seen after the close on the session's own day
    FINAL = "final"  # seen at a later date


UNFINISHED = (BarStatus.PARTIAL, BarStatus.BUILT)
"""Their close is the price of before the close."""


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
    CONTRACT = "contract"  # listing, order types or hours at the broker are not as expected


ENTRY_ONLY = (FindingKind.STALE_PRICE, FindingKind.VOLUME_UNITS, FindingKind.CONTRACT)
"""Fatal findings that say nothing against an exit, nor against keeping the shares."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing noticed in the data: named with symbol, session and value, and whether it stops a decision."""

    kind: FindingKind
    symbol: str
    session: date | None
    words: str  # the whole finding as a person reads it
    is_fatal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BarTable:
    """Bars of one symbol, a row each.

    values: columns open, high, low, close (USD a share or index points) and volume (shares; NaN for an index).
    """

    days: Days
    values: Floats

    @property
    def is_empty(self) -> bool:
        return not self.days.size

    @property
    def first(self) -> date:
        """The earliest session."""
        return _date(self.days.min())

    @property
    def last(self) -> date:
        """The latest session."""
        return _date(self.days.max())

    @property
    def high(self) -> Floats:
        return self.values[:, 1]

    @property
    def low(self) -> Floats:
        return self.values[:, 2]

    @property
    def close(self) -> Floats:
        return self.values[:, 3]

    @property
    def volume(self) -> Floats:
        return self.values[:, 4]

    def close_of(self, session: date) -> float | None:
        """The session's close; None where it has no row."""
        found = self.close[self.days == np.datetime64(session)]
        return float(found[-1]) if found.size else None

    def on(self, days: Days) -> Floats:
        """`values` of these sessions, ascending; NaN where there is no row. The table itself is ascending too."""
        values = np.full((len(days), len(COLUMNS)), np.nan)
        at, own = shared(days, self.days)
        values[at] = self.values[own]
        return values

    @property
    def frame(self) -> pd.DataFrame:
        """The same for pandas: index `session` (midnight, no zone), columns by name."""
        import pandas as pd

        index = pd.DatetimeIndex(self.days.astype("datetime64[ns]"), name="session")
        return pd.DataFrame(self.values, index=index, columns=list(COLUMNS))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredBars(BarTable):
    """Bars as the store keeps them, ascending, one row a session."""

    statuses: npt.NDArray[np.object_]  # of each row, the words of `BarStatus`

    @property
    def is_final(self) -> npt.NDArray[np.bool_]:
        # as plain text, which numpy compares faster than an enum's member
        return np.asarray(self.statuses == BarStatus.FINAL.value, dtype=bool)

    @property
    def finals(self) -> StoredBars:
        """The rows that are final."""
        rows = self.is_final
        return replace(self, days=self.days[rows], values=self.values[rows], statuses=self.statuses[rows])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DailyBars(BarTable):
    """Daily bars of one symbol as a source gave them, nothing repaired yet: one row as read, unreadable numbers NaN.

    Order, duplicates and rows on non-sessions are the source's own: `core.quality` judges them.
    """

    symbol: str
    as_of: datetime  # UTC; up to when the latest row was known
    last_status: BarStatus  # of the latest row; earlier rows are final
    source: str
    findings: tuple[Finding, ...] = ()
    """What only the source can see, such as a file that looks dividend-adjusted."""

    adjusted: Floats | None = None
    """Closes adjusted for dividends, row by row; None where the source does not know them. They are there for the
    total return in a report: no decision looks at them."""


def _date(day: np.datetime64) -> date:
    return day.astype(date)  # type: ignore[no-any-return]  # numpy's types do not say which
