"""The step that can spend money: gather, decide, record, send. The intent is durable before the order leaves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date

from mtum_eod.core import parameters, snapshot, words
from mtum_eod.core.decision import decide
from mtum_eod.core.events import Event, in_kind
from mtum_eod.core.evidence import Decision, Evidence, Gate, Window
from mtum_eod.core.market import Finding, FindingKind
from mtum_eod.core.trading import (
    Action,
    Halt,
    OrderIntent,
    OrderKind,
    OrderType,
    SessionStatus,
    Side,
    order_reference,
)
from mtum_eod.errors import BrokerUnavailable, MarketDataError
from mtum_eod.jobs.approval import approved_shares, ask
from mtum_eod.jobs.desk import Desk, TradingDesk
from mtum_eod.jobs.gather import Gathered, gather
from mtum_eod.jobs.market import from_store, too_old
from mtum_eod.jobs.order import adopt_forgotten, send
from mtum_eod.jobs.outcome import Outcome
from mtum_eod.jobs.replay import as_dry_run, inputs_of
from mtum_eod.jobs.splits import as_after_split, follow_split
from mtum_eod.ports import Answer, Notice, Recording, SessionRow, Unknown

HELD_UP = (Gate.OUTSIDE_WINDOW, Gate.ORDER_UNKNOWN, Gate.RECONCILE_MISMATCH)
"""What keeps an exit from going out though nobody asked for that."""

TOLD = 5
"""So many warnings are told in one message; all of them stand with the snapshot."""

MAY_HEAL = (Gate.DATA, Gate.RECONCILE_MISMATCH, Gate.ORDER_UNKNOWN)
"""What keeps an exit from going out, but perhaps no longer at the next run of the session."""


def preview(desk: Desk, session: date) -> Outcome:
    """What `decide_session` would say now; nothing is written or sent."""
    gathered = gather(desk, session)
    evidence = gathered.evidence
    if gathered.split:
        evidence = as_after_split(desk, evidence, gathered.split)
    evidence, decision = _decided(desk, evidence)
    return as_dry_run(evidence, decision, desk.parameters, desk.book, source=desk.prices.name)


def decide_session(desk: TradingDesk, session: date, run_id: int) -> Outcome:
    """Decide the session once, record it, and send its order if it has one.

    A session already decided answers with its record. A decision that could not be made (data missing, too early)
    is not recorded as one: the next run tries again until the hard stop.
    Raises MarketDataError, BrokerUnavailable, OrderStateUnknown, StoreError; whatever happens, at most one order of
    the session ever leaves.
    """
    had = adopt_forgotten(desk, session)
    weighed = _weighed_on_fresh_prices(desk, session, had)
    gathered, evidence, decision = weighed.gathered, weighed.evidence, weighed.decision
    intent, unsent = weighed.intent, weighed.unsent
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
    before = [row.why for row in desk.store.ledger(session, session)]
    is_decided = unsent is None and is_final(outcome)
    is_still_waiting = not is_decided and in_kind(decision.reason) in map(in_kind, before)
    with desk.store.transaction():  # what was decided is durable only together with the word about it
        _record(desk, gathered, outcome, intent, run_id, is_decided=is_decided)
        # A wait is repeated every minute, the owner hears of it once; what has come up meanwhile is no wait.
        is_news = decision.reason not in before
        if evidence.window is not Window.EARLY:
            _tell_of_the_book(desk, outcome, is_news=is_news)
        if is_news:
            _tell(desk, outcome, is_still_waiting=is_still_waiting)
    if unsent:
        raise unsent
    if intent is None:
        return outcome
    stopped = send(desk, intent, decision.reason)
    if stopped:
        outcome = outcome.with_document(blocked_by=str(stopped.gate))
    return outcome.with_order(desk.store.order(session))


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """What was decided, on what, and the order that it asks for."""

    gathered: Gathered
    evidence: Evidence
    decision: Decision
    intent: OrderIntent | None = None
    unsent: BrokerUnavailable | None = None  # why the order that was decided could not be made


def _weighed_on_fresh_prices(desk: TradingDesk, session: date, had: Answer[None]) -> Weighed:
    """The decision, an entry on prices that are fresh when its order is made.

    Gathering, and asking the broker, take their time: a price young enough at their start may be too old at their end.
    Then all is asked once more; where it takes as long again, the price blocks the entry, and the next run tries.
    """
    weighed = _weigh(desk, session, had)
    if not _entry_has_aged(desk, weighed):
        return weighed
    weighed = _weigh(desk, session, had)
    if not (aged := _entry_has_aged(desk, weighed)):
        return weighed
    evidence = replace(weighed.evidence, findings=(*weighed.evidence.findings, *aged))
    return Weighed(gathered=weighed.gathered, evidence=evidence, decision=decide(evidence, desk.parameters))


def _entry_has_aged(desk: Desk, weighed: Weighed) -> tuple[Finding, ...]:
    """What an entry that is about to go out was decided on, and is too old by now."""
    if weighed.intent is None or weighed.intent.side is Side.SELL:
        return ()
    return too_old(weighed.gathered.reading.bars, desk.wall_clock.now())


def _weigh(desk: TradingDesk, session: date, had: Answer[None]) -> Weighed:
    gathered = _gather(desk, session)
    evidence = replace(gathered.evidence, approved_shares=approved_shares(desk, session))
    evidence, decision = _decided(desk, evidence)
    try:
        intent = _intent(desk, evidence, decision, had)
    except BrokerUnavailable as error:
        # What was decided is kept, an exit stays due; only then is the failure told.
        decision = replace(decision, shares=0, reason=f"{decision.reason}. Not sent: {error.message}")
        return Weighed(gathered=gathered, evidence=evidence, decision=decision, unsent=error)
    return Weighed(gathered=gathered, evidence=evidence, decision=decision, intent=intent)


def _gather(desk: TradingDesk, session: date) -> Gathered:
    """What the decision depends on, on the scale that the book has after following a split.

    A split that cannot be followed, because the long history it takes does not come, keeps no exit from going out on
    the price that is there, with all the shares that it made. The book follows as it learns of their sale.
    """
    gathered = gather(desk, session)
    if gathered.split is None:
        return gathered
    try:
        follow_split(desk, gathered.split)
    except MarketDataError as error:
        after = as_after_split(desk, gathered.evidence, gathered.split)
        findings = tuple(
            replace(found, words=f"{found.words}; it could not be followed: {error.message}", is_fatal=True)
            if found.kind is FindingKind.RATIO
            else found
            for found in after.findings
        )
        return replace(gathered, evidence=replace(after, findings=findings))
    return gather(desk, session)


def _decided(desk: Desk, evidence: Evidence) -> tuple[Evidence, Decision]:
    """The evidence and the decision on it, what the contract's details at the broker have against an entry included.

    They are asked for only where an entry would go out else.
    """
    decision = decide(evidence, desk.parameters)
    if decision.action is not Action.BUY or decision.blocked_by not in (None, Gate.AWAITING_APPROVAL):
        return evidence, decision
    doubts = [
        Finding(
            kind=FindingKind.CONTRACT,
            symbol=desk.book.symbol,
            session=evidence.session,
            words=f"{check.name}: {check.words}",
            is_fatal=True,
        )
        for check in desk.broker.contract(evidence.session)
        if not check.passed
    ]
    if doubts:
        evidence = replace(evidence, findings=(*evidence.findings, *doubts))
        decision = decide(evidence, desk.parameters)
    return evidence, decision


def is_final(outcome: Outcome) -> bool:
    """Whether this decision stands as the session's own, or a later run of the session may still make one."""
    evidence, decision = outcome.evidence, outcome.decision
    if decision.action is Action.SELL:
        return decision.blocked_by not in MAY_HEAL
    if decision.blocked_by in (Gate.DATA, Gate.AWAITING_APPROVAL):
        return False
    return not (evidence.position is None and evidence.fatal_findings)


