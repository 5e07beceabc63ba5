"""What deciding 20 minutes before the close may change: a history decided again on closes as they might have stood.

A live decision is made before the close, a backtest's on the final bar. Daily bars do not tell where price and VIX
stood in between, so many histories are drawn that are plausible. What is assumed, and what it leaves out:

- The price at the decision is the close x (1 + e), e normal around 0 with the standard deviation of 20 of a session's
  390 minutes: the volatility of the 20 sessions before x sqrt(20 / 390). Daily volatility contains the night, which
  makes e too large; the last minutes move more than the average ones, which makes it too small.
- That price was seen during the session, so it is cut to the session's low and high.
- VIX moves with the price by one sensitivity, estimated from all of the history that was read, and by nothing else.
- Volume is compared as if the part of the day seen so far said what the whole day says.
- Draws are independent: no trend into the close, nothing that the night before would tell.

Orders are sized on the price seen and filled at the price they are filled at in the plain backtest. Where that is
dearer by more than the buffer, they buy as many shares as there is money for; a broker might refuse the whole order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import nan, sqrt
from typing import Any

import numpy as np
import pandas as pd

from mtum_eod.core.backtest import BacktestResult, Tape
from mtum_eod.core.indicators import Floats, atr
from mtum_eod.core.metrics import cagr, years_between
from mtum_eod.core.money import Usd
from mtum_eod.core.parameters import StrategyParameters
from mtum_eod.core.snapshot import number

MINUTES_EARLY = 20
SESSION_MINUTES = 390
VOLATILITY_SESSIONS = 20
SEED = 20130418
"""The same data give the same band."""

MIDDLE = 0.90


class EarlyView:
    """A history as its decisions might have seen it before the close. Built once, drawn from many times."""

    def __init__(self, tape: Tape, columns: Mapping[str, Floats], p: StrategyParameters, start: int) -> None:
        """Measure what every draw needs.

        columns: the checked history behind `tape`: close, high, low, vix, a value a session; NaN is not known.
        start: the first session that is decided; those before it only warm up.
        """
        close = columns["close"]
        self.tape = tape
        self.p = p
        self.close, self.ma, self.rsi, self.vix = (tape.close, tape.ma_50, tape.rsi, tape.vix)
        # A bar whose close lies outside its own range is a fault that is told elsewhere; unmoved it stays as it is.
        self.low, self.high = np.fmin(columns["low"], close), np.fmax(columns["high"], close)
        self.before = np.concatenate(([nan], close[:-1]))
        self.gain, self.loss = wilder_means(close, p, start)
        self.deviation = early_deviation(close)
        self.deviation[:start] = 0.0
        self.sensitivity = vix_sensitivity(close, columns["vix"])

    def seen(self, e: Floats) -> Tape:
        """The history with every session's close, VIX, moving average and RSI as they stood if prices were off by `e`.

        e: one relative difference to the close a session, 0.01 is 1 % above it; cut to the session's range.
        The ATR stays: a session's true range asks for its high, its low and the close before.
        """
        close = np.clip(self.close * (1 + e), self.low, self.high)
        ratio = np.where(np.isnan(close), 1.0, close / self.close)
        return replace(
            self.tape,
            close=close,
            ma_50=self.ma + (close - self.close) / self.p.ma_period,
            # As a difference, an unmoved close leaves the measured value, to its last digit, and NaN where it is NaN.
            rsi=self.rsi + (self.rsi_at(close) - self.rsi_at(self.close)),
            vix=self.vix * ratio**self.sensitivity,
        )

    def rsi_at(self, close: Floats) -> Floats:
        """Wilder's RSI of each session, had it closed at `close`; 0 where price never moved, as TA-Lib has it.

        One step of Wilder's mean from the session before: (period - 1) / period of the old mean, and a `period`-th of
        the new gain or loss. The period cancels in RSI = 100 x gain / (gain + loss).
        """
        change = close - self.before
        gain = (self.p.rsi_period - 1) * self.gain + np.maximum(change, 0.0)
        loss = (self.p.rsi_period - 1) * self.loss + np.maximum(-change, 0.0)
        total = gain + loss
        return np.divide(100 * gain, total, out=np.where(np.isnan(total), nan, 0.0), where=total > 0)


def wilder_means(close: Floats, p: StrategyParameters, start: int) -> tuple[Floats, Floats]:
    """Wilder's mean gain and mean loss behind the RSI of the session before each one, USD; NaN before `start`.

    RSI tells their ratio only. TA-Lib's ATR is the same mean, begun the same way, of true ranges; on bars from 0 to
    the gain that closed at 0 the true range is the gain. Taken over each session's window of `history_bars`, as the
    live job does, so that a hole in the history spoils the windows it stands in and no more.
    """
    change = np.diff(close, prepend=close[0])  # TA-Lib passes over the first bar, and over NaN before it
    gains, losses, zeros = np.maximum(change, 0.0), np.maximum(-change, 0.0), np.zeros(p.history_bars)
    means = np.full((2, len(close)), nan)
    for i in range(start, len(close)):
        window = slice(max(0, i - p.history_bars + 1), i)
        for mean, moves in zip(means, (gains, losses), strict=True):
            moved = moves[window]
            if len(moved) > p.rsi_period:
                mean[i] = atr(moved, zeros[: len(moved)], zeros[: len(moved)], p.rsi_period)[-1]
    return means[0], means[1]


def early_deviation(close: Floats) -> Floats:
    """The standard deviation of the last 20 minutes' return, a ratio a session, from the 20 sessions before it.

    Source: variance grows with time (random walk), ddof 1 on daily log returns; 0 where fewer than two are known.
    """
    returns = pd.Series(np.log(close)).diff()
    daily = returns.rolling(VOLATILITY_SESSIONS, min_periods=2).std().shift(1)
    return daily.fillna(0.0).to_numpy() * sqrt(MINUTES_EARLY / SESSION_MINUTES)


def vix_sensitivity(close: Floats, vix: Floats) -> float:
    """By how many percent VIX moves when the price moves by one: about -5 for an index of US shares.

    Least squares of daily log changes, with intercept; 0 where nothing moves.
    """
    moves, answers = np.diff(np.log(close)), np.diff(np.log(vix))
    known = np.isfinite(moves) & np.isfinite(answers)
    moves, answers = moves[known], answers[known]
    spread = float(np.sum((moves - moves.mean()) ** 2)) if len(moves) else 0.0
    return float(np.sum((moves - moves.mean()) * answers)) / spread if spread > 0 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """The middle 90 % of what the trials came to, and the plain backtest's own figure."""

    low: float
    median: float
    high: float
    at_close: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionNoise:
    """How much a backtest leans on deciding at the close itself."""

    trials: int
    vix_sensitivity: float
    total_return: Band
    cagr: Band
    trades: Band
    changed_sessions: Band  # sessions that bought, sold or did nothing where the plain backtest did otherwise
    minutes_early: int = MINUTES_EARLY

    @property
    def document(self) -> dict[str, Any]:
        """The same as one document: `decision_noise` of `backtest --json`."""
        bands = {name: getattr(self, name) for name in ("total_return", "cagr", "trades", "changed_sessions")}
        return {
            "trials": self.trials,
            "seed": SEED,
            "minutes_early": self.minutes_early,
            "vix_sensitivity": self.vix_sensitivity,
        } | {
            name: {part: number(getattr(band, part)) for part in Band.__dataclass_fields__}
            for name, band in bands.items()
        }


