"""Whether bars can be decided on: what stops a decision, what is repaired, what is only named.

Source of the rules: SPEC section 5, "Data quality".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from fractions import Fraction
from math import isfinite, nan

import numpy as np
import numpy.typing as npt

from mtum_eod.core.market import (
    COLUMNS,
    BarStatus,
    BarTable,
    DailyBars,
    Days,
    Finding,
    FindingKind,
    Floats,
    StoredBars,
    among,
    days_of,
    shared,
)
from mtum_eod.core.parameters import MIN_HISTORY_BARS
from mtum_eod.core.words import counted

OUTLIER_RANGE_RATIO = 0.10
"""A high or low further than this from the close is named. MTUM crossed it four times in its first ten years."""

OUTLIER_MOVE_RATIO = 0.25
"""A close further than this from the one before is named. MTUM's largest move up to 2022 was 12.4 %, VIX is exempt."""

ABSURD = 1e12
"""No price and no day's volume is this large. What is counts as missing: IB's 1.797e308 for "not set", `inf`."""

SAME_PRICE = 1e-6
"""Prices closer than this, relative, are one price: vendors pass them through 32-bit floats."""

SAME_RATIO = 1e-3
"""Closes rounded to cents show one split ratio to within this, relative."""

ALIKE = 0.9
"""The part of all closes that must show one ratio; the rest may have been revised besides."""

SPLIT_TERMS = 4
"""The larger of a split's two numbers may be any, the smaller one is at most this: 3 for 2, 5 for 4, 1 for 10."""

UNIT_RATIOS = (0.2, 5.0)
"""A median ratio of two volumes outside these means two units: US lots are 100 shares."""

NAMED_ONE_BY_ONE = 10
"""A fault on more sessions than this is named this often, then counted."""

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """Bars that can be computed on, and everything that was found in them.

    bars: as the source gave them, but ascending, one row a session, sessions of the window only, and without
    the rows that cannot be believed. So the last row is the decision session's only if no finding is fatal:
    see `has_session`.
    """

    bars: DailyBars
    findings: tuple[Finding, ...]
    has_session: bool  # the decision session's own bar is there and believable

    @property
    def fatal(self) -> tuple[Finding, ...]:
        """The findings that stop an entry."""
        return tuple(finding for finding in self.findings if finding.is_fatal)


def check(
    raw: DailyBars, sessions: Sequence[date] | Days, *, needed: int = MIN_HISTORY_BARS, is_index: bool = False
) -> Checked:
    """The bars repaired, and all findings at once.

    sessions: the calendar's window, ascending, ending at the decision session.
    needed: fewer believable bars than this are an insufficient history.
    is_index: only the decision session's close can be fatal; holes, ranges and volume say nothing about an index.
    """
    window = days_of(sessions)
    if len(window) >= max(needed, 1) and np.array_equal(raw.days, window) and _is_faultless(raw.values, is_index):
        bars = replace(raw, findings=(), adjusted=None)
        return Checked(bars=bars, findings=raw.findings, has_session=True)
    return _Check(raw, window, is_index).run(needed)


def _is_faultless(values: Floats, is_index: bool) -> bool:
    """Whether `_Check` would find nothing in these rows, one a session: the rule, and told in a third of its time.

    Prices a rounding outside the range are not called faultless either: `_Check` knows the tolerance.
    """
    opened, high, low, close, _ = values.T.copy()  # columns in one piece, which numpy reads faster
    if is_index:
        return bool(close.min() > 0 and close.max() < ABSURD)
    if not (values.min() > 0 and values.max() < ABSURD):
        return False
    good = (low <= opened) & (low <= close) & (opened <= high) & (close <= high)
    good &= (high <= close * (1 + OUTLIER_RANGE_RATIO)) & (low >= close * (1 - OUTLIER_RANGE_RATIO))
    return bool(good.all() and (np.abs(close[1:] / close[:-1] - 1) <= OUTLIER_MOVE_RATIO).all())


