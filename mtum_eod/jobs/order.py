"""An order's way: from its committed intent to the broker's acknowledgement, and back where the owner wants it back.

The intent is durable before anything here happens. Where no acknowledgement came the broker is asked before anything
is repeated, and what cannot be known is written down as UNKNOWN.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime

from mtum_eod.core import timing
from mtum_eod.core.events import Event
from mtum_eod.core.evidence import Gate, Window
from mtum_eod.core.gates import WINDOW_WORDS, Blocked
from mtum_eod.core.parameters import LateExit
from mtum_eod.core.trading import (
    HELD_BACK,
    Act,
    Mode,
    Order,
    OrderIntent,
    OrderKind,
    OrderStatus,
    OrderType,
    OwnerAct,
    SessionStatus,
    Side,
    same_shares,
)
from mtum_eod.core.words import counted
from mtum_eod.errors import BrokerUnavailable
from mtum_eod.jobs.desk import Desk, TradingDesk
from mtum_eod.jobs.filing import this_run
from mtum_eod.jobs.inquiry import BY_EXECUTIONS, BY_POSITION, executions_vanished, had_already, look_twice
from mtum_eod.jobs.splits import position_doubt, price_now
from mtum_eod.ports import Answer, BookReader, BrokerOrder, Known, Notice, Recording, SessionRow, Unknown

FAILED_ORDERS = {
    OrderStatus.REJECTED: Event.ORDER_REJECTED,
    OrderStatus.CANCELLED: Event.ORDER_REJECTED,
    OrderStatus.NOT_SENT: Event.RUN_FAILED,
    OrderStatus.UNKNOWN: Event.RUN_FAILED,
}
"""Ends of an order that nobody asked for, and the occasion they are told on."""

NOT_SOLD = {
    OrderStatus.REJECTED: "was rejected",
    OrderStatus.CANCELLED: "was withdrawn",
    OrderStatus.NOT_SENT: "did not get out, `mtum-eod flatten` tries again",
}
"""Ends of a sale by hand that leave the shares where they were."""

LOOK = (
    "Look at the broker's own order list and position; it resolves itself once these agree, "
    "or say what became of it: `mtum-eod reconcile --resolve {session} none|filled|SHARES`"
)
"""What the owner does about an order that cannot be told."""

NEVER_ARRIVED = "never reached the broker"
"""How an order ended that no gate held back."""

TOO_LATE = "too late to withdraw"
"""How the words on an order begin that the broker was not asked to withdraw."""

ON_THE_ORDER = (Act.APPROVE, Act.CANCEL, Act.FLATTEN)
"""What an owner can say of a session's order; the last word counts."""


# -- out --------------------------------------------------------------------------------------------------------------


def send(desk: TradingDesk, intent: OrderIntent, reason: str) -> Blocked | None:
    """Send a committed intent; write down and tell what the broker said. Returns what came up against it meanwhile.

    Where no acknowledgement came the broker is asked. Surely absent, the order goes out once more under its own id if
    there is time; what stays unknown is recorded so. reason: why it is sent, in words for the owner.
    """
    stopped = _submit(desk, intent, reason, is_last_try=False)
    heed_withdrawal(desk, intent.session)
    return stopped


def _submit(desk: TradingDesk, intent: OrderIntent, reason: str, *, is_last_try: bool) -> Blocked | None:
    """The one line that can spend money, with a last look before it and the broker's word after it."""
    stopped = last_look(desk, intent)  # only now: deciding, or asking the broker, takes its time
    if stopped and stopped.gate is Gate.OUTSIDE_WINDOW and _goes_late(desk, intent):
        return _submit(desk, _as_market_order(desk, intent, stopped.why), reason, is_last_try=is_last_try)
    if stopped:
        with _told(desk, intent, reason):
            desk.store.update_order(intent.reference, OrderStatus.NOT_SENT, desk.wall_clock.now(), words=stopped.why)
        return stopped
    try:
        acknowledged = desk.broker.submit(intent)
    except BrokerUnavailable as error:
        _find_out(desk, intent, reason, may_send=not is_last_try, doubt=error.message)
    else:
        with _told(desk, intent, reason):
            acknowledge(desk, acknowledged)
    return None


def _goes_late(desk: Desk, intent: OrderIntent) -> bool:
    """Whether a sale that has missed its closing auction goes to the market instead."""
    is_auction_sale = intent.side is Side.SELL and intent.order_type is OrderType.MOC
    window = _window(desk, intent.session, OrderType.MOC)
    return is_auction_sale and window is Window.LATE and desk.parameters.risk.late_exit is LateExit.MARKET


def _as_market_order(desk: TradingDesk, intent: OrderIntent, why: str) -> OrderIntent:
    """The same intent as a market order, committed as such before it leaves."""
    desk.store.update_order(
        intent.reference, OrderStatus.INTENT, desk.wall_clock.now(), order_type=OrderType.MKT, words=why
    )
    return replace(intent, order_type=OrderType.MKT)


