"""After the close: executions collected, the session's books closed, earlier ones made final."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

import pandas as pd

from mtum_eod.core import quality, snapshot
from mtum_eod.core.events import Event
from mtum_eod.core.market import VIX, BarStatus, DailyBars
from mtum_eod.core.trading import Order, OrderIntent, OrderStatus
from mtum_eod.jobs.decide import latch_daily_loss, tell_order
from mtum_eod.jobs.desk import Desk, TradingDesk
from mtum_eod.jobs.recover import Resend, recover
from mtum_eod.jobs.replay import replay_recorded
from mtum_eod.ports import EquityMark, Known, Notice, Unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """How one session ended."""

    session: date
    order: Order | None
    mark: EquityMark | None  # None where no close is known
    is_settled: bool
    why: str = ""  # what is still open, in words

    @property
    def document(self) -> dict[str, Any]:
        """The same as one document."""
        order = self.order
        return {
            "session": self.session.isoformat(),
            "settled": self.is_settled,
            "open": self.why or None,
            "order": snapshot.order_part(order.intent, order.status) if order else None,
            "equity": self.mark.value if self.mark else None,
        }

    @property
    def exit_code(self) -> int:
        """5 where an order's state is unknown or it was rejected: a person looks."""
        return 5 if self.order and self.order.status in (OrderStatus.UNKNOWN, OrderStatus.REJECTED) else 0


def settle_session(desk: TradingDesk, session: date) -> Settlement:
    """Collect what the session's order became, mark the book at its close, and finish earlier sessions.

    Repeating it changes nothing. Raises MarketDataError, BrokerUnavailable, StoreError.
    """
    order = collect(desk, session)
    provisional = [mark.session for mark in desk.store.provisional_marks() if mark.session < session]
    window = desk.calendar.sessions(min([*provisional, session]), session)
    prices, vix = (_bars(desk, symbol, window) for symbol in (desk.book.symbol, VIX))
    desk.store.add_bars([prices, vix])
    known = [mark for day in (*provisional, session) if (mark := _mark(desk, day, prices)) is not None]
    mine = next((mark for mark in known if mark.session == session), None)
    why = _still_open(desk, order, mine)
    drift = _drift(desk, [mark.session for mark in known if mark.is_final])
    desk.store.settle(session, desk.wall_clock.now(), known, is_settled=not why, drift_actions=drift)
    _watch_daily_loss(desk, session, mine)
    return Settlement(session=session, order=order, mark=mine, is_settled=not why, why=why)


def collect(desk: TradingDesk, session: date, resend: Resend | None = None) -> Order | None:
    """Book what the broker knows of the session's order; None where it has none.

    An intent without acknowledgement is looked for first; `resend` sends it where it is surely absent.
    """
    order = desk.store.order(session)
    if order and order.status in (OrderStatus.INTENT, OrderStatus.UNKNOWN):
        before = order.status
        recover(desk, order.intent, resend)
        order = desk.store.order(session)
        if order and order.status is not before:
            tell_order(desk, order.intent, "A later run found it open")
    if order and (order.status is OrderStatus.WORKING or _lacks_commission(desk, order)):
        return _collect_fills(desk, order)
    return order


def _collect_fills(desk: TradingDesk, order: Order) -> Order | None:
    intent = order.intent
    orders, executions = desk.broker.orders(), desk.broker.executions()
    if isinstance(executions, Unknown):
        return order
    fills = [fill for fill in executions.value if fill.reference == intent.reference]
    with desk.store.transaction():
        desk.store.add_fills(fills)
        if order.status.is_open and isinstance(orders, Known):
            found = next((o for o in orders.value if o.reference == intent.reference), None)
            done = sum(fill.shares for fill in fills)
            # Executions are the truth about fills: a status that claims more is not believed until they add up.
            if found and not found.status.is_open and done >= found.filled_shares:
                desk.store.update_order(
                    intent.reference,
                    _final_status(found.status, done, intent.shares),
                    desk.wall_clock.now(),
                    perm_id=found.perm_id,
                    words=found.words,
                )
    after = desk.store.order(intent.session)
    if after and order.status.is_open and not after.status.is_open:
        if fills:
            _tell_filled(desk, intent)
        else:
            tell_order(desk, intent, "")
    return after


