"""The heartbeat against a real web server on loopback, and against one that never answers."""

import logging
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from receivers import Received, closed_port, silent_server, web_server

from mtum_eod.adapters.heartbeat import Heartbeat
from mtum_eod.core.events import Beat

SECRET = "5ecc0ded-0000-4000-8000-0123456789ab"  # noqa: S105


@pytest.fixture
def web() -> Iterator[Received]:
    with web_server() as received:
        yield received


def test_start_success_and_failure_are_pinged_in_turn(web: Received):
    """The form of healthchecks.io: /start, the address itself, /fail with a few words."""
    heartbeat = Heartbeat(f"http://127.0.0.1:{web.port}/{SECRET}")
    heartbeat.beat(Beat.START)
    heartbeat.beat(Beat.SUCCESS, "settle of 2024-11-05: settled")
    heartbeat.beat(Beat.FAIL, "x" * 9000)
    heartbeat.end()

    assert [f"/{SECRET}/start", f"/{SECRET}", f"/{SECRET}/fail"] == web.paths
    assert ["", "settle of 2024-11-05: settled", "x" * 500] == [body for _, _, body in web.requests]


def test_a_query_stays_behind_the_path(web: Received):
    heartbeat = Heartbeat(f"http://127.0.0.1:{web.port}/push/?rid=7")
    heartbeat.beat(Beat.START)
    heartbeat.end()

    assert ["/push/start?rid=7"] == web.paths


def test_without_an_address_nothing_happens():
    heartbeat = Heartbeat("")
    heartbeat.beat(Beat.START)
    heartbeat.end()


def test_a_watchman_that_never_answers_holds_nobody_up():
    with silent_server() as port:
        heartbeat = Heartbeat(f"http://127.0.0.1:{port}/{SECRET}", timedelta(seconds=0.3))
        started = time.monotonic()
        heartbeat.beat(Beat.START)
        beaten = time.monotonic()
        heartbeat.end()
        ended = time.monotonic()

    assert beaten - started < 0.1
    assert ended - started < 1


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "nowhere.invalid"])
def test_a_ping_that_fails_is_logged_without_its_address(host: str, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    heartbeat = Heartbeat(f"http://{host.format(port=closed_port())}/{SECRET}")
    heartbeat.beat(Beat.FAIL, "the Gateway does not answer")
    heartbeat.end()

    # A ping of the test before may still be on its way in a thread of its own; it is not this one's.
    logged = [record.getMessage() for record in caplog.records if "heartbeat fail" in record.getMessage()]
    assert ["heartbeat fail: URLError"] == [message[:24] for message in logged]
    assert SECRET not in caplog.text


def test_a_watchman_who_says_no_is_a_failed_ping(web: Received):
    web.refuses = True

    assert "HTTPError: HTTP Error 500: Internal Server Error" == Heartbeat(
        f"http://127.0.0.1:{web.port}/{SECRET}"
    ).ping(Beat.SUCCESS)
