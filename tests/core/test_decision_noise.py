"""Deciding early: one step of Wilder's means beside TA-Lib on the whole array, and draws whose answer is known."""

from datetime import date, timedelta
from math import nan, sqrt
from typing import Any

import numpy as np
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st

from mtum_eod.core.backtest import FillModel, Tape, backtest
from mtum_eod.core.decision_noise import EarlyView, decision_noise, early_deviation, vix_sensitivity
from mtum_eod.core.parameters import Parameters, StrategyParameters

P = Parameters()
START = 299
CAPITAL = 5000.0


def walk(seed: int, sessions: int = 420) -> dict[str, Any]:
    """A random walk of 1.5 % a session with ranges around it, a VIX against it, and volumes."""
    rng = np.random.default_rng(seed)
    moves = rng.normal(0.0005, 0.015, sessions)
    close = 100 * np.exp(np.cumsum(moves))
    return {
        "open": np.concatenate(([100.0], close[:-1])),
        "close": close,
        "high": close * (1 + rng.uniform(0, 0.02, sessions)),
        "low": close * (1 - rng.uniform(0, 0.02, sessions)),
        "volume": rng.uniform(5e5, 2e6, sessions),
        "vix": 20 * np.exp(np.cumsum(rng.normal(0, 0.02, sessions)) - 3 * moves),
    }


def tape(columns: dict[str, Any]) -> Tape:
    """The history measured by TA-Lib over the whole of it."""
    measured = {
        "ma_50": talib.SMA(columns["close"], 50),
        "rsi": talib.RSI(columns["close"], 14),
        "atr": talib.ATR(columns["high"], columns["low"], columns["close"], 14),
        "volume_ma_20": talib.SMA(columns["volume"], 20),
    }
    given = {name: columns[name] for name in ("open", "close", "volume", "vix")}
    days = [date(2020, 1, 1) + timedelta(days=n) for n in range(len(columns["close"]))]
    return Tape(sessions=days, **given, **measured)


def early(columns: dict[str, Any], p: StrategyParameters = P.strategy) -> EarlyView:
    return EarlyView(tape(columns), columns, p, START)


# -- one session seen early -------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(-0.05, 0.05), st.integers(START, 419))
def test_the_view_is_what_talib_measures_with_the_last_close_replaced(seed: int, e: float, i: int) -> None:
    """Any session of any walk, its close moved within its range: MA, RSI and ATR of the array that ends there."""
    columns = walk(seed)
    seen = early(columns).seen(np.full(420, e))
    close = columns["close"][: i + 1].copy()
    close[-1] = min(max(close[-1] * (1 + e), columns["low"][i]), columns["high"][i])
    high, low = columns["high"][: i + 1], columns["low"][: i + 1]

    assert [
        pytest.approx(close[-1], rel=1e-12),
        pytest.approx(talib.SMA(close, 50)[-1], rel=1e-9),
        pytest.approx(talib.RSI(close, 14)[-1], rel=1e-9),
        pytest.approx(talib.ATR(high, low, close, 14)[-1], rel=1e-9),
    ] == [seen.close[i], seen.ma_50[i], seen.rsi[i], seen.atr[i]]


def test_prices_that_never_moved_have_the_rsi_that_talib_gives_them() -> None:
    """300 closes of 100.00: 0 by TA-Lib; seen one cent higher it is 100, one lower 0."""
    flat = walk(1, 301) | {"close": np.full(301, 100.0), "high": np.full(301, 101.0), "low": np.full(301, 99.0)}
    view = early(flat)

    assert [talib.RSI(np.full(301, 100.0), 14)[-1], 100.0, 0.0] == [
        view.seen(np.full(301, e)).rsi[-1] for e in (0.0, 0.0001, -0.0001)
    ]


def test_a_price_outside_the_sessions_range_was_not_seen() -> None:
    columns = walk(2)
    view = early(columns)

    assert [columns["high"][400], columns["low"][400]] == [view.seen(np.full(420, e)).close[400] for e in (0.5, -0.5)]


def test_vix_moves_against_the_price_by_its_sensitivity() -> None:
    """Where VIX has always moved -4 % for 1 %, a close seen 1 % higher has it at 1.01 to the -4th."""
    columns = walk(3)
    columns["vix"] = 20 * (columns["close"] / 100) ** -4
    columns["high"] = columns["close"] * 1.05
    view = early(columns)

    assert (pytest.approx(-4.0), pytest.approx(columns["vix"][400] * 1.01**-4)) == (
        view.sensitivity,
        view.seen(np.full(420, 0.01)).vix[400],
    )


@pytest.mark.parametrize(
    ("close", "vix"), [([100.0] * 5, [20.0, 21.0, 20.0, 21.0, 20.0]), ([nan] * 5, [20.0] * 5), ([100.0], [20.0])]
)
def test_what_never_moved_has_no_sensitivity(close: list[float], vix: list[float]) -> None:
    assert 0.0 == vix_sensitivity(np.array(close), np.array(vix))


def test_the_deviation_is_of_twenty_minutes_and_knows_nothing_of_its_own_session() -> None:
    """20 of 390 minutes of the 20 sessions before, by numpy; a crash at 400 shows from 401 on."""
    close = walk(4)["close"]
    crashed = close.copy()
    crashed[400:] *= 0.8
    returns = np.diff(np.log(close))
    expected = np.std(returns[379:399], ddof=1) * sqrt(20 / 390)

    assert pytest.approx(expected, rel=1e-9) == early_deviation(close)[400]
    assert [True, False] == [early_deviation(close)[i] == early_deviation(crashed)[i] for i in (400, 401)]


