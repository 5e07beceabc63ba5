"""The embedded broker's own promises: what it charges, when its day ends, what it remembers and for how long."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from fakes import SESSION, ArrayData, FakeClock, calendar

from mtum_eod.adapters.simulated_broker import REMEMBERED, SimulatedBroker
from mtum_eod.adapters.store import SimulatedOrders, SqlStore, open_store
from mtum_eod.core.market import BarStatus
from mtum_eod.core.trading import (
    CashFlow,
    CashKind,
    Fill,
    Mode,
    OrderIntent,
    OrderKind,
    OrderStatus,
    OrderType,
    Side,
    order_reference,
)
from mtum_eod.errors import BrokerUnavailable, StoreError
from mtum_eod.ports import Cash, Known, Unknown

HALF_DAY = date(2024, 11, 29)  # the Friday after Thanksgiving closes at 13:00
HALF_DAY_CLOSE = datetime(2024, 11, 29, 18, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

Build = Callable[[], SimulatedBroker]


@pytest.fixture
def store(tmp_path: Path) -> SqlStore:
    return open_store(tmp_path / "book.db")


@pytest.fixture
def data() -> ArrayData:
    data = ArrayData()
    data.edit("MTUM", SESSION, close=204.1)
    data.edit("MTUM", HALF_DAY, close=210.0)
    return data


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(calendar().close(SESSION) - 20 * MINUTE)


@pytest.fixture
def build(store: SqlStore, data: ArrayData, clock: FakeClock) -> Build:
    """A broker as a new process would build it: only the database knows what went before."""
    return lambda: SimulatedBroker(
        orders=SimulatedOrders(store, store),
        book=store,
        capital_usd=5000.0,
        prices=data,
        symbol="MTUM",
        calendar=calendar(),
        clock=clock,
        cost_ratio=0.001,
    )


@pytest.fixture
def broker(build: Build) -> SimulatedBroker:
    return build()


def reference(session: date = SESSION, side: Side = Side.BUY) -> str:
    return order_reference(Mode.SIMULATED, "SIMULATED", "MTUM", session, side)


def intent(session: date = SESSION, side: Side = Side.BUY, shares: int = 19, order_id: int = 1) -> OrderIntent:
    return OrderIntent(
        reference=reference(session, side),
        session=session,
        kind=OrderKind.DECISION,
        side=side,
        order_type=OrderType.MOC,
        shares=shares,
        order_id=order_id,
        decision_price_usd=203.0,
    )


def test_an_order_fills_at_the_close_and_costs_its_ratio(broker: SimulatedBroker, clock: FakeClock) -> None:
    """19 shares decided at 203.00 and closed at 204.10: 3,877.90 USD, 0.1 % of them commission."""
    broker.submit(intent())
    clock.set(calendar().close(SESSION))

    fill = Fill(
        execution_id=f"SIM-{reference()}",
        reference=reference(),
        session=SESSION,
        executed_at=datetime(2024, 11, 5, 21, 0, tzinfo=UTC),
        side=Side.BUY,
        shares=19,
        price_usd=204.1,
        commission_usd=pytest.approx(3.8779),
    )
    assert Known([fill]) == broker.executions()


def test_an_order_rests_to_the_last_second(broker: SimulatedBroker, clock: FakeClock) -> None:
    broker.submit(intent())
    clock.set(calendar().close(SESSION) - timedelta(seconds=1))

    assert (Known([]), OrderStatus.WORKING) == (broker.executions(), broker.orders().value[0].status)


def test_a_half_day_ends_at_its_own_close(broker: SimulatedBroker, clock: FakeClock) -> None:
    """At 12:59 the order rests, at 13:00 it is filled: nothing waits for 16:00."""
    clock.set(HALF_DAY_CLOSE - 20 * MINUTE)
    broker.submit(intent(HALF_DAY))
    clock.set(HALF_DAY_CLOSE - MINUTE)
    before = broker.executions()
    clock.set(HALF_DAY_CLOSE)
    [fill] = broker.executions().value

    assert (Known([]), HALF_DAY_CLOSE, 210.0) == (before, fill.executed_at, fill.price_usd)


@pytest.mark.parametrize(
    ("session", "late"),
    [(SESSION, calendar().close(SESSION)), (HALF_DAY, HALF_DAY_CLOSE), (SESSION, calendar().close(SESSION) + MINUTE)],
)
def test_an_order_past_the_close_is_refused_and_forgotten(
    broker: SimulatedBroker, clock: FakeClock, session: date, late: datetime
) -> None:
    """There is no auction left to take it, and it is not kept for the next one."""
    clock.set(late)

    with pytest.raises(BrokerUnavailable, match=re.escape(f"{reference(session)} came too late")):
        broker.submit(intent(session))
    assert (Known([]), Known(0.0)) == (broker.orders(), broker.shares_held("MTUM"))


def test_a_cancellation_after_the_close_comes_too_late(broker: SimulatedBroker, clock: FakeClock) -> None:
    """What is filled stays filled, and the answer says so."""
    broker.submit(intent())
    clock.set(calendar().close(SESSION))
    answer = broker.cancel(reference())

    assert (OrderStatus.FILLED, Known(19.0)) == (answer.value.status, broker.shares_held("MTUM"))


def test_an_order_it_never_had_cannot_be_cancelled(broker: SimulatedBroker) -> None:
    assert Unknown(f"no order {reference()} among the last {REMEMBERED}") == broker.cancel(reference())


def test_a_reference_is_taken_once(broker: SimulatedBroker) -> None:
    """Even a runner gone mad gets one order a session: the table's key refuses the second."""
    broker.submit(intent())

    with pytest.raises(StoreError):
        broker.submit(intent(order_id=2))
    assert [1] == [order.order_id for order in broker.orders().value]


