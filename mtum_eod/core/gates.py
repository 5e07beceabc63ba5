"""Risk gates: what blocks an order that the rules asked for. Uncertainty blocks entries first.

An exit protects the owner's money, so it is blocked only where selling could make things worse:
a halt without `allow_exits`, an order whose state is unknown, an unknown broker position, no trustworthy price,
and a market that is not open to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from math import isnan
from typing import TYPE_CHECKING, TypeVar

from mtum_eod.core.evidence import Evidence, Gate, Indicators, Window
from mtum_eod.core.parameters import LateExit, Parameters, RiskParameters
from mtum_eod.core.strategy import NOISE_RATIO
from mtum_eod.core.trading import Position
from mtum_eod.core.words import counted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Number = TypeVar("Number", float, "NDArray[np.float64]")

MAX_ENTRY_PRICE_AGE = timedelta(minutes=5)
MAX_EXIT_PRICE_AGE = timedelta(minutes=30)
MAX_VIX_AGE = timedelta(minutes=30)

APPROVAL_SLACK_SHARES = 1
"""By how much an order may differ from what the owner approved; prices move while a person reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocked:
    """The gate that blocked, and why in words."""

    gate: Gate
    why: str


def daily_loss(evidence: Evidence) -> float:
    """How far equity at the decision price stands below the last final close, USD; 0 where it does not."""
    position, close = evidence.position, evidence.indicators.close
    if position is None or isnan(close):
        return 0.0
    equity = evidence.funds.sizing_equity + unrealised(position, close)
    return max(0.0, evidence.funds.last_final_equity - equity)


def daily_loss_limit(max_daily_loss: Number) -> Number:
    """What a daily loss must reach to be hit, USD: `max_daily_loss`, less the noise of adding up in another order."""
    return max_daily_loss * (1 - NOISE_RATIO)


def unrealised(position: Position, close: float) -> float:
    """Open profit or loss at `close`, USD, with the entry's cost booked at entry."""
    return position.shares * (close - position.entry_price) - position.entry_commission_usd


def price_move_pct(indicators: Indicators) -> float:
    """The move from the previous close, percent, unsigned; NaN where either close is unknown."""
    return move_pct(indicators.close, indicators.previous_close)


def move_pct(close: Number, before: Number) -> Number:
    """How far `close` moved from the one `before`, percent, unsigned; of floats, or of arrays."""
    return abs(close / before - 1) * 100


def entry_block(evidence: Evidence) -> Blocked | None:
    """The first gate, in the documented order, that stands against buying; None where the way is free.

    Gates that need the number of shares (`position_limit`, `cash`, `size`) and the owner's approval come after.
    """
    if evidence.halt is not None:
        return Blocked(gate=Gate.HALTED, why=f"halted: {evidence.halt.why}")
    if evidence.window is not Window.OPEN:
        return Blocked(gate=Gate.OUTSIDE_WINDOW, why=WINDOW_WORDS[evidence.window])
    if evidence.has_order:
        return Blocked(gate=Gate.ALREADY_DECIDED, why="this session has had its order")
    if evidence.order_unknown:
        return Blocked(gate=Gate.ORDER_UNKNOWN, why=evidence.order_unknown)
    if evidence.mismatch:
        return Blocked(gate=Gate.RECONCILE_MISMATCH, why=evidence.mismatch)
    if evidence.fatal_findings:
        return Blocked(gate=Gate.DATA, why=evidence.fatal_findings[0].words)
    return None


def risk_block(evidence: Evidence, loss_hit: bool, p: Parameters) -> Blocked | None:
    """The gates of the day's risk, asked once the shares are known."""
    if evidence.daily_loss_latched or loss_hit:
        return Blocked(gate=Gate.DAILY_LOSS, why="daily loss limit reached; `mtum-eod resume` lifts it")
    move = price_move_pct(evidence.indicators)
    if move > p.risk.max_price_move_pct:
        limit = p.risk.max_price_move_pct
        return Blocked(gate=Gate.PRICE_MOVE, why=f"close moved {move:.1f} % since the last one, more than {limit:g} %")
    return None


def approval_block(evidence: Evidence, shares: int, risk: RiskParameters) -> Blocked | None:
    """Whether the owner has still to say yes to buying `shares`; None where they need not, or have."""
    if not risk.require_confirmation:
        return None
    approved = evidence.approved_shares
    if approved is None:
        return Blocked(gate=Gate.AWAITING_APPROVAL, why="waiting for the owner's approval")
    if abs(shares - approved) <= APPROVAL_SLACK_SHARES:
        return None
    why = f"waiting for the owner's approval again: {counted(approved, 'share')} approved, now it would be {shares}"
    return Blocked(gate=Gate.AWAITING_APPROVAL, why=why)


def exceeds_position_limit(shares: int, price: float, equity: float, risk: RiskParameters) -> bool:
    """Whether an order of `shares` would pass either cap on the position, whatever sized it."""
    value = shares * price
    return shares > 0 and (value > risk.max_position_size or value > equity * risk.max_position_pct / 100)


def exit_block(evidence: Evidence, p: Parameters) -> Blocked | None:
    """The first gate that stands against selling; None where the way is free."""
    if evidence.halt is not None and not evidence.halt.allow_exits:
        return Blocked(gate=Gate.HALTED, why=f"halted: {evidence.halt.why}")
    late_allowed = evidence.window is Window.LATE and p.risk.late_exit is LateExit.MARKET
    if evidence.window is not Window.OPEN and not late_allowed:
        return Blocked(gate=Gate.OUTSIDE_WINDOW, why=WINDOW_WORDS[evidence.window])
    if evidence.has_order:
        return Blocked(gate=Gate.ALREADY_DECIDED, why="this session has had its order")
    if evidence.order_unknown:
        return Blocked(gate=Gate.ORDER_UNKNOWN, why=evidence.order_unknown)
    if evidence.broker_shares is None or evidence.broker_shares < 1:  # short there: selling would make it worse
        is_known = evidence.broker_shares is not None
        why = "the broker holds no share of this book" if is_known else "the broker's position is not known"
        return Blocked(gate=Gate.RECONCILE_MISMATCH, why=why)
    if not evidence.indicators.has_price:
        return Blocked(gate=Gate.DATA, why="no trustworthy price")
    return None


WINDOW_WORDS = {
    Window.EARLY: "before the decision time of this session",
    Window.LATE: "past the hard stop for market-on-close orders",
    Window.SHUT: "the market is closing or closed",
}
