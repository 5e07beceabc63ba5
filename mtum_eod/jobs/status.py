"""Where things stand, for a person who looks once a day."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mtum_eod.core.snapshot import utc
from mtum_eod.core.trading import Halt, Order, OwnerAct, Position
from mtum_eod.jobs.approval import Question, question
from mtum_eod.jobs.desk import Desk
from mtum_eod.jobs.due import Agenda, agenda
from mtum_eod.jobs.gather import position_of
from mtum_eod.ports import EquityMark, RunRecord, SessionRow

RUNS_LOOKED_AT = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The book, its orders and halts, what comes next, and what went wrong lately."""

    book: str
    is_synthetic: bool
    position: Position | None
    sizing_equity: float
    cash: float
    last_mark: EquityMark | None
    last_row: SessionRow | None
    open_orders: tuple[Order, ...]
    halts: tuple[Halt, ...]
    question: Question | None  # what waits for the owner's approval
    acts: tuple[OwnerAct, ...]  # today's, by hand
    agenda: Agenda
    last_errors: tuple[RunRecord, ...]

    @property
    def document(self) -> dict[str, Any]:
        """The same as one document."""
        position, mark, row = self.position, self.last_mark, self.last_row
        return {
            "book": self.book,
            "synthetic": self.is_synthetic,
            "position": position
            and {
                "shares": position.shares,
                "entry_price": position.entry_price,
                "entry_session": position.entry_session.isoformat(),
            },
            "cash": self.cash,
            "sizing_equity": self.sizing_equity,
            "equity": mark
            and {
                "session": mark.session.isoformat(),
                "value": mark.value,
                "realised": mark.realised,
                "unrealised": mark.unrealised,
                "final": mark.is_final,
            },
            "last_session": row and {"session": row.session.isoformat(), "status": str(row.status), "why": row.why},
            "open_orders": [
                {"key": order.intent.reference, "shares": order.intent.shares, "status": str(order.status)}
                for order in self.open_orders
            ],
            "halts": [{"since": utc(halt.halted_at), "why": halt.why, "by": halt.by} for halt in self.halts],
            "awaiting_approval": self.question
            and {
                "session": self.question.session.isoformat(),
                "shares": self.question.shares,
                "price": self.question.price_usd,
                "until": utc(self.question.until),
                "approved_by": self.question.approved_by or None,
            },
            "acts": [{"act": str(act.act), "at": utc(act.at), "by": act.by, "why": act.words} for act in self.acts],
            **self.agenda.document,
            "last_errors": [
                {"run": run.id, "step": str(run.step), "at": utc(run.started_at), "error": run.error}
                for run in self.last_errors
            ],
        }


def status_of(desk: Desk) -> Status:
    """Where things stand now. Reads only the book; the broker is not asked."""
    store, ledger = desk.store, desk.ledger()
    today = desk.calendar.local_date(desk.clock.now())
    row = store.last_row()
    marks = store.equity_marks(first=row.session, last=row.session) if row else []
    last_mark = marks[-1] if marks else (store.last_equity(row.session) if row else None)
    return Status(
        book=desk.book.name,
        is_synthetic=desk.book.is_synthetic,
        position=position_of(store, ledger),
        sizing_equity=ledger.sizing_equity,
        cash=ledger.cash,
        last_mark=last_mark,
        last_row=row,
        open_orders=tuple(store.open_orders()),
        halts=tuple(store.halts()),
        question=question(desk, today),
        acts=tuple(act for act in store.acts() if desk.calendar.local_date(act.at) == today),
        agenda=agenda(desk),
        last_errors=tuple(run for run in store.runs(RUNS_LOOKED_AT) if run.error)[:3],
    )
