"""An order whose state is in doubt: the broker is asked before anything is repeated."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from mtum_eod.core.trading import Fill, OrderIntent, OrderStatus, same_shares
from mtum_eod.jobs.desk import Desk, TradingDesk
from mtum_eod.ports import BrokerOrder, Known, Unknown

Resend = Callable[[OrderIntent], None]

LOOK = (
    "Look at the broker's own order list and position; it resolves itself once these agree, "
    "or say what became of it: `mtum-eod reconcile --resolve {session} none|filled`"
)
"""What the owner does about an order that cannot be told."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One look at the broker: what every list says of an order, and how far the position has moved its way."""

    order: BrokerOrder | None
    fills: tuple[Fill, ...]
    moved: float  # shares bought or sold beyond what the book has booked so far: 0 before it, all of its shares after


def recover(desk: TradingDesk, intent: OrderIntent, resend: Resend | None) -> None:
    """Find out what became of an intent without acknowledgement, and write it down.

    Found at the broker: adopted. Surely absent (two whole looks apart agree, position as before the order): sent by
    `resend`, or given up as never sent where `resend` is None. Past its session's midnight executions have vanished:
    there a position that moved by the whole order says that it was executed. Not knowable: UNKNOWN, a person looks.
    """
    seen = look_twice(desk, intent)
    status, words = OrderStatus.UNKNOWN, ""
    if isinstance(seen, Unknown):
        words = seen.why
    elif seen.order is not None:
        acknowledge(desk, seen.order)
        return
    elif seen.fills:
        # Executed though no list names the order: it is alive or done, settlement will book what it did.
        status, words = OrderStatus.WORKING, "known by its executions"
    elif same_shares(seen.moved, 0):
        if resend is not None:
            resend(intent)
            return
        status, words = OrderStatus.NOT_SENT, "never reached the broker"
    elif same_shares(seen.moved, intent.shares) and executions_vanished(desk, intent):
        status, words = OrderStatus.WORKING, "known by the position alone"
    else:
        words = f"no list has it, but the position moved its way by {seen.moved:g} shares"
    desk.store.update_order(intent.reference, status, desk.wall_clock.now(), words=words)


def acknowledge(desk: TradingDesk, order: BrokerOrder) -> None:
    """Write the broker's word on an order into the book.

    One with shares filled counts as WORKING, whatever the broker calls it, until settlement has booked its executions.
    """
    has_fills = order.filled_shares > 0 or order.status in (OrderStatus.FILLED, OrderStatus.PARTLY_FILLED)
    desk.store.update_order(
        order.reference,
        OrderStatus.WORKING if has_fills else order.status,
        desk.wall_clock.now(),
        order_id=order.order_id,
        perm_id=order.perm_id,
        words=order.words,
    )


def look_twice(desk: Desk, intent: OrderIntent) -> Seen | Unknown:
    """What the broker says of an order; that it knows nothing of it counts only when said twice, a pause apart."""
    first = look(desk, intent)
    if isinstance(first, Unknown) or first.order is not None or first.fills:
        return first
    desk.clock.sleep(desk.broker.reread_pause)
    second = look(desk, intent)
    if isinstance(second, Seen) and not same_shares(second.moved, first.moved):
        sign = intent.side.sign
        return Unknown(f"the position moved by {sign * (second.moved - first.moved):+g} shares between two looks")
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
                moved=intent.side.sign * (held - desk.store.shares_left() - desk.shares()),
            )
    return next(answer for answer in answers if isinstance(answer, Unknown))


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


def executions_vanished(desk: Desk, intent: OrderIntent) -> bool:
    """Whether a list of executions may have lost the intent's: a broker tells of those since its midnight."""
    return desk.calendar.local_date(desk.clock.now()) > intent.session
