"""Every benchmark, and docs/benchmarks.md written from it: `python benchmarks`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import growth
import startup
from timing import machine, table

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
TEXT = """# Benchmarks

How long the program takes, as ratios measured in one run: the two sides start in turn, the ratio is the median of the
pairs' ratios, so that a busy machine counts for both. Seconds are medians and only say what the ratios are made of.
Written by `python benchmarks`; `python benchmarks/startup.py` and `python benchmarks/growth.py` measure one half each.

{machine}

## Starting

A command works for a few hundredths of a second; nearly all of the rest is imports. So a dry run is held against a
bare process that imports the three heaviest packages, all of which it needs itself once there is a database.

{startup}

What keeps it there: nothing heavy is imported before the arguments are good; SQLAlchemy waits for a database, Alembic
for a migration; of the exchange calendar only the rules in force are worked out; the settings' validators are built
once; the garbage collector is off during commands that end in a second, and on during ranges.

## A long history

The same book with 500 sessions run for real and with 25,000: their rows copied to earlier years.

{growth}
"""


def main() -> None:
    """Measure, show, write the page; the exit code says whether every goal is reached."""
    with tempfile.TemporaryDirectory() as name:
        started = startup.measure(Path(name))
        grown = growth.measure(Path(name))
    PAGE.write_text(TEXT.format(machine=machine(), startup=table(started), growth=table(grown)), encoding="utf-8")
    sys.exit(not all(row.is_reached for row in (*started, *grown)))


if __name__ == "__main__":
    main()
