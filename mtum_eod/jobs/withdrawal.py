"""Taking an order back. The owner's act is durable first: whoever is about to send, or has just sent, looks for it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from mtum_eod.core import timing
from mtum_eod.core.events import Event
from mtum_eod.core.evidence import Window
from mtum_eod.core.trading import Act, Order, OrderStatus, OwnerAct
from mtum_eod.jobs.desk import TradingDesk
from mtum_eod.jobs.recover import acknowledge
from mtum_eod.ports import BookReader, Known, Notice

ON_THE_ORDER = (Act.APPROVE, Act.CANCEL, Act.FLATTEN)
"""What an owner can say of a session's order; the last word counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawn:
    """What came of taking an order back."""

    words: str
    is_done: bool  # False where it may still be executed


def withdrawal_of(store: BookReader, session: date) -> OwnerAct | None:
    """The act that took the session's order back, sent or not; None where the owner's last word is another."""
    said = [act for act in store.acts(session) if act.act in ON_THE_ORDER]
    return said[-1] if said and said[-1].act is Act.CANCEL else None


def withdraw(desk: TradingDesk, order: Order) -> Withdrawn:
    """Ask the broker to withdraw an open order, before the hard stop only, and write down its answer.

    Past the hard stop the broker is not asked: it might take the cancellation for the next session's order. An order
    that may still be executed although it was to be withdrawn is told.
    """
    intent = order.intent
    times = desk.timetable(intent.session)
    if timing.window(desk.clock.now(), times) not in (Window.EARLY, Window.OPEN):
        return Withdrawn(words=f"too late to withdraw {intent.reference}: past the hard stop", is_done=False)
    desk.broker.finish_by(times.hard_stop_at)
    answer = desk.broker.cancel(intent.reference)
    if isinstance(answer, Known):
        acknowledge(desk, answer.value)
        if answer.value.status is OrderStatus.CANCELLED:
            return Withdrawn(words=f"withdrawn: {intent.reference}", is_done=True)
        words = f"{intent.reference} is {answer.value.status}"
    else:
        words = f"{intent.reference} could not be withdrawn: {answer.why}"
    said = f"{words}; it may be executed at the close"
    desk.notifier.tell(Notice(event=Event.RUN_FAILED, words=said, is_urgent=True))
    return Withdrawn(words=words, is_done=False)
