"""The indicators against a second method in plain Python, a published table, and what holds for any bars."""

import random
from itertools import pairwise
from math import nan

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtum_eod.core.indicators import atr, rsi, sma

# -- the second method ------------------------------------------------------------------------------------------------


def plain_sma(values: list[float], period: int) -> list[float]:
    """The mean of the last `period` values, each mean on its own."""
    return [nan if row + 1 < period else sum(values[row + 1 - period : row + 1]) / period for row in range(len(values))]


def wilder(values: list[float], period: int) -> list[float]:
    """Wilder's smoothing: the mean of the first `period`, then 1/period of each new value."""
    smoothed = sum(values[:period]) / period
    out = [smoothed]
    for value in values[period:]:
        smoothed = (smoothed * (period - 1) + value) / period
        out.append(smoothed)
    return out


def plain_rsi(close: list[float], period: int) -> list[float]:
    """100 - 100 / (1 + average gain / average loss); Wilder (1978), section VI."""
    moves = [after - before for before, after in pairwise(close)]
    gains = wilder([max(move, 0.0) for move in moves], period)
    losses = wilder([max(-move, 0.0) for move in moves], period)
    return [nan] * period + [100 * gain / (gain + loss) for gain, loss in zip(gains, losses, strict=True)]


def plain_atr(high: list[float], low: list[float], close: list[float], period: int) -> list[float]:
    """The smoothed greatest of high - low, high - last close and last close - low; Wilder (1978), section III."""
    ranges = [max(high[row], close[row - 1]) - min(low[row], close[row - 1]) for row in range(1, len(close))]
    return [nan] * period + wilder(ranges, period)


def walk(length: int, seed: int = 7) -> pd.DataFrame:
    """Bars of a random walk near 200 USD."""
    chance = random.Random(seed)  # noqa: S311  # no secret
    rows, close = [], 200.0
    for _ in range(length):
        opened = close * (1 + chance.gauss(0, 0.004))
        close = opened * (1 + chance.gauss(0.0003, 0.01))
        high = max(opened, close) * (1 + abs(chance.gauss(0, 0.003)))
        low = min(opened, close) * (1 - abs(chance.gauss(0, 0.003)))
        rows.append((high, low, close, float(chance.randint(200_000, 2_000_000))))
    return pd.DataFrame(rows, columns=["high", "low", "close", "volume"])


def lists(bars: pd.DataFrame) -> tuple[list[float], list[float], list[float], list[float]]:
    high, low, close, volume = (bars[name].tolist() for name in ("high", "low", "close", "volume"))
    return high, low, close, volume


