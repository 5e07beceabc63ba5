"""What a session costs in the simulation of tests/simulation: `python benchmarks/lives.py`. One process, one core.

A session there is some six runs of the whole program and seventy calls of its ports, with their troubles, and every
invariant after each run.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from timing import Row, compare_calls, held_to, timed

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from simulation.__main__ import YEAR, one

SEEDS = range(8)
PER_SECOND = {"real": 100, "fake": 1000}
"""The goals by store: SQLite in memory, and the simulation's own book without SQL."""
NAMES = {"real": "SQLite in memory", "fake": "the book in memory"}


def measure(turns: int = 3) -> list[Row]:
    """A session of the same eight lives beside the goals; then, on each store, in lives of five years and of one."""
    rows = [_beside_goal(store, turns) for store in PER_SECOND]
    for store, name in NAMES.items():
        rows.append(
            compare_calls(
                f"a session of a life of five years, {name}", partial(_live, store, 5 * YEAR),
                "a session of a life of one year", partial(_live, store, YEAR),
                goal=1.1, pairs=2, per=(_lived(5 * YEAR), _lived(YEAR)),
            )
        )  # fmt: skip
    return rows


def _beside_goal(store: str, turns: int) -> Row:
    costs = [timed(partial(_live, store, YEAR)) / _lived(YEAR) for _ in range(turns + 1)][1:]
    rate = PER_SECOND[store]
    return held_to(1 / rate, f"a simulated session, {NAMES[store]}", costs, f"the goal, {rate:,} a second")


def _lived(sessions: int) -> int:
    return sessions * len(SEEDS)


def _live(store: str, sessions: int) -> None:
    for seed in SEEDS:
        broken = one((seed, sessions, store, None, False))["broken"]
        if broken:
            sys.exit(f"seed {seed} broke an invariant, so there is nothing to time: {broken}")


if __name__ == "__main__":
    sys.exit(not all(row.is_reached for row in measure()))
