"""What the embedded broker remembers of the orders it accepted. It plays the far side of the wire, in the same file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date, datetime

from sqlalchemy import insert, select, update

from mtum_eod.adapters.store import schema
from mtum_eod.adapters.store.sql_store import SqlStore
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
    status: str  # the broker's own word
    accepted_at: datetime
    words: str = ""


class SimulatedOrders:
    """The embedded broker's order book. Each change is durable when the call returns; call it outside transactions."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    def add(self, order: SimulatedOrder) -> None:
        """Keep a new order. Raises StoreError where its reference is known already."""
        with self._store.writing() as db:
            db.execute(insert(schema.simulated_order).values(asdict(order)))

    def all(self) -> list[SimulatedOrder]:
        """Every order ever accepted, in the order of acceptance."""
        table = schema.simulated_order
        return [
            SimulatedOrder(**row._asdict() | {"side": Side(row.side), "order_type": OrderType(row.order_type)})
            for row in self._store.rows(select(table).order_by(table.c.accepted_at, table.c.order_id))
        ]

    def set_status(self, reference: str, status: str, words: str = "") -> None:
        """Change what has become of an order."""
        table = schema.simulated_order
        with self._store.writing() as db:
            db.execute(update(table).where(table.c.reference == reference).values(status=status, words=words))
