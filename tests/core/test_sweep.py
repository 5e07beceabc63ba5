"""A sweep is the backtest, many times: every combination against the scalar loop, on real and on invented histories."""

import tracemalloc
from dataclasses import replace
from datetime import date, timedelta
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtum_eod.core.backtest import Tape, backtest
from mtum_eod.core.indicators import atr, rsi, sma
from mtum_eod.core.metrics import metrics
from mtum_eod.core.parameters import SECTION_OF, Parameters, RiskParameters, StrategyParameters
from mtum_eod.core.sweep import Grid, Tried, joined, market, sweep, to_measure, with_values
from mtum_eod.errors import SettingsError
from mtum_eod.settings import load

CAPITAL = 5000.0


class Bars:
    """A history that can be measured under any periods."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.frame = frame
        self.sessions = [day.date() for day in frame.index]

    def tape(self, p: StrategyParameters) -> Tape:
        """As the rules see it; a session without a VIX, a price or a volume has NaN, its indicators stand."""
        column = {name: self.frame[name].to_numpy(dtype=np.float64) for name in self.frame}
        close, volume = column["close"], column["volume"]
        seen = self.frame["is_seen"].to_numpy(dtype=bool)
        return Tape(
            sessions=self.sessions,
            open=close,
            close=np.where(seen, close, nan),
            volume=volume,
            ma_50=sma(close, p.ma_period),
            rsi=rsi(close, p.rsi_period),
            atr=np.where(seen, atr(column["high"], column["low"], close, p.atr_period), nan),
            volume_ma_20=sma(volume, p.volume_lookback),
            vix=column["vix"],
        )


def tried(bars: Bars, grid: Grid, start: int, chunk: int = 1000) -> Tried:
    found = market((p, bars.tape(p)) for p in to_measure(grid))
    edges = range(0, len(grid), chunk)
    return joined([sweep(found, grid, range(low, min(low + chunk, len(grid))), CAPITAL, start=start) for low in edges])


def figures(one: Tried, place: int) -> tuple[Any, ...]:
    """What a sweep says of one combination."""
    sharpe = float(one.sharpe[place])
    return (
        int(one.trades[place]),
        int(one.wins[place]),
        float(one.equity[place]),
        pytest.approx(float(one.max_drawdown[place]), abs=1e-12),
        pytest.approx(sharpe, rel=1e-9, abs=1e-9, nan_ok=True),
    )


def expected(bars: Bars, p: Parameters, start: int) -> tuple[Any, ...]:
    """What the scalar loop says of it."""
    result = backtest(bars.tape(p.strategy), p, CAPITAL, start=start)
    found = metrics(result, CAPITAL)
    equity = pytest.approx(result.equity[-1], rel=1e-9, abs=1e-9)
    return len(result.trades), found.trades.wins, equity, found.curve.max_drawdown, found.curve.sharpe


# -- invented histories -----------------------------------------------------------------------------------------------


def invented(seed: int, length: int = 220, gaps: float = 0.03) -> Bars:
    """A random walk rough enough for every rule to speak, with unknown closes and VIX here and there."""
    draw = np.random.default_rng(seed)
    close = 60 * np.exp(np.cumsum(draw.normal(0.0005, 0.03, length)))
    frame = pd.DataFrame(
        {
            "close": close,
            "high": close * (1 + draw.uniform(0, 0.03, length)),
            "low": close * (1 - draw.uniform(0, 0.03, length)),
            "volume": draw.uniform(1e5, 1e6, length),
            "vix": np.where(draw.random(length) < gaps, nan, np.round(draw.uniform(12, 36, length))),
            "is_seen": draw.random(length) >= gaps,
        },
        index=pd.bdate_range(date(2020, 1, 1), periods=length),
    )
    return Bars(frame)


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "ma_period": st.integers(2, 60),
    "rsi_period": st.integers(2, 16),
    "atr_period": st.integers(2, 16),
    "volume_lookback": st.integers(2, 40),
    "atr_multiplier": st.sampled_from([0.5, 1.0, 2.0, 4.0, 8.0]),
    "vix_entry_threshold": st.sampled_from([15.0, 20.0, 25.0, 30.0]),
    "vix_exit_threshold": st.sampled_from([25.0, 30.0, 35.0]),
    "rsi_entry_threshold": st.sampled_from([30.0, 45.0, 50.0, 60.0]),
    "rsi_exit_threshold": st.sampled_from([20.0, 30.0, 45.0]),
    "history_bars": st.sampled_from([300, 400, 500]),
    "stop_loss_enabled": st.booleans(),
    "stop_loss_pct": st.sampled_from([1.0, 3.0, 10.0]),
    "max_position_pct": st.sampled_from([1.0, 10.0, 50.0, 100.0]),
    "max_position_size": st.sampled_from([20.0, 70.0, 900.0, 5000.0, 20_000.0]),
    "transaction_cost": st.sampled_from([0.0, 0.001, 0.05]),
    "price_buffer_pct": st.sampled_from([0.0, 1.0, 20.0]),
    "max_daily_loss": st.sampled_from([50.0, 500.0]),
    "daily_loss_exit": st.booleans(),
    "max_price_move_pct": st.sampled_from([0.5, 2.0, 4.0, 15.0]),
    "require_confirmation": st.booleans(),
}
"""Values that make each rule and each gate speak."""


def test_every_number_of_strategy_and_risk_is_varied_here() -> None:
    assert set(SECTION_OF) == set(VALUES)


def axes_of(names: list[str]) -> st.SearchStrategy[dict[str, tuple[Any, ...]]]:
    lists = {name: st.lists(VALUES[name], min_size=1, max_size=3, unique=True).map(tuple) for name in names}
    return st.fixed_dictionaries(lists)


AXES = st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=4, unique=True).flatmap(axes_of)
IN_BASE = (
    "atr_multiplier",
    "stop_loss_enabled",
    "max_position_size",
    "max_price_move_pct",
    "max_daily_loss",
    "daily_loss_exit",
)
BASES = st.fixed_dictionaries({name: VALUES[name] for name in IN_BASE}).map(
    lambda values: with_values(Parameters(), values)
)


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), base=BASES, axes=AXES, chunk=st.sampled_from([1, 7, 1000]))
def test_every_combination_is_the_backtest_of_its_parameters(
    seed: int, base: Parameters, axes: dict[str, tuple[Any, ...]], chunk: int
) -> None:
    """Trades, wins, final equity, drawdown and Sharpe ratio, whatever is varied and however it is cut into chunks."""
    bars, grid = invented(seed), Grid(base=base, axes=axes)
    found = tried(bars, grid, 60, chunk) if any_sense(grid) else None

    for place, index in enumerate(found.index.tolist() if found else []):
        assert expected(bars, grid.parameters(index), 60) == figures(found, place)


def any_sense(grid: Grid) -> bool:
    refused = grid.contradictions(np.arange(len(grid))).values()
    return not np.logical_or.reduce(list(refused)).all()


@pytest.mark.parametrize("name", sorted(VALUES))
def test_each_number_alone_is_tried_as_the_backtest_does(name: str) -> None:
    """Three values of one parameter on ten histories, so that no rule hides behind the others."""
    draw = {
        "ma_period": (5, 20, 55),
        "rsi_period": (2, 9, 16),
        "atr_period": (2, 9, 16),
        "volume_lookback": (2, 10, 40),
        "rsi_exit_threshold": (20.0, 40.0, 49.0),
        "vix_exit_threshold": (25.0, 28.0, 33.0),
        "stop_loss_pct": (1.0, 4.0, 10.0),
        "max_position_size": (30.0, 80.0, 3000.0),
        "max_price_move_pct": (0.5, 1.5, 5.0),
        "stop_loss_enabled": (False, True),
        "max_daily_loss": (50.0, 150.0, 400.0),
        "daily_loss_exit": (False, True),
    }
    default = getattr(getattr(Parameters(), SECTION_OF[name]), name)
    base = with_values(
        Parameters(),
        {
            "stop_loss_enabled": True,
            "atr_multiplier": 2.0,
            "max_daily_loss": 150.0,
            "daily_loss_exit": name == "max_daily_loss",
        },
    )
    grid = Grid(base=base, axes={name: draw.get(name, (default,))})

    for seed in range(10):
        bars = invented(seed)
        found = tried(bars, grid, 60)
        assert [expected(bars, grid.parameters(i), 60) for i in range(len(grid))] == [
            figures(found, i) for i in range(len(grid))
        ]


def test_an_entry_blocked_by_its_size_may_happen_a_session_later() -> None:
    """Caps around the price of one share, and signals day after day: some are refused, the next one fits."""
    eager = StrategyParameters(
        ma_period=20, rsi_period=9, volume_lookback=2, vix_entry_threshold=40, vix_exit_threshold=40
    )
    grid = Grid(
        base=Parameters(strategy=replace(eager, rsi_entry_threshold=0, rsi_exit_threshold=0)),
        axes={"max_position_size": tuple(float(usd) for usd in range(30, 100))},
    )
    bars = invented(2)
    bars.frame["volume"] = np.arange(len(bars.frame)) + 1e5  # always above its mean
    found = tried(bars, grid, 60)

    assert [expected(bars, grid.parameters(i), 60) for i in range(len(grid))] == [
        figures(found, i) for i in range(len(grid))
    ]


def test_a_history_on_which_nothing_can_be_bought_gives_the_capital_back() -> None:
    grid = Grid(base=replace(Parameters(), risk=RiskParameters(max_position_size=1.0)), axes={"ma_period": (5, 20)})
    found = tried(invented(3), grid, 60)

    assert ([CAPITAL] * 2, [0, 0], [0.0] * 2) == (
        found.equity.tolist(),
        found.trades.tolist(),
        found.max_drawdown.tolist(),
    )
    assert np.isnan(found.sharpe).all()


# -- the real history -------------------------------------------------------------------------------------------------

FIRST_WITH_300_BARS = 299
REAL = Grid(
    base=Parameters(),
    axes={
        "ma_period": tuple(range(10, 110, 10)),
        "rsi_entry_threshold": tuple(float(value) for value in range(40, 60, 2)),
        "vix_entry_threshold": tuple(float(value) for value in range(12, 32, 2)),
        "atr_multiplier": tuple(value / 2 for value in range(2, 12)),
    },
)
"""10,000 combinations, one of them the default's."""


