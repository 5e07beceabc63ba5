"""Hands on the wheel: stop, let go, and tell of money that moved. These need no market and wait for no run."""

from __future__ import annotations

from datetime import date
from typing import Any

from mtum_eod.core import timing
from mtum_eod.core.events import Event
from mtum_eod.core.evidence import Window
from mtum_eod.core.trading import CashFlow, CashKind, Halt, Order, OrderStatus
from mtum_eod.errors import SettingsError
from mtum_eod.jobs.desk import TradingDesk
from mtum_eod.jobs.recover import acknowledge
from mtum_eod.ports import Known, Notice


def halt(desk: TradingDesk, *, why: str, by: str, allow_exits: bool, cancel: bool) -> list[str]:
    """Stand still until resumed, durable before anything else is asked; tells of orders already working."""
    now = desk.wall_clock.now()
    desk.store.halt(Halt(halted_at=now, why=why, by=by, allow_exits=allow_exits))
    said = ["halted: no entries, exits pass" if allow_exits else "halted: no orders at all"]
    for order in desk.store.open_orders():
        said.append(_withdraw(desk, order) if cancel else f"still working: {order.intent.reference} ({order.status})")
    desk.notifier.tell(Notice(event=Event.HALT, words=f"Halted by {by}: {why}. {'; '.join(said)}"))
    return said


def _withdraw(desk: TradingDesk, order: Order) -> str:
    intent = order.intent
    if timing.window(desk.clock.now(), desk.timetable(intent.session)) not in (Window.EARLY, Window.OPEN):
        return f"too late to withdraw {intent.reference}: past the hard stop"
    answer = desk.broker.cancel(intent.reference)
    if not isinstance(answer, Known):
        return f"{intent.reference} could not be withdrawn: {answer.why}"
    acknowledge(desk, answer.value)
    done = answer.value.status is OrderStatus.CANCELLED
    return f"withdrawn: {intent.reference}" if done else f"{intent.reference} is {answer.value.status}"


def add_cash(desk: TradingDesk, kind: str, amount: float, day: date | None, note: str) -> dict[str, Any]:
    """Record money that moved; returns what the book can be sized on now.

    Raises SettingsError for a book that does not exist yet: its capital is a setting until it trades.
    """
    if desk.store.book() is None:
        raise SettingsError(
            "there is no book yet that money could go to",
            hint="until the first run `capital` in settings.toml is the money to start with",
        )
    now = desk.wall_clock.now()
    today = desk.calendar.local_date(now)
    session = day or today
    if session > today:
        raise SettingsError(f"{session} lies in the future, today is {today}", hint="add money once it has moved")
    flow = CashFlow(kind=CashKind(kind), amount_usd=amount, session=session, note=note)
    if flow.kind.sign * amount + desk.ledger().cash < 0:
        raise SettingsError(
            f"{amount:,.2f} USD is more than the {desk.ledger().cash:,.2f} USD in cash", hint="sell first, or less"
        )
    desk.store.add_cash_flow(flow, now)
    after = desk.ledger()
    return {"kind": kind, "amount": amount, "sizing_equity": after.sizing_equity, "cash": after.cash}
