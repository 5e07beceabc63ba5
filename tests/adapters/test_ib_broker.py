"""Orders, executions, positions and cash at IB, whatever the terminal does to the conversation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import isnan
from typing import Any

import gateway
import pytest
from gateway import intent

from mtum_eod.adapters.clock import SessionClock
from mtum_eod.adapters.ib.broker import IbBroker
from mtum_eod.adapters.ib.line import Line
from mtum_eod.core.trading import OrderStatus, OrderType, Side
from mtum_eod.errors import BrokerUnavailable
from mtum_eod.ports import BrokerOrder, Cash, Known, Unknown
from tws_server import CODES, NEW_YORK, Auction, Server

SESSION = gateway.SESSION
REFERENCE = intent().reference
CLOSE = datetime(2024, 11, 5, 16, 0, tzinfo=NEW_YORK)


@pytest.fixture(params=[157, 176])
def tws(request: pytest.FixtureRequest) -> Iterator[Server]:
    with Server(version=request.param) as server:
        yield server


@pytest.fixture
def line(tws: Server) -> Iterator[Line]:
    with gateway.line(tws) as line:
        yield line


@pytest.fixture
def broker(line: Line, tws: Server) -> IbBroker:
    return gateway.broker(line, tws)


@pytest.fixture
def patient(tws: Server) -> Iterator[IbBroker]:
    """For what is said beside an answer: a busy machine is not to cut it off."""
    with gateway.line(tws, request_timeout=20.0) as line:
        yield gateway.broker(line, tws)


Again = Callable[..., Any]


@pytest.fixture
def again(line: Line, tws: Server) -> Again:
    """What the next job, with a connection of its own, is told."""

    def ask(question: Callable[[IbBroker], Any], client_id: int = 1) -> Any:
        line.close()
        with gateway.line(tws, client_id=client_id) as another:
            return question(gateway.broker(another, tws))

    return ask


def only(answer: object) -> BrokerOrder:
    assert isinstance(answer, Known)
    [order] = answer.value
    return order


# -- sending ----------------------------------------------------------------------------------------------------------


def test_the_order_on_the_wire_says_everything_outright(tws: Server, broker: IbBroker) -> None:
    """No preset of the terminal is left anything to fill in."""
    broker.submit(intent(order_id=broker.next_order_id()))
    sent = tws.asked("placeOrder")[0].values

    expected = {
        "orderId": "1",
        "symbol": "MTUM",
        "secType": "STK",
        "exchange": "SMART",
        "primaryExchange": "BATS",
        "currency": "USD",
        "action": "BUY",
        "totalQuantity": "20",
        "orderType": "MOC",
        "tif": "DAY",
        "account": "DU1234567",
        "orderRef": REFERENCE,
        "outsideRth": "0",
        "transmit": "1",
        "lmtPrice": "",
        "auxPrice": "",
    }
    assert expected == {key: sent[key] for key in expected}


def test_an_accepted_order_has_the_brokers_permanent_id(tws: Server, broker: IbBroker, again: Again) -> None:
    acknowledged = broker.submit(intent())

    assert (OrderStatus.WORKING, tws.orders[0].perm_id) == (acknowledged.status, acknowledged.perm_id)
    assert acknowledged == only(again(lambda broker: broker.orders()))


def test_a_market_order_is_filled_at_once(tws: Server, broker: IbBroker) -> None:
    """The late exit: filled before anything else is said."""
    tws.hold("MTUM", 20, 200.0)
    acknowledged = broker.submit(intent(Side.SELL, order_type=OrderType.MKT))

    assert (20, OrderStatus.FILLED) == (only(broker.orders()).filled_shares, only(broker.orders()).status)
    assert acknowledged.status in (OrderStatus.WORKING, OrderStatus.FILLED)


def test_an_order_refused_is_rejected_in_the_brokers_words(tws: Server, broker: IbBroker) -> None:
    """201; the words reach the owner, the order is not sent again."""
    tws.account.cash["USD"] = 10.0
    rejected = broker.submit(intent())

    assert OrderStatus.REJECTED is rejected.status
    assert "EQUITY WITH LOAN VALUE" in rejected.words
    assert 1 == len(tws.asked("placeOrder"))


@pytest.mark.parametrize("code", [110, 113, 200, 201, 321, 387, 460, 10243, 12345])
def test_an_error_in_place_of_an_acknowledgement_is_a_refusal(tws: Server, broker: IbBroker, code: int) -> None:
    """The terminal says no, by a code known here or not, and no list has the order."""
    tws.faults.error("placeOrder", code, CODES.get(code, "No."))

    assert (OrderStatus.REJECTED, True) == (broker.submit(intent()).status, str(code) in broker.submit(intent()).words)


@pytest.mark.parametrize("code", [105, 161, 202, 10147, 10148])
def test_an_error_that_proves_nothing_leaves_the_order_in_doubt(tws: Server, broker: IbBroker, code: int) -> None:
    """Whether the order lives is for the jobs to find out."""
    tws.faults.error("placeOrder", code)
    with pytest.raises(BrokerUnavailable, match=str(code)):
        broker.submit(intent())

    assert 1 == len(tws.asked("placeOrder"))


def test_an_id_that_was_used_by_an_order_no_list_has_leaves_it_unknown(tws: Server, broker: IbBroker) -> None:
    """103 proves that something had the id, so nothing may be sent again."""
    tws.faults.error("placeOrder", 103)
    unknown = broker.submit(intent())

    assert (OrderStatus.UNKNOWN, True) == (unknown.status, "103" in unknown.words)


@pytest.mark.parametrize("code", [1100, 2110])
def test_no_order_leaves_while_the_gateway_says_it_has_lost_ib(tws: Server, broker: IbBroker, code: int) -> None:
    """Said after the order was made and before it is sent; once IB is back the same order goes out."""
    order_id = broker.next_order_id()
    tws.say(code)
    broker.orders()
    with pytest.raises(BrokerUnavailable, match=str(code)):
        broker.submit(intent(order_id=order_id))
    sent = tws.asked("placeOrder")
    with pytest.raises(BrokerUnavailable, match=str(code)):
        broker.next_order_id()
    tws.say(1102)
    broker.orders()

    assert ([], OrderStatus.WORKING) == (sent, broker.submit(intent(order_id=order_id)).status)


def test_an_order_refused_and_still_listed_needs_a_person(tws: Server, broker: IbBroker) -> None:
    """201 and Inactive, which is no proof of death."""
    tws.on("placeOrder", lambda _: tws.say(201, "Order rejected - reason:Margin", request_id=1), "after")
    tws.on("placeOrder", lambda _: tws.suspend(tws.orders[0]), "after")
    refused = broker.submit(intent())

    assert (OrderStatus.WORKING, True) == (refused.status, refused.needs_person)
    assert "reason:Margin" in refused.words


def test_what_is_said_beside_an_accepted_order_is_kept(tws: Server, broker: IbBroker) -> None:
    """404: it is held until shares are found."""
    tws.faults.error("placeOrder", 404)
    accepted = broker.submit(intent())

    assert (OrderStatus.WORKING, False) == (accepted.status, accepted.needs_person)
    assert "404: Shares for this order" in accepted.words


def test_an_order_the_library_calls_cancelled_is_working_where_the_broker_says_so(
    tws: Server, broker: IbBroker
) -> None:
    """10349, a preset has set the time in force: the library says Cancelled, the order is filled at the close."""
    tws.on("orderStatus", lambda _: tws.say(10349, request_id=1), "after")
    acknowledged = broker.submit(intent())
    tws.clock.set(CLOSE + timedelta(minutes=1))

    assert OrderStatus.WORKING is acknowledged.status
    assert (OrderStatus.FILLED, 20) == (only(broker.orders()).status, only(broker.orders()).filled_shares)


@pytest.mark.parametrize("name", ["openOrder", "orderStatus"])
def test_one_of_two_acknowledgements_is_enough_or_the_lists_are_asked(
    tws: Server, broker: IbBroker, name: str, again: Again
) -> None:
    tws.faults.hang(name, times=1)
    try:
        acknowledged = broker.submit(intent())
    except BrokerUnavailable:
        acknowledged = only(again(lambda broker: broker.orders()))

    assert (OrderStatus.WORKING, 1) == (acknowledged.status, len(tws.orders))


@pytest.mark.parametrize(
    "trouble",
    [
        lambda faults: faults.lose("placeOrder"),
        lambda faults: faults.hang("placeOrder"),
        lambda faults: faults.drop(before="placeOrder"),
        lambda faults: faults.drop(after="placeOrder"),
        lambda faults: faults.drop(before="openOrder"),
    ],
    ids=["lost", "silence", "gone before", "gone after", "gone before the word"],
)
def test_an_order_without_a_word_is_in_doubt_and_sent_once(
    tws: Server, broker: IbBroker, trouble, again: Again
) -> None:
    """Silence or a lost socket: whoever asks next learns what became of it."""
    trouble(tws.faults)
    with pytest.raises(BrokerUnavailable):
        broker.submit(intent())
    tws.faults.clear()
    seen = again(lambda broker: broker.orders())

    assert 1 >= len(tws.asked("placeOrder"))
    assert [order.reference for order in tws.orders] == [order.reference for order in seen.value]


def test_an_acknowledged_order_needs_no_further_answer(tws: Server, broker: IbBroker) -> None:
    """The question that brings out warnings goes unanswered."""
    tws.faults.hang("reqCurrentTime")

    assert OrderStatus.WORKING is broker.submit(intent()).status


def test_no_order_leaves_on_a_connection_made_after_the_last_look_at_the_clock(
    tws: Server, line: Line, broker: IbBroker
) -> None:
    """The Gateway restarts between the decision and its order; reconnecting could take the order past its hard stop."""
    order_id = broker.next_order_id()
    tws.disconnect()
    while not line.is_down:
        time.sleep(0.01)
    with pytest.raises(BrokerUnavailable, match="lost before order"):
        broker.submit(intent(order_id=order_id))

    assert (Known([]), []) == (broker.orders(), tws.asked("placeOrder"))
    assert OrderStatus.WORKING is broker.submit(intent(order_id=order_id)).status


def test_an_order_taken_for_another_session_is_withdrawn(tws: Server, broker: IbBroker) -> None:
    """After the close the terminal takes it for tomorrow (399): it was decided on today's bar."""
    tws.clock.set(CLOSE + timedelta(minutes=1))
    withdrawn = broker.submit(intent())

    assert (OrderStatus.REJECTED, "Cancelled") == (withdrawn.status, tws.orders[0].status)
    assert "will not be placed" in withdrawn.words