def _lacks_commission(desk: Desk, order: Order) -> bool:
    return any(f.commission_usd is None for f in desk.store.fills() if f.reference == order.intent.reference)


def _final_status(claimed: OrderStatus, done: int, wanted: int) -> OrderStatus:
    if done >= wanted:
        return OrderStatus.FILLED
    return OrderStatus.PARTLY_FILLED if done else claimed


def _tell_filled(desk: TradingDesk, intent: OrderIntent) -> None:
    fills = [fill for fill in desk.store.fills() if fill.reference == intent.reference]
    shares = sum(fill.shares for fill in fills)
    price = sum(fill.shares * fill.price_usd for fill in fills) / shares
    commission = sum(fill.commission_usd or 0.0 for fill in fills)
    said = (
        f"{intent.side} {shares} {desk.book.symbol} at {price:.2f}, commission {commission:.2f} USD, {intent.session}"
    )
    desk.notifier.tell(Notice(event=Event.ORDER_FILLED, words=said))


def _bars(desk: Desk, symbol: str, window: list[date]) -> DailyBars:
    """The believable bars of these few sessions, as the source has them now."""
    source = desk.vix if symbol == VIX else desk.prices
    raw = source.daily(symbol, window[0], window[-1], desk.wall_clock.now())
    return quality.check(raw, window, needed=0, is_index=symbol == VIX).bars


def _mark(desk: Desk, session: date, bars: DailyBars) -> EquityMark | None:
    day, closes = pd.Timestamp(session), bars.frame["close"]
    if day not in closes.index:
        return None
    close = float(closes[day])
    ledger = desk.ledger(up_to=session)
    shares = ledger.holding.shares if ledger.holding else 0
    is_last = day == closes.index[-1]
    return EquityMark(
        session=session,
        cash=ledger.cash,
        position_value=shares * close,
        value=ledger.equity(close),
        realised=ledger.realised,
        unrealised=ledger.unrealised(close),
        is_final=not is_last or bars.last_status is BarStatus.FINAL,
    )


def _still_open(desk: Desk, order: Order | None, mark: EquityMark | None) -> str:
    if order and order.status.is_open:
        return f"order {order.intent.reference} is {order.status}"
    if order and _lacks_commission(desk, order):
        return "a commission is not reported yet"
    return "" if mark else "the session's close is not known yet"


def _drift(desk: Desk, sessions: list[date]) -> dict[date, str]:
    """What the final bars would have decided, for the sessions now final."""
    actions = {}
    newest = desk.store.bars_revision()
    for session in sessions:
        recorded = desk.store.signal(session)
        if recorded and recorded.bars_revision == newest:  # it was made on these very bars
            actions[session] = str(recorded.document["action"])
        elif recorded:
            outcome = replay_recorded(recorded, desk.store, desk.calendar, desk.book, on_final_bars=True)
            actions[session] = str(outcome.decision.action)
    return actions


def _watch_daily_loss(desk: TradingDesk, session: date, mark: EquityMark | None) -> None:
    """The daily loss again, at the settled close."""
    before = desk.store.last_equity(session)
    if mark is None or before is None or any(halt.is_daily_loss for halt in desk.store.halts()):
        return
    flows = (flow for flow in desk.store.cash_flows() if before.session < flow.session <= session)
    paid_in = sum(flow.kind.sign * flow.amount_usd for flow in flows)
    loss = before.value + paid_in - mark.value
    if loss >= desk.parameters.risk.max_daily_loss:
        latch_daily_loss(desk, loss, session)
