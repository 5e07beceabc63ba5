"""What is due, told from the book; and a day lived through by doing it every minute."""

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from fakes import KEY, SESSION, Bench, calendar
from simulation.market import KnownCalendar

from mtum_eod.core.market import VIX
from mtum_eod.core.trading import Step
from mtum_eod.errors import BrokerUnavailable, MtumEodError
from mtum_eod.jobs.due import Done, agenda, do_due

NEXT = date(2024, 11, 6)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "book.db")


def due_at(bench: Bench, session: date, before_close: float) -> tuple[str, str] | None:
    bench.at(session, before_close)
    due = agenda(bench.desk).due
    return due and (str(due.step), str(due.session))


def live_through(bench: Bench, first: datetime, last: datetime) -> list[tuple[str, str]]:
    """Call what cron calls, every minute; the steps done, with New York's winter wall time."""
    done, now = [], first
    while now <= last:
        bench.clock.set(now)
        try:
            result = do_due(bench.desk)
        except MtumEodError as error:
            done.append((f"{now - timedelta(hours=5):%d %H:%M}", type(error).__name__))
        else:
            if result.step:
                done.append((f"{now - timedelta(hours=5):%d %H:%M}", str(result.step)))
        now += timedelta(minutes=1)
    return done


def cures(done: Done) -> list[str]:
    """What each failed link says to do."""
    return [check.cure for check in done.checks if not check.passed]


def test_each_step_of_a_day_is_done_once_and_in_its_time(bench: Bench):
    bench.data.edit(VIX, SESSION, close=26.0)
    done = live_through(bench, datetime(2024, 11, 5, 5, tzinfo=UTC), datetime(2024, 11, 6, 4, 59, tzinfo=UTC))

    assert [("05 14:00", "preflight"), ("05 15:40", "decide"), ("05 16:20", "settle"), ("05 18:00", "evening")] == done
    assert [("2024-11-05", "decided", 1)] == bench.sql("SELECT session, status, settled FROM sessions")


def test_settlement_comes_back_until_the_order_is_final(bench: Bench):
    """The order fills at the close, and the broker reports it after 40 minutes only."""
    live_through(bench, datetime(2024, 11, 5, 20, 40, tzinfo=UTC), datetime(2024, 11, 5, 20, 41, tzinfo=UTC))
    waited = live_through(bench, datetime(2024, 11, 5, 21, tzinfo=UTC), datetime(2024, 11, 5, 21, 40, tzinfo=UTC))
    bench.broker.execute(f"{KEY}/2024-11-05/BUY", 33, 148.0, 1.0)
    after = live_through(bench, datetime(2024, 11, 5, 21, 41, tzinfo=UTC), datetime(2024, 11, 6, 4, tzinfo=UTC))

    assert [("05 16:20", "settle"), ("05 16:35", "settle")] == waited
    assert [("05 16:50", "settle"), ("05 18:00", "evening")] == after


def test_a_failing_preflight_is_repeated_and_told_on_change_only(bench: Bench):
    bench.broker.silent = {"shares_held"}
    bench.data.edit(VIX, SESSION, close=26.0)
    start = datetime(2024, 11, 5, 19, tzinfo=UTC)
    done = live_through(bench, start, start + timedelta(minutes=31))
    bench.data.down = {VIX}
    live_through(bench, start + timedelta(minutes=45), start + timedelta(minutes=45))
    bench.broker.silent, bench.data.down = set(), set()
    live_through(bench, start + timedelta(minutes=60), start + timedelta(minutes=76))
    told = [words for words, _ in bench.notices("run_failed")]

    assert ["05 14:00", "05 14:15", "05 14:30"] == [at for at, _ in done]
    silent = "broker: the list of positions never ended (ask again in a minute; where it stays so, restart the Gateway)"
    assert [
        f"Preflight of {SESSION} failed: {silent}",
        f"Preflight of {SESSION} failed: VIX bars: VIX: no answer (wait); {silent}",
        f"Preflight of {SESSION} passes now",
    ] == told
    assert [4, 4, 4, 3, 0] == [code for (code,) in bench.sql("SELECT exit_code FROM runs ORDER BY id")]


def test_preflight_names_a_fault_in_the_bars(bench: Bench):
    bench.data.drop("MTUM", date(2024, 6, 3))
    bench.at(SESSION, 120)
    done = do_due(bench.desk)

    assert (Step.PREFLIGHT, 3) == (done.step, done.exit_code)
    assert [
        ("MTUM bars", False),
        ("VIX bars", True),
        ("broker", True),
        ("calendar", True),
        ("clock and book", True),
    ] == [(check.name, check.passed) for check in done.checks]
    assert ["`mtum-eod data check` names every fault of the source's bars"] == cures(done)


