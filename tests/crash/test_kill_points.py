"""A paper session killed with SIGKILL at every point that it passes, and started again.

Real processes, a real socket, a real file. Each point once here, with all that can become of the order and all ways to
start again in turn; `test_crash_matrix.py` has the whole product. What must hold in the end: `cell.Life.complaints`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, Literal

import pytest

from crash.cell import OF_FILLS, Day, Fate, Life, Point, Restart, play
from crash.victim import When

Step = Literal["run", "settle"]

COMMITS: dict[Step, str] = {
    "run": "start_run transaction transaction end_run",
    "settle": "start_run add_fills transaction transaction transaction end_run",
}
"""What a session makes durable, by the store's methods: dying before, all is written and nothing committed.

The run's: the decision with its intent and the word about it; the acknowledgement with the word about that. The
settlement's: the order's end with its word; bars with the word of changed ones; the marks with a day's loss.
"""

REQUESTS: dict[Step, str] = {
    "run": "startApi reqHistoricalData reqPositions reqAccountSummary cancelAccountSummary reqAllOpenOrders"
    " reqCompletedOrders reqContractDetails placeOrder reqCurrentTime reqExecutions",
    "settle": "startApi reqCurrentTime reqAllOpenOrders reqCompletedOrders reqExecutions reqHistoricalData",
}
"""What it asks the broker: dying before, the request has arrived and nothing is done; after, it is done, unanswered."""

REPLIES: dict[Step, str] = {
    "run": "serverVersion managedAccounts nextValidId error historicalData position positionEnd accountSummary"
    " accountSummaryEnd openOrderEnd completedOrdersEnd contractDetails contractDetailsEnd openOrder"
    " orderStatus currentTime execDetailsEnd",
    "settle": "serverVersion managedAccounts nextValidId error currentTime openOrderEnd completedOrder"
    " completedOrdersEnd execDetails commissionReport execDetailsEnd historicalData",
}
"""What the broker says: dying after, the bytes have left. Before, it is the point before."""

OF_PURCHASES = ("reqContractDetails", "contractDetails", "contractDetailsEnd")
"""What only a session that is about to buy asks."""


def points() -> Iterator[Point]:
    """Each kind of point once."""
    steps: tuple[Step, ...] = ("run", "settle")
    both: tuple[When, ...] = ("before", "after")
    for step in steps:
        names = COMMITS[step].split()
        nths = [names[: n + 1].count(name) for n, name in enumerate(names)]
        yield from (
            Point(step, "commit", name, nth, when) for name, nth in zip(names, nths, strict=True) for when in both
        )
        yield from (Point(step, "wire", name, 1, when) for name in REQUESTS[step].split() for when in both)
        yield from (Point(step, "wire", name, 1, "after") for name in REPLIES[step].split())


def cells() -> Iterator[Any]:
    """Each point with the next side, the next fate of the order and the next restart."""
    for number, point in zip(count(), points(), strict=False):
        # What lists a position has something to list on the day of a sale only.
        side = "SELL" if (number % 2 or point.name == "position") and point.name not in OF_PURCHASES else "BUY"
        fates = [fate for fate in Fate if fate is not Fate.REJECTED or point.name not in OF_FILLS]
        fate, restart = fates[number % len(fates)], list(Restart)[number % len(Restart)]
        yield pytest.param(side, point, fate, restart, id=f"{side}, {point}, {fate}, {restart}")


@pytest.mark.parametrize(("side", "point", "fate", "restart"), [*cells()])
def test_a_session_killed_anywhere_ends_in_the_books_of_the_broker(
    day_of: Callable[[str], Day], tmp_path: Path, side: str, point: Point, fate: Fate, restart: Restart
) -> None:
    """One order at most, never short, the database as the server has it, and nothing silent."""
    assert [] == play(day_of(side), tmp_path, point, fate, restart)


@pytest.mark.parametrize("side", ["BUY", "SELL"])
def test_every_point_that_a_session_passes_is_among_them(
    day_of: Callable[[str], Day], tmp_path: Path, side: str
) -> None:
    """A new commit, or a new question to the broker, needs its row above."""
    with Life(day_of(side), tmp_path) as life:
        passed = {(p.step, p.what, p.name, p.nth if p.what == "commit" else 1) for p in life.trace()}

    assert set() == passed - {(point.step, point.what, point.name, point.nth) for point in points()}
