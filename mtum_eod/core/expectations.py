"""What the strategy was published with, beside what was measured, and how sure a measurement can be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import cos, isnan, lgamma, log, log1p, nan, pi, sin, sqrt, tan

import numpy as np

from mtum_eod.core.backtest import BacktestResult
from mtum_eod.core.indicators import Floats
from mtum_eod.core.metrics import Metrics
from mtum_eod.core.money import Usd
from mtum_eod.core.snapshot import number

RESAMPLES = 1000
BLOCK_SESSIONS = 21
"""Length of the blocks daily returns are drawn in: about a month, so that runs of calm and storm stay together."""

CONFIDENCE = 0.90
SEED = 20130418
"""The same data give the same intervals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """A published figure, as a range; ratios as ratios."""

    name: str
    low: float
    high: float
    is_ratio: bool
    better_above: bool | None = None  # which side of the range is the good one; None where neither is


PUBLISHED = (
    Expectation(name="annual return", low=0.25, high=0.40, is_ratio=True, better_above=True),
    Expectation(name="win rate", low=0.60, high=0.70, is_ratio=True, better_above=True),
    Expectation(name="days a trade", low=15, high=30, is_ratio=False),
    Expectation(name="trades a year", low=5, high=10, is_ratio=False),
    Expectation(name="maximum drawdown", low=0.15, high=0.20, is_ratio=True, better_above=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One published figure beside the measured one, with the interval chance alone would explain."""

    name: str
    expected_low: float
    expected_high: float
    measured: float
    interval_low: float  # NaN where there is too little for an interval
    interval_high: float
    is_ratio: bool
    is_short: bool  # measured over less than a year, where what was published speaks of years
    better_above: bool | None = None  # as in the expectation

    @property
    def is_told(self) -> bool:
        """Whether the measured figure says anything: there is one, and of long enough a range."""
        return not (isnan(self.measured) or self.is_short)

    @property
    def holds(self) -> bool | None:
        """Whether the measured figure lies in the published range; None where that cannot be told."""
        if not self.is_told:
            return None
        return self.expected_low <= self.measured <= self.expected_high

    @property
    def is_better(self) -> bool:
        """Whether the measured figure lies outside the published range, on its good side."""
        if self.better_above is None or not self.is_told:
            return False
        return self.measured > self.expected_high if self.better_above else self.measured < self.expected_low

    @property
    def verdict(self) -> str:
        """The comparison in words."""
        if isnan(self.measured):
            return "nothing to measure"
        if self.is_better:
            return "better than published"
        return {True: "as published", False: "NOT as published", None: "too short to say"}[self.holds]

    @property
    def document(self) -> dict[str, str | float | bool | None]:
        """The same as JSON has it."""
        return {
            "name": self.name,
            "expected_low": self.expected_low,
            "expected_high": self.expected_high,
            "measured": number(self.measured),
            "interval_low": number(self.interval_low),
            "interval_high": number(self.interval_high),
            "is_ratio": self.is_ratio,
            "holds": self.holds,
            "verdict": self.verdict,
        }


def verdicts(result: BacktestResult, capital: Usd, found: Metrics) -> tuple[Verdict, ...]:
    """The published figures, in their order, beside those of one backtest; found: its metrics."""
    values = np.array([capital, *result.equity])
    measured = _measured(found)
    intervals = {
        "annual return": return_interval(values, found.years),
        "win rate": win_rate_interval(found.trades.wins, found.trades.trades),
        "days a trade": days_interval([trade.days for trade in result.trades]),
        "trades a year": trades_interval(found.trades.trades, found.years),
        "maximum drawdown": drawdown_interval(values),
    }
    return tuple(
        Verdict(
            name=expected.name,
            expected_low=expected.low,
            expected_high=expected.high,
            measured=measured[expected.name],
            interval_low=intervals[expected.name][0],
            interval_high=intervals[expected.name][1],
            is_ratio=expected.is_ratio,
            is_short=found.is_short,
            better_above=expected.better_above,
        )
        for expected in PUBLISHED
    )


def _measured(found: Metrics) -> dict[str, float]:
    return {
        "annual return": found.curve.cagr,
        "win rate": found.trades.win_rate,
        "days a trade": found.trades.average_days,
        "trades a year": found.trades.trades_a_year,
        "maximum drawdown": found.curve.max_drawdown,
    }


def return_interval(values: Floats, years: float) -> tuple[float, float]:
    """The middle 90 % of annual returns that resampled daily returns lead to. NaN for less than a block."""
    paths = _resampled(values)
    if paths is None or years <= 0:
        return nan, nan
    return _middle(np.prod(1 + paths, axis=1) ** (1 / years) - 1)


def drawdown_interval(values: Floats) -> tuple[float, float]:
    """The middle 90 % of maximum drawdowns of resampled paths. NaN for less than a block."""
    paths = _resampled(values)
    if paths is None:
        return nan, nan
    curves = np.cumprod(1 + paths, axis=1)
    highest = np.maximum(np.maximum.accumulate(curves, axis=1), 1.0)
    return _middle((1 - curves / highest).max(axis=1))


def win_rate_interval(wins: int, trades: int) -> tuple[float, float]:
    """The win rates that so many wins among so many trades leave possible with 90 % confidence. NaN for no trade.

    Exact, so one trade won says hardly anything: resampled trades would all be won, and look like certainty.
    Source: Clopper and Pearson, The Use of Confidence or Fiducial Limits (1934).
    """
    if not trades:
        return nan, nan
    counts = np.arange(trades + 1)
    ways = lgamma(trades + 1) - np.array([lgamma(k + 1) + lgamma(trades - k + 1) for k in counts.tolist()])

    def at_most(count: int, rate: float) -> float:
        """The chance of at most so many wins where each trade is won with chance `rate`."""
        chances = np.exp(ways + counts * log(rate) + (trades - counts) * log1p(-rate))
        return float(chances[: count + 1].sum())

    tail = (1 - CONFIDENCE) / 2
    low = 0.0 if wins == 0 else _falls_to(lambda rate: at_most(wins - 1, rate), 1 - tail)
    high = 1.0 if wins == trades else _falls_to(lambda rate: at_most(wins, rate), tail)
    return low, high


def days_interval(days: Sequence[float]) -> tuple[float, float]:
    """The mean holding times that these leave possible with 90 % confidence, never below 0. NaN for fewer than two.

    Taken as drawn independently; of few or skewed ones the confidence is roughly that.
    Source: Student, The Probable Error of a Mean (1908).
    """
    if len(days) < 2:
        return nan, nan
    spread = _student(len(days) - 1) * float(np.std(days, ddof=1)) / sqrt(len(days))
    return max(0.0, float(np.mean(days)) - spread), float(np.mean(days)) + spread


def _student(freedom: int) -> float:
    """How many standard errors to both sides of a mean hold 90 %, at so many degrees of freedom.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions (1964), 26.7.3 and 26.7.4.
    """
    is_odd = freedom % 2
    halves = np.arange((freedom - is_odd) // 2)
    ratios = np.where(halves > 0, (2 * halves - 1 + is_odd) / np.maximum(2 * halves + is_odd, 1), 1.0)
    weights = np.cumprod(ratios)

    def outside(share: float) -> float:
        """The chance of more than tan(angle) times the root of `freedom`; share: the angle's, of a right one."""
        angle = share * pi / 2
        inside = sin(angle) * float((weights * cos(angle) ** (2 * halves + is_odd)).sum())
        return 1 - ((angle + inside) * 2 / pi if is_odd else inside)

    return sqrt(freedom) * tan(_falls_to(outside, 1 - CONFIDENCE) * pi / 2)


def trades_interval(trades: int, years: float) -> tuple[float, float]:
    """The trades a year that so many in so many years leave possible with 90 % confidence. NaN for no time.

    Exact, for trades that begin independently of each other at a constant rate.
    Source: Garwood, Fiducial Limits for the Poisson Distribution (1936).
    """
    if years <= 0:
        return nan, nan
    counts = np.arange(trades + 1)
    orders = np.array([lgamma(count + 1) for count in counts.tolist()])

    def at_most(count: int, mean: float) -> float:
        """The chance of at most so many trades where `mean` are to be expected."""
        return float(np.exp(counts * log(mean) - mean - orders)[: count + 1].sum())

    tail, most = (1 - CONFIDENCE) / 2, 2.0 * trades + 10
    low = 0.0 if trades == 0 else _falls_to(lambda mean: at_most(trades - 1, mean), 1 - tail, most)
    return low / years, _falls_to(lambda mean: at_most(trades, mean), tail, most) / years


def _falls_to(chance: Callable[[float], float], level: float, highest: float = 1.0) -> float:
    """The number up to `highest` at which a chance that falls with it has come down to `level`, by bisection."""
    low, high = 0.0, highest
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if chance(middle) > level else (low, middle)
    return (low + high) / 2


def _resampled(values: Floats) -> Floats | None:
    """Daily returns drawn again in blocks, RESAMPLES rows as long as the history (circular block bootstrap).

    Source: Politis and Romano, A Circular Block-Resampling Procedure for Stationary Data (1992).
    """
    returns = values[1:] / values[:-1] - 1
    count = len(returns)
    if count < BLOCK_SESSIONS:
        return None
    blocks = -(-count // BLOCK_SESSIONS)
    starts = np.random.default_rng(SEED).integers(0, count, size=(RESAMPLES, blocks))
    places = (starts[:, :, None] + np.arange(BLOCK_SESSIONS)).reshape(RESAMPLES, -1)[:, :count] % count
    return np.asarray(returns[places], dtype=np.float64)


def _middle(drawn: Floats) -> tuple[float, float]:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return float(low), float(high)
