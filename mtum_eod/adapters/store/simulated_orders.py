"""What the embedded broker remembers of the orders it accepted. It plays the far side of the wire, in the same file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from typing import Any, Protocol

from sqlalchemy import bindparam, case, func, insert, select, update

from mtum_eod.adapters.simulated_order import SimulatedOrder
from mtum_eod.adapters.store import schema
from mtum_eod.adapters.store.reading import Question
from mtum_eod.adapters.store.sql_store import SqlStore
from mtum_eod.adapters.store.statements import Statement
from mtum_eod.core.trading import Side

_table, _order = schema.simulated_order, schema.simulated_order.c
_signed = case((_order.side == Side.BUY, _order.shares), else_=-_order.shares)

ADD = Statement(insert(_table))
CANCEL = Statement(update(_table).where(_order.reference == bindparam("of")))
NEWEST = Question(SimulatedOrder, select(_table).order_by(_order.order_id.desc()).limit(bindparam("count")))
LAST_ID = Statement(select(func.max(_order.order_id)))
SHARES = Statement(select(func.sum(_signed)).where(_order.session <= bindparam("last"), ~_order.is_cancelled))


class Rows(Protocol):
    """Where rows are read: a store, a reader, or the book that is not there yet."""

    def rows(self, statement: Statement, **values: Any) -> Sequence[tuple[Any, ...]]: ...


class SimulatedOrders:
    """The embedded broker's order book. Each change is durable when the call returns; call it outside transactions."""

    def __init__(self, rows: Rows, store: SqlStore | None = None) -> None:
        self._rows = rows.rows
        self._store = store  # None: for looking only

    def add(self, order: SimulatedOrder) -> None:
        """Keep a new order. Raises StoreError where its reference is known already."""
        with self._writable().writing() as db:
            ADD.run(db, asdict(order))

    def cancel(self, reference: str) -> None:
        """Withdraw an order."""
        with self._writable().writing() as db:
            CANCEL.run(db, {"of": reference, "is_cancelled": True})

    def newest(self, count: int) -> list[SimulatedOrder]:
        """The newest orders, oldest of them first."""
        return [NEWEST.read(row) for row in reversed(self._rows(NEWEST.statement, count=count))]

    def last_order_id(self) -> int:
        """The highest id any order has; 0 where there is none."""
        return self._number(LAST_ID)

    def shares_through(self, session: date) -> int:
        """Shares bought less shares sold by the orders of all sessions up to `session`."""
        return self._number(SHARES, last=session)

    def _number(self, statement: Statement, **values: Any) -> int:
        rows = self._rows(statement, **values)
        return int(rows[0][0] or 0) if rows else 0

    def _writable(self) -> SqlStore:
        if self._store is None:
            raise TypeError("this order book was opened for looking only")
        return self._store