def test_an_order_cancelled_in_place_of_being_accepted_is_rejected(tws: Server, patient: IbBroker) -> None:
    """202, as it may come for one that is too late; nobody asked for it."""
    tws.on("openOrder", lambda _: tws.orders[0].is_live and tws.cancel(tws.orders[0], "too late"))
    ended = patient.submit(intent())

    assert (OrderStatus.REJECTED, True) == (ended.status, "too late" in ended.words)


def test_a_rejection_behind_the_acknowledgement_is_heard(tws: Server, patient: IbBroker) -> None:
    """Accepted, and refused a moment later."""
    tws.on("openOrder", lambda _: tws.orders[0].is_live and tws.reject(tws.orders[0], "Order rejected - reason:no"))
    rejected = patient.submit(intent())

    assert OrderStatus.REJECTED is rejected.status
    assert "reason:no" in rejected.words


def test_order_ids_are_the_brokers_and_never_given_twice(broker: IbBroker, again: Again) -> None:
    """Reading costs no id: a terminal that counts anew must stand out."""
    first = broker.next_order_id()
    broker.orders(), broker.cash()
    broker.submit(intent(order_id=broker.next_order_id()))

    assert (1, 2) == (first, broker.next_order_id())
    assert 2 == again(lambda broker: broker.next_order_id())


