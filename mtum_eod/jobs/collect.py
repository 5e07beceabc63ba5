"""What became of an order: its executions booked, its end written down. Executions are the truth about fills."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from mtum_eod.core import quality
from mtum_eod.core.events import Event
from mtum_eod.core.market import UNFINISHED
from mtum_eod.core.money import TOLERANCE_USD
from mtum_eod.core.trading import Fill, Mode, Order, OrderIntent, OrderStatus, Side, same_shares, whole_shares
from mtum_eod.core.words import counted
from mtum_eod.errors import MarketDataError
from mtum_eod.jobs.desk import Desk, TradingDesk
from mtum_eod.jobs.inquiry import (
    BY_EXECUTIONS,
    BY_POSITION,
    executions_of,
    executions_vanished,
    look_twice,
    order_among,
)
from mtum_eod.jobs.market import fetch
from mtum_eod.jobs.order import LOOK, acknowledge, is_given_up, recover, tell_order
from mtum_eod.jobs.splits import follow_before, follow_scale, on_scale_of, position_doubt, recent
from mtum_eod.ports import Answer, BrokerOrder, Known, Notice, Unknown

ESTIMATE = "#estimated"
"""What follows the order's reference in the id of an execution that nobody reported."""

NOTHING_TO_COLLECT = (OrderStatus.INTENT, OrderStatus.UNKNOWN, OrderStatus.NOT_SENT)
"""An order in one of these is not known to have been at the broker."""


@dataclass(frozen=True, slots=True)
class Collected:
    """A session's order as it stands after asking the broker."""

    order: Order | None
    alarm: str = ""  # where the broker contradicts itself: a person looks
    silence: str = ""  # where, asked after the close, it does not tell what became of the order


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be written down of an order."""

    status: OrderStatus
    words: str = ""
    perm_id: int | None = None
    filled_shares: int | None = None  # by the broker's count, once that is final
    estimated_shares: int = 0  # executed beyond the executions, as the broker counted or the position says
    is_alarm: bool = False
    is_silence: bool = False


def collect(desk: TradingDesk, order: Order, *, may_send: bool = False) -> Collected:
    """Book what the broker knows of an order; asking twice changes nothing.

    An intent without acknowledgement is looked for first, and sent where it is surely absent and may be.
    """
    if desk.book.mode is Mode.SIMULATED and order.status.is_open and executions_vanished(desk, order.intent.session):
        # The embedded broker prices an execution when it is asked, on the scale of that day.
        follow_scale(desk, recent(desk))
    if order.status in (OrderStatus.INTENT, OrderStatus.UNKNOWN) and order.perm_id is None:
        recover(desk, order.intent, "A later run found it open", may_send=may_send)
        order = _present(desk, order)
    if order.status is OrderStatus.NOT_SENT:
        order, silence = _after_all(desk, order)
        if silence:
            return Collected(order, silence=silence)
    is_acknowledged = order.status is OrderStatus.UNKNOWN and order.perm_id is not None
    if order.status is OrderStatus.WORKING or is_acknowledged:
        return _collect_open(desk, order)
    return Collected(order) if order.status in NOTHING_TO_COLLECT else _collect_ended(desk, order)


def late_sessions(desk: Desk) -> list[date]:
    """Settled sessions, ascending, whose executions at the broker are not those of the book: late ones, corrections.

    Those from before a split are on another scale, and stay as they are.
    """
    if desk.book.mode is Mode.SIMULATED:  # makes its executions when it is asked, out of the same book
        return []
    executions = desk.broker.executions()
    if isinstance(executions, Unknown):
        return []
    found = []
    for session in sorted({fill.session for fill in executions.value}):
        order = desk.store.order(session)
        is_open = order is None or order.status.is_open or not _is_settled(desk, session)
        if order is None or is_open or _is_of_old_shares(desk, session):
            continue
        if _has_news(booked(desk, order.intent), executions_of(order.intent, executions.value)):
            found.append(session)
    return found


def _is_of_old_shares(desk: Desk, session: date) -> bool:
    """Whether executions of a session, as the broker shows them, are of shares that the book has split since."""
    return any(split.session > session for split in desk.store.splits())


def _after_all(desk: TradingDesk, order: Order) -> tuple[Order, str]:
    """An order that was surely absent may have been on the wire still: where it did arrive, it is adopted.

    Past midnight the position tells it, as of any order that was on the wire. Beside the order: what keeps the broker
    from saying so, while its executions can still be seen; else empty.
    """
    intent, orders, executions = order.intent, desk.broker.orders(), desk.broker.executions()
    found = order_among(desk, intent, orders.value) if isinstance(orders, Known) else None
    fills = executions_of(intent, executions.value) if isinstance(executions, Known) else []
    if found is None and not fills:
        if not executions_vanished(desk, intent.session):
            return order, _silence(orders, executions)
        if not _has_moved_the_position(desk, order):
            return order, ""
    with desk.store.transaction():
        if found:
            acknowledge(desk, found)
        else:
            words = BY_EXECUTIONS if fills else BY_POSITION
            desk.store.update_order(intent.reference, OrderStatus.WORKING, desk.wall_clock.now(), words=words)
        tell_order(desk, intent, "It reached the broker after all")
    return _present(desk, order), ""


def _has_moved_the_position(desk: Desk, order: Order) -> bool:
    """Whether an order that was given up has left no trace at the broker but its shares, all of them."""
    if not is_given_up(order) or desk.store.open_orders():
        return False
    seen = look_twice(desk, order.intent)
    if isinstance(seen, Unknown) or not same_shares(seen.moved, order.intent.shares):
        return False
    return not position_doubt(desk, order.intent, seen)


def _silence(*answers: Answer[Any]) -> str:
    """What the broker did not tell, of the first answer that never came; empty where all came."""
    return next((answer.why or "no answer" for answer in answers if isinstance(answer, Unknown)), "")


def booked(desk: Desk, intent: OrderIntent) -> list[Fill]:
    """The intent's executions in the book."""
    return desk.store.fills_of(intent.reference)


