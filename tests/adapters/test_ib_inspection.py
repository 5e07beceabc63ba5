"""The chain's links at IB: each fault found before it matters, with its cure, and nothing sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta

import gateway
import pytest

from mtum_eod.adapters.ib.inspection import liquid_hours
from mtum_eod.adapters.ib.line import Line
from mtum_eod.core.checks import Check
from mtum_eod.core.trading import OrderType
from tws_server import NEW_YORK, Server
from tws_server.world import MTUM

SESSION = gateway.SESSION


@pytest.fixture(params=[157, 176])
def tws(request: pytest.FixtureRequest) -> Iterator[Server]:
    with Server(version=request.param) as server:
        yield server


@pytest.fixture
def line(tws: Server) -> Iterator[Line]:
    with gateway.line(tws) as line:
        yield line


def looked(line: Line, tws: Server, session: date = SESSION, **needs: object) -> dict[str, Check]:
    return {check.name: check for check in gateway.broker(line, tws, **needs).inspect(session)}


def test_a_sound_chain_passes_link_by_link(tws: Server, line: Line) -> None:
    checks = looked(line, tws)

    assert [
        "IB login",
        "IB orders",
        "clock",
        "listing",
        "order type",
        "hours",
        "MTUM quotes",
        "VIX quotes",
        "cash",
        "IB servers",
    ] == list(checks)
    assert [] == [check for check in checks.values() if not check.passed]


def test_looking_sends_no_order(tws: Server, line: Line) -> None:
    looked(line, tws)

    assert [] == tws.asked("placeOrder", "cancelOrder", "reqGlobalCancel")


def relisted(tws: Server) -> None:
    tws.exchange.contracts[0] = replace(MTUM, primary_exchange="ARCA")


def without_moc(tws: Server) -> None:
    tws.exchange.contracts[0] = replace(MTUM, order_types="LMT,MKT")


def unknown(tws: Server) -> None:
    tws.faults.error("reqContractDetails", 200)


def read_only(tws: Server) -> None:
    tws.exchange.rules.read_only = True


def delayed(tws: Server) -> None:
    tws.exchange.rules.feeds["MTUM"] = "delayed"


def no_vix(tws: Server) -> None:
    tws.exchange.rules.feeds["VIX"] = "none"


def competing(tws: Server) -> None:
    tws.exchange.rules.competing_session = True


def in_euros(tws: Server) -> None:
    tws.account.base_currency = "EUR"
    tws.account.cash = {"EUR": 5000.0}
    tws.account.rates = {"EUR": 1.0, "USD": 0.9}


@pytest.mark.parametrize(
    ("fault", "name", "words", "cure"),
    [
        (relisted, "listing", "MTUM is listed at ARCA, BATS expected", "set ib.primary_exchange to ARCA"),
        (without_moc, "order type", "MTUM does not take MOC orders", "set ib.order_type to MKT"),
        (unknown, "contract", "no such contract (200", "ib.primary_exchange"),
        (read_only, "IB orders", "Read-Only", "untick Read-Only API"),
        (delayed, "MTUM quotes", "delayed", "Client Portal"),
        (no_vix, "VIX quotes", "no subscription", "Client Portal"),
        (competing, "MTUM quotes", "another login", "log the same user out"),
        (in_euros, "cash", "0.00 USD, settled 0.00", "convert money to USD"),
    ],
)
def test_a_broken_link_is_named_with_its_cure(
    tws: Server, line: Line, fault: Callable[[Server], None], name: str, words: str, cure: str
) -> None:
    fault(tws)
    check = looked(line, tws)[name]

    assert (False, True, True) == (check.passed, words in check.words, cure in check.cure), check


@pytest.mark.parametrize("seconds", [-31, 31])
def test_a_clock_that_is_off_is_found(tws: Server, line: Line, seconds: int) -> None:
    """The hard stop is kept by the local clock."""

    class Off:
        def now(self) -> datetime:
            return tws.clock.now() + timedelta(seconds=seconds)

    check = looked(line, tws, clock=Off())["clock"]
    expected = f"this computer is 31 s {'ahead of' if seconds > 0 else 'behind'} IB"

    assert (False, expected, True) == (check.passed, check.words, "NTP" in check.cure)


@pytest.mark.parametrize("code", [2103, 2105, 2157, 1100, 2110])
def test_a_link_told_to_be_down_is_named_until_it_is_back(tws: Server, line: Line, code: int) -> None:
    _ = line.account
    tws.say(code)
    down = looked(line, tws)["IB servers"]
    tws.say({2103: 2104, 2105: 2106, 2157: 2158, 1100: 1102, 2110: 1102}[code])
    up = looked(line, tws)["IB servers"]

    assert (False, True) == (down.passed, up.passed)
    assert str(code) in down.words


def test_hours_other_than_the_calendars_are_named(tws: Server, line: Line) -> None:
    """A close at 13:00 that the calendar does not know: half the timetable would be wrong."""
    tws.on("contractDetails", lambda reply: reply.values.__setitem__("liquidHours", "20241105:0930-20241105:1300"))
    check = looked(line, tws)["hours"]

    assert (False, "2024-11-05: 09:30 to 13:00 at IB, 09:30 to 16:00 in the calendar") == (check.passed, check.words)


def test_hours_beyond_the_week_that_ib_tells_are_unknown_not_closed(tws: Server, line: Line) -> None:
    check = looked(line, tws, date(2024, 11, 20))["hours"]

    assert (True, "IB does not tell the hours of 2024-11-20 yet") == (check.passed, check.words)


def test_quotes_are_looked_at_only_where_bars_come_from_ib(tws: Server, line: Line) -> None:
    """With Yahoo's bars no subscription is needed."""
    checks = looked(line, tws, quotes=(), order_type=OrderType.MKT)

    assert ([], []) == ([name for name in checks if "quotes" in name], tws.asked("reqMktData"))


