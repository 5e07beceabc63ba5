"""The book's arithmetic: what executions and cash flows add up to. Everything else about money is derived from here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date

from mtum_eod.core.money import Usd
from mtum_eod.core.trading import CashFlow, Fill, Side, Split, same_shares, whole_shares
from mtum_eod.core.words import counted
from mtum_eod.errors import StoreError


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """Shares held and what they cost."""

    shares: int
    entry_price: float  # USD a share, average over the entry's executions, without commission
    entry_session: date
    entry_commission_usd: Usd  # of the shares still held


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """A book after all its executions and cash flows, USD."""

    capital: Usd
    flows: Usd = 0.0
    realised: Usd = 0.0  # net of the commissions of both sides
    holding: Holding | None = None

    @property
    def sizing_equity(self) -> Usd:
        """Capital plus cash flows plus realised net profit: what entries are sized on."""
        return self.capital + self.flows + self.realised

    @property
    def cash(self) -> Usd:
        """What is left after paying for the shares held, their entry cost included."""
        if self.holding is None:
            return self.sizing_equity
        spent = self.holding.shares * self.holding.entry_price + self.holding.entry_commission_usd
        return self.sizing_equity - spent

    def unrealised(self, close: float) -> Usd:
        """Open profit or loss at `close`; the entry's cost is booked at entry."""
        if self.holding is None:
            return 0.0
        return self.holding.shares * (close - self.holding.entry_price) - self.holding.entry_commission_usd

    def equity(self, close: float) -> Usd:
        """The book's worth at `close`, USD a share."""
        return self.sizing_equity + self.unrealised(close)


@dataclass(frozen=True, slots=True, kw_only=True)
class SinceFlat:
    """A book's executions since it last held nothing, and what those before have come to."""

    realised: Usd  # net of the commissions of both sides
    fills: tuple[Fill, ...]  # in the order they happened


def ledger(
    capital: Usd,
    fills: Iterable[Fill],
    flows: Iterable[CashFlow] = (),
    *,
    up_to: date | None = None,
    realised: Usd = 0.0,
) -> Ledger:
    """The book after these executions, in the order they happened, and cash flows; optionally only up to a session.

    realised: what executions before these have come to; the book held nothing then.
    A commission not yet reported counts as nothing until it is.
    Raises StoreError where the executions sell more than was bought: the book is never short.
    """
    paid_in = sum(f.kind.sign * f.amount_usd for f in flows if _counts(f.session, up_to))
    held = None
    for fill in fills:
        if not _counts(fill.session, up_to):
            continue
        if fill.side is Side.BUY:
            held = _bought(held, fill)
        else:
            gain, held = _sold(held, fill)
            realised += gain
    return Ledger(capital=capital, flows=paid_in, realised=realised, holding=held)


def _counts(session: date, up_to: date | None) -> bool:
    return up_to is None or session <= up_to


def _bought(held: Holding | None, fill: Fill) -> Holding:
    commission = fill.commission_usd or 0.0
    if held is None:
        return Holding(
            shares=fill.shares,
            entry_price=fill.price_usd,
            entry_session=fill.session,
            entry_commission_usd=commission,
        )
    shares = held.shares + fill.shares
    paid = held.shares * held.entry_price + fill.shares * fill.price_usd
    return Holding(
        shares=shares,
        entry_price=paid / shares,
        entry_session=held.entry_session,
        entry_commission_usd=held.entry_commission_usd + commission,
    )


def _sold(held: Holding | None, fill: Fill) -> tuple[Usd, Holding | None]:
    """The gain net of both sides' commissions, and what is left."""
    if held is None or fill.shares > held.shares:
        raise StoreError(
            f"execution {fill.execution_id} sells {counted(fill.shares, 'share')}, "
            f"the book holds {held.shares if held else 0}",
            hint="look at the executions with `mtum-eod export fills`; restore a backup with `mtum-eod db restore`",
        )
    entry_commission = held.entry_commission_usd * fill.shares / held.shares
    gain = fill.shares * (fill.price_usd - held.entry_price) - entry_commission - (fill.commission_usd or 0.0)
    left = held.shares - fill.shares
    if not left:
        return gain, None
    rest = held.entry_commission_usd - entry_commission
    return gain, replace(held, shares=left, entry_commission_usd=rest)


def rescale(fills: Sequence[Fill], split: Split) -> list[Fill]:
    """The executions that the shares now held come from, as a split makes them; none where none are held.

    fills: all of the book's, in the order they happened. Those from the split's session on are on its scale already.
    Whole shares are left of those before it, and what they cost: for the fraction the broker pays cash
    (`lost_fraction`). Every execution keeps its value.
    Raises StoreError where no share is left, or less than one for an execution.
    """
    old, new = _around(fills, split)
    if not old:
        return new
    held, sold = _signed(old), sum(fill.shares for fill in old if fill.side is Side.SELL)
    # A sale from before is rounded as it comes out; of the purchases comes what that and the shares held add up to.
    sold_after = max(round(sold * split.ratio), sum(fill.side is Side.SELL for fill in old))
    after = {Side.BUY: whole_shares(held * split.ratio) + sold_after, Side.SELL: sold_after}
    prints = {side: [fill for fill in old if fill.side is side] for side in Side}
    if whole_shares(held * split.ratio) < 1 or any(after[side] < len(prints[side]) for side in Side):
        raise StoreError(
            f"a split of {split.ratio:g} new shares for one makes {held * split.ratio:g} of {counted(held, 'share')}, "
            "less than a whole one for each of its executions",
            hint="look at the broker's statement; `mtum-eod reconcile` compares the book with the broker",
        )
    return [one for side in Side for one in _shared_out(prints[side], after[side])] + new


def lost_fraction(fills: Sequence[Fill], split: Split) -> float:
    """The part of a new share that the split leaves beside the whole ones: the broker pays it in cash."""
    exact = _signed(_around(fills, split)[0]) * split.ratio
    return 0.0 if same_shares(exact, round(exact)) else exact - whole_shares(exact)


def _around(fills: Sequence[Fill], split: Split) -> tuple[list[Fill], list[Fill]]:
    """Since the book last held nothing: the executions before the split, and those from its session on."""
    since_flat: list[Fill] = []
    held = 0
    for fill in fills:
        held += fill.side.sign * fill.shares
        since_flat.append(fill)
        if not held:
            since_flat.clear()
    old = [fill for fill in since_flat if fill.session < split.session]
    return old, [fill for fill in since_flat if fill.session >= split.session]


def _signed(fills: Iterable[Fill]) -> int:
    return sum(fill.side.sign * fill.shares for fill in fills)


def _shared_out(fills: list[Fill], total: int) -> list[Fill]:
    # Each execution alone need not come out whole: the running sum is rounded, and each keeps a share at least.
    before = sum(fill.shares for fill in fills)
    rescaled: list[Fill] = []
    seen = given = 0
    for left_after, fill in zip(reversed(range(len(fills))), fills, strict=True):
        seen += fill.shares
        shares = max(1, min(round(seen * total / before), total - left_after) - given)
        given += shares
        rescaled.append(replace(fill, shares=shares, price_usd=fill.shares * fill.price_usd / shares))
    return rescaled
