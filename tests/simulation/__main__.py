"""Live many seeds over all cores: `python -m simulation --seeds 0:1000`, from the folder tests.

Ends with code 1 where an invariant broke or a fault point was never reached, and prints each failure as a test.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from collections import Counter
from multiprocessing import Pool
from pathlib import Path
from typing import Any

from simulation.defects import DEFECTS, planted
from simulation.driver import live
from simulation.fake_store import FakeStore
from simulation.invariants import Broken
from simulation.plan import POINTS, drawn
from simulation.shrink import as_test, shrunk
from simulation.stores import MemoryStore

STORES = {"fake": FakeStore, "real": MemoryStore}


def one(task: tuple[int, int, str, str | None]) -> dict[str, Any]:
    """Live one seed; what it came to, ready for JSON."""
    seed, sessions, store, defect = task
    logging.disable(logging.CRITICAL)
    began = time.perf_counter()
    life, broken, world = drawn(seed, sessions), None, None

    def lived(some: Any) -> Any:
        return live(some, STORES[store])

    with planted(defect):
        try:
            world = lived(life)
        except Broken as error:
            broken, world = error, error.world
        test = as_test(shrunk(life, broken, lived), broken) if broken and defect is None else ""
    assert world is not None
    return {
        "seed": seed,
        "sessions": sessions,
        "store": store,
        "orders": len(world.broker.arrivals),
        "reached": {".".join(point): count for point, count in world.reached.items()},
        "broken": str(broken) if broken else "",
        "test": test,
        "seconds": round(time.perf_counter() - began, 2),
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m simulation", description=__doc__)
    parser.add_argument("--seeds", default="0:100", help="FIRST:END, the end not included")
    parser.add_argument("--sessions", type=int, default=252, help="sessions a seed lives; 252 are a year")
    parser.add_argument("--store", choices=STORES, default="fake", help="real: the SQLite store, in memory")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--results", type=Path, help="one JSON line a seed; seeds already in it are not lived again")
    parser.add_argument("--defect", choices=DEFECTS, help="plant this bug")
    return parser.parse_args()


def main() -> int:
    asked = arguments()
    first, end = map(int, asked.seeds.split(":"))
    known: dict[int, dict[str, Any]] = {}
    if asked.results and asked.results.exists():
        done = [json.loads(line) for line in asked.results.read_text().splitlines()]
        known = {one["seed"]: one for one in done if (one["sessions"], one["store"]) == (asked.sessions, asked.store)}
    tasks = [(seed, asked.sessions, asked.store, asked.defect) for seed in range(first, end) if seed not in known]
    results, began = [known[seed] for seed in range(first, end) if seed in known], time.perf_counter()
    with Pool(asked.jobs) as pool:
        for number, result in enumerate(pool.imap_unordered(one, tasks), 1):
            results.append(result)
            if asked.results:
                with asked.results.open("a") as file:
                    file.write(json.dumps(result) + "\n")
            rate = number * asked.sessions / (time.perf_counter() - began)
            print(f"\r{number} of {len(tasks)} seeds, {rate:.0f} sessions a second", end="", file=sys.stderr)
            if result["broken"]:
                print(f"\nseed {result['seed']}: {result['broken']}\n\n{result['test']}", flush=True)
    return judge(results)


def judge(results: list[dict[str, Any]]) -> int:
    """Print what all seeds came to; 1 where something broke or was never reached."""
    reached: Counter[str] = Counter()
    for result in results:
        reached.update(result["reached"])
    never = [name for name in map(".".join, POINTS) if not reached[name]]
    broken = [result for result in results if result["broken"]]
    sessions, orders = (sum(result[name] for result in results) for name in ("sessions", "orders"))
    print(
        f"\n{len(results)} seeds, {sessions} sessions, {orders} orders, {reached.total()} troubles at "
        f"{len(POINTS) - len(never)} of {len(POINTS)} points; {len(broken)} seeds broke an invariant"
    )
    if never:
        print(f"never reached: {', '.join(never)}")
    return 1 if broken or never else 0


if __name__ == "__main__":
    sys.exit(main())
