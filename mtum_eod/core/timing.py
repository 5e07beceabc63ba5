"""When each step of a session is due. Pure: the present, the exchange's hours and the ledger come as arguments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from mtum_eod.core.evidence import Window
from mtum_eod.core.parameters import ScheduleParameters
from mtum_eod.core.trading import OrderType, Step

LAST_CALL = timedelta(minutes=2)
"""Nothing at all is sent this near the close."""

MARKET_ORDER_BEFORE = timedelta(minutes=3)
"""When a session is decided whose order is a plain market order: as near the close as leaves a minute to send."""

EVENING_AT = "18:00"
"""Wall time at the exchange of each day's sign of life: after the settlement, and in time to log in before midnight."""

RETRY_EVERY = timedelta(minutes=15)
"""Preflight, settlement and evening are tried again this often. A decision has no minutes to lose."""


# -- one session's timetable ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Timetable:
    """The instants of one session's life, UTC, in the order they come."""

    session: date
    open: datetime
    preflight_at: datetime
    decide_at: datetime
    hard_stop_at: datetime  # from here on no market-on-close order is sent or cancelled
    late_until: datetime  # from here on nothing is sent
    close: datetime
    settle_at: datetime


def timetable(
    session: date,
    open: datetime,  # noqa: A002  # the field's word
    close: datetime,
    schedule: ScheduleParameters,
    *,
    require_confirmation: bool,
    order_type: OrderType,
) -> Timetable:
    """The session's instants, as distances from its own close, so that half days come early as a whole.

    Where the owner confirms, the decision comes early enough to be read. A plain market order (`MKT`) misses the
    closing auction whenever it goes out, so it goes out late, 3 minutes before the close, to be filled near the
    closing price; no auction's cut-off applies to it, and its hard stop is the last call at 2 minutes. That leaves no
    time to confirm it: settings refuse both together.
    """
    decide_before, hard_stop_before = schedule.decide_before, schedule.hard_stop_before
    if order_type is OrderType.MKT:
        decide_before, hard_stop_before = MARKET_ORDER_BEFORE, LAST_CALL
    elif require_confirmation:
        decide_before = schedule.confirm_before
    return Timetable(
        session=session,
        open=open,
        preflight_at=close - schedule.preflight_before,
        decide_at=close - decide_before,
        hard_stop_at=close - hard_stop_before,
        late_until=close - LAST_CALL,
        close=close,
        settle_at=close + schedule.settle_after,
    )


def window(now: datetime, timetable: Timetable) -> Window:
    """Where in the session a decision made `now` stands; each instant of the timetable belongs to what it begins."""
    if now < timetable.decide_at:
        return Window.EARLY
    if now >= timetable.late_until:
        return Window.SHUT
    return Window.OPEN if now < timetable.hard_stop_at else Window.LATE


def volume_cuts(
    as_of: datetime, session: date, hours: Mapping[date, tuple[datetime, datetime]]
) -> dict[date, datetime]:
    """Up to when each session's volume counts, so that all are compared over the same fraction of their hours.

    hours: open and close of `session` and of those it is compared with. Between sessions of equal length the cut is
    the same time of day. Before the open of `session` it is each one's open, after the close each one's close.
    """
    opened, closed = hours[session]
    elapsed = (min(max(as_of, opened), closed) - opened) / (closed - opened)
    return {day: start + (end - start) * elapsed for day, (start, end) in hours.items()}


# -- what is due ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFacts:
    """What has become of one session so far."""

    timetable: Timetable
    preflight_passed: bool = False
    preflight_tried_at: datetime | None = None  # the latest attempt
    is_decided: bool = False  # its ledger row stands: decided, skipped or missed
    awaits_approval: bool = False  # its entry waits for the owner, who has said neither yes nor no
    order_unacknowledged: bool = False  # an intent is committed, and the broker's word on it is not
    withdrawal_open: bool = False  # the owner took the order back, and it is neither withdrawn nor told to be too late
    is_settled: bool = False
    settle_tried_at: datetime | None = None  # the latest attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class EveningFacts:
    """What has become of one day's evening so far; there is one on every day of the year."""

    day: date
    at: datetime  # its `EVENING_AT`
    until: datetime  # the day's end: the next evening is another day's
    passed: bool = False
    tried_at: datetime | None = None  # the latest attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A step, and the instant from which it is due."""

    at: datetime  # UTC
    step: Step
    session: date  # of an evening, its date
    why: str


