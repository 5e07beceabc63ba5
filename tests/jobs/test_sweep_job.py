"""A parameter review over a source: the same as one backtest a combination, faults, windows, clusters and all."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import Bench
from lived import csv_settings, work_in

from mtum_eod.adapters.workers import Spread, in_turn
from mtum_eod.core.parameters import Parameters, StrategyParameters
from mtum_eod.core.sweep import with_values
from mtum_eod.errors import SettingsError
from mtum_eod.jobs.backtest import run_backtest
from mtum_eod.jobs.desk import Desk
from mtum_eod.jobs.sweep import By, Swept, WalkForward, run_sweep

AXES = {"ma_period": (20, 50, 80), "vix_entry_threshold": (18.0, 25.0), "atr_multiplier": (2.0, 4.0)}


def quiet(*_: object) -> None:
    pass


def under(desk: Desk, values: dict[str, Any]) -> Desk:
    """The same desk with other parameters."""
    return replace(desk, parameters=with_values(desk.parameters, values))


@pytest.fixture(scope="module")
def desk(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A desk on the real history, its settings the defaults."""
    return work_in(tmp_path_factory.mktemp("swept"), csv_settings(real_data)).desk()


@pytest.fixture(scope="module")
def review(desk: Desk) -> Swept:
    return run_sweep(desk, AXES, None, None, quiet, in_turn)


# -- equal to the backtest --------------------------------------------------------------------------------------------


def test_every_combination_is_the_backtest_that_the_command_would_run(desk: Desk, review: Swept) -> None:
    for place, index in enumerate(review.tried.index.tolist()):
        done = run_backtest(under(desk, review.grid.values(index)), None, None, quiet)
        assert (len(done.result.trades), pytest.approx(done.result.equity[-1], rel=1e-9)) == (
            review.tried.trades[place],
            review.tried.equity[place],
        )


def test_the_settings_in_force_and_buy_and_hold_stand_beside_it(desk: Desk, review: Swept) -> None:
    """Their figures are those of `backtest`, their rank is counted anew."""
    done = run_backtest(desk, None, None, quiet)
    better = [value for value in review.tried.equity.tolist() if value > done.result.equity[-1]]

    present = review.document(1)["present"]
    assert (done.result.equity[-1], len(better) + 1, 50) == (
        present["final_equity"],
        present["rank"],
        present["ma_period"],
    )
    assert pytest.approx(done.benchmark.total_return) == review.hold_return


def test_a_fault_in_the_history_is_met_as_by_the_backtest(tmp_path: Path) -> None:
    """A missing session spoils the windows it stands in; how many depends on `history_bars`, which is varied too."""
    bench = Bench(
        tmp_path / "book.db", parameters=Parameters(strategy=StrategyParameters(rsi_period=12, atr_period=12))
    )
    bench.at(date(2024, 12, 31), -60)
    rng = np.random.default_rng(4)
    frame = bench.data.frames["MTUM"]
    close = np.round(100 * np.exp(np.cumsum(rng.normal(0.001, 0.02, len(frame)))), 2)
    frame["open"], frame["close"], frame["high"], frame["low"] = close, close, close * 1.01, close * 0.99
    frame["volume"] = rng.uniform(5e5, 1e6, len(frame))
    bench.data.drop("MTUM", frame.index[60].date())
    axes = {"ma_period": (20, 50), "history_bars": (300, 400), "volume_lookback": (5, 20)}
    found = run_sweep(bench.desk, axes, None, None, quiet, in_turn)

    results = [run_backtest(under(bench.desk, found.grid.values(i)), None, None, quiet).result for i in range(8)]
    assert [(len(one.trades), one.equity[-1]) for one in results] == [
        (int(trades), equity) for trades, equity in zip(found.tried.trades, found.tried.equity.tolist(), strict=True)
    ]
    assert len({one.equity[-1] for one in results}) > 4
    bench.store.close()


# -- what the best is worth -------------------------------------------------------------------------------------------


def test_the_best_is_called_hindsight_and_stands_first(review: Swept) -> None:
    document = review.document(3)

    assert (True, 3) == (document["best"]["hindsight"], len(document["results"]))
    assert document["best"]["total_return"] == document["results"][0]["total_return"] == review.total_returns.max()


@pytest.mark.parametrize("by", list(By))
def test_any_figure_can_make_the_best(desk: Desk, by: By) -> None:
    one = run_sweep(desk, AXES, None, None, quiet, in_turn, by=by)
    figures = [row[by] for row in one.document(12)["results"]]

    assert sorted(figures, reverse=by is not By.MAX_DRAWDOWN) == figures


