"""What a backtest costs: `python benchmarks/backtest.py`. Peers come by `pip install 'mtum-eod[bench]'`.

Every peer plays SPEC's rules over the same history, and its round trips (sessions and shares) must be ours before it
is timed; else the benchmark ends. Each is asked for its trades and, where it can, the equity at each session's close.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import peers
from book import run_range
from history import data_folder, frame_of, real_history, series_of
from peers import CAPITAL, DEFAULTS, ONE, START, RoundTrip
from timing import PEERS, PROGRAM, Row, compare, compare_calls

from mtum_eod.core.backtest import BacktestResult, backtest
from mtum_eod.core.parameters import Parameters
from mtum_eod.jobs.backtest import History

IMPORTS = "pandas, talib, exchange_calendars, pydantic, click"
WITHOUT_CAP = replace(DEFAULTS, risk=replace(DEFAULTS.risk, max_position_size=1e12))


def ours(history: History, p: Parameters = DEFAULTS) -> BacktestResult:
    """Indicators and the run, as `mtum-eod backtest` does them."""
    return backtest(history.tape(p.strategy, START, lambda *_: None), p, CAPITAL, start=START)


def measure(folder: Path, pairs: int = 15) -> list[Row]:
    """One backtest in this process against each peer that is installed, then the whole process against its imports."""
    history = real_history()
    return [*_in_process(history, pairs), *_whole_process(folder, pairs)]


def missing() -> list[str]:
    """The peers that are not installed; says so."""
    absent = [name for name in PEERS if not find_spec(name)]
    if absent:
        print(f"left out, not installed: {', '.join(absent)}; pip install 'mtum-eod[bench]'", flush=True)
    return absent


def _in_process(history: History, pairs: int) -> list[Row]:
    absent, frame, series = missing(), frame_of(history), series_of(history)
    rows = []

    def row(
        peer: str, run: Callable[[], object], found: list[RoundTrip], goal: float, times: int, p: Parameters = DEFAULTS
    ) -> None:
        agree(peer, found, ours(history, p))
        rows.append(
            compare_calls(
                "one backtest", lambda: ours(history, p), peer, run, goal=goal, pairs=pairs, times=(times, times)
            )
        )

    if "vectorbt" not in absent:
        order = peers.order_function()

        def by_orders() -> list[RoundTrip]:
            portfolio = peers.orders_portfolio(series, [ONE], order)
            portfolio.value()
            return peers.round_trips(portfolio, history.sessions)

        def by_signals() -> list[RoundTrip]:
            portfolio = peers.signals_portfolio(series, [ONE])
            portfolio.value()
            return peers.round_trips(portfolio, history.sessions)

        row("vectorbt, from_order_func", by_orders, by_orders(), 1 / 4, 5)
        row("vectorbt, from_signals (both without the cap)", by_signals, by_signals(), 1 / 4, 5, WITHOUT_CAP)
    if "backtesting" not in absent:
        run = peers.backtesting(frame)
        row("backtesting.py", run, run(), 1 / 30, 3)
    if "backtrader" not in absent:
        run = peers.backtrader(frame)
        row("backtrader", run, run(), 1 / 30, 1)
    return rows


def agree(peer: str, found: list[RoundTrip], result: BacktestResult) -> None:
    """Ends the program where a peer's round trips are not ours."""
    expected = [(trade.entry_session, trade.shares, trade.exit_session) for trade in result.trades]
    differing = next((k for k, pair in enumerate(zip(expected, found, strict=False)) if pair[0] != pair[1]), None)
    if differing is not None or len(expected) != len(found):
        at = "" if differing is None else f"; the first that differs: {expected[differing]} and {found[differing]}"
        sys.exit(f"{peer} does not trade as we do: {len(expected)} round trips against {len(found)}{at}")
    print(f"{peer}: the same {len(found)} round trips, sessions and shares", flush=True)


def _whole_process(folder: Path, pairs: int) -> list[Row]:
    config = f'[data]\nsource = "csv"\ncsv_dir = {json.dumps(str(data_folder()))}\n'
    (folder / "settings.toml").write_text(config, encoding="utf-8")
    book = run_range(folder / "book.db", "2022-12-01", "2022-12-30")

    def row(what: str, imports: str, database: Path | None) -> Row:
        return compare(
            f"backtest --json, the whole process, {what}", [str(PROGRAM), "backtest", "--json"],
            f"importing {imports}", [sys.executable, "-c", f"import {imports}"],
            goal=1.5, pairs=pairs, folder=folder, databases=(database, None),
        )  # fmt: skip

    return [row("no database", IMPORTS, None), row("a database", f"{IMPORTS}, sqlalchemy", book)]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        sys.exit(not all(row.is_reached for row in measure(Path(name))))