class _Check:
    """One look at one table; each step narrows `days` and `values` and adds what it found."""

    def __init__(self, raw: DailyBars, window: Days, is_index: bool) -> None:
        self.raw = raw
        self.symbol = raw.symbol
        self.is_index = is_index
        self.window = window
        self.findings = list(raw.findings)
        self.days = raw.days
        # Believed, one sold a position on a VIX of 1.8e308, and a mean of `inf` is nothing that JSON can say.
        self.values = np.where(np.abs(raw.values) < ABSURD, raw.values, nan)

    def run(self, needed: int) -> Checked:
        if not np.array_equal(self.days, self.window):  # else each session has its one row, in order
            self.keep((self.days >= self.window[0]) & (self.days <= self.window[-1]))
            self.sort()
            self.drop_non_sessions()
            self.drop_duplicates()
        seen = self.days
        self.drop_unbelievable()
        self.name_oddities()
        self.name_absences(seen, needed)
        return Checked(
            bars=replace(self.raw, days=self.days, values=self.values, findings=(), adjusted=None),
            findings=tuple(self.findings),
            has_session=bool(self.days.size and self.days[-1] == self.window[-1]),
        )

    def keep(self, wanted: Mask) -> None:
        self.days, self.values = self.days[wanted], self.values[wanted]

    def add(self, kind: FindingKind, day: np.datetime64 | None, words: str, *, is_fatal: bool = False) -> None:
        session = None if day is None else day.astype(date)
        named = f"{self.symbol} {session}: {words}" if session else f"{self.symbol}: {words}"
        self.findings.append(Finding(kind=kind, symbol=self.symbol, session=session, words=named, is_fatal=is_fatal))

    def add_each(self, kind: FindingKind, faulty: Mask, words: Callable[[int], str], *, is_fatal: bool = False) -> None:
        """One finding a row, up to the number a person reads; the rest counted. An index fails at its last row only."""
        rows = np.flatnonzero(faulty)
        for row in rows[:NAMED_ONE_BY_ONE]:
            fatal = is_fatal and (not self.is_index or bool(self.days[row] == self.window[-1]))
            self.add(kind, self.days[row], words(int(row)), is_fatal=fatal)
        if len(rest := rows[NAMED_ONE_BY_ONE:]):
            fatal = is_fatal and (not self.is_index or bool(self.days[rest[-1]] == self.window[-1]))
            more = f"and {len(rest)} more like it, the last: {words(int(rest[-1]))}"
            self.add(kind, self.days[rest[-1]], more, is_fatal=fatal)

    def sort(self) -> None:
        later = self.days[1:] < self.days[:-1]
        if later.any():
            row = int(np.flatnonzero(later)[0])
            self.add(
                FindingKind.DISORDER,
                None,
                f"rows out of order, the first {self.days[row + 1]} after {self.days[row]}; sorted",
            )
            order = np.argsort(self.days, kind="stable")
            self.days, self.values = self.days[order], self.values[order]

    def drop_non_sessions(self) -> None:
        foreign = ~among(self.days, self.window)
        if foreign.any():
            days = np.unique(self.days[foreign])
            named = ", ".join(f"{day} (close {_shown(self.close_of(day))})" for day in days[:NAMED_ONE_BY_ONE])
            more = f" and {len(days) - NAMED_ONE_BY_ONE} more" if len(days) > NAMED_ONE_BY_ONE else ""
            rows = "a row on a day" if len(days) == 1 else f"rows on {len(days)} days"
            self.add(FindingKind.NO_SESSION, days[0], f"{rows} without a session, left out: {named}{more}")
            self.keep(~foreign)

    def close_of(self, day: np.datetime64) -> float:
        return float(self.values[self.days == day][0, 3])

    def drop_duplicates(self) -> None:
        again = np.zeros(len(self.days), dtype=bool)
        again[1:] = self.days[1:] == self.days[:-1]
        if not again.any():
            return
        same = np.zeros(len(self.days), dtype=bool)
        one, other = self.values[1:], self.values[:-1]
        same[1:] = ((one == other) | (np.isnan(one) & np.isnan(other))).all(axis=1)
        self.add_each(
            FindingKind.IDENTICAL_DUPLICATE,
            again & same,
            lambda row: f"twice, identical (close {_shown(self.values[row, 3])})",
        )
        conflicting = again & ~same
        self.add_each(
            FindingKind.CONFLICTING_DUPLICATE,
            conflicting,
            lambda row: (
                f"twice, with {_differences(self.values[row - 1], self.values[row])}; one row a session expected"
            ),
            is_fatal=True,
        )
        # which of two contradicting rows is true cannot be told, so neither is believed
        self.keep(~again & ~among(self.days, self.days[conflicting]))

    def drop_unbelievable(self) -> None:
        """Rows whose prices are missing, not positive or impossible; of an index only the close counts."""
        _, high, low, close, _ = self.values.T
        prices = self.values[:, 3:4] if self.is_index else self.values[:, 1:4]
        believed: Mask = np.all(np.isfinite(prices) & (prices > 0), axis=1)
        if not self.is_index:
            over, under = 1 + SAME_PRICE, 1 - SAME_PRICE
            believed &= (high >= low * under) & (close <= high * over) & (close >= low * under)
        if believed.all():
            return
        missing: Mask = np.logical_not(np.isfinite(prices).all(axis=1))
        not_positive: Mask = ~missing & (prices <= 0).any(axis=1)
        impossible = ~(believed | missing | not_positive)
        names = ("close",) if self.is_index else ("high", "low", "close")
        self.add_each(
            FindingKind.VALUE_MISSING,
            missing,
            lambda row: f"{_faulty(names, prices[row], isfinite)} missing, the session counts as absent",
            is_fatal=True,
        )
        self.add_each(
            FindingKind.NOT_POSITIVE,
            not_positive,
            lambda row: f"{_values(names, prices[row])}, prices above 0 expected",
            is_fatal=True,
        )
        self.add_each(
            FindingKind.IMPOSSIBLE_RANGE,
            impossible,
            lambda row: f"high {high[row]:g}, low {low[row]:g}, close {close[row]:g}: low <= close <= high expected",
            is_fatal=True,
        )
        self.keep(believed)

    def name_oddities(self) -> None:
        """What is kept and only told; an index has none of it."""
        if self.is_index or not self.days.size:
            return
        opened, high, low, close, volume = self.values.T
        open_outside = (opened > high * (1 + SAME_PRICE)) | (opened < low * (1 - SAME_PRICE))
        unmeasured = np.isnan(opened) | np.isnan(volume)
        no_volume = volume <= 0
        high_out = high > close * (1 + OUTLIER_RANGE_RATIO)
        low_out = low < close * (1 - OUTLIER_RANGE_RATIO)
        before = np.concatenate((close[:1], close[:-1]))
        move_out = np.abs(close / before - 1) > OUTLIER_MOVE_RATIO
        if not (open_outside | unmeasured | no_volume | high_out | low_out | move_out).any():
            return
        name, kind = self.add_each, FindingKind
        name(
            kind.VALUE_MISSING,
            unmeasured,
            lambda row: f"{_faulty(('open', 'volume'), (opened[row], volume[row]), isfinite)} missing",
        )
        name(kind.ZERO_VOLUME, no_volume, lambda row: f"volume {volume[row]:g} at close {close[row]:g}")
        name(
            kind.OPEN_OUTSIDE_RANGE,
            open_outside,
            lambda row: f"open {opened[row]:g} outside low {low[row]:g} to high {high[row]:g}",
        )
        name(
            kind.OUTLIER,
            high_out,
            lambda row: f"high {high[row]:.2f} is {high[row] / close[row] - 1:.1%} above the close {close[row]:.2f}",
        )
        name(
            kind.OUTLIER,
            low_out,
            lambda row: f"low {low[row]:.2f} is {1 - low[row] / close[row]:.1%} below the close {close[row]:.2f}",
        )
        name(
            kind.OUTLIER,
            move_out,
            lambda row: f"close {close[row]:.2f} is {close[row] / before[row] - 1:+.1%} from {before[row]:.2f} before",
        )

    def name_absences(self, seen: Days, needed: int) -> None:
        """The decision session's bar, holes before it, and too short a history. `seen`: all sessions with a row."""
        decided = self.window[-1]
        if not (seen.size and seen[-1] == decided) and not self.is_named(decided):
            newest = f"the newest is of {seen[-1]}" if seen.size else f"there is none from {self.window[0]} on"
            self.add(FindingKind.BAR_MISSING, decided, f"no bar; {newest}", is_fatal=True)
        if self.is_index:
            return
        if seen.size:
            between = self.window[(self.window >= seen[0]) & (self.window <= seen[-1])]
            if len(between) != len(seen):
                self.name_holes(between[~among(between, seen)])
        if len(self.days) < needed:
            self.add(
                FindingKind.SHORT_HISTORY,
                decided,
                f"insufficient history: {counted(len(self.days), 'session')} up to {decided}, {needed} needed. "
                "Fetch more with `mtum-eod data import`",
                is_fatal=True,
            )

    def is_named(self, day: np.datetime64) -> bool:
        """Whether a fatal finding names the session already: a contradicted bar is not an absent one."""
        return any(finding.is_fatal and finding.session == day.astype(date) for finding in self.findings)

    def name_holes(self, absent: Days) -> None:
        for day in absent[:NAMED_ONE_BY_ONE]:
            if not self.is_named(day):
                self.add(FindingKind.SESSION_MISSING, day, "no bar inside the window", is_fatal=True)
        if len(rest := absent[NAMED_ONE_BY_ONE:]):
            more = counted(len(rest) - 1, "more session")
            words = f"no bar inside the window, and {more} since {absent[0]} without one"
            self.add(FindingKind.SESSION_MISSING, rest[-1], words, is_fatal=True)


