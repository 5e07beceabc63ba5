"""The whole crash matrix: every point that a session passes, every state of its order, every restart, both sides.

MTUM_CRASH_CELLS=60 plays so many of each side, drawn at random.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from shutil import rmtree

import pytest

from crash.cell import OF_FILLS, Day, Fate, Life, NotMet, Point, Restart, play
from crash.victim import warm_up

ALIKE = ("accountSummary", "error")
"""Lines of one answer, dozens of them: the first stands for all."""


@pytest.mark.slow
@pytest.mark.parametrize("side", ["BUY", "SELL"])
def test_wherever_a_session_dies_it_ends_in_the_books_of_the_broker(
    day_of: Callable[[str], Day], tmp_path: Path, side: str
) -> None:
    """Points before the order left have one state of it, the others four, and each has five restarts.

    A settlement without executions, that of an order that was rejected, does not come by what reads and books them.
    """
    day = day_of(side)
    with Life(day, tmp_path / "trace") as life:
        points = [point for point in life.trace() if point.name not in ALIKE or point.nth == 1]
    cells = [
        (day, tmp_path / f"{number}", *cell)
        for number, cell in enumerate(
            (point, fate, restart)
            for point in points
            for fate in Fate
            for restart in Restart
            if (point.has_order or fate is Fate.AS_IT_IS) and not (fate is Fate.REJECTED and point.name in OF_FILLS)
        )
    ]
    if drawn := int(os.environ.get("MTUM_CRASH_CELLS", "0")):
        cells = random.sample(cells, drawn)
    started = time.monotonic()
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn"), initializer=warm_up) as pool:
        found = list(pool.map(play_away, cells))
    seconds = (time.monotonic() - started) / len(cells)
    complaints = [complaint for complaints in found for complaint in complaints]
    print(
        f"FIGURE {side}: {len(points)} points, {len(cells)} cells, {len(complaints)} complaints, {seconds:.2f} s a cell"
    )

    assert [] == complaints


def play_away(cell: tuple[Day, Path, Point, Fate, Restart]) -> list[str]:
    """The complaints about one cell, whose folder goes when there are none; a point that is not met is one."""
    try:
        complaints = play(*cell)
    except NotMet as error:
        return [f"not met: {error}"]
    if not complaints:
        rmtree(cell[1])
    return complaints
