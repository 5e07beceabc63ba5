"""What thousands of combinations cost: `python benchmarks/sweep.py`. Peers come by `pip install 'mtum-eod[bench]'`.

Indicators and trades of every combination of ma_period, rsi_entry_threshold, vix_entry_threshold, atr_multiplier. The
final equity of each must be the same everywhere before anything is timed. The others give the final equity alone; ours
counts trades and wins besides, and in one row works out drawdown and Sharpe ratio.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from statistics import median

import joblib
import numpy as np
import peers
from backtest import WITHOUT_CAP, missing
from history import data_folder, real_history, repeated, series_of
from peers import CAPITAL, DEFAULTS, START, Combination, Series
from timing import PROGRAM, Row, compare_calls, peak_memory, timed

from mtum_eod.adapters.workers import Spread, in_turn
from mtum_eod.core.indicators import Floats
from mtum_eod.core.parameters import Parameters
from mtum_eod.core.sweep import Grid, Market, Tried, joined, market, sweep, to_measure
from mtum_eod.jobs.backtest import History
from mtum_eod.jobs.sweep import CHUNK

CORES = 2
PEER_CHUNKS = (50, 100, 250, 500)
"""Combinations that vectorbt may be given at a time; it gets what suits it best."""

MEGABYTES = 500

AXES = {
    1_000: {
        "ma_period": tuple(range(20, 120, 10)),
        "rsi_entry_threshold": (45.0, 50.0, 55.0, 60.0, 65.0),
        "vix_entry_threshold": (18.0, 20.0, 22.0, 25.0, 28.0),
        "atr_multiplier": (2.0, 3.0, 4.0, 5.0),
    },
    10_000: {
        "ma_period": tuple(range(10, 110, 5)),
        "rsi_entry_threshold": tuple(40 + 2.5 * k for k in range(10)),
        "vix_entry_threshold": tuple(16 + 1.5 * k for k in range(10)),
        "atr_multiplier": (2.0, 3.0, 4.0, 5.0, 6.0),
    },
    100_000: {
        "ma_period": tuple(range(10, 110)),
        "rsi_entry_threshold": tuple(40 + 2.5 * k for k in range(10)),
        "vix_entry_threshold": tuple(16 + 1.5 * k for k in range(10)),
        "atr_multiplier": tuple(2 + 0.5 * k for k in range(10)),
    },
}


def ours(history: History, count: int, jobs: int = 1, p: Parameters = DEFAULTS, curves: bool = False) -> Tried:
    """Measure and try all combinations, as `mtum-eod sweep --jobs` does; with `curves` as it does for `--by sharpe`."""
    grid = Grid(base=p, axes=AXES[count])
    measured = market((one, history.tape(one, START, lambda *_: None)) for one in to_measure(grid))
    size = min(CHUNK, -(-count // jobs))
    spread = in_turn if jobs == 1 else Spread(jobs, "loky", None)
    ranges = (range(low, min(low + size, count)) for low in range(0, count, size))
    return joined(list(spread(_try, ((measured, grid, some, curves) for some in ranges))))


def _try(measured: Market, grid: Grid, some: range, curves: bool) -> Tried:
    return sweep(measured, grid, some, CAPITAL, start=START, curves=curves)


def combinations(count: int) -> list[Combination]:
    """The same ones in the same order, for the peers."""
    return list(product(*AXES[count].values()))


def chunks(count: int, size: int) -> Iterator[list[Combination]]:
    """For vectorbt."""
    every = combinations(count)
    return (every[low : low + size] for low in range(0, count, size))


_order: list[object] = []
"""vectorbt's order function, compiled once in each process."""


def by_orders(series: Series, some: list[Combination]) -> Floats:
    """Final equity by vectorbt's `from_order_func`."""
    if not _order:
        _order.append(peers.order_function())
    return np.asarray(peers.orders_portfolio(series, some, _order[0]).final_value())


def by_signals(series: Series, some: list[Combination]) -> Floats:
    """Final equity by vectorbt's `from_signals`, which knows no cap in USD."""
    return np.asarray(peers.signals_portfolio(series, some).final_value())


def vectorbt(
    way: Callable[[Series, list[Combination]], Floats], series: Series, count: int, jobs: int = 1, size: int = 0
) -> Floats:
    """All combinations, chunk by chunk, over processes that are kept from call to call.

    size: combinations in a chunk; 0 for what took this way the least time in one trial of 1,000.
    """
    parallel = joblib.Parallel(n_jobs=jobs)
    every = chunks(count, size or best_size(way, series))
    return np.concatenate(parallel(joblib.delayed(way)(series, some) for some in every))


_best: dict[Callable[..., Floats], int] = {}


