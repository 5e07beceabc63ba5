"""Shrinking: as few sessions as can be, and no trouble that is not needed."""

from collections.abc import Callable

import pytest

from simulation.invariants import Broken
from simulation.plan import Life, Trouble
from simulation.shrink import Live, shrunk

NEEDED = Trouble(83, "broker", "away")
OTHERS = tuple(Trouble(session, "post", "away") for session in range(0, 100, 3))


def breaks_where(does: Callable[[Life], bool]) -> Live:
    """Lives that break an invariant where they are so."""

    def lived(life: Life) -> None:
        if does(life):
            raise Broken("this", "is broken")

    return lived


@pytest.mark.parametrize("sessions", [1, 2, 5, 7, 40])
def test_the_shortest_history_is_found(sessions: int) -> None:
    """Not only one of a few lengths."""
    broken = Broken("this", "is broken")
    broken.session = 89
    lived = breaks_where(lambda life: life.sessions - life.first >= sessions)

    small = shrunk(Life(1, 100, OTHERS), broken, lived)

    assert (small.first, small.sessions, small.troubles) == (90 - sessions, 90, ())


def test_one_that_a_longer_life_does_not_show_is_found_too() -> None:
    """Of 4 sessions or of more than 20, and none between."""
    broken = Broken("this", "is broken")
    broken.session = 89
    lived = breaks_where(lambda life: life.sessions - life.first == 4 or life.sessions - life.first > 20)

    assert shrunk(Life(1, 100), broken, lived).first == 86


def test_what_is_needed_stays() -> None:
    """The life begins with its trouble."""
    broken = Broken("this", "is broken")
    broken.session = 89
    lived = breaks_where(lambda life: NEEDED in life.troubles)

    small = shrunk(Life(1, 100, (*OTHERS, NEEDED)), broken, lived)

    assert (small.first, small.troubles) == (83, (NEEDED,))
