"""The shortest history that still breaks the same invariant, and the test it makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from simulation.driver import live
from simulation.fake_store import FakeStore
from simulation.invariants import Broken
from simulation.plan import Life, Trouble

Live = Callable[[Life], object]

SESSIONS = 10_000
"""What a shrinking may cost, in sessions lived."""


def broken_by(life: Life, lived: Live = live) -> Broken | None:
    """What that life breaks, if anything."""
    try:
        lived(life)
    except Broken as broken:
        return broken
    return None


def shrunk(life: Life, broken: Broken, lived: Live = live) -> Life:
    """A life of as few sessions and troubles as can be found that breaks the same invariant."""
    left = SESSIONS

    def still(smaller: Life) -> bool:
        nonlocal left
        left -= smaller.sessions - smaller.first
        found = broken_by(smaller, lived) if left >= 0 else None
        return found is not None and found.name == broken.name

    last = broken.session + 1
    life = replace(life, sessions=last, troubles=tuple(t for t in life.troubles if t.session < last))
    life = _later(life, still)
    life = _fewer_troubles(life, still)
    return _shortest(_later(life, still), still)


def _later(life: Life, still: Callable[[Life], bool]) -> Life:
    """Begin later, without what happened before: by halves of what is left, while that still breaks it."""
    short, long = 0, life.sessions - life.first
    while long - short > 1:
        some = (short + long) // 2
        if still(_last(life, some)):
            long = some
        else:
            short = some
    return _last(life, long)


def _shortest(life: Life, still: Callable[[Life], bool]) -> Life:
    """Of all shorter lives the shortest: a longer one need not break what a shorter one does, so each is tried."""
    shorter = (_last(life, some) for some in range(1, life.sessions - life.first))
    return next((some for some in shorter if still(some)), life)


def _last(life: Life, sessions: int) -> Life:
    """The last sessions of a life."""
    first = life.sessions - sessions
    return replace(life, first=first, troubles=tuple(t for t in life.troubles if t.session >= first))


def _fewer_troubles(life: Life, still: Callable[[Life], bool]) -> Life:
    """Leave out as many as can be: halves first, then each by itself."""
    size = max(1, len(life.troubles) // 2)
    while True:
        kept: list[Trouble] = list(life.troubles)
        for start in range(0, len(kept), size):
            left = tuple(kept[:start] + kept[start + size :])
            if len(left) < len(life.troubles) and still(replace(life, troubles=left)):
                return _fewer_troubles(replace(life, troubles=left), still)
        if size == 1:
            return life
        size //= 2


def as_test(life: Life, broken: Broken, store: type = FakeStore) -> str:
    """That life as a test, ready to be kept."""
    on = "" if store is FakeStore else f", {store.__name__}"
    troubles = "".join(f"            {trouble!r},\n" for trouble in life.troubles)
    told = str(broken).replace("\\", "").replace('"', "'").replace("\n", " ")[:90]
    return (
        f"def test_{broken.name}_in_seed_{life.seed}() -> None:\n"
        f'    """{told}"""\n'
        f"    life = Life(\n"
        f"        seed={life.seed},\n        sessions={life.sessions},\n        first={life.first},\n"
        f"        troubles=(\n{troubles}        ),\n    )\n\n"
        f"    assert live(life{on})\n"
    )