@pytest.mark.parametrize(
    ("error", "said"), [(timedelta(hours=2), "120 min ahead of the broker"), (-timedelta(hours=2), "behind")]
)
def test_no_order_is_made_by_a_clock_two_hours_wrong(tws: Server, line: Line, error: timedelta, said: str) -> None:
    """The hard stop is kept by this computer's clock, so it must be one that can be believed."""
    wrong = SessionClock(tws.clock.now() + error)
    with pytest.raises(BrokerUnavailable, match=said):
        gateway.broker(line, tws, clock=wrong).next_order_id()

    assert [] == tws.asked("placeOrder")


def test_ids_counted_anew_are_seen(tws: Server, broker: IbBroker, again: Again) -> None:
    """By this job, on its next connection, as by the next one."""
    broker.submit(intent(order_id=broker.next_order_id()))
    tws.restart(first_id=1)

    assert (1, 1) == (broker.next_order_id(), again(lambda broker: broker.next_order_id()))


# -- cancelling -------------------------------------------------------------------------------------------------------


def test_a_working_order_is_withdrawn(tws: Server, broker: IbBroker) -> None:
    broker.submit(intent())
    cancelled = broker.cancel(REFERENCE)

    assert (OrderStatus.CANCELLED, "Cancelled") == (cancelled.value.status, tws.orders[0].status)


