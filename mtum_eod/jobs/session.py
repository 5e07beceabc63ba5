"""A session lived through for real: its steps in order, each filed, each safe to repeat."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime
from math import nan

from mtum_eod.core import timing
from mtum_eod.core.events import Event
from mtum_eod.core.evidence import Decision, Evidence, Funds, Gate, Indicators, Window
from mtum_eod.core.strategy import EntryRule
from mtum_eod.core.timing import missed_sessions
from mtum_eod.core.trading import Action, SessionStatus, Side, Step
from mtum_eod.errors import BrokerUnavailable, MarketDataError, MtumEodError, SettingsError
from mtum_eod.jobs import consent
from mtum_eod.jobs.approval import approval_of, close_lapsed, question_of
from mtum_eod.jobs.collect import collect, late_sessions
from mtum_eod.jobs.decide import decide_session, tell_unattended
from mtum_eod.jobs.desk import Desk, TradingDesk
from mtum_eod.jobs.filing import filed, refuse_wrong_clock, under
from mtum_eod.jobs.gather import position_of
from mtum_eod.jobs.order import heed_withdrawal, require_arrival
from mtum_eod.jobs.outcome import Outcome
from mtum_eod.jobs.replay import as_dry_run, replay_recorded
from mtum_eod.jobs.settle import Settlement, settle_session
from mtum_eod.jobs.upkeep import back_up
from mtum_eod.ports import Calendar, Notice, SessionRow


def decide_step(desk: TradingDesk, session: date) -> Outcome:
    """Decide `session` unless it is decided; before that, finish what earlier runs left open."""
    with filed(desk, Step.DECIDE, session) as run:
        consent.require(desk)
        close_lapsed(desk, run.run_id)
        missed = file_missed(desk, session)
        if desk.clock.now() < (close := desk.calendar.close(session)):
            desk.broker.finish_by(close)
        try:
            desk = desk.connected()
            refuse_wrong_clock(desk)
            notes = (*missed, *finish_open(desk, session))
            outcome = standing(desk, session) or decide_session(desk, session, run.run_id)
        except (MarketDataError, BrokerUnavailable, SettingsError) as error:
            _leave_undecided(desk, session, error)
            raise
        run.document, run.exit_code = outcome.document, outcome.exit_code
        gate = outcome.document["blocked_by"]
        run.outcome = f"blocked: {gate}" if gate else str(outcome.document["action"])
        notes = (*notes, *_settle_late(desk))  # only now: nothing of this session waits for it
        return replace(outcome, notes=(*outcome.notes, *notes))


def _leave_undecided(desk: TradingDesk, session: date, error: MtumEodError) -> None:
    """Give the session its row, which a later run may still turn into a decision, and tell whose shares nobody watches.

    What was recorded before the failure stands: it has its row, and its own words. Under a wrong clock, or with
    another account, no row is given: it might be another session's, or another book's.
    """
    if desk.store.signal(session) is not None:
        return
    if desk.ledger().holding:
        what = "no price to decide on" if isinstance(error, MarketDataError) else "not decided"
        tell_unattended(desk, f"{session}: {what}: {error.message}")
    is_early = timing.window(desk.clock.now(), desk.timetable(session)) is Window.EARLY
    if not is_early and not isinstance(error, SettingsError):
        skipped = SessionRow(session=session, status=SessionStatus.SKIPPED, why=error.message)
        desk.store.add_rows([skipped], desk.wall_clock.now())


def settle_step(desk: TradingDesk, session: date) -> Settlement:
    """Settle `session`; repeating it changes nothing."""
    before = desk.store.last_runs(session).get(Step.SETTLE)
    with filed(desk, Step.SETTLE, session) as run:
        desk.broker.finish_by(desk.clock.now() + timing.RETRY_EVERY)  # then the next attempt is due
        refuse_wrong_clock(desk)
        close_lapsed(desk, run.run_id)
        settlement = settle_session(desk, session)
        _settle_late(desk)
        run.exit_code = settlement.exit_code
        run.outcome = "settled" if settlement.is_settled else f"open: {settlement.why}"
        is_told = settlement.order is not None and settlement.order.status.is_open  # with the order's own news
        if settlement.is_unanswered and not is_told and (before is None or before.outcome != run.outcome):
            said = f"{session} is not settled: {settlement.why}"
            desk.notifier.tell(Notice(event=Event.RUN_FAILED, words=said, is_urgent=True))
    if settlement.is_settled:
        with under(run.run_id):  # after its end: in a backup a run that never ended would look like one killed
            back_up(desk)
    return settlement


def settle_all(desk: TradingDesk) -> list[Settlement]:
    """Settle every session of the ledger that has closed and is not settled, oldest first.

    Where all are, the ones whose executions at the broker have changed since.
    """
    now = desk.clock.now()
    file_missed(desk, desk.calendar.local_date(now))
    closed = [row.session for row in desk.unsettled() if now >= desk.calendar.close(row.session)]
    return [settle_step(desk, session) for session in closed or late_sessions(desk)]


def _settle_late(desk: TradingDesk) -> list[str]:
    """Settle again what has changed at the broker since it was settled; what cannot be is told."""
    notes = []
    for session in late_sessions(desk):
        try:
            settle_session(desk, session)
        except MtumEodError as error:
            notes.append(f"executions of {session} have changed at the broker and cannot be booked: {error.message}")
            desk.notifier.tell(Notice(event=Event.MISMATCH, words=notes[-1], is_urgent=True))
    return notes


def file_missed(desk: TradingDesk, in_hand: date) -> list[str]:
    """Give every session that nobody ran its MISSED row, and tell of all of them in one message.

    Sessions count as missed from the first one that was run on its own day: a book that only a run over history has
    filled so far owes nobody the sessions since.
    """
    last = desk.store.last_row()
    if last is None or not (last.status is SessionStatus.MISSED or _was_lived(desk, last.session)):
        return []
    missed = missed_sessions(last.session, desk.calendar.sessions(last.session, in_hand), in_hand)
    if not missed:
        return []
    refuse_wrong_clock(desk)
    now = desk.wall_clock.now()
    rows = [SessionRow(session=day, status=SessionStatus.MISSED, why="no run started") for day in missed]
    span = f"{missed[0]}" if len(missed) == 1 else f"{len(missed)} sessions, {missed[0]} to {missed[-1]}"
    said = f"Missed: {span}: no run started"
    with desk.store.transaction():  # a row without its message would never be told
        desk.store.add_rows(rows, now)
        desk.notifier.tell(Notice(event=Event.RUN_MISSED, words=said, is_urgent=True))
    return [said]


def _was_lived(desk: Desk, session: date) -> bool:
    """Whether the session was decided on its own day, rather than by a run over history."""
    run = desk.store.first_run(session, Step.DECIDE)  # the newest may be the owner's look at an old session
    return run is not None and desk.calendar.local_date(run.started_at) == session


def finish_open(desk: TradingDesk, session: date, *, sends_entry: bool = True) -> list[str]:
    """Resolve orders in doubt, withdraw what the owner took back, settle earlier sessions.

    What stays open is told, and stops no exit of today. sends_entry: an entry of today that surely never got to the
    broker is sent, else given up.
    """
    notes = []
    for order in desk.store.open_orders():
        try:
            may_send = order.intent.session == session and (sends_entry or order.intent.side is Side.SELL)
            collected = collect(desk, order, may_send=may_send)
            if may_send:
                require_arrival(collected.order)
            if order.intent.session == session:
                # The word may have come when its order was out, and not got through.
                heed_withdrawal(desk, session)
        except MtumEodError as error:
            if order.intent.session == session:
                raise
            notes.append(f"order {order.intent.reference} is still {order.status}: {error.message}")
    for row in desk.unsettled():
        if row.session < session:
            try:
                settle_session(desk, row.session)
            except MtumEodError as error:
                notes.append(f"session {row.session} is still not settled: {error.message}")
    return notes


def standing(desk: Desk, session: date) -> Outcome | None:
    """The session's decision as it stands; None where it has none yet, and where the owner's yes is to be acted on."""
    row = next(iter(desk.store.ledger(session, session)), None)
    recorded = desk.store.signal(session)
    asked = question_of(desk.store, row)
    if asked and approval_of(desk.store, asked) is None:
        outcome = replay_recorded(asked, desk.store, desk.calendar, desk.book)
        note = "nothing is decided again until `mtum-eod approve` or `mtum-eod approve --no`"
        return replace(outcome, document=asked.document, notes=(note,))
    if row is None or row.status is not SessionStatus.DECIDED:
        return None
    order = desk.store.order(session)
    if recorded is None:  # decided by hand: there is an order, and no rule was asked
        return _without_rules(desk, session, Gate.ALREADY_DECIDED, row.why).with_order(order)
    outcome = replay_recorded(recorded, desk.store, desk.calendar, desk.book)
    since = row.why.removeprefix(recorded.document["reason"]).lstrip("; ")  # such as how a question ended
    notes = (since,) if since else ()
    outcome = replace(outcome, document=recorded.document, notes=notes).with_order(order)
    return outcome.with_document(blocked_by=str(Gate.ALREADY_DECIDED))


def session_asked(calendar: Calendar, day: date, now: datetime) -> date:
    """`day`, if it is a session that has begun.

    Raises SettingsError for one that is none, with the nearest sessions, or lies in the future.
    """
    if not calendar.is_session(day):
        before, after = calendar.nearest(day)
        raise SettingsError(
            f"{day:%A} {day} is no session of the exchange",
            hint=f"the nearest sessions are {before} and {after}",
        )
    if now < calendar.open(day):
        last = calendar.nearest(calendar.local_date(now))[0]
        raise SettingsError(f"{day} has not begun yet", hint=f"the last session before now is {last}")
    return day


def session_today(desk: Desk) -> date:
    """Today's session. Raises SettingsError on a day that has none."""
    today = desk.calendar.local_date(desk.clock.now())
    if not desk.calendar.is_session(today):
        raise SettingsError(
            f"{today:%A} {today} is no session, so there is nothing to act on",
            hint=f"the next session is {desk.calendar.nearest(today)[1]}",
        )
    return today


