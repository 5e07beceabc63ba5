"""What the embedded broker remembers of the orders it accepted. It plays the far side of the wire, in the same file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from typing import Any, Protocol

from sqlalchemy import Row, Select, case, func, insert, select, update

from mtum_eod.adapters.simulated_order import SimulatedOrder
from mtum_eod.adapters.store import schema
from mtum_eod.adapters.store.sql_store import SqlStore
from mtum_eod.core.trading import OrderType, Side


class Rows(Protocol):
    """Where rows are read: a store, a reader, or the book that is not there yet."""

    def rows(self, statement: Select[Any]) -> Sequence[Row[Any]]: ...


class SimulatedOrders:
    """The embedded broker's order book. Each change is durable when the call returns; call it outside transactions."""

    def __init__(self, rows: Rows, store: SqlStore | None = None) -> None:
        self._rows = rows.rows
        self._store = store  # None: for looking only

    def add(self, order: SimulatedOrder) -> None:
        """Keep a new order. Raises StoreError where its reference is known already."""
        with self._writable().writing() as db:
            db.execute(insert(schema.simulated_order).values(asdict(order)))

    def cancel(self, reference: str) -> None:
        """Withdraw an order."""
        table = schema.simulated_order
        with self._writable().writing() as db:
            db.execute(update(table).where(table.c.reference == reference).values(is_cancelled=True))

    def newest(self, count: int) -> list[SimulatedOrder]:
        """The newest orders, oldest of them first."""
        table = schema.simulated_order
        rows = self._rows(select(table).order_by(table.c.order_id.desc()).limit(count))
        return [
            SimulatedOrder(**row._asdict() | {"side": Side(row.side), "order_type": OrderType(row.order_type)})
            for row in reversed(rows)
        ]

    def last_order_id(self) -> int:
        """The highest id any order has; 0 where there is none."""
        return self._number(select(func.max(schema.simulated_order.c.order_id)))

    def shares_through(self, session: date) -> int:
        """Shares bought less shares sold by the orders of all sessions up to `session`."""
        table = schema.simulated_order.c
        signed = case((table.side == Side.BUY, table.shares), else_=-table.shares)
        return self._number(select(func.sum(signed)).where(table.session <= session, ~table.is_cancelled))

    def _number(self, statement: Select[Any]) -> int:
        rows = self._rows(statement)
        return int(rows[0][0] or 0) if rows else 0

    def _writable(self) -> SqlStore:
        if self._store is None:
            raise TypeError("this order book was opened for looking only")
        return self._store
