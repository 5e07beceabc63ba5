"""Every trouble a terminal can make for a whole run: what the owner is told, the exit code, what is asked again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import gateway
import pytest
from crash.test_kill_points import REPLIES, REQUESTS
from gateway import PaperPerson, intent

from mtum_eod.core.trading import OrderStatus
from mtum_eod.errors import BrokerUnavailable
from mtum_eod.ports import Known, Unknown
from tws_server import CODES, Auction, Server
from tws_server.world import MTUM

Trouble = Callable[[Server], object]


@pytest.fixture
def tws() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def person(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, tws: Server) -> PaperPerson:
    """Someone who allows one repeat."""
    someone = gateway.paper_person(tmp_path, monkeypatch, tws)
    someone.environment["MTUM_EOD_IB__MAX_RETRIES"] = "1"
    return someone


def fault(kind: str, *names: str, **how: Any) -> Trouble:
    return lambda tws: getattr(tws.faults, kind)(*names, **how)


def error(name: str, code: int, words: str | None = None, **how: Any) -> Trouble:
    return lambda tws: tws.faults.error(name, code, words, **how)


def on(name: str, act: Trouble, when: Any = "before") -> Trouble:
    """Let it happen at the first message of that name."""

    def arrange(tws: Server) -> None:
        todo = [act]
        tws.on(name, lambda _: todo and todo.pop()(tws), when)

    return arrange


def said(*codes: int) -> Trouble:
    """Told to everybody, in the middle of a run."""
    return on("reqPositions", lambda tws: [tws.say(code) for code in codes])


def rules(**values: Any) -> Trouble:
    return lambda tws: [setattr(tws.exchange.rules, name, value) for name, value in values.items()]


def feed(symbol: str, kind: Any) -> Trouble:
    return rules(feeds={symbol: kind})


def account(base: str, cash: dict[str, float]) -> Trouble:
    def arrange(tws: Server) -> None:
        tws.account.base_currency, tws.account.cash = base, cash
        tws.account.rates = {"EUR": 1.0, "USD": 0.9}

    return arrange


def row_of(name: str, **values: Any) -> Trouble:
    """A reply whose rows say something else."""
    return lambda tws: tws.on(name, lambda reply: reply.values.update(values))


def reissued(tws: Server) -> None:
    """The order is lost, the Gateway starts again and counts its ids anew from 1."""
    tws.exchange.first_id = 5
    tws.faults.lose("placeOrder", times=1)
    on("placeOrder", lambda tws: tws.restart(first_id=1))(tws)


def split(tws: Server) -> None:
    """Two for one, at the next open."""
    tws.market.splits["MTUM"] = (date(2024, 11, 5), 2.0)


def contract(**values: Any) -> Trouble:
    return lambda tws: tws.exchange.contracts.__setitem__(0, replace(MTUM, **values))


def port_reset(tws: Server) -> None:
    tws.say(1300)
    tws.disconnect()


# -- a run that decides -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A trouble, and what comes of the command that meets it."""

    trouble: Trouble
    exit_code: int
    event: str  # on which the owner is told; "" where the terminal's output alone has it
    told: str
    sent: tuple[int, ...] = ()  # the ids of all orders on the wire, one that was sent twice stands twice
    live: str = ""  # how the order stands at the terminal afterwards, where it lives
    repeated: bool | None = None  # whether reads were; None where a second connection may find its id still in use
    cash_before: float | None = None  # USD in the session before, where there was one


def bought(
    trouble: Trouble, told: str = "BUY 23 MTUM MOC for 2024-11-05: working", *sent: int, repeated: bool | None = None
) -> Row:
    """The order goes out all the same."""
    return Row(trouble, 0, "order_sent", told, sent or (1,), "PreSubmitted", repeated)


def refused(code: int) -> Row:
    """Nothing is sent again, in this session or by hand."""
    return Row(error("placeOrder", code, CODES.get(code, "No.")), 5, "order_rejected", f"{code}: ", (1,))


def unread(code: int, name: str = "reqHistoricalData") -> Row:
    """No history is no decision."""
    return Row(error(name, code), 3, "run_failed", f"{code}: ", repeated=False)


