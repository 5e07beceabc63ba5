"""The rules, each written once. Live, replay, backtest and sweep call these and nothing else.

`entry_rules`, `market_exits` and `price_exits` take floats, or arrays of one value a session: a comparison is the same
to the last bit either way. A number that is not known is NaN: no comparison holds for it, so a rule on it never fires;
`exit_rules_unknown` tells which rules could not be judged.
"""

from __future__ import annotations

from enum import StrEnum
from itertools import compress
from math import isnan
from typing import TYPE_CHECKING, Any

from mtum_eod.core.parameters import StrategyParameters

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = float | NDArray[np.float64]


class EntryRule(StrEnum):
    """Entry needs all of them; each name is the JSON key and the column."""

    TREND_BULLISH = "trend_bullish"
    VIX_STABLE = "vix_stable"
    RSI_BULLISH = "rsi_bullish"
    VOLUME_CONFIRM = "volume_confirm"


class ExitReason(StrEnum):
    """Why shares are sold, in order of precedence; the first is the primary reason."""

    TREND = "trend"
    VIX = "vix"
    RSI = "rsi"
    ATR_PROFIT = "atr_profit"
    STOP_LOSS = "stop_loss"
    DAILY_LOSS = "daily_loss"  # a risk rule, judged in core.gates
    EXIT_PENDING = "exit_pending"  # decided at an earlier session, shares still held


ENTRY_RULES = tuple(EntryRule)
EXIT_RULES = (ExitReason.TREND, ExitReason.VIX, ExitReason.RSI, ExitReason.ATR_PROFIT, ExitReason.STOP_LOSS)

NOISE_RATIO = 1e-9
"""How far a mean may stand from another way to add up the same numbers: a close this near its mean equals it.

A mean of cents can be the close to the cent. TA-Lib adds and takes away as it goes, so the last digits of its mean
depend on where it began, and would say above of one window and below of a longer one.
"""


def entry_rules(
    close: Numbers, ma: Numbers, rsi: Numbers, volume: Numbers, volume_ma: Numbers, vix: Numbers, p: StrategyParameters
) -> tuple[Any, Any, Any, Any]:
    """Whether each of ENTRY_RULES holds, in order: booleans, or arrays of them.

    All comparisons are strict: a VIX of exactly 25 is not below 25, and a close that equals its mean is not above it.
    """
    trend, confirmed = close > ma * (1 + NOISE_RATIO), volume > volume_ma * (1 + NOISE_RATIO)
    return trend, vix < p.vix_entry_threshold, rsi > p.rsi_entry_threshold, confirmed


def market_exits(
    close: Numbers, ma: Numbers, rsi: Numbers, vix: Numbers, p: StrategyParameters
) -> tuple[Any, Any, Any]:
    """Whether the first three of EXIT_RULES hold, which ask nothing of the entry: booleans, or arrays of them."""
    return close < ma * (1 - NOISE_RATIO), vix > p.vix_exit_threshold, rsi < p.rsi_exit_threshold


def price_exits(close: Numbers, entry_price: float, entry_atr: float, p: StrategyParameters) -> tuple[Any, Any]:
    """Whether the last two of EXIT_RULES hold, which are levels that the entry sets: booleans, or arrays of them."""
    stopped = close <= stop_price(entry_price, p) if p.stop_loss_enabled else False
    return close >= target_price(entry_price, entry_atr, p), stopped


def entry_rules_fired(
    close: float, ma: float, rsi: float, volume: float, volume_ma: float, vix: float, p: StrategyParameters
) -> tuple[EntryRule, ...]:
    """The entry rules that hold, in order."""
    holds = entry_rules(close, ma, rsi, volume, volume_ma, vix, p)
    return tuple(compress(ENTRY_RULES, holds))


def target_price(entry_price: float, entry_atr: float, p: StrategyParameters) -> float:
    """Where profit is taken, USD a share: entry price plus a multiple of the ATR at entry."""
    return entry_price + p.atr_multiplier * entry_atr


def stop_price(entry_price: float, p: StrategyParameters) -> float:
    """Where a loss is cut, USD a share, if the stop loss is enabled."""
    return entry_price * (1 - p.stop_loss_pct / 100)


def exit_rules_fired(
    close: float, ma: float, rsi: float, vix: float, entry_price: float, entry_atr: float, p: StrategyParameters
) -> tuple[ExitReason, ...]:
    """The exit rules that hold for a long position, in order of precedence."""
    holds = (*market_exits(close, ma, rsi, vix, p), *price_exits(close, entry_price, entry_atr, p))
    return tuple(compress(EXIT_RULES, holds))


def exit_rules_unknown(
    close: float, ma: float, rsi: float, vix: float, entry_price: float, entry_atr: float, p: StrategyParameters
) -> tuple[ExitReason, ...]:
    """The exit rules that cannot be judged because a number of theirs is NaN."""
    needs = {
        ExitReason.TREND: (close, ma),
        ExitReason.VIX: (vix,),
        ExitReason.RSI: (rsi,),
        ExitReason.ATR_PROFIT: (close, entry_price, entry_atr),
    }
    if p.stop_loss_enabled:
        needs[ExitReason.STOP_LOSS] = (close, entry_price)
    return tuple(rule for rule, numbers in needs.items() if any(isnan(number) for number in numbers))
