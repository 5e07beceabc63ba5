"""The rules, as functions on floats. Live, replay, backtest and sweep call these and nothing else.

A number that is not known is NaN: no comparison holds for it, so a rule on it never fires;
`exit_rules_unknown` tells which rules could not be judged.
"""

from __future__ import annotations

from enum import StrEnum
from math import isnan

from mtum_eod.core.parameters import StrategyParameters


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


def entry_rules_fired(
    close: float, ma: float, rsi: float, volume: float, volume_ma: float, vix: float, p: StrategyParameters
) -> tuple[EntryRule, ...]:
    """The entry rules that hold, in order. All comparisons are strict: a VIX of exactly 25 is not below 25."""
    fired = []
    if close > ma:
        fired.append(EntryRule.TREND_BULLISH)
    if vix < p.vix_entry_threshold:
        fired.append(EntryRule.VIX_STABLE)
    if rsi > p.rsi_entry_threshold:
        fired.append(EntryRule.RSI_BULLISH)
    if volume > volume_ma:
        fired.append(EntryRule.VOLUME_CONFIRM)
    return tuple(fired)


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
    fired = []
    if close < ma:
        fired.append(ExitReason.TREND)
    if vix > p.vix_exit_threshold:
        fired.append(ExitReason.VIX)
    if rsi < p.rsi_exit_threshold:
        fired.append(ExitReason.RSI)
    if close >= target_price(entry_price, entry_atr, p):
        fired.append(ExitReason.ATR_PROFIT)
    if p.stop_loss_enabled and close <= stop_price(entry_price, p):
        fired.append(ExitReason.STOP_LOSS)
    return tuple(fired)


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
