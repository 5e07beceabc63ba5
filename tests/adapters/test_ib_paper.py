"""Typed in paper mode against a terminal on the wire: from the first command to a settled round trip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import gateway
import pytest
from fakes import FakeClock
from gateway import PaperPerson, intent

from mtum_eod import bootstrap
from tws_server import Auction, Reply, Server

KEY = "mtum-eod/paper/DU1234567/MTUM/2024-11-05/BUY"


@pytest.fixture
def tws() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tws: Server) -> PaperPerson:
    return gateway.paper_person(tmp_path, monkeypatch, tws)


def test_a_day_in_paper_mode_ends_with_its_executions_in_the_book(person: PaperPerson, tws: Server) -> None:
    """Decided at 15:40, filled at the close, settled at 16:20, to the cent as the broker has it."""
    decided = person.types("run --json")
    person.at("2024-11-05", -20)
    settled = person.types("settle --json")
    [printed] = tws.executions
    booked = person.sql("SELECT execution_id, session, action, quantity, price, commission FROM fills")

    assert (0, "BUY", KEY, "working") == (
        decided.exit_code,
        decided.document["action"],
        decided.document["order"]["key"],
        decided.document["order"]["status"],
    )
    assert (0, True, "filled") == (
        settled.exit_code,
        settled.document[0]["settled"],
        settled.document[0]["order"]["status"],
    )
    assert [(printed.exec_id.rpartition(".")[0], "2024-11-05", "BUY", 23, printed.price, printed.commission)] == booked


def test_the_book_is_bound_to_the_account_that_was_connected(person: PaperPerson, tws: Server) -> None:
    """From then on another login is refused, with exit code 2."""
    person.types("run --json")
    tws.managed_accounts[:] = ["DU7654321"]
    person.at("2024-11-06", 20)
    refused = person.types("run --json")

    assert (2, True) == (refused.exit_code, "logged in to DU7654321, this book trades DU1234567" in refused.out)
    assert 1 == len(tws.orders)


def test_a_second_run_of_the_session_sends_nothing(person: PaperPerson, tws: Server) -> None:
    person.types("run --json")
    again = person.types("run --json")

    assert ("already_decided", 1) == (again.document["blocked_by"], len(tws.asked("placeOrder")))


def test_looking_uses_a_client_id_of_its_own(person: PaperPerson, tws: Server) -> None:
    """So that it never takes a run's place at the Gateway."""
    person.types("run --json")
    person.types("run --dry-run --json")
    person.types("doctor --json")

    assert ["1", "2"] == sorted({request.values["clientId"] for request in tws.asked("startApi")})


@pytest.mark.parametrize("command", ["status --json", "report --json", "export signals", "resume", "halt --why x"])
def test_what_asks_nothing_of_the_broker_needs_no_gateway(person: PaperPerson, tws: Server, command: str) -> None:
    person.types("run --json")
    person.at("2024-11-05", -30)
    person.types("settle --json")
    tws.refuse()
    connections = len(tws.asked("startApi"))

    assert (0, connections) == (person.types(command).exit_code, len(tws.asked("startApi")))


def test_before_the_first_run_nothing_needs_the_gateway_either(person: PaperPerson, tws: Server) -> None:
    """A book that no run has bound yet; nothing is due in the morning."""
    tws.refuse()
    person.at("2024-11-05", 300)

    assert (0, 0) == (person.types("status").exit_code, person.types("run --if-due").exit_code)


@pytest.mark.parametrize(
    ("trouble", "exit_code", "words"),
    [
        (lambda tws: tws.refuse(), 4, "nothing takes connections"),
        (lambda tws: tws.faults.hang("serverVersion"), 4, "did not start its API"),
        (lambda tws: tws.managed_accounts.__setitem__(0, "U1234567"), 2, "it is real money"),
    ],
)
def test_a_first_run_that_cannot_connect_is_filed_and_told(
    person: PaperPerson, tws: Server, trouble, exit_code: int, words: str
) -> None:
    """Cron's mail may go nowhere: the failure stands in the book before there is one."""
    trouble(tws)
    failed = person.types("run --json")
    [(step, outcome, code, error)] = person.sql("SELECT step, outcome, exit_code, error FROM runs")
    [(told,)] = person.sql("SELECT words FROM notice WHERE is_urgent")

    assert exit_code == failed.exit_code == code
    assert ("decide", "failed") == (step, outcome)
    assert all(words in where for where in (failed.out, error, told))


