"""Selling by the owner's own hand: the session's one order, by the same path as a decision's."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

from mtum_eod.core import parameters, timing
from mtum_eod.core.evidence import Window
from mtum_eod.core.gates import WINDOW_WORDS
from mtum_eod.core.parameters import LateExit
from mtum_eod.core.trading import (
    Act,
    Order,
    OrderIntent,
    OrderKind,
    OrderStatus,
    OrderType,
    OwnerAct,
    Position,
    SessionStatus,
    Side,
    Split,
    Step,
    order_reference,
    same_shares,
    whole_shares,
)
from mtum_eod.core.words import counted, wall
from mtum_eod.errors import BrokerUnavailable, MarketDataError, OrderStateUnknown, SettingsError
from mtum_eod.jobs.collect import collect
from mtum_eod.jobs.desk import Desk, TradingDesk
from mtum_eod.jobs.filing import filed, refuse_wrong_clock
from mtum_eod.jobs.gather import order_in_doubt, position_of
from mtum_eod.jobs.order import adopt_forgotten, is_given_up, recover, send
from mtum_eod.jobs.outcome import Handled
from mtum_eod.jobs.session import file_missed, finish_open, session_today
from mtum_eod.jobs.splits import SplitDoubt, follow_split, price_now, recent, split_seen
from mtum_eod.ports import Recording, SessionRow, Unknown

OUT = (OrderStatus.WORKING, OrderStatus.FILLED, OrderStatus.PARTLY_FILLED)
"""An order in one of these got to the broker, and was taken."""


def sale_type(desk: Desk, session: date) -> OrderType:
    """How a sale by hand would go out now. Raises SettingsError where none can, and says when one can."""
    now, times, p = desk.clock.now(), desk.timetable(session), desk.parameters
    window = timing.window(now, times)
    if times.open <= now and window in (Window.EARLY, Window.OPEN):
        return p.order_type
    if window is Window.LATE and p.risk.late_exit is LateExit.MARKET:
        return OrderType.MKT
    after = times if now < times.open else desk.timetable(desk.calendar.nearest(session)[1])
    why = "the session has not opened yet" if now < times.open else WINDOW_WORDS[window]
    opened, stopped = (wall(instant, desk.zone) for instant in (after.open, after.hard_stop_at))
    raise SettingsError(
        f"nothing can be sold now: {why}",
        hint=f"`mtum-eod flatten` can sell on {after.session}, {opened} to {stopped}",
    )


def flatten(desk: TradingDesk, *, why: str, by: str) -> Handled:
    """Sell all shares of the book with the one order of today's session, by the same path as a decision's order.

    The owner's own hand passes every halt. Exit code 0 where the order is out or nothing is held, 5 where it did not
    get there. Raises SettingsError where none can be sent now, OrderStateUnknown where an order's state is unknown
    or the broker holds no share, BrokerUnavailable where it does not say what it holds.
    """
    session = session_today(desk)
    sale_type(desk, session)  # asked again when all is known; here, before anything is filed
    with filed(desk, Step.DECIDE, session) as run:
        file_missed(desk, session)
        desk.broker.finish_by(desk.timetable(session).late_until)
        desk = desk.connected()
        refuse_wrong_clock(desk)
        finish_open(desk, session, sends_entry=False)  # who wants out wants nothing bought first
        handled = _sell(desk, session, why, by, run.run_id, _follow_split(desk))
        run.outcome, run.exit_code = f"flatten: {handled.words[-1]}", handled.exit_code
        return handled


def _follow_split(desk: TradingDesk) -> SplitDoubt | None:
    """Follow a split before the sale; what stands against that, where closes are of another scale than the book's.

    Closes that cannot be had hold back no sale by hand.
    """
    try:
        prices = recent(desk)
    except MarketDataError:
        return None
    seen = split_seen(desk, prices)
    if not isinstance(seen, Split):
        return seen
    try:
        follow_split(desk, seen)
    except MarketDataError as error:
        return SplitDoubt(error.message)
    return None


def _sell(desk: TradingDesk, session: date, why: str, by: str, run_id: int, scale: SplitDoubt | None) -> Handled:
    if doubt := order_in_doubt(desk.store, session):
        raise OrderStateUnknown(
            f"{doubt}: a sale could sell too much",
            hint="look at the broker's own list, then `mtum-eod reconcile`",
        )
    had = adopt_forgotten(desk, session)
    if isinstance(had, Unknown):
        raise BrokerUnavailable(f"{had.why}: a sale could be a second one", hint="try again once the broker answers")
    first = desk.store.order(session)
    if first and first.intent.side is Side.BUY and is_given_up(first):
        first = _after_all(desk, first)
    if first and first.intent.side is Side.BUY and first.status is OrderStatus.NOT_SENT and not desk.shares():
        return Handled(words=(f"flat: there is nothing to sell, and {first.intent.reference} is not sent",))
    if first and not _is_sale_never_sent(first):
        return _has_its_order(first)
    position = position_of(desk.store, desk.ledger())
    if position is None:
        return Handled(words=("flat: there is nothing to sell",))
    intent = _sale(desk, session, position, scale)
    if first:
        intent = replace(first.intent, kind=intent.kind, order_type=intent.order_type)
    if first and (first.intent.is_beside_mismatch or scale):
        # Sent now and not acknowledged, no position could tell what became of it; not sent, it stays surely so.
        raise OrderStateUnknown(
            f"{first.intent.reference} was not sent, and the position it was meant for is in doubt between book and "
            "broker: it cannot be tried again",
            hint="put the book right with `mtum-eod reconcile`; the next session can sell",
        )
    by_hand = f"Flattened by {by}" + (f": {why}" if why else "")
    with desk.store.transaction():
        desk.store.add_act(OwnerAct(act=Act.FLATTEN, session=session, at=desk.wall_clock.now(), by=by, words=why))
        if first:
            now = desk.wall_clock.now()
            desk.store.update_order(
                intent.reference, OrderStatus.INTENT, now, kind=intent.kind, order_type=intent.order_type
            )
        else:
            _record(desk, intent, by_hand, run_id)
    if first:
        recover(desk, intent, by_hand, may_send=True)  # it may have got there after all
    else:
        send(desk, intent, by_hand)
    order = desk.store.order(session)
    intent = order.intent if order else intent
    status = order.status if order else OrderStatus.INTENT
    said = f"{intent.side} {intent.shares} {desk.book.symbol} {intent.order_type} for {session}: {status}"
    words = f"{said} ({order.words})" if order and order.words else said
    is_out = status in OUT and not (order and order.is_held_back)
    return Handled(words=(words,), order=order, exit_code=0 if is_out else 5)


def _after_all(desk: TradingDesk, entry: Order) -> Order:
    """An entry that was given up, as the broker has it now: it may have been on the wire still."""
    collected = collect(desk, entry)
    if collected.silence:
        raise BrokerUnavailable(
            f"{entry.intent.reference} {entry.words}; whether it did after all is not known: {collected.silence}",
            hint="try again once the broker answers: it may buy at the close",
        )
    return collected.order or entry


def _record(desk: TradingDesk, intent: OrderIntent, why: str, run_id: int) -> None:
    """Make the session's decision the owner's own, with its order."""
    desk.store.record(
        Recording(
            run_id=run_id,
            book=desk.book,
            row=SessionRow(session=intent.session, status=SessionStatus.DECIDED, why=why),
            bars=(),
            signal=None,
            settings=parameters.document(desk.parameters),
            inputs={},
            intent=intent,
            recorded_at=desk.wall_clock.now(),
        )
    )


def _is_sale_never_sent(order: Order) -> bool:
    """Whether the session's one order is still to be had: a sale that surely never got to the broker."""
    return order.intent.side is Side.SELL and order.status is OrderStatus.NOT_SENT


