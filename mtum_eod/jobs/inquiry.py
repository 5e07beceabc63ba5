"""What the broker says of an order: its lists, its executions and the position. Reads only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date

from mtum_eod.core.ledger import Ledger
from mtum_eod.core.trading import Fill, OrderIntent, OrderStatus, Side, order_reference, same_shares
from mtum_eod.core.words import counted
from mtum_eod.jobs.desk import Desk
from mtum_eod.ports import Answer, BrokerOrder, Known, Unknown

BY_EXECUTIONS = "known by its executions"
"""The words on an order that no list of orders names."""

BY_POSITION = "known by the position alone"
"""The words on an order that has left no trace but its shares."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One look at the broker: what every list says of an order, and how far the position has moved its way."""

    order: BrokerOrder | None
    fills: tuple[Fill, ...]
    moved: float  # shares bought or sold beyond what the book has booked so far: 0 before it, all of its shares after


def look_twice(desk: Desk, intent: OrderIntent) -> Seen | Unknown:
    """What the broker says of an order; that it knows nothing of it counts only when said twice, a pause apart."""
    first = look(desk, intent)
    if isinstance(first, Unknown) or first.order is not None or first.fills:
        return first
    desk.clock.sleep(desk.broker.reread_pause)
    second = look(desk, intent)
    if isinstance(second, Seen) and not same_shares(second.moved, first.moved):
        sign = intent.side.sign
        return Unknown(f"the shares held moved by {sign * (second.moved - first.moved):+g} between two looks")
    return second


def look(desk: Desk, intent: OrderIntent) -> Seen | Unknown:
    """Ask for orders, executions and position; one silent answer makes the whole look unknown."""
    answers = desk.broker.orders(), desk.broker.executions(), desk.broker.shares_held(desk.book.symbol)
    match answers:
        case Known(value=orders), Known(value=executions), Known(value=held):
            fills = executions_of(intent, executions)
            return Seen(
                order=order_among(desk, intent, orders),
                fills=tuple(fills),
                moved=intent.side.sign * (held - desk.store.shares_left() - desk.shares()) or 0.0,  # never -0
            )
    return next(answer for answer in answers if isinstance(answer, Unknown))


def had_already(desk: Desk, session: date) -> Answer[BrokerOrder | None]:
    """The order of that session, of either side, that the broker's lists name; where only executions do, made of them.

    A list of orders read too early lacks one that is alive or done. Executions that did not come may be its own, unless
    the position is the one that the book knows.
    """
    orders, book = desk.broker.orders(), desk.book
    if isinstance(orders, Unknown):
        return orders
    keys = [order_reference(book.mode, book.account, book.symbol, session, side) for side in Side]
    for order in orders.value:
        if order.reference in keys:
            return Known(order)
    executions = desk.broker.executions()
    if isinstance(executions, Unknown):
        held = desk.broker.shares_held(book.symbol)
        is_unmoved = isinstance(held, Known) and same_shares(held.value, desk.shares() + desk.store.shares_left())
        return Known(None) if is_unmoved else executions
    for key in keys:
        shares = sum(fill.shares for fill in executions.value if fill.reference == key)
        if shares:
            return Known(_known_by_executions(key, shares))
    return Known(None)


def _known_by_executions(reference: str, shares: int) -> BrokerOrder:
    return BrokerOrder(
        reference=reference,
        order_id=None,
        perm_id=None,
        status=OrderStatus.WORKING,
        filled_shares=shares,
        words=BY_EXECUTIONS,
        shares=shares,
    )


def order_among(desk: Desk, intent: OrderIntent, orders: Iterable[BrokerOrder]) -> BrokerOrder | None:
    """The broker's order that is this intent, under its reference; by the permanent id where a list lost that."""
    orders = list(orders)
    known = desk.store.order(intent.session)
    for order in orders:
        if order.reference == intent.reference:
            return order
    for order in orders:
        if known and known.perm_id is not None and order.perm_id == known.perm_id:
            return replace(order, reference=intent.reference)
    return None


def executions_of(intent: OrderIntent, executions: Iterable[Fill]) -> list[Fill]:
    """The intent's own executions."""
    return [fill for fill in executions if fill.reference == intent.reference]


def executions_vanished(desk: Desk, session: date) -> bool:
    """Whether the broker's lists may have lost that session's executions: they begin at its midnight."""
    return desk.calendar.local_date(desk.clock.now()) > session


def mismatch(ledger: Ledger, held: Answer[float], left: float) -> str:
    """Where book and broker differ, in words; a broker that did not say differs from any book."""
    ours = ledger.holding.shares if ledger.holding else 0
    if isinstance(held, Unknown):
        return f"the broker's position is not known ({held.why})"
    if same_shares(held.value - left, ours):
        return ""
    own = f", {left:g} of them left to the owner" if left else ""
    return f"the book holds {counted(ours, 'share')}, the broker {held.value:g}{own}"