def _send_again(desk: TradingDesk, intent: OrderIntent, reason: str, next_id: int | BrokerUnavailable) -> None:
    """Send an intent that is surely absent at the broker, for the last time: under its own id, or a new one.

    The same id lets the broker refuse a second order, should the first try be on the wire still. Ids that it has begun
    to give out anew since then protect from nothing and may go to other orders: there the next one is committed first.
    Ids begun anew before then protect all the same.

    next_id: what the broker gave before it was asked for the order. Raises BrokerUnavailable where it gave none.
    """
    if isinstance(next_id, BrokerUnavailable):
        raise next_id
    if next_id < intent.order_id:
        intent = replace(intent, order_id=next_id)
        words = "the broker gives its order ids anew"
        desk.store.update_order(
            intent.reference, OrderStatus.INTENT, desk.wall_clock.now(), order_id=next_id, words=words
        )
    _submit(desk, intent, reason, is_last_try=True)


def last_look(desk: Desk, intent: OrderIntent) -> Blocked | None:
    """What has come up against a committed order while this run was at work: a halt, the owner's word, or the clock.

    A sale by the owner's own hand passes every halt, and need not wait for the decision time. The clock is held to
    the order's own type, which the settings may have changed since.
    """
    is_by_hand = intent.kind is OrderKind.FLATTEN
    for halt in desk.store.halts():
        if intent.side is Side.BUY or not (is_by_hand or halt.is_daily_loss or halt.allow_exits):
            return Blocked(gate=Gate.HALTED, why=halt.why)
    withdrawal = withdrawal_of(desk.store, intent.session)
    if withdrawal:
        return Blocked(gate=Gate.HALTED, why=f"withdrawn by {withdrawal.by}")
    window = _window(desk, intent.session, intent.order_type)
    is_in_time = window is Window.OPEN or (window is Window.EARLY and is_by_hand)
    if intent.side is Side.SELL and intent.order_type is OrderType.MKT:  # it may stand in for one of the auction
        is_in_time = is_in_time or _window(desk, intent.session, OrderType.MOC) is Window.LATE
    return None if is_in_time else Blocked(gate=Gate.OUTSIDE_WINDOW, why=WINDOW_WORDS[window])


def _window(desk: Desk, session: date, order_type: OrderType) -> Window:
    """Where in the session an order of this type stands now."""
    return timing.window(desk.clock.now(), desk.timetable(session, order_type))


def is_given_up(order: Order) -> bool:
    """Whether no gate held the order back: it may have been on the wire, and surely was not at the broker."""
    return order.status is OrderStatus.NOT_SENT and order.words.startswith(NEVER_ARRIVED)


def require_arrival(order: Order | None) -> None:
    """Raise BrokerUnavailable where the order was given up, and no gate but the broker's silence held it back."""
    if order and is_given_up(order):
        raise BrokerUnavailable(
            f"order {order.intent.reference} {order.words}",
            hint="`mtum-eod doctor` looks at the chain; the next session decides anew",
        )


def acknowledge(desk: TradingDesk, order: BrokerOrder) -> None:
    """Write the broker's word on an order into the book.

    One with shares filled counts as WORKING, whatever the broker calls it, until settlement has booked its executions.
    So does one refused or held back that the broker's lists have still: it may trade.
    """
    has_fills = order.filled_shares > 0 or order.status in (OrderStatus.FILLED, OrderStatus.PARTLY_FILLED)
    desk.store.update_order(
        order.reference,
        OrderStatus.WORKING if has_fills else order.status,
        desk.wall_clock.now(),
        order_id=order.order_id,
        perm_id=order.perm_id,
        filled_shares=order.final_count,
        words=f"{HELD_BACK}{order.words}" if order.needs_person else order.words,
    )


# -- in doubt ---------------------------------------------------------------------------------------------------------


def recover(desk: TradingDesk, intent: OrderIntent, reason: str, *, may_send: bool) -> None:
    """Find out what became of an intent without acknowledgement; write it down, and tell it where that is news.

    Found at the broker: adopted. Surely absent (two whole looks apart agree, position as before the order): sent once
    more where it may be, else given up as never sent. Past its session's midnight executions have vanished: there a
    position that moved by the whole order says that it was executed. Not knowable: UNKNOWN, a person looks.
    """
    _find_out(desk, intent, reason, may_send=may_send)


