"""The book's arithmetic: what executions and cash flows add up to. Everything else about money is derived from here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date

from mtum_eod.core.money import Usd
from mtum_eod.core.trading import CashFlow, Fill, Side, same_shares, whole_shares
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


def rescale(held: Sequence[Fill], ratio: float) -> list[Fill]:
    """The executions that shares held come from, as a split makes them; none where none are held.

    held: since the book last held nothing, as it was before the split. Whole shares are left, and all that they cost:
    for the fraction the broker pays cash (`lost_fraction`). Every execution keeps its value.
    Raises StoreError where no share is left, or less than one for an execution.
    """
    before = _signed(held)
    if not before:
        return []
    prints = {side: [fill for fill in held if fill.side is side] for side in Side}
    # A sale from before is rounded as it comes out; of the purchases comes what that and the shares held add up to.
    sold = max(round(-_signed(prints[Side.SELL]) * ratio), len(prints[Side.SELL]))
    after = {Side.BUY: whole_shares(before * ratio) + sold, Side.SELL: sold}
    if whole_shares(before * ratio) < 1 or any(after[side] < len(prints[side]) for side in Side):
        raise StoreError(
            f"a split of {ratio:g} new shares for one makes {before * ratio:g} of {counted(before, 'share')}, "
            "less than a whole one for each of its executions",
            hint="look at the broker's statement, and take them out: `mtum-eod reconcile --sold`",
        )
    return [one for side in Side for one in _shared_out(prints[side], after[side])]


def lost_fraction(held: Sequence[Fill], ratio: float) -> float:
    """The part of a new share that the split leaves beside the whole ones: the broker pays it in cash."""
    exact = _signed(held) * ratio
    return 0.0 if same_shares(exact, round(exact)) else exact - whole_shares(exact)


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
