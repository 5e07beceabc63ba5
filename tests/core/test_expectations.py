"""What was published beside what was measured: the figures, the verdicts, and intervals whose answer is known."""

from datetime import date, timedelta
from math import isnan, nan

import numpy as np
import pytest
from scipy.stats import binomtest, chi2
from scipy.stats import t as students_t

from mtum_eod.core.backtest import BacktestResult, Trade
from mtum_eod.core.expectations import (
    PUBLISHED,
    Verdict,
    days_interval,
    drawdown_interval,
    return_interval,
    trades_interval,
    verdicts,
    win_rate_interval,
)
from mtum_eod.core.metrics import metrics
from mtum_eod.core.strategy import ExitReason

FIRST = date(2023, 1, 3)


def trade(net: float, days: int) -> Trade:
    return Trade(
        entry_session=FIRST,
        entry_price=100.0,
        shares=10,
        entry_atr=2.5,
        exit_session=FIRST + timedelta(days=days),
        exit_price=100.0 + net / 10,
        exit_reasons=(ExitReason.TREND,),
        gross_pnl=net,
        costs=0.0,
        days=days,
        sessions=days,
    )


def history(equity: list[float], trades: tuple[Trade, ...] = ()) -> BacktestResult:
    return BacktestResult(
        sessions=[FIRST + timedelta(days=day) for day in range(len(equity))],
        equity=equity,
        shares=[0] * len(equity),
        trades=trades,
        open_position=None,
        blocked=(),
        daily_losses=(),
    )


def told(equity: list[float], trades: tuple[Trade, ...] = ()) -> tuple[Verdict, ...]:
    result = history(equity, trades)
    return verdicts(result, 5000.0, metrics(result, 5000.0))


def test_the_published_figures():
    """SPEC section 6: 25-40 % a year, 60-70 % wins, 15-30 days a trade, 5-10 trades a year, 15-20 % drawdown."""
    assert [
        ("annual return", 0.25, 0.40),
        ("win rate", 0.60, 0.70),
        ("days a trade", 15, 30),
        ("trades a year", 5, 10),
        ("maximum drawdown", 0.15, 0.20),
    ] == [(expected.name, expected.low, expected.high) for expected in PUBLISHED]


@pytest.mark.parametrize(
    ("measured", "expected"),
    [(0.599, False), (0.6, True), (0.65, True), (0.7, True), (0.701, False), (nan, None)],
)
def test_a_figure_holds_inside_the_published_range_its_ends_included(measured, expected):
    verdict = Verdict(
        name="win rate",
        expected_low=0.6,
        expected_high=0.7,
        measured=measured,
        interval_low=nan,
        interval_high=nan,
        is_ratio=True,
        is_short=False,
    )

    assert expected is verdict.holds


def test_each_figure_stands_beside_its_measurement():
    """Flat money for 366 days but for one step up of 30 %; two wins of three trades of 20, 10 and 30 days."""
    equity = [5000.0] * 100 + [6500.0] * 267
    trades = (trade(900.0, 20), trade(700.0, 10), trade(-100.0, 30))
    found = {verdict.name: (verdict.measured, verdict.holds) for verdict in told(equity, trades)}
    years = 366 / 365.25

    assert {
        "annual return": (pytest.approx(1.3 ** (1 / years) - 1), True),
        "win rate": (pytest.approx(2 / 3), True),
        "days a trade": (20.0, True),
        "trades a year": (pytest.approx(3 / years), False),
        "maximum drawdown": (0.0, False),
    } == found


@pytest.mark.parametrize(("trades", "without"), [(2, []), (1, ["days a trade"]), (0, ["win rate", "days a trade"])])
def test_each_figure_has_its_interval_as_soon_as_there_is_enough_to_measure(trades, without):
    """The spread of holding times takes two trades, a rate of wins takes one."""
    equity = [5000.0 * 1.001**day for day in range(1, 253)]
    found = told(equity, (trade(900.0, 20), trade(700.0, 10))[:trades])

    assert without == [one.name for one in found if isnan(one.interval_low) or isnan(one.interval_high)]