def test_neighbours_are_one_step_away_on_one_parameter(desk: Desk) -> None:
    """Around the middle of 3 x 3 there are four; at a corner two."""
    one = run_sweep(desk, {"ma_period": (20, 50, 80), "atr_multiplier": (2.0, 3.0, 4.0)}, None, None, quiet, in_turn)
    returns = one.total_returns.reshape(3, 3)

    assert sorted([returns[0, 1], returns[2, 1], returns[1, 0], returns[1, 2]]) == sorted(one.neighbours(4).tolist())
    assert sorted([returns[0, 1], returns[1, 0]]) == sorted(one.neighbours(0).tolist())


# -- walking forward --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def walked(desk: Desk) -> Swept:
    return run_sweep(desk, AXES, None, None, quiet, in_turn, walk_forward=WalkForward(train=36, test=12))


def test_tests_follow_each_other_without_a_gap_and_after_their_training(desk: Desk, walked: Swept) -> None:
    """Three years before each test; the first session of a test is the one after the last of the test before."""
    windows = walked.windows
    after = [desk.calendar.nearest(window.test_last)[1] for window in windows[:-1]]

    assert after == [window.test_first for window in windows[1:]]
    assert [date(2014, 6, 25), date(2017, 6, 26)] == [windows[0].train_first, windows[0].test_first]
    assert (6, date(2022, 12, 30)) == (len(windows), windows[-1].test_last)


def test_each_window_trades_what_was_best_before_it_and_nothing_later_is_seen(desk: Desk, walked: Swept) -> None:
    """Chosen again by one backtest a combination, on sessions up to the eve of the test."""
    for window in walked.windows[:3]:
        eve = desk.calendar.nearest(window.test_first)[0]
        trained = {
            index: run_backtest(under(desk, walked.grid.values(index)), window.train_first, eve, quiet).result.equity[
                -1
            ]
            for index in range(len(walked.grid))
        }
        best = max(trained, key=lambda index: trained[index])
        assert walked.grid.values(best) == window.best
        assert pytest.approx(trained[best] / 5000 - 1) == window.train_return


def test_equity_is_carried_from_window_to_window(desk: Desk, walked: Swept) -> None:
    """The first test starts with the capital, the second with what the first left."""
    first, second = walked.windows[:2]
    done = run_backtest(under(desk, first.best), first.test_first, first.test_last, quiet)

    assert pytest.approx(done.result.equity[-1]) == first.equity
    assert pytest.approx(first.equity * (1 + second.test_return)) == second.equity
    assert walked.out_of_sample is not None
    assert walked.windows[-1].equity / 5000 - 1 == walked.out_of_sample["total_return"]


def test_your_settings_out_of_sample_are_worth_what_the_same_ones_chosen_are(real_data: Path, tmp_path: Path) -> None:
    """Chosen among themselves alone, under a cap in USD that weighs more the more there is: the equity is their own."""
    environ = csv_settings(real_data) | {"MTUM_EOD_RISK__MAX_POSITION_SIZE": "1500"}
    desk = work_in(tmp_path, environ).desk()
    lengths = WalkForward(train=36, test=12)
    found = run_sweep(desk, {"ma_period": (50,)}, None, None, quiet, in_turn, walk_forward=lengths)

    assert found.out_of_sample is not None
    assert pytest.approx(found.out_of_sample["total_return"], rel=1e-12) == found.out_of_sample["present"]
    assert [window.test_return for window in found.windows] == [window.present_return for window in found.windows]


def test_a_history_too_short_for_a_window_is_refused(desk: Desk) -> None:
    with pytest.raises(SettingsError, match="shorter than 240 months of training and a test"):
        run_sweep(desk, AXES, None, None, quiet, in_turn, walk_forward=WalkForward(train=240, test=12))


# -- how much, and where ----------------------------------------------------------------------------------------------


def test_a_million_and_more_say_first_what_they_cost(desk: Desk) -> None:
    axes = {"ma_period": tuple(range(20, 120)), "atr_multiplier": tuple(i / 10_000 for i in range(1, 100_001))}

    with pytest.raises(SettingsError, match=r"10,000,000 combinations would take about .* and \d+ MB") as refused:
        run_sweep(desk, axes, None, None, quiet, in_turn)
    assert "--yes" in refused.value.hint


def test_what_nobody_can_wait_for_is_refused_at_once(desk: Desk) -> None:
    axes: dict[str, tuple[Any, ...]] = {
        name: tuple(range(1, 50_000)) for name in ("atr_multiplier", "vix_exit_threshold", "max_position_size")
    }

    with pytest.raises(SettingsError, match="would take years"):
        run_sweep(desk, axes, None, None, quiet, in_turn, accept_cost=True)


def test_nothing_but_contradictions_is_refused_with_their_words(desk: Desk) -> None:
    with pytest.raises(SettingsError, match=r"none of the 2 .*: 2 vix_entry_threshold above vix_exit_threshold"):
        run_sweep(desk, {"vix_entry_threshold": (31.0, 35.0)}, None, None, quiet, in_turn)


