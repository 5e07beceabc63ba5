"""An order whose state is in doubt: the broker is asked before anything is repeated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mtum_eod.core.trading import OrderIntent, OrderStatus
from mtum_eod.jobs.desk import Desk, TradingDesk
from mtum_eod.ports import BrokerOrder, Known, Unknown

Resend = Callable[[OrderIntent], None]


@dataclass(frozen=True, slots=True)
class Seen:
    """One look at the broker: the order if any list has it, and the shares held."""

    order: BrokerOrder | None
    executed: bool
    shares: float


def recover(desk: TradingDesk, intent: OrderIntent, resend: Resend | None) -> None:
    """Find out what became of an intent without acknowledgement, and write it down.

    Found at the broker: adopted. Surely absent (two whole looks apart agree, position unchanged): sent by `resend`
    under the same id, or given up as never sent where `resend` is None. Not knowable: UNKNOWN, a person looks.
    """
    first = look(desk, intent)
    if isinstance(first, Seen) and first.order is None and not first.executed:
        desk.clock.sleep(desk.broker.reread_pause)
        second = look(desk, intent)
        if isinstance(second, Seen) and second.shares != first.shares:
            second = Unknown(f"the position moved from {first.shares:g} to {second.shares:g} shares meanwhile")
        first = second
    now = desk.wall_clock.now()
    if isinstance(first, Unknown):
        desk.store.update_order(intent.reference, OrderStatus.UNKNOWN, now, words=first.why)
    elif first.order is not None:
        acknowledge(desk, first.order)
    elif first.executed:
        # Executed though no list names the order: it is alive or done, settlement will book what it did.
        desk.store.update_order(intent.reference, OrderStatus.WORKING, now, words="known by its executions")
    elif resend is not None:
        resend(intent)
    else:
        desk.store.update_order(intent.reference, OrderStatus.NOT_SENT, now, words="never reached the broker")


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


def look(desk: Desk, intent: OrderIntent) -> Seen | Unknown:
    """Ask for orders, executions and position; one silent answer makes the whole look unknown."""
    answers = desk.broker.orders(), desk.broker.executions(), desk.broker.shares_held(desk.book.symbol)
    match answers:
        case Known(value=orders), Known(value=executions), Known(value=shares):
            return Seen(
                order=next((order for order in orders if order.reference == intent.reference), None),
                executed=any(fill.reference == intent.reference for fill in executions),
                shares=shares,
            )
    return next(answer for answer in answers if isinstance(answer, Unknown))
