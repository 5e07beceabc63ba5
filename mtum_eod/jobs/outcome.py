"""What a job ends in, for a door to show."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from mtum_eod.core import snapshot
from mtum_eod.core.evidence import Decision, Evidence, Gate
from mtum_eod.core.explanation import RuleLine, entry_lines, exit_lines
from mtum_eod.core.parameters import Parameters
from mtum_eod.core.snapshot import number
from mtum_eod.core.trading import Order
from mtum_eod.errors import BrokerUnavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One session's decision as it came out, whether fresh, recorded earlier or replayed."""

    symbol: str
    document: dict[str, Any]  # the keys of `run --json`
    evidence: Evidence
    decision: Decision
    parameters: Parameters
    notes: tuple[str, ...] = ()  # talk for the person at the terminal
    is_order_held_back: bool = False  # though the broker lists it as working

    @property
    def exit_code(self) -> int:
        """0 done or blocked by a gate, 3 market data, 4 an order never reached the broker, 5 a person is needed."""
        order = self.document["order"]
        if order and (order["status"] in ("rejected", "unknown") or self.is_order_held_back):
            return 5
        gate = self.document["blocked_by"]
        if gate in (Gate.ORDER_UNKNOWN, Gate.RECONCILE_MISMATCH) or self.evidence.needs_person:
            return 5
        if order and order["status"] == "not_sent" and gate is None:
            return BrokerUnavailable.exit_code
        # An exit that goes out is worth more than the data that are missing beside it.
        return 3 if gate == Gate.DATA and not order else 0

    @property
    def rules(self) -> list[RuleLine]:
        """The rules that apply, with numbers and distances: entry when flat, exit when long."""
        p, position = self.parameters.strategy, self.evidence.position
        if position is None:
            return entry_lines(self.evidence, self.decision, p)
        return exit_lines(self.evidence, self.decision, position, p)

    @property
    def explanation(self) -> dict[str, Any]:
        """The document, with every rule spelled out."""
        lines = [
            {
                "rule": line.rule,
                "value": number(line.value),
                "relation": line.relation,
                "threshold": number(line.threshold),
                "distance_pct": number(line.distance_pct),
                "holds": line.holds,
            }
            for line in self.rules
        ]
        return self.document | {"rules": lines}

    def with_order(self, order: Order | None) -> Outcome:
        """The same outcome with the session's order as it stands."""
        held_back = order is not None and order.is_held_back
        return replace(self, document=snapshot.with_order(self.document, order), is_order_held_back=held_back)

    def with_document(self, **changes: Any) -> Outcome:
        """The same outcome with some keys of its document changed."""
        return replace(self, document=self.document | changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Handled:
    """What came of a command, in words."""

    words: tuple[str, ...]
    order: Order | None = None
    exit_code: int = 0

    @property
    def document(self) -> dict[str, Any]:
        """The same as one document."""
        order = self.order
        return {"words": list(self.words), "order": order and snapshot.order_part(order.intent, order.status)}
