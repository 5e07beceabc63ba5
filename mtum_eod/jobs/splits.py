"""A change of scale: closes and shares multiplied by one number overnight, and the book that follows it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from math import log, nan

import numpy as np

from mtum_eod.core import quality
from mtum_eod.core.events import Event
from mtum_eod.core.evidence import Evidence
from mtum_eod.core.ledger import ledger, lost_fraction, rescale
from mtum_eod.core.market import DailyBars, FindingKind
from mtum_eod.core.trading import CashFlow, CashKind, Fill, Mode, OrderIntent, Side, Split, same_shares, whole_shares
from mtum_eod.core.words import counted
from mtum_eod.errors import MarketDataError, MtumEodError, StoreError
from mtum_eod.jobs.desk import Desk, TradingDesk
from mtum_eod.jobs.inquiry import Seen, executions_vanished, mismatch
from mtum_eod.jobs.market import fetch
from mtum_eod.ports import Answer, Known, Notice, Unknown

COMPARED_SESSIONS = 30
"""At least so many sessions are read where bars are to be written, so that a split of the closes stands out."""

TRADED_BESIDE = 0.1
"""So much of the shares that a split makes the owner may have traded past the program, and it is still one."""

BOOKED_WITHIN = 2
"""In so many sessions a broker that is late with a split has booked it."""


@dataclass(frozen=True, slots=True)
class SplitDoubt:
    """Why closes of another scale are no split that the book can follow."""

    words: str
    shares: int | None = None  # that it would have made of the book's; None where that is not known either

    def of_the_book(self, shares: int, held: int) -> int:
        """How many of the shares held at the broker can be this book's.

        shares: the book's, as before a split. Where the broker's are nearer to what it would have made of them, those
        beyond are the owner's: of a split into fewer a sale by the book alone would take them too.
        """
        if self.shares is None or abs(held - shares) <= abs(held - self.shares):
            return held
        return min(held, self.shares)


def compared_window(desk: Desk, last: date) -> list[date]:
    """The sessions up to `last` in which a split of the closes stands out, however long nothing has been stored."""
    window = desk.calendar.window(last, COMPARED_SESSIONS)
    stored = desk.store.bars(desk.book.symbol, window[0], last)
    if stored.is_final.sum() * 2 >= COMPARED_SESSIONS:
        return window
    stored = desk.store.bars(desk.book.symbol, desk.calendar.first_session, last)
    if stored.is_empty:
        return window
    return desk.calendar.sessions(desk.calendar.window(stored.last, COMPARED_SESSIONS)[0], last)


def recent(desk: Desk, last: date | None = None) -> DailyBars:
    """Some sessions up to `last`, or else to the one before today, as the source has them now."""
    last = last or desk.calendar.nearest(desk.calendar.local_date(desk.clock.now()))[0]
    window = compared_window(desk, last)
    bars = fetch(desk.prices, desk.book.symbol, window, desk.wall_clock.now(), desk.store)
    return quality.check(bars, window, needed=0).bars


def position_doubt(desk: Desk, intent: OrderIntent, seen: Seen) -> str:
    """Why the broker's position does not tell what an order came to; empty where it does.

    It does not where it was not surely the book's before the order. Nor once closes tell of a split since: the broker's
    shares are new ones or, where it is late with it, old ones still, and 26 left of 33 may be 13 of them. Raises
    MarketDataError where the closes cannot be had.
    """
    if intent.is_beside_mismatch:
        return f"the position, moved its way by {counted(seen.moved, 'share')}, was not surely the book's before"
    if not executions_vanished(desk, intent.session):
        return ""
    closes = _closes_ratio(desk, recent(desk))
    ratio = None if closes is None else quality.split_ratio(closes)
    before = desk.shares() + desk.store.shares_left()
    sign = intent.side.sign
    held = before + sign * seen.moved
    open_shares = intent.shares - sum(fill.shares for fill in desk.store.fills_of(intent.reference))
    # The same shares on either scale, as none are, tell all the same.
    left = (before + sign * done for done in range(open_shares + 1) if not same_shares(done, seen.moved))
    if ratio is None or not any(_is_held(held, 0, 0.0, one * ratio) for one in left):
        return ""
    return (
        f"closes tell of a split of {ratio:.6g} new shares for one since: "
        f"whether the {counted(held, 'share')} at the broker are new ones is not known"
    )


def price_now(desk: Desk, session: date) -> float:
    """The latest price there is, USD a share, 0 where there is none: it tells on which scale an order was made."""
    before = desk.calendar.nearest(session)[0]
    try:
        closes = desk.prices.daily(desk.book.symbol, before, session, desk.wall_clock.now()).close
    except MtumEodError:
        return 0.0
    known = closes[closes > 0]
    return float(known[-1]) if known.size else 0.0


def on_scale_of(desk: Desk, prices: DailyBars, close: float, decided_at: float = 0.0) -> float:
    """A close as the source has it, USD, on the scale of the book's shares.

    Where the closes show a split that the book has not followed, these are the old ones, unless they were traded by an
    order made at a price of the new scale: then new shares were, as many as the book had thought of.
    """
    closes = _closes_ratio(desk, prices)
    ratio = None if closes is None else quality.split_ratio(closes)
    if ratio is None or (decided_at and _is_nearer(decided_at, close, close * ratio)):
        return close
    return close * ratio


def _closes_ratio(desk: Desk, prices: DailyBars) -> float | None:
    if prices.is_empty:
        return None
    return quality.closes_ratio(prices, desk.store.bars(desk.book.symbol, prices.first, prices.last))


def split_seen(
    desk: Desk, prices: DailyBars, *, held: Answer[float] | None = None, shown: Sequence[Fill] = ()
) -> Split | SplitDoubt | None:
    """The split that the book has still to follow, or why closes of another scale are none; None without such.

    prices: checked bars, enough of them final in the store too. held: the broker's shares, where it was asked already.
    shown: executions that are not in the book yet. A split is a ratio of closes like one, borne out by the broker's
    shares.
    """
    closes = _closes_ratio(desk, prices)
    if closes is None:
        return None
    ratio = quality.split_ratio(closes)
    if ratio is None:
        return SplitDoubt(f"closes are {closes:.4g} times the stored ones: perhaps the source changed how it adjusts")
    known = _last_old(desk, prices, ratio)
    since = [fill for fill in (*desk.store.fills(), *shown) if fill.session > known]
    held, doubts = held or desk.broker.shares_held(desk.book.symbol), []
    for session in _first_sessions(desk, prices, since, ratio):
        split = Split(session=session, ratio=ratio)
        doubt = _doubt(desk, prices, since, split, held)
        if doubt is None:
            return split
        doubts.append(doubt)
    return replace(doubts[0], words=f"closes are {closes:.4g} times the stored ones, but {doubts[0].words}")


def _last_old(desk: Desk, prices: DailyBars, ratio: float) -> date:
    """The last session with a final close of the old scale in the store; what was executed by then is of old shares."""
    stored = desk.store.bars(desk.book.symbol, prices.first, prices.last).finals
    session: date
    for session in reversed(stored.days.tolist()):
        was, close = stored.close_of(session), prices.close_of(session)
        if was and close and _is_nearer(was, close * ratio, close):
            return session
    return prices.first


def _first_sessions(desk: Desk, prices: DailyBars, since: Sequence[Fill], ratio: float) -> Iterator[date]:
    """What may have been the first session on the new scale, the likeliest first.

    After all executions on the old one, and not after any on the new one: a book restored from before the split learns
    of what was executed since from the broker, and the broker may book its shares a day late. Where their price misled,
    as of shares adopted at what they once cost, it was after all of them.
    """
    today = desk.calendar.local_date(desk.clock.now())
    has_traded = any(fill.session >= today for fill in since)
    after_all = today if desk.calendar.is_session(today) and not has_traded else desk.calendar.nearest(today)[1]
    first = min((fill.session for fill in since if _is_on_new_scale(fill, prices, ratio)), default=after_all)
    yield first
    if len(desk.calendar.sessions(first, today)) > BOOKED_WITHIN:
        yield after_all


def _is_on_new_scale(fill: Fill, prices: DailyBars, ratio: float) -> bool:
    """An execution's price lies near its session's close, or the latest before it where an earlier session is settled.

    One older than these bars is older than the split too.
    """
    until = prices.close[prices.days <= np.datetime64(fill.session)]
    return bool(until.size) and _is_nearer(fill.price_usd, until[-1], until[-1] * ratio)


def _doubt(
    desk: Desk, prices: DailyBars, since: Sequence[Fill], split: Split, held: Answer[float]
) -> SplitDoubt | None:
    since = [fill for fill in since if fill.session >= split.session]
    if not all(_is_on_new_scale(fill, prices, split.ratio) for fill in since):
        return SplitDoubt(f"the executions from {split.session} on are on both scales")
    # What was held on its eve is what was split, though a sale of as many new shares made the book think it was all.
    held_then = desk.store.since_flat(split.eve).fills
    try:
        shares = sum(fill.side.sign * fill.shares for fill in (*rescale(held_then, split.ratio), *since))
    except StoreError as error:
        return SplitDoubt(error.message)
    # The embedded broker has no shares but those of this book: they follow the book's splits.
    if desk.book.mode is Mode.SIMULATED:
        return None
    for order in desk.store.open_orders():
        if order.intent.session < split.session:  # what it comes to is to be booked in old shares first
            return SplitDoubt(f"order {order.intent.reference} from before it is still {order.status}", shares)
        if order.intent.side is Side.BUY and held_then:  # forgotten by a restored book: the shares held may be its own
            return SplitDoubt(f"order {order.intent.reference} is still {order.status}", shares)
    if isinstance(held, Unknown):
        return SplitDoubt(f"the broker's position is not known ({held.why})", shares)
    left, fraction = desk.store.shares_left(), lost_fraction(held_then, split.ratio)
    beside = (left * split.ratio, left, (left + _unexplained(desk, prices, split.ratio)) * split.ratio)
    before, after = desk.shares() + left, shares + beside[0]
    is_like_it = abs(held.value - after) < min(abs(held.value - before), TRADED_BESIDE * after)
    if is_like_it or any(_is_held(held.value, shares, fraction, others) for others in beside):
        return None
    held_words = counted(held.value, "share")
    return SplitDoubt(f"the broker holds {held_words}, where a split would have made {after:g} of {before:g}", shares)


def _is_held(held: float, shares: int, fraction: float, others: float) -> bool:
    """Whether the broker has these shares and others of the account; of a fraction it may hold the whole ones only."""
    exact = shares + fraction + others
    return any(same_shares(held, one) for one in (exact, whole_shares(exact), shares + others))


def _unexplained(desk: Desk, prices: DailyBars, ratio: float) -> float:
    """By how many the broker's shares were more than the book's and the owner's when a decision last saw them.

    In a session before the split, by its stored close. Shares traded past the program are split too.
    """
    stored = desk.store.bars(desk.book.symbol, prices.first, prices.last)
    for session in reversed(stored.days[-COMPARED_SESSIONS:].tolist()):
        signal, was, close = desk.store.signal(session), stored.close_of(session), prices.close_of(session)
        if signal and was and close and _is_nearer(was, close * ratio, close):
            position, broker = signal.inputs["position"], signal.inputs["broker_shares"]
            return 0.0 if broker is None else float(broker - (position["shares"] if position else 0))
    return 0.0


def _is_nearer(price: float, one: float, other: float) -> bool:
    return abs(log(price / one)) < abs(log(price / other))


def follow_before(desk: TradingDesk, prices: DailyBars, shown: Sequence[Fill]) -> bool:
    """Follow the split that only the executions shown bear out: a sale of new shares, which the book has as old ones.

    Returns whether there was one. Whatever else these bars tell of is left to the next look.
    """
    split = split_seen(desk, prices, shown=shown)
    if not isinstance(split, Split):
        return False
    follow_split(desk, split)
    return True


def follow_scale(desk: TradingDesk, prices: DailyBars) -> None:
    """Follow the split that these bars tell of, if any, before one of them is written.

    Raises MarketDataError where they have changed their scale for no known reason: no bar may join others of another.
    """
    split = split_seen(desk, prices)
    if isinstance(split, SplitDoubt):
        hint = "compare with the broker: `mtum-eod reconcile`; what it shows decides whose numbers are wrong"
        raise MarketDataError(f"{desk.book.symbol}: {split.words}", hint=hint)
    if split:
        follow_split(desk, split)


def follow_split(desk: TradingDesk, split: Split) -> None:
    """Rescale the book and tell: shares, entry price and ATR, shares left to the owner, and all stored bars anew.

    All of it is durable together, so the next look finds nothing left to follow. Raises MarketDataError, StoreError.
    """
    symbol, now, shares = desk.book.symbol, desk.wall_clock.now(), desk.shares()
    fraction = lost_fraction(desk.store.since_flat(split.eve).fills, split.ratio)
    history = _history(desk)
    with desk.store.transaction():
        desk.store.split(split, now)
        if left := desk.store.shares_left():
            desk.store.leave(_left_after(desk.broker.shares_held(symbol), desk.shares(), left, split), now)
        desk.store.add_bars([history])
        held = f"{counted(shares, 'share')} held: {desk.shares()} now" if shares else "no share is held"
        words = f"{symbol}: a split of {split.ratio:.6g} new shares for one, followed on {split.session}; {held}"
        if fraction:
            words += _paid_out(desk, fraction, history)
        desk.notifier.tell(Notice(event=Event.MISMATCH, words=words))


def _left_after(held: Answer[float], shares: int, left: float, split: Split) -> float:
    """The owner's own shares after a split; those he named when the broker had split them already stay as they are."""
    is_new = isinstance(held, Known) and same_shares(held.value, shares + left)
    return left if is_new else left * split.ratio


