"""Each figure of a backtest by hand, and what it is where there is nothing to measure."""

from datetime import date, timedelta
from math import isnan, nan

import ffn
import numpy as np
import pandas as pd
import pytest

from mtum_eod.core.backtest import BacktestResult, Trade
from mtum_eod.core.metrics import (
    CurveMetrics,
    Metrics,
    TradeMetrics,
    cagr,
    curve_metrics,
    drawdowns,
    metrics,
    sharpe,
    trade_metrics,
    volatility,
    years_between,
)
from mtum_eod.core.strategy import ExitReason

ENTRY = date(2024, 1, 2)


def trade(gross: float, costs: float, days: int, sessions: int) -> Trade:
    return Trade(
        entry_session=ENTRY,
        entry_price=100.0,
        shares=10,
        entry_atr=2.5,
        exit_session=ENTRY + timedelta(days=days),
        exit_price=100.0 + gross / 10,
        exit_reasons=(ExitReason.TREND,),
        gross_pnl=gross,
        costs=costs,
        days=days,
        sessions=sessions,
    )


# Net +100, -40, and exactly nothing.
TRADES = (trade(110.0, 10.0, 20, 14), trade(-30.0, 10.0, 6, 4), trade(8.0, 8.0, 1, 1))

# Returns +10 %, -10 %, +10 %: mean 1/30, squared deviations 1/225, 4/225, 1/225, so a variance of 3/225 = 1/75.
VALUES = np.array([100.0, 110.0, 99.0, 108.9])


def close_to(amount: float) -> object:
    return pytest.approx(amount, rel=1e-9)


def test_a_curve_by_hand():
    """Two years; the deepest fall is from 110 to 99; volatility sqrt(252 / 75), Sharpe ratio sqrt(75 x 252) / 30."""
    assert CurveMetrics(
        total_return=close_to(0.089),
        cagr=close_to(1.089**0.5 - 1),
        volatility=close_to(1.833030277982336),
        sharpe=close_to(4.58257569495584),
        max_drawdown=close_to(0.1),
    ) == curve_metrics(VALUES, 2.0)


@pytest.mark.filterwarnings("ignore:A future version of pandas")  # of ffn's own calls
@pytest.mark.parametrize("seed", range(5))
def test_a_curve_has_the_figures_of_a_public_library(seed: int):
    """ffn, of a random walk of 700 business days: the same definitions, 365.25 days, 252 sessions and ddof 1."""
    days = pd.bdate_range("2020-01-02", periods=700)
    values = pd.Series(5000 * np.cumprod(1 + np.random.default_rng(seed).normal(0.0003, 0.012, 700)), index=days)
    theirs = ffn.calc_stats(values)

    assert CurveMetrics(
        total_return=close_to(theirs.total_return),
        cagr=close_to(theirs.cagr),
        volatility=close_to(theirs.daily_vol),
        sharpe=close_to(theirs.daily_sharpe),
        max_drawdown=close_to(-theirs.max_drawdown),
    ) == curve_metrics(values.to_numpy(), years_between(days[0].date(), days[-1].date()))


@pytest.mark.parametrize(
    ("start", "end", "years", "expected"),
    [
        (100.0, 121.0, 2.0, 0.10),
        (100.0, 110.0, 1.0, 0.10),
        (100.0, 110.0, 0.5, 0.21),
        (5000.0, 5000.0, 7.3, 0.0),
        (100.0, 25.0, 2.0, -0.5),
        (100.0, 110.0, 0.0, nan),
        (100.0, 0.5, 1.0, -0.995),
        (100.0, 0.0, 1.0, nan),
        (100.0, -5.0, 1.0, nan),
    ],
)
def test_annual_growth_compounds(start, end, years, expected):
    """121 after two years is 10 % a year; no time, or nothing left, has no rate."""
    assert pytest.approx(expected, abs=1e-12, nan_ok=True) == cagr(start, end, years)


