"""Every benchmark, and docs/benchmarks.md written from it: `python benchmarks`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import backtest
import growth
import lives
import startup
import sweep
import wire
from timing import machine, table

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
TEXT = """# Benchmarks

How long the program takes, as ratios measured in one run: the two sides start in turn, the ratio is the median of the
pairs' ratios, so that a busy machine counts for both. Seconds are medians and only say what the ratios are made of.
Written by `python benchmarks`; `startup.py`, `growth.py`, `wire.py`, `backtest.py`, `sweep.py` and `lives.py` there
measure one part each. `backtest.py` and `sweep.py` need the real history (MTUM_EOD_TEST_DATA), and the other
backtesters: `pip install 'mtum-eod[bench]'`.

{machine}

## Starting

A command works for a few hundredths of a second; nearly all of the rest is imports. So a dry run is held against a
bare process that imports the three heaviest packages, all of which it needs itself once there is a database.

{startup}

What keeps it there: nothing heavy is imported before the arguments are good; SQLAlchemy waits for a database, Alembic
for a migration; of the exchange calendar only the rules in force are worked out; the settings' validators are built
once; the garbage collector is off during commands that end in a second, and on during ranges.

## A long history

The same book with 500 sessions run for real and with 25,000: their rows copied to earlier years.

{growth}

## An order

`mtum-eod run` in paper mode against the tests' TWS server, on a book with a session in it. Between the last byte of
market data and the order lie the broker's position, cash and order lists, the decision, and its commit, whose own time
is taken off. This one is no ratio of two sides: on a busy machine it says how busy that is.

{wire}

## One backtest

Indicators and the run over MTUM's real history to 2022, in one process, without imports and loading. Every peer plays
this project's rules: 300 bars of warm-up, four exits, size with buffer and cap. Before it is timed, its round trips
must be ours, each with its sessions and shares; they are. Asked for: the closed trades, and the equity at each
session's close, which only backtrader is spared. backtesting.py always computes its statistics too. vectorbt's
`from_signals` cannot cap a position in USD, so there both sides go without the cap. Its compiling is not counted.

{backtest}

The whole process reads both CSV files and writes the document; it is held against the imports it cannot avoid.

## Thousands of combinations

ma_period, rsi_entry_threshold, vix_entry_threshold and atr_multiplier over the same history, indicators included.
The final equity of each combination must be the same on both sides before anything is timed; it is. Ours counts trades
and wins besides; drawdown and Sharpe ratio it works out for the combinations it shows, or for all with `--by sharpe`:
that has a row of its own. vectorbt, its Rust engine installed, gets as many combinations at a time as suits it best
(50, 100, 250 or 500, by a trial of 1,000), and its processes, like ours, are warm. The compiled floor is the bare loop
over the sessions, by numba: the final equity, nothing else.

{sweep}

## Simulated trouble

What [docs/reliability.md](reliability.md) tells of, one process on one core: eight seeds, a year each, faults and
invariants included, which are some six runs of the whole program and seventy calls of its ports a session. SQLite is
held to 100 sessions a second, the simulation's own book, which does the same without SQL, to 1,000. The second is out
of reach for Python code that really decides, settles and checks: no function of it takes more than some 3 %.

{lives}
"""


def main() -> None:
    """Measure, show, write the page; the exit code says whether every goal is reached."""
    with tempfile.TemporaryDirectory() as name:
        started = startup.measure(Path(name))
        grown = growth.measure(Path(name))
        sent = wire.measure(Path(name))
        run = backtest.measure(Path(name))
        swept = sweep.measure(Path(name))
        lived = lives.measure()
    text = TEXT.format(
        machine=machine(),
        startup=table(started),
        growth=table(grown),
        wire=table(sent),
        backtest=table(run),
        sweep=table(swept),
        lives=table(lived),
    )
    PAGE.write_text(text, encoding="utf-8")
    sys.exit(not all(row.is_reached for row in (*started, *grown, *sent, *run, *swept, *lived)))


if __name__ == "__main__":
    main()