@pytest.fixture(scope="module")
def real(real_data: Path) -> Bars:
    bars = pd.read_csv(real_data / "MTUM.csv", index_col="Date", parse_dates=True)
    vix = pd.read_csv(real_data / "VIX.csv", index_col="DATE", parse_dates=True)["CLOSE"]
    frame = bars.rename(columns=str.lower)[["close", "high", "low", "volume"]]
    return Bars(frame.assign(vix=vix.reindex(frame.index), is_seen=True))


@pytest.fixture(scope="module")
def real_sweep(real: Bars) -> Tried:
    return tried(real, REAL, FIRST_WITH_300_BARS, chunk=5000)


def test_sampled_combinations_of_ten_thousand_are_their_backtests(real: Bars, real_sweep: Tried) -> None:
    places = np.random.default_rng(1).choice(len(real_sweep), 60, replace=False).tolist()

    for place in places:
        parameters = REAL.parameters(int(real_sweep.index[place]))
        assert expected(real, parameters, FIRST_WITH_300_BARS) == figures(real_sweep, place)


def test_ten_thousand_combinations_need_less_than_500_mb(real: Bars) -> None:
    tracemalloc.start()
    try:
        tried(real, REAL, FIRST_WITH_300_BARS, chunk=5000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 300e6  # with 200 MB left for Python, numpy and pandas


# -- the grid ---------------------------------------------------------------------------------------------------------


def test_the_last_parameter_varies_fastest() -> None:
    grid = Grid(base=Parameters(), axes={"ma_period": (20, 30), "vix_entry_threshold": (18.0, 25.0)})

    assert [(20, 18.0), (20, 25.0), (30, 18.0), (30, 25.0)] == [tuple(grid.values(i).values()) for i in range(4)]


def test_ten_million_combinations_are_never_written_out() -> None:
    grid = Grid(base=Parameters(), axes={"ma_period": tuple(range(2, 102)), "atr_multiplier": tuple(range(1, 100_001))})

    assert (10_000_000, {"ma_period": 101, "atr_multiplier": 100_000}) == (len(grid), grid.values(9_999_999))


CONTRADICTING: dict[str, tuple[Any, ...]] = {
    "vix_entry_threshold": (20.0, 30.0, 31.0),
    "rsi_exit_threshold": (30.0, 50.0, 51.0),
    "rsi_period": (12, 13),
    "history_bars": (300, 400),
    "ma_period": (50, 299, 300, 350),
    "volume_lookback": (20, 300),
}


def test_skipped_are_exactly_the_combinations_that_the_settings_refuse(tmp_path: Path) -> None:
    """The same line between sense and contradiction, drawn twice, is held together here."""
    grid = Grid(base=replace(Parameters(), strategy=StrategyParameters(atr_period=12)), axes=CONTRADICTING)
    kept = tried(invented(1), grid, 60)

    empty = tmp_path / "settings.toml"
    empty.touch()

    def is_refused(index: int) -> bool:
        values = {f"strategy.{name}": value for name, value in grid.values(index).items()}
        try:
            load(empty, {}, values | {"strategy.atr_period": 12})
        except SettingsError:
            return True
        return False

    assert [i for i in range(len(grid)) if not is_refused(i)] == kept.index.tolist()
    assert len(grid) == len(kept) + sum(kept.skipped.values())


def test_a_session_more_or_less_at_the_end_is_cut_off_before_anything_is_decided() -> None:
    """The walk forward trains on the past alone: a market cut short is the market that ended there."""
    bars, grid = invented(5), Grid(base=Parameters(), axes={"ma_period": (5, 20)})
    whole = market((p, bars.tape(p)) for p in to_measure(grid))
    shorter = Bars(bars.frame.iloc[:150])
    cut = sweep(whole.until(150), grid, [0, 1], CAPITAL, start=60)

    assert tried(shorter, grid, 60).equity.tolist() == cut.equity.tolist()
    assert shorter.sessions[-1] < bars.sessions[-1] - timedelta(days=1)