def test_progress_ends_with_all_of_them(desk: Desk) -> None:
    seen: list[tuple[object, int, int]] = []
    run_sweep(desk, AXES, None, None, lambda *told: seen.append(told), in_turn)

    assert ("trying", 12, 12) == seen[-1]


@pytest.mark.parametrize(
    ("axes", "why"),
    [
        ({"max_daily_loss": (100.0, 500.0)}, "max_daily_loss changes nothing: daily_loss_exit is false"),
        ({"require_confirmation": (True, False)}, "require_confirmation changes nothing: a backtest asks nobody"),
        ({"stop_loss_pct": (5.0, 10.0)}, "stop_loss_pct changes nothing: stop_loss_enabled is false"),
        ({"history_bars": (400, 500)}, "history_bars changes nothing: this history has no fault"),
    ],
)
def test_what_changes_nothing_in_a_backtest_is_not_varied(desk: Desk, axes: dict[str, Any], why: str) -> None:
    """A column of equal results would pass for evidence; the hint names what matters."""
    with pytest.raises(SettingsError, match=why) as refused:
        run_sweep(desk, axes, None, None, quiet, in_turn)

    assert "ma_period" in refused.value.hint
    assert "max_daily_loss" not in refused.value.hint


def test_a_stop_loss_counts_where_it_is_switched_on(desk: Desk) -> None:
    one = run_sweep(desk, {"stop_loss_enabled": (True,), "stop_loss_pct": (1.0, 50.0)}, None, None, quiet, in_turn)

    assert len(set(one.tried.equity.tolist())) == 2


def test_a_daily_loss_sells_in_a_sweep_as_in_each_backtest(desk: Desk) -> None:
    """By trades, wins, final equity and deepest fall; the two limits sell on different days, and off is neither."""
    axes = {"max_daily_loss": (60.0, 120.0), "daily_loss_exit": (True, False), "ma_period": (20, 50)}
    swept = run_sweep(desk, axes, None, None, quiet, in_turn, by=By.MAX_DRAWDOWN)
    rows = swept.rows(range(len(swept.tried)))
    done = [run_backtest(under(desk, swept.grid.values(i)), None, None, quiet) for i in range(len(swept.grid))]

    assert [
        (one.metrics.trades.trades, one.metrics.trades.wins, one.result.equity[-1], one.metrics.curve.max_drawdown)
        for one in done
    ] == [
        (
            row["trades"],
            swept.tried.wins[place],
            pytest.approx(row["final_equity"], rel=1e-9),
            pytest.approx(row["max_drawdown"]),
        )
        for place, row in enumerate(rows)
    ]
    sold = [sum(trade.exit_reason == "daily_loss" for trade in one.result.trades) for one in done]
    assert [True, True, False, False, True, True, False, False] == [count > 0 for count in sold]
    assert len(set(swept.tried.equity.tolist())) == 6


def test_what_is_shown_has_its_drawdown_whatever_the_best_is_chosen_by(desk: Desk, review: Swept) -> None:
    """By total return daily equity is worked out for the rows shown alone, by Sharpe ratio for all of them."""
    by_sharpe = run_sweep(desk, AXES, None, None, quiet, in_turn, by=By.SHARPE)

    assert np.isnan(review.tried.sharpe).all()
    assert [by_sharpe.row(by_sharpe.tried, at, by_sharpe.grid.values(at)) for at in (0, 7)] == list(review.rows([0, 7]))


def assert_same(one: Swept, other: Swept) -> None:
    np.testing.assert_array_equal(one.tried.index, other.tried.index)
    np.testing.assert_array_equal(one.tried.equity, other.tried.equity)
    assert list(one.rows(range(len(one.tried)))) == list(other.rows(range(len(other.tried))))


def test_chunks_change_nothing(desk: Desk, review: Swept) -> None:
    """For five workers the twelve are cut in chunks of three."""
    assert_same(review, run_sweep(desk, AXES, None, None, quiet, in_turn, workers=5))


@pytest.mark.slow
def test_processes_find_what_one_alone_finds(desk: Desk, review: Swept) -> None:
    assert_same(review, run_sweep(desk, AXES, None, None, quiet, Spread(2, "loky", None), workers=2))


@contextmanager
def scheduler() -> Iterator[str]:
    """A Dask scheduler on this machine with two worker processes."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        yield cluster.scheduler_address


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # Dask's own, of its shutting down
def test_a_dask_cluster_finds_what_one_alone_finds(desk: Desk, review: Swept) -> None:
    with scheduler() as address:
        assert_same(review, run_sweep(desk, AXES, None, None, quiet, Spread(2, "dask", address), workers=2))


@pytest.mark.slow
def test_no_scheduler_at_the_address_is_said(desk: Desk) -> None:
    with pytest.raises(SettingsError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:1"):
        run_sweep(desk, AXES, None, None, quiet, Spread(2, "dask", "tcp://127.0.0.1:1"), workers=2)