def decision_noise(
    plain: BacktestResult, trials: Iterable[BacktestResult], capital: Usd, vix_sensitivity: float
) -> DecisionNoise:
    """What the trials, one or more, came to beside the plain backtest of the same sessions."""
    years = years_between(plain.sessions[0], plain.sessions[-1])
    done = _actions(plain)

    def figures(result: BacktestResult) -> tuple[float, float, float, float]:
        end = result.equity[-1]
        changed = float(np.count_nonzero(_actions(result) != done))
        return end / capital - 1, cagr(capital, end, years), float(len(result.trades)), changed

    drawn = np.array([figures(result) for result in trials])
    tail = (1 - MIDDLE) / 2
    bands = [
        Band(low=float(low), median=float(median), high=float(high), at_close=own)
        for (low, median, high), own in zip(
            np.quantile(drawn, [tail, 0.5, 1 - tail], axis=0).T, figures(plain), strict=True
        )
    ]
    return DecisionNoise(
        trials=len(drawn),
        vix_sensitivity=vix_sensitivity,
        total_return=bands[0],
        cagr=bands[1],
        trades=bands[2],
        changed_sessions=bands[3],
    )


def _actions(result: BacktestResult) -> np.ndarray[Any, np.dtype[np.int64]]:
    """1 where shares were bought, -1 where they were sold, 0 elsewhere."""
    return np.sign(np.diff(np.array([0, *result.shares], dtype=np.int64)))