def test_years_are_of_365_and_a_quarter_days():
    """1,461 days are four of them."""
    assert 4.0 == years_between(date(2020, 1, 1), date(2024, 1, 1))


def test_drawdown_is_from_the_highest_value_so_far():
    """A new high resets it; what was put in counts as the first high."""
    fallen = drawdowns(np.array([100.0, 90.0, 120.0, 60.0, 90.0, 120.0]))

    assert [0.0, 0.1, 0.0, 0.5, 0.25, 0.0] == pytest.approx(fallen.tolist())


@pytest.mark.parametrize("returns", [[], [0.01]])
def test_fewer_than_two_returns_have_no_spread(returns):
    assert (True, True) == (isnan(volatility(np.array(returns))), isnan(sharpe(np.array(returns))))


def test_two_returns_have_one():
    """+1 % and +3 %: mean 2 %, deviation sqrt(2) %; times sqrt(252)."""
    assert (close_to(0.01 * 504**0.5), close_to(504**0.5)) == (
        volatility(np.array([0.01, 0.03])),
        sharpe(np.array([0.01, 0.03])),
    )


def test_returns_that_never_differ_have_no_sharpe_ratio():
    """Money that lies still."""
    still = np.zeros(10)

    assert (0.0, True) == (volatility(still), isnan(sharpe(still)))


def test_trades_by_hand():
    """+100, -40 and 0.00 over a year and a half: a trade that earned nothing is no win."""
    assert TradeMetrics(
        trades=3,
        wins=1,
        losses=2,
        win_rate=close_to(1 / 3),
        trades_a_year=2.0,
        total_pnl=60.0,
        average_pnl=20.0,
        average_win=100.0,
        average_loss=-20.0,
        average_days=9.0,
        average_sessions=close_to(19 / 3),
        gross_pnl=88.0,
        costs=28.0,
    ) == trade_metrics(TRADES, 1.5)


def test_a_win_is_anything_above_nothing():
    """50 cents up, 50 cents down, in half a year."""
    found = trade_metrics((trade(0.5, 0.0, 1, 1), trade(0.0, 0.5, 1, 1)), 0.5)

    assert (1, 1, 0.5, -0.5, 4.0) == (
        found.wins,
        found.losses,
        found.average_win,
        found.average_loss,
        found.trades_a_year,
    )


def test_without_trades_there_is_nothing_to_average():
    """Counts and sums are zero, averages unknown; in no time there is no rate."""
    none = trade_metrics((), 0.0)
    averages = (
        none.win_rate,
        none.trades_a_year,
        none.average_pnl,
        none.average_win,
        none.average_loss,
        none.average_days,
        none.average_sessions,
    )

    assert (0, 0, 0, 0, 0, 0) == (none.trades, none.wins, none.losses, none.total_pnl, none.gross_pnl, none.costs)
    assert [True] * 7 == [isnan(average) for average in averages]


def result(equity: list[float], shares: list[int], trades: tuple[Trade, ...] = ()) -> BacktestResult:
    """A backtest a year apart from its first session to its last."""
    sessions = [ENTRY + timedelta(days=step) for step in (0, 100, 200, 366)[: len(equity)]]
    return BacktestResult(
        sessions=sessions,
        equity=equity,
        shares=shares,
        trades=trades,
        open_position=None,
        blocked=(),
        daily_losses=(sessions[1],),
    )


def test_a_backtest_in_figures():
    """The curve begins with the capital; something was held after three of four sessions; 366 days."""
    found = metrics(result([110.0, 99.0, 108.9, 108.9], [5, 5, 7, 0], TRADES), 100.0)
    years = 366 / 365.25

    assert (
        Metrics(
            years=years,
            curve=curve_metrics(np.array([100.0, 110.0, 99.0, 108.9, 108.9]), years),
            trades=trade_metrics(TRADES, years),
            exposure=0.75,
            daily_losses=1,
        )
        == found
    )
    assert (close_to(0.1), close_to(1.089 ** (1 / years) - 1)) == (found.curve.max_drawdown, found.curve.cagr)