def test_a_history_without_chance_has_an_interval_without_width():
    """0.1 % every session for 252 of them: whatever is drawn, a year ends at 1.001 to the 252nd, and never falls."""
    values = 5000.0 * 1.001 ** np.arange(253)
    expected = 1.001**252 - 1

    assert ((pytest.approx(expected), pytest.approx(expected)), (pytest.approx(0.0, abs=1e-12),) * 2) == (
        return_interval(values, 1.0),
        drawdown_interval(values),
    )


def test_a_fall_from_what_was_put_in_is_a_drawdown_too():
    """1 % down every session for 21 of them, however drawn: 1 - 0.99 to the 21st."""
    values = 100.0 * 0.99 ** np.arange(22)

    assert (pytest.approx(1 - 0.99**21),) * 2 == drawdown_interval(values)


@pytest.mark.parametrize(
    ("wins", "trades", "expected"),
    [
        (1, 1, (0.05, 1.0)),
        (0, 1, (0.0, 0.95)),
        (0, 3, (0.0, 1 - 0.05 ** (1 / 3))),
        (5, 5, (0.05**0.2, 1.0)),
    ],
)
def test_trades_all_alike_leave_much_doubt(wins, trades, expected):
    """One won of one: a rate of 5 % would still show that in one case of twenty. None won of three: 0.95 cubed, ..."""
    assert pytest.approx(expected, abs=1e-9) == win_rate_interval(wins, trades)


@pytest.mark.parametrize(("wins", "trades"), [(60, 100), (8, 13), (24, 70), (1, 2000), (1999, 2000), (2600, 5000)])
def test_the_win_rates_interval_is_the_exact_one(wins, trades):
    """As SciPy has it, by quantiles of the beta distribution."""
    exact = binomtest(wins, trades).proportion_ci(confidence_level=0.90, method="exact")

    assert pytest.approx((exact.low, exact.high), abs=1e-9) == win_rate_interval(wins, trades)


@pytest.mark.parametrize("days", [[20, 10], [20, 10, 30], [7, 7, 7, 7], [3, 41, 22, 18, 9], list(range(5, 75))])
def test_the_holding_times_interval_is_students(days):
    """As SciPy has it, by quantiles of the t distribution; 20 and 10 days could be a mean of 0 as well."""
    half = students_t.ppf(0.95, len(days) - 1) * np.std(days, ddof=1) / len(days) ** 0.5

    assert pytest.approx((max(0.0, np.mean(days) - half), np.mean(days) + half)) == days_interval(days)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 30, 31, 500])
def test_the_t_distribution_is_right_at_every_number_of_trades(freedom):
    days = [0.0] * freedom + [1.0]

    assert pytest.approx(students_t.ppf(0.95, freedom) / (freedom + 1)) == days_interval(days)[1] - np.mean(days)


@pytest.mark.parametrize(("trades", "years"), [(0, 1.0), (1, 0.5), (7, 1.0), (70, 8.515), (3000, 10.0)])
def test_the_interval_of_trades_a_year_is_the_exact_one(trades, years):
    """As SciPy has it, by quantiles of the chi-squared distribution."""
    low, high = chi2.ppf(0.05, 2 * trades) / 2 if trades else 0.0, chi2.ppf(0.95, 2 * trades + 2) / 2

    assert pytest.approx((low / years, high / years)) == trades_interval(trades, years)


def test_a_year_without_a_trade_leaves_three_a_year_possible():
    """Where three are to be expected, none comes in one case of twenty: 0.05 is e to the -2.996."""
    assert (0.0, pytest.approx(-np.log(0.05))) == trades_interval(0, 1.0)


