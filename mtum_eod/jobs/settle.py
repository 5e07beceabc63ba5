"""After the close: executions collected, the session's books closed, earlier ones made final."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, timedelta
from math import isnan, prod
from typing import Any

from mtum_eod.core import quality, snapshot
from mtum_eod.core.events import Event
from mtum_eod.core.gates import daily_loss_limit
from mtum_eod.core.market import UNFINISHED, VIX, BarStatus, DailyBars
from mtum_eod.core.trading import Order, OrderStatus, Side
from mtum_eod.errors import BrokerUnavailable, MarketDataError, OrderStateUnknown
from mtum_eod.jobs import market
from mtum_eod.jobs.collect import Collected, booked, collect
from mtum_eod.jobs.decide import TOLD, latch_daily_loss
from mtum_eod.jobs.desk import Desk, TradingDesk
from mtum_eod.jobs.inquiry import executions_vanished
from mtum_eod.jobs.order import adopt_forgotten
from mtum_eod.jobs.replay import replay_recorded
from mtum_eod.jobs.splits import compared_window, follow_scale
from mtum_eod.ports import Answer, EquityMark, Known, Notice, Unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """How one session ended."""

    session: date
    source: str  # of its bars
    is_synthetic: bool
    order: Order | None
    mark: EquityMark | None  # None where no close is known
    is_settled: bool
    why: str = ""  # what is still open, in words
    needs_person: bool = False  # the broker contradicts itself
    is_unanswered: bool = False  # the broker does not tell of its order
    warnings: tuple[str, ...] = ()  # what is to be known of the data it was closed on

    @property
    def document(self) -> dict[str, Any]:
        """The same as one document."""
        order = self.order
        return {
            "session": self.session.isoformat(),
            "source": self.source,
            "synthetic": self.is_synthetic,
            "settled": self.is_settled,
            "open": self.why or None,
            "order": snapshot.order_part(order.intent, order.status) if order else None,
            "equity": self.mark.value if self.mark else None,
            "warnings": list(self.warnings),
        }

    @property
    def exit_code(self) -> int:
        """5 where a person looks: an order unknown, contradicted or rejected; 4 where the broker does not tell."""
        is_bad = self.order is not None and self.order.status in (OrderStatus.UNKNOWN, OrderStatus.REJECTED)
        if is_bad or self.needs_person:
            return OrderStateUnknown.exit_code
        return BrokerUnavailable.exit_code if self.is_unanswered else 0


def settle_session(desk: TradingDesk, session: date) -> Settlement:
    """Collect what the session's order became, mark the book at its close, and finish earlier sessions.

    Repeating it changes nothing. Without the VIX the books are closed all the same, and their marks stay provisional
    until it has been read too. Raises MarketDataError, BrokerUnavailable, StoreError.
    """
    had: Answer[None] = Known(None) if executions_vanished(desk, session) else adopt_forgotten(desk, session)
    order = desk.store.order(session)
    collected = collect(desk, order) if order else Collected(None)
    provisional = [mark for mark in desk.store.provisional_marks() if mark.session < session]
    first = min([*(mark.session for mark in provisional), compared_window(desk, session)[0]])
    window = desk.calendar.sessions(first, session)
    bars, without_vix = [prices := _bars(desk, desk.book.symbol, window)], ""
    try:
        bars.append(_bars(desk, VIX, window))
    except MarketDataError as error:
        why = f"not known ({error.message}); the books are closed without it, a later settlement reads it"
        without_vix = f"{VIX}: {why}"
    follow_scale(desk, prices)
    _learn_entry_atr(desk, session)
    changed = _keep(desk, bars)
    mine = _mark(desk, session, prices)
    later = [_mark_later(desk, mark, prices) for mark in provisional]
    known = [mark for mark in (*later, mine) if mark is not None]
    if without_vix:
        # Drift is worked out as a mark becomes final. One that is so already has its own, and takes corrections.
        final = {mark.session for mark in desk.store.equity_marks(first, session) if mark.is_final}
        known = [mark if mark.session in final else replace(mark, is_final=False) for mark in known]
    why = had.why if isinstance(had, Unknown) else _still_open(desk, collected, mine)
    drift = _drift(desk, [mark.session for mark in known if mark.is_final])
    marks = [*known, *marked_again(desk, session + timedelta(days=1))]
    with desk.store.transaction():  # once settled the session is not looked at again: its loss is latched with it
        desk.store.settle(session, desk.wall_clock.now(), marks, is_settled=not why, drift_actions=drift)
        _watch_daily_loss(desk, session, mine)
    return Settlement(
        session=session,
        source=desk.prices.name,
        is_synthetic=desk.book.is_synthetic,
        order=collected.order,
        mark=mine,
        is_settled=not why,
        why=why,
        needs_person=bool(collected.alarm),
        is_unanswered=bool(collected.silence) or isinstance(had, Unknown),
        warnings=(*([without_vix] if without_vix else []), *changed),
    )


def _learn_entry_atr(desk: TradingDesk, session: date) -> None:
    """Give a position that no recorded decision entered the ATR of its session: its target hangs on it.

    It may take some evenings, where the source lacks a bar on the first.
    """
    held = desk.ledger().holding
    if held is None or held.entry_session > session or desk.store.entry_atr(held.entry_session) is not None:
        return
    p, now = desk.parameters.strategy, desk.wall_clock.now()
    atr = market.read(desk.sources, held.entry_session, now, p).indicators.atr
    if not isnan(atr):
        entry = next(fill for fill in reversed(desk.store.fills()) if fill.side is Side.BUY)
        desk.store.adopt(entry, atr, p.atr_multiplier, now)


def marked_again(desk: Desk, first: date) -> list[EquityMark]:
    """The marks from `first` on as the book's executions have them now: one that came late changed all after it.

    The closes are the stored ones. Where the shares are not on their scale, those of a round trip closed before a
    split, their value stays as it was marked.
    """
    marks = desk.store.equity_marks(first=first)
    if not marks:
        return []
    stored = desk.store.bars(desk.book.symbol, marks[0].session, marks[-1].session)
    again = []
    for mark in marks:
        ledger, close = desk.ledger(up_to=mark.session), stored.close_of(mark.session)
        shares = ledger.holding.shares if ledger.holding else 0
        value = mark.position_value * bool(shares)
        if shares and close is not None and not isnan(close) and _is_on_scale(desk, mark.session):
            value = shares * close
        again.append(
            replace(
                mark,
                cash=ledger.cash,
                position_value=value,
                value=ledger.cash + value,
                realised=ledger.realised,
                unrealised=ledger.cash + value - ledger.sizing_equity,
            )
        )
    return again


def _bars(desk: Desk, symbol: str, window: list[date]) -> DailyBars:
    """The believable bars of these few sessions, as the source has them now."""
    source = desk.vix if symbol == VIX else desk.prices
    raw = source.daily(symbol, window[0], window[-1], desk.wall_clock.now())
    return quality.check(raw, window, needed=0, is_index=symbol == VIX).bars


def _keep(desk: TradingDesk, bars: list[DailyBars]) -> list[str]:
    """Store them; the final ones that have changed, in words, which the owner hears of with the writing."""
    changed = [
        finding.words
        for read in bars
        if not read.is_empty
        for finding in quality.compare_with_store(read, desk.store.bars(read.symbol, read.first, read.last))
    ]
    with desk.store.transaction():  # once written they are no news any more
        desk.store.add_bars(bars)
        if changed:
            more = [f"and {len(changed) - TOLD} more"] if len(changed) > TOLD else []
            words = f"Bars have changed at their source: {'; '.join([*changed[:TOLD], *more])}"
            desk.notifier.tell(Notice(event=Event.MISMATCH, words=words))
    return changed


def _mark(desk: Desk, session: date, bars: DailyBars) -> EquityMark | None:
    close = bars.close_of(session)
    if close is None:
        return None
    if session == bars.last and bars.last_status in UNFINISHED:  # from before the close, as in a file of 15:40
        return None
    is_final = session < bars.last or bars.last_status is BarStatus.FINAL
    close *= _scale(desk, session)
    ledger = desk.ledger(up_to=session)
    shares = ledger.holding.shares if ledger.holding else 0
    return EquityMark(
        session=session,
        cash=ledger.cash,
        position_value=shares * close,
        value=ledger.equity(close),
        realised=ledger.realised,
        unrealised=ledger.unrealised(close),
        is_final=is_final,
    )


def _scale(desk: Desk, session: date) -> float:
    """What closes of today are to be multiplied by to be of the shares held then.

    Of splits since then those count that found these shares sold, for the others have rescaled them.
    """
    since = [split for split in desk.store.splits() if split.session > session]
    return prod(split.ratio for split in since if not _was_held(desk, session, split.eve))


def _was_held(desk: Desk, session: date, until: date) -> bool:
    """Whether what was held in a session was held without a break until another."""
    held = desk.store.since_flat(until).fills
    return bool(held) and held[0].session <= session


def _mark_later(desk: Desk, mark: EquityMark, bars: DailyBars) -> EquityMark | None:
    """A provisional mark of an earlier session, at its final close where that is on the scale of its shares."""
    return _mark(desk, mark.session, bars) if _is_on_scale(desk, mark.session) else replace(mark, is_final=True)


def _is_on_scale(desk: Desk, session: date) -> bool:
    """Whether closes are on the scale of the shares held then: not of those of a round trip closed before a split."""
    return _scale(desk, session) == 1


def _still_open(desk: Desk, collected: Collected, mark: EquityMark | None) -> str:
    order = collected.order
    if order and order.status.is_open:
        is_in_doubt = collected.alarm or collected.silence or order.status is OrderStatus.UNKNOWN
        doubt = order.words if is_in_doubt else ""
        return f"order {order.intent.reference} is {order.status}{': ' if doubt else ''}{doubt}"
    if order and collected.silence:
        doubt = f"whether any of it was executed the broker does not tell: {collected.silence}"
        return f"order {order.intent.reference} is {order.status}; {doubt}"
    if order and any(fill.commission_usd is None for fill in booked(desk, order.intent)):
        return "a commission is not reported yet"
    return "" if mark else "the session's close is not known yet"


def _drift(desk: Desk, sessions: list[date]) -> dict[date, str]:
    """What the final bars would have decided, for the sessions now final."""
    actions = {}
    newest = desk.store.bars_revision()
    splits = desk.store.splits()
    for session in sessions:
        if any(split.session > session for split in splits):
            continue  # its final bar stands on another scale than the position of that day
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
    if loss >= daily_loss_limit(desk.parameters.risk.max_daily_loss):
        latch_daily_loss(desk, loss, session)
