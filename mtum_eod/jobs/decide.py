"""The step that can spend money: gather, decide, record, submit. The intent is durable before the order leaves."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from functools import partial

from mtum_eod.core import parameters, snapshot, timing, words
from mtum_eod.core.decision import decide
from mtum_eod.core.events import Event
from mtum_eod.core.evidence import Decision, Evidence, Gate, Window
from mtum_eod.core.gates import WINDOW_WORDS, Blocked
from mtum_eod.core.market import FindingKind
from mtum_eod.core.trading import (
    Action,
    Halt,
    OrderIntent,
    OrderKind,
    OrderStatus,
    OrderType,
    SessionStatus,
    Side,
    order_reference,
)
from mtum_eod.errors import BrokerUnavailable
from mtum_eod.jobs.approval import approved_shares, ask
from mtum_eod.jobs.desk import Desk, TradingDesk
from mtum_eod.jobs.gather import Gathered, gather
from mtum_eod.jobs.outcome import Outcome
from mtum_eod.jobs.recover import LOOK, acknowledge, recover
from mtum_eod.jobs.replay import inputs_of, outcome_of
from mtum_eod.jobs.splits import as_after_split, follow_split
from mtum_eod.jobs.withdrawal import withdraw, withdrawal_of
from mtum_eod.ports import BrokerOrder, Notice, Recording, SessionRow, Unknown

MAY_HEAL = (Gate.DATA, Gate.RECONCILE_MISMATCH, Gate.ORDER_UNKNOWN)
"""What keeps an exit from going out, but perhaps no longer at the next run of the session."""

FAILED_ORDERS = {
    OrderStatus.REJECTED: Event.ORDER_REJECTED,
    OrderStatus.CANCELLED: Event.ORDER_REJECTED,
    OrderStatus.NOT_SENT: Event.RUN_FAILED,
    OrderStatus.UNKNOWN: Event.RUN_FAILED,
}
"""Ends of an order that nobody asked for, and the occasion they are told on."""


def preview(desk: Desk, session: date) -> Outcome:
    """What `decide_session` would say now; nothing is written or sent."""
    gathered = gather(desk, session)
    evidence = gathered.evidence
    if gathered.split:
        evidence = as_after_split(desk, evidence, gathered.split)
    return outcome_of(evidence, desk.parameters, desk.book, source=desk.prices.name)


def decide_session(desk: TradingDesk, session: date, run_id: int) -> Outcome:
    """Decide the session once, record it, and send its order if it has one.

    A session already decided answers with its record. A decision that could not be made (data missing, too early)
    is not recorded as one: the next run tries again until the hard stop.
    Raises MarketDataError, BrokerUnavailable, OrderStateUnknown, StoreError; whatever happens, at most one order of
    the session ever leaves.
    """
    gathered = gather(desk, session)
    if gathered.split:
        follow_split(desk, gathered.split)
        gathered = gather(desk, session)
    evidence = replace(gathered.evidence, approved_shares=approved_shares(desk, session))
    decision = decide(evidence, desk.parameters)
    try:
        intent, unsent = _intent(desk, evidence, decision), None
    except BrokerUnavailable as error:
        # What was decided is kept, an exit stays due; only then is the failure told.
        decision = replace(decision, shares=0, reason=f"{decision.reason}. Not sent: {error.message}")
        intent, unsent = None, error
    document = snapshot.document(
        evidence,
        decision,
        desk.parameters,
        mode=desk.book.mode,
        source=desk.prices.name,
        is_synthetic=desk.book.is_synthetic,
        is_dry_run=False,
        intent=intent,
    )
    outcome = Outcome(
        symbol=desk.book.symbol, document=document, evidence=evidence, decision=decision, parameters=desk.parameters
    )
    is_news = all(row.why != decision.reason for row in desk.store.ledger(session, session))
    with desk.store.transaction():  # what was decided is durable only together with the word about it
        _record(desk, gathered, outcome, intent, run_id, is_decided=unsent is None and is_final(outcome))
        if is_news:  # a wait is repeated every minute, the owner hears of it once
            _tell(desk, outcome)
    if unsent:
        raise unsent
    if intent is None:
        return outcome
    stopped = send(desk, intent)
    if stopped:
        outcome = outcome.with_document(blocked_by=str(stopped.gate))
    tell_order(desk, intent, decision.reason)
    return _with_order(desk, outcome)


def send(desk: TradingDesk, intent: OrderIntent, *, is_last_try: bool = False) -> Blocked | None:
    """Send a committed intent and write down what the broker said; returns what came up against it meanwhile.

    Before the first try the broker is asked whether it has had this session's order already: a book brought back from
    a backup would not know. Where no acknowledgement came it is asked again. Surely absent, the order goes out once
    more under its own id if there is time; what stays unknown is recorded so.
    Raises BrokerUnavailable where the broker's list does not come; the intent waits for the next run, which asks again.
    """
    had = None if is_last_try else _had_already(desk, intent)
    if had is not None:
        return _adopt(desk, intent, had)
    stopped = last_look(desk, intent)  # only now: deciding, or asking the broker, takes its time
    if stopped:
        desk.store.update_order(intent.reference, OrderStatus.NOT_SENT, desk.wall_clock.now(), words=stopped.why)
        return stopped
    try:
        acknowledged = desk.broker.submit(intent)
    except BrokerUnavailable:
        recover(desk, intent, resend=None if is_last_try else partial(send_again, desk))
    else:
        acknowledge(desk, acknowledged)
    order = desk.store.order(intent.session)
    if order and order.status.is_open and withdrawal_of(desk.store, intent.session):
        withdraw(desk, order)  # the owner's word came while the order was on its way
    return None


def _had_already(desk: Desk, intent: OrderIntent) -> BrokerOrder | None:
    """The order of the intent's session, of either side, that the broker's list names; None where it names none.

    Raises BrokerUnavailable where the list does not come: it may hold the order that a second one would double.
    """
    orders, book = desk.broker.orders(), desk.book
    if isinstance(orders, Unknown):
        raise BrokerUnavailable(
            f"whether the broker has had an order of {intent.session} is not known ({orders.why}); nothing was sent",
            hint="the next run asks again; `mtum-eod doctor` looks at the chain",
        )
    keys = [order_reference(book.mode, book.account, book.symbol, intent.session, side) for side in Side]
    return next((order for order in orders.value if order.reference in keys), None)


def _adopt(desk: TradingDesk, intent: OrderIntent, had: BrokerOrder) -> Blocked | None:
    """Take the order at the broker for the intent's; beside one of the other side the intent is never sent."""
    if had.reference == intent.reference:
        acknowledge(desk, had)
        return None
    why = f"the broker has had {had.reference} in this session"
    desk.store.update_order(intent.reference, OrderStatus.NOT_SENT, desk.wall_clock.now(), words=why)
    return Blocked(gate=Gate.ALREADY_DECIDED, why=why)


