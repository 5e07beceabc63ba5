"""What a long history costs: `python benchmarks/growth.py`. 100 years in the database against two."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from book import grow, run_range
from timing import PROGRAM, Row, compare, copy_database

SESSIONS = 500
TIMES = 50
"""500 sessions run for real and, for the long history, 49 copies of their rows: 25,000."""


def measure(folder: Path, pairs: int = 15) -> list[Row]:
    """A dry run, `run`, `settle` and `status` with 25,000 sessions in the database against the same with 500."""
    short = run_range(folder / "short.db", "2021-10-29", "2023-10-25")
    long = grow(copy_database(short, folder / "long.db"), TIMES)
    both = (folder / "a.db", folder / "b.db")

    def row(what: str, *arguments: str, fresh: bool = False) -> Row:
        def before() -> None:
            if fresh:
                for path in folder.glob("[ab].db*"):
                    path.unlink()
                copy_database(long, both[0])
                copy_database(short, both[1])

        command = [str(PROGRAM), *arguments]
        return compare(
            f"{what}, 25,000 sessions in the database", command, "the same, 500 sessions", command,
            goal=1.1, pairs=pairs, folder=folder, databases=both if fresh else (long, short), before=before,
        )  # fmt: skip

    return [
        row("dry run", "run", "--dry-run", "--date", "2023-10-26"),
        row("run of one session", "run", "--date", "2023-10-26", fresh=True),
        row("run and settle of one session", "run", "--from", "2023-10-26", "--to", "2023-10-26", fresh=True),
        row("status", "status"),
    ]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        sys.exit(not all(row.is_reached for row in measure(Path(name))))
