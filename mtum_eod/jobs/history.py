"""Running the real steps over sessions of the past, in simulated mode: decided, recorded and settled in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Protocol

from mtum_eod.core.trading import SessionStatus
from mtum_eod.errors import SettingsError
from mtum_eod.jobs.desk import TradingDesk
from mtum_eod.jobs.outcome import Outcome
from mtum_eod.jobs.session import decide_step, finish_open, last_closed, settle_step
from mtum_eod.ports import Calendar

Progress = Callable[[object, int, int], None]
"""Told after each part of the work: a session or what else it is, how many are done, how many there are."""


class SettableClock(Protocol):
    """A clock that a run over history moves from session to session."""

    def set(self, instant: datetime) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeResult:
    """What a run over a range did."""

    sessions: int
    already_done: int
    source: str
    is_synthetic: bool
    outcomes: tuple[Outcome, ...]
    shares: int = 0  # held at the end
    equity: float | None = None  # USD, at the last settled close

    @property
    def document(self) -> dict[str, Any]:
        """What was done, as one document."""
        actions = Counter(outcome.document["action"] for outcome in self.outcomes)
        gates = Counter(gate for o in self.outcomes if (gate := o.document["blocked_by"]) is not None)
        return {
            "sessions": self.sessions,
            "already_done": self.already_done,
            "source": self.source,
            "synthetic": self.is_synthetic,
            "actions": dict(actions),
            "blocked_by": dict(gates),
            "shares": self.shares,
            "equity": self.equity,
        }

    @property
    def exit_code(self) -> int:
        """The gravest of the sessions' own."""
        return max((outcome.exit_code for outcome in self.outcomes), default=0)


def run_range(
    desk: TradingDesk, clock: SettableClock, first: date, last: date, progress: Progress, *, settle: bool = True
) -> RangeResult:
    """Decide, and settle, every session from `first` to `last` that is not done yet.

    desk.clock is `clock`. Interrupted at any instant and started again it ends in the same book.
    Raises SettingsError where the sessions would not follow on the book's last one.
    """
    sessions = desk.calendar.sessions(first, last)
    rows = {row.session: row for row in desk.store.ledger(first, last)}
    _refuse_disorder(desk, [session for session in sessions if session not in rows])
    outcomes: list[Outcome] = []
    done_before = 0
    for count, session in enumerate(sessions, start=1):
        row = rows.get(session)
        if row and row.is_settled:
            done_before += 1
            continue
        times = desk.timetable(session)
        clock.set(times.decide_at)
        if row is None or row.status is SessionStatus.SKIPPED:
            outcomes.append(decide_step(desk, session))
        else:
            finish_open(desk, session)
        if settle:
            clock.set(times.settle_at)
            settle_step(desk, session)
        progress(session, count, len(sessions))
    mark = desk.store.last_equity(last + timedelta(days=1))
    held = desk.ledger().holding
    return RangeResult(
        sessions=len(sessions),
        already_done=done_before,
        source=desk.prices.name,
        is_synthetic=desk.book.is_synthetic,
        outcomes=tuple(outcomes),
        shares=held.shares if held else 0,
        equity=mark.value if mark else None,
    )


def range_asked(calendar: Calendar, first: date, last: date, now: datetime) -> tuple[date, date]:
    """The first and the last session of a range that can be run over.

    Raises SettingsError for an empty range and for one that reaches past the last closed session.
    """
    closed = last_closed(calendar, now)
    if last > closed:
        raise SettingsError(
            f"the range ends at {last}, the last session that has closed is {closed}", hint=f"use `--to {closed}`"
        )
    sessions = calendar.sessions(first, last)
    if not sessions:
        raise SettingsError(f"no session lies between {first} and {last}", hint="--from is the earlier date")
    return sessions[0], sessions[-1]


def _refuse_disorder(desk: TradingDesk, new: list[date]) -> None:
    """Raise SettingsError where sessions would be run before ones that the book already has, or far behind them."""
    last_row = desk.store.last_row()
    if last_row is None or not new:
        return
    due = desk.calendar.nearest(last_row.session)[1]
    if new[0] < last_row.session:
        raise SettingsError(
            f"{new[0]} has no row, but the book has gone on to {last_row.session}: sessions are run in order",
            hint="replay it with `--dry-run`, or start another book: MTUM_EOD_DATABASE__URL=another.db",
        )
    if new[0] > due:
        raise SettingsError(
            f"the book ends at {last_row.session}; a run from {new[0]} would leave out the sessions between",
            hint=f"start at {due}: `mtum-eod run --from {due} --to {new[-1]}`",
        )