TELLING = 5
"""So many sessions of one ratio tell of a split, whatever the others say."""


def closes_ratio(fetched: DailyBars, stored: StoredBars) -> float | None:
    """By how much all fetched closes that differ do so from the stored ones; None where they differ variously.

    Arguments as for `compare_with_store`. One close in ten may have been revised besides, and after a split's ratio any
    number: a split must stand out.
    """
    return _one_ratio(*_finals_of_both(fetched, stored)[1:])


def split_ratio(closes_ratio: float) -> float | None:
    """New shares for one old share that would explain such a ratio of closes; None where no split is like that.

    Splits are small whole numbers for small whole numbers, 3 for 2 or 1 for 10. What a series adjusted for a dividend
    shows lies nearer to 1 than any of them.
    """
    grows = closes_ratio < 1
    exact = Fraction(1 / closes_ratio if grows else closes_ratio).limit_denominator(SPLIT_TERMS)
    shares = float(exact) if grows else float(1 / exact)
    return shares if exact != 1 and abs(shares * closes_ratio - 1) < SAME_RATIO else None


def compare_with_store(fetched: DailyBars, stored: StoredBars) -> tuple[Finding, ...]:
    """What a source says differently today about bars that were final: revisions, or one ratio over all closes.

    fetched: checked bars. Only FINAL rows of both are compared.
    A constant ratio other than 1 is fatal: a split, or a source that changed its adjustment.
    """
    symbol = fetched.symbol
    common, new, old = _finals_of_both(fetched, stored)
    if np.array_equal(new, old, equal_nan=True):
        return ()
    ratio = _one_ratio(new, old)
    if ratio is not None:
        session, shares = common[-1].astype(date), split_ratio(ratio)
        like = f"as after a split of {shares:.6g} new shares for one" if shares else "which is like no split"
        words = f"{symbol}: the closes up to {session} are {ratio:.4g} times the stored ones, {like}; 1 expected"
        return (Finding(kind=FindingKind.RATIO, symbol=symbol, session=session, words=words, is_fatal=True),)
    changed = np.flatnonzero(~np.isclose(new, old, rtol=SAME_PRICE, atol=0, equal_nan=True).all(axis=1))
    named, rest = changed[:NAMED_ONE_BY_ONE], changed[NAMED_ONE_BY_ONE:]
    said = [f"revised at {fetched.source}, {_differences(old[row], new[row])}" for row in named]
    if len(rest):
        said.append(f"revised too at {fetched.source}: {counted(len(rest), 'session')} more, this the last")
    return tuple(
        Finding(
            kind=FindingKind.REVISED,
            symbol=symbol,
            session=common[row].astype(date),
            words=f"{symbol} {common[row]}: {words}",
        )
        for row, words in zip([*named, *rest[-1:]], said, strict=True)
    )


