"""The book beside the broker, and the owner's hand that puts the book right. Nothing here sends an order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date
from math import isnan, log
from typing import Any

from mtum_eod.core.money import TOLERANCE_USD
from mtum_eod.core.trading import (
    Act,
    Fill,
    Order,
    OrderIntent,
    OrderStatus,
    OwnerAct,
    Side,
    ratio_since,
    same_shares,
    whole_shares,
)
from mtum_eod.core.words import counted
from mtum_eod.errors import BrokerUnavailable, MarketDataError, SettingsError
from mtum_eod.jobs import market
from mtum_eod.jobs.collect import booked, estimate, filled_words, final_close
from mtum_eod.jobs.desk import Desk, TradingDesk
from mtum_eod.jobs.inquiry import executions_of, order_among
from mtum_eod.jobs.session import last_closed, session_asked
from mtum_eod.jobs.settle import marked_again
from mtum_eod.ports import BrokerOrder, Known, Unknown

FAR_FROM_THE_CLOSE = 0.5
"""A price further than this, relative, from its session's close is a typing error."""

BY_OWNER = "#owner"
"""What follows the order's reference in the id of an execution that the owner told of."""


# -- comparing --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One thing that book and broker should agree on."""

    what: str
    book: str
    broker: str
    agrees: bool | None  # None: the broker did not say
    cure: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The book beside the broker."""

    lines: tuple[Compared, ...]

    @property
    def document(self) -> dict[str, Any]:
        """The same as one document."""
        return {"agree": all(line.agrees for line in self.lines), "lines": [asdict(line) for line in self.lines]}

    @property
    def exit_code(self) -> int:
        """0 where all agree, 5 where they differ, 4 where the broker did not say."""
        if any(line.agrees is False for line in self.lines):
            return 5
        return 0 if all(line.agrees for line in self.lines) else BrokerUnavailable.exit_code


def compare(desk: Desk) -> Comparison:
    """Position, open orders, executions and cash, as the book has them and as the broker does; writes nothing.

    Raises BrokerUnavailable where no broker answers, SettingsError where it is another account than the book's.
    """
    _ = desk.broker.account  # no connection is one reason, not four
    return Comparison((*_position(desk), *_orders(desk), *_executions(desk), *_cash(desk)))


def _position(desk: Desk) -> Iterator[Compared]:
    ours, left = desk.shares(), desk.store.shares_left()
    book = counted(ours, "share") + (f", {left:g} left to the owner" if left else "")
    held = desk.broker.shares_held(desk.book.symbol)
    if isinstance(held, Unknown):
        yield _unsaid("position", book, held)
    else:
        more = held.value - ours - left
        yield Compared(
            what="position",
            book=book,
            broker=counted(held.value, "share"),
            agrees=same_shares(more, 0),
            cure=_position_cure(more, left, ours),
        )


def _position_cure(more: float, left: float, ours: int) -> str:
    """What the owner types where the broker holds so many more shares than the book knows of, or fewer."""
    if same_shares(more, 0):
        return ""
    if more < 0:
        gone = min(ours, whole_shares(-more))
        return f"sold by hand: `mtum-eod reconcile --sold {gone}@PRICE --exit-date SESSION`" if gone else ""
    own = f"your own: `mtum-eod reconcile --leave {left + more:g}`"
    bought = whole_shares(more)
    if ours or not bought:
        return own
    return f"{own}; the program's: `mtum-eod reconcile --adopt {bought}@PRICE --entry-date SESSION`"


def _orders(desk: Desk) -> Iterator[Compared]:
    answer = desk.broker.orders()
    ours = {order.intent.reference: order for order in desk.store.open_orders()}
    if isinstance(answer, Unknown):
        yield _unsaid("open orders", ", ".join(ours) or "none", answer)
        return
    theirs = {order.reference: order for order in answer.value if order.reference and order.status.is_open}
    for reference, order in ours.items():
        found = order_among(desk, order.intent, answer.value)
        agrees = bool(found and found.status is order.status)
        yield Compared(what=reference, book=order.status, broker=found.status if found else "in no list", agrees=agrees)
    for reference in theirs.keys() - ours.keys():
        yield Compared(what=reference, book="not open", broker=theirs[reference].status, agrees=False)
    if not ours and not theirs:
        yield Compared(what="open orders", book="none", broker="none", agrees=True)


def _executions(desk: Desk) -> Iterator[Compared]:
    answer = desk.broker.executions()
    known = {fill.execution_id: fill for fill in desk.store.fills()}
    if isinstance(answer, Unknown):
        yield _unsaid("executions", f"{len(known)} booked", answer)
        return
    for fill in answer.value:
        ours = known.get(fill.execution_id)
        if ours is None or ours.revision < fill.revision:
            book = "not booked" if ours is None else f"{ours.shares} at {ours.price_usd:.2f}"
            yield Compared(
                what=fill.execution_id, book=book, broker=f"{fill.shares} at {fill.price_usd:.2f}", agrees=False
            )
    booked_too = sum(fill.execution_id in known for fill in answer.value)
    yield Compared(what="executions", book=f"{booked_too} booked", broker=f"{len(answer.value)} visible", agrees=True)


def _cash(desk: Desk) -> Iterator[Compared]:
    """The account may hold more than the book, never less."""
    cash, ours = desk.broker.cash(), desk.ledger().cash
    if isinstance(cash, Unknown):
        yield _unsaid("cash", f"{ours:,.2f} USD", cash)
    else:
        theirs = cash.value.spendable_usd
        agrees = theirs > ours - TOLERANCE_USD
        yield Compared(what="cash", book=f"{ours:,.2f} USD", broker=f"{theirs:,.2f} USD to spend", agrees=agrees)


def _unsaid(what: str, book: str, answer: Unknown) -> Compared:
    return Compared(what=what, book=book, broker=f"not known: {answer.why}", agrees=None)


# -- putting right ----------------------------------------------------------------------------------------------------


def adopt(desk: TradingDesk, shares: int, price: float, entry_session: date, by: str) -> str:
    """Take shares bought by hand into the book, as entered in that session with its ATR; told in words.

    Raises SettingsError where that makes no sense, BrokerUnavailable where the broker's position is not known,
    MarketDataError where the session's ATR is not.
    """
    _refuse_unbound(desk)
    _refuse_open_orders(desk)
    _refuse_session(desk, entry_session)
    if ours := desk.shares():
        raise SettingsError(
            f"the book holds {counted(ours, 'share')} already, and it has one position at a time",
            hint="shares that shall stay out of it: `mtum-eod reconcile --leave N`",
        )
    traded = max((f.session for f in desk.store.fills()), default=None)
    if traded and entry_session <= traded:
        raise SettingsError(
            f"the book last traded in the session {traded}, an entry on {entry_session} is not after it",
            hint=f"give a session after {traded}",
        )
    free = whole_shares(_held(desk) - desk.store.shares_left())
    if shares > free:
        raise SettingsError(
            f"{counted(shares, 'share')} to be adopted, the broker holds {max(free, 0)} that are not the owner's own",
            hint="`mtum-eod reconcile` shows what it holds",
        )
    cash = desk.ledger().cash
    if shares * price > cash + TOLERANCE_USD:
        raise SettingsError(
            f"{counted(shares, 'share')} at {price:.2f} would cost {shares * price:,.2f} USD, the book has {cash:,.2f}",
            hint="tell it of the money first: `mtum-eod cash add deposit AMOUNT`",
        )
    p, now = desk.parameters.strategy, desk.wall_clock.now()
    reading = market.read(desk.sources, entry_session, now, p)
    close, atr = reading.indicators.close, reading.indicators.atr
    if isnan(atr):
        why = "; ".join(finding.words for finding in reading.findings if finding.is_fatal)
        raise MarketDataError(f"{desk.book.symbol}: no ATR of {entry_session}: {why}", hint="`mtum-eod data check`")
    _refuse_far(price, close, entry_session, "give the price on today's scale, and the session it was paid in")
    fill = _told(desk, "ADOPTED", entry_session, Side.BUY, shares, price)
    words = f"{counted(shares, 'share')} adopted at {price:.2f}, entered on {entry_session} with an ATR of {atr:.2f}"
    with desk.store.transaction():
        desk.store.adopt(fill, atr, p.atr_multiplier, now)
        _record(desk, Act.ADOPT, entry_session, by, words)
    return words


def sold(desk: TradingDesk, shares: int, price: float, exit_session: date, by: str) -> str:
    """Take shares out of the book that were sold past it, or by an order it has forgotten, in that session.

    Told in words. Raises SettingsError where that makes no sense, BrokerUnavailable where the broker's position is not
    known, MarketDataError where the session's close is not.
    """
    _refuse_unbound(desk)
    _refuse_open_orders(desk)
    _refuse_session(desk, exit_session)
    held, ours = _held(desk), desk.shares()
    gone = min(ours, whole_shares(ours + desk.store.shares_left() - held))
    if shares > gone:
        raise SettingsError(
            f"{counted(shares, 'share')} of {ours} in the book to be taken out, and the broker still holds {held:g}",
            hint=f"at most {max(gone, 0)} can have been sold past the book; `mtum-eod flatten` sells",
        )
    traded = desk.store.fills()[-1].session
    if exit_session <= traded:
        raise SettingsError(
            f"the book last traded in the session {traded}, a sale on {exit_session} is not after it",
            hint=f"give a session after {traded}",
        )
    close = final_close(desk, exit_session)
    if close is None:
        raise MarketDataError(
            f"{desk.book.symbol}: no close of {exit_session} at {desk.prices.name}", hint="`mtum-eod data check`"
        )
    _refuse_far(
        price, close, exit_session, "give the price of one of the book's shares, and the session it was sold in"
    )
    fill = _told(desk, "SOLD", exit_session, Side.SELL, shares, price)
    words = f"{counted(shares, 'share')} taken out, sold at {price:.2f} on {exit_session}"
    with desk.store.transaction():
        desk.store.add_fills([fill])
        _record(desk, Act.SOLD, exit_session, by, words)
    return words


def leave(desk: TradingDesk, shares: float, by: str) -> str:
    """From now on so many of the broker's shares are the owner's own, never counted or sold; told in words.

    Raises SettingsError for more than the broker holds beside the book, BrokerUnavailable where that is not known.
    """
    _refuse_unbound(desk)
    held, ours = _held(desk), desk.shares()
    if shares > held - ours and not same_shares(shares, held - ours):
        raise SettingsError(
            f"{counted(shares, 'share')} to be left, but the broker holds {held:g} and {ours} of them are the book's",
            hint=f"at most {max(held - ours, 0):g} can be left",
        )
    words = f"the owner's own: {shares:g} of the broker's {counted(held, 'share')}"
    with desk.store.transaction():
        desk.store.leave(shares, desk.wall_clock.now())
        _record(desk, Act.LEAVE, None, by, words)
    return words


def fill(desk: TradingDesk, session: date, price: float, commission: float, by: str) -> str:
    """Put the statement's price, and commission of them all, in the place of a session's estimates; told in words.

    Said again it corrects what was said before. A price from before a split is brought to the scale of the book, which
    has followed it. Raises SettingsError where nothing was estimated, or the price is far from what was.
    """
    _refuse_unbound(desk)
    order = desk.store.order(session)
    told = f"{order.intent.reference}{BY_OWNER}" if order else ""
    replaced = [f for f in booked(desk, order.intent) if f.is_estimated or f.execution_id == told] if order else []
    if order is None or not replaced:
        raise SettingsError(
            f"nothing is estimated in the session {session}",
            hint="the column `estimated` of `mtum-eod export fills` says where something is",
        )
    price = _on_book_scale(desk, session, price, replaced[0].price_usd)
    before, shares = filled_words(desk, order.intent), sum(f.shares for f in replaced)
    exact = Fill(
        execution_id=told,
        reference=order.intent.reference,
        session=session,
        executed_at=replaced[0].executed_at,
        side=order.intent.side,
        shares=shares,
        price_usd=price,
        commission_usd=commission,
        revision=max((f.revision + 1 for f in replaced if f.execution_id == told), default=0),
    )
    with desk.store.transaction():
        desk.store.replace_estimates(order.intent.reference, [exact])
        words = f"{filled_words(desk, order.intent)}; before: {before}"
        _record(desk, Act.FILL, session, by, words)
    return words


def _on_book_scale(desk: Desk, session: date, price: float, estimated: float) -> float:
    since = ratio_since(desk.store.splits(), session)
    on_scale = min((price, price / since), key=lambda usd: abs(log(usd / estimated)))
    if abs(on_scale / estimated - 1) > FAR_FROM_THE_CLOSE:
        raise SettingsError(
            f"{price:g} USD a share is far from what was estimated for {session}, {estimated:.2f}",
            hint="give the price as the statement has it, of one share",
        )
    return on_scale


def resolve(desk: TradingDesk, session: date, *, executed: int | None, by: str) -> str:
    """Say what became of a session's order whose end cannot be told; told in words.

    executed: how many of its shares were executed in all, 0 for none and None for every one; those not booked yet are
    booked as an estimate. Raises SettingsError where the session has no open order, the number is none it can have, or
    the broker contradicts; MarketDataError where the session's close is not known.
    """
    _refuse_unbound(desk)
    order = desk.store.order(session)
    if order is None or not order.status.is_open:
        state = f"its order is {order.status}" if order else "it has no order"
        raise SettingsError(f"nothing is open in the session {session}: {state}", hint="see `mtum-eod status`")
    intent = order.intent
    _refuse_contradiction(desk, order)
    done = sum(f.shares for f in booked(desk, intent))
    if executed:
        _refuse_shares(executed, done, intent)
    missing = (intent.shares if executed is None else executed or done) - done
    if missing:
        _refuse_session(desk, session)
        _refuse_short(desk, intent, missing)
    if done + missing == intent.shares:
        status = OrderStatus.FILLED
        words = f"{intent.reference} was filled, {counted(missing, 'share')} of it estimated"
    elif done + missing:
        said = f"{done + missing:,} of {counted(intent.shares, 'share')} executed of {intent.reference}"
        status, words = OrderStatus.PARTLY_FILLED, f"{said}, {missing:,} of them estimated"
    else:
        status = OrderStatus.CANCELLED if order.perm_id is not None else OrderStatus.NOT_SENT
        words = f"nothing was executed of {intent.reference}"
    with desk.store.transaction():
        desk.store.add_fills([estimate(desk, intent, missing)] if missing else [])
        desk.store.update_order(intent.reference, status, desk.wall_clock.now(), words=f"{words}, says {by}")
        _record(desk, Act.RESOLVE, session, by, words)
    return words


def _told(desk: Desk, name: str, session: date, side: Side, shares: int, price: float) -> Fill:
    """An execution that only the owner knows of; what it cost is in the price."""
    reference = f"{_key(desk, session)}/{name}"
    return Fill(
        execution_id=f"{reference}{BY_OWNER}",
        reference=reference,
        session=session,
        executed_at=desk.calendar.close(session),
        side=side,
        shares=shares,
        price_usd=price,
        commission_usd=0.0,
    )


def _record(desk: TradingDesk, act: Act, session: date | None, by: str, words: str) -> None:
    """Keep the act, and mark again what it changed; for inside a transaction."""
    now = desk.wall_clock.now()
    if session:
        desk.store.settle(session, now, marked_again(desk, session), is_settled=False, drift_actions={})
    desk.store.add_act(OwnerAct(act=act, session=session, at=now, by=by, words=words))


def _key(desk: Desk, session: date) -> str:
    book = desk.book
    return f"mtum-eod/{book.mode}/{book.account}/{book.symbol}/{session}"


def _held(desk: Desk) -> float:
    held = desk.broker.shares_held(desk.book.symbol)
    if isinstance(held, Unknown):
        raise BrokerUnavailable(
            f"the broker's position is not known: {held.why}", hint="once it answers, `mtum-eod doctor` says so"
        )
    return held.value


def _refuse_unbound(desk: Desk) -> None:
    if not desk.has_begun:
        raise SettingsError("there is no book yet that could be put right", hint="the first `mtum-eod run` makes it")


def _refuse_open_orders(desk: Desk) -> None:
    for order in desk.store.open_orders():
        raise SettingsError(
            f"order {order.intent.reference} is {order.status}: until it ends nobody can say whose shares these are",
            hint="`mtum-eod settle`, or `mtum-eod reconcile --resolve`",
        )


def _refuse_shares(executed: int, done: int, intent: OrderIntent) -> None:
    """More than the order, or less than what is booked of it."""
    if not done <= executed <= intent.shares:
        booked_words = f", and {done} of it are booked" if done else ""
        raise SettingsError(
            f"{counted(executed, 'share')} cannot have been executed of {intent.reference}: "
            f"it is for {intent.shares:,}{booked_words}",
            hint=f"say none, filled, or a number from {max(done, 1)} to {intent.shares}",
        )


def _refuse_short(desk: Desk, intent: OrderIntent, missing: int) -> None:
    """A sale of more than the book holds: it has forgotten the purchase."""
    if intent.side is Side.SELL and missing > (held := desk.shares()):
        raise SettingsError(
            f"{intent.reference} cannot have sold {counted(missing, 'share')} of this book: it holds {held:,}",
            hint="a newer backup may know their purchase (`mtum-eod db restore`); without one say "
            f"{f'{held} or ' if held else ''}none, and the rest of the sale stays out of this book",
        )


def _refuse_far(price: float, close: float, session: date, hint: str) -> None:
    if abs(price / close - 1) > FAR_FROM_THE_CLOSE:
        raise SettingsError(f"{price:g} USD a share is far from the close of {session}, {close:.2f}", hint=hint)


def _refuse_session(desk: Desk, session: date) -> None:
    """A day that is no session, or one that has not closed yet."""
    now = desk.clock.now()
    session_asked(desk.calendar, session, now)
    if session > (closed := last_closed(desk.calendar, now)):
        raise SettingsError(f"{session} has not closed yet", hint=f"the last session that has is {closed}")


def _refuse_contradiction(desk: Desk, order: Order) -> None:
    """The broker's own word, where it has one, stands above the owner's."""
    orders, executions = desk.broker.orders(), desk.broker.executions()
    found: BrokerOrder | None = None
    if isinstance(orders, Known):
        found = order_among(desk, order.intent, orders.value)
    if found and found.status.is_open:
        raise SettingsError(
            f"{order.intent.reference} is {found.status} at the broker", hint="withdraw it there, or wait for its end"
        )
    known = {f.execution_id for f in booked(desk, order.intent)}
    if isinstance(executions, Known):
        new = [f for f in executions_of(order.intent, executions.value) if f.execution_id not in known]
        if new:
            raise SettingsError(
                f"the broker shows {counted(len(new), 'execution')} of {order.intent.reference} not booked yet",
                hint="`mtum-eod settle` books them",
            )
