"""The owner's word on an entry (`require_confirmation`): asked once, answered once, lapsed at the hard stop.

A session that waits has a row SKIPPED and a recorded decision blocked by `awaiting_approval`; nothing else is kept.
An approval is an act younger than the question it answers, so a question asked again needs an answer of its own, and
an approval whose run died is carried out by the next one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from mtum_eod.core.events import Event
from mtum_eod.core.evidence import Gate
from mtum_eod.core.trading import Act, OwnerAct, SessionStatus
from mtum_eod.core.words import counted, wall
from mtum_eod.jobs.desk import Desk, TradingDesk
from mtum_eod.jobs.filing import refuse_wrong_clock
from mtum_eod.jobs.outcome import Outcome
from mtum_eod.jobs.replay import replay_recorded
from mtum_eod.ports import BookReader, Notice, RecordedSignal, Recording, SessionRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """An entry that waits for the owner's word."""

    session: date
    shares: int
    price_usd: float  # a share, at the decision
    until: datetime  # from here on it has lapsed
    approved_by: str  # who said yes, where that is not carried out yet; else empty


def question(desk: Desk, session: date) -> Question | None:
    """The question that stands open for `session`; None where none does."""
    recorded = open_question(desk.store, session)
    if recorded is None:
        return None
    outcome = replay_recorded(recorded, desk.store, desk.calendar, desk.book)
    approval = approval_of(desk.store, recorded)
    return Question(
        session=session,
        shares=outcome.decision.shares_awaiting,
        price_usd=outcome.evidence.indicators.close,
        until=desk.timetable(session).hard_stop_at,
        approved_by=approval.by if approval else "",
    )


def open_question(store: BookReader, session: date) -> RecordedSignal | None:
    """The recorded decision that waits for the owner's word; None where none does."""
    return question_of(store, next(iter(store.ledger(session, session)), None))


def question_of(store: BookReader, row: SessionRow | None) -> RecordedSignal | None:
    """The same, told from the session's row."""
    if row is None or row.status is not SessionStatus.SKIPPED:
        return None
    recorded = store.signal(row.session)
    return recorded if recorded and recorded.document["blocked_by"] == Gate.AWAITING_APPROVAL else None


def approval_of(store: BookReader, recorded: RecordedSignal) -> OwnerAct | None:
    """The owner's approval of this very question, unless they took it back."""
    asked_at = datetime.fromisoformat(recorded.inputs["as_of"])
    said = [act for act in store.acts(recorded.session) if act.act in (Act.APPROVE, Act.CANCEL, Act.DECLINE)]
    # The last word counts in the order of writing: a clock that was put right since makes none of a no.
    return said[-1] if said and said[-1].act is Act.APPROVE and said[-1].at > asked_at else None


def approved_shares(desk: Desk, session: date) -> int | None:
    """How many shares the owner has approved of the question that stands open; None where they have not."""
    asked = question(desk, session)
    return asked.shares if asked and asked.approved_by else None


def ask(desk: TradingDesk, outcome: Outcome) -> None:
    """Put the question to the owner: the numbers, the line to type, and until when."""
    evidence, shares = outcome.evidence, outcome.decision.shares_awaiting
    until = desk.timetable(evidence.session).hard_stop_at
    minutes = (until - desk.clock.now()).total_seconds() / 60
    price = evidence.indicators.close
    said = (
        f"BUY {shares} {desk.book.symbol} at about {price:.2f}, {shares * price:,.2f} USD? {outcome.decision.reason}. "
        f"Type `mtum-eod approve` or `mtum-eod approve --no` by {wall(until, desk.zone)}, "
        f"{counted(round(minutes), 'minute')} from now"
    )
    desk.notifier.tell(Notice(event=Event.APPROVAL, words=said, is_urgent=True))


def close_lapsed(desk: TradingDesk, run_id: int) -> None:
    """Close and tell every question that nobody answered, or nothing came of, before its hard stop."""
    now = desk.clock.now()
    for row in desk.unsettled():
        recorded = question_of(desk.store, row)
        if recorded and now >= desk.timetable(row.session).hard_stop_at:
            approval = approval_of(desk.store, recorded)
            heard = f"approved by {approval.by}, but not sent" if approval else "nobody approved it"
            refuse_wrong_clock(desk)  # or the hard stop may be still to come
            _close(desk, recorded, f"{heard} before the hard stop", run_id, is_told=True)


def decline(desk: TradingDesk, recorded: RecordedSignal, act: OwnerAct, run_id: int) -> None:
    """Close the question with the owner's no, which holds whatever the clock says."""
    with desk.store.transaction():
        desk.store.add_act(act)
        _close(desk, recorded, f"declined by {act.by}", run_id, is_told=False)


def _close(desk: TradingDesk, recorded: RecordedSignal, how: str, run_id: int, *, is_told: bool) -> None:
    """Let the session's row stand. It and the word about it become durable together, so neither comes twice."""
    row = SessionRow(
        session=recorded.session, status=SessionStatus.DECIDED, why=f"{recorded.document['reason']}; {how}"
    )
    with desk.store.transaction():
        desk.store.record(
            Recording(
                run_id=run_id,
                book=desk.book,
                row=row,
                bars=(),
                signal=None,
                settings={},
                inputs={},
                intent=None,
                recorded_at=desk.wall_clock.now(),
            )
        )
        if is_told:
            said = f"{desk.book.symbol} was not bought in the session {recorded.session}: {how}"
            desk.notifier.tell(Notice(event=Event.APPROVAL, words=said))