def arrays(bars: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    high, low, close, volume = (bars[name].to_numpy(dtype=np.float64) for name in ("high", "low", "close", "volume"))
    return high, low, close, volume


@pytest.mark.parametrize("period", [2, 5, 14, 30])
def test_rsi_and_atr_are_wilders_recursions(period):
    """500 bars, warm-up included, each value."""
    bars = walk(500)
    high, low, close, _ = lists(bars)
    h, lo, c, _ = arrays(bars)

    np.testing.assert_allclose(rsi(c, period), plain_rsi(close, period), rtol=1e-10)
    np.testing.assert_allclose(atr(h, lo, c, period), plain_atr(high, low, close, period), rtol=1e-10)


@pytest.mark.parametrize("period", [2, 20, 50])
def test_sma_is_the_mean_of_the_last_values_the_row_itself_included(period):
    """Closes and volumes."""
    bars = walk(500)
    *_, close, volume = lists(bars)

    np.testing.assert_allclose(sma(np.array(close), period), plain_sma(close, period), rtol=1e-12)
    np.testing.assert_allclose(sma(np.array(volume), period), plain_sma(volume, period), rtol=1e-12)


def test_a_small_example_on_paper():
    """Closes 10, 11, 10, 12 with a period of 2.

    SMA: 10.5, 10.5, 11. RSI: gains 1, 0, 2 and losses 0, 1, 0 give averages 0.5 and 0.5: 50; then 1.25 and 0.25: 83.3.
    ATR with highs and lows 0.5 around: ranges 1.5, 1.5, 2.5; 1.5, then (1.5 + 2.5) / 2 = 2.
    """
    close = np.array([10.0, 11.0, 10.0, 12.0])

    np.testing.assert_allclose(sma(close, 2), [nan, 10.5, 10.5, 11.0])
    np.testing.assert_allclose(rsi(close, 2), [nan, nan, 50.0, 250 / 3])
    np.testing.assert_allclose(atr(close + 0.5, close - 0.5, close, 2), [nan, nan, 1.5, 2.0])


def test_rsi_is_the_one_of_the_charting_schools():
    """The example that StockCharts' ChartSchool prints for QQQQ, 2010, to two digits."""
    # fmt: off
    close = [44.3389, 44.0902, 44.1497, 43.6124, 44.3278, 44.8264, 45.0955, 45.4245, 45.8433, 46.0826, 45.8931,
             46.0328, 45.6140, 46.2820, 46.2820, 46.0028, 46.0328, 46.4116, 46.2222, 45.6439, 46.2122, 46.2521,
             45.7137, 46.4515, 45.7835, 45.3548, 44.0288, 44.1783, 44.2181, 44.5672, 43.4205, 42.6628, 43.1314]
    printed = [70.53, 66.32, 66.55, 69.41, 66.36, 57.97, 62.93, 63.26, 56.06, 62.38, 54.71, 50.42, 39.99, 41.46, 41.87,
               45.46, 37.30, 33.08, 37.77]
    # fmt: on

    np.testing.assert_allclose(rsi(np.array(close), 14)[14:], printed, atol=0.006)


# -- the window -------------------------------------------------------------------------------------------------------


def latest(bars: pd.DataFrame) -> list[float]:
    """The last session's MA50, RSI14, ATR14 and mean volume."""
    high, low, close, volume = arrays(bars)
    values = (sma(close, 50), rsi(close, 14), atr(high, low, close, 14), sma(volume, 20))
    return [float(series[-1]) for series in values]


@pytest.mark.parametrize("end", [400, 401, 900, 1777, 3000])
def test_a_window_of_400_sessions_agrees_with_the_whole_history(end):
    """Wilder's smoothing at period 14 has forgotten its start to within 1e-9 relative."""
    bars = walk(3000)

    np.testing.assert_allclose(latest(bars[end - 400 : end]), latest(bars[:end]), rtol=1e-9)


def test_a_window_of_real_sessions_agrees_with_their_whole_history(real_data):
    """MTUM as it traded, every 50th session."""
    bars = pd.read_csv(real_data / "MTUM.csv").rename(columns=str.lower)
    ends = range(400, len(bars), 50)

    assert len(ends) > 10
    for end in ends:
        np.testing.assert_allclose(latest(bars[end - 400 : end]), latest(bars[:end]), rtol=1e-9)


def test_a_window_of_25_periods_is_enough_for_a_longer_one_too():
    """History grows with the longest Wilder period: 25 x 20."""
    _, _, close, _ = arrays(walk(3000))
    high, low, _, _ = arrays(walk(3000))

    np.testing.assert_allclose(rsi(close[-500:], 20)[-1], rsi(close, 20)[-1], rtol=1e-9)
    np.testing.assert_allclose(
        atr(high[-500:], low[-500:], close[-500:], 20)[-1], atr(high, low, close, 20)[-1], rtol=1e-9
    )


@settings(max_examples=50)
@given(st.integers(0, 10_000), st.integers(60, 299))
def test_cutting_off_the_future_changes_no_past_value(seed, end):
    """No indicator looks ahead: to the last bit."""
    high, low, close, volume = arrays(walk(300, seed))

    np.testing.assert_array_equal(sma(close, 50)[:end], sma(close[:end], 50))
    np.testing.assert_array_equal(rsi(close, 14)[:end], rsi(close[:end], 14))
    np.testing.assert_array_equal(atr(high, low, close, 14)[:end], atr(high[:end], low[:end], close[:end], 14))
    np.testing.assert_array_equal(sma(volume, 20)[:end], sma(volume[:end], 20))


@given(st.integers(0, 10_000))
def test_rsi_lies_between_0_and_100_and_atr_is_positive(seed):
    """Whatever the walk."""
    high, low, close, _ = arrays(walk(100, seed))
    strength, spread = rsi(close, 14)[14:], atr(high, low, close, 14)[14:]

    assert ((strength >= 0) & (strength <= 100)).all()
    assert (spread > 0).all()


def test_warm_up_rows_are_not_a_number():
    """SMA has its first value on row `period`, RSI and ATR one row later."""
    high, low, close, _ = arrays(walk(60))
    first = [
        int(np.flatnonzero(~np.isnan(series))[0])
        for series in (sma(close, 50), rsi(close, 14), atr(high, low, close, 14))
    ]

    assert [49, 14, 14] == first
