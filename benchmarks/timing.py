"""Whole processes timed in turn, A B A B, so that a busy machine is busy for both; medians of the pairs' ratios."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median

PROGRAM = Path(sys.executable).with_name("mtum-eod")
"""The console script of the environment this runs in."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One comparison."""

    what: str
    against: str
    seconds: float  # median wall time of `what`
    seconds_against: float
    ratio: float  # median of the pairs' ratios
    goal: float
    pairs: int

    @property
    def is_reached(self) -> bool:
        return self.ratio <= self.goal


def compare(
    what: str,
    command: Sequence[str],
    against: str,
    other: Sequence[str],
    *,
    goal: float,
    pairs: int,
    folder: Path,
    databases: tuple[Path | None, Path | None] = (None, None),
    before: Callable[[], object] = lambda: None,
) -> Row:
    """Both commands `pairs` times in turn in `folder`, after one unmeasured turn that fills the caches.

    databases: where the database of each is, or None for one that does not exist. before: runs before each pair.
    """
    times: list[tuple[float, float]] = []
    for _ in range(pairs + 1):
        before()
        times.append(tuple(_timed(each, folder, db) for each, db in zip((command, other), databases, strict=True)))
    measured = times[1:]
    row = Row(
        what=what,
        against=against,
        seconds=median(a for a, _ in measured),
        seconds_against=median(b for _, b in measured),
        ratio=median(a / b for a, b in measured),
        goal=goal,
        pairs=pairs,
    )
    print(
        f"{row.ratio:6.2f}  goal {row.goal:<4g} {'reached' if row.is_reached else 'MISSED '}  "
        f"{row.seconds:.3f} s against {row.seconds_against:.3f} s  {what}  ÷  {against}",
        flush=True,
    )
    return row


def _timed(command: Sequence[str], folder: Path, database: Path | None) -> float:
    # PYTHONDONTWRITEBYTECODE would have every process compile this project's sources, but not its vendors', again.
    inherited = {
        k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE" and not k.startswith("MTUM_EOD_")
    }
    url = f"sqlite:///{(database or folder / 'none.db').absolute()}"
    environment = inherited | {"MTUM_EOD_DATABASE__URL": url}
    started = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return seconds


def machine() -> str:
    """Versions and the kind of machine, one line, without a name or a path."""
    names = ("pandas", "numpy", "TA-Lib", "SQLAlchemy", "exchange_calendars", "pydantic", "click")
    versions = ", ".join(f"{name} {version(name)}" for name in ("mtum-eod", *names))
    kind = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return f"Python {platform.python_version()}, {versions}; {kind}"


def table(rows: Sequence[Row]) -> str:
    """The rows as a table in Markdown."""
    lines = [
        "| what | against | ratio | goal | | seconds | pairs |",
        "|---|---|---:|---:|---|---:|---:|",
        *(
            f"| {r.what} | {r.against} | {r.ratio:.2f} | {r.goal:g} | {'reached' if r.is_reached else '**missed**'} "
            f"| {r.seconds:.3f} : {r.seconds_against:.3f} | {r.pairs} |"
            for r in rows
        ),
    ]
    return "\n".join(lines)


def copy_database(source: Path, target: Path) -> Path:
    """A copy of a database that nobody has open, on the disk: else the first commit would wait for all of it."""
    shutil.copyfile(source, target)
    with target.open("rb") as copy:
        os.fsync(copy.fileno())
    return target