RUNS = {
    "quiet": bought(lambda _: None),
    # the connection
    "no Gateway (502)": Row(lambda tws: tws.refuse(), 4, "run_failed", "nothing takes connections", repeated=True),
    "a Gateway that asks for its login": Row(fault("hang", "serverVersion"), 4, "run_failed", "did not start its API"),
    "client id in use": Row(error("startApi", 326), 4, "run_failed", "client id 1 already"),
    "real money in mode paper": Row(
        lambda tws: tws.managed_accounts.__setitem__(0, "U1"), 2, "run_failed", "it is real money"
    ),
    "two accounts": Row(lambda tws: tws.managed_accounts.append("DU2"), 2, "run_failed", "manages 2 accounts"),
    "1100": Row(said(1100), 4, "run_failed", "no order may leave: the Gateway has lost IB's servers (1100"),
    "2110": Row(said(2110), 4, "run_failed", "no order may leave: the Gateway has lost IB's servers and"),
    "1100 before an order made already": Row(
        on("reqAllOpenOrders", lambda tws: tws.say(1100)), 4, "run_failed", "1100: "
    ),
    "1100 and 1101": bought(said(1100, 1101)),
    "1100 and 1102": bought(said(1100, 1102)),
    "1300": bought(on("reqPositions", port_reset), repeated=True),
    "2103": bought(said(2103)),
    "2105": bought(said(2105)),
    "2157": bought(said(2157)),
    "farms idle, connecting and back": bought(said(2104, 2106, 2107, 2108, 2119, 2158)),
    "366": bought(said(366)),
    # reading
    "history lost once": bought(lambda tws: tws.faults.drop(before="historicalData"), repeated=True),
    "history lost behind its answer": bought(lambda tws: tws.faults.drop(after="historicalData")),
    "history late": bought(fault("late", "historicalData", seconds=0.2, times=2)),
    "history too late once": bought(fault("late", "historicalData", seconds=1.5, times=1), repeated=True),
    "history silent": Row(
        fault("hang", "reqHistoricalData"), 4, "run_failed", "did not answer about 1 day bars", repeated=True
    ),
    "162": Row(error("reqHistoricalData", 162), 3, "run_failed", "insufficient history: 0 sessions", repeated=False),
    "162 for its pacing": bought(error("reqHistoricalData", 162, "pacing violation", times=1), repeated=True),
    "200": unread(200),
    "320": unread(320),
    "354": unread(354),
    "420": unread(420),
    "10089": unread(10089),
    "10168": unread(10168),
    "10197": unread(10197),
    "10167": bought(error("reqHistoricalData", 10167)),
    "no market data": Row(feed("MTUM", "none"), 3, "run_failed", "market data permissions", repeated=False),
    "delayed market data": Row(feed("MTUM", "delayed"), 3, "run_failed", "market data permissions", repeated=False),
    "no VIX": Row(feed("VIX", "none"), 3, "run_failed", "market data permissions", repeated=False),
    "competing login": Row(rules(competing_session=True), 3, "run_failed", "different IP address", repeated=False),
    "no bar of today": bought(rules(has_today=False)),
    "lots for shares": Row(rules(lots=True), 3, "run_failed", "lots, not shares?", cash_before=100.0),
    "a split": Row(split, 0, "daily_summary", "HOLD 48", (1,), cash_before=10_000.0),
    "positions silent": Row(fault("hang", "reqPositions"), 5, "mismatch", "position is not known", repeated=True),
    "positions without an end": Row(
        fault("hang", "positionEnd"), 5, "mismatch", "position is not known", repeated=True
    ),
    "positions twice": bought(lambda tws: (tws.hold("SPY", 5, 500.0), tws.faults.twice("position"))),
    "orders silent": Row(fault("hang", "reqAllOpenOrders"), 4, "run_failed", "is not known", repeated=True),
    "orders without an end": Row(fault("hang", "completedOrdersEnd"), 4, "run_failed", "is not known", repeated=True),
    "shares of the owner's own": Row(lambda tws: tws.hold("MTUM", 5, 200.0), 5, "mismatch", "the broker 5"),
    "half a share": Row(lambda tws: tws.hold("MTUM", 0.5, 200.0), 5, "mismatch", "the broker 0.5"),
    "shares of something else": bought(lambda tws: tws.hold("SPY", 5, 500.0)),
    "shares in euros": bought(lambda tws: tws.hold("SAP", 5, 200.0)),
    "cash silent": Row(
        fault("hang", "reqAccountSummary"),
        0,
        "daily_summary",
        "did not say how much USD there is (IB at",
        repeated=True,
    ),
    "cash told twice": bought(fault("twice", "accountSummary")),
    "euros only": Row(account("EUR", {"EUR": 9000.0}), 0, "daily_summary", "0.00 USD in cash, one share needs"),
    "euros and dollars": bought(account("EUR", {"EUR": 9000.0, "USD": 9000.0})),
    "no money": Row(lambda tws: tws.account.cash.update(USD=100.0), 0, "daily_summary", "convert first"),
    # the contract
    "no MOC": Row(contract(order_types="LMT,MKT"), 3, "run_failed", "does not take MOC"),
    "listed elsewhere": Row(contract(primary_exchange="ARCA"), 3, "run_failed", "no such contract (200: "),
    "hours": Row(
        row_of("contractDetails", liquidHours="20241105:0930-20241105:1300"), 3, "run_failed", "09:30 to 13:00 at IB"
    ),
    # sending
    **{f"{code} for the order": refused(code) for code in (110, 113, 200, 201, 320, 387, 460, 10243)},
    "read-only API (321)": Row(rules(read_only=True), 4, "run_failed", "321: "),
    "refused behind its acknowledgement": Row(
        on("orderStatus", lambda tws: tws.reject(tws.orders[0])), 5, "order_rejected", "The exchange is closed.", (1,)
    ),
    "202": Row(
        on("orderStatus", lambda tws: tws.cancel(tws.orders[0])), 5, "order_rejected", "Cancelled by System", (1,)
    ),
    "201 and listed still": Row(
        on("placeOrder", lambda tws: (tws.say(201, request_id=1), tws.suspend(tws.orders[0])), "after"),
        5,
        "order_rejected",
        "201: ",
        (1,),
        "Inactive",
    ),
    "Inactive": Row(
        on("placeOrder", lambda tws: tws.suspend(tws.orders[0]), "after"),
        5,
        "order_rejected",
        "Inactive",
        (1,),
        "Inactive",
    ),
    "103": Row(error("placeOrder", 103), 5, "run_failed", "unknown (this order id has been used (103: ", (1,)),
    "103 for an order that is there": bought(on("placeOrder", lambda tws: tws.say(103, request_id=1), "after")),
    **{
        f"{code} for the order": Row(error("placeOrder", code), 4, "run_failed", f"{code}: ", (1, 1))
        for code in (105, 161, 504, 10147, 10148)
    },
    "399 for the next session": Row(error("placeOrder", 399), 5, "order_rejected", "withdrawn: 399: ", (1,)),
    "399": bought(error("placeOrder", 399, "Order Message: it may be held"), "399: Order Message: it may be held"),
    "404": bought(error("placeOrder", 404), "404: Shares for this order"),
    "2109": bought(error("placeOrder", 2109), "2109: Order Event Warning"),
    "10349": bought(error("placeOrder", 10349), "an order preset set the time in force to DAY"),
    "order lost": bought(fault("lose", "placeOrder", times=1), "BUY 23 MTUM MOC", 1, 1),
    "order lost for good": Row(fault("lose", "placeOrder"), 4, "run_failed", "not_sent (never reached", (1, 1)),
    "order lost, ids reissued": bought(reissued, "BUY 23 MTUM MOC", 5, 1),
    "line cut before the order": bought(lambda tws: tws.faults.drop(before="placeOrder"), "BUY 23 MTUM MOC", 1, 1),
    "line cut behind the order": bought(lambda tws: tws.faults.drop(after="placeOrder")),
    "word lost": bought(lambda tws: tws.faults.drop(before="openOrder")),
    "word silent": bought(fault("hang", "placeOrder")),
    "word late": bought(fault("late", "openOrder", seconds=0.2)),
    "words twice": bought(lambda tws: (tws.faults.twice("openOrder"), tws.faults.twice("orderStatus"))),
    "words out of order": bought(fault("reorder", "orderStatus", "openOrder")),
    "Gateway gone behind the order": Row(
        on("placeOrder", lambda tws: tws.refuse(), "after"), 5, "run_failed", "unknown", (1,), "PreSubmitted", True
    ),
}


