"""Years of simulated trouble: a slice for every change, and that the simulation itself can be trusted."""

import logging
from collections.abc import Iterator

import pytest

from simulation.driver import live
from simulation.plan import drawn


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """The runs of a life fail by the thousand, and say so."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_a_life_breaks_no_invariant(seed: int) -> None:
    """A hundred sessions, lived through with what the seed sends; a broken invariant raises."""
    assert live(drawn(seed, 100)).broker.arrivals


def test_the_same_seed_gives_the_same_log() -> None:
    """A failing seed replays exactly."""
    assert live(drawn(5, 60)).log == live(drawn(5, 60)).log
