"""How many shares an entry buys."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor, isnan

from mtum_eod.core.evidence import Gate
from mtum_eod.core.money import Usd
from mtum_eod.core.parameters import RiskParameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Shares to buy, or why there are none."""

    shares: int
    blocked_by: Gate | None = None


def share_cost(price: float, risk: RiskParameters) -> Usd:
    """What one share may cost at worst: a market-on-close order has no limit, so the close may lie above `price`."""
    return price * (1 + risk.price_buffer_pct / 100) * (1 + risk.transaction_cost)


def size_entry(price: float, sizing_equity: Usd, cash: Usd, risk: RiskParameters) -> Size:
    """Whole shares under the caps on equity, on position size and on cash.

    price: USD a share at the decision. cash: what may be spent, NaN where the broker did not say.
    Fewer than one share is blocked by `cash` where only the cash is short, else by `size`.
    """
    cap = min(sizing_equity * risk.max_position_pct / 100, risk.max_position_size)
    cost = share_cost(price, risk)
    if cap < cost:
        return Size(shares=0, blocked_by=Gate.SIZE)
    if isnan(cash) or cash < cost:
        return Size(shares=0, blocked_by=Gate.CASH)
    return Size(shares=floor(min(cap, cash) / cost))