def test_without_a_gateway_the_login_alone_fails(tws: Server, line: Line) -> None:
    """Exit code 4 for a silent Gateway, 2 for the wrong account."""
    tws.managed_accounts[:] = ["U1234567"]
    wrong = looked(line, tws)
    tws.refuse()
    silent = looked(line, tws)

    assert (["IB login"], ["IB login"]) == (list(wrong), list(silent))
    assert (2, 4) == (wrong["IB login"].exit_code, silent["IB login"].exit_code)


def test_a_link_that_does_not_answer_stops_none_of_the_others(tws: Server, line: Line) -> None:
    tws.faults.hang("reqContractDetails", times=2)
    checks = looked(line, tws)

    assert ["contract"] == [check.name for check in checks.values() if not check.passed]
    assert 4 == checks["contract"].exit_code


def test_hours_are_read_in_all_forms_that_ib_has() -> None:
    """With and without the second date, closed days, and nothing."""
    opened, closed = (wall(hour, minute) for hour, minute in ((9, 30), (16, 0)))
    told = "20241105:0930-20241105:1600;20241106:CLOSED;20241105:0930-1600"

    assert {SESSION: (opened, closed), date(2024, 11, 6): ()} == liquid_hours(told)
    assert {} == liquid_hours("")


def wall(hour: int, minute: int) -> datetime:
    return datetime(2024, 11, 5, hour, minute, tzinfo=NEW_YORK)


def test_a_gateway_that_dies_at_the_last_question_ends_no_list(tws: Server, line: Line) -> None:
    """What was found before it stands, and the links behind the Gateway are not known to be whole."""
    tws.on("reqAccountSummary", lambda _: tws.refuse())
    found = looked(line, tws)

    assert (True, False, 4) == (found["listing"].passed, found["IB servers"].passed, found["IB servers"].exit_code)
