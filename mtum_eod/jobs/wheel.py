"""Hands on the wheel: stop, answer, take back, sell, and tell of money that moved.

What the owner wants is durable before the broker is asked, so that a run under way, or the next one, heeds it even
where this command never gets an answer.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import date
from typing import Any

from mtum_eod.core import timing
from mtum_eod.core.events import Event
from mtum_eod.core.evidence import Window
from mtum_eod.core.trading import (
    Act,
    Action,
    CashFlow,
    CashKind,
    Halt,
    Order,
    OwnerAct,
    Side,
    Step,
)
from mtum_eod.core.words import wall
from mtum_eod.errors import AlreadyRunning, BrokerUnavailable, SettingsError
from mtum_eod.jobs.approval import close_lapsed, decline, open_question, question
from mtum_eod.jobs.collect import collect
from mtum_eod.jobs.desk import Desk, TradingDesk
from mtum_eod.jobs.filing import filed, refuse_wrong_clock
from mtum_eod.jobs.order import (
    UNTOLD,
    Withdrawn,
    forgotten,
    is_given_up,
    take_up,
    urgent,
    withdraw,
    withdrawal_of,
)
from mtum_eod.jobs.outcome import Handled, Outcome
from mtum_eod.jobs.session import decide_step, file_missed, session_today, standing
from mtum_eod.jobs.settle import marked_again
from mtum_eod.ports import Notice, Unknown

Turn = Callable[[], AbstractContextManager[None]]
"""Waits for what is best held to speak with the broker: the lock where runs share one connection, else nothing."""


# -- stopping ---------------------------------------------------------------------------------------------------------


def halt(desk: TradingDesk, *, why: str, by: str, allow_exits: bool, cancel: bool, turn: Turn) -> Handled:
    """Stand still until resumed, durable before anything else is asked; tells of orders already working.

    cancel: withdraw those, too; exit code 5 where one may still be executed.
    """
    now, day = desk.wall_clock.now(), desk.calendar.local_date(desk.clock.now())

    def taking_back(session: date) -> OwnerAct:
        return OwnerAct(act=Act.CANCEL, session=session, at=now, by=by, words=why)

    with desk.store.transaction():
        working = desk.store.open_orders()  # in here: a run that commits one later heeds the halt
        today = desk.store.order(day)
        to_withdraw = [*working, *([today] if today and is_given_up(today) else [])] if cancel else []
        desk.store.halt(Halt(halted_at=now, why=why, by=by, allow_exits=allow_exits))
        for order in to_withdraw:
            desk.store.add_act(taking_back(order.intent.session))
    reach = "no entries, exits pass" if allow_exits else "no orders at all"
    said = f"halted: {reach}"
    left = "; ".join(f"{order.intent.reference} is {order.status}" for order in working)
    desk.notifier.tell(Notice(event=Event.HALT, words=f"Halted by {by}, {reach}: {why}{left and '; ' + left}"))
    if not cancel:
        return Handled(words=(said, *(f"still working: {o.intent.reference} ({o.status})" for o in working)))
    taken_back = [_take_back(desk, order, turn) for order in to_withdraw]
    if today is None and desk.calendar.is_session(day):
        taken_back.append(_take_back_forgotten(desk, taking_back(day), day, turn))
    return Handled(
        words=(said, *(word for one in taken_back for word in one.words)),
        exit_code=max((one.exit_code for one in taken_back), default=0),
    )


def resume(desk: TradingDesk, *, why: str, by: str) -> int:
    """Lift every standing halt, the daily-loss latch included; returns how many there were."""
    now = desk.wall_clock.now()
    with desk.store.transaction():
        lifted = desk.store.resume(now, by)
        if lifted:
            desk.store.add_act(OwnerAct(act=Act.RESUME, session=None, at=now, by=by, words=why))
    return lifted


def cancel(desk: TradingDesk, *, why: str, by: str, turn: Turn) -> Handled:
    """Take back the order of today's session, sent or not; an exit so taken back stays due at the next session.

    Exit code 0 where it is withdrawn or there is none to withdraw, 5 where it may still be executed, 6 where a run
    under way kept it from being withdrawn (it withdraws the order itself if it comes to it).
    Raises SettingsError on a day without a session.
    """
    session = session_today(desk)
    act = OwnerAct(act=Act.CANCEL, session=session, at=desk.wall_clock.now(), by=by, words=why)
    is_shut = timing.window(desk.clock.now(), desk.timetable(session)) is Window.SHUT
    with desk.store.transaction():  # a run that commits an order later heeds the act
        order = desk.store.order(session)
        if order and not _may_be_out(order):
            return Handled(words=(f"nothing to withdraw: {order.intent.reference} is {order.status}",), order=order)
        if order or not is_shut:
            desk.store.add_act(act)
    if order:
        return _take_back(desk, order, turn)
    none_sent = f"no order yet; what {session} may still decide is not sent"
    none_left = f"nothing to withdraw: {session} has no order, and none can be sent any more"
    return _take_back_forgotten(desk, act, session, turn, none_left if is_shut else none_sent)


def _take_back(desk: TradingDesk, order: Order, turn: Turn) -> Handled:
    """Withdraw one order when its run has ended; beside that run, where it does not end."""
    try:
        with turn():  # the run that was waited for may have done it
            return _taken_back(desk, desk.store.order(order.intent.session) or order)
    except AlreadyRunning as error:
        handled, running = _taken_back(desk, order), error.message
    if not handled.exit_code:
        return handled
    words = f"{handled.words[0]}; {running}, and withdraws it if it comes to it"
    return Handled(words=(words,), order=handled.order, exit_code=AlreadyRunning.exit_code)


def _take_back_forgotten(desk: TradingDesk, act: OwnerAct, session: date, turn: Turn, *none: str) -> Handled:
    """Withdraw the session's order that only the broker knows of: a backup has none that was sent after it.

    none: what is to be said where the broker has none. Before the open nobody can have sent one; after the close
    nothing is executed any more, and settlement takes it up.
    """
    if not desk.calendar.open(session) <= desk.clock.now() < desk.calendar.close(session):
        return Handled(words=none)
    try:
        with turn():
            desk.broker.finish_by(desk.calendar.close(session))
            order = desk.store.order(session) or _found(desk.connected(), act, session)
            return _taken_back(desk, order) if order else Handled(words=none)
    except AlreadyRunning as error:
        words = f"{error.message}, and withdraws an order of {session} if it finds one at the broker"
        return Handled(words=(*none, words), exit_code=AlreadyRunning.exit_code)
    except (BrokerUnavailable, SettingsError) as error:  # another account's, or a clock that may be another session's
        return Handled(words=(*none, UNTOLD.format(session=session, why=error.message)), exit_code=5)


def _found(desk: TradingDesk, act: OwnerAct, session: date) -> Order | None:
    """The forgotten order, taken up; the word to withdraw it comes first. Raises BrokerUnavailable if it is untold."""
    had = forgotten(desk, session)
    if isinstance(had, Unknown):
        raise BrokerUnavailable(had.why, hint="try again once the broker answers")
    if had.value is None:
        return None
    with filed(desk, Step.DECIDE, session) as run:
        file_missed(desk, session)
        refuse_wrong_clock(desk)
        if withdrawal_of(desk.store, session) is None:
            desk.store.add_act(act)
        run.outcome = f"cancel: {had.value.reference}"
        return take_up(desk, session, had.value)


def _taken_back(desk: TradingDesk, order: Order) -> Handled:
    """Withdraw what may still be executed of an order."""
    if not _may_be_out(order):
        return Handled(words=(f"{order.intent.reference} is {order.status}",), order=order)
    done = _withdraw(desk, order)
    order = desk.store.order(order.intent.session) or order
    return Handled(words=(done.words,), order=order, exit_code=0 if done.is_done else 5)


def _may_be_out(order: Order) -> bool:
    """Whether it may be at the broker, by what the book knows: one that was given up may have arrived after all."""
    return order.status.is_open or is_given_up(order)


def _withdraw(desk: TradingDesk, order: Order) -> Withdrawn:
    if not is_given_up(order):
        return withdraw(desk, order)
    collected = collect(desk, order)
    order = collected.order or order
    if order.status.is_open:
        return withdraw(desk, order)
    if not collected.silence:
        return Withdrawn(words=f"nothing to withdraw: {order.intent.reference} is {order.status}", is_done=True)
    words = f"{order.intent.reference} {order.words}; whether it did after all is not known: {collected.silence}"
    desk.tell_once(urgent(f"{words}; it may be executed at the close"), order.intent.session)
    return Withdrawn(words=words, is_done=False)


# -- answering --------------------------------------------------------------------------------------------------------


def approve(desk: TradingDesk, *, why: str, by: str) -> Outcome:
    """Say yes to the entry that waits: decided again on fresh prices, sent if it still holds with about those shares.

    Approving what is approved answers with its record. Raises SettingsError where nothing waits for an answer.
    """
    session = session_today(desk)
    asked = question(desk, session)
    if asked is None or desk.clock.now() >= asked.until:
        return _nothing_waits(desk, session)
    said = f"{Side.BUY} {asked.shares} {desk.book.symbol} at about {asked.price_usd:.2f}"
    words = f"{said}. {why}" if why else said
    at = desk.wall_clock.now()
    desk.store.add_act(OwnerAct(act=Act.APPROVE, session=session, at=at, by=by, words=words))
    outcome = decide_step(desk, session)
    if outcome.decision.action is not Action.BUY:
        told = f"You approved {said}; now it is {outcome.decision.action}: {outcome.document['reason']}"
        desk.notifier.tell(Notice(event=Event.APPROVAL, words=told))
    return outcome


def refuse(desk: TradingDesk, *, why: str, by: str) -> Handled:
    """Say no to the entry that waits, for this session. Raises SettingsError where nothing waits for an answer."""
    session = session_today(desk)
    recorded = open_question(desk.store, session)
    if recorded is None or desk.clock.now() >= desk.timetable(session).hard_stop_at:
        last = _last_answer(desk, session)
        if last and last.act is Act.DECLINE:
            return Handled(words=(f"declined already by {last.by}",))
        _nothing_waits(desk, session)
        raise SettingsError(
            f"the entry of {session} was approved before", hint="take its order back with `mtum-eod cancel`"
        )
    with filed(desk, Step.DECIDE, session) as run:
        act = OwnerAct(act=Act.DECLINE, session=session, at=desk.wall_clock.now(), by=by, words=why)
        decline(desk, recorded, act, run.run_id)
        run.outcome = "declined"
    return Handled(words=(f"declined: nothing is bought in the session {session}",))


def _nothing_waits(desk: TradingDesk, session: date) -> Outcome:
    """The record, where the session was approved before. Raises SettingsError with what stands instead."""
    if open_question(desk.store, session):
        with filed(desk, Step.DECIDE, session) as run:
            close_lapsed(desk, run.run_id)
            run.outcome = "lapsed"
    last, row = _last_answer(desk, session), next(iter(desk.store.ledger(session, session)), None)
    record = standing(desk, session)
    if last and last.act is Act.APPROVE and record and desk.store.order(session):
        return replace(record, notes=(f"approved already by {last.by}", *record.notes))
    times = desk.timetable(session)
    if row is None:
        hint = f"it is decided at {wall(times.decide_at, desk.zone)}, and asked then if there is something to buy"
        if desk.clock.now() >= times.hard_stop_at:
            hint = "its hard stop is past, so nothing can be bought in it any more"
        raise SettingsError(f"nothing waits for approval: {session} is not decided yet", hint=hint)
    raise SettingsError(
        f"nothing waits for approval: {session} is {row.status}: {row.why}",
        hint="a question stands from its notice until the hard stop of its own session; the next session asks anew",
    )


def _last_answer(desk: Desk, session: date) -> OwnerAct | None:
    return next((act for act in reversed(desk.store.acts(session)) if act.act in (Act.APPROVE, Act.DECLINE)), None)


# -- money ------------------------------------------------------------------------------------------------------------


def add_cash(desk: TradingDesk, kind: str, amount: float, day: date | None, note: str) -> dict[str, Any]:
    """Record money that moved; returns what the book can be sized on now.

    Raises SettingsError for a book that does not exist yet: its capital is a setting until it trades.
    """
    if not desk.has_begun:
        raise SettingsError(
            "there is no book yet that money could go to",
            hint="until the first run `capital` in settings.toml is the money to start with",
        )
    now = desk.wall_clock.now()
    today = desk.calendar.local_date(now)
    session = day or today
    if session > today:
        raise SettingsError(f"{session} lies in the future, today is {today}", hint="add money once it has moved")
    begun = next((row.session for row in desk.store.ledger()), session)
    if session < begun:
        raise SettingsError(
            f"{session} lies before the book's first session, {begun}",
            hint="what it had then is its capital; give the day on which the money moved",
        )
    flow = CashFlow(kind=CashKind(kind), amount_usd=amount, session=session, note=note)
    if flow.kind.sign * amount + desk.ledger().cash < 0:
        raise SettingsError(
            f"{amount:,.2f} USD is more than the {desk.ledger().cash:,.2f} USD in cash", hint="sell first, or less"
        )
    with desk.store.transaction():  # marks that stood without it would contradict the book
        desk.store.add_cash_flow(flow, now)
        desk.store.settle(session, now, marked_again(desk, session), is_settled=False, drift_actions={})
    after = desk.ledger()
    return {"kind": kind, "amount": amount, "sizing_equity": after.sizing_equity, "cash": after.cash}