def best_size(way: Callable[[Series, list[Combination]], Floats], series: Series) -> int:
    """Which of PEER_CHUNKS is the fastest; says so."""
    if way not in _best:
        way(series, combinations(1_000)[:10])  # compiles
        took = {
            size: median(timed(lambda size=size: vectorbt(way, series, 1_000, size=size)) for _ in range(3))
            for size in PEER_CHUNKS
        }
        _best[way] = min(took, key=lambda size: took[size])
        trials = ", ".join(f"{size}: {seconds:.3f} s" for size, seconds in took.items())
        print(f"vectorbt, {way.__name__}, 1,000 combinations by {trials}", flush=True)
    return _best[way]


def measure(folder: Path, pairs: int = 5) -> list[Row]:
    """Ours against vectorbt and the compiled floor, then its memory and how it grows."""
    history = real_history()
    rows = _against_peers(history, pairs) if "vectorbt" not in missing() else []
    return [*rows, *_growth(history, pairs), _memory(folder)]


def _against_peers(history: History, pairs: int) -> list[Row]:
    series, compiled = series_of(history), peers.floor_function()
    agree("vectorbt, from_order_func", vectorbt(by_orders, series, 1_000), ours(history, 1_000).equity)

    def row(
        count: int,
        jobs: int,
        name: str,
        other: Callable[[], object],
        p: Parameters,
        goal: float | None = None,
        *,
        curves: bool = False,
    ) -> Row:
        what = f"{count:,} combinations, {jobs} process{'es' * (jobs > 1)}{', drawdown and Sharpe too' * curves}"
        return compare_calls(what, lambda: ours(history, count, jobs, p, curves), name, other, goal=goal, pairs=pairs)

    def rows(count: int, goal: float | None) -> list[Row]:
        def the_floor() -> Floats:
            return peers.compiled_floor(series, combinations(count), compiled)

        def signals(jobs: int) -> Callable[[], Floats]:
            return lambda: vectorbt(by_signals, series, count, jobs)

        agree("the compiled floor", the_floor(), ours(history, count).equity)
        agree("vectorbt, from_signals, both without the cap", signals(1)(), ours(history, count, p=WITHOUT_CAP).equity)
        name = "vectorbt, from_signals (both without the cap)"
        return [
            row(count, 1, name, signals(1), WITHOUT_CAP),
            row(count, CORES, name, signals(CORES), WITHOUT_CAP, goal),
            row(count, CORES, name, signals(CORES), WITHOUT_CAP, curves=True),
            row(count, CORES, "the compiled floor, as many threads", the_floor, DEFAULTS),
        ]

    by_order = row(1_000, 1, "vectorbt, from_order_func", lambda: vectorbt(by_orders, series, 1_000), DEFAULTS)
    return [by_order, *rows(1_000, None), *rows(10_000, 1 / 10)]


def agree(peer: str, found: Floats, expected: Floats) -> None:
    """Ends the program where a combination ends with another equity than ours."""
    differing = np.flatnonzero(~np.isclose(found, expected, rtol=1e-9, atol=0))
    if len(found) != len(expected) or differing.size:
        sys.exit(f"{peer} does not trade as we do: {differing.size} of {len(expected)} combinations differ")
    print(f"{peer}: the same final equity for all {len(expected):,} combinations", flush=True)


def _growth(history: History, pairs: int) -> list[Row]:
    long, decided = repeated(history, 4), len(history.sessions) - START
    rows = [
        compare_calls(
            f"a combination among {many:,}", lambda many=many: ours(history, many),
            f"a combination among {few:,}", lambda few=few: ours(history, few),
            goal=1.2, pairs=pairs, per=(many, few),
        )
        for few, many in ((1_000, 10_000), (10_000, 100_000))
    ]  # fmt: skip
    sessions = len(long.sessions) - START
    rows.append(
        compare_calls(
            f"a session among {sessions:,}, 10,000 combinations",
            lambda: ours(long, 10_000),
            f"a session among {decided:,}",
            lambda: ours(history, 10_000),
            goal=1.2,
            pairs=pairs,
            per=(sessions, decided),
        )
    )
    return rows


def _memory(folder: Path) -> Row:
    config = f'[data]\nsource = "csv"\ncsv_dir = {json.dumps(str(data_folder()))}\n'
    (folder / "settings.toml").write_text(config, encoding="utf-8")
    varied = [f"{name}={','.join(map(str, values))}" for name, values in AXES[10_000].items()]
    command = [str(PROGRAM), "sweep", "--json", *(word for one in varied for word in ("--vary", one))]
    peak = max(peak_memory(command, folder) for _ in range(3))
    row = Row(
        what="peak memory of mtum-eod sweep, 10,000 combinations",
        against="the limit",
        unit="MiB",
        measured=peak,
        measured_against=MEGABYTES,
        ratio=peak / MEGABYTES,
        goal=1,
        pairs=3,
    )
    row.show()
    return row


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        sys.exit(not all(row.is_reached for row in measure(Path(name))))
