"""How long an order waits between the market data and the wire: `python benchmarks/wire.py`.

A whole process against the TWS server of the tests, on a book with a session in it. The clock starts when the last
byte of market data has left the server and stops when the order has arrived: the broker's own questions, the decision
and what makes it durable lie between. What SQLite needs to commit is taken off: that is the disk's.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from timing import Row, copy_database, held_to

from tws_server import Server

LIMIT_SECONDS = 0.05
EVE, SESSION = date(2024, 11, 4), date(2024, 11, 5)
DATABASE = "mtum-eod-paper.db"
COMMITS = "commits.json"


def measure(folder: Path, runs: int = 15) -> list[Row]:
    """The seconds from the last byte of market data to the order, commits taken off, beside the limit."""
    eve = folder / "eve"
    eve.mkdir()
    with Server() as tws:
        for minutes, command in ((-20, "run"), (20, "settle")):
            tws.clock.set(tws.calendar.close(EVE) + timedelta(minutes=minutes))
            _type(command, tws, eve, {"MTUM_EOD_STRATEGY__VIX_ENTRY_THRESHOLD": "1"})
    waits = [_wait(eve / DATABASE, folder / f"run{number}") for number in range(runs + 1)][1:]
    what = "from the last byte of market data to the order on the wire, commits taken off"
    return [held_to(LIMIT_SECONDS, what, waits)]


def _wait(eve: Path, folder: Path) -> float:
    folder.mkdir()
    copy_database(eve, folder / DATABASE)
    passed: dict[str, float] = {}
    with Server() as tws:
        tws.on("historicalData", lambda _: passed.__setitem__("data", time.monotonic()), "after")
        tws.on("placeOrder", lambda _: passed.__setitem__("order", time.monotonic()), "before")
        _type("run", tws, folder, {})
    commits: list[tuple[float, float]] = json.loads((folder / COMMITS).read_text())
    between = [end - start for start, end in commits if passed["data"] < start and end < passed["order"]]
    if not between:
        sys.exit("nothing was committed before the order left: that is no run to measure")
    return passed["order"] - passed["data"] - sum(between)


def _type(command: str, tws: Server, folder: Path, settings: dict[str, str]) -> None:
    """Type a command in a process of its own, at the server's time."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith("MTUM_EOD_") and k != "PYTHONDONTWRITEBYTECODE"}
    paper = {
        "MTUM_EOD_MODE": "paper",
        "MTUM_EOD_DATA__SOURCE": "ib",
        "MTUM_EOD_IB__PAPER_PORT": str(tws.port),
        "HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
    }
    process = [sys.executable, __file__, command, tws.clock.now().isoformat()]
    done = subprocess.run(process, cwd=folder, env=ours | paper | settings, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


class _Connection(sqlite3.Connection):
    """Keeps when each commit began and ended."""

    commits: list[tuple[float, float]] = []  # noqa: RUF012  # one list for all of them is what is wanted

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        started = time.monotonic()
        answer = super().execute(statement, *values)
        if statement == "COMMIT":
            self.commits.append((started, time.monotonic()))
        return answer


def _be_the_program(command: str, at: datetime) -> None:
    """In the process: type the command at that instant, and leave the times of its commits behind."""
    from mtum_eod import bootstrap
    from mtum_eod.adapters.clock import SessionClock
    from mtum_eod.cli import main

    system: Any = bootstrap
    system.SystemClock = lambda: SessionClock(at)
    driver: Any = sqlite3
    driver.connect = partial(sqlite3.connect, factory=_Connection)
    sys.argv = ["mtum-eod", command]
    try:
        main()
    finally:
        Path(COMMITS).write_text(json.dumps(_Connection.commits))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        _be_the_program(sys.argv[1], datetime.fromisoformat(sys.argv[2]))
    with tempfile.TemporaryDirectory() as name:
        sys.exit(not all(row.is_reached for row in measure(Path(name))))
