"""Gathering the evidence for one session. Reads only: nothing here writes a row or sends a word."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from math import isnan, nan

from mtum_eod.core import timing
from mtum_eod.core.evidence import Evidence, Funds, Indicators, PendingExit
from mtum_eod.core.ledger import Ledger
from mtum_eod.core.trading import OrderStatus, Position
from mtum_eod.jobs import market
from mtum_eod.jobs.desk import Desk
from mtum_eod.jobs.market import Reading
from mtum_eod.ports import Answer, BookReader, Unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """The evidence, and the market data behind it."""

    evidence: Evidence
    reading: Reading


def gather(desk: Desk, session: date) -> Gathered:
    """All that today's decision depends on: market, book, broker and the owner's word.

    Raises MarketDataError where there is no bar at all.
    """
    as_of = desk.wall_clock.now()
    reading = market.read(desk.sources, session, as_of, desk.parameters.strategy)
    ledger = desk.ledger()
    position = position_of(desk.store, ledger)
    halts = desk.store.halts()
    held = desk.broker.shares_held(desk.book.symbol)
    unknown = [order for order in desk.store.open_orders() if order.status is OrderStatus.UNKNOWN]
    evidence = Evidence(
        session=session,
        as_of=min(as_of, desk.calendar.close(session)),
        indicators=reading.indicators,
        position=position,
        funds=_funds(desk, ledger, reading.indicators),
        findings=reading.findings,
        window=timing.window(desk.clock.now(), desk.timetable(session)),
        halt=next((halt for halt in halts if not halt.is_daily_loss), None),
        daily_loss_latched=any(halt.is_daily_loss for halt in halts),
        pending_exit=_pending_exit(desk, position),
        order_unknown=f"order {unknown[0].intent.reference} is in an unknown state" if unknown else "",
        mismatch=_mismatch(ledger, held),
        broker_shares=None if isinstance(held, Unknown) else int(held.value),
        has_order=desk.store.order(session) is not None,
    )
    return Gathered(evidence=evidence, reading=reading)


def position_of(store: BookReader, ledger: Ledger) -> Position | None:
    """The book's position, with the ATR of the decision that entered it (NaN where none is recorded)."""
    held = ledger.holding
    if held is None:
        return None
    atr = store.entry_atr(held.entry_session)
    return Position(
        shares=held.shares,
        entry_price=held.entry_price,
        entry_session=held.entry_session,
        entry_atr=nan if atr is None else atr,
        entry_commission_usd=held.entry_commission_usd,
    )


def _pending_exit(desk: Desk, position: Position | None) -> PendingExit | None:
    """An exit stays due, whatever the signals say later, until no share is left."""
    decided = desk.store.exit_decided_since(position.entry_session) if position else None
    return PendingExit(since=decided[0], words=decided[1]) if decided else None


def _funds(desk: Desk, ledger: Ledger, indicators: Indicators) -> Funds:
    cash = desk.broker.cash()
    # Nothing is traded between the last close and this decision, so the book at the last close is this book then.
    last_close = indicators.previous_close
    return Funds(
        sizing_equity=ledger.sizing_equity,
        cash=nan if isinstance(cash, Unknown) else cash.value.spendable_usd,
        settled_cash=nan if isinstance(cash, Unknown) else cash.value.settled_usd,
        last_final_equity=ledger.sizing_equity if isnan(last_close) else ledger.equity(last_close),
    )


def _mismatch(ledger: Ledger, held: Answer[float]) -> str:
    """Where book and broker differ, in words; a broker that did not say differs from any book."""
    ours = ledger.holding.shares if ledger.holding else 0
    if isinstance(held, Unknown):
        return f"the broker's position is not known ({held.why})"
    return "" if held.value == ours else f"the book holds {ours} shares, the broker {held.value:g}"
