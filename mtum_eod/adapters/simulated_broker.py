"""The embedded broker: market-on-close orders that rest in the same database and fill at the session's close."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from mtum_eod.adapters.simulated_order import SimulatedOrder
from mtum_eod.core.checks import Check
from mtum_eod.core.ledger import ledger
from mtum_eod.core.market import UNFINISHED
from mtum_eod.core.quality import ABSURD
from mtum_eod.core.trading import Fill, OrderIntent, OrderStatus, ratio_since, whole_shares
from mtum_eod.errors import BrokerUnavailable, MarketDataError
from mtum_eod.ports import Answer, BookReader, BrokerOrder, Calendar, Cash, Clock, Known, MarketData, Unknown, WhatIf

if TYPE_CHECKING:
    from mtum_eod.adapters.no_history import NoHistory
    from mtum_eod.adapters.store import SimulatedOrders

ACCOUNT = "SIMULATED"

REMEMBERED = 10
"""How many of its newest orders the broker still answers for; older ones are history, as with a real broker."""


class SimulatedBroker:
    """A Broker whose memory is a table of its own, so that it survives what the runner does not.

    An order fills whole, at its session's close, once that close is past; the commission is `cost_ratio` of the
    value. A fill is a pure function of order and close, so nothing is written when it happens.
    """

    account = ACCOUNT
    reread_pause = timedelta(0)
    retries = 0

    def __init__(
        self,
        *,
        orders: SimulatedOrders | NoHistory,
        book: BookReader,
        capital_usd: float,
        prices: MarketData,
        symbol: str,
        calendar: Calendar,
        clock: Clock,
        cost_ratio: float,
    ) -> None:
        self._orders = orders
        self._book = book
        self._capital_usd = capital_usd
        self._prices = prices
        self._symbol = symbol
        self._calendar = calendar
        self._clock = clock
        self._cost_ratio = cost_ratio

    def finish_by(self, deadline: datetime) -> None:
        """Nothing is waited for: the broker is this very process."""

    def clock_ahead(self) -> Answer[timedelta]:
        return Known(timedelta(0))

    def inspect(self, session: date) -> tuple[Check, ...]:  # noqa: ARG002
        return ()

    def contract(self, session: date) -> tuple[Check, ...]:
        return self.inspect(session)

    def what_if(self, intent: OrderIntent) -> Answer[WhatIf]:
        words = f"the embedded broker takes it, at {self._cost_ratio:.2%} of the value"
        return Known(WhatIf(is_accepted=True, words=f"{intent.reference}: {words}"))

    def next_order_id(self) -> int:
        return self._orders.last_order_id() + 1

    def submit(self, intent: OrderIntent) -> BrokerOrder:
        """Accept the order. One past its session's close is refused: there is no auction left to take it."""
        now = self._clock.now()
        if now >= self._calendar.close(intent.session):
            raise BrokerUnavailable(
                f"the simulated market of {intent.session} has closed, {intent.reference} came too late",
                hint="the next session decides again",
            )
        order = SimulatedOrder(
            reference=intent.reference,
            order_id=intent.order_id,
            session=intent.session,
            side=intent.side,
            order_type=intent.order_type,
            shares=intent.shares,
            is_cancelled=False,
            accepted_at=now,
        )
        self._orders.add(order)
        return self._report(order)

    def cancel(self, reference: str) -> Answer[BrokerOrder]:
        for order in self._orders.newest(REMEMBERED):
            if order.reference == reference:
                if not self._has_closed(order.session):
                    self._orders.cancel(reference)
                return next(Known(o) for o in self._reports() if o.reference == reference)
        return Unknown(f"no order {reference} among the last {REMEMBERED}")

    def orders(self) -> Answer[list[BrokerOrder]]:
        return Known(self._reports())

    def executions(self) -> Answer[list[Fill]]:
        filled = [order for order in self._remembered() if self._is_filled(order)]
        try:
            return Known([self._execution(order) for order in filled])
        except MarketDataError as error:
            return Unknown(f"the closing price is not known: {error.message}")

    def shares_held(self, symbol: str) -> Answer[float]:
        """The signed sum of all orders whose session has closed, each on the scale after the book's splits."""
        if symbol != self._symbol:
            return Known(0.0)
        today = self._calendar.local_date(self._clock.now())
        through = today if self._calendar.is_session(today) and self._has_closed(today) else _day_before(today)
        held = before = 0.0
        for split in self._book.splits():
            sum_then = self._orders.shares_through(min(through, _day_before(split.session)))
            held, before = float(whole_shares((held + sum_then - before) * split.ratio)), sum_then
        return Known(held + self._orders.shares_through(through) - before)

    def cash(self) -> Answer[Cash]:
        since = self._book.since_flat()
        cash = ledger(self._capital_usd, since.fills, self._book.cash_flows(), realised=since.realised).cash
        return Known(Cash(spendable_usd=cash, settled_usd=cash))

    def _reports(self) -> list[BrokerOrder]:
        return [self._report(order) for order in self._remembered()]

    def _remembered(self) -> list[SimulatedOrder]:
        """The newest orders, each on the scale of today's closes: an execution is priced when it is asked for."""
        splits = self._book.splits()
        return [
            replace(order, shares=round(order.shares * ratio_since(splits, order.session)))
            for order in self._orders.newest(REMEMBERED)
        ]

    def _report(self, order: SimulatedOrder) -> BrokerOrder:
        filled = self._is_filled(order)
        status = OrderStatus.FILLED if filled else OrderStatus.WORKING
        return BrokerOrder(
            reference=order.reference,
            order_id=order.order_id,
            perm_id=order.order_id,
            status=OrderStatus.CANCELLED if order.is_cancelled else status,
            filled_shares=order.shares if filled else 0,
            shares=order.shares,
            order_type=order.order_type,
        )

    def _is_filled(self, order: SimulatedOrder) -> bool:
        return not order.is_cancelled and self._has_closed(order.session)

    def _has_closed(self, session: date) -> bool:
        return self._clock.now() >= self._calendar.close(session)

    def _execution(self, order: SimulatedOrder) -> Fill:
        close = self._calendar.close(order.session)
        bars = self._prices.daily(self._symbol, order.session, order.session, max(self._clock.now(), close))
        price = bars.close_of(order.session)
        if price is None or not 0 < price < ABSURD or bars.last_status in UNFINISHED:
            raise MarketDataError(
                f"{self._symbol}: no close for {order.session} at {self._prices.name}",
                hint="`mtum-eod data check` names every fault of the source's bars",
            )
        return Fill(
            execution_id=f"SIM-{order.reference}",
            reference=order.reference,
            session=order.session,
            executed_at=close,
            side=order.side,
            shares=order.shares,
            price_usd=price,
            commission_usd=self._cost_ratio * order.shares * price,
        )


def _day_before(day: date) -> date:
    return day - timedelta(days=1)
