"""Histories lived through by the real job on real files, and what a person reads from the database they leave."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd

from mtum_eod import bootstrap, settings
from mtum_eod.bootstrap import Workplace
from mtum_eod.jobs.history import RangeResult, run_range

VIEWS = ("trades", "fills", "signals", "equity", "position", "sessions")


def day(text: str) -> date:
    return date.fromisoformat(text)


def csv_settings(data: Path) -> dict[str, str]:
    """The environment that decides on the CSV files of `data`."""
    return {"MTUM_EOD_DATA__SOURCE": "csv", "MTUM_EOD_DATA__CSV_DIR": str(data)}


def work_in(folder: Path, environ: Mapping[str, str]) -> Workplace:
    """A workplace whose book, logs and backups lie in `folder`, whatever settings the machine has."""
    file = folder / "settings.toml"
    file.touch()
    return bootstrap.workplace(settings.load(file, environ))


def live(place: Workplace, first: str, last: str) -> RangeResult:
    """Run the job over the range, as `mtum-eod run --from --to` does."""
    clock = place.session_clock()
    with place.trading(clock) as desk:
        return run_range(desk, clock, day(first), day(last), lambda *_: None)


def query(database: Path, statement: str) -> list[tuple[Any, ...]]:
    """What plain sqlite3 answers."""
    with closing(sqlite3.connect(database)) as db:
        return db.execute(statement).fetchall()


def book_rows(database: Path) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of the views that tell of the book, by view; these name no runs, nor when a row was written."""
    return {view: query(database, f"SELECT * FROM {view}") for view in VIEWS}  # noqa: S608 (names from above)


def signals(database: Path) -> pd.DataFrame:
    """The view `signals`, by session."""
    with closing(sqlite3.connect(database)) as db:
        return pd.read_sql("SELECT * FROM signals", db, index_col="session")
