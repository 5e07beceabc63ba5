"""What befalls a life from outside counts as reached where something came of it."""

import logging
from collections.abc import Iterator

import pytest

from simulation.driver import live
from simulation.plan import Life, Trouble

WITH_ORDER, WITHOUT = 14, 15
"""Sessions of seed 8, in which nothing happens by itself."""


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize(
    ("place", "what"),
    [("auction", "partial"), ("auction", "late_report"), ("broker", "rejects"), ("owner", "cancels")],
)
def test_trouble_with_an_order_counts_where_there_is_one(place: str, what: str) -> None:
    """Before the close an order rests, or none does."""
    reached = {}
    for session in (WITH_ORDER, WITHOUT):
        trouble = Trouble(session, place, what, minute=17 if place == "owner" else 60)
        world = live(Life(seed=8, sessions=session + 1, first=session, troubles=(trouble,)))
        reached[session] = world.reached[place, what]

    assert reached == {WITH_ORDER: 1, WITHOUT: 0}