def _find_out(desk: TradingDesk, intent: OrderIntent, reason: str, *, may_send: bool, doubt: str = "") -> None:
    """doubt: what came in place of its acknowledgement, in words."""
    # Asked for first: an answer that takes minutes must not come between the last look and a second try.
    next_id = _next_order_id(desk) if may_send else 0
    seen = look_twice(desk, intent)
    status, words = OrderStatus.UNKNOWN, ""
    if isinstance(seen, Unknown):
        words = seen.why
    elif seen.order is not None:
        with _told(desk, intent, reason):
            acknowledge(desk, seen.order)
        return
    elif seen.fills:
        # Executed though no list names the order: it is alive or done, settlement will book what it did.
        status, words = OrderStatus.WORKING, BY_EXECUTIONS
    elif position := position_doubt(desk, intent, seen):
        words = f"no list has it, and {position}"
    elif same_shares(seen.moved, 0):
        if may_send:
            _send_again(desk, intent, reason, next_id)
            return
        status, words = OrderStatus.NOT_SENT, NEVER_ARRIVED
    elif same_shares(seen.moved, intent.shares) and executions_vanished(desk, intent.session):
        status, words = OrderStatus.WORKING, BY_POSITION
    else:
        words = f"no list has it, but the position moved its way by {counted(seen.moved, 'share')}"
    words = "; ".join(filter(None, (words, doubt)))
    with _told(desk, intent, reason):
        desk.store.update_order(intent.reference, status, desk.wall_clock.now(), words=words)


def _next_order_id(desk: Desk) -> int | BrokerUnavailable:
    """The broker's next id; where it gives none, its failure, which matters only if there is something to send."""
    try:
        return desk.broker.next_order_id()
    except BrokerUnavailable as error:
        return error


# -- forgotten --------------------------------------------------------------------------------------------------------


UNTOLD = "whether the broker has had an order of {session} is not known ({why})"


def forgotten(desk: Desk, session: date) -> Answer[BrokerOrder | None]:
    """The session's order that the broker has had and the book knows nothing of: it came back from a backup.

    Unknown where a list of the broker does not come: it may hold one.
    """
    if desk.store.order(session) or desk.book.mode is Mode.SIMULATED:  # whose broker is in the same backup
        return Known(None)
    return had_already(desk, session)


def adopt_forgotten(desk: TradingDesk, session: date) -> Answer[None]:
    """Take a forgotten order of the session into the book, and back where the owner's word to do so stands.

    Unknown where the broker does not say whether there is one: a second order would double it.
    """
    had = forgotten(desk, session)
    if isinstance(had, Unknown):
        return Unknown(UNTOLD.format(session=session, why=had.why))
    if had.value is not None:
        take_up(desk, session, had.value)
        heed_withdrawal(desk, session)
    return Known(None)


def take_up(desk: TradingDesk, session: date, order: BrokerOrder) -> Order:
    """Take a forgotten order into the book; tell. It blocks a second one, and settlement books what it does."""
    side = Side(order.reference.rpartition("/")[2])
    held = desk.broker.shares_held(desk.book.symbol)
    shares = order.shares or order.filled_shares or 1  # one that ended without an execution may be listed without any
    intent = OrderIntent(
        reference=order.reference,
        session=session,
        kind=OrderKind.DECISION,
        side=side,
        order_type=order.order_type or desk.parameters.order_type,
        shares=shares,
        order_id=order.order_id or 0,
        decision_price_usd=price_now(desk, session),
        is_beside_mismatch=not (
            isinstance(held, Known) and same_shares(held.value - desk.store.shares_left(), desk.shares())
        ),
    )
    words = f"the broker has had {order.reference}, {counted(shares, 'share')}, that this book did not know of"
    with desk.store.transaction():
        desk.store.record(
            Recording(
                run_id=this_run(),
                book=desk.book,
                row=SessionRow(session=session, status=SessionStatus.SKIPPED, why=words),
                bars=(),
                signal=None,
                settings={},
                inputs={},
                intent=intent,
                recorded_at=desk.wall_clock.now(),
            )
        )
        acknowledge(desk, order)
        said = f"{session}: {words}; it is {order.status} and counts as the session's one order now"
        desk.notifier.tell(Notice(event=Event.MISMATCH, words=said, is_urgent=True))
        taken = desk.store.order(session)
    assert taken is not None  # noqa: S101  # just written
    return taken


# -- back -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawn:
    """What came of taking an order back."""

    words: str
    is_done: bool  # False where it may still be executed


def withdrawal_of(store: BookReader, session: date) -> OwnerAct | None:
    """The act that took the session's order back, sent or not; None where the owner's last word is another."""
    said = [act for act in store.acts(session) if act.act in ON_THE_ORDER]
    return said[-1] if said and said[-1].act is Act.CANCEL else None


def is_withdrawal_open(desk: Desk, order: Order) -> bool:
    """Whether an order that the broker has is still to be taken back, or the owner to be told that it is too late."""
    session = order.intent.session
    if order.status is not OrderStatus.WORKING or withdrawal_of(desk.store, session) is None:
        return False
    return _can_withdraw(desk, order.intent) or not desk.has_told(_too_late(order.intent), session)