def test_the_returns_interval_has_the_width_chance_gives_it():
    """Independent daily returns: 252 of them spread by sqrt(252) of one, 90 % within 1.645 deviations in logarithms."""
    returns = np.random.default_rng(5).normal(0.0, 0.01, 252)
    values = 100.0 * np.concatenate(([1.0], np.cumprod(1 + returns)))
    low, high = return_interval(values, 1.0)
    spread = (np.log1p(high) - np.log1p(low)) / 2

    assert pytest.approx(1.645 * float(np.std(np.log1p(returns))) * 252**0.5, rel=0.2) == spread


def test_the_same_history_gives_the_same_intervals():
    values = 100.0 * np.cumprod(1 + np.random.default_rng(5).normal(0.0005, 0.01, 300))

    assert (return_interval(values, 1.2), drawdown_interval(values)) == (
        return_interval(values, 1.2),
        drawdown_interval(values),
    )


@pytest.mark.parametrize(
    ("sessions", "years", "known"), [(21, 0.1, True), (20, 0.1, False), (1, 0.1, False), (21, 0.0, False)]
)
def test_less_than_a_block_of_sessions_or_no_time_has_no_interval(sessions, years, known):
    values = 100.0 * 1.001 ** np.arange(sessions + 1)

    assert known is not isnan(return_interval(values, years)[0])


def test_without_sessions_or_trades_there_is_no_interval():
    assert [True, True, True, True] == [
        isnan(drawdown_interval(np.array([100.0, 101.0]))[0]),
        isnan(win_rate_interval(0, 0)[0]),
        isnan(days_interval([20])[0]),
        isnan(trades_interval(1, 0.0)[0]),
    ]


@pytest.mark.parametrize(
    ("name", "measured", "expected"),
    [
        ("annual return", 0.41, "better than published"),
        ("annual return", 0.24, "NOT as published"),
        ("win rate", 0.71, "better than published"),
        ("win rate", 0.65, "as published"),
        ("maximum drawdown", 0.149, "better than published"),
        ("maximum drawdown", 0.15, "as published"),
        ("maximum drawdown", 0.21, "NOT as published"),
        ("days a trade", 31.0, "NOT as published"),
        ("trades a year", 4.0, "NOT as published"),
        ("win rate", nan, "nothing to measure"),
    ],
)
def test_the_good_side_of_the_published_range_is_called_better(name, measured, expected):
    """More return or wins, less drawdown; how long and how often has no good side."""
    [published] = [one for one in PUBLISHED if one.name == name]
    verdict = Verdict(
        name=name,
        expected_low=published.low,
        expected_high=published.high,
        measured=measured,
        interval_low=nan,
        interval_high=nan,
        is_ratio=published.is_ratio,
        is_short=False,
        better_above=published.better_above,
    )

    assert expected == verdict.verdict


@pytest.mark.parametrize(
    ("sessions", "expected"),
    [
        (1, ["nothing to measure", "too short to say", "too short to say", "nothing to measure", "too short to say"]),
        (340, ["too short to say"] * 5),
    ],
)
def test_less_than_a_year_is_too_short_to_say(sessions, expected):
    """Published is what years bring. A session alone has no rate a year at all; 339 days are 0.93 years."""
    found = told([5000.0 * 1.001**day for day in range(sessions)], (trade(900.0, 20),))

    assert expected == [verdict.verdict for verdict in found]
    assert {None} == {verdict.holds for verdict in found}


@pytest.mark.parametrize("days", [363, 365])
def test_a_calendar_years_sessions_are_long_enough(days):
    """2018-01-02 to 2018-12-31 are 363 days; a report's year begins at the close a year before."""
    found = told([5000.0 * 1.001**day for day in range(days + 1)], (trade(900.0, 20),))

    assert "too short to say" not in {verdict.verdict for verdict in found}


def test_json_has_the_verdict_beside_holds():
    """A drawdown of nothing is better than published, and still not in the range."""
    drawdown = told([5000.0] * 367)[-1].document

    assert ("maximum drawdown", 0.0, False, "better than published") == tuple(
        drawdown[key] for key in ("name", "measured", "holds", "verdict")
    )
