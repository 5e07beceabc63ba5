"""A decision as one document: the keys of `run --json`, in their order. The store keeps it, views show it."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime
from math import isnan
from typing import Any

from mtum_eod.core.evidence import Decision, Evidence
from mtum_eod.core.parameters import Parameters
from mtum_eod.core.strategy import target_price
from mtum_eod.core.trading import Mode, Order, OrderIntent, OrderStatus


def utc(instant: datetime) -> str:
    """An instant as the database and the documents write it: UTC, ISO, ending in Z."""
    return instant.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def number(value: float) -> float | None:
    """A number that is not known is null, in JSON and in the database."""
    return None if isnan(value) else value


def plain(value: Any) -> Any:
    """The same as JSON knows it, inside containers too: values as objects, dates as ISO text, NaN as null."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, date):
        return value.isoformat()
    return number(value) if isinstance(value, float) else value


def document(
    evidence: Evidence,
    decision: Decision,
    p: Parameters,
    *,
    mode: Mode,
    source: str,
    is_synthetic: bool,
    is_dry_run: bool,
    intent: OrderIntent | None = None,
) -> dict[str, Any]:
    """Everything one decision says: inputs, rules, action, gate, order and position."""
    i, position = evidence.indicators, evidence.position
    return {
        "session": evidence.session.isoformat(),
        "mode": str(mode),
        "source": source,
        "synthetic": is_synthetic,
        "dry_run": is_dry_run,
        "as_of": utc(evidence.as_of),
        "close": number(i.close),
        "ma_50": number(i.ma_50),
        "rsi": number(i.rsi),
        "atr": number(i.atr),
        "volume": number(i.volume),
        "volume_ma_20": number(i.volume_ma_20),
        "volume_basis": str(i.volume_basis),
        "vix": number(i.vix),
        **{str(rule): holds for rule, holds in decision.entry_rules.items()},
        "entry_confluence": decision.entry_confluence,
        "exit_reasons": [str(reason) for reason in decision.exit_reasons],
        "exit_confluence": decision.exit_confluence,
        "action": str(decision.action),
        "shares": decision.shares,
        "blocked_by": str(decision.blocked_by) if decision.blocked_by else None,
        "reason": decision.reason,
        "order": order_part(intent, OrderStatus.INTENT) if intent else None,
        "position": None
        if position is None
        else {
            "shares": position.shares,
            "entry_price": number(position.entry_price),
            "entry_session": position.entry_session.isoformat(),
            "entry_atr": number(position.entry_atr),
            "target": number(target_price(position.entry_price, position.entry_atr, p.strategy)),
        },
        "warnings": list(decision.warnings),
    }


def order_part(intent: OrderIntent, status: OrderStatus) -> dict[str, Any]:
    """The `order` of the document."""
    return {
        "key": intent.reference,
        "side": str(intent.side),
        "type": str(intent.order_type),
        "shares": intent.shares,
        "status": str(status),
    }


def with_order(recorded: dict[str, Any], order: Order | None) -> dict[str, Any]:
    """A recorded document with its order as it stands now."""
    return {**recorded, "order": order_part(order.intent, order.status) if order else None}
