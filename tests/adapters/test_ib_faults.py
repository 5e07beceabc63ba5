"""Every trouble a terminal can make for a whole run: what the owner is told, the exit code, what is asked again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import gateway
import pytest
from gateway import PaperPerson, intent

from mtum_eod.core.trading import OrderStatus
from mtum_eod.errors import BrokerUnavailable
from mtum_eod.ports import Known, Unknown
from tws_server import CODES, Server


@pytest.fixture
def tws() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def person(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, tws: Server) -> PaperPerson:
    return gateway.paper_person(tmp_path, monkeypatch, tws)


# -- whole runs -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A trouble, and what a run at 15:40 that would buy makes of it."""

    trouble: Callable[[Server], object]
    exit_code: int
    told: str  # in what the owner reads: output, notices, log of the run
    orders: tuple[str, ...] = ()  # the statuses at the terminal afterwards
    asked_again: tuple[str, int] | None = None  # how often this request came, where it was repeated


def euros(tws: Server) -> None:
    tws.account.base_currency = "EUR"
    tws.account.cash = {"EUR": 9000.0}
    tws.account.rates = {"EUR": 1.0, "USD": 0.9}


def read_only(tws: Server) -> None:
    tws.exchange.rules.read_only = True


def competing(tws: Server) -> None:
    tws.exchange.rules.competing_session = True


def feed(symbol: str, kind: Any) -> Callable[[Server], object]:
    return lambda tws: tws.exchange.rules.feeds.update({symbol: kind})


def error(name: str, code: int, **how: Any) -> Callable[[Server], object]:
    return lambda tws: tws.faults.error(name, code, **how)


def reject(tws: Server) -> None:
    tws.on("orderStatus", lambda _: tws.orders[0].is_live and tws.reject(tws.orders[0]))


WORKING = ("PreSubmitted",)
TABLE = {
    "quiet": Row(lambda _: None, 0, "BUY 23 MTUM MOC", WORKING),
    # the connection
    "no Gateway": Row(lambda tws: tws.refuse(), 4, "nothing takes connections"),
    "a Gateway that asks for its login": Row(lambda tws: tws.faults.hang("serverVersion"), 4, "did not start its API"),
    "client id in use": Row(error("startApi", 326), 4, "client id 1 already"),
    "real money in mode paper": Row(lambda tws: tws.managed_accounts.__setitem__(0, "U1"), 2, "it is real money"),
    "two accounts": Row(lambda tws: tws.managed_accounts.append("DU2"), 2, "manages 2 accounts"),
    "1100 in the middle": Row(
        lambda tws: tws.on("reqPositions", lambda _: tws.say(1100)), 0, "BUY 23 MTUM MOC", WORKING
    ),
    # reading
    "history lost once": Row(
        lambda tws: tws.faults.drop(before="historicalData"), 0, "BUY 23", WORKING, ("reqHistoricalData", 6)
    ),
    "history silent": Row(
        lambda tws: tws.faults.hang("reqHistoricalData"),
        4,
        "did not answer about 1 day bars",
        (),
        ("reqHistoricalData", 2),
    ),
    "no market data": Row(feed("MTUM", "none"), 3, "market data permissions"),
    "delayed market data": Row(feed("MTUM", "delayed"), 3, "market data permissions"),
    "no VIX": Row(feed("VIX", "none"), 3, "market data permissions"),
    "competing login": Row(competing, 3, "different IP address"),
    "no contract": Row(error("reqHistoricalData", 200), 3, "no such contract"),
    "no bar of today": Row(lambda tws: setattr(tws.exchange.rules, "has_today", False), 0, "BUY 23 MTUM MOC", WORKING),
    "positions silent": Row(
        lambda tws: tws.faults.hang("reqPositions"), 5, "position is not known", (), ("reqPositions", 2)
    ),
    "positions without an end": Row(
        lambda tws: tws.faults.hang("positionEnd"), 5, "position is not known", (), ("reqPositions", 2)
    ),
    "shares of the owner's own": Row(lambda tws: tws.hold("MTUM", 5, 200.0), 5, "the broker 5"),
    "half a share": Row(lambda tws: tws.hold("MTUM", 0.5, 200.0), 5, "the broker 0.5"),
    "shares of something else": Row(lambda tws: tws.hold("SPY", 5, 500.0), 0, "BUY 23 MTUM MOC", WORKING),
    "cash silent": Row(lambda tws: tws.faults.hang("reqAccountSummary"), 0, "cash", (), ("reqAccountSummary", 2)),
    "euros only": Row(euros, 0, "cash"),
    # sending
    "refused": Row(reject, 5, "rejected"),
    "no money": Row(lambda tws: tws.account.cash.update(USD=100.0), 0, "one share needs"),
    "no permission": Row(error("placeOrder", 460), 5, "No trading permissions"),
    "read-only API": Row(read_only, 4, "Read-Only"),
    "duplicate id": Row(error("placeOrder", 103), 0, "not_sent"),
    "preset said DAY": Row(error("placeOrder", 10349), 0, "BUY 23 MTUM MOC", WORKING),
    "order lost": Row(lambda tws: tws.faults.lose("placeOrder", times=1), 0, "BUY 23", WORKING, ("placeOrder", 2)),
    "lost for good": Row(lambda tws: tws.faults.lose("placeOrder"), 0, "not_sent", (), ("placeOrder", 2)),
    "word lost": Row(lambda tws: tws.faults.drop(before="openOrder"), 0, "BUY 23 MTUM MOC", WORKING),
    "line cut behind the order": Row(lambda tws: tws.faults.drop(after="placeOrder"), 0, "BUY 23", WORKING),
    "Gateway gone behind the order": Row(
        lambda tws: tws.on("placeOrder", lambda _: tws.refuse(), "after"), 5, "unknown", WORKING
    ),
}


