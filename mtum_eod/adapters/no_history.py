"""The book of a database that does not exist yet: everything is empty."""

from __future__ import annotations

from datetime import date, datetime

import numpy as np

from mtum_eod.adapters.simulated_order import SimulatedOrder
from mtum_eod.core.ledger import SinceFlat
from mtum_eod.core.market import COLUMNS, StoredBars
from mtum_eod.core.trading import Book, CashFlow, Fill, Halt, Order, OwnerAct, Split, Step
from mtum_eod.ports import EquityMark, Notice, RecordedSignal, Records, RunRecord, SessionRow, UnsentNotice


class NoHistory:
    """A BookReader without a book, and the simulated broker's order book without an order: for looking only."""

    def add(self, order: SimulatedOrder) -> None:
        raise TypeError(f"no database is open to keep {order.reference} in")

    def cancel(self, reference: str) -> None:
        raise TypeError(f"no database is open to withdraw {reference} in")

    def newest(self, count: int) -> list[SimulatedOrder]:  # noqa: ARG002
        return []

    def last_order_id(self) -> int:
        return 0

    def shares_through(self, session: date) -> int:  # noqa: ARG002
        return 0

    def book(self) -> Book | None:
        return None

    def bars(self, symbol: str, first: date, last: date, revision: int | None = None) -> StoredBars:  # noqa: ARG002
        return StoredBars(
            days=np.empty(0, dtype="datetime64[D]"),
            values=np.empty((0, len(COLUMNS))),
            statuses=np.empty(0, dtype=object),
        )

    def bars_revision(self) -> int:
        return 0

    def bar_as_of(self, symbol: str, session: date) -> datetime | None:  # noqa: ARG002
        return None

    def fills(self) -> list[Fill]:
        return []

    def fills_of(self, reference: str) -> list[Fill]:  # noqa: ARG002
        return []

    def since_flat(self, up_to: date | None = None) -> SinceFlat:  # noqa: ARG002
        return SinceFlat(realised=0.0, fills=())

    def capital(self) -> float | None:
        return None

    def cash_flows(self) -> list[CashFlow]:
        return []

    def order(self, session: date) -> Order | None:  # noqa: ARG002
        return None

    def splits(self) -> list[Split]:
        return []

    def shares_left(self) -> float:
        return 0.0

    def entry_atr(self, entry_session: date) -> float | None:  # noqa: ARG002
        return None

    def acts(self, session: date | None = None) -> list[OwnerAct]:  # noqa: ARG002
        return []

    def unsent_notices(self) -> list[UnsentNotice]:
        return []

    def sent_since(self, at: datetime) -> set[Notice]:  # noqa: ARG002
        return set()

    def told_since(self, at: datetime) -> set[Notice]:  # noqa: ARG002
        return set()

    def open_orders(self) -> list[Order]:
        return []

    def halts(self) -> list[Halt]:
        return []

    def ledger(self, first: date | None = None, last: date | None = None) -> list[SessionRow]:  # noqa: ARG002
        return []

    def last_row(self) -> SessionRow | None:
        return None

    def unsettled_rows(self) -> list[SessionRow]:
        return []

    def signal(self, session: date) -> RecordedSignal | None:  # noqa: ARG002
        return None

    def exit_decided_since(self, entry_session: date) -> tuple[date, str] | None:  # noqa: ARG002
        return None

    def equity_marks(self, first: date | None = None, last: date | None = None) -> list[EquityMark]:  # noqa: ARG002
        return []

    def provisional_marks(self) -> list[EquityMark]:
        return []

    def last_equity(self, before: date) -> EquityMark | None:  # noqa: ARG002
        return None

    def last_runs(self, session: date) -> dict[Step, RunRecord]:  # noqa: ARG002
        return {}

    def first_run(self, session: date, step: Step) -> RunRecord | None:  # noqa: ARG002
        return None

    def runs(self, limit: int) -> list[RunRecord]:  # noqa: ARG002
        return []

    def view(self, name: str) -> Records:  # noqa: ARG002
        return Records(columns=(), rows=())

    def close(self) -> None:
        """Nothing is open."""
