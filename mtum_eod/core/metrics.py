"""What a run of trades and an equity curve amount to. Each figure with its definition; ratios, not percentages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from math import nan, sqrt

import numpy as np

from mtum_eod.core.backtest import BacktestResult, Trade
from mtum_eod.core.indicators import Floats
from mtum_eod.core.money import Usd

SESSIONS_A_YEAR = 252
DAYS_A_YEAR = 365.25
ALMOST_A_YEAR = 0.95
"""A year of sessions seldom has all 365.25 days."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveMetrics:
    """What an equity curve amounts to; the strategy's and the benchmark's alike."""

    total_return: float
    cagr: float
    volatility: float  # a year
    sharpe: float
    max_drawdown: float  # positive: 0.25 is a fall of 25 % from the highest value before


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeMetrics:
    """What closed round trips amount to; NaN where there is none to average."""

    trades: int
    wins: int
    losses: int
    win_rate: float
    trades_a_year: float
    total_pnl: Usd  # net
    average_pnl: Usd
    average_win: Usd
    average_loss: Usd  # negative
    average_days: float  # calendar
    average_sessions: float
    gross_pnl: Usd
    costs: Usd


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """A backtest in figures."""

    years: float  # that they were measured over
    curve: CurveMetrics
    trades: TradeMetrics
    exposure: float  # share of sessions after which something was held
    daily_losses: int  # sessions that lost more than the daily limit

    @property
    def is_short(self) -> bool:
        """Whether this is less than a year: then a rate a year is the range drawn out, not what a year brings."""
        return self.years < ALMOST_A_YEAR


def metrics(result: BacktestResult, capital: Usd, since: date | None = None) -> Metrics:
    """The figures of one backtest that began flat with `capital`, or of a stretch of a book.

    since: the session at whose close a book was worth `capital`; None where there was none before the first decided.
    """
    years = years_between(since or result.sessions[0], result.sessions[-1])
    return Metrics(
        years=years,
        curve=curve_metrics(np.array([capital, *result.equity]), years),
        trades=trade_metrics(result.trades, years),
        exposure=float(np.count_nonzero(result.shares)) / len(result.shares),
        daily_losses=len(result.daily_losses),
    )


def years_between(first: date, last: date) -> float:
    """Calendar time from the first decided session to the last, in years of 365.25 days."""
    return (last - first).days / DAYS_A_YEAR


def curve_metrics(values: Floats, years: float) -> CurveMetrics:
    """The figures of an equity curve: what was put in, then the value at each session's close, USD."""
    returns = values[1:] / values[:-1] - 1
    return CurveMetrics(
        total_return=float(values[-1] / values[0] - 1),
        cagr=cagr(float(values[0]), float(values[-1]), years),
        volatility=volatility(returns),
        sharpe=sharpe(returns),
        max_drawdown=max_drawdown(values),
    )


def cagr(start: Usd, end: Usd, years: float) -> float:
    """Compound annual growth rate: the constant yearly return that leads from `start` to `end`.

    NaN for no time or nothing left. Source: CFA Institute, Global Investment Performance Standards (geometric mean).
    """
    return (end / start) ** (1 / years) - 1 if years > 0 and end > 0 else nan


def volatility(returns: Floats) -> float:
    """Standard deviation of daily simple returns (ddof 1) times the root of 252; NaN for fewer than two."""
    return float(np.std(returns, ddof=1)) * sqrt(SESSIONS_A_YEAR) if len(returns) > 1 else nan


def sharpe(returns: Floats) -> float:
    """Mean over standard deviation (ddof 1) of daily simple returns, times the root of 252; risk-free rate 0.

    NaN for fewer than two returns or none that differ. Source: Sharpe, The Sharpe Ratio (1994).
    """
    if len(returns) < 2:
        return nan
    deviation = float(np.std(returns, ddof=1))
    return float(np.mean(returns)) / deviation * sqrt(SESSIONS_A_YEAR) if deviation > 0 else nan


def drawdowns(values: Floats) -> Floats:
    """How far each value stands below the highest one up to it; 0 or positive, as long as `values`."""
    return 1 - values / np.maximum.accumulate(values)


def max_drawdown(values: Floats) -> float:
    """The deepest fall from a highest value so far, on daily closes; positive."""
    return float(drawdowns(values).max())


def trade_metrics(trades: Sequence[Trade], years: float) -> TradeMetrics:
    """The figures of closed round trips; a win made more than its costs."""
    net = [trade.net_pnl for trade in trades]
    wins, losses = [pnl for pnl in net if pnl > 0], [pnl for pnl in net if pnl <= 0]
    return TradeMetrics(
        trades=len(trades),
        wins=len(wins),
        losses=len(losses),
        win_rate=len(wins) / len(trades) if trades else nan,
        trades_a_year=len(trades) / years if years > 0 else nan,
        total_pnl=sum(net),
        average_pnl=_mean(net),
        average_win=_mean(wins),
        average_loss=_mean(losses),
        average_days=_mean([trade.days for trade in trades]),
        average_sessions=_mean([trade.sessions for trade in trades]),
        gross_pnl=sum(trade.gross_pnl for trade in trades),
        costs=sum(trade.costs for trade in trades),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else nan