def _has_its_order(first: Order) -> Handled:
    """A session has one order at most, and this one had its own before."""
    intent = first.intent
    if intent.side is Side.SELL and (first.status in OUT or first.status is OrderStatus.INTENT):
        return Handled(words=(f"{intent.reference} sells {intent.shares} already: {first.status}",), order=first)
    raise SettingsError(
        f"{intent.session} has had its one order: {intent.side} {intent.shares}, {first.status}",
        hint="the next session can sell"
        + ("; take this one back with `mtum-eod cancel`" if first.status.is_open else ""),
    )


def _sale(desk: TradingDesk, session: date, position: Position, scale: SplitDoubt | None) -> OrderIntent:
    """The order that sells what both the book and the broker hold.

    scale: why the book may not be on the broker's.
    """
    held = desk.broker.shares_held(desk.book.symbol)
    if isinstance(held, Unknown):
        raise BrokerUnavailable(
            f"the broker's position is not known ({held.why}): a sale could sell too much",
            hint="try again once the broker answers: `mtum-eod doctor` looks at the chain",
        )
    own = held.value - desk.store.shares_left()
    of_the_book = scale.of_the_book(position.shares, whole_shares(own)) if scale else whole_shares(own)
    shares = min(position.shares, of_the_book)
    if shares < 1:
        raise OrderStateUnknown(
            f"the book holds {counted(position.shares, 'share')}, the broker {held.value:g}: "
            "there is no whole share to sell",
            hint="put the book right with `mtum-eod reconcile`",
        )
    book = desk.book
    return OrderIntent(
        reference=order_reference(book.mode, book.account, book.symbol, session, Side.SELL),
        session=session,
        kind=OrderKind.FLATTEN,
        side=Side.SELL,
        order_type=sale_type(desk, session),
        shares=shares,
        order_id=desk.broker.next_order_id(),
        decision_price_usd=price_now(desk, session) or position.entry_price,
        is_beside_mismatch=bool(scale) or not same_shares(own, position.shares),
    )
