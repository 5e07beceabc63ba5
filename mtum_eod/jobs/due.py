"""Which step is due now, told from the book and the calendar; and doing it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from typing import Any

from mtum_eod.core import timing
from mtum_eod.core.checks import Check
from mtum_eod.core.snapshot import utc
from mtum_eod.core.timing import Due, EveningFacts, SessionFacts
from mtum_eod.core.trading import OrderStatus, SessionStatus, Step
from mtum_eod.jobs.approval import approval_of, question_of
from mtum_eod.jobs.desk import Desk, TradingDesk
from mtum_eod.jobs.evening import evening_step
from mtum_eod.jobs.order import is_withdrawal_open
from mtum_eod.jobs.outcome import Outcome
from mtum_eod.jobs.preflight import exit_code, preflight_step
from mtum_eod.jobs.session import decide_step, file_missed, settle_step
from mtum_eod.jobs.settle import Settlement
from mtum_eod.ports import RunRecord, SessionRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Agenda:
    """What is due now, and what comes after it as things stand, in its order."""

    due: Due | None
    coming: tuple[Due, ...]

    @property
    def next(self) -> Due:
        """The step that will fall due first."""
        return self.coming[0]

    @property
    def document(self) -> dict[str, Any]:
        """The same as one document."""
        return {"due": _part(self.due), "next": _part(self.next)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A step that was due and is done; exactly one of the results where there was one."""

    step: Step | None
    outcome: Outcome | None = None
    settlement: Settlement | None = None
    checks: tuple[Check, ...] = ()

    @property
    def document(self) -> dict[str, Any]:
        """The same as one document."""
        result: Any = [asdict(check) for check in self.checks]
        if self.outcome:
            result = self.outcome.document
        if self.settlement:
            result = self.settlement.document
        return {"step": self.step and str(self.step), "result": result}

    @property
    def exit_code(self) -> int:
        """The step's own."""
        if self.outcome:
            return self.outcome.exit_code
        if self.settlement:
            return self.settlement.exit_code
        return exit_code(self.checks)


def do_due(desk: TradingDesk) -> Done:
    """Do the step that is due now, if there still is one."""
    due = timing.due(*_seen(desk))
    if due is None:
        return Done(step=None)
    match due.step:
        case Step.DECIDE:
            return Done(step=due.step, outcome=decide_step(desk, due.session))
        case Step.SETTLE:
            file_missed(desk, desk.calendar.local_date(desk.clock.now()))
            return Done(step=due.step, settlement=settle_step(desk, due.session))
        case Step.PREFLIGHT:
            return Done(step=due.step, checks=preflight_step(desk, due.session))
        case Step.EVENING:
            return Done(step=due.step, checks=evening_step(desk, due.session))


def agenda(desk: Desk) -> Agenda:
    """What is due at this instant, and the next step to fall due as things stand."""
    now, today, unsettled, evenings = _seen(desk)
    upcoming = desk.timetable(desk.calendar.nearest(desk.calendar.local_date(now))[1])
    return Agenda(
        due=timing.due(now, today, unsettled, evenings),
        coming=tuple(timing.coming(now, today, unsettled, upcoming, evenings)),
    )


def _seen(desk: Desk) -> tuple[datetime, SessionFacts | None, list[SessionFacts], list[EveningFacts]]:
    """What `timing.due` asks for."""
    now = desk.clock.now()
    day = desk.calendar.local_date(now)
    runs = desk.store.last_runs(day)
    today = None
    if desk.calendar.is_session(day):
        today = _facts(desk, day, next(iter(desk.store.ledger(day, day)), None), runs)
    unsettled = [
        _facts(desk, row.session, row, desk.store.last_runs(row.session))
        for row in desk.unsettled()
        if row.session < day
    ]
    tomorrow = day + timedelta(days=1)
    evenings = [
        _evening(desk, day, runs.get(Step.EVENING)),
        _evening(desk, tomorrow, desk.store.last_runs(tomorrow).get(Step.EVENING)),
    ]
    return now, today, unsettled, evenings


def _evening(desk: Desk, day: date, run: RunRecord | None) -> EveningFacts:
    return EveningFacts(
        day=day,
        at=desk.calendar.at(day, timing.EVENING_AT),
        until=desk.calendar.at(day + timedelta(days=1), "00:00"),
        passed=bool(run and run.exit_code == 0),
        tried_at=run.started_at if run else None,
    )


def _facts(desk: Desk, session: date, row: SessionRow | None, runs: Mapping[Step, RunRecord]) -> SessionFacts:
    order = desk.store.order(session)
    preflight, settle = runs.get(Step.PREFLIGHT), runs.get(Step.SETTLE)
    asked = question_of(desk.store, row)
    return SessionFacts(
        timetable=desk.timetable(session),
        preflight_passed=bool(preflight and preflight.exit_code == 0),
        preflight_tried_at=preflight.started_at if preflight else None,
        is_decided=_is_decided(desk, row),
        awaits_approval=bool(asked and approval_of(desk.store, asked) is None),
        order_unacknowledged=bool(order and order.status in (OrderStatus.INTENT, OrderStatus.UNKNOWN)),
        withdrawal_open=bool(order and is_withdrawal_open(desk, order)),
        is_settled=bool(row and row.is_settled),
        settle_tried_at=settle.started_at if settle else None,
    )


def _is_decided(desk: Desk, row: SessionRow | None) -> bool:
    """Whether the row stands. A session skipped for lack of data is tried again until its close."""
    if row is None:
        return False
    return row.status is not SessionStatus.SKIPPED or desk.clock.now() >= desk.calendar.close(row.session)


def _part(due: Due | None) -> dict[str, Any] | None:
    if due is None:
        return None
    return {"step": str(due.step), "session": due.session.isoformat(), "at": utc(due.at), "why": due.why}
