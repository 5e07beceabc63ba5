"""Closed lots as Form 8949 lists them: first in, first out, with wash sales of this book.

Sources: IRS Publication 550, "Wash Sales" and "Holding Period"; 26 CFR 1.1091-1 (order of matching) and 1.1091-2
(basis); Rev. Rul. 56-602 (the rest of one purchase does not replace its sold part); Rev. Rul. 66-7 (one year).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, timedelta
from enum import StrEnum
from itertools import groupby

from mtum_eod.core.money import TOLERANCE_USD, Usd
from mtum_eod.core.trading import Fill, Side
from mtum_eod.core.words import counted
from mtum_eod.errors import StoreError

WASH_SALE_WINDOW = timedelta(days=30)
"""Either way of a sale at a loss; calendar days, the sale's own day included."""

WASH_SALE = "W"
"""The form's adjustment code."""


class Term(StrEnum):
    """How long a lot was held: more than one year is long."""

    SHORT = "short"
    LONG = "long"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedLot:
    """One row of the form. Amounts in USD, not rounded."""

    symbol: str
    shares: int
    acquired: date  # the purchase's session; a holding period taken over from a wash sale shows in `term` only
    sold: date
    proceeds: Usd  # net of the sale's commission
    purchase_cost: Usd  # including the purchase's commission
    deferred_in: Usd  # losses that wash sales before had added to the basis; 0 or positive
    disallowed: Usd  # the part of this row's loss that is a wash sale; 0 or positive
    term: Term
    is_estimated: bool  # a price was estimated, or a commission is not reported yet

    @property
    def description(self) -> str:
        return f"{self.shares} sh. {self.symbol}"

    @property
    def cost_basis(self) -> Usd:
        return self.purchase_cost + self.deferred_in

    @property
    def code(self) -> str:
        """The adjustment's code, or none."""
        return WASH_SALE if self.disallowed else ""

    @property
    def gain(self) -> Usd:
        """What counts this year: proceeds less basis, the disallowed loss added back."""
        return self.proceeds - self.cost_basis + self.disallowed

    @property
    def net_pnl(self) -> Usd:
        """The gain before all wash sale adjustments, as the book counts it."""
        return self.proceeds - self.purchase_cost


@dataclass(frozen=True, slots=True, kw_only=True)
class TaxLots:
    """A whole book: what was closed, and what the shares still held have taken over."""

    closed: tuple[ClosedLot, ...]  # in the order of the sales, oldest purchase first
    deferred: Usd  # disallowed losses that wait in the basis of shares still held


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """One session's purchase or sale."""

    place: int  # in the order they happened
    session: date
    side: Side
    shares: int
    amount: Usd  # paid, commission included, or received, commission taken off
    is_estimated: bool


@dataclass(slots=True, kw_only=True, eq=False)
class _Lot:
    """Shares of one purchase that have one basis and one holding period."""

    purchase: _Order
    shares: int
    held_since: date
    deferred: Usd = 0.0  # a share
    is_replacement: bool = False  # a share replaces at most one other

    @property
    def cost(self) -> Usd:
        """A share's, without what wash sales added."""
        return self.purchase.amount / self.purchase.shares

    def part(self, shares: int) -> _Lot:
        """`shares` taken off this lot."""
        self.shares -= shares
        return replace(self, shares=shares)


def tax_lots(fills: Iterable[Fill], symbol: str) -> TaxLots:
    """All lots that these executions closed.

    Give all of the book's, whatever the year asked for: a purchase in January washes a loss of December.
    The executions of one order make one purchase or sale, at their average price. Their order does not matter.
    Raises StoreError where more is sold than was bought.
    """
    orders = _orders(fills)
    lots = [
        _Lot(purchase=order, shares=order.shares, held_since=order.session)
        for order in orders
        if order.side is Side.BUY
    ]
    closed = [row for order in orders if order.side is Side.SELL for row in _sell(lots, order, symbol)]
    return TaxLots(closed=tuple(closed), deferred=sum(lot.shares * lot.deferred for lot in lots))


def term(held_since: date, sold: date) -> Term:
    """Long from the day after one whole year, which itself begins on the day after the purchase."""
    begun = held_since + timedelta(days=1)
    try:
        year_over = begun.replace(year=begun.year + 1)
    except ValueError:  # begun on 29 February
        year_over = date(begun.year + 1, 3, 1)
    return Term.LONG if sold >= year_over else Term.SHORT


def _orders(fills: Iterable[Fill]) -> list[_Order]:
    ordered = sorted(fills, key=lambda fill: (fill.session, fill.executed_at, fill.execution_id))
    orders: list[_Order] = []
    for (session, side), group in groupby(ordered, key=lambda fill: (fill.session, fill.side)):
        prints = list(group)
        value = sum(fill.shares * fill.price_usd for fill in prints)
        commission = sum(fill.commission_usd or 0.0 for fill in prints)
        orders.append(
            _Order(
                place=len(orders),
                session=session,
                side=side,
                shares=sum(fill.shares for fill in prints),
                amount=value + commission if side is Side.BUY else value - commission,
                is_estimated=any(fill.is_estimated or fill.commission_usd is None for fill in prints),
            )
        )
    return orders


def _sell(lots: list[_Lot], order: _Order, symbol: str) -> list[ClosedLot]:
    """The rows of one sale; takes the sold shares off `lots` and hands disallowed losses to their replacements."""
    rows = []
    for lot in _take(lots, order):  # all of them first: shares sold together do not replace each other
        proceeds = order.amount * lot.shares / order.shares
        loss = lot.shares * (lot.cost + lot.deferred) - proceeds
        replaced = _hand_on(lots, lot, order.session, loss / lot.shares) if loss >= TOLERANCE_USD else 0
        rows.append(
            ClosedLot(
                symbol=symbol,
                shares=lot.shares,
                acquired=lot.purchase.session,
                sold=order.session,
                proceeds=proceeds,
                purchase_cost=lot.shares * lot.cost,
                deferred_in=lot.shares * lot.deferred,
                disallowed=loss * replaced / lot.shares,
                term=term(lot.held_since, order.session),
                is_estimated=lot.purchase.is_estimated or order.is_estimated,
            )
        )
    return rows


def _take(lots: list[_Lot], order: _Order) -> list[_Lot]:
    """The shares of a sale, oldest first."""
    taken = []
    wanted = order.shares
    for lot in lots:
        shares = min(wanted, lot.shares)
        if shares and lot.purchase.place < order.place:
            taken.append(lot.part(shares))
            wanted -= shares
    if wanted:
        raise StoreError(
            f"the sale of {order.session} sells {counted(wanted, 'share')} more than had been bought",
            hint="look at the executions with `mtum-eod export fills`; restore a backup with `mtum-eod db restore`",
        )
    return taken


def _hand_on(lots: list[_Lot], sold: _Lot, day: date, loss: Usd) -> int:
    """Add the loss a share, and the time held, to the shares that replace those sold; how many there are.

    The earliest purchase in the window comes first, out of what is still held after the sale or bought later.
    """
    wanted = sold.shares
    held = day - sold.held_since
    for lot in list(lots):
        shares = min(wanted, lot.shares)
        is_near = abs(lot.purchase.session - day) <= WASH_SALE_WINDOW
        if not shares or not is_near or lot.is_replacement or lot.purchase is sold.purchase:
            continue
        replacement = lot.part(shares)
        replacement.deferred = loss
        replacement.held_since = lot.purchase.session - held
        replacement.is_replacement = True
        lots.insert(lots.index(lot), replacement)
        wanted -= shares
    return sold.shares - wanted
