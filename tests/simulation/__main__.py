"""Live many seeds over all cores: `python -m simulation --seeds 0:1000`, from the folder tests.

Ends with code 1 where an invariant broke or a fault point was never reached, and prints each failure as a test.
Interrupted, it goes on where it was, if it was given `--results`.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import subprocess
import sys
import time
from collections import Counter
from datetime import timedelta
from functools import cache
from multiprocessing import Pool
from pathlib import Path
from typing import Any

from simulation.defects import DEFECTS, planted
from simulation.driver import live
from simulation.fake_store import FakeStore
from simulation.invariants import Broken
from simulation.plan import ORDERS, POINTS, TORN, drawn, drawn_stormy, drawn_torn
from simulation.shrink import as_test, shrunk
from simulation.stores import FileStore, MemoryStore

STORES = {"fake": FakeStore, "real": MemoryStore, "file": FileStore, "torn": FileStore}
YEAR = 252
QUIET = 30.0
"""Seconds between two lines of progress where there is no terminal to draw it on."""

Task = tuple[int, int, str, str | None, bool]
"""A life to live: its seed, how many sessions, on which store, with which bug planted, and whether in storms."""

ROOT = Path(__file__).parents[2]
OF_A_BUILD = ("mtum_eod", "tests/simulation")
"""What a life follows from besides its seed."""


@cache
def build() -> str:
    """The commit that is lived on, marked where program or simulation differ from it; empty where there is none."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + "-changed" * bool(git("status", "--porcelain", "--", *OF_A_BUILD))
    except (OSError, subprocess.CalledProcessError):
        return ""