def test_a_new_process_finds_everything_again(build: Build, clock: FakeClock) -> None:
    """Orders, ids, fills and shares outlive the runner that made them."""
    build().submit(intent())
    clock.set(calendar().close(SESSION) + 1200 * MINUTE)
    later = build()

    assert (reference(), OrderStatus.FILLED) == (later.orders().value[0].reference, later.orders().value[0].status)
    assert (2, 204.1, Known(19.0)) == (
        later.next_order_id(),
        later.executions().value[0].price_usd,
        later.shares_held("MTUM"),
    )


def test_only_the_newest_orders_are_answered_for_but_every_share_is_held(
    broker: SimulatedBroker, clock: FakeClock
) -> None:
    """Lists reach back so far, as with a real broker; a position does not end with them."""
    sessions = calendar().sessions(date(2024, 10, 1), date(2024, 10, 31))[: REMEMBERED + 2]
    for number, session in enumerate(sessions, start=1):
        clock.set(calendar().close(session) - 20 * MINUTE)
        broker.submit(intent(session, shares=1, order_id=number))
    clock.set(calendar().close(sessions[-1]))
    expected = [reference(session) for session in sessions[2:]]

    assert expected == [order.reference for order in broker.orders().value]
    assert expected == [fill.reference for fill in broker.executions().value]
    assert Known(REMEMBERED + 2.0) == broker.shares_held("MTUM")


def test_over_a_weekend_the_shares_stay(broker: SimulatedBroker, clock: FakeClock) -> None:
    """A day without a session looks back to the last close."""
    broker.submit(intent())
    clock.set(datetime(2024, 11, 9, 17, 0, tzinfo=UTC))

    assert Known(19.0) == broker.shares_held("MTUM")


def test_it_holds_one_symbol(broker: SimulatedBroker, clock: FakeClock) -> None:
    broker.submit(intent())
    clock.set(calendar().close(SESSION))

    assert Known(0.0) == broker.shares_held("SPY")


def test_executions_are_unknown_where_the_close_is_not_known(
    broker: SimulatedBroker, clock: FakeClock, data: ArrayData
) -> None:
    """No price, no guess: the list is unknown, which is another word than empty."""
    broker.submit(intent())
    clock.set(calendar().close(SESSION))
    data.drop("MTUM", SESSION)

    assert Unknown("the closing price is not known: MTUM: no close for 2024-11-05 at arrays") == broker.executions()


@pytest.mark.parametrize("status", [BarStatus.PARTIAL, BarStatus.BUILT])
def test_a_price_of_before_the_close_is_no_closing_price(
    broker: SimulatedBroker, clock: FakeClock, data: ArrayData, monkeypatch: pytest.MonkeyPatch, status: BarStatus
) -> None:
    """A file that was not written since: the order's execution waits for one that was."""
    broker.submit(intent())
    clock.set(calendar().close(SESSION) + 20 * MINUTE)
    daily = data.daily
    monkeypatch.setattr(data, "daily", lambda *asked: replace(daily(*asked), last_status=status))

    answer = broker.executions()

    assert Unknown("the closing price is not known: MTUM: no close for 2024-11-05 at arrays") == answer


def test_cash_is_capital_and_flows_and_what_the_book_has_spent(store: SqlStore, broker: SimulatedBroker) -> None:
    """5,000 + 1,000 paid in - 10 shares at 100.00 - 1.00 commission."""
    store.add_cash_flow(CashFlow(kind=CashKind.DEPOSIT, amount_usd=1000.0, session=SESSION), datetime.now(UTC))
    store.add_fills(
        [
            Fill(
                execution_id="1",
                reference=reference(),
                session=SESSION,
                executed_at=calendar().close(SESSION),
                side=Side.BUY,
                shares=10,
                price_usd=100.0,
                commission_usd=1.0,
            )
        ]
    )

    assert Known(Cash(spendable_usd=4999.0, settled_usd=4999.0)) == broker.cash()
