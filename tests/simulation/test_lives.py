"""Years of simulated trouble: a slice for every change, and that the simulation itself can be trusted."""

import logging
from collections.abc import Iterator

import pytest

from simulation.driver import live
from simulation.plan import Life, Trouble, drawn


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


# -- histories that once broke an invariant, as the runner printed them -----------------------------------------------


def test_what_was_missed_is_told_in_seed_28() -> None:
    """The server is off over a session; the run that files it as missed is killed just after its row is durable."""
    life = Life(
        seed=28,
        sessions=36,
        first=16,
        troubles=(
            Trouble(session=25, place="store.add_rows", what="dies_after", minute=-14, size=0.669),
            Trouble(session=33, place="server", what="off", minute=39, size=0.194),
        ),
    )

    assert live(life)


def test_one_order_a_session_where_a_backup_comes_back_at_noon() -> None:
    """The order is out, the owner restores this morning's backup, and the next run decides again."""
    life = Life(
        seed=8, sessions=30, troubles=(Trouble(session=14, place="owner", what="restores", minute=16, size=0.1),)
    )

    assert live(life)