def test_a_hole_spoils_only_the_windows_it_stands_in() -> None:
    """A close missing at 103, windows of 300 sessions: unknown while those reach back to it, known from 403 on."""
    columns = walk(5)
    columns["close"][103] = nan
    view = EarlyView(tape(walk(5)), columns, StrategyParameters(history_bars=300), START)

    assert [False, False, True] == [bool(np.isfinite(view.gain[i])) for i in (320, 400, 403)]


# -- a history decided early ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fill", list(FillModel))
@pytest.mark.parametrize("seed", range(5))
def test_seen_at_the_close_itself_it_is_the_plain_backtest(seed: int, fill: FillModel) -> None:
    """With e = 0, every figure to its last digit."""
    view = early(walk(seed))
    plain = backtest(view.tape, P, CAPITAL, start=START, fill=fill)
    seen = view.seen(np.zeros(420))

    columns = ("close", "ma_50", "rsi", "atr", "volume", "volume_ma_20", "vix")
    assert {name: getattr(view.tape, name)[START:].tolist() for name in columns} == {
        name: getattr(seen, name)[START:].tolist() for name in columns
    }
    assert plain == backtest(view.tape, P, CAPITAL, start=START, fill=fill, decided_on=seen)


def test_decided_on_what_was_seen_and_filled_at_the_close() -> None:
    """Closes 100, 101, 109 and 109: seen at 99.00, 5,000 / (99 x 1.01 x 1.001) buys 49; seen at 110 the target is met.

    Bought at 100.00 and sold at 109.00, which by itself is below the target of 110.00; marked at the true closes.
    """
    count = 4
    same: dict[str, Any] = {
        "sessions": [date(2024, 1, day) for day in (2, 3, 4, 5)],
        "open": np.full(count, 100.0),
        "volume": np.full(count, 2e6),
        "ma_50": np.full(count, 90.0),
        "atr": np.full(count, 2.5),
        "volume_ma_20": np.full(count, 1e6),
        "vix": np.full(count, 18.0),
        "rsi": np.array([60.0, 60.0, 60.0, 40.0]),
    }
    close = Tape(**same, close=np.array([100.0, 101.0, 109.0, 109.0]))
    seen = Tape(**same, close=np.array([99.0, 101.0, 110.0, 109.0]))
    result = backtest(close, P, CAPITAL, start=0, decided_on=seen)

    assert [(49, 100.0, 109.0)] == [(trade.shares, trade.entry_price, trade.exit_price) for trade in result.trades]
    assert pytest.approx([4995.1, 5044.1, 5430.759, 5430.759]) == result.equity
    assert () == backtest(close, P, CAPITAL, start=0).trades


def test_a_close_far_above_the_price_seen_buys_no_more_than_there_is_money_for() -> None:
    """Sized on 90.00 for 54 (5,000 / 90.9909 = 54.95), filled at 100.00: 5,000 / 100.10 = 49.95, so 49."""
    names = ("open", "volume", "ma_50", "rsi", "atr", "volume_ma_20", "vix")
    numbers = (100.0, 2e6, 80.0, 60.0, 2.5, 1e6, 18.0)
    same = {name: np.array([number]) for name, number in zip(names, numbers, strict=True)}
    close, seen = (Tape(sessions=[date(2024, 1, 2)], close=np.array([price]), **same) for price in (100.0, 90.0))

    assert [49] == backtest(close, P, CAPITAL, start=0, decided_on=seen).shares


def test_the_band_is_the_middle_of_the_trials() -> None:
    """21 trials that cost 0, 1, ... 20 % a side instead of noise: their 5 %, 50 % and 95 % are the 2nd, 11th and 20th.

    None of them acts on another session than the plain one does, but for costs that forbid an entry.
    """
    view = early(walk(6))
    trials = [backtest(view.tape, P, CAPITAL, start=START, slippage_pct=n / 100) for n in range(21)]
    found = decision_noise(trials[0], trials, CAPITAL, -4.5)
    returns = sorted(trial.equity[-1] / CAPITAL - 1 for trial in trials)

    assert pytest.approx([returns[1], returns[10], returns[19], trials[0].equity[-1] / CAPITAL - 1]) == [
        getattr(found.total_return, part) for part in ("low", "median", "high", "at_close")
    ]
    assert (21, 0.0, float(len(trials[0].trades))) == (found.trials, found.changed_sessions.high, found.trades.median)


def test_an_entry_a_session_later_changes_two_sessions() -> None:
    """Bought on the second session instead of the first: nothing done where something was, and the reverse."""
    columns = walk(7, 301)
    plain_tape = tape(columns)
    never = dict.fromkeys(("ma_50", "rsi"), np.full(301, 60.0))

    def entered(volumes: list[float]) -> Any:
        volume = np.array([1.0] * 299 + volumes)
        changed = {"volume": volume, "volume_ma_20": np.full(301, 2.0), "vix": np.full(301, 15.0)}
        names = ("sessions", "open", "close", "atr")
        return backtest(
            Tape(**{name: getattr(plain_tape, name) for name in names}, **(never | changed)), P, CAPITAL, start=START
        )

    found = decision_noise(entered([3.0, 3.0]), [entered([1.0, 3.0])], CAPITAL, 0.0)

    assert 2.0 == found.changed_sessions.median