def _finals_of_both(fetched: DailyBars, stored: StoredBars) -> tuple[Days, Floats, Floats]:
    """The sessions final on both sides, and their bars as fetched and as stored."""
    end = None if fetched.last_status is BarStatus.FINAL else -1
    finals = stored.finals
    at, stored_at = shared(fetched.days[:end], finals.days)
    return fetched.days[at], fetched.values[at], finals.values[stored_at]


def _one_ratio(new: Floats, old: Floats) -> float | None:
    if len(new) < 2 or np.array_equal(new[:, 3], old[:, 3]):
        return None
    # Equal closes say nothing: while a split is in doubt decisions keep what they saw, on the new scale already. There
    # the latest may be revised too; the ratio is that of the earliest that differ.
    differs = new[:, 3] != old[:, 3]
    ratios = new[differs, 3] / old[differs, 3]
    ratio = float(np.median(ratios[:TELLING]))
    is_alike = np.abs(ratios / ratio - 1) < SAME_RATIO
    alike = np.flatnonzero(is_alike)
    if len(alike) < min(TELLING, len(new)) or abs(ratio - 1) <= SAME_RATIO:
        return None
    if split_ratio(ratio) is not None:  # what follows the old scale is none of it
        is_alike = is_alike[: alike[-1] + 1]
    return ratio if is_alike.mean() >= ALIKE else None