def last_closed(calendar: Calendar, now: datetime) -> date:
    """The last session whose close is past."""
    today = calendar.local_date(now)
    if calendar.is_session(today) and now >= calendar.close(today):
        return today
    return calendar.nearest(today)[0]


def no_session(desk: Desk, day: date) -> Outcome:
    """What a run on a day without a session comes out as: nothing to decide, nothing recorded."""
    after = desk.calendar.nearest(day)[1]
    reason = f"{day:%A} {day} is no session; the next is {after:%A} {after}"
    return _without_rules(desk, day, Gate.NOT_A_SESSION, reason)


def _without_rules(desk: Desk, day: date, gate: Gate, reason: str) -> Outcome:
    """What there is to say of a day on which no rule was asked."""
    evidence = Evidence(
        session=day,
        as_of=desk.wall_clock.now(),
        indicators=Indicators(),
        position=position_of(desk.store, desk.ledger()),
        funds=Funds(sizing_equity=nan, cash=nan, settled_cash=nan, last_final_equity=nan),
        window=Window.SHUT,
    )
    decision = Decision(
        action=Action.HOLD,
        entry_rules=dict.fromkeys(EntryRule),
        blocked_by=gate,
        reason=reason,
    )
    outcome = as_dry_run(evidence, decision, desk.parameters, desk.book, source=desk.prices.name)
    return outcome.with_document(dry_run=False)
