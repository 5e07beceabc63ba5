"""The whole crash matrix: every point that a session passes, every state of its order, every restart, both sides."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from shutil import rmtree

import pytest

from crash.cell import Day, Fate, Life, NotMet, Point, Restart, play
from crash.victim import warm_up

ALIKE = ("accountSummary", "error")
"""Lines of one answer, dozens of them: the first stands for all."""


@pytest.mark.slow
@pytest.mark.parametrize("side", ["BUY", "SELL"])
def test_wherever_a_session_dies_it_ends_in_the_books_of_the_broker(
    day_of: Callable[[str], Day], tmp_path: Path, side: str
) -> None:
    """Points before the order left have one state of it, the others four, and each has five restarts."""
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
            if point.has_order or fate is Fate.AS_IT_IS
        )
    ]
    started = time.monotonic()
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn"), initializer=warm_up) as pool:
        found = list(pool.map(play_away, cells))
    seconds = (time.monotonic() - started) / len(cells)
    complaints = [complaint for complaints in found if complaints for complaint in complaints]
    print(
        f"FIGURE {side}: {len(points)} points, {len(cells) - found.count(None)} cells, {len(complaints)} complaints,"
        f" {seconds:.2f} s a cell"
    )

    assert [] == complaints


def play_away(cell: tuple[Day, Path, Point, Fate, Restart]) -> list[str] | None:
    """The complaints about one cell, whose folder goes when there are none; None where such an order misses the point.

    The settlement of an order that was rejected reads no executions.
    """
    *_, point, fate, _ = cell
    try:
        complaints = play(*cell)
    except NotMet:
        if point.step == "run" or fate is not Fate.REJECTED:
            raise
        return None
    if not complaints:
        rmtree(cell[1])
    return complaints