def send_again(desk: TradingDesk, intent: OrderIntent) -> None:
    """Send an intent that is surely absent at the broker, for the last time: under its own id, or a new one.

    The same id lets the broker refuse a second order, should the first try be on the wire still. Ids that it has begun
    to give out anew since then protect from nothing and may go to other orders: there the next one is committed first.
    Ids begun anew before then protect all the same. Raises BrokerUnavailable where the broker gives none.
    """
    next_id = desk.broker.next_order_id()
    if next_id < intent.order_id:
        intent = replace(intent, order_id=next_id)
        words = "the broker gives its order ids anew"
        desk.store.update_order(
            intent.reference, OrderStatus.INTENT, desk.wall_clock.now(), order_id=next_id, words=words
        )
    send(desk, intent, is_last_try=True)


def is_final(outcome: Outcome) -> bool:
    """Whether this decision stands as the session's own, or a later run of the session may still make one."""
    evidence, decision = outcome.evidence, outcome.decision
    if decision.action is Action.SELL:
        return decision.blocked_by not in MAY_HEAL
    if decision.blocked_by in (Gate.DATA, Gate.AWAITING_APPROVAL):
        return False
    return not (evidence.position is None and evidence.fatal_findings)


def _intent(desk: TradingDesk, evidence: Evidence, decision: Decision) -> OrderIntent | None:
    if decision.shares == 0:
        return None
    side = Side(decision.action)
    book = desk.book
    return OrderIntent(
        reference=order_reference(book.mode, book.account, book.symbol, evidence.session, side),
        session=evidence.session,
        kind=OrderKind.LATE_EXIT if decision.is_late_exit else OrderKind.DECISION,
        side=side,
        order_type=OrderType.MKT if decision.is_late_exit else desk.parameters.order_type,
        shares=decision.shares,
        order_id=desk.broker.next_order_id(),
        decision_price_usd=evidence.indicators.close,
    )


def _record(
    desk: TradingDesk,
    gathered: Gathered,
    outcome: Outcome,
    intent: OrderIntent | None,
    run_id: int,
    *,
    is_decided: bool,
) -> None:
    if outcome.evidence.window is Window.EARLY:
        return
    status = SessionStatus.DECIDED if is_decided else SessionStatus.SKIPPED
    # An exit once decided stays due, also where nothing could be sent; a question is answered by what it was about.
    kept = is_decided or outcome.decision.action is Action.SELL or outcome.decision.shares_awaiting > 0
    desk.store.record(
        Recording(
            run_id=run_id,
            book=desk.book,
            row=SessionRow(session=outcome.evidence.session, status=status, why=outcome.decision.reason),
            # Bars of a session left undecided are not kept: a ratio to the stored ones, say, must stand out again.
            bars=gathered.reading.bars if kept else (),
            signal=outcome.document if kept else None,
            settings=parameters.document(desk.parameters),
            inputs=inputs_of(outcome.evidence, gathered.reading),
            intent=intent,
            recorded_at=desk.wall_clock.now(),
        )
    )


