"""The whole crash matrix: every point that a session passes, every state of its order, every restart, both sides."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from crash.cell import Day, Fate, Life, Point, Restart, play
from crash.victim import warm_up

ALIKE = ("accountSummary", "error")
"""Lines of one answer, dozens of them: the first stands for all."""


@pytest.mark.slow
@pytest.mark.parametrize("side", ["BUY", "SELL"])
def test_wherever_a_session_dies_it_ends_in_the_books_of_the_broker(
    day_of: Callable[[str], Day], tmp_path: Path, side: str
) -> None:
    """Points before the order left have one state of it, the others four; five restarts each."""
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
        complaints = [complaint for found in pool.map(play_away, cells) for complaint in found]
    seconds = time.monotonic() - started
    print(
        f"FIGURE {side}: {len(points)} points, {len(cells)} cells, {len(complaints)} complaints,"
        f" {seconds / len(cells):.2f} s a cell"
    )

    assert [] == complaints


def play_away(cell: tuple[Day, Path, Point, Fate, Restart]) -> list[str]:
    """The complaints about one cell, whose folder goes when there are none."""
    complaints = play(*cell)
    if not complaints:
        for path in sorted(cell[1].rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
    return complaints
