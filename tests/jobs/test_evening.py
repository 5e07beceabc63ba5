"""Every evening of the year: the sign of life, what was missed, and the Gateway's weekly login."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from fakes import BOOK, SESSION, Bench, calendar

from mtum_eod.core.checks import Check
from mtum_eod.core.market import VIX
from mtum_eod.core.trading import Mode, Step
from mtum_eod.jobs.due import do_due
from mtum_eod.jobs.evening import evening_step

SUNDAY = date(2024, 11, 10)
SIX = datetime(2024, 11, 10, 23, tzinfo=UTC)  # 18:00 in New York
ASLEEP = Check(
    name="login", passed=False, words="no answer at 127.0.0.1:4002", cure="log in to the Gateway", exit_code=4
)
AWAKE = Check(name="login", passed=True, words="logged in")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path / "book.db")
    bench.broker.checks = (ASLEEP,)
    return bench


def evening(bench: Bench, first: datetime, minutes: int) -> list[tuple[str, int]]:
    """Cron's minutes from there on: New York's wall time and exit code of what was done."""
    done = []
    for minute in range(minutes):
        now = first + timedelta(minutes=minute)
        bench.clock.set(now)
        result = do_due(bench.desk)
        if result.step is Step.EVENING:
            done.append((f"{now - timedelta(hours=5):%a %H:%M}", result.exit_code))
    return done


def test_on_the_eve_of_a_week_a_silent_gateway_is_told_until_it_answers(bench: Bench):
    """The owner hears at six, logs in at half past, and hears that it worked."""
    asleep = evening(bench, SIX, 31)
    bench.broker.checks = (AWAKE,)
    awake = evening(bench, SIX + timedelta(minutes=31), 60)
    what = "On the eve of the week, 2024-11-10: the broker's line"

    assert [("Sun 18:00", 4), ("Sun 18:15", 4), ("Sun 18:30", 4)] == asleep
    assert [("Sun 18:45", 0)] == awake
    assert [
        (f"{what} failed: login: no answer at 127.0.0.1:4002 (log in to the Gateway)", 1),
        (f"{what} passes now", 0),
    ] == bench.notices("run_failed")


def test_no_evenings_question_waits_into_the_next_attempt(bench: Bench):
    """A Gateway that answers slowly: every wait is cut to the quarter of an hour until it is asked again."""
    bench.clock.set(SIX)
    evening_step(bench.desk, SUNDAY)

    assert SIX + timedelta(minutes=15) == bench.broker.deadline


def test_after_midnight_it_is_the_preflight_that_asks(bench: Bench):
    asked = evening(bench, SIX + timedelta(hours=5, minutes=40), 60)

    assert [("Sun 23:40", 4), ("Sun 23:45", 4)] == asked


@pytest.mark.parametrize("day", [date(2024, 11, 8), date(2024, 11, 9), date(2024, 11, 11)])
def test_on_other_evenings_the_broker_is_left_alone(bench: Bench, day: date):
    """A Friday, a Saturday and a Monday."""
    bench.clock.set(calendar().at(day, "18:00"))

    assert () == evening_step(bench.desk, day)


def test_the_embedded_broker_wants_no_login(bench: Bench):
    bench.clock.set(SIX)
    desk = replace(bench.desk, book=replace(BOOK, mode=Mode.SIMULATED))

    assert () == evening_step(desk, SUNDAY)


def test_the_first_evening_after_an_absence_tells_what_was_missed(bench: Bench):
    """The machine comes back on a Saturday: nobody needs to wait for Monday to hear of it."""
    bench.data.edit(VIX, SESSION, close=26.0)
    bench.decide()
    bench.settle()
    evening(bench, datetime(2024, 11, 9, 23, tzinfo=UTC), 1)

    assert [("Missed: 3 sessions, 2024-11-06 to 2024-11-08: no run started", 1)] == bench.notices("run_missed")


def test_an_evening_is_filed_once(bench: Bench):
    bench.broker.checks = (AWAKE,)

    assert [("Sun 18:00", 0)] == evening(bench, SIX - timedelta(minutes=5), 70)
    assert [("evening", "2024-11-10", 0)] == bench.sql("SELECT step, session, exit_code FROM runs")
