"""A simulation that finds no planted bug proves nothing: each is planted alone, and found within a number of seeds."""

import logging
from collections.abc import Iterator

import pytest

from simulation.defects import DEFECTS, planted
from simulation.driver import live
from simulation.invariants import Broken
from simulation.plan import drawn

SESSIONS = 80
SEEDS = 100
"""How many seeds a planted bug may survive."""

FOUND_AT_ONCE = ("commission_counted_twice", "summer_time_off_by_one", "yesterday_taken_for_today")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def finds(defect: str, seeds: range) -> str:
    """The first of the seeds that breaks an invariant with that bug planted, and which; empty where none does."""
    with planted(defect):
        for seed in seeds:
            try:
                live(drawn(seed, SESSIONS))
            except Broken as broken:
                # A planted function that no longer fits what it stands for would be found as an error of its own.
                return "" if broken.name == "nothing_unexpected" else f"{defect}: seed {seed}, {broken.name}"
    return ""


@pytest.mark.parametrize("defect", FOUND_AT_ONCE)
def test_a_bug_in_everyday_work_is_found_at_once(defect: str) -> None:
    """The first three seeds are enough."""
    assert finds(defect, range(1, 4))


@pytest.mark.slow
@pytest.mark.parametrize("defect", DEFECTS)
def test_every_planted_bug_is_found(defect: str) -> None:
    """However rare the sequence that shows it."""
    found = finds(defect, range(1, SEEDS + 1))
    print(f"FIGURE {found}")

    assert found
