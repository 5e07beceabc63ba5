"""Two sides timed in turn, A B A B, so that a busy machine is busy for both; medians of the pairs' ratios.

A side is a whole process or a call within this one.
"""

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
from importlib.util import find_spec
from pathlib import Path
from statistics import median

PROGRAM = Path(sys.executable).with_name("mtum-eod")
"""The console script of the environment this runs in."""

PEERS = ("backtesting", "backtrader", "vectorbt", "numba")
"""What the extra `bench` brings, by the names to import; numba comes with vectorbt."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One comparison."""

    what: str
    against: str
    measured: float  # of `what`: median wall time, or what `unit` says
    measured_against: float
    ratio: float  # median of the pairs' ratios
    goal: float | None  # None where the ratio only informs
    pairs: int
    unit: str = "s"

    @property
    def is_reached(self) -> bool:
        return self.goal is None or self.ratio <= self.goal

    @property
    def verdict(self) -> str:
        return "" if self.goal is None else "reached" if self.is_reached else "**missed**"

    def show(self) -> None:
        """Print it as one line; goal 0 is none."""
        print(
            f"{self.ratio:8.3g}  goal {self.goal or 0:<6.3g} {self.verdict:10}  "
            f"{self.measured:.3g} against {self.measured_against:.3g} {self.unit}  {self.what}  ÷  {self.against}",
            flush=True,
        )


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

    def pair() -> tuple[float, float]:
        before()
        return _timed(command, folder, databases[0]), _timed(other, folder, databases[1])

    return _row(what, against, pair, goal, pairs)


def compare_calls(
    what: str,
    call: Callable[[], object],
    against: str,
    other: Callable[[], object],
    *,
    goal: float | None,
    pairs: int,
    times: tuple[int, int] = (1, 1),
    per: tuple[float, float] = (1, 1),
) -> Row:
    """Both calls `pairs` times in turn, after one unmeasured turn that fills caches and compiles.

    times: how often each is called in one turn, which counts as their mean. per: what each one's time is divided by,
    to compare what one unit of work costs.
    """

    def pair() -> tuple[float, float]:
        return timed(call, times[0]) / per[0], timed(other, times[1]) / per[1]

    return _row(what, against, pair, goal, pairs)


def _row(what: str, against: str, pair: Callable[[], tuple[float, float]], goal: float | None, pairs: int) -> Row:
    measured = [pair() for _ in range(pairs + 1)][1:]
    row = Row(
        what=what,
        against=against,
        measured=median(a for a, _ in measured),
        measured_against=median(b for _, b in measured),
        ratio=median(a / b for a, b in measured),
        goal=goal,
        pairs=pairs,
    )
    row.show()
    return row


def held_to(limit: float, what: str, measured: Sequence[float], against: str = "the limit", unit: str = "s") -> Row:
    """The median of what was measured beside a limit: no ratio of two sides."""
    row = Row(
        what=what,
        against=against,
        measured=median(measured),
        measured_against=limit,
        ratio=median(measured) / limit,
        goal=1,
        pairs=len(measured),
        unit=unit,
    )
    row.show()
    return row


def timed(call: Callable[[], object], times: int = 1) -> float:
    """The seconds that a call took, on average."""
    started = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - started) / times


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


def peak_memory(command: Sequence[str], folder: Path) -> float:
    """The largest resident size that the process reaches, MiB.

    Started by a small process: Linux counts the starter's own peak to the one it starts.
    """
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=-3, stderr=-3);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    small = [sys.executable, "-c", code, *command]
    done = subprocess.run(small, cwd=folder, check=True, capture_output=True, text=True)
    return int(done.stdout) / (2**20 if sys.platform == "darwin" else 2**10)


def machine() -> str:
    """Versions and the kind of machine, one line, without a name or a path."""
    names = ["pandas", "numpy", "TA-Lib", "SQLAlchemy", "exchange_calendars", "pydantic", "click"]
    names += [name for name in PEERS if find_spec(name)]
    versions = ", ".join(f"{name} {version(name)}" for name in ("mtum-eod", *names))
    kind = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return f"Python {platform.python_version()}, {versions}; {kind}"


def table(rows: Sequence[Row]) -> str:
    """The rows as a table in Markdown."""
    lines = [
        "| what | against | ratio | goal | | measured | pairs |",
        "|---|---|---:|---:|---|---:|---:|",
        *(
            f"| {r.what} | {r.against} | {r.ratio:.3g} | {f'{r.goal:.3g}' if r.goal else ''} | {r.verdict} "
            f"| {r.measured:.3g} : {r.measured_against:.3g} {r.unit} | {r.pairs} |"
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
