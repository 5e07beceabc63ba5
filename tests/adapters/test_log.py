"""The log: JSON lines with their run's id, a private file a day, the oldest deleted."""

import json
import logging
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mtum_eod.adapters import log
from mtum_eod.errors import StoreError

LOG = logging.getLogger("mtum_eod.test")


def lived(folder: Path, words: str, keep_days: int = 90) -> None:
    """One process that says something."""
    with log.to_file(folder, "INFO", keep_days, lambda: 7):
        LOG.info("%s", words)


def age(file: Path, days: int) -> None:
    then = (datetime.now(UTC) - timedelta(days=days)).timestamp()
    os.utime(file, (then, then))


def test_a_line_is_one_object_that_names_its_run(tmp_path: Path):
    lived(tmp_path / "logs", "two\nlines")
    [line] = (tmp_path / "logs" / log.FILE).read_text().splitlines()
    said = json.loads(line)

    assert ("INFO", 7, "mtum_eod.test", "two\nlines") == tuple(
        said[key] for key in ("level", "run", "logger", "message")
    )
    assert datetime.fromisoformat(said["at"]).tzinfo is not None


def test_a_process_of_the_next_day_begins_a_new_file(tmp_path: Path):
    """Under cron no process lives past midnight: the day is told by the file."""
    lived(tmp_path, "yesterday")
    age(tmp_path / log.FILE, 1)
    lived(tmp_path, "today")
    files = sorted(tmp_path.iterdir())

    assert [["today"], ["yesterday"]] == [
        [json.loads(line)["message"] for line in file.read_text().splitlines()] for file in files
    ]
    assert [0o600, 0o600] == [file.stat().st_mode & 0o777 for file in files]


def test_no_more_days_are_kept_than_asked_for(tmp_path: Path):
    for day in range(1, 6):
        (tmp_path / f"{log.FILE}.2024-11-0{day}").write_text("{}\n")
    lived(tmp_path, "yesterday")
    age(tmp_path / log.FILE, 1)
    lived(tmp_path, "today", keep_days=3)
    kept = sorted(file.name.removeprefix(log.FILE) for file in tmp_path.iterdir())

    assert ["", ".2024-11-04", ".2024-11-05"] == kept[:3]
    assert 4 == len(kept)


def test_a_run_that_could_leave_no_trace_does_not_begin(tmp_path: Path):
    (tmp_path / "logs").write_text("no folder")

    with pytest.raises(StoreError, match="cannot be written"):
        lived(tmp_path / "logs", "lost")
