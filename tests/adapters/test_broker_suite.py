"""What every Broker must do, run on each: the embedded one, IB's over a socket, and the tests' own that is scripted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import date, timedelta
from pathlib import Path

import gateway
import pytest
from fakes import SESSION, ArrayData, FakeClock, ScriptedBroker, calendar

from mtum_eod.adapters.simulated_broker import SimulatedBroker
from mtum_eod.adapters.store import SimulatedOrders, open_store
from mtum_eod.core.trading import (
    Mode,
    OrderIntent,
    OrderKind,
    OrderStatus,
    OrderType,
    Side,
    order_reference,
)
from mtum_eod.ports import Broker, BrokerOrder, Cash, Known
from tws_server import Server
from tws_server.clock import Clock

NEXT = date(2024, 11, 6)


class Market(ABC):
    """A broker, and the close that a test lets come."""

    broker: Broker
    clock: FakeClock | Clock

    def __init__(self) -> None:
        self.clock = FakeClock(calendar().close(SESSION) - timedelta(minutes=20))

    def close(self, session: date) -> None:
        """Let the session close: what works for it is executed."""
        self.clock.set(calendar().close(session))
        self.auction(session)

    @abstractmethod
    def auction(self, session: date) -> None:
        """The closing auction."""


class Embedded(Market):
    """The broker that ships, on a database file."""

    def __init__(self, folder: Path, ends: ExitStack) -> None:  # noqa: ARG002
        super().__init__()
        self.store = open_store(folder / "book.db")
        self.broker = SimulatedBroker(
            orders=SimulatedOrders(self.store, self.store),
            book=self.store,
            capital_usd=5000.0,
            prices=ArrayData(),
            symbol="MTUM",
            calendar=calendar(),
            clock=self.clock,
            cost_ratio=0.001,
        )

    def auction(self, session: date) -> None:
        """Nothing to do: its fills are what the clock says."""


class Scripted(Market):
    """The broker that the tests of the jobs tell what to do."""

    def __init__(self, folder: Path, ends: ExitStack) -> None:  # noqa: ARG002 (its memory is its own)
        super().__init__()
        self.broker = self.scripted = ScriptedBroker()

    def auction(self, session: date) -> None:
        for intent in self.scripted.received:
            working = self.scripted.at_broker[intent.reference].status is OrderStatus.WORKING
            if intent.session == session and working:
                self.scripted.execute(intent.reference, intent.shares, 100.0, 0.1)


class Terminal(Market):
    """IB's terminal at the other end of a socket; its clock executes what is due."""

    def __init__(self, folder: Path, ends: ExitStack) -> None:  # noqa: ARG002 (its memory is the server's)
        tws = ends.enter_context(Server())
        tws.account.cash = {"USD": 5000.0}
        self.clock = tws.clock
        self.broker = gateway.broker(ends.enter_context(gateway.line(tws)), tws)

    def auction(self, session: date) -> None:
        """Nothing to do: the server's clock has passed the close."""


@pytest.fixture(params=[Embedded, Scripted, Terminal])
def market(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Market]:
    with ExitStack() as ends:
        yield request.param(tmp_path, ends)


def intent(side: Side = Side.BUY, shares: int = 20, session: date = SESSION, order_id: int = 1) -> OrderIntent:
    return OrderIntent(
        reference=order_reference(Mode.SIMULATED, "SIMULATED", "MTUM", session, side),
        session=session,
        kind=OrderKind.DECISION,
        side=side,
        order_type=OrderType.MOC,
        shares=shares,
        order_id=order_id,
        decision_price_usd=100.0,
    )


def order_of(broker: Broker, reference: str) -> BrokerOrder | None:
    answer = broker.orders()
    assert isinstance(answer, Known)
    return next((order for order in answer.value if order.reference == reference), None)


def test_a_broker_without_orders_knows_that_there_is_nothing(market: Market) -> None:
    """Known and empty, which is another word than unknown."""
    broker = market.broker

    assert (Known([]), Known([]), Known(0.0)) == (broker.orders(), broker.executions(), broker.shares_held("MTUM"))


def test_an_accepted_order_is_acknowledged_under_its_reference_and_id(market: Market) -> None:
    acknowledged = market.broker.submit(intent())

    assert (intent().reference, 1, OrderStatus.WORKING, 0) == (
        acknowledged.reference,
        acknowledged.order_id,
        acknowledged.status,
        acknowledged.filled_shares,
    )
    assert acknowledged == order_of(market.broker, intent().reference)


def test_nothing_is_executed_or_held_before_the_close(market: Market) -> None:
    market.broker.submit(intent())

    assert (Known([]), Known(0.0)) == (market.broker.executions(), market.broker.shares_held("MTUM"))


def test_the_close_executes_the_whole_order_under_its_reference(market: Market) -> None:
    """Executions, the order's own word and the position tell the same story."""
    market.broker.submit(intent())
    market.close(SESSION)
    [fill] = market.broker.executions().value
    order = order_of(market.broker, intent().reference)

    assert (intent().reference, SESSION, Side.BUY, 20) == (fill.reference, fill.session, fill.side, fill.shares)
    assert timedelta(0) <= fill.executed_at - calendar().close(SESSION) <= timedelta(seconds=5)
    assert (OrderStatus.FILLED, 20) == (order.status, order.filled_shares)
    assert Known(20.0) == market.broker.shares_held("MTUM")


def test_a_sale_takes_the_shares_away_again(market: Market) -> None:
    market.broker.submit(intent())
    market.close(SESSION)
    market.clock.set(calendar().close(NEXT) - timedelta(minutes=20))
    market.broker.submit(intent(Side.SELL, session=NEXT, order_id=2))
    held_before = market.broker.shares_held("MTUM")
    market.close(NEXT)

    assert (Known(20.0), Known(0.0)) == (held_before, market.broker.shares_held("MTUM"))
    assert Side.SELL is market.broker.executions().value[-1].side  # of the day before a broker may know none


def test_executions_read_twice_are_the_same_executions(market: Market) -> None:
    """Their ids are the broker's, so collecting twice changes nothing."""
    market.broker.submit(intent())
    market.close(SESSION)

    assert market.broker.executions() == market.broker.executions()


def test_an_order_cancelled_before_the_close_is_never_executed(market: Market) -> None:
    market.broker.submit(intent())
    answer = market.broker.cancel(intent().reference)
    market.close(SESSION)

    assert OrderStatus.CANCELLED is answer.value.status is order_of(market.broker, intent().reference).status
    assert (Known([]), Known(0.0)) == (market.broker.executions(), market.broker.shares_held("MTUM"))


def test_no_order_id_is_given_twice(market: Market) -> None:
    """The next id is above every id that an order has had, cancelled ones included."""
    first = market.broker.next_order_id()
    market.broker.submit(intent(order_id=first))
    market.broker.cancel(intent().reference)

    assert market.broker.next_order_id() > first


def test_cash_is_known_in_dollars(market: Market) -> None:
    assert Known(Cash(spendable_usd=5000.0, settled_usd=5000.0)) == market.broker.cash()
