"""A backtest and the job lived session by session make the same trades, on histories nobody has seen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fakes import calendar
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lived import csv_settings, live, query, work_in

from mtum_eod.jobs.backtest import run_backtest

SESSIONS = 340
LAST = date(2024, 11, 5)
DECIDED = [str(session) for session in calendar().window(LAST, SESSIONS)[299:]]
TRADE = "entry_session, entry_price, shares, exit_session, exit_price, exit_reason, gross_pnl, costs, net_pnl, days"
CENT = 0.005


def sold_on_loss(limit: float) -> dict[str, str]:
    """The environment in which a daily loss of so many USD sells."""
    return {"MTUM_EOD_RISK__DAILY_LOSS_EXIT": "true", "MTUM_EOD_RISK__MAX_DAILY_LOSS": str(limit)}


HISTORIES = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32 - 1),
        "drift": st.floats(-0.002, 0.006),
        "volatility": st.floats(0.002, 0.03),
        "price": st.sampled_from([3.0, 60.0, 210.0, 1900.0]),
        "leaps": st.dictionaries(st.integers(300, SESSIONS - 1), st.floats(-0.35, 0.35), max_size=3),
        "vix": st.dictionaries(
            st.integers(295, SESSIONS - 1), st.sampled_from([24.99, 25.0, 30.0, 30.01, 80.0]), max_size=4
        ),
        "quiet": st.sets(st.integers(300, SESSIONS - 1), max_size=3),
    }
)
"""Random walks with crashes and leaps overnight, VIX at and around its thresholds, and sessions without volume."""


def write(folder: Path, asked: dict[str, Any]) -> None:
    """The history as two CSV files, prices in cents, ranges that contain open and close."""
    rng = np.random.default_rng(asked["seed"])
    moves = rng.normal(asked["drift"], asked["volatility"], SESSIONS)
    for at, leap in asked["leaps"].items():
        moves[at] += np.log1p(leap)
    close = np.round(asked["price"] * np.exp(np.cumsum(moves)), 2).clip(0.05)
    opened = np.round(close * np.exp(rng.normal(0, asked["volatility"] / 2, SESSIONS)), 2).clip(0.05)
    volume = rng.integers(500_000, 2_000_000, SESSIONS)
    volume[list(asked["quiet"])] = 0
    vix = np.full(SESSIONS, 18.0)
    for at, level in asked["vix"].items():
        vix[at] = level
    days = pd.Index(calendar().window(LAST, SESSIONS), name="Date")
    high, low = np.maximum(opened, close) + 0.01, np.minimum(opened, close) - 0.01
    bars = {"Open": opened, "High": high, "Low": low, "Close": close, "Adj Close": close, "Volume": volume}
    pd.DataFrame(bars, index=days).to_csv(folder / "MTUM.csv")
    pd.DataFrame(dict.fromkeys(("OPEN", "HIGH", "LOW", "CLOSE"), vix), index=days.rename("DATE")).to_csv(
        folder / "VIX.csv"
    )


def both(
    folder: Path, environ: Mapping[str, str], first: str = DECIDED[0], last: str = DECIDED[-1]
) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]], list[float], list[float]]:
    """Trades lived and backtested, to the cent and with all their reasons; equity at each session's close likewise."""
    place = work_in(folder, environ)
    done = run_backtest(place.desk(), date.fromisoformat(first), date.fromisoformat(last), lambda *_: None)
    live(place, first, last)
    lived = [
        (*cells, json.loads(reasons))
        for *cells, reasons in query(
            place.database,
            f"SELECT {TRADE}, exit_reasons FROM trades ORDER BY entry_session",  # noqa: S608
        )
    ]
    tested = [tuple(trade[name] for name in [*TRADE.split(", "), "exit_reasons"]) for trade in done.document["trades"]]
    equity = [value for (value,) in query(place.database, "SELECT value FROM equity ORDER BY session")]
    return lived, tested, equity, done.result.equity


def to_the_cent(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [tuple(pytest.approx(cell, abs=CENT) if isinstance(cell, float) else cell for cell in row) for row in rows]


@settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(HISTORIES, st.sampled_from([{}, sold_on_loss(20), sold_on_loss(150)]))
def test_a_generated_history_has_the_same_trades_lived_and_backtested(
    asked: dict[str, Any], risk: dict[str, str]
) -> None:
    """41 sessions decided, recorded, filled and settled in a database, beside the plain loop over the same files."""
    with TemporaryDirectory() as name:
        write(Path(name), asked)
        lived, tested, equity, backtested = both(Path(name), csv_settings(Path(name)) | risk)

    assert to_the_cent(lived) == tested
    assert len(DECIDED) == len(equity)
    assert pytest.approx(equity, abs=CENT) == backtested


def test_a_crash_and_a_spike_have_the_same_trades_lived_and_backtested(tmp_path: Path) -> None:
    """One that surely trades: VIX at 80 on 2024-09-27, a target met, a fall of 30 % overnight on 2024-10-23."""
    calm = {"seed": 3, "drift": 0.003, "volatility": 0.006, "price": 60.0, "quiet": {310}}
    write(tmp_path, calm | {"leaps": {330: -0.3}, "vix": {312: 80.0}})
    lived, tested, equity, backtested = both(tmp_path, csv_settings(tmp_path))

    assert to_the_cent(lived) == tested
    assert pytest.approx(equity, abs=CENT) == backtested
    assert ["vix", "atr_profit", "trend"] == [row[5] for row in tested]


def test_a_daily_loss_sells_in_a_range_as_in_a_backtest(tmp_path: Path) -> None:
    """Six months of the sample, where a loss of 60 USD since the last close sells, and entries go on after it."""
    lived, tested, equity, backtested = both(tmp_path, sold_on_loss(60), "2024-01-02", "2024-06-28")

    assert to_the_cent(lived) == tested
    assert pytest.approx(equity, abs=CENT) == backtested
    assert [("2024-05-10", ["daily_loss"]), ("2024-06-25", ["daily_loss"])] == [
        (row[3], row[-1]) for row in tested if row[5] == "daily_loss"
    ]
