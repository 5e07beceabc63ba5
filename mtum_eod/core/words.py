"""A decision in words, with its numbers: the same sentence on the terminal, in the database and in a message."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo
from math import isnan
from zoneinfo import ZoneInfo

from mtum_eod.core.evidence import Decision, Evidence, Indicators
from mtum_eod.core.parameters import Parameters, RiskParameters, StrategyParameters
from mtum_eod.core.sizing import share_cost
from mtum_eod.core.strategy import EntryRule, ExitReason, stop_price, target_price
from mtum_eod.core.trading import Position

NEW_YORK = "America/New_York"

SET_CLOCK = "set the clock by NTP (timedatectl set-ntp true)"
"""What to do about a clock that is wrong."""


def counted(number: float, noun: str, plural: str = "") -> str:
    """A number with its noun: 1 session, 1,204 sessions, 2 retries. plural: where it is not the noun with an s."""
    return f"{number:,.12g} {noun if number == 1 else plural or f'{noun}s'}"


def wall(instant: datetime, zone: tzinfo | None) -> str:
    """An instant by the exchange's clock, and by the owner's where that is another: 15:45 New York (21:45 Berlin).

    The weekday stands beside the owner's where it is another than the exchange's.
    """
    exchange, name = instant.astimezone(ZoneInfo(NEW_YORK)), str(zone)
    said = f"{exchange:%H:%M} New York"
    if zone is None or name == NEW_YORK:
        return said
    own = instant.astimezone(zone)
    day = f"{own:%a }" if own.date() != exchange.date() else ""
    return f"{said} ({day}{own:%H:%M} {name.rpartition('/')[2].replace('_', ' ')})"


def clock_off(ahead: timedelta) -> str:
    """How wrong this computer's clock is by the broker's: this computer's clock is 120 min ahead of the broker's."""
    side = "ahead of" if ahead > timedelta(0) else "behind"
    return f"this computer's clock is {abs(ahead).total_seconds() / 60:,.0f} min {side} the broker's"


def entry(i: Indicators, p: StrategyParameters) -> str:
    """Why to buy: all four rules with their numbers."""
    vix, rsi = _beside(i.vix, p.vix_entry_threshold), _beside(i.rsi, p.rsi_entry_threshold)
    return (
        f"Entry: close {i.close:.2f} > MA{p.ma_period} {i.ma_50:.2f}, VIX {vix} < {p.vix_entry_threshold:g}, "
        f"RSI {rsi} > {p.rsi_entry_threshold:g}, volume {i.volume:,.0f} > {i.volume_ma_20:,.0f}"
    )


def no_entry(i: Indicators, rules: dict[EntryRule, bool | None], p: StrategyParameters) -> str:
    """Why not to buy: the rules that do not hold, or cannot be judged."""
    said = {
        EntryRule.TREND_BULLISH: ("close", f"{i.close:.2f}", "above", f"MA{p.ma_period} {i.ma_50:.2f}"),
        EntryRule.VIX_STABLE: ("VIX", _beside(i.vix, p.vix_entry_threshold), "below", f"{p.vix_entry_threshold:g}"),
        EntryRule.RSI_BULLISH: ("RSI", _beside(i.rsi, p.rsi_entry_threshold), "above", f"{p.rsi_entry_threshold:g}"),
        EntryRule.VOLUME_CONFIRM: ("volume", f"{i.volume:,.0f}", "above", f"average {i.volume_ma_20:,.0f}"),
    }
    parts = []
    for rule, holds in rules.items():
        name, value, relation, limit = said[rule]
        if holds is None:
            parts.append(f"{name} unknown")
        elif not holds:
            parts.append(f"{name} {value} not {relation} {limit}")
    return "No entry: " + ", ".join(parts)


def exit_reasons(evidence: Evidence, position: Position, decision: Decision, p: Parameters) -> str:
    """Why to sell: every rule that fired, the primary one first."""
    i, s = evidence.indicators, p.strategy
    target = target_price(position.entry_price, position.entry_atr, s)
    pending = evidence.pending_exit
    said = {
        ExitReason.TREND: f"Trend breakdown ({i.close:.2f} < MA{s.ma_period} {i.ma_50:.2f})",
        ExitReason.VIX: f"VIX spike ({_beside(i.vix, s.vix_exit_threshold)} > {s.vix_exit_threshold:g})",
        ExitReason.RSI: f"RSI collapse ({_beside(i.rsi, s.rsi_exit_threshold)} < {s.rsi_exit_threshold:g})",
        ExitReason.ATR_PROFIT: f"ATR {s.atr_multiplier:g}x profit taking ({i.close:.2f} >= {target:.2f})",
        ExitReason.STOP_LOSS: f"Stop loss ({i.close:.2f} <= {stop_price(position.entry_price, s):.2f})",
        ExitReason.DAILY_LOSS: f"Daily loss ({decision.daily_loss_usd:.2f} USD >= {p.risk.max_daily_loss:g})",
        ExitReason.EXIT_PENDING: f"Exit pending since {pending.since} ({pending.words})" if pending else "",
    }
    return "; ".join(said[reason] for reason in decision.exit_reasons)


def no_exit(evidence: Evidence, position: Position, unknown: tuple[ExitReason, ...], p: StrategyParameters) -> str:
    """Why to keep the shares: the distances to the rules, or which of them cannot be judged."""
    if unknown:
        return "Position unattended: cannot judge " + ", ".join(unknown)
    if evidence.exit_findings:
        return f"Position unattended: {evidence.exit_findings[0].words}"
    return f"No exit: {distances(evidence.indicators, position, p)}"


def distances(i: Indicators, position: Position | None, p: StrategyParameters) -> str:
    """How far the close stands from MA and target, and the VIX: '3.1 % above MA50, 4.2 % below target, VIX 17.9'."""
    parts = []
    if not isnan(i.close) and not isnan(i.ma_50):
        parts.append(f"{_gap(i.close, i.ma_50)} MA{p.ma_period}")
    if position is not None and not isnan(i.close) and not isnan(position.entry_atr):
        parts.append(f"{_gap(i.close, target_price(position.entry_price, position.entry_atr, p))} target")
    parts.append("VIX unknown" if isnan(i.vix) else f"VIX {i.vix:.1f}")
    return ", ".join(parts)


def _beside(value: float, threshold: float) -> str:
    """A value with one digit, or with as many as it takes to tell it from its threshold: 25.03 is not below 25."""
    return next(
        (said for digits in (1, 2, 3) if float(said := f"{value:.{digits}f}") != threshold or value == threshold),
        f"{value:.6f}",
    )


def _gap(value: float, reference: float) -> str:
    gap = (value / reference - 1) * 100
    return f"{abs(gap):.1f} % {'above' if gap >= 0 else 'below'}"


def not_enough_cash(evidence: Evidence, risk: RiskParameters) -> str:
    """How much USD there is and how much one share needs; or why that is not known."""
    cash, cost = evidence.funds.cash, share_cost(evidence.indicators.close, risk)
    if isnan(cash):
        why = f" ({evidence.funds.cash_unknown})" if evidence.funds.cash_unknown else ""
        return f"the broker did not say how much USD there is{why}, one share needs {cost:.2f}"
    return f"{cash:.2f} USD in cash, one share needs {cost:.2f}; convert first"


def too_small(evidence: Evidence, risk: RiskParameters) -> str:
    """Why not even one share fits under the caps."""
    cap = min(evidence.funds.sizing_equity * risk.max_position_pct / 100, risk.max_position_size)
    cost = share_cost(evidence.indicators.close, risk)
    return f"the position may be {cap:.2f} USD, one share needs {cost:.2f}"
