"""Databases to measure with."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from contextlib import closing
from datetime import date
from pathlib import Path

from timing import PROGRAM

BY_SESSION = ("run", "bar", "signal", "session", "order_intent", "execution", "equity_mark", "simulated_order")
"""The tables that grow with every session."""

NUMBERED = {"id", "revision", "run_id", "signal_id", "bars_revision", "order_id"}
KEYED = {"reference", "execution_id"}


def run_range(path: Path, first: str, last: str) -> Path:
    """A database with the sessions from `first` to `last` decided and settled, on the sample data."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MTUM_EOD_")}
    url = {"MTUM_EOD_DATABASE__URL": f"sqlite:///{path.absolute()}"}
    command = [str(PROGRAM), "run", "--from", first, "--to", last]
    subprocess.run(command, cwd=path.parent, env=environment | url, check=True, capture_output=True)
    return path


def grow(path: Path, times: int) -> Path:
    """The database with `times` as many sessions: its rows copied to ever earlier years, in one transaction.

    Copies get numbers below all others and keys of their own, so what is newest stays newest. The trades of a
    position still open are left out of them: each copy ends flat.
    """
    with closing(sqlite3.connect(path)) as db, db:
        first, last = db.execute("SELECT min(session), max(session) FROM session").fetchone()
        open_since = db.execute("SELECT max(entry_session) FROM position").fetchone()[0]
        span = (date.fromisoformat(last) - date.fromisoformat(first)).days + 1
        for table in BY_SESSION:
            columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
            copied = f"SELECT {', '.join(map(_moved, columns))} FROM {table} WHERE session >= :first"  # noqa: S608 # ours
            if open_since and "shares" in columns:
                copied += f" AND session < '{open_since}'"
            rows = [
                row
                for k in range(1, times)
                for row in db.execute(copied, {"first": first, "k": k, "days": f"-{k * span} days"})
            ]
            db.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})", rows)  # noqa: S608 # ours
    return path


def _moved(column: str) -> str:
    """The SQL of a column in the copy number :k, :days earlier."""
    if column in NUMBERED:
        return f"{column} - :k * 1000000"
    if column in KEYED:
        return f"{column} || '~' || :k"
    if column == "session" or column.endswith("_at"):
        return f"date(substr({column}, 1, 10), :days) || substr({column}, 11)"
    return column