def final_close(desk: Desk, session: date, decided_at: float = 0.0) -> float | None:
    """A session's final close, USD, on the scale of the shares traded (`on_scale_of`); None where it is not known."""
    bars = fetch(desk.prices, desk.book.symbol, [session], desk.wall_clock.now(), desk.store)
    close = quality.check(bars, [session], needed=0).bars.close_of(session)
    if close is None or bars.last_status in UNFINISHED:  # as the decision stored it: the price of 15:40
        return None
    return on_scale_of(desk, recent(desk), close, decided_at)


def estimate(desk: Desk, intent: OrderIntent, shares: int) -> Fill:
    """An execution that nobody reported: at the session's final close, with the commission that the settings expect.

    Raises MarketDataError where that close is not known.
    """
    session = intent.session
    price = final_close(desk, session, intent.decision_price_usd)
    if price is None:
        raise MarketDataError(
            f"{desk.book.symbol}: no close of {session} at {desk.prices.name}, "
            f"{counted(shares, 'executed share')} cannot be priced",
            hint=f"once the close is there: `mtum-eod settle`; or `mtum-eod reconcile --resolve {session} filled`",
        )
    return Fill(
        execution_id=f"{intent.reference}{ESTIMATE}",
        reference=intent.reference,
        session=session,
        executed_at=desk.calendar.close(session),
        side=intent.side,
        shares=shares,
        price_usd=price,
        commission_usd=_expected_commission(desk, shares, price),
        is_estimated=True,
    )


def _expected_commission(desk: Desk, shares: int, price: float) -> float:
    return desk.parameters.risk.transaction_cost * shares * price


def _present(desk: Desk, order: Order) -> Order:
    return desk.store.order(order.intent.session) or order


# -- an order that something may still happen to ----------------------------------------------------------------------


