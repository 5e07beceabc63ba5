"""An order at the embedded broker, in a module of its own: without a database the broker costs no SQLAlchemy."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from mtum_eod.core.trading import OrderType, Side


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedOrder:
    """One order as the embedded broker keeps it."""

    reference: str
    order_id: int
    session: date
    side: Side
    order_type: OrderType
    shares: int
    is_cancelled: bool
    accepted_at: datetime