def test_an_order_that_was_filled_first_is_told_as_filled(tws: Server, broker: IbBroker) -> None:
    """10148; the lists say why it cannot be withdrawn."""
    broker.submit(intent())
    tws.on("cancelOrder", lambda _: tws.fill(tws.orders[0]))
    answer = broker.cancel(REFERENCE)

    assert (OrderStatus.FILLED, 20) == (answer.value.status, answer.value.filled_shares)


def test_another_client_ids_order_is_withdrawn_where_it_is_all_that_is_open(
    tws: Server, broker: IbBroker, again: Again
) -> None:
    """Only the client id that sent it can cancel it; any can cancel all there is."""
    broker.submit(intent())
    answer = again(lambda broker: broker.cancel(REFERENCE), client_id=2)

    assert OrderStatus.CANCELLED is answer.value.status
    assert "Cancelled by Trader; withdrawn as the only open order" == answer.value.words
    assert (["Cancelled"], []) == ([order.status for order in tws.orders], tws.asked("cancelOrder"))


def test_another_client_ids_order_is_left_alone_where_others_are_open(
    tws: Server, broker: IbBroker, again: Again
) -> None:
    """The owner's own order, without a reference of ours, must not go with it."""
    broker.submit(intent())
    with gateway.line(tws, client_id=9) as owners:
        gateway.broker(owners, tws).submit(replace(intent(), reference="by hand"))
    answer = again(lambda broker: broker.cancel(REFERENCE), client_id=2)

    assert OrderStatus.WORKING is answer.value.status
    assert "there are 1 others: withdraw it in TWS, or end that run" in answer.value.words
    assert [] == tws.asked("cancelOrder", "reqGlobalCancel")


def test_an_order_that_stays_after_all_were_cancelled_is_told(tws: Server, broker: IbBroker, again: Again) -> None:
    broker.submit(intent())
    tws.faults.lose("reqGlobalCancel")
    answer = again(lambda broker: broker.cancel(REFERENCE), client_id=2)

    assert (OrderStatus.WORKING, "IB was asked to withdraw it, and still shows it") == (
        answer.value.status,
        answer.value.words,
    )


def test_cancelling_without_a_word_is_unknown(tws: Server, broker: IbBroker) -> None:
    broker.submit(intent())
    tws.faults.lose("cancelOrder")

    assert isinstance(broker.cancel(REFERENCE), Unknown)
    assert 1 == len(tws.asked("cancelOrder"))


def test_cancelling_what_is_not_there_is_unknown(broker: IbBroker) -> None:
    assert isinstance(broker.cancel("mtum-eod/paper/DU1234567/MTUM/2024-11-04/BUY"), Unknown)


# -- reading ----------------------------------------------------------------------------------------------------------