def test_without_a_gateway_a_comparison_says_so_once(person: PaperPerson, tws: Server) -> None:
    person.types("run")
    tws.refuse()
    typed = person.types("reconcile")

    assert (4, "", 1) == (typed.exit_code, typed.out, typed.err.count("nothing takes connections"))
    assert "start IB Gateway" in typed.err


@pytest.mark.parametrize(
    ("trouble", "words", "cure"),
    [
        (lambda tws: tws.refuse(), "nothing takes connections", "start IB Gateway"),
        (
            lambda tws: tws.managed_accounts.__setitem__(0, "U1"),
            "U1 is no paper account",
            "log in at the Gateway to the",
        ),
    ],
)
def test_the_doctor_names_a_missing_login_once_with_its_cure(
    person: PaperPerson, tws: Server, trouble, words: str, cure: str
) -> None:
    """Bars, a test order and executions fail with it, and point to it."""
    trouble(tws)
    typed = person.types("doctor --full --place-test-order")
    lines = [line.split(maxsplit=1)[1] for line in typed.out.splitlines() if line.startswith("  ✗")]

    assert (1, 1) == (typed.out.count(words), typed.out.count(cure)), typed.out
    assert {"MTUM bars", "VIX bars", "test order", "executions", "indicators"} == {
        line.partition("for the same reason as IB login")[0].strip() for line in lines if "IB login" in line[24:]
    }


def test_a_run_after_a_lost_acknowledgement_adopts_the_order(person: PaperPerson, tws: Server) -> None:
    """The socket breaks behind the order; the broker has it, nothing is sent twice."""
    tws.faults.drop(after="placeOrder")
    person.types("run --json")
    person.types("run --json")

    assert (1, [KEY]) == (len(tws.asked("placeOrder")), [order.reference for order in tws.orders])
    assert [("working",)] == person.sql("SELECT status FROM order_intent")


def test_what_was_repeated_is_filed_with_the_run(person: PaperPerson, tws: Server) -> None:
    """One connection lost in the middle of history."""
    person.environment["MTUM_EOD_IB__MAX_RETRIES"] = "1"
    tws.faults.drop(before="historicalData")
    person.types("run --json")

    assert [(1,)] == person.sql("SELECT retries FROM runs")


def test_an_order_whose_reference_ibs_lists_have_lost_is_known_by_its_permanent_id(
    person: PaperPerson, tws: Server
) -> None:
    """The exchange cancels it. Another one of the owner's, which never had a reference, is nobody's business."""
    person.types("run")
    with gateway.line(tws, client_id=9) as owners:
        gateway.broker(owners, tws).submit(replace(intent(), reference=""))
    tws.exchange.auctions[date(2024, 11, 5)] = Auction(cancels="Order Canceled - reason:No closing auction")
    for name in ("openOrder", "completedOrder"):
        tws.on(name, lambda row: row.values.update(orderRef=""))
    compared = person.types("reconcile")
    settled = person.at("2024-11-05", -20).types("settle")
    [(told,)] = person.sql("SELECT words FROM notice WHERE event = 'order_rejected'")

    assert (0, 0, [("cancelled",)]) == (
        compared.exit_code,
        settled.exit_code,
        person.sql("SELECT status FROM order_intent"),
    )
    assert "No closing auction" in told


def test_an_order_the_book_has_forgotten_is_adopted_as_the_broker_has_it(person: PaperPerson, tws: Server) -> None:
    """The book is gone, and VIX is too high for an entry now: shares and type are those of the broker's list."""
    person.types("run --json")
    person.database.unlink()
    person.environment["MTUM_EOD_STRATEGY__VIX_ENTRY_THRESHOLD"] = "1"
    again = person.types("run --json").document
    person.at("2024-11-05", -20).types("settle")

    assert ("HOLD", 1) == (again["action"], len(tws.orders))
    assert [("BUY", int(tws.orders[0].quantity), "MOC", "filled")] == person.sql(
        "SELECT side, shares, order_type, status FROM order_intent"
    )
    assert [(int(tws.orders[0].quantity),)] == person.sql("SELECT shares FROM position")


