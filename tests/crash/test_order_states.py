"""Every state that an order can be in when the power fails, with every way to start again."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest

from crash.cell import Day, Fate, Point, Restart, play

STATES = {
    "not sent": (Point("run", "commit", "transaction", 1, "after"), Fate.AS_IT_IS),
    "sent, not acknowledged": (Point("run", "wire", "placeOrder", 1, "after"), Fate.AS_IT_IS),
    "acknowledged": (Point("run", "commit", "transaction", 2, "after"), Fate.AS_IT_IS),
    "part filled": (Point("run", "wire", "orderStatus", 1, "after"), Fate.PART_FILLED),
    "part filled, acknowledged": (Point("run", "commit", "end_run", 1, "before"), Fate.PART_FILLED),
    "filled": (Point("run", "commit", "transaction", 2, "before"), Fate.FILLED),
    "rejected": (Point("run", "wire", "openOrder", 1, "after"), Fate.REJECTED),
}


@pytest.mark.parametrize(("state", "restart"), [*product(STATES, Restart)])
def test_whatever_state_the_order_is_in_the_books_end_as_the_broker_has_them(
    day_of: Callable[[str], Day], tmp_path: Path, state: str, restart: Restart
) -> None:
    """Purchases and sales in turn; `.ci/slow` has both of each."""
    point, fate = STATES[state]
    side = ("BUY", "SELL")[(list(STATES).index(state) + list(Restart).index(restart)) % 2]

    assert [] == play(day_of(side), tmp_path, point, fate, restart)