def one(task: Task) -> dict[str, Any]:
    """Live one seed; what it came to, ready for JSON."""
    seed, sessions, store, defect, is_stormy = task
    logging.disable(logging.CRITICAL)
    gc.disable()  # what a life leaves behind in circles is swept up after it
    began = time.process_time()
    draw = drawn_stormy if is_stormy else drawn_torn if store == "torn" else drawn
    life, broken, world, test = draw(seed, sessions), None, None, ""

    def lived(some: Any) -> Any:
        return live(some, STORES[store])

    with planted(defect):
        try:
            world = lived(life)
        except Broken as error:
            broken, world = error, error.world
        lived_for = time.process_time() - began
        if broken:
            test = as_test(shrunk(life, broken, lived), broken, STORES[store])
    assert world is not None
    gc.collect()
    return {
        "seed": seed,
        "sessions": sessions,
        "store": store,
        "defect": defect,
        "stormy": is_stormy,
        "lived": broken.session + 1 if broken else sessions,
        "orders": len(world.broker.arrivals),
        "reached": {".".join(point): count for point, count in world.reached.items()},
        "broken": str(broken) if broken else "",
        "test": test,
        "seconds": round(lived_for, 2),
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m simulation", description=__doc__)
    parser.add_argument("--seeds", default="0:100", help="FIRST:END, the end not included")
    parser.add_argument("--sessions", type=int, default=YEAR, help=f"sessions a seed lives; {YEAR} are a year")
    parser.add_argument(
        "--store",
        choices=STORES,
        default="fake",
        help="real: SQLite in memory; file: SQLite on files; torn: the same, and the power fails every other session, "
        "which alone is asked for",
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--results",
        type=Path,
        help="one JSON line a seed; seeds that are in it already, lived on this very commit, are not lived again",
    )
    parser.add_argument("--defect", choices=DEFECTS, help="plant this bug")
    parser.add_argument(
        "--stormy", action="store_true", help="every few weeks much goes wrong at once, most often around a split"
    )
    asked = parser.parse_args()
    if asked.stormy and asked.store == "torn":
        parser.error("--stormy draws no power failures: leave out `--store torn`, which alone does")
    return asked


def main() -> int:
    asked = arguments()
    seeds = range(*map(int, asked.seeds.split(":")))
    known = _known(asked)
    built = build()  # as it stands when the first life begins
    tasks = [(seed, asked.sessions, asked.store, asked.defect, asked.stormy) for seed in seeds if seed not in known]
    results, began = [known[seed] for seed in seeds if seed in known], time.perf_counter()
    if results:
        print(f"{len(results)} seeds were lived before", file=sys.stderr)
    said_at = 0.0
    with Pool(asked.jobs, maxtasksperchild=50) as pool:
        for number, result in enumerate(pool.imap_unordered(one, tasks), 1):
            result["build"] = built
            results.append(result)
            if asked.results:
                with asked.results.open("a") as file:
                    file.write(json.dumps(result) + "\n")
            elapsed = time.perf_counter() - began
            left = timedelta(seconds=int(elapsed / number * (len(tasks) - number)))
            rate = number * asked.sessions / elapsed
            said = f"{number} of {len(tasks)} seeds, {rate:.0f} sessions a second, {left} left"
            if sys.stderr.isatty():
                print(f"\r{said} ", end="", file=sys.stderr)
            elif elapsed > said_at + QUIET:
                said_at = elapsed
                print(said, file=sys.stderr)
            if result["broken"]:
                print(f"\nseed {result['seed']}: {result['broken']}\n\n{result['test']}", flush=True)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return judge(results, asked.store)


def _known(asked: argparse.Namespace) -> dict[int, dict[str, Any]]:
    """The results of seeds already lived as asked for, on this build; a line that an interruption cut short is none.

    A build that differs from its commit is never the same: nobody knows how it differed then.
    """
    known: dict[int, dict[str, Any]] = {}
    wanted = (build(), asked.sessions, asked.store, asked.defect, asked.stormy)
    if not wanted[0] or wanted[0].endswith("-changed"):
        return known
    for line in asked.results.read_text().splitlines() if asked.results and asked.results.exists() else ():
        try:
            result = json.loads(line)
        except ValueError:
            continue
        if tuple(result.get(name) for name in ("build", "sessions", "store", "defect", "stormy")) == wanted:
            known[result["seed"]] = result
    return known


def judge(results: list[dict[str, Any]], store: str) -> int:
    """Print what all seeds came to; 1 where something broke or was never reached."""
    reached: Counter[str] = Counter()
    for result in results:
        reached.update(result["reached"])
    asked_for = {"file": POINTS, "torn": [point for point in POINTS if point[1] == TORN]}
    wanted = [".".join(point) for point in asked_for.get(store, [point for point in POINTS if point[1] != TORN])]
    if store != "torn":
        wanted += [f"order.{kind}" for kind in ORDERS]
    sent = {name: reached.pop(name) for name in sorted(reached) if name.startswith("order.")}
    never = [name for name in wanted if not reached[name] and not sent.get(name)]
    broken = [result for result in results if result["broken"]]
    sessions, orders, seconds = (sum(result[name] for result in results) for name in ("lived", "orders", "seconds"))
    kinds = Counter[str]()
    for name, count in reached.items():
        kinds[name.split(".")[0]] += count
    faults = ", ".join(f"{kind} {count:,}" for kind, count in kinds.most_common())
    span = f"seeds {min(r['seed'] for r in results)} to {max(r['seed'] for r in results)}" if results else "no seeds"
    print(
        f"FIGURE store {store}, {span}: {sessions / YEAR:,.0f} years, {sessions:,} sessions, {orders:,} orders, "
        f"{len(broken)} seeds broke an invariant\n"
        f"FIGURE store {store}: {reached.total():,} faults ({faults}), "
        f"{len(wanted) - len(never)} of {len(wanted)} fault points and kinds of orders reached\n"
        f"FIGURE store {store}: orders sent: {', '.join(f'{name[6:]} {count:,}' for name, count in sent.items())}\n"
        f"FIGURE store {store}: {seconds:,.0f} s of processor, "
        f"{sessions / max(seconds, 0.01):.0f} sessions a second and core"
    )
    for result in broken:
        print(f"broken: seed {result['seed']}: {result['broken'][:150]}")
    if never:
        print(f"never reached: {', '.join(never)}")
    return 1 if broken or never else 0


if __name__ == "__main__":
    sys.exit(main())