def _collect_open(desk: TradingDesk, order: Order) -> Collected:
    intent = order.intent
    orders, executions = desk.broker.orders(), desk.broker.executions()
    beyond = 0
    if isinstance(executions, Known):
        shown = executions_of(intent, executions.value)
        beyond = _beyond_the_book(desk, intent, shown)
        if beyond and follow_before(desk, recent(desk, intent.session), shown):
            beyond = _beyond_the_book(desk, intent, shown)
        desk.store.add_fills([] if beyond else shown)  # is kept, whatever the rest says
    found = order_among(desk, intent, orders.value) if isinstance(orders, Known) else None
    silent = _silence(executions, orders)
    if beyond:
        verdict: Verdict | None = _judge_beyond(beyond)
    else:
        verdict = _judge_silence(desk, order, found, silent) if silent else _judge(desk, order, found)
    if verdict is None:
        return Collected(_present(desk, order))
    is_news = (verdict.status, verdict.words) != (order.status, order.words)
    is_counted = verdict.filled_shares not in (None, order.filled_shares)
    extra = [estimate(desk, intent, verdict.estimated_shares)] if verdict.estimated_shares else []
    with desk.store.transaction():
        desk.store.add_fills(extra)
        if is_news or is_counted:
            desk.store.update_order(
                intent.reference,
                verdict.status,
                desk.wall_clock.now(),
                perm_id=verdict.perm_id,
                filled_shares=verdict.filled_shares,
                words=verdict.words,
            )
        if is_news:
            _tell(desk, intent, verdict)
    return Collected(
        _present(desk, order),
        alarm=verdict.words if verdict.is_alarm else "",
        silence=verdict.words if verdict.is_silence else "",
    )


def _beyond_the_book(desk: Desk, intent: OrderIntent, shown: list[Fill]) -> int:
    """How many of the shares sold the book does not hold: a restored one may have forgotten their purchase.

    Booked, they would leave a book that adds up to less than nothing, and no step could go on from there.
    """
    if intent.side is Side.BUY:
        return 0
    known = {fill.execution_id for fill in booked(desk, intent)}
    return max(0, _shares([fill for fill in shown if fill.execution_id not in known]) - desk.shares())


def _judge_beyond(shares: int) -> Verdict:
    words = (
        f"it sold {counted(shares, 'share')} that this book does not know to have bought: a newer backup may "
        "(`mtum-eod db restore`); without one say `none` tomorrow, and the sale stays out of this book"
    )
    return Verdict(OrderStatus.WORKING, words, is_alarm=True)


def _judge(desk: Desk, order: Order, found: BrokerOrder | None) -> Verdict | None:
    """What an acknowledged order has come to, its visible executions booked; None while that cannot be said."""
    intent = order.intent
    done = _shares(booked(desk, intent))
    if done >= intent.shares:
        return Verdict(OrderStatus.FILLED, perm_id=found.perm_id if found else None)
    if found is None:
        # A list read too early lacks an order that is alive: before the close that says nothing.
        return _judge_unlisted(desk, order, OrderStatus.CANCELLED) if _has_closed(desk, intent) else None
    is_past = executions_vanished(desk, intent.session)
    if found.status.is_open and is_past:
        words = "still working at the broker after its session's midnight: withdraw it there"
        return Verdict(OrderStatus.WORKING, words, found.perm_id, is_alarm=True)
    claimed = _claimed(intent, found)
    if done < claimed:
        if is_past:
            return _judge_unlisted(desk, order, found.status)
        words = f"the broker counts {counted(claimed, 'share')} executed, its executions add up to {done}"
        return Verdict(OrderStatus.WORKING, words, found.perm_id, found.final_count, is_alarm=True)
    if not found.status.is_open:
        return Verdict(_end(found.status, done), found.words, found.perm_id)
    is_alarm = found.needs_person and _has_closed(desk, intent)
    return Verdict(OrderStatus.WORKING, found.words, found.perm_id, is_alarm=True) if is_alarm else None


def _judge_silence(desk: Desk, order: Order, found: BrokerOrder | None, why: str) -> Verdict | None:
    """What there is to say of an order where a list never came; before the close nothing: it rests.

    found: the order in the broker's list, where that came. why: what the broker did not tell.
    """
    if order.status is not OrderStatus.WORKING or not _has_closed(desk, order.intent):
        return None
    claimed = _claimed(order.intent, found) if found else 0
    if _shares(booked(desk, order.intent)) < claimed:
        words = f"the broker counts {counted(claimed, 'share')} executed, and does not tell how: {why}"
        return Verdict(OrderStatus.WORKING, words, filled_shares=found.final_count if found else None, is_alarm=True)
    return Verdict(OrderStatus.WORKING, f"the broker does not tell what became of it: {why}", is_silence=True)


def _has_closed(desk: Desk, intent: OrderIntent) -> bool:
    return desk.clock.now() >= desk.calendar.close(intent.session)


