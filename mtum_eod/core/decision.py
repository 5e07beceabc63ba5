"""The one decision of a session: rules, then gates, then size. Live, replay and simulated runs all call `decide`."""

from __future__ import annotations

from dataclasses import replace
from math import isnan

from mtum_eod.core import gates, words
from mtum_eod.core.evidence import Decision, Evidence, Gate, Indicators, Window
from mtum_eod.core.parameters import Parameters, StrategyParameters
from mtum_eod.core.sizing import size_entry
from mtum_eod.core.strategy import (
    ENTRY_RULES,
    EntryRule,
    ExitReason,
    entry_rules_fired,
    exit_rules_fired,
    exit_rules_unknown,
)
from mtum_eod.core.trading import Action, Position


def decide(evidence: Evidence, p: Parameters) -> Decision:
    """What the rules say on this evidence, and what the gates leave of it. Pure."""
    loss = gates.daily_loss(evidence)
    decision = Decision(
        action=Action.HOLD,
        entry_rules=judge_entry(evidence.indicators, p.strategy),
        daily_loss_usd=loss,
        daily_loss_hit=loss >= gates.daily_loss_limit(p.risk.max_daily_loss),
        warnings=tuple(finding.words for finding in evidence.findings),
    )
    if evidence.position is None:
        return _decide_flat(evidence, decision, p)
    return _decide_long(evidence, evidence.position, decision, p)


def judge_entry(i: Indicators, p: StrategyParameters) -> dict[EntryRule, bool | None]:
    """Each entry rule as true, false, or None where one of its inputs is missing."""
    fired = entry_rules_fired(i.close, i.ma_50, i.rsi, i.volume, i.volume_ma_20, i.vix, p)
    needs = {
        EntryRule.TREND_BULLISH: (i.close, i.ma_50),
        EntryRule.VIX_STABLE: (i.vix,),
        EntryRule.RSI_BULLISH: (i.rsi,),
        EntryRule.VOLUME_CONFIRM: (i.volume, i.volume_ma_20),
    }
    return {rule: None if any(map(isnan, needs[rule])) else rule in fired for rule in ENTRY_RULES}


def _decide_flat(evidence: Evidence, decision: Decision, p: Parameters) -> Decision:
    blocked = gates.entry_block(evidence)
    if not decision.entry_confluence:
        # A gate is told only where it made a difference: rules that say no need no gate.
        might_have_bought = not any(holds is False for holds in decision.entry_rules.values())
        gate = None
        if might_have_bought:
            gate = blocked.gate if blocked else _missing_input_gate(decision)
        elif evidence.fatal_findings:
            gate = Gate.DATA
        reason = words.no_entry(evidence.indicators, decision.entry_rules, p.strategy)
        if evidence.approved_shares is not None:
            reason += f". Approved, and not bought: {words.counted(evidence.approved_shares, 'share')}"
        if gate is Gate.DATA and evidence.fatal_findings:
            reason += f". Blocked: {evidence.fatal_findings[0].words}"
        return replace(decision, blocked_by=gate, reason=reason)

    decision = replace(decision, action=Action.BUY, reason=words.entry(evidence.indicators, p.strategy))
    if blocked:
        return _stop(decision, blocked)
    size = size_entry(evidence.indicators.close, evidence.funds.sizing_equity, evidence.funds.cash, p.risk)
    close, equity = evidence.indicators.close, evidence.funds.sizing_equity
    if gates.exceeds_position_limit(size.shares, close, equity, p.risk):
        why = f"{words.counted(size.shares, 'share')} would pass the cap"
        return _stop(decision, gates.Blocked(gate=Gate.POSITION_LIMIT, why=why))
    if size.blocked_by is Gate.CASH:
        return _stop(decision, gates.Blocked(gate=Gate.CASH, why=words.not_enough_cash(evidence, p.risk)))
    risk = gates.risk_block(evidence, decision.daily_loss_hit, p)
    if risk:
        return _stop(decision, risk)
    if size.blocked_by is Gate.SIZE:
        return _stop(decision, gates.Blocked(gate=Gate.SIZE, why=words.too_small(evidence, p.risk)))
    awaiting = gates.approval_block(evidence, size.shares, p.risk)
    if awaiting:
        return replace(_stop(decision, awaiting), shares_awaiting=size.shares)
    return replace(decision, shares=size.shares)


def _missing_input_gate(decision: Decision) -> Gate:
    missing = [rule for rule, holds in decision.entry_rules.items() if holds is None]
    return Gate.VOLUME_UNAVAILABLE if missing == [EntryRule.VOLUME_CONFIRM] else Gate.DATA


def _decide_long(evidence: Evidence, position: Position, decision: Decision, p: Parameters) -> Decision:
    i, entry = evidence.indicators, (position.entry_price, position.entry_atr)
    fired = list(exit_rules_fired(i.close, i.ma_50, i.rsi, i.vix, *entry, p.strategy))
    unknown = exit_rules_unknown(i.close, i.ma_50, i.rsi, i.vix, *entry, p.strategy)
    if p.risk.daily_loss_exit and decision.daily_loss_hit:
        fired.append(ExitReason.DAILY_LOSS)
    if evidence.pending_exit is not None:
        fired.append(ExitReason.EXIT_PENDING)
    decision = replace(decision, exit_reasons=tuple(fired), exit_unknown=unknown)
    if not fired:
        unattended = bool(unknown or evidence.exit_findings)
        reason = words.no_exit(evidence, position, unknown, p.strategy)
        return replace(decision, blocked_by=Gate.DATA if unattended else None, reason=reason, is_unattended=unattended)

    reason = words.exit_reasons(evidence, position, decision, p)
    decision = replace(decision, action=Action.SELL, reason=reason)
    blocked = gates.exit_block(evidence, p)
    if blocked:
        return _stop(decision, blocked)
    shares = min(position.shares, evidence.broker_shares or 0)
    return replace(decision, shares=shares, is_late_exit=evidence.window is Window.LATE)


def _stop(decision: Decision, blocked: gates.Blocked) -> Decision:
    return replace(decision, blocked_by=blocked.gate, reason=f"{decision.reason}. Blocked: {blocked.why}")