def check(person: PaperPerson, tws: Server, row: Row, command: str, before_close: float = 20) -> None:
    """One command typed under a trouble, so many minutes before the close, held against its row."""
    row.trouble(tws)
    person.at("2024-11-05", before_close)
    filed = person.sql("SELECT max(id) FROM runs")[0][0] or 0 if person.database.exists() else 0
    typed = person.types(command)
    notices = person.sql("SELECT event, words FROM notice")
    [(retries,)] = person.sql(f"SELECT coalesce(sum(retries), 0) FROM runs WHERE id > {filed}")  # noqa: S608
    live = "".join(order.status for order in tws.orders if order.is_live)
    sent = tuple(int(request.values["orderId"]) for request in tws.asked("placeOrder"))
    is_told = any(row.told in words for event, words in [*notices, ("", typed.out)] if event == row.event)

    assert (row.exit_code, row.sent, row.live, True) == (typed.exit_code, sent, live, is_told), f"{typed}\n{notices}"
    assert row.repeated in (None, retries > 0)


@pytest.mark.parametrize("row", RUNS.values(), ids=RUNS.keys())
def test_a_run_in_trouble(person: PaperPerson, tws: Server, row: Row) -> None:
    """A run at 15:40 that would buy."""
    if row.cash_before is not None:
        tws.account.cash["USD"] = row.cash_before
        person.at("2024-11-04", 20).types("run")
        person.at("2024-11-04", -20).types("settle")
        tws.account.cash["USD"] += 10_000.0 - row.cash_before
    check(person, tws, row, "run --json")


