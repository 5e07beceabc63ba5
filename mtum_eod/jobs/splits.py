"""A change of scale: closes and shares multiplied by one number overnight, and the book that follows it."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from math import log, nan

from mtum_eod.core import quality
from mtum_eod.core.events import Event
from mtum_eod.core.evidence import Evidence
from mtum_eod.core.ledger import ledger, rescale
from mtum_eod.core.market import DailyBars, FindingKind
from mtum_eod.core.trading import Mode, Split, same_shares
from mtum_eod.core.words import counted
from mtum_eod.errors import MarketDataError, StoreError
from mtum_eod.jobs.desk import Desk, TradingDesk
from mtum_eod.ports import Notice, Unknown

COMPARED_SESSIONS = 10
"""At least so many sessions are read where bars are to be written, so that a split of the closes stands out."""


def split_seen(desk: Desk, prices: DailyBars) -> Split | str | None:
    """The split that the book has still to follow, or in words why closes of another scale are none; None without such.

    prices: checked bars, enough of them final in the store too. A split is a ratio of closes like one, borne out by the
    broker's shares.
    """
    if prices.is_empty:
        return None
    closes = quality.closes_ratio(prices, desk.store.bars(desk.book.symbol, prices.first, prices.last))
    if closes is None:
        return None
    ratio = quality.split_ratio(closes)
    if ratio is None:
        return f"closes are {closes:.4g} times the stored ones: perhaps the source changed how it adjusts"
    split = Split(session=_first_session(desk, prices, ratio), ratio=ratio)
    doubt = _doubt(desk, split)
    return f"closes are {closes:.4g} times the stored ones, but {doubt}" if doubt else split


def _first_session(desk: Desk, prices: DailyBars, ratio: float) -> date:
    """The first session on the new scale: this one, or an earlier one whose executions stand on it already.

    A book restored from before the split learns of what was executed since from the broker, while its bars are still
    those of the backup. An execution's price lies near its session's close, so it tells on which scale it was made.
    """
    for fill in desk.store.since_flat().fills:
        close = prices.close_of(fill.session)
        if close and abs(log(fill.price_usd / close)) < abs(log(fill.price_usd / (close * ratio))):
            return fill.session
    today = desk.calendar.local_date(desk.clock.now())
    return today if desk.calendar.is_session(today) else desk.calendar.nearest(today)[1]


def _doubt(desk: Desk, split: Split) -> str:
    try:
        shares = sum(fill.side.sign * fill.shares for fill in rescale(desk.store.since_flat().fills, split))
    except StoreError as error:
        return error.message
    # The embedded broker has no shares but those of this book: they follow the book's splits.
    if desk.book.mode is Mode.SIMULATED:
        return ""
    held = desk.broker.shares_held(desk.book.symbol)
    if isinstance(held, Unknown):
        return f"the broker's position is not known ({held.why})"
    left = desk.store.shares_left()
    before, after = desk.shares() + left, shares + left * split.ratio
    if same_shares(held.value, after):
        return ""
    held_words = counted(held.value, "share")
    return f"the broker holds {held_words}, where a split would have made {after:g} of {before:g}"


def follow_scale(desk: TradingDesk, prices: DailyBars) -> None:
    """Follow the split that these bars tell of, if any, before one of them is written.

    Raises MarketDataError where they have changed their scale for no known reason: no bar may join others of another.
    """
    split = split_seen(desk, prices)
    if isinstance(split, str):
        hint = "compare with the broker: `mtum-eod reconcile`; what it shows decides whose numbers are wrong"
        raise MarketDataError(f"{desk.book.symbol}: {split}", hint=hint)
    if split:
        follow_split(desk, split)


def follow_split(desk: TradingDesk, split: Split) -> None:
    """Rescale the book and tell: shares, entry price and ATR, shares left to the owner, and all stored bars anew.

    All of it is durable together, so the next look finds nothing left to follow. Raises MarketDataError, StoreError.
    """
    symbol, now, shares = desk.book.symbol, desk.wall_clock.now(), desk.shares()
    history = _history(desk)
    with desk.store.transaction():
        desk.store.split(split, now)
        if left := desk.store.shares_left():
            desk.store.leave(left * split.ratio, now)
        desk.store.add_bars([history])
        held = f"{counted(shares, 'share')} held: {desk.shares()} now" if shares else "no share is held"
        words = f"{symbol}: a split of {split.ratio:.6g} new shares for one, followed on {split.session}; {held}"
        desk.notifier.tell(Notice(event=Event.MISMATCH, words=words))


def as_after_split(desk: Desk, evidence: Evidence, split: Split) -> Evidence:
    """The evidence as it will be once the book has followed the split, for a look that writes nothing."""
    since = desk.store.since_flat()
    after = ledger(desk.capital, rescale(since.fills, split), desk.store.cash_flows(), realised=since.realised)
    held, position = after.holding, evidence.position
    if held and position:
        atr = desk.store.entry_atr(held.entry_session)
        scaled = nan if atr is None else atr / (split.ratio if held.entry_session < split.session else 1)
        position = replace(position, shares=held.shares, entry_price=held.entry_price, entry_atr=scaled)
    shares = held.shares if held else 0
    words = f"a split of {split.ratio:.6g} new shares for one: the next run makes {shares} of the shares held"
    return replace(
        evidence,
        position=position,
        funds=replace(evidence.funds, last_final_equity=after.equity(evidence.indicators.previous_close)),
        mismatch="",
        broker_shares=shares,
        findings=tuple(
            replace(found, is_fatal=False, words=f"{found.words}; {words}")
            if found.kind is FindingKind.RATIO
            else found
            for found in evidence.findings
        ),
    )


def _history(desk: Desk) -> DailyBars:
    """Bars of every session in the store, up to the last final one, as the source has them now."""
    symbol, calendar = desk.book.symbol, desk.calendar
    last = calendar.nearest(calendar.local_date(desk.clock.now()))[0]
    first = desk.store.bars(symbol, calendar.first_session, last).first
    window = calendar.sessions(first, last)
    raw = desk.prices.daily(symbol, first, last, desk.wall_clock.now())
    return quality.check(raw, window, needed=0).bars
