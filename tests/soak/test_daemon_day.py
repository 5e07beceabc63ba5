"""One day of `mtum-eod schedule`: the real process, minute by minute, from before its first step to the evening."""

from __future__ import annotations

import signal
from datetime import date, datetime
from pathlib import Path

from soak.life import Wait
from soak.machine import Machine, Size, every_minute, minutes
from tws_server import NEW_YORK, Server

SESSION = date(2024, 11, 5)


def wall_time(at: str) -> str:
    """An instant of the database on the exchange's clock."""
    return f"{datetime.fromisoformat(at).astimezone(NEW_YORK):%H:%M:%S}"


def test_the_daemon_does_every_step_at_its_minute_and_ends_when_told(tmp_path: Path, tws: Server) -> None:
    """Nothing in between, no file or thread more at the end of the day than at its start, exit code 0."""
    close = tws.calendar.close(SESSION)
    tws.clock.set(close - minutes(123))
    sizes: list[Size] = []
    with Machine(tmp_path, tws) as machine:

        def look(wait: Wait) -> datetime:
            sizes.append(machine.size)
            return every_minute(wait)

        machine.live(close + minutes(123), look)
        exit_code = machine.terminate()
    runs = machine.sql("SELECT step, session, started_at, exit_code FROM runs")
    passed = [(step, session, wall_time(at), code) for step, session, at, code in runs]
    [order] = tws.orders

    assert [
        ("preflight", "2024-11-05", "14:00:00", 0),
        ("decide", "2024-11-05", "15:40:00", 0),
        ("settle", "2024-11-05", "16:20:00", 0),
        ("evening", "2024-11-05", "18:00:00", 0),
    ] == passed
    assert ("BUY", "Filled") == (order.action, order.status)
    assert (0, "ended") == (exit_code, machine.out.splitlines()[-1])
    assert {sizes[0].handles} == {size.handles for size in sizes}
    assert {sizes[0].threads} == {size.threads for size in sizes}


def test_the_daemon_sleeps_with_its_machine_and_goes_on_with_what_is_due(tmp_path: Path, tws: Server) -> None:
    """The lid is closed at noon and opened three minutes before the hard stop."""
    close = tws.calendar.close(SESSION)
    tws.clock.set(close - minutes(240))
    with Machine(tmp_path, tws) as machine:
        machine.go(close - minutes(18))
        machine.live(close + minutes(30))

    assert ["decide", "settle"] == [step for (step,) in machine.sql("SELECT step FROM runs")]
    assert ["Filled"] == [order.status for order in tws.orders]


def test_told_to_end_with_an_order_on_its_way_it_ends_the_step_first(tmp_path: Path, tws: Server) -> None:
    """SIGTERM comes between the order and the broker's word on it: the word is in the book, the exit code is 0."""
    close = tws.calendar.close(SESSION)
    tws.clock.set(close - minutes(130))
    with Machine(tmp_path, tws) as machine:
        tws.on("placeOrder", lambda _: machine.tell(signal.SIGTERM), "after")
        machine.go(close - minutes(20))
        exit_code = machine.rest()

    assert (0, "ended") == (exit_code, machine.out.splitlines()[-1])
    assert [("decide", "BUY", 0)] == machine.sql("SELECT step, outcome, exit_code FROM runs")
    assert [("working",)] == machine.sql("SELECT status FROM order_intent")