def test_a_position_is_sold_again(person: PaperPerson, tws: Server) -> None:
    """A VIX above 30 the next day: sold at the close, the round trip stands in the view."""
    person.types("run --json")
    person.at("2024-11-05", -20).types("settle")
    person.at("2024-11-06", 20)
    person.environment["MTUM_EOD_STRATEGY__VIX_EXIT_THRESHOLD"] = "1"
    person.environment["MTUM_EOD_STRATEGY__VIX_ENTRY_THRESHOLD"] = "1"
    sold = person.types("run --json")
    person.at("2024-11-06", -20).types("settle")
    bought, out = tws.executions
    [(net, shares)] = person.sql("SELECT net_pnl, shares FROM trades")

    assert ("SELL", ["vix"]) == (sold.document["action"], sold.document["exit_reasons"])
    assert (23, round((out.price - bought.price) * 23 - bought.commission - out.commission, 6)) == (
        shares,
        round(net, 6),
    )


def test_an_exit_that_the_auction_fills_in_part_stays_due(person: PaperPerson, tws: Server) -> None:
    """5 of 23 are sold and the rest cancelled; the next day no rule says sell, and the other 18 are sold all the same.

    By then paper has shown all that live trading rests on.
    """
    person.types("run")
    person.at("2024-11-05", -20).types("settle")
    unproven = person.types("doctor --go-live")
    person.environment["MTUM_EOD_STRATEGY__VIX_ENTRY_THRESHOLD"] = "1"
    tws.exchange.auctions[date(2024, 11, 6)] = Auction(parts=((5, 207.0),))
    with pytest.MonkeyPatch.context() as spike:
        spike.setitem(person.environment, "MTUM_EOD_STRATEGY__VIX_EXIT_THRESHOLD", "1")
        person.at("2024-11-06", 20).types("run")
    person.at("2024-11-06", -20).types("settle")
    rest = person.at("2024-11-07", 20).types("run --json").document
    person.at("2024-11-07", -20).types("settle")

    assert (["exit_pending"], 18) == (rest["exit_reasons"], rest["shares"])
    assert [("BUY", 23.0), ("SELL", 5.0), ("SELL", 18.0)] == [(order.action, order.filled) for order in tws.orders]
    assert [] == person.sql("SELECT * FROM position")
    assert (5, 0) == (unproven.exit_code, person.types("doctor --go-live").exit_code)


def test_where_the_listing_takes_no_close_order_a_market_order_goes_three_minutes_before(
    person: PaperPerson, tws: Server
) -> None:
    person.environment["MTUM_EOD_IB__ORDER_TYPE"] = "MKT"
    early = person.types("run --json").document["blocked_by"]
    person.at("2024-11-05", 3).types("run")
    person.at("2024-11-05", -20).types("settle")

    assert ("outside_window", ["MKT"]) == (early, [order.order_type for order in tws.orders])
    assert [(print_.price, 23) for print_ in tws.executions] == person.sql("SELECT price, quantity FROM fills")


def test_the_doctor_names_a_silent_gateway_once_with_its_cure(person: PaperPerson, tws: Server) -> None:
    """Exit code 4; the login is the link that broke."""
    person.types("run --json")
    tws.refuse()
    looked = person.types("doctor --json")
    [login] = [check for check in looked.document["checks"] if check["name"] == "IB login"]

    assert (4, False, True) == (looked.exit_code, login["passed"], "start IB Gateway" in login["cure"])


def test_made_up_bars_are_refused_with_a_broker(person: PaperPerson) -> None:
    person.environment["MTUM_EOD_DATA__SOURCE"] = "sample"
    refused = person.types("run --json")

    assert (2, True) == (refused.exit_code, "sample and csv serve only mode simulated" in refused.out)


def test_bars_of_ib_serve_the_embedded_broker_too(person: PaperPerson, tws: Server) -> None:
    """Mode simulated on IB's bars: the account of the login is nobody's business."""
    person.environment["MTUM_EOD_MODE"] = "simulated"
    tws.managed_accounts[:] = ["U1", "U2"]
    decided = person.types("run --json")

    assert ("BUY", "ib", []) == (decided.document["action"], decided.document["source"], tws.asked("placeOrder"))


