"""Indicators by their definitions agree with TA-Lib's, and with numbers worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtum_eod.core import indicators, second_opinion

PRICES = st.lists(st.floats(10, 500), min_size=60, max_size=120)


def test_wilders_average_by_hand():
    """Mean of 1, 2, 3 is 2; then (2 x 2 + 6) / 3 = 10/3; then (2 x 10/3 + 4) / 3 = 32/9."""
    assert pytest.approx(32 / 9) == second_opinion.wilder_average([1, 2, 3, 6, 4], 3)


def test_relative_strength_by_hand():
    """Changes +2, -1, +1 over 3: gains average 1, losses 1/3, so RSI is 100 x 1 / (4/3) = 75."""
    assert pytest.approx(75.0) == second_opinion.relative_strength([10, 12, 11, 12], 3)


def test_true_range_spans_a_gap():
    """The second bar opens above the first: its range counts from the close before, 105 - 100 = 5."""
    assert 5.0 == second_opinion.true_range_average([101, 105], [99, 103], [100, 104], 1)


@given(closes=PRICES)
def test_averages_and_strength_are_talibs(closes: list[float]):
    values = np.array(closes)

    assert pytest.approx([indicators.sma(values, 50)[-1], indicators.rsi(values, 14)[-1]], rel=1e-9, abs=1e-9) == [
        second_opinion.mean_of_last(closes, 50),
        second_opinion.relative_strength(closes, 14),
    ]


@given(closes=PRICES, spread=st.floats(0.1, 5))
def test_true_ranges_are_talibs(closes: list[float], spread: float):
    highs, lows = [close + spread for close in closes], [close - spread / 2 for close in closes]
    theirs = indicators.atr(np.array(highs), np.array(lows), np.array(closes), 14)[-1]

    assert pytest.approx(theirs, rel=1e-9) == second_opinion.true_range_average(highs, lows, closes, 14)