def due(
    now: datetime,
    today: SessionFacts | None,
    unsettled: Sequence[SessionFacts] = (),
    evenings: Sequence[EveningFacts] = (),
) -> Due | None:
    """The step that is due now, or None.

    Deciding today's session comes first, from its decision time until its ledger row stands, and again until the close
    while its order is unacknowledged, or taken back and not withdrawn. It settles by itself what is open, so no
    unfinished business of an earlier session, which may stay unfinished for days, can keep a position from being sold.
    While the owner is asked nothing is decided; from the hard stop on the question has lapsed, and that is to be told.

    Of the others the one that has waited longest, so that none whose attempts take long keeps the rest from their
    turn: settling a session, preflight (from its time until it passes, not from the decision time on), the evening's
    sign of life. Where two have waited as long, today's session goes before earlier ones, and these oldest first:
    at midnight the broker forgets what was executed.

    today: the session of the exchange's present date, None where there is none. unsettled: earlier sessions with a
    ledger row and without settlement, oldest first. After midnight a session without a row is nobody's `today`: it
    is for `missed_sessions`.
    """
    steps = _steps(today, unsettled, evenings)
    return next((step for step, until in steps if step.at <= now and (until is None or now < until)), None)


def coming(
    now: datetime,
    today: SessionFacts | None,
    unsettled: Sequence[SessionFacts],
    upcoming: Timetable,
    evenings: Sequence[EveningFacts] = (),
) -> list[Due]:
    """The steps that will fall due after `now` as things stand, in their order; never empty.

    What is due already is `due`'s to say. upcoming: the first session after the exchange's present date.
    """
    steps = [step for step, _ in (*_steps(today, unsettled, evenings), *_steps(SessionFacts(timetable=upcoming)))]
    return sorted((step for step in steps if step.at > now), key=lambda step: step.at)


def _steps(
    today: SessionFacts | None, unsettled: Sequence[SessionFacts] = (), evenings: Sequence[EveningFacts] = ()
) -> Iterator[tuple[Due, datetime | None]]:
    """What is still to be done and when it ceases to be due, in the order of `due`."""
    if today:
        yield from _decide(today)
    yield from sorted(_others(today, unsettled, evenings), key=lambda step: step[0].at)


def _others(
    today: SessionFacts | None, unsettled: Sequence[SessionFacts], evenings: Sequence[EveningFacts]
) -> Iterator[tuple[Due, datetime | None]]:
    """Everything but deciding, as it goes where two have waited as long."""
    if today:
        yield from _preflight(today)
        if not today.is_settled:
            yield _settle(today, "the session has closed")
    for facts in unsettled:
        yield _settle(facts, "an earlier session is not settled")
    for evening in evenings:
        at = _next_attempt(evening.at, evening.tried_at)
        if not evening.passed and at < evening.until:
            yield Due(at=at, step=Step.EVENING, session=evening.day, why="a sign of life a day"), evening.until


def _decide(facts: SessionFacts) -> Iterator[tuple[Due, datetime | None]]:
    times = facts.timetable
    if facts.awaits_approval:
        yield Due(at=times.hard_stop_at, step=Step.DECIDE, session=times.session, why="nobody approved the entry"), None
    elif not facts.is_decided:
        yield Due(at=times.decide_at, step=Step.DECIDE, session=times.session, why="the session is not decided"), None
    elif facts.order_unacknowledged:
        why = "the order is not acknowledged"
        yield Due(at=times.decide_at, step=Step.DECIDE, session=times.session, why=why), times.close
    elif facts.withdrawal_open:  # at once: a sale by hand is out long before the decision time
        why = "the order is not withdrawn yet"
        yield Due(at=times.open, step=Step.DECIDE, session=times.session, why=why), times.close


def _preflight(facts: SessionFacts) -> Iterator[tuple[Due, datetime | None]]:
    times = facts.timetable
    at = _next_attempt(times.preflight_at, facts.preflight_tried_at)
    if not facts.preflight_passed and at < times.decide_at:
        why = "the chain is not checked yet" if facts.preflight_tried_at is None else "the last check failed"
        yield Due(at=at, step=Step.PREFLIGHT, session=times.session, why=why), times.decide_at


def _settle(facts: SessionFacts, why: str) -> tuple[Due, datetime | None]:
    times = facts.timetable
    at = _next_attempt(times.settle_at, facts.settle_tried_at)
    return Due(at=at, step=Step.SETTLE, session=times.session, why=why), None


def _next_attempt(first_at: datetime, tried_at: datetime | None) -> datetime:
    """When the attempt after `tried_at` falls due: on the grid of `RETRY_EVERY` from `first_at`, so none drifts."""
    if tried_at is None or tried_at < first_at:
        return first_at
    return first_at + ((tried_at - first_at) // RETRY_EVERY + 1) * RETRY_EVERY


def is_eve_of_a_week(day: date, upcoming: date, before: date) -> bool:
    """Whether the week's first session is tomorrow: the evening on which a Gateway wants its weekly login.

    upcoming: the first session after `day`; before: the last session before that one. The week begins on Monday.
    """
    return upcoming - day == timedelta(days=1) and before.isocalendar()[:2] != upcoming.isocalendar()[:2]


def missed_sessions(last_row: date | None, sessions: Sequence[date], in_hand: date) -> list[date]:
    """The sessions nobody ran: after the ledger's last row, before the one in hand. None before the first row.

    in_hand: the session now run, or the exchange's present date; until its midnight it can still get a row itself.
    """
    return [] if last_row is None else [session for session in sessions if last_row < session < in_hand]