def _paid_out(desk: TradingDesk, fraction: float, history: DailyBars) -> str:
    """What becomes of a fraction of a share, in words; the embedded broker pays it at once, at the last close."""
    if desk.book.mode is not Mode.SIMULATED:
        return (
            f"; for {fraction:.6g} of a share the broker pays cash: once it is there, "
            "`mtum-eod cash add dividend AMOUNT`"
        )
    close = history.close_of(history.last) or 0.0
    today = desk.calendar.local_date(desk.clock.now())
    paid = CashFlow(kind=CashKind.DIVIDEND, amount_usd=round(fraction * close, 2), session=today, note="cash in lieu")
    desk.store.add_cash_flow(paid, desk.wall_clock.now())
    return f"; {paid.amount_usd:,.2f} USD paid for {fraction:.6g} of a share"


def as_after_split(desk: Desk, evidence: Evidence, split: Split) -> Evidence:
    """The evidence as it will be once the book has followed the split, for a look that writes nothing."""
    then = desk.store.since_flat(split.eve)
    fills = [*rescale(then.fills, split.ratio), *(f for f in desk.store.fills() if f.session >= split.session)]
    after = ledger(desk.capital, fills, desk.store.cash_flows(), realised=then.realised)
    held, position = after.holding, evidence.position
    if held and position:
        atr = desk.store.entry_atr(held.entry_session)
        scaled = nan if atr is None else atr / (split.ratio if held.entry_session < split.session else 1)
        position = replace(position, shares=held.shares, entry_price=held.entry_price, entry_atr=scaled)
    shares, broker = held.shares if held else 0, desk.broker.shares_held(desk.book.symbol)
    left = _left_after(broker, shares, desk.store.shares_left(), split)
    words = f"a split of {split.ratio:.6g} new shares for one: the next run makes {shares} of the shares held"
    return replace(
        evidence,
        position=position,
        funds=replace(evidence.funds, last_final_equity=after.equity(evidence.indicators.previous_close)),
        mismatch=mismatch(after, broker, left),
        broker_shares=None if isinstance(broker, Unknown) else whole_shares(broker.value - left),
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