def test_a_filled_order_is_told_by_executions_orders_and_position(tws: Server, broker: IbBroker, again: Again) -> None:
    """One story in three lists, read by another job."""
    broker.submit(intent())
    tws.clock.set(CLOSE + timedelta(minutes=20))
    executions, orders, held = again(lambda b: (b.executions(), b.orders(), b.shares_held("MTUM")))
    [fill], printed = executions.value, tws.executions[0]

    assert printed.exec_id == f"{fill.execution_id}.{fill.revision:02d}"
    assert (REFERENCE, SESSION, Side.BUY, 20) == (fill.reference, fill.session, fill.side, fill.shares)
    assert (printed.price, printed.commission) == (fill.price_usd, fill.commission_usd)
    assert datetime(2024, 11, 5, 21, 0, 5, tzinfo=UTC) == fill.executed_at
    assert (OrderStatus.FILLED, 20) == (only(orders).status, only(orders).filled_shares)
    assert Known(20.0) == held


def test_an_order_filled_in_parts_has_an_execution_a_part(tws: Server, broker: IbBroker, again: Again) -> None:
    """The rest is cancelled by the exchange."""
    tws.exchange.auctions[SESSION] = Auction(parts=((5, 207.1), (7, 207.2)))
    broker.submit(intent())
    tws.clock.set(CLOSE + timedelta(minutes=20))
    executions, orders = again(lambda b: (b.executions(), b.orders()))

    assert [(5, 207.1), (7, 207.2)] == [(fill.shares, fill.price_usd) for fill in executions.value]
    assert (OrderStatus.PARTLY_FILLED, 12) == (only(orders).status, only(orders).filled_shares)


def test_a_cancellation_by_the_exchange_keeps_its_words(tws: Server, broker: IbBroker, again: Again) -> None:
    tws.exchange.auctions[SESSION] = Auction(cancels="Order Canceled - reason:No closing auction")
    broker.submit(intent())
    tws.clock.set(CLOSE + timedelta(minutes=20))
    order = only(again(lambda b: b.orders()))

    assert (OrderStatus.CANCELLED, 0) == (order.status, order.filled_shares)
    assert "No closing auction" in order.words


def test_an_order_shown_inactive_is_not_dead(tws: Server, broker: IbBroker, again: Again) -> None:
    broker.submit(intent())
    tws.suspend(tws.orders[0])
    order = only(again(lambda b: b.orders()))

    assert (OrderStatus.WORKING, True) == (order.status, order.needs_person)
    assert "Inactive" in order.words


def test_a_correction_replaces_the_print_it_corrects(tws: Server, broker: IbBroker, again: Again) -> None:
    """Same id, higher revision; the newest alone is told."""
    broker.submit(intent())
    tws.clock.set(CLOSE + timedelta(minutes=20))
    [before] = broker.executions().value
    tws.correct(tws.executions[0], 207.55)
    [after] = again(lambda b: b.executions()).value

    assert (before.execution_id, before.revision + 1, 207.55) == (
        after.execution_id,
        after.revision,
        after.price_usd,
    )


def test_a_commission_that_never_came_is_unknown_not_zero(tws: Server, broker: IbBroker, again: Again) -> None:
    tws.exchange.rules.sends_commissions = False
    broker.submit(intent())
    tws.clock.set(CLOSE + timedelta(minutes=20))
    [fill] = again(lambda b: b.executions()).value

    assert fill.commission_usd is None


def test_a_commission_that_comes_late_is_waited_for(tws: Server, broker: IbBroker) -> None:
    """Half a second behind the end of the list."""
    broker.submit(intent())
    tws.clock.set(CLOSE + timedelta(minutes=20))
    tws.faults.late("commissionReport", 0.3)
    with gateway.line(tws, request_timeout=2.0, client_id=3) as line:
        [fill] = gateway.broker(line, tws).executions().value

    assert 1.0 == fill.commission_usd


@pytest.mark.parametrize("told", ["20241105 16:00:05 Mars/Olympus", ""])
def test_an_execution_with_a_time_nobody_can_read_makes_the_executions_unknown(
    tws: Server, broker: IbBroker, told: str, again: Again
) -> None:
    """The library drops it with a line in its log; the order's status still says that there are some."""
    broker.submit(intent())
    tws.clock.set(CLOSE + timedelta(minutes=20))
    tws.exchange.rules.execution_time = told
    executions, orders = again(lambda b: (b.executions(), b.orders()))

    assert (Unknown, 20) == (type(executions), only(orders).filled_shares)