def _claimed(intent: OrderIntent, found: BrokerOrder) -> int:
    """The shares that were executed by the broker's word on the order."""
    return intent.shares if found.status is OrderStatus.FILLED else found.filled_shares


def _judge_unlisted(desk: Desk, order: Order, claimed: OrderStatus) -> Verdict | None:
    """No list tells the order's end: what the broker counted in time does, else the position."""
    intent = order.intent
    done = _shares(booked(desk, intent))
    if executions_vanished(desk, intent.session) and (more := _counted_beyond(desk, order, done)):
        return _estimated(intent, done, more, "the broker counted when it had ended")
    return _judge_by_position(desk, order, claimed)


def _judge_by_position(desk: Desk, order: Order, claimed: OrderStatus) -> Verdict | None:
    """What the position says of the order's end, where nothing else of ours can have moved it."""
    intent = order.intent
    done = _shares(booked(desk, intent))
    seen = look_twice(desk, intent)
    if isinstance(seen, Unknown):
        return _judge_silence(desk, order, None, seen.why)
    if any(other.intent.reference != intent.reference for other in desk.store.open_orders()):
        return None
    if doubt := position_doubt(desk, intent, seen):
        return Verdict(OrderStatus.UNKNOWN, doubt, is_alarm=True)
    moved = whole_shares(seen.moved)
    is_its_own = same_shares(seen.moved, moved) and 0 <= moved <= intent.shares - done
    if not is_its_own or (moved == 0 and claimed is OrderStatus.FILLED):
        by = counted(seen.moved, "share")
        words = f"{counted(done, 'share')} of it booked, but the position moved its way by {by} more"
        return Verdict(OrderStatus.UNKNOWN, words, is_alarm=True)
    if moved == 0:
        return Verdict(_end(claimed, done), "no list of the broker has it any more, the position says what it did")
    if not executions_vanished(desk, intent.session):
        words = f"the position moved its way by {counted(moved, 'share')} more than its executions add up to"
        return Verdict(OrderStatus.WORKING, words, is_alarm=True)
    return _estimated(intent, done, moved, "the position says")


def _counted_beyond(desk: Desk, order: Order, done: int) -> int:
    """How many more shares the broker had counted as executed; 0 where it had not, and of shares that are not held."""
    more = min(order.filled_shares or 0, order.intent.shares) - done
    is_held = order.intent.side is Side.BUY or more <= desk.shares()
    return more if more > 0 and is_held else 0


def _estimated(intent: OrderIntent, done: int, more: int, source: str) -> Verdict:
    status = OrderStatus.FILLED if done + more == intent.shares else OrderStatus.PARTLY_FILLED
    return Verdict(status, f"{counted(more, 'share')} as {source}; estimated", estimated_shares=more)


def _end(claimed: OrderStatus, done: int) -> OrderStatus:
    if done:
        return OrderStatus.PARTLY_FILLED
    return claimed if not claimed.is_open else OrderStatus.CANCELLED


def _shares(fills: list[Fill]) -> int:
    return sum(fill.shares for fill in fills)


# -- what comes later -------------------------------------------------------------------------------------------------


def _collect_ended(desk: TradingDesk, order: Order) -> Collected:
    """What the broker shows of an ended order beyond the book: executions after all, corrections, commissions."""
    intent, executions = order.intent, desk.broker.executions()
    if isinstance(executions, Unknown):
        may_have_more = _shares(booked(desk, intent)) < intent.shares and not executions_vanished(desk, intent.session)
        return Collected(order, silence=executions.why if may_have_more else "")
    shown = executions_of(intent, executions.value)
    if _is_of_old_shares(desk, intent.session):
        # Of what the book has rescaled only a commission is news.
        costs = {fill.execution_id: fill.commission_usd for fill in shown}
        ours = [fill for fill in booked(desk, intent) if fill.execution_id in costs]
        shown = [replace(fill, commission_usd=costs[fill.execution_id]) for fill in ours]
    if _has_news(booked(desk, intent), shown):
        _book_late(desk, order, shown)
        order = _present(desk, order)
        if order.status is OrderStatus.WORKING:
            return _collect_open(desk, order)
    told_of = {fill.execution_id for fill in shown}
    gone = [f for f in booked(desk, intent) if f.commission_usd is None and f.execution_id not in told_of]
    if gone and executions_vanished(desk, intent.session):
        with desk.store.transaction():
            desk.store.add_fills([_with_expected_commission(desk, fill) for fill in gone])
            _tell_estimated(desk, intent)
    return Collected(order)