def heed_withdrawal(desk: TradingDesk, session: date) -> None:
    """Take the session's order back where the owner's word to do so stands, whenever it came."""
    order = desk.store.order(session)
    if order and order.status.is_open and withdrawal_of(desk.store, session):
        withdraw(desk, order)


def withdraw(desk: TradingDesk, order: Order) -> Withdrawn:
    """Ask the broker to withdraw an open order, before the hard stop only, and write down its answer.

    Past the hard stop the broker is not asked: it might take the cancellation for the next session's order. An order
    that may still be executed although it was to be withdrawn is told, once a day in the same words.
    """
    intent = order.intent
    if not _can_withdraw(desk, intent):
        if desk.clock.now() < desk.calendar.close(intent.session):  # after it, what became of the order is told
            desk.tell_once(_too_late(intent), intent.session)
        return Withdrawn(words=f"{TOO_LATE} {intent.reference}: past the hard stop", is_done=False)
    desk.broker.finish_by(_hard_stop(desk, intent))
    answer = desk.broker.cancel(intent.reference)
    with desk.store.transaction():
        if isinstance(answer, Known):
            acknowledge(desk, answer.value)
            if answer.value.status is OrderStatus.CANCELLED:
                tell_order(desk, intent, "")
                return Withdrawn(words=f"withdrawn: {intent.reference}", is_done=True)
            words = ": ".join(filter(None, (f"{intent.reference} is {answer.value.status}", answer.value.words)))
        else:
            words = f"{intent.reference} could not be withdrawn: {answer.why}"
        is_over = isinstance(answer, Known) and answer.value.status is OrderStatus.FILLED
        said = f"{TOO_LATE}: {words}" if is_over else f"{words}; it may be executed at the close"
        desk.tell_once(urgent(said), intent.session)
    return Withdrawn(words=words, is_done=False)


def _can_withdraw(desk: Desk, intent: OrderIntent) -> bool:
    return desk.clock.now() < _hard_stop(desk, intent)


def _hard_stop(desk: Desk, intent: OrderIntent) -> datetime:
    return desk.timetable(intent.session, intent.order_type).hard_stop_at


def _too_late(intent: OrderIntent) -> Notice:
    return urgent(f"{TOO_LATE} {intent.reference}: past the hard stop; it may be executed at the close")


def urgent(said: str) -> Notice:
    """Word of an order that may be executed against the owner's will."""
    return Notice(event=Event.RUN_FAILED, words=said, is_urgent=True)


# -- telling ----------------------------------------------------------------------------------------------------------


@contextmanager
def _told(desk: TradingDesk, intent: OrderIntent, reason: str) -> Iterator[None]:
    """What is written of the order inside is durable only together with the word about it, where its state is news."""
    before = desk.store.order(intent.session)
    with desk.store.transaction():
        yield
        after = desk.store.order(intent.session)
        if before and after and after.status is not before.status:
            tell_order(desk, intent, reason)


def tell_order(desk: TradingDesk, intent: OrderIntent, reason: str) -> None:
    """What the owner hears of an order that was to go out: that it did, or why it did not."""
    order = desk.store.order(intent.session)
    intent = order.intent if order else intent  # it may have become a market order since
    status = order.status if order else OrderStatus.INTENT
    said = f"{intent.side} {intent.shares} {desk.book.symbol} {intent.order_type} for {intent.session}: {status}"
    is_held_back = order is not None and order.is_held_back
    event = Event.ORDER_REJECTED if is_held_back else FAILED_ORDERS.get(status)
    words_of_broker = f" ({order.words})" if order and order.words else ""
    if status in (OrderStatus.CANCELLED, OrderStatus.NOT_SENT) and withdrawal_of(desk.store, intent.session):
        desk.notifier.tell(Notice(event=Event.HALT, words=f"Order {said}{words_of_broker}, as you asked"))
    elif event:
        needs_look = status is OrderStatus.UNKNOWN or is_held_back
        cure = f". {LOOK.format(session=intent.session)}" if needs_look else ""
        desk.notifier.tell(Notice(event=event, words=f"Order {said}{words_of_broker}{cure}", is_urgent=True))
    else:
        desk.notifier.tell(Notice(event=Event.ORDER_SENT, words=f"{said}{words_of_broker}. {reason}"))
    if intent.kind is OrderKind.FLATTEN and status in NOT_SOLD:
        # A session has one order: with its sale gone, nobody watches the shares until the next one.
        kept = f"{counted(desk.shares(), 'share')} kept, and no rule is asked today"
        words = f"{desk.book.symbol} {intent.session}: the sale by hand {NOT_SOLD[status]}: {kept}"
        desk.notifier.tell(Notice(event=Event.POSITION_UNATTENDED, words=words, is_urgent=True))
