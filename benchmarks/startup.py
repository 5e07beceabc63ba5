"""What a command costs before it works: `python benchmarks/startup.py`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from book import run_range
from timing import PROGRAM, Row, compare

IMPORTS = [sys.executable, "-c", "import pandas, sqlalchemy, talib"]
NOTHING = [sys.executable, "-c", "pass"]


def measure(folder: Path, pairs: int = 15) -> list[Row]:
    """A dry run against its three heaviest imports; help and version against an interpreter that does nothing."""
    year = run_range(folder / "year.db", "2023-11-06", "2024-11-05")
    heavy = "importing pandas, SQLAlchemy, TA-Lib"
    dry = [str(PROGRAM), "run", "--dry-run", "--date", "2024-11-05"]
    return [
        compare("dry run, no database", dry, heavy, IMPORTS, goal=1.6, pairs=pairs, folder=folder),
        compare(
            "dry run of a recorded session, a year in the database",
            dry, heavy, IMPORTS, goal=1.6, pairs=pairs, folder=folder, databases=(year, None),
        ),
        compare(
            "dry run of the session after it",
            [*dry[:-1], "2024-11-06"], heavy, IMPORTS, goal=1.6, pairs=pairs, folder=folder, databases=(year, None),
        ),
        compare("--help", [str(PROGRAM), "--help"], "python -c pass", NOTHING, goal=6, pairs=2 * pairs, folder=folder),
        compare(
            "--version", [str(PROGRAM), "--version"], "python -c pass", NOTHING, goal=6, pairs=2 * pairs, folder=folder
        ),
    ]  # fmt: skip


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        sys.exit(not all(row.is_reached for row in measure(Path(name))))