def test_a_time_that_ib_writes_in_utc_is_not_read_as_new_yorks(tws: Server, broker: IbBroker, again: Again) -> None:
    """20241105-21:00:05, which the library takes for nine in the evening."""
    broker.submit(intent())
    tws.clock.set(CLOSE + timedelta(minutes=20))
    tws.exchange.rules.execution_time = "20241105-21:00:05"
    [fill] = again(lambda b: b.executions()).value

    assert datetime(2024, 11, 5, 21, 0, 5, tzinfo=UTC) == fill.executed_at


def test_executions_are_gone_after_midnight(tws: Server, broker: IbBroker, again: Again) -> None:
    """Known and empty: IB says nothing of yesterday, the position stays."""
    broker.submit(intent())
    tws.clock.set(datetime(2024, 11, 6, 9, 0, tzinfo=NEW_YORK))
    executions, orders, held = again(lambda b: (b.executions(), b.orders(), b.shares_held("MTUM")))

    assert (Known([]), Known([]), Known(20.0)) == (executions, orders, held)


@pytest.mark.parametrize("name", ["openOrderEnd", "completedOrdersEnd"])
def test_orders_are_unknown_where_one_list_has_no_end(tws: Server, broker: IbBroker, name: str) -> None:
    broker.submit(intent())
    tws.faults.hang(name)

    assert isinstance(broker.orders(), Unknown)


@pytest.mark.parametrize("name", ["execDetails", "execDetailsEnd"])
def test_executions_are_unknown_where_their_list_is_cut(tws: Server, broker: IbBroker, name: str, again: Again) -> None:
    broker.submit(intent())
    tws.clock.set(CLOSE + timedelta(minutes=20))
    tws.faults.cut(name, times=None)

    assert isinstance(again(lambda b: b.executions()), Unknown)


def test_an_execution_told_twice_counts_once(tws: Server, broker: IbBroker, again: Again) -> None:
    broker.submit(intent())
    tws.clock.set(CLOSE + timedelta(minutes=20))
    tws.faults.twice("execDetails")

    assert [20] == [fill.shares for fill in again(lambda b: b.executions()).value]


def test_what_is_not_ours_is_not_told(tws: Server, broker: IbBroker) -> None:
    """Orders typed by hand, other symbols, other accounts, the same symbol abroad."""
    tws.hold("SPY", 3, 500.0)
    tws.hold("MTUM", 7.5, 200.0)
    with gateway.line(tws, client_id=9) as another:
        gateway.broker(another, tws).submit(replace(intent(), reference="by hand"))

    assert (Known([]), Known(7.5)) == (broker.orders(), broker.shares_held("MTUM"))


# -- money ------------------------------------------------------------------------------------------------------------


def test_cash_is_the_smaller_of_dollars_and_available_funds(tws: Server, broker: IbBroker) -> None:
    """10,000 USD with 4,000 available; 9,000 have settled."""
    tws.account.available_funds = 4_000.0
    tws.account.settled_cash = 9_000.0

    assert Known(Cash(spendable_usd=4_000.0, settled_usd=9_000.0)) == broker.cash()


def test_an_account_in_euros_is_asked_for_its_dollars(tws: Server, broker: IbBroker) -> None:
    """1,080 USD beside 50,000 EUR; a dollar is 0.9 EUR, 45 EUR are available."""
    tws.account.base_currency = "EUR"
    tws.account.cash = {"EUR": 50_000.0, "USD": 1_080.0}
    tws.account.rates = {"EUR": 1.0, "USD": 0.9}
    rich = broker.cash()
    tws.account.available_funds = 45.0
    poor = broker.cash()

    assert (1_080.0, 50.0) == (rich.value.spendable_usd, poor.value.spendable_usd)


def test_euros_alone_are_no_dollars(tws: Server, broker: IbBroker) -> None:
    """Known, for the account has told all its balances."""
    tws.account.base_currency = "EUR"
    tws.account.cash = {"EUR": 50_000.0}
    tws.account.rates = {"EUR": 1.0, "USD": 0.9}

    assert Known(Cash(spendable_usd=0.0, settled_usd=0.0)) == broker.cash()


