"""Every rule of a decision with its numbers and its distance to the threshold."""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan, nan

from mtum_eod.core.evidence import Decision, Evidence
from mtum_eod.core.parameters import StrategyParameters
from mtum_eod.core.strategy import EntryRule, ExitReason, stop_price, target_price
from mtum_eod.core.trading import Position


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleLine:
    """One rule: what was measured, what it is held against, and how it came out."""

    rule: str
    measured: str  # what the value is: close, VIX, RSI, volume
    value: float
    relation: str  # > < >= <=
    threshold_name: str  # empty where the threshold is a plain number
    threshold: float
    holds: bool | None  # None: an input is missing

    @property
    def distance_pct(self) -> float:
        """How far the value stands from the threshold, percent of the threshold; positive above it."""
        if isnan(self.value) or isnan(self.threshold) or self.threshold == 0:
            return nan
        return (self.value / self.threshold - 1) * 100


def entry_lines(evidence: Evidence, decision: Decision, p: StrategyParameters) -> list[RuleLine]:
    """The four entry rules, in order."""
    i = evidence.indicators
    lines = {
        EntryRule.TREND_BULLISH: ("close", i.close, ">", f"MA{p.ma_period}", i.ma_50),
        EntryRule.VIX_STABLE: ("VIX", i.vix, "<", "", p.vix_entry_threshold),
        EntryRule.RSI_BULLISH: ("RSI", i.rsi, ">", "", p.rsi_entry_threshold),
        EntryRule.VOLUME_CONFIRM: ("volume", i.volume, ">", f"mean of {p.volume_lookback}", i.volume_ma_20),
    }
    return [_line(rule, *numbers, holds=decision.entry_rules[rule]) for rule, numbers in lines.items()]


def exit_lines(evidence: Evidence, decision: Decision, position: Position, p: StrategyParameters) -> list[RuleLine]:
    """The exit rules a long position is held against, in order of precedence."""
    i = evidence.indicators
    target = target_price(position.entry_price, position.entry_atr, p)
    lines = {
        ExitReason.TREND: ("close", i.close, "<", f"MA{p.ma_period}", i.ma_50),
        ExitReason.VIX: ("VIX", i.vix, ">", "", p.vix_exit_threshold),
        ExitReason.RSI: ("RSI", i.rsi, "<", "", p.rsi_exit_threshold),
        ExitReason.ATR_PROFIT: ("close", i.close, ">=", "target", target),
    }
    if p.stop_loss_enabled:
        lines[ExitReason.STOP_LOSS] = ("close", i.close, "<=", "stop", stop_price(position.entry_price, p))
    return [
        _line(rule, *numbers, holds=None if rule in decision.exit_unknown else rule in decision.exit_reasons)
        for rule, numbers in lines.items()
    ]


def _line(
    rule: str, measured: str, value: float, relation: str, name: str, threshold: float, *, holds: bool | None
) -> RuleLine:
    return RuleLine(
        rule=str(rule),
        measured=measured,
        value=value,
        relation=relation,
        threshold_name=name,
        threshold=threshold,
        holds=holds,
    )