def test_preflight_warns_of_a_calendar_that_ends_soon(bench: Bench):
    """The fakes' calendar knows two years; at its last sessions nothing is known of the weeks to come."""
    near_end = calendar().window(calendar().last_session, 3)[0]
    bench.at(near_end, 120)
    done = do_due(bench.desk)

    assert ("calendar", False) in [(check.name, check.passed) for check in done.checks]
    assert "pip install --upgrade exchange_calendars" in cures(done)


def test_a_session_skipped_for_its_data_is_due_until_the_close(bench: Bench):
    bench.data.drop("MTUM", SESSION)
    bench.decide()

    assert ("decide", "2024-11-05") == due_at(bench, SESSION, 19)
    assert ("decide", "2024-11-05") == due_at(bench, SESSION, 1)
    assert due_at(bench, SESSION, 0) is None
    assert ("settle", "2024-11-05") == due_at(bench, SESSION, -20)


def test_an_unacknowledged_order_makes_the_session_due_again(bench: Bench):
    with bench.killed("before the wire"):
        bench.decide()
    due = due_at(bench, SESSION, 18)
    done = do_due(bench.desk)

    assert (("decide", "2024-11-05"), "working") == (due, done.outcome and done.outcome.document["order"]["status"])
    assert due_at(bench, SESSION, 17) is None


def test_a_run_that_fails_is_due_again_at_the_next_minute(bench: Bench):
    bench.broker.silent.add("order_id")
    start = datetime(2024, 11, 5, 20, 40, tzinfo=UTC)
    failed = live_through(bench, start, start + timedelta(minutes=2))
    bench.broker.silent.clear()
    after = live_through(bench, start + timedelta(minutes=3), start + timedelta(minutes=10))

    assert [BrokerUnavailable.__name__] * 3 == [what for _, what in failed]
    assert [("05 15:43", "decide")] == after
    assert 1 == len(bench.broker.received)


def test_an_unsettled_session_before_does_not_hold_up_todays_decision(bench: Bench):
    bench.decide()
    due = [due_at(bench, NEXT, before_close) for before_close in (390, 20)]

    assert [("settle", "2024-11-05"), ("decide", "2024-11-06")] == due


def test_a_day_off_files_what_was_missed(bench: Bench):
    bench.data.edit(VIX, SESSION, close=26.0)
    bench.decide()
    bench.clock.set(datetime(2024, 11, 9, 15, tzinfo=UTC))
    done = do_due(bench.desk)

    assert Step.SETTLE is done.step
    assert [("2024-11-06", "missed"), ("2024-11-07", "missed"), ("2024-11-08", "missed")] == bench.sql(
        "SELECT session, status FROM sessions WHERE status = 'missed'"
    )


def test_nothing_is_due_on_a_day_off_and_the_next_step_is_named(bench: Bench):
    bench.clock.set(datetime(2024, 11, 9, 15, tzinfo=UTC))
    seen = agenda(bench.desk)
    done = do_due(bench.desk)

    assert (None, "evening", "2024-11-09T23:00:00Z") == (
        seen.document["due"],
        seen.document["next"]["step"],
        seen.document["next"]["at"],
    )
    assert ["evening 2024-11-09", "evening 2024-11-10", "preflight 2024-11-11", "decide 2024-11-11"] == [
        f"{due.step} {due.session}" for due in seen.coming
    ][:4]
    assert ({"step": None, "result": []}, 0) == (done.document, done.exit_code)


def test_a_step_done_is_one_document(bench: Bench):
    bench.at(SESSION, 20)
    decided = do_due(bench.desk)
    bench.broker.execute(f"{KEY}/2024-11-05/BUY", 33, 148.0, 1.0)
    bench.at(SESSION, -20)
    settled = do_due(bench.desk)

    assert ("decide", "BUY", 0) == (decided.document["step"], decided.document["result"]["action"], decided.exit_code)
    expected = {"session": "2024-11-05", "settled": True, "open": None, "equity": 4999.0}
    assert expected == {key: settled.document["result"][key] for key in expected}
    assert ("settle", "filled", 0) == (
        settled.document["step"],
        settled.document["result"]["order"]["status"],
        settled.exit_code,
    )


def test_a_session_that_was_none_stops_nothing_once_the_calendar_knows(bench: Bench):
    """The exchange stays closed for a day of mourning; the calendar's new version, days later, has no such session."""
    bench.data.frames["MTUM"] = bench.data.frames["MTUM"].drop(pd.Timestamp(SESSION))
    bench.data.edit(VIX, NEXT, close=26.0)
    with suppress(MtumEodError):
        bench.decide(SESSION)
    before = bench.sql("SELECT session, status, settled FROM sessions")
    known = KnownCalendar()
    known.learn_closed(SESSION)
    bench.at(NEXT, 20)
    done = do_due(replace(bench.desk, calendar=known))

    assert [("2024-11-05", "skipped", 0)] == before
    assert ("decide", "2024-11-06", 0) == (done.document["step"], done.document["result"]["session"], done.exit_code)