def test_a_summary_without_balances_says_nothing_of_cash(tws: Server, broker: IbBroker) -> None:
    tws.on("accountSummary", lambda row: row.values["tag"] == "CashBalance" and row.values.update(tag="Other"))

    assert Unknown("the account's summary has no balance in any currency") == broker.cash()


@pytest.mark.parametrize(("missing", "spendable"), [("SettledCash", 10_000.0), ("AvailableFunds", None)])
def test_what_may_be_spent_is_known_without_what_has_settled(
    tws: Server, broker: IbBroker, missing: str, spendable: float | None
) -> None:
    """Settled cash is only recorded; available funds are a limit."""
    tws.on("accountSummary", lambda row: row.values["tag"] == missing and row.values.update(tag="Other"))
    answer = broker.cash()

    assert spendable == (answer.value.spendable_usd if isinstance(answer, Known) else None)
    assert isnan(answer.value.settled_usd) if isinstance(answer, Known) else missing in answer.why


def test_cash_may_be_asked_often(tws: Server, broker: IbBroker) -> None:
    """Each summary is ended: a terminal gives only two at a time."""
    for _ in range(3):
        broker.cash()
    tws.wait_for("cancelAccountSummary", 3)

    assert [request.id for request in tws.asked("reqAccountSummary")] == [
        request.id for request in tws.asked("cancelAccountSummary")
    ]


# -- what-if ----------------------------------------------------------------------------------------------------------


def test_a_what_if_order_places_nothing(tws: Server, broker: IbBroker) -> None:
    answer = broker.what_if(intent())

    assert (True, []) == (answer.value.is_accepted, tws.orders)
    assert "commission 1.00 USD" in answer.value.words


def test_a_what_if_order_without_a_commission_says_so(tws: Server, broker: IbBroker) -> None:
    """The library writes 1.8e308 for a number that is not set."""
    tws.on("openOrder", lambda row: row.values.update(commission=""))

    assert "commission not told" in broker.what_if(intent()).value.words


@pytest.mark.parametrize(
    ("code", "text", "words"),
    [
        (321, None, "Read-Only"),
        (460, None, "no trading permission"),
        (201, "Order rejected - reason:No trading permissions: KID is not available in English", "KID"),
        (201, "Order rejected - reason:margin", "margin"),
    ],
)
def test_a_what_if_order_says_why_it_would_be_refused(
    tws: Server, broker: IbBroker, code: int, text: str | None, words: str
) -> None:
    tws.faults.error("placeOrder", code, text)
    answer = broker.what_if(intent())

    assert (False, True) == (answer.value.is_accepted, words in answer.value.words)


def test_a_what_if_order_without_an_answer_is_unknown(tws: Server, broker: IbBroker) -> None:
    tws.faults.lose("placeOrder")

    assert isinstance(broker.what_if(intent()), Unknown)


def test_a_read_only_terminal_is_told_at_once(tws: Server, broker: IbBroker) -> None:
    """321 comes without the request's id; waiting for the end mark would take the whole time-out."""
    tws.exchange.rules.read_only = True
    orders = broker.orders()
    rejected = broker.submit(intent()) if isinstance(orders, Known) else None

    assert isinstance(orders, Unknown)
    assert "Read-Only" in orders.why
    assert (None, 1) == (rejected, len(tws.asked("reqAllOpenOrders")))


def test_a_read_only_terminal_leaves_an_order_in_doubt(tws: Server, broker: IbBroker) -> None:
    """It refuses the order and the lists: nobody can say more."""
    tws.exchange.rules.read_only = True
    with pytest.raises(BrokerUnavailable, match="Read-Only"):
        broker.submit(intent())


def test_an_account_of_a_login_is_read_alone(tws: Server) -> None:
    """The summary of a login with two accounts has both; ours counts."""
    tws.managed_accounts[:] = ["DU1234567", "DU7654321"]
    with gateway.line(tws, account="DU7654321") as line:
        broker = gateway.broker(line, tws)
        answers = broker.cash(), broker.shares_held("MTUM")

    assert (True, Known(0.0)) == (isinstance(answers[0], Unknown), answers[1])