# -- a settlement -----------------------------------------------------------------------------------------------------

FILLED = "BUY 23 MTUM at 207."


def booked(trouble: Trouble, told: str = FILLED, repeated: bool | None = None) -> Row:
    """All of it stands in the book."""
    return Row(trouble, 0, "order_filled", told, (1,), "", repeated)


def unsettled(trouble: Trouble, exit_code: int, told: str, repeated: bool | None = None) -> Row:
    """The session stays open, and the owner looks."""
    return Row(trouble, exit_code, "mismatch", told, (1,), "", repeated)


SETTLEMENTS = {
    "quiet": booked(lambda _: None),
    "executions twice": booked(fault("twice", "execDetails")),
    "commission before its execution": booked(fault("reorder", "commissionReport", "execDetails")),
    "commission late": booked(fault("late", "commissionReport", seconds=0.2)),
    "commission never sent": Row(rules(sends_commissions=False), 0, "order_filled", FILLED, (1,)),
    "status before execution": booked(rules(status_before_execution=True)),
    "a time in UTC": booked(rules(execution_time="20241105-21:00:05")),
    "a zone nobody knows": unsettled(
        rules(execution_time="20241105 16:00:05 Eastern Standard Time"), 5, "executions", repeated=True
    ),
    "executions lost once": booked(lambda tws: tws.faults.drop(before="execDetails"), repeated=True),
    "executions silent": unsettled(fault("hang", "reqExecutions"), 5, "executions", repeated=True),
    "executions cut": unsettled(fault("cut", "execDetailsEnd", times=None), 5, "executions", repeated=True),
    "executions forgotten": unsettled(rules(shows_executions=False), 5, "its executions add up to 0"),
    "orders silent": unsettled(fault("hang", "reqAllOpenOrders"), 4, "open orders", repeated=True),
    "filled in part": booked(lambda _: None, "BUY 12 MTUM at 207.1"),
    "no auction": Row(lambda _: None, 0, "order_rejected", "No closing auction", (1,)),
    "a Gateway started again": booked(lambda tws: tws.restart(first_id=1)),
    "past midnight": Row(lambda _: None, 0, "order_filled", "ESTIMATED", (1,)),
    "no Gateway": Row(lambda tws: tws.refuse(), 4, "run_failed", "nothing takes connections", (1,), "", True),
    "162": Row(error("reqHistoricalData", 162), 0, "order_filled", FILLED, (1,)),
}
AUCTIONS = {
    "filled in part": Auction(parts=((5, 207.1), (7, 207.2))),
    "no auction": Auction(cancels="Order Canceled - reason:No closing auction"),
}


@pytest.mark.parametrize("name", SETTLEMENTS)
def test_a_settlement_in_trouble(person: PaperPerson, tws: Server, name: str) -> None:
    """Twenty minutes after the close; bought at 15:40 with nothing in the way."""
    person.types("run")
    tws.exchange.auctions[gateway.SESSION] = AUCTIONS.get(name, Auction())
    check(person, tws, SETTLEMENTS[name], "settle --json", -20 if name != "past midnight" else -17 * 60)


# -- an order taken back ----------------------------------------------------------------------------------------------

CANCELS = {
    "quiet (202)": Row(lambda _: None, 0, "", "withdrawn", (1,)),
    "161": Row(error("cancelOrder", 161), 5, "run_failed", "may be executed at the close", (1,), "PreSubmitted"),
    "10147": Row(error("cancelOrder", 10147), 5, "run_failed", "may be executed at the close", (1,), "PreSubmitted"),
    "10148": Row(error("cancelOrder", 10148), 5, "run_failed", "may be executed at the close", (1,), "PreSubmitted"),
    "filled first (10148)": Row(
        on("cancelOrder", lambda tws: tws.fill(tws.orders[0])), 5, "run_failed", "filled", (1,)
    ),
    "cancel lost": Row(fault("lose", "cancelOrder"), 5, "run_failed", "could not be withdrawn", (1,), "PreSubmitted"),
    "word lost": Row(lambda tws: tws.faults.drop(after="cancelOrder"), 5, "run_failed", "could not be withdrawn", (1,)),
    "no Gateway": Row(lambda tws: tws.refuse(), 5, "run_failed", "could not be withdrawn", (1,), "PreSubmitted"),
}