def _is_scale_in_doubt(evidence: Evidence) -> bool:
    """Whether closes stood in one ratio to the stored ones: a split, or something that looks like one."""
    return any(finding.kind is FindingKind.RATIO for finding in evidence.findings)


def _intent(desk: TradingDesk, evidence: Evidence, decision: Decision, had: Answer[None]) -> OrderIntent | None:
    """The order that the decision asks for. Raises BrokerUnavailable where the session may have had one already."""
    if decision.shares == 0:
        return None
    if isinstance(had, Unknown):
        raise BrokerUnavailable(had.why, hint="the next run asks again; `mtum-eod doctor` looks at the chain")
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
        is_beside_mismatch=bool(evidence.mismatch) or _is_scale_in_doubt(evidence),
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
    prices = gathered.reading.bars[0]
    is_in_doubt = _is_scale_in_doubt(outcome.evidence)
    before = desk.store.bars(prices.symbol, prices.first, prices.last).finals if kept and is_in_doubt else None
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
    if before is not None:
        # The decision replays on what it saw; but the newest bars stay on the book's scale, so that the next look
        # finds the ratio again, and follows the split once the broker's shares bear it out. Written back as final is
        # what was final: a price of the day before's decision would look like a revision, and hide the ratio in time.
        desk.store.add_bars([from_store(prices.symbol, before, prices.as_of)])