def test_a_late_exit_goes_out_as_a_market_order(person: PaperPerson, tws: Server) -> None:
    """At 15:50 no close order is taken any more; the exit is."""
    person.types("run --json")
    person.at("2024-11-05", -20).types("settle")
    person.at("2024-11-06", 10)
    person.environment["MTUM_EOD_STRATEGY__VIX_EXIT_THRESHOLD"] = "1"
    person.environment["MTUM_EOD_STRATEGY__VIX_ENTRY_THRESHOLD"] = "1"
    person.types("run --json")

    assert [("BUY", "MOC"), ("SELL", "MKT")] == [(order.action, order.order_type) for order in tws.orders]
    assert 0 == tws.positions["MTUM"].shares


def test_a_held_commission_is_booked_when_it_comes(person: PaperPerson, tws: Server) -> None:
    person.types("run --json")
    tws.exchange.rules.sends_commissions = False
    person.at("2024-11-05", -20)
    waiting = person.types("settle --json")
    tws.exchange.rules.sends_commissions = True
    person.at("2024-11-05", -60)
    done = person.types("settle --json")

    assert ([False], [True]) == (
        [row["settled"] for row in waiting.document],
        [row["settled"] for row in done.document],
    )
    assert [(tws.executions[0].commission,)] == person.sql("SELECT commission FROM fills")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (timedelta(hours=2), "clock is 120 min ahead of the broker's"),
        (-timedelta(hours=2), "clock is 120 min behind the broker's"),
    ],
)
def test_a_clock_two_hours_wrong_sends_nothing_and_says_so(
    person: PaperPerson, tws: Server, monkeypatch: pytest.MonkeyPatch, error: timedelta, words: str
) -> None:
    """By the machine's clock it is decision time; at the exchange it is two hours earlier, or the session is over."""
    tws.clock.set(tws.calendar.close(date(2024, 11, 5)) - timedelta(minutes=20) - error)
    monkeypatch.setattr(bootstrap, "SystemClock", lambda: FakeClock(tws.clock.now() + error))
    typed = person.types("run --if-due --json")
    told = " ".join(text for (text,) in person.sql("SELECT words FROM notice"))

    assert (2, [], []) == (typed.exit_code, tws.orders, person.sql("SELECT * FROM sessions"))
    assert words in typed.out
    assert words in told


@pytest.mark.parametrize("error", [timedelta(hours=2), -timedelta(hours=2)])
def test_a_clock_two_hours_wrong_keeps_a_due_exit_until_the_clock_is_right(
    person: PaperPerson,
    tws: Server,
    monkeypatch: pytest.MonkeyPatch,
    error: timedelta,
) -> None:
    """Shares are held and a rule says sell: nothing leaves by that clock, it is urgent news, NTP mends it in time."""
    person.types("run")
    person.at("2024-11-05", -20).types("settle")
    person.environment["MTUM_EOD_STRATEGY__VIX_EXIT_THRESHOLD"] = "1"
    person.environment["MTUM_EOD_STRATEGY__VIX_ENTRY_THRESHOLD"] = "1"
    decision_time = tws.calendar.close(date(2024, 11, 6)) - timedelta(minutes=20)
    tws.clock.set(decision_time - error)
    with monkeypatch.context() as wrong:
        wrong.setattr(bootstrap, "SystemClock", lambda: FakeClock(tws.clock.now() + error))
        typed = person.types("run --if-due")
    sent, told = len(tws.orders), person.sql("SELECT event FROM notice WHERE is_urgent AND words LIKE '%120 min%'")
    tws.clock.set(decision_time + timedelta(minutes=1))
    mended = person.types("run --if-due --json").document["result"]

    assert (2, 1, [("position_unattended",), ("run_failed",)]) == (typed.exit_code, sent, sorted(told))
    assert ("SELL", "working", ["BUY", "SELL"]) == (
        mended["action"],
        mended["order"]["status"],
        [order.action for order in tws.orders],
    )


