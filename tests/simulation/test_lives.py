"""Years of simulated trouble: a slice for every change, and that the simulation itself can be trusted."""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from simulation.driver import live
from simulation.fake_store import FakeStore
from simulation.plan import TORN, Life, Trouble, drawn, drawn_stormy, drawn_torn
from simulation.stores import FileStore, MemoryStore


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """The runs of a life fail by the thousand, and say so."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("seed", range(8))
def test_a_year_breaks_no_invariant(seed: int) -> None:
    """Lived through with what the seed sends; a broken invariant raises. The first is calm; `.ci/run` lives more."""
    assert live(drawn(seed, 252)).broker.arrivals


@pytest.mark.parametrize("seed", range(301, 305))
def test_months_of_storms_break_no_invariant(seed: int) -> None:
    """Every few weeks much goes wrong at once, most often around a split."""
    assert live(drawn_stormy(seed, 120)).log


@pytest.mark.parametrize("seed", [8, *range(101, 106)])
def test_weeks_on_the_real_store_break_no_invariant(seed: int) -> None:
    """The same on SQLite, in memory."""
    assert live(drawn(seed, 40), MemoryStore).log


@pytest.mark.parametrize("seed", range(201, 204))
def test_weeks_on_files_break_no_invariant(seed: int) -> None:
    """The same on files; the power fails often, and the disk keeps a part of the log."""
    world = live(drawn_torn(seed, 20), FileStore)

    assert [] != [line for line in world.log if line.endswith(TORN)]


@pytest.mark.parametrize("seed", [5, 7])
def test_the_same_seed_gives_the_same_log_in_every_process(seed: int) -> None:
    """A failing seed replays exactly, however the process hashes its strings; in seed 7 two runs meet at the lock."""
    program = "import logging; logging.disable(50); from simulation import driver, plan; "
    program += f"print(*driver.live(plan.drawn({seed}, 60)).log, sep='\\n')"
    logs = [
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]

    assert len(logs[0].splitlines()) > 60
    assert ("AlreadyRunning" in logs[0]) == (seed == 7)
    assert logs[0] == logs[1]


@pytest.mark.parametrize("seed", [3, 5])
def test_the_same_seed_gives_the_same_log_on_every_store(seed: int) -> None:
    """The book in memory is a fair stand-in for SQLite: the same runs, messages, orders and executions."""
    logs = [live(drawn(seed, 40), store).log for store in (FakeStore, MemoryStore)]

    assert logs[0] == logs[1]


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


def test_nothing_while_halted_where_a_backup_comes_back_that_is_from_before_the_halt() -> None:
    """The owner halts in the afternoon and restores this morning's backup; without them an order leaves that day."""
    life = Life(
        seed=8,
        sessions=30,
        troubles=(
            Trouble(session=14, place="owner", what="halts", minute=60, size=0.1),
            Trouble(session=14, place="owner", what="restores", minute=40, size=0.1),
        ),
    )

    assert live(life)
