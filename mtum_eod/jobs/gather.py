"""Gathering the evidence for one session. Reads only: nothing here writes a row or sends a word."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from math import isnan, nan

from mtum_eod.core import timing
from mtum_eod.core.evidence import Evidence, Funds, Indicators, PendingExit
from mtum_eod.core.ledger import Ledger
from mtum_eod.core.market import Finding, FindingKind
from mtum_eod.core.trading import OrderStatus, Position, Split, whole_shares
from mtum_eod.jobs import market
from mtum_eod.jobs.desk import Desk
from mtum_eod.jobs.inquiry import mismatch
from mtum_eod.jobs.market import Reading
from mtum_eod.jobs.splits import SplitDoubt, split_seen
from mtum_eod.ports import BookReader, Unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """The evidence, and the market data behind it."""

    evidence: Evidence
    reading: Reading
    split: Split | None = None  # that the book has still to follow


def gather(desk: Desk, session: date) -> Gathered:
    """All that today's decision depends on: market, book, broker and the owner's word.

    Raises MarketDataError where there is no bar at all.
    """
    as_of = desk.wall_clock.now()
    reading = market.read(desk.sources, session, as_of, desk.parameters.strategy)
    ledger = desk.ledger()
    position = position_of(desk.store, ledger)
    halts = desk.store.halts()
    held, left = desk.broker.shares_held(desk.book.symbol), desk.store.shares_left()
    at_broker = None if isinstance(held, Unknown) else whole_shares(held.value - left)
    findings, split = reading.findings, None
    if any(finding.kind is FindingKind.RATIO for finding in findings):
        seen = split_seen(desk, reading.bars[0], held=held)
        split = seen if isinstance(seen, Split) else None
        if isinstance(seen, SplitDoubt):
            findings = tuple(_with_doubt(finding, seen) for finding in findings)
            at_broker = at_broker and seen.of_the_book(position.shares if position else 0, at_broker)
        # Whether the entry price stands on the scale of these closes is not known, so no rule may compare the two.
        position = position and replace(position, entry_price=nan, entry_atr=nan)
    evidence = Evidence(
        session=session,
        as_of=min(as_of, desk.calendar.close(session)),
        indicators=reading.indicators,
        position=position,
        funds=_funds(desk, ledger, reading.indicators),
        findings=findings,
        window=timing.window(desk.clock.now(), desk.timetable(session)),
        halt=next((halt for halt in halts if not halt.is_daily_loss), None),
        daily_loss_latched=any(halt.is_daily_loss for halt in halts),
        pending_exit=_pending_exit(desk, position),
        order_unknown=order_in_doubt(desk.store, session),
        mismatch=mismatch(ledger, held, left),
        broker_shares=at_broker,
        has_order=desk.store.order(session) is not None,
    )
    return Gathered(evidence=evidence, reading=reading, split=split)


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
        cash_unknown=cash.why if isinstance(cash, Unknown) else "",
    )


def order_in_doubt(store: BookReader, session: date) -> str:
    """The first order whose state cannot be told, in words; one of an earlier session should have ended long ago."""
    for order in store.open_orders():
        if order.status is OrderStatus.UNKNOWN:
            return f"order {order.intent.reference} is in an unknown state ({order.words})"
        if order.intent.session < session:
            return f"order {order.intent.reference} is still {order.status}"
    return ""


def _with_doubt(finding: Finding, doubt: SplitDoubt) -> Finding:
    is_in_doubt = finding.kind is FindingKind.RATIO
    return replace(finding, words=f"{finding.words}; {doubt.words}") if is_in_doubt else finding