def last_look(desk: Desk, intent: OrderIntent) -> Blocked | None:
    """What has come up against a committed order while this run was at work: a halt, the owner's word, or the clock.

    A sale by the owner's own hand passes every halt, and need not wait for the decision time.
    """
    is_by_hand = intent.kind is OrderKind.FLATTEN
    for halt in desk.store.halts():
        if intent.side is Side.BUY or not (is_by_hand or halt.is_daily_loss or halt.allow_exits):
            return Blocked(gate=Gate.HALTED, why=halt.why)
    withdrawal = withdrawal_of(desk.store, intent.session)
    if withdrawal:
        return Blocked(gate=Gate.HALTED, why=f"withdrawn by {withdrawal.by}")
    window = timing.window(desk.clock.now(), desk.timetable(intent.session))
    in_time = window is Window.OPEN or (window is Window.LATE and intent.order_type is OrderType.MKT)
    in_time = in_time or (window is Window.EARLY and is_by_hand)
    return None if in_time else Blocked(gate=Gate.OUTSIDE_WINDOW, why=WINDOW_WORDS[window])


def _with_order(desk: TradingDesk, outcome: Outcome) -> Outcome:
    order = desk.store.order(outcome.evidence.session)
    return replace(outcome, document=snapshot.with_order(outcome.document, order))


def tell_order(desk: TradingDesk, intent: OrderIntent, reason: str) -> None:
    """What the owner hears of an order that was to go out: that it did, or why it did not."""
    order = desk.store.order(intent.session)
    status = order.status if order else OrderStatus.INTENT
    said = f"{intent.side} {intent.shares} {desk.book.symbol} {intent.order_type} for {intent.session}: {status}"
    event = FAILED_ORDERS.get(status)
    words_of_broker = f" ({order.words})" if order and order.words else ""
    if status in (OrderStatus.CANCELLED, OrderStatus.NOT_SENT) and withdrawal_of(desk.store, intent.session):
        desk.notifier.tell(Notice(event=Event.HALT, words=f"Order {said}{words_of_broker}, as you asked"))
    elif event:
        cure = f". {LOOK.format(session=intent.session)}" if status is OrderStatus.UNKNOWN else ""
        desk.notifier.tell(Notice(event=event, words=f"Order {said}{words_of_broker}{cure}", is_urgent=True))
    else:
        desk.notifier.tell(Notice(event=Event.ORDER_SENT, words=f"{said}. {reason}"))


def _tell(desk: TradingDesk, outcome: Outcome) -> None:
    """What the owner hears of a decision besides its order."""
    evidence, decision = outcome.evidence, outcome.decision
    if evidence.window is Window.EARLY:
        return
    if decision.shares_awaiting:
        ask(desk, outcome)
        return
    if decision.blocked_by is Gate.DATA:
        why = f"{decision.reason}. {'; '.join(decision.warnings)}"
        if evidence.position:
            tell_unattended(desk, f"{evidence.session}: {why}")
        else:
            said = f"{evidence.session} is not decided: {why}"
            desk.notifier.tell(Notice(event=Event.RUN_FAILED, words=said, is_urgent=True))
    if decision.daily_loss_hit and not evidence.daily_loss_latched:
        latch_daily_loss(desk, decision.daily_loss_usd, evidence.session)
    doubts = [finding.words for finding in evidence.findings if finding.kind is FindingKind.RATIO]
    if evidence.mismatch or doubts:
        said = "; ".join(filter(None, [*doubts, evidence.mismatch]))
        desk.notifier.tell(Notice(event=Event.MISMATCH, words=said, is_urgent=True))
    if decision.blocked_by is not Gate.DATA:
        desk.notifier.tell(Notice(event=Event.DAILY_SUMMARY, words=summary(desk, outcome)))


def tell_unattended(desk: TradingDesk, why: str) -> None:
    """A position that nobody watches today: the owner looks at once."""
    desk.notifier.tell(Notice(event=Event.POSITION_UNATTENDED, words=f"{desk.book.symbol} {why}", is_urgent=True))


def latch_daily_loss(desk: TradingDesk, loss_usd: float, session: date) -> None:
    """Block entries from now on, until the owner resumes, and tell."""
    limit = desk.parameters.risk.max_daily_loss
    why = f"equity fell {loss_usd:.2f} USD in the session {session}, the limit is {limit:g}"
    now = desk.wall_clock.now()
    if desk.latches_losses:
        desk.store.halt(Halt(halted_at=now, why=why, by="mtum-eod", allow_exits=True, is_daily_loss=True))
    desk.notifier.tell(
        Notice(event=Event.DAILY_LOSS, words=f"{why}; entries wait for `mtum-eod resume`", is_urgent=True)
    )


def summary(desk: TradingDesk, outcome: Outcome) -> str:
    """The day in one line: 'HOLD 19 MTUM: 3.1 % above MA50, 4.2 % below target, VIX 17.9'."""
    evidence, decision = outcome.evidence, outcome.decision
    position = evidence.position
    shares = decision.shares or (position.shares if position else 0)
    head = f"{decision.action} {shares} {desk.book.symbol}" if shares else f"{decision.action} (flat)"
    if decision.blocked_by:
        head += f", blocked by {decision.blocked_by}"
    return f"{head}: {words.distances(evidence.indicators, position, desk.parameters.strategy)}"