def _has_news(ours: list[Fill], shown: list[Fill]) -> bool:
    """Whether the broker's executions of an order say more than those in the book.

    What the owner took from a statement stands; an estimate gives way to the whole of what it stands for, and no less.
    """
    if any(fill.execution_id.startswith(f"{fill.reference}#") and not fill.is_estimated for fill in ours):
        return False
    if any(fill.is_estimated for fill in ours):
        return _shares(shown) == _shares(ours) and all(fill.commission_usd is not None for fill in shown)
    return any(_is_newer(fill, ours) for fill in shown)


def _is_newer(theirs: Fill, ours: list[Fill]) -> bool:
    mine = next((fill for fill in ours if fill.execution_id == theirs.execution_id), None)
    if mine is None or theirs.revision > mine.revision:
        return True
    return mine.commission_usd is None and theirs.commission_usd is not None


def _book_late(desk: TradingDesk, order: Order, shown: list[Fill]) -> None:
    """Book them, and tell where books that were closed change. Raises StoreError where the book would become short."""
    intent, before, realised = order.intent, _shares(booked(desk, order.intent)), desk.ledger().realised
    with desk.store.transaction():
        desk.store.replace_estimates(intent.reference, shown)
        done, change = _shares(booked(desk, intent)), desk.ledger().realised - realised
        if done != before:
            ended = OrderStatus.FILLED if done == intent.shares else OrderStatus.PARTLY_FILLED
            status = ended if executions_vanished(desk, intent.session) else OrderStatus.WORKING
            desk.store.update_order(intent.reference, status, desk.wall_clock.now(), words="executed after all")
        if _is_settled(desk, intent.session):
            words = f"{filled_words(desk, intent)}: so it is at the broker now, the session had been settled otherwise"
            if abs(change) > TOLERANCE_USD:
                words += f"; the result of closed round trips changes by {change:+.2f} USD"
            desk.notifier.tell(Notice(event=Event.ORDER_FILLED, words=words, is_urgent=True))


def _is_settled(desk: Desk, session: date) -> bool:
    return any(row.is_settled for row in desk.store.ledger(session, session))


def _with_expected_commission(desk: Desk, fill: Fill) -> Fill:
    expected = _expected_commission(desk, fill.shares, fill.price_usd)
    return replace(fill, commission_usd=expected, is_estimated=True, revision=fill.revision + 1)


# -- telling ----------------------------------------------------------------------------------------------------------


def _tell(desk: TradingDesk, intent: OrderIntent, verdict: Verdict) -> None:
    if verdict.estimated_shares:
        _tell_estimated(desk, intent)
    elif verdict.is_alarm or verdict.is_silence:
        words = f"Order {intent.reference}: {verdict.words}. {LOOK.format(session=intent.session)}"
        desk.notifier.tell(Notice(event=Event.MISMATCH, words=words, is_urgent=True))
    elif booked(desk, intent):
        desk.notifier.tell(Notice(event=Event.ORDER_FILLED, words=filled_words(desk, intent)))
    else:
        tell_order(desk, intent, "")


def _tell_estimated(desk: TradingDesk, intent: OrderIntent) -> None:
    words = (
        f"{filled_words(desk, intent)}: ESTIMATED, the broker no longer shows it. Put it right from the statement: "
        f"`mtum-eod reconcile --fill {intent.session} PRICE COMMISSION`"
    )
    desk.notifier.tell(Notice(event=Event.ORDER_FILLED, words=words, is_urgent=True))


def filled_words(desk: Desk, intent: OrderIntent) -> str:
    """An order's executions in one line."""
    fills = booked(desk, intent)
    shares = _shares(fills)
    price = sum(fill.shares * fill.price_usd for fill in fills) / shares
    commission = sum(fill.commission_usd or 0.0 for fill in fills)
    said = f"{intent.side} {shares} {desk.book.symbol} at {price:.2f}"
    return f"{said}, commission {commission:.2f} USD, {intent.session}"
