"""Indicators by TA-Lib, on float64 arrays of one row a session, ascending.

Wilder's smoothing never quite forgets its start, so callers pass a fixed window (`history_bars`) or a whole history:
from a window of 25 times the period on, the two agree within 1e-9 relative.
"""

from __future__ import annotations

import numpy as np
import talib
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def sma(values: Floats, period: int) -> Floats:
    """Simple moving average in the unit of `values`; the first `period - 1` rows are NaN.

    Source: TA-Lib SMA.
    """
    return np.asarray(talib.SMA(values, timeperiod=period), dtype=np.float64)


def rsi(close: Floats, period: int) -> Floats:
    """Wilder's relative strength index, 0 to 100; the first `period` rows are NaN.

    Source: Wilder, New Concepts in Technical Trading Systems (1978); TA-Lib RSI.
    """
    return np.asarray(talib.RSI(close, timeperiod=period), dtype=np.float64)


def atr(high: Floats, low: Floats, close: Floats, period: int) -> Floats:
    """Wilder's average true range, USD a share; the first `period` rows are NaN.

    Source: Wilder, New Concepts in Technical Trading Systems (1978); TA-Lib ATR.
    """
    return np.asarray(talib.ATR(high, low, close, timeperiod=period), dtype=np.float64)