def median_unit_ratio(fetched: BarTable, stored: BarTable) -> float:
    """Median of fetched over stored volume of the sessions both know; NaN where there is none.

    Both ascending. Sessions with a volume of 0 or NaN on either side say nothing about units.
    """
    at, stored_at = shared(fetched.days, stored.days)
    new, old = fetched.volume[at], stored.volume[stored_at]
    told = (new > 0) & (old > 0)
    return float(np.median(new[told] / old[told])) if told.any() else nan


def check_volume_units(session: date, fetched: DailyBars, stored: StoredBars) -> tuple[Finding, ...]:
    """One fatal finding where fetched and stored volumes are counted in different units, else none."""
    ratio, symbol = median_unit_ratio(fetched, stored), fetched.symbol
    low, high = UNIT_RATIOS
    if np.isnan(ratio) or low <= ratio <= high:
        return ()
    words = (
        f"{symbol} {session}: volumes are {ratio:.3g} times the stored ones at the median, "
        f"{low:g} to {high:g} expected (lots, not shares?)"
    )
    return (Finding(kind=FindingKind.VOLUME_UNITS, symbol=symbol, session=session, words=words, is_fatal=True),)


def _values(names: Sequence[str], values: Sequence[float] | Floats) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in zip(names, values, strict=True))


def _faulty(names: Sequence[str], values: Sequence[float] | Floats, is_good: Callable[[float], bool]) -> str:
    return ", ".join(name for name, value in zip(names, values, strict=True) if not is_good(value))


def _differences(old: Floats, new: Floats) -> str:
    same = np.isclose(old, new, rtol=SAME_PRICE, atol=0, equal_nan=True)
    return ", ".join(
        f"{name} {_shown(old[column], digits=10)} and {_shown(new[column], digits=10)}"
        for column, name in enumerate(COLUMNS)
        if not same[column]
    )


def _shown(value: float, digits: int = 6) -> str:
    return f"{value:.{digits}g}" if isfinite(value) else "missing"