def _tell(desk: TradingDesk, outcome: Outcome, *, is_still_waiting: bool) -> None:
    """What the owner hears of a decision besides its order.

    is_still_waiting: only the numbers have changed since the last look; no second summary is made of them.
    """
    evidence, decision = outcome.evidence, outcome.decision
    if evidence.window is Window.EARLY:
        return
    if decision.shares_awaiting:
        ask(desk, outcome)
        return
    if decision.blocked_by is Gate.DATA:
        more = len(decision.warnings) - TOLD
        warnings = [*decision.warnings[:TOLD], f"and {more} more"] if more > 0 else decision.warnings
        why = f"{decision.reason}. {'; '.join(warnings)}"
        if evidence.position:
            tell_unattended(desk, f"{evidence.session}: {why}")
        else:
            said = f"{evidence.session} is not decided: {why}"
            desk.notifier.tell(Notice(event=Event.RUN_FAILED, words=said, is_urgent=True))
    if decision.blocked_by is Gate.DATA or is_still_waiting:
        return
    if decision.action is Action.SELL and decision.blocked_by in HELD_UP:
        tell_unattended(desk, f"{evidence.session}: {summary(desk, outcome)}")
    else:
        desk.notifier.tell(Notice(event=Event.DAILY_SUMMARY, words=summary(desk, outcome)))


def _tell_of_the_book(desk: TradingDesk, outcome: Outcome, *, is_news: bool) -> None:
    """Latch a day's loss, and tell of it and of what is not as the broker has it, whatever the decision says.

    is_news: whether its reason is; a loss that latches nothing, over history, is told with that alone.
    """
    evidence, decision = outcome.evidence, outcome.decision
    if decision.daily_loss_hit and not evidence.daily_loss_latched and (is_news or desk.latches_losses):
        latch_daily_loss(desk, decision.daily_loss_usd, evidence.session)
    doubts = [finding.words for finding in evidence.findings if finding.kind is FindingKind.RATIO]
    if evidence.mismatch or doubts:
        said = "; ".join(filter(None, [*doubts, evidence.mismatch]))
        desk.tell_once(Notice(event=Event.MISMATCH, words=said, is_urgent=True), evidence.session)


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
        return f"{head}, blocked by {decision.blocked_by}: {decision.reason}"
    if decision.action is not Action.HOLD and not decision.shares:
        return f"{head}, not sent: {decision.reason}"
    return f"{head}: {words.distances(evidence.indicators, position, desk.parameters.strategy)}"