@pytest.mark.parametrize("row", CANCELS.values(), ids=CANCELS.keys())
def test_an_order_taken_back_in_trouble(person: PaperPerson, tws: Server, row: Row) -> None:
    """Two minutes after it went out."""
    person.types("run")
    check(person, tws, row, "cancel --json", 18)
    assert len(tws.asked("cancelOrder")) <= 1


# -- the look before ---------------------------------------------------------------------------------------------------


def preflight(trouble: Trouble, exit_code: int, told: str) -> Row:
    return Row(trouble, exit_code, "run_failed", told)


LOOKS = {
    "no MOC": preflight(contract(order_types="LMT,MKT"), 2, "does not take MOC"),
    "listed elsewhere": preflight(contract(primary_exchange="ARCA"), 3, "listed at ARCA"),
    "hours": preflight(row_of("contractDetails", liquidHours="20241105:0930-20241105:1300"), 3, "09:30 to 13:00 at IB"),
    "zone of the hours": preflight(row_of("contractDetails", timeZoneId="Mars/Olympus"), 3, "Mars/Olympus"),
    "200": preflight(error("reqContractDetails", 200), 3, "no such contract (200: "),
    **{str(code): preflight(error("reqMktData", code), 3, f"{code}: ") for code in (354, 420, 10089, 10168, 10197)},
    "10167": preflight(feed("MTUM", "delayed"), 3, "MTUM quotes: delayed"),
    "321": preflight(rules(read_only=True), 3, "321: "),
    "euros only": preflight(account("EUR", {"EUR": 9000.0}), 3, "0.00 USD"),
    "real money in mode paper": preflight(lambda tws: tws.managed_accounts.__setitem__(0, "U1"), 2, "it is real money"),
    "no Gateway": preflight(lambda tws: tws.refuse(), 4, "nothing takes connections"),
    "client id in use": preflight(error("startApi", 326), 4, "client id 1 already"),
    **{
        str(code): preflight(on("reqAccountSummary", lambda tws, code=code: tws.say(code)), 3, f"{code}: ")
        for code in (1100, 2103, 2105, 2110, 2157)
    },
}


@pytest.mark.parametrize("row", LOOKS.values(), ids=LOOKS.keys())
def test_a_preflight_in_trouble(person: PaperPerson, tws: Server, row: Row) -> None:
    """Two hours before the close; nothing is placed."""
    person.environment["MTUM_EOD_IB__MAX_RETRIES"] = "0"
    check(person, tws, row, "run --if-due --json", 119)


def test_runs_in_worker_threads_decide_as_any_other(person: PaperPerson, tws: Server) -> None:
    """As APScheduler would call them."""
    with ThreadPoolExecutor(1) as pool:
        typed = pool.submit(person.types, "run --json").result()

    assert (0, "working") == (typed.exit_code, typed.document["order"]["status"])
    assert 1 == len(tws.orders)


# -- a line cut anywhere ----------------------------------------------------------------------------------------------

CUTS = [
    (step, name, when)
    for step in ("run", "settle")
    for name in f"{REQUESTS[step]} {REPLIES[step]}".split()
    for when in ("before", "after")
    if name != "position"  # there is none before the first purchase
]


@pytest.mark.slow
@pytest.mark.parametrize(("step", "name", "when"), CUTS)
def test_a_line_cut_at_any_message_is_made_again(
    person: PaperPerson, tws: Server, step: str, name: str, when: str
) -> None:
    """One repeat is allowed, and enough: one order, and its execution as the broker has it."""
    codes = []
    for command, before_close in (("run", 20), ("settle", -20)):
        person.at("2024-11-05", before_close)
        if command == step:
            cut = tws.faults.drop(**{when: name})
        codes.append(person.types(command).exit_code)
    booked = person.sql("SELECT quantity, price, commission, estimated FROM fills")

    assert ([0, 0], 1, 1) == (codes, cut.hit, len(tws.orders))
    assert [(23, print_.price, print_.commission, 0) for print_ in tws.executions] == booked


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
    with gateway.line(tws) as line:
        gateway.broker(line, tws).submit(intent())
    tws.fill(tws.orders[0], 5)
    tws.faults.error(name, code, CODES.get(code, "something"))
    with gateway.line(tws, request_timeout=0.2, max_retries=0) as line:
        answer = READS[name](gateway.broker(line, tws))

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
