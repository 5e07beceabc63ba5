"""The same indicators from their definitions, in plain loops: what TA-Lib's are compared with on the owner's own bars.

Source: Wilder, New Concepts in Technical Trading Systems (1978). His averages start as a plain mean of the first
`period` values; each later one is ((period - 1) x the last + the new value) / period.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise


def mean_of_last(values: Sequence[float], period: int) -> float:
    """Mean of the last `period` values."""
    return sum(values[-period:]) / period


def wilder_average(values: Sequence[float], period: int) -> float:
    """Wilder's average of all values; there are at least `period`."""
    average = sum(values[:period]) / period
    for value in values[period:]:
        average = (average * (period - 1) + value) / period
    return average


def relative_strength(closes: Sequence[float], period: int) -> float:
    """Wilder's relative strength index at the last close, 0 to 100; 0 where nothing ever moved, as TA-Lib has it."""
    changes = [after - before for before, after in pairwise(closes)]
    gain = wilder_average([max(change, 0.0) for change in changes], period)
    loss = wilder_average([max(-change, 0.0) for change in changes], period)
    return 100 * gain / (gain + loss) if gain + loss else 0.0


def true_range_average(highs: Sequence[float], lows: Sequence[float], closes: Sequence[float], period: int) -> float:
    """Wilder's average true range at the last bar, in the unit of the prices."""
    ranges = [
        max(high, before) - min(low, before) for high, low, before in zip(highs[1:], lows[1:], closes[:-1], strict=True)
    ]
    return wilder_average(ranges, period)
