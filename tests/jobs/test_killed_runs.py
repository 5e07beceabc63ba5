"""A run killed with SIGKILL, wherever it stood, and started again leaves the book of an unbroken run.

Real processes on real files: nothing is mocked, the kill is the kernel's. What is compared are all rows of the views
`trades`, `fills`, `signals`, `equity`, `position` and `sessions`.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from lived import book_rows, csv_settings, live, query, work_in

from mtum_eod.bootstrap import Workplace

RUN = [sys.executable, "-m", "mtum_eod"]
DYING_RUN = [sys.executable, str(Path(__file__).with_name("dies_at.py"))]
FIRST, LAST = "2019-01-02", "2019-12-31"
SESSIONS = 252
PATIENCE = 60.0
"""Seconds a run may take to get on with a session."""


@pytest.fixture(scope="module")
def environ(real_data: Path) -> dict[str, str]:
    return csv_settings(real_data)


def arguments(place: Workplace, first: str, last: str) -> list[str]:
    return ["--config", str(place.loaded.path), "run", "--from", first, "--to", last]


# -- at random moments ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unbroken(environ: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of a year that nothing interrupted."""
    place = work_in(tmp_path_factory.mktemp("unbroken"), environ)
    live(place, FIRST, LAST)
    return place.database


def settled(place: Workplace) -> int:
    """How many sessions the run's log calls settled: asked of the log, so that the database is left alone."""
    log = place.loaded.settings.log_dir(place.loaded.folder) / "mtum-eod.log"
    return log.read_text().count("ends: settled") if log.exists() else 0


def kill_at(place: Workplace, environ: dict[str, str], sessions: int, delay: float) -> None:
    """Start the year's run, and kill it `delay` seconds after it has come to `sessions` settled sessions."""
    run = subprocess.Popen([*RUN, *arguments(place, FIRST, LAST)], env=os.environ | environ, stdout=subprocess.DEVNULL)
    patient_until = time.monotonic() + PATIENCE
    while settled(place) < sessions and run.poll() is None and time.monotonic() < patient_until:
        time.sleep(0.005)
    time.sleep(delay)
    run.kill()
    assert -signal.SIGKILL == run.wait()


def kill_and_resume(environ: dict[str, str], folder: Path, kills: int, seed: int) -> Path:
    """The database of a year that was killed so often, at moments drawn from `seed`, and then left to end."""
    chance = random.Random(seed)  # noqa: S311 (no secret is made of it)
    place = work_in(folder, environ)
    for sessions in sorted(chance.sample(range(SESSIONS - 5), kills)):
        kill_at(place, environ, sessions, delay=chance.uniform(0, 0.04))
    subprocess.run([*RUN, *arguments(place, FIRST, LAST)], env=os.environ | environ, check=True, capture_output=True)
    return place.database


@pytest.mark.parametrize("kills", [5, pytest.param(50, marks=pytest.mark.slow)])
def test_a_run_killed_at_random_moments_ends_in_the_same_book(
    environ: dict[str, str], unbroken: Path, tmp_path: Path, kills: int
) -> None:
    """However often it is killed: every session, order, fill and cent as if nothing had happened."""
    killed = kill_and_resume(environ, tmp_path, kills, seed=kills)

    assert book_rows(unbroken) == book_rows(killed)


# -- at every durable step of a session with an order -----------------------------------------------------------------

# In the order a session takes them. Each is one commit, or one word of the broker.
STEPS = {
    "start_run": "the run is filed",
    "record": "decision, inputs and order intent are recorded",
    "submit": "the broker has accepted the order",
    "update_order": "the acknowledgement is filed",
    "add_notice": "the owner is told",
    "end_run": "the decision's run is closed",
    "transaction": "fills and the order's end are booked",
    "add_bars": "the bars of the close are stored",
    "settle": "the session is settled",
}
SIDES = ("BUY", "SELL")

AROUND = """
    SELECT
        session,
        (SELECT max(session) FROM sessions WHERE session < first.session) AS eve,
        (SELECT min(session) FROM sessions WHERE session > first.session) AS next
    FROM (SELECT min(session) AS session FROM fills WHERE action = '{side}') AS first
"""


@dataclass(frozen=True, kw_only=True)
class OrderDay:
    """A session with an order, lived with the one after it."""

    session: str
    last: str
    eve: Workplace  # its book ends on the session before
    unbroken: dict[str, list[tuple[Any, ...]]]  # the rows after `last` that nothing interrupted


@pytest.fixture(scope="module", params=SIDES)
def order_day(
    request: pytest.FixtureRequest, environ: dict[str, str], unbroken: Path, tmp_path_factory: pytest.TempPathFactory
) -> OrderDay:
    """The year's first session with an order of that side, and a book that ends on its eve."""
    [(session, eve, last)] = query(unbroken, AROUND.format(side=request.param))
    place = work_in(tmp_path_factory.mktemp("eve"), environ)
    live(place, FIRST, eve)
    whole = work_in(copy_of(place, tmp_path_factory.mktemp("whole")), environ)
    live(whole, session, last)
    return OrderDay(session=session, last=last, eve=place, unbroken=book_rows(whole.database))


def copy_of(place: Workplace, folder: Path) -> Path:
    """A copy of the place's whole folder in `folder`."""
    copytree(place.database.parent, folder, dirs_exist_ok=True)
    return folder


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("step", STEPS, ids=STEPS.values())
def test_killed_around_a_durable_step_the_session_has_one_order(
    environ: dict[str, str], order_day: OrderDay, tmp_path: Path, step: str, moment: str
) -> None:
    """The process dies there for certain; the next one ends in the same book, with one order at the broker."""
    place = work_in(copy_of(order_day.eve, tmp_path), environ)
    orders = "SELECT count(*) FROM simulated_order"
    [(before,)] = query(place.database, orders)
    dead = subprocess.run(
        [*DYING_RUN, moment, step, *arguments(place, order_day.session, order_day.last)],
        env=os.environ | environ,
        capture_output=True,
    )
    live(place, order_day.session, order_day.last)

    assert -signal.SIGKILL == dead.returncode
    assert [(before + 1,)] == query(place.database, orders)
    assert order_day.unbroken == book_rows(place.database)