@pytest.mark.parametrize("row", TABLE.values(), ids=TABLE.keys())
def test_a_run_in_trouble(person: PaperPerson, tws: Server, row: Row) -> None:
    """One repeat is allowed; whatever comes, at most one order is at the terminal, and the owner reads why."""
    person.environment["MTUM_EOD_IB__MAX_RETRIES"] = "1"
    row.trouble(tws)
    typed = person.types("run --json")
    read = " ".join([typed.out, *(words for (words,) in person.sql("SELECT words FROM notice"))])
    live = tuple(order.status for order in tws.orders if order.is_live and order.status != "Inactive")

    assert (row.exit_code, row.orders, True) == (typed.exit_code, live, row.told in read), read
    assert row.asked_again is None or row.asked_again[1] == len(tws.asked(row.asked_again[0]))
    assert 1 >= len({request.values["orderId"] for request in tws.asked("placeOrder")})


def test_runs_in_worker_threads_decide_as_any_other(person: PaperPerson, tws: Server) -> None:
    """As APScheduler would call them."""
    with ThreadPoolExecutor(1) as pool:
        typed = pool.submit(person.types, "run --json").result()

    assert (0, "working") == (typed.exit_code, typed.document["order"]["status"])
    assert 1 == len(tws.orders)


# -- every code, everywhere -------------------------------------------------------------------------------------------

READS = {
    "reqPositions": lambda broker: broker.shares_held("MTUM"),
    "reqAllOpenOrders": lambda broker: broker.orders(),
    "reqCompletedOrders": lambda broker: broker.orders(),
    "reqExecutions": lambda broker: broker.executions(),
    "reqAccountSummary": lambda broker: broker.cash(),
}


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize("code", [162, 200, 320, 321, 322, 354, 504, 1100, 2103, 10197])
def test_a_code_in_place_of_an_answer_is_known_or_unknown_and_never_empty(tws: Server, name: str, code: int) -> None:
    """What the terminal holds is told whole, or nothing is said of it."""
    tws.hold("MTUM", 7, 200.0)
    with gateway.line(tws, request_timeout=0.2, max_retries=0) as line:
        broker = gateway.broker(line, tws)
        broker.submit(intent())
        tws.fill(tws.orders[0], 5)
        tws.faults.error(name, code, CODES.get(code, "something"))
        answer = READS[name](broker)

    match answer:
        case Known(value=[only]):
            assert 5 in (only.filled_shares if hasattr(only, "filled_shares") else only.shares,)
        case Known(value=float(shares)):
            assert 12.0 == shares
        case Known(value=cash):
            assert cash.spendable_usd > 0
        case Unknown(why=why):
            assert why


@pytest.mark.parametrize("code", sorted(CODES))
def test_a_code_said_of_an_order_never_hides_what_became_of_it(tws: Server, code: int) -> None:
    """Beside the acknowledgement or in its place: REJECTED only where the terminal has no such order."""
    tws.faults.error("placeOrder", code)
    with gateway.line(tws, request_timeout=0.2, max_retries=0) as line:
        broker = gateway.broker(line, tws)
        try:
            status = broker.submit(intent()).status
        except BrokerUnavailable:
            status = None
    has_it = [order.status for order in tws.orders] == ["PreSubmitted"]

    assert 1 == len(tws.asked("placeOrder"))
    assert (status is None) or (status is OrderStatus.WORKING) == has_it