def test_a_clock_a_month_ahead_for_a_moment_loses_no_session(
    person: PaperPerson, tws: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sessions that have not happened were once filed as missed, and so never decided. The Gateway knows the time."""
    person.types("run")
    person.at("2024-11-05", -20).types("settle")
    person.at("2024-11-06", 240)
    with monkeypatch.context() as wrong:
        wrong.setattr(bootstrap, "SystemClock", lambda: FakeClock(tws.clock.now() + timedelta(days=30, hours=7)))
        typed = person.types("run --if-due")
    filed = person.sql("SELECT session FROM sessions")
    days_steps = [
        person.at("2024-11-06", before_close).types("run --if-due --json").document["step"]
        for before_close in (119, 20, -20)
    ]

    assert (2, [("2024-11-05",)]) == (typed.exit_code, filed)
    assert ["preflight", "decide", "settle"] == days_steps
    assert [("2024-11-05", "decided"), ("2024-11-06", "decided")] == person.sql("SELECT session, status FROM sessions")


def test_a_gateway_whose_name_nobody_resolves_is_named_and_nothing_is_sent(person: PaperPerson, tws: Server) -> None:
    """The name server is dead, or the name is wrong."""
    person.environment["MTUM_EOD_IB__HOST"] = "gateway.invalid"
    typed = person.types("run --if-due --json")
    [(told,)] = person.sql("SELECT words FROM notice WHERE is_urgent")

    assert (4, []) == (typed.exit_code, tws.asked("startApi"))
    assert "there is no host gateway.invalid" in told
    assert "ib.host" in typed.error["hint"]
    assert "name server" in typed.error["hint"]


def test_the_day_may_be_left_to_if_due(person: PaperPerson) -> None:
    """Preflight two hours before the close, the decision twenty minutes before, settlement after it."""
    steps = []
    for before_close in (121, 119, 20, 19, -20, -21):
        steps.append(person.at("2024-11-05", before_close).types("run --if-due --json").document.get("step"))

    assert [None, "preflight", "decide", None, "settle", None] == steps


@pytest.mark.parametrize(
    ("trouble", "exit_code", "words"),
    [
        (
            lambda tws: setattr(tws.exchange.rules, "execution_time", "20241105 16:00:05 Eastern Standard Time"),
            5,
            "the broker counts 23 shares executed, and does not tell how",
        ),
        (lambda tws: tws.faults.hang("completedOrdersEnd"), 4, "the broker does not tell what became of it"),
    ],
)
def test_what_became_of_an_order_and_cannot_be_read_is_told_once(
    person: PaperPerson, tws: Server, trouble, exit_code: int, words: str
) -> None:
    """Executions in a zone that no clock knows, or a list that never ends: at 16:20, and again at 16:35."""
    person.types("run --json")
    trouble(tws)
    codes = [person.at("2024-11-05", -minutes).types("settle --json").exit_code for minutes in (20, 35)]
    told = [said for (said,) in person.sql("SELECT words FROM notice WHERE is_urgent")]

    assert ([exit_code] * 2, 1) == (codes, len(told))
    assert words in told[0]


def test_an_order_that_ib_holds_back_is_urgent_news_at_once(person: PaperPerson, tws: Server) -> None:
    """Inactive as soon as it is there: refused, held or closed, no list says which."""

    def hold(reply: Reply) -> None:
        reply.values["status"] = tws.orders[0].status = "Inactive"

    tws.on("orderStatus", hold)
    typed = person.types("run --json")
    [(event, words)] = person.sql("SELECT event, words FROM notice WHERE is_urgent")

    assert (5, "working", "order_rejected") == (typed.exit_code, typed.document["order"]["status"], event)
    assert "Inactive" in words


@pytest.mark.parametrize(
    ("field", "told", "words"),
    [
        ("orderTypes", "LMT,MKT", "order type: MTUM does not take MOC orders"),
        ("liquidHours", "20241105:0930-20241105:1300", "hours: 2024-11-05: 09:30 to 13:00 at IB, 09:30 to 16:00"),
        ("primaryExchange", "ARCA", "listing: MTUM is listed at ARCA, BATS expected"),
    ],
)
def test_a_contract_that_is_not_as_expected_at_ib_buys_nothing_and_says_why(
    person: PaperPerson, tws: Server, field: str, told: str, words: str
) -> None:
    tws.on("contractDetails", lambda reply: reply.values.__setitem__(field, told))
    typed = person.types("run --json")

    assert (3, "data", []) == (typed.exit_code, typed.document["blocked_by"], tws.orders)
    assert [True] == [words in said for (said,) in person.sql("SELECT words FROM notice WHERE is_urgent")]
