"""What must hold after every event, whatever happened. Each invariant is a function: the world in, complaints out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from math import isclose
from typing import TYPE_CHECKING

from mtum_eod.core.backtest import Tape, backtest
from mtum_eod.core.events import Event, in_kind
from mtum_eod.core.indicators import atr, rsi, sma
from mtum_eod.core.parameters import LateExit, parameters_from
from mtum_eod.core.trading import Act, Fill, OrderIntent, OrderKind, OrderStatus, OrderType, SessionStatus, Side, Step
from mtum_eod.jobs.collect import ESTIMATE
from mtum_eod.jobs.reconcile import BY_OWNER
from simulation.broker import CUT_OFF, Execution, can_be
from simulation.market import WARM_UP, calendar
from simulation.oracle import sizes, worst

if TYPE_CHECKING:
    from simulation.world import World

Invariant = Callable[["World"], Iterator[str]]
CENT = 0.005

PATIENCE = 5
"""Sessions without trouble within which all ends that is open; an owner has said by then what became of an order."""

LAST_CALL = timedelta(minutes=2)
"""How long before the close nothing goes out any more, in whatever haste."""

LAST_TO_DECIDE = timedelta(minutes=20)
"""From so long before the close on a session that is not decided is due to be."""

TIMES_A_DAY = 12
"""How often the owner may hear one thing in a day."""


class Broken(AssertionError):
    """An invariant does not hold."""

    def __init__(self, name: str, words: str) -> None:
        super().__init__(f"{name}: {words}")
        self.name = name
        self.world: World | None = None
        self.session = 0  # counted from the life's first


# -- after every event: what the broker has seen ----------------------------------------------------------------------


def one_order_a_session(world: World) -> Iterator[str]:
    """The broker sees at most one order of a session."""
    arrivals = world.broker.arrivals
    seen = {}
    for at, intent in arrivals[-3:]:
        if intent.session in seen:
            yield f"{seen[intent.session]} and {intent} at {at}"
        seen[intent.session] = intent


def orders_come_in_time(world: World) -> Iterator[str]:
    """No market-on-close order and no entry leaves past the hard stop, none at all near the close or on another day."""
    for at, intent in ((sent.at, sent.intent) for sent in world.broker.sent[-1:]):
        close = calendar().close(intent.session)
        if not calendar().open(intent.session) <= at < close - _cut_off(intent):
            yield f"{intent.reference} {intent.order_type} was sent at {at}, the close is at {close}"


def orders_are_withdrawn_in_time(world: World) -> Iterator[str]:
    """No withdrawal is asked for past the hard stop: the broker might take it for the next session's order."""
    for at, intent in world.broker.cancels[-1:]:
        if at >= calendar().close(intent.session) - _cut_off(intent):
            yield f"{intent.reference} was to be withdrawn at {at}"


def _cut_off(intent: OrderIntent) -> timedelta:
    """How long before the close its hard stop is: the auction's, but for a sale that goes to the market in haste."""
    return CUT_OFF if intent.order_type is OrderType.MOC or intent.side is Side.BUY else LAST_CALL


def never_short(world: World) -> Iterator[str]:
    """No sale is of more than the book holds, and our own executions never add up to less than nothing.

    The latter but where a restored book has forgotten a sale: what the owner has since bought it takes for its own.
    """
    for sent in world.broker.sent[-1:]:
        if sent.intent.side is Side.SELL and sent.intent.shares > sent.booked:
            yield f"{sent.intent.shares} shares to sell at {sent.at}, the book holds {sent.booked}"
    if world.broker.ours < 0 and not world.is_astray:
        yield f"{world.broker.ours} shares"


def never_beyond_the_cap_or_the_cash(world: World) -> Iterator[str]:
    """What an entry may cost at worst is within the cap and the cash it had."""
    for (at, intent), usd in zip(world.broker.arrivals[-1:], world.broker.spendable[-1:], strict=True):
        if intent.side is not Side.BUY or intent.session != world.today or not world.market.is_open(world.today):
            continue
        price = world.market.at_decision(world.market.position[world.today])[2]
        risks = [parameters.risk for parameters in world.settings_today]
        if not any(intent.shares * worst(price, risk) <= min(risk.max_position_size, usd) + CENT for risk in risks):
            yield f"{intent.shares} shares at {price} with {usd:.2f} USD at {at}"


def paid_out_of_the_cash(world: World) -> Iterator[str]:
    """An entry that closed within the buffer was paid for out of the cash that was there for it."""
    broker, risk = world.broker, world.settings_today[0].risk
    for (_, intent), usd in zip(broker.arrivals[-1:], broker.spendable[-1:], strict=True):
        if intent.side is not Side.BUY or intent.session != world.today or len(world.settings_today) > 1:
            continue
        fills = [e.fill for e in broker.executed[-3:] if e.fill.reference == intent.reference]
        price = world.market.at_decision(world.market.position[world.today])[2] if fills else 0.0
        paid = sum(fill.shares * fill.price_usd * (1 + risk.transaction_cost) for fill in fills)
        if paid > usd + CENT and fills[0].price_usd <= price * (1 + risk.price_buffer_pct / 100):
            yield f"{paid:.2f} USD were paid for {intent}, {usd:.2f} were there"


def nothing_while_halted(world: World) -> Iterator[str]:
    """No order leaves while a halt stands against it."""
    for sent in world.broker.sent[-1:]:
        intent, halted = sent.intent, sent.halted
        if intent.kind is OrderKind.FLATTEN:  # the owner's own hand passes every halt
            continue
        if halted == "all" or (halted == "entries" and intent.side is Side.BUY):
            yield f"{intent.reference} was sent at {sent.at} while {halted} were halted"


def nothing_against_the_owners_word(world: World) -> Iterator[str]:
    """No order leaves that the owner has refused or taken back, nor an entry they wanted to be asked about."""
    for sent in world.broker.sent[-1:]:
        intent, word = sent.intent, sent.word
        is_asked = intent.side is Side.BUY and all(p.risk.require_confirmation for p in world.settings_today)
        if intent.session == world.today and (word in ("refuse", "cancel") or (is_asked and word != "approve")):
            yield f"{intent.reference} was sent at {sent.at}, the owner's word was {word or 'none'}"


def nothing_is_sent_blind(world: World) -> Iterator[str]:
    """An order leaves only where the broker has said that it has none of its session; again, only where all is known.

    What it has not said is not empty: one list that did not come may hold the order.
    """
    for sent in world.broker.sent[-1:]:
        names, wanted = sent.said["broker.orders"], list(sent.said.values()) if sent.is_again else []
        if names is None or None in wanted:
            yield f"{sent.intent.reference} was sent at {sent.at} on {sent.said}"
        elif any(order.reference == sent.intent.reference for order in names):
            yield f"{sent.intent.reference} was sent at {sent.at}, the broker had said that it has it"
    yield from world.given_up_blind


def nothing_is_sold_unseen(world: World) -> Iterator[str]:
    """A sale leaves only where the broker has said what it holds, and is never of more than that."""
    for sent in world.broker.sent[-1:]:
        held = sent.said["broker.shares_held"]
        if sent.intent.side is Side.SELL and (held is None or sent.intent.shares > held):
            yield f"{sent.intent.shares} shares to sell at {sent.at}, the broker said {held}"


def ids_are_the_brokers(world: World) -> Iterator[str]:
    """No order leaves under an id that the broker has not given since it began them anew."""
    for sent in world.broker.sent[-1:]:
        if sent.intent.order_id > sent.next_id:
            yield f"{sent.intent.reference} was sent under id {sent.intent.order_id}, the next is {sent.next_id}"


def one_run_at_a_time(world: World) -> Iterator[str]:
    """Two runs never work on one book together."""
    if world.runs_at_once > 1:
        yield f"{world.runs_at_once} runs at once"


# -- after every run: what the book says ------------------------------------------------------------------------------


def every_execution_once(world: World) -> Iterator[str]:
    """What is booked happened, once, at that price and commission."""
    truth = {e.fill.execution_id: e for e in world.broker.executed[-40:]}
    booked = world.book_fills()
    if len({fill.execution_id for fill in booked}) != len(booked):
        yield "an execution is booked twice"
    for fill in booked[-6:]:
        true = truth[fill.execution_id].fill if fill.execution_id in truth else None
        if fill.is_estimated or fill.reference in world.taken_out:
            continue
        if fill.execution_id.endswith(BY_OWNER):
            exact = {other.execution_id for other in booked}
            meant = [e for e in truth.values() if e.fill.reference == fill.reference]
            if not _is_told_rightly(fill, [e for e in meant if e.fill.execution_id not in exact]):
                yield f"the owner booked {fill}, true are {meant}"
            continue
        if true is None or not _is_of(fill, truth[fill.execution_id]):
            yield f"booked {fill}, true is {true}"
        elif fill.commission_usd not in (None, true.commission_usd):
            yield f"commission {fill.commission_usd} of {fill.execution_id}, true is {true.commission_usd}"


def _is_of(fill: Fill, true: Execution) -> bool:
    """Whether a booked execution is that one, on the scale of some day since."""
    scale = fill.shares / true.fill.shares
    return (
        can_be([true], fill.shares)
        and isclose(fill.price_usd * scale, true.fill.price_usd, rel_tol=1e-9)
        and (fill.side, fill.reference) == (true.fill.side, true.fill.reference)
    )


def _is_told_rightly(fill: Fill, true: list[Execution]) -> bool:
    """Whether the owner's one execution stands for those, on the scale of some day since."""
    shares, commission = (sum(getattr(e.fill, name) for e in true) for name in ("shares", "commission_usd"))
    return bool(true) and (
        can_be(true, fill.shares)
        and isclose(fill.price_usd * fill.shares / shares, true[0].fill.price_usd, rel_tol=1e-9)
        and isclose(fill.commission_usd or 0.0, commission)
    )


def a_decision_stands(world: World) -> Iterator[str]:
    """A session once decided keeps its decision."""
    row, recorded = world.row(), world.recorded()
    if recorded and row and row.status is SessionStatus.DECIDED:
        document = {name: recorded.document[name] for name in ("action", "shares", "reason", "as_of")}
        before = world.decided.setdefault(world.today, document)
        if before != document:
            yield f"{world.today}: {before} became {document}"


# -- after every run: what the owner hears ----------------------------------------------------------------------------


def an_order_that_failed_is_told(world: World) -> Iterator[str]:
    """An order rejected, withdrawn, lost or in doubt reaches the owner by the run that finds it so, killed or not."""
    status = world.order_status()
    failed = (OrderStatus.REJECTED, OrderStatus.CANCELLED, OrderStatus.NOT_SENT, OrderStatus.UNKNOWN)
    is_news = world.is_crons and status in failed and status is not world.order_was and not world.is_word_gone()
    if is_news and not any(str(world.today) in notice.words for notice in world.told_in_run()):
        yield f"the order of {world.today} is {status} and nobody was told"


def what_was_missed_is_told(world: World) -> Iterator[str]:
    """A session nobody ran is told of by the run that files it; of one killed just then the word may be lost."""
    for row in world.recent_rows():
        if row.status is not SessionStatus.MISSED or row.session in world.missed_told:
            continue
        if any(notice.event is Event.RUN_MISSED for notice in world.told_in_run()) or world.ended.exit_code is None:
            world.missed_told.add(row.session)
        else:
            yield f"{row.session} was missed and nobody was told"


def a_failed_run_is_told(world: World) -> Iterator[str]:
    """What ended a run of cron's is told by that run, or left to its caller; any other bad end is told that day.

    Lost may be the word of a run that was cut off before. Of an order in doubt a run tells once, then all wait for it.
    """
    ended = world.ended
    if not world.is_crons or not ended.exit_code:
        return
    if not ended.is_done:
        words = ended.error.partition(": ")[2]
        if ended.is_claimed_told and not any(words in notice.words for notice in world.told_in_run()):
            yield f"a run failed and nobody was told: {ended.error}"
        return
    is_settling, told = ended.step == "settle", world.told_today()
    is_told_once = is_settling or bool(world.store.open_orders())
    if is_told_once:
        told += [notice for _, notice in world.told]
    is_owed = ended.step in ("decide", "preflight", "settle")
    was_cut_off = world.cut_off_on and world.cut_off_on >= (world.recent[0] if is_told_once else world.today)
    if is_owed and not was_cut_off and not any(notice.is_urgent for notice in told):
        yield f"{ended.step} ended with code {ended.exit_code} and nobody was told"


def an_unattended_position_is_told(world: World) -> Iterator[str]:
    """Shares that could not be decided on, for want of data or of the broker, are told of on that day."""
    ended, row, left = world.ended, world.row(), calendar().close(world.today) - world.began_at
    is_deciding = world.is_crons and not left.days and left <= LAST_TO_DECIDE
    if not is_deciding or ended.exit_code not in (3, 4) or (ended.is_done and ended.exit_code == 4):
        return
    is_undecided = world.recorded() is None and (row is None or row.status is SessionStatus.SKIPPED)
    is_unattended = is_undecided and min(world.broker.ours, world.book_shares()) > 0
    if not is_unattended or world.store.runs(1)[0].step is not Step.DECIDE:  # settling may go first, it told its own
        return
    is_told = any(notice.event is Event.POSITION_UNATTENDED for notice in world.told_today())
    if not (is_told or world.is_word_gone()):
        yield f"{world.book_shares()} shares are undecided at {world.began_at} and nobody was told: {ended}"


def a_mismatch_that_blocked_is_told(world: World) -> Iterator[str]:
    """Where broker and book differ and an entry that the rules want does not go out, the owner hears of it that day."""
    recorded = world.newly_recorded()
    if recorded is None or recorded.document["action"] != "BUY" or not world.is_crons or not world.beside():
        return
    is_sent = any(sent.intent.session == world.today for sent in world.broker.sent[-1:])
    is_told = any(notice.event is Event.MISMATCH for notice in world.told_today())
    if not (is_sent or is_told or world.is_word_gone()):
        yield f"{world.beside()} shares beside the book's kept an entry of {world.today}, and nobody was told"


def a_latch_is_told(world: World) -> Iterator[str]:
    """What blocks entries after a day's loss is told by the run that sets it, killed or not."""
    is_news = world.has_latch() and not world.is_latched
    is_told = any(notice.event is Event.DAILY_LOSS for notice in world.told_in_run())
    if is_news and not (is_told or world.is_word_gone()):
        yield f"entries are blocked since {world.today} for the loss of a day, and nobody was told"


def an_order_that_went_out_is_told(world: World) -> Iterator[str]:
    """The owner hears of an order that the broker has, by the run that finds it so."""
    is_news = world.order_status() is OrderStatus.WORKING and world.order_was is not OrderStatus.WORKING
    if not is_news or world.is_word_lost() or world.today in world.restored:
        return
    events = (Event.ORDER_SENT, Event.ORDER_FILLED, Event.ORDER_REJECTED)
    if not any(notice.event in events and str(world.today) in notice.words for notice in world.told_in_run()):
        yield f"the order of {world.today} is out, and nobody was told"


def what_was_executed_is_told(world: World) -> Iterator[str]:
    """Executions are told by the run of cron's that closes their order: how many shares, and whether it is a guess."""
    for fill in world.book_fills()[-4:]:
        key = fill.reference, fill.execution_id.endswith(ESTIMATE)
        order = None if key in world.fills_told else world.store.order(fill.session)
        if order is None or order.status.is_open:
            continue
        world.fills_told.add(key)
        told = [n.words for n in world.told_in_run() if n.event is Event.ORDER_FILLED and str(fill.session) in n.words]
        shares = sum(other.shares for other in world.book_fills() if other.reference == fill.reference)
        wanted = ["ESTIMATED"] * key[1] + [f"{fill.side} {shares} "] * (fill.session == world.today)
        is_owed = world.is_crons and not world.is_word_lost() and not fill.execution_id.endswith(BY_OWNER)
        if is_owed and not any(all(word in words for word in wanted) for words in told):
            yield f"{shares} shares of {fill.session} are booked ({fill.execution_id}), told was {told}"


def a_question_is_asked(world: World) -> Iterator[str]:
    """A run of cron's that leaves an entry to the owner asks them."""
    recorded = world.newly_recorded()
    if recorded is None or recorded.document["blocked_by"] != "awaiting_approval" or world.is_word_lost():
        return
    if world.is_crons and not any(notice.event is Event.APPROVAL for notice in world.told_in_run()):
        yield f"an entry of {world.today} waits for the owner, and nobody was asked"


# -- at a session's end: book, broker and rules together --------------------------------------------------------------


def a_halt_is_told(world: World) -> Iterator[str]:
    """A halt that the owner's command has confirmed is told to all who take messages."""
    if not any(notice.event is Event.HALT for notice in world.told_in_run()):
        yield f"halted in {world.today}, and nobody was told"


def a_days_loss_is_told(world: World) -> Iterator[str]:
    """A loss beyond the limit, by the account's own money, latches and is told; a latch that stands has been told."""
    is_known = world.quiet_for > 1 and not world.left_open
    if is_known and not world.was_latched:
        loss, limit = world.equity_before - world.equity(world.today), world.parameters.risk.max_daily_loss
        if loss >= limit + CENT and not any(notice.event is Event.DAILY_LOSS for notice in world.told_today()):
            yield f"{loss:.2f} USD were lost in {world.today}, the limit is {limit:g}, and nobody was told"


def every_session_has_a_row(world: World) -> Iterator[str]:
    """From the book's first session on the ledger has no hole, up to today where nothing kept the program from it."""
    rows = [row.session for row in world.store.ledger(world.ledger_checked_from)]
    if world.is_untroubled and world.is_session(world.today) and world.today not in rows[-1:]:
        yield f"{world.today} has no row"
    if rows:
        span = world.ledger_checked_from or rows[0], rows[-1]
        missing, beyond = set(world.calendar.sessions(*span)) - set(rows), set(rows) - set(calendar().sessions(*span))
        if missing or beyond:
            yield f"missing {sorted(missing)}, beyond {sorted(beyond)}"
        world.ledger_checked_from = rows[-1]


def a_settled_session_is_the_brokers(world: World) -> Iterator[str]:
    """What a settled session's order has booked is what the broker executed for it."""
    for row in world.recent_rows():
        if row.is_settled and row.session not in world.restored:
            of_it = [fill for fill in world.book_fills() if fill.session == row.session]
            booked = sum(fill.shares for fill in of_it if fill.reference not in world.taken_out)
            ours = [e for e in world.broker.executed if e.fill.session == row.session and e.fill.reference != "by hand"]
            true = sum(e.fill.shares for e in ours)
            is_other = not can_be(ours, booked) if ours else booked
            if is_other and row.session not in world.misjudged:
                yield f"{row.session} is settled with {booked} shares, the broker executed {true}"


def a_restore_loses_nothing_the_broker_knows(world: World) -> Iterator[str]:
    """Once a restored book has settled today, it has today's order and executions as the broker's lists show them."""
    row = world.row()
    is_still_listed = calendar().local_date(world.clock.now()) == world.today
    if world.today not in world.restored or row is None or not row.is_settled or not is_still_listed:
        return
    order = world.store.order(world.today)
    for had in (resting for resting in world.broker.resting[-3:] if resting.arrived_on == world.today):
        if order is None or order.intent.reference != had.intent.reference:
            yield f"{had.intent.reference} is {had.status} at the broker, the restored book has {order}"
    booked = {fill.execution_id for fill in world.book_fills()}
    for execution in world.broker.executed[-6:]:
        is_listed = execution.happened_on == world.today and execution.is_listed
        if is_listed and execution.fill.execution_id not in booked:
            yield f"the restored book settled {world.today} without {execution.fill}"


def money_adds_up(world: World) -> Iterator[str]:
    """The book's cash is the account's to the cent, over the whole life; what it lacks for good counts as it was.

    It may lack executions of sessions that a backup has forgotten, and of those not settled yet.
    """
    accounts = world.accounts()
    ours = world.ledger().cash + accounts.apart_usd
    true = world.broker.usd - world.hand_usd - sum(world.untold_deposits())
    if abs(ours - true) > CENT:
        lost = f" with {accounts.apart_usd:.4f} that it is known to lack" * bool(accounts.apart_usd)
        yield f"the book has {ours:.4f} USD{lost}, the account {true:.4f}"
    for fill in accounts.lost:
        if fill.session not in world.restored and fill.session not in world.misjudged:
            rows = world.store.ledger(fill.session, fill.session)
            if any(row.is_settled for row in rows):
                yield f"{fill.session} is settled without the execution {fill}"


def the_day_is_told(world: World) -> Iterator[str]:
    """What was decided reaches the owner that day, and of an entry they did not answer that nothing was bought."""
    row, recorded, told = world.row(), world.recorded(), world.told_today()
    if row is None or row.status is not SessionStatus.DECIDED or recorded is None or world.cut_off_on == world.today:
        return
    events = (Event.DAILY_SUMMARY, Event.POSITION_UNATTENDED, Event.APPROVAL)
    if recorded.document["blocked_by"] != "data" and not any(notice.event in events for notice in told):
        yield f"{world.today} is decided: {recorded.document['reason']}, and nobody was told"
    is_answered = world.word in ("refuse", "flatten")  # the last word; before a sale by hand there may have been a no
    is_lapsed = recorded.document["blocked_by"] == "awaiting_approval" and not is_answered
    is_lapsed = is_lapsed and world.store.order(world.today) is None
    if is_lapsed and not any(notice.event is Event.APPROVAL and "not bought" in notice.words for notice in told):
        yield f"{world.today}: the question lapsed ({row.why}), and nobody was told"


def an_exit_is_never_forgotten(world: World) -> Iterator[str]:
    """An exit once decided, today or before, is sold, stays pending since then, or is told.

    Of shares that the book has not got, sold or lost, the owner hears as of a difference; where the closes say that
    they were split, and the broker's shares do not yet, as of that; by a wrong clock, that nothing is done by it. Of
    those nobody speaks on a day on which the exchange stays closed: there is nothing to decide.
    """
    left = min(world.broker.ours, world.broker.ours + world.broker.by_hand)  # what the owner sold of it is gone
    if not world.exits_decided or left <= 0 or not world.steps_today:
        return
    held, since = world.ledger().holding, world.exits_decided[0]
    pending = held and world.store.exit_decided_since(held.entry_session)
    is_pending = pending and pending[0] <= since
    is_not_held = held is None or held.entry_session > since  # but shares that the owner gave it since
    in_doubt = ["a split would have made", "nothing is recorded by it"] * is_not_held
    urgent = [notice.words for notice in world.told_today() if notice.is_urgent]
    named = [words for words in urgent if any(one in words for one in ("SELL", *in_doubt))]
    events = (Event.POSITION_UNATTENDED, Event.MISMATCH) if is_not_held else (Event.POSITION_UNATTENDED,)
    is_told = named or any(notice.event in events for notice in world.told_today()) or world.is_word_gone()
    is_idle = is_not_held and not world.is_session(world.today)
    if not (is_pending or is_told or is_idle):
        yield f"{world.today}: an exit was decided on {since}, {left} shares are still held"


def an_exit_waits_only_where_it_may(world: World) -> Iterator[str]:
    """An exit is held back by a halt, a doubt about order or position, the clock, or a missing price: nothing else.

    And that only where it is so: where the halt is one of exits too, the broker has not said that it holds a share, or
    none of those it holds is the book's, and no sale can be made any more.
    """
    recorded = world.newly_recorded()
    if recorded is None or recorded.document["action"] != "SELL":
        return
    gate, left = recorded.document["blocked_by"], calendar().close(world.today) - world.clock.now()
    is_late_sold = parameters_from(recorded.settings).risk.late_exit is LateExit.MARKET
    held = world.answers["broker.shares_held"]
    allowed = {
        None: True,
        "halted": world.are_exits_halted,
        "outside_window": left <= (LAST_CALL if is_late_sold else CUT_OFF),
        "already_decided": world.order_status() is not None,
        "order_unknown": bool(world.store.open_orders()),
        "reconcile_mismatch": any(said is None or said < 1 for said in held) or world.broker.ours < 1,
        "data": recorded.document["close"] is None,
    }
    if not allowed.get(gate):
        yield f"{world.today}: {recorded.document['reason']} (blocked by {gate}), the broker said {held}"


def a_sale_too_late_for_the_auction_goes_to_the_market(world: World) -> Iterator[str]:
    """Where a sale has missed the hard stop, and the owner wants it sold all the same, the clock does not hold it."""
    if world.order_status() is not OrderStatus.NOT_SENT or world.order_was is OrderStatus.NOT_SENT:
        return
    order, left = world.store.order(world.today), calendar().close(world.today) - world.clock.now()
    if order is None or order.intent.side is not Side.SELL or world.are_exits_halted or left <= LAST_CALL:
        return
    is_wanted = all(parameters.risk.late_exit is LateExit.MARKET for parameters in world.settings_today)
    is_tried = any(sent.intent.reference == order.intent.reference for sent in world.broker.sent[-2:])
    is_withdrawn = any(act.act is Act.CANCEL for act in world.store.acts(world.today))
    if is_wanted and not is_tried and not is_withdrawn:
        yield f"{order.intent.reference} was never sent, {left} before the close: {order.words}"


def no_entry_beside_a_mismatch(world: World) -> Iterator[str]:
    """Where the broker holds what the book does not know of, nothing is bought."""
    for sent in world.broker.sent[-1:]:
        if sent.intent.side is Side.BUY and sent.beside:
            yield f"{sent.intent.reference} went out beside {sent.beside} shares that are not the book's"


def decided_as_the_rules_say(world: World) -> Iterator[str]:
    """On whole data the action is the one that plain loops over the truth come to, in each of a day's decisions."""
    recorded = world.newly_recorded()
    if recorded is None or world.entry_is_blurred or not world.market.is_open(world.today):
        return
    document, strategy = recorded.document, parameters_from(recorded.settings).strategy
    if strategy not in [parameters.strategy for parameters in world.settings_today]:
        yield f"{world.today} was decided under {strategy}, which is nobody's"
    if any(document[name] is None for name in ("close", "ma_50", "rsi", "vix")):
        return
    if document["volume"] is None and not world.entry:
        given, count = world.answers["prices.volume_until"][-1:], strategy.volume_lookback
        if given and given[0] and len(given[0]) == count:
            yield f"{world.today} was decided without its volume, and all {count} were given"
        if document["action"] == "BUY":
            yield f"{world.today} was to be bought on no volume: {document['reason']}"
        return
    expected = world.oracle(strategy).action(
        world.market.position[world.today],
        world.entry,
        exit_pending=bool(world.exits_decided),
        is_learned=world.is_entry_learned(),
        is_over=datetime.fromisoformat(document["as_of"]) >= calendar().close(world.today),
    )
    if expected and "daily_loss" not in document["exit_reasons"] and document["action"] != expected:
        yield f"{world.today}: {document['action']} ({document['reason']}), the rules say {expected}"


def sized_as_the_rules_say(world: World) -> Iterator[str]:
    """An entry is of as many shares as plain arithmetic on the account allows, or of none for the lack of it."""
    recorded = world.newly_recorded()
    if recorded is None or recorded.document["action"] != "BUY" or world.broker.ours or world.is_astray:
        return
    document, parameters = recorded.document, parameters_from(recorded.settings)
    cash = next((said and said.spendable_usd for said in world.answers["broker.cash"][-1:]), None)
    if parameters not in world.settings_today:
        yield f"{world.today} was sized under {parameters.risk}, which is nobody's"
    is_short = document["blocked_by"] in ("size", "cash")
    if cash is None or not world.market.is_open(world.today) or not (is_short or document["shares"]):
        return
    price = world.market.at_decision(world.market.position[world.today])[2]
    expected = sizes(price, world.sizing_equity(), cash, parameters.risk)
    if document["shares"] not in expected:
        said = f"{document['shares']} shares at {document['close']} ({document['blocked_by']})"
        yield f"{world.today}: {said}, it should be {expected} with {world.sizing_equity():.2f} USD, {cash:.2f} in cash"


def what_was_taken_back_stays_so(world: World) -> Iterator[str]:
    """Of an order that the owner took back in time nothing is executed."""
    if world.word == "cancel":
        for execution in world.broker.executed[-3:]:
            if execution.happened_on == world.today and execution.is_listed:
                yield f"the order of {world.today} was taken back, and {execution.fill} came of it"


def an_untroubled_session_is_whole(world: World) -> Iterator[str]:
    """Where nothing came between, the session is decided, its order sent and filled, its books closed and right."""
    if not world.quiet_for or world.left_open:
        return
    row, recorded = world.row(), world.recorded()
    if row is None or row.status is not SessionStatus.DECIDED or recorded is None:
        yield f"{world.today} is not decided: {row}"
    elif not row.is_settled:
        yield f"{world.today} is not settled"
    elif world.book_shares() != world.broker.ours:
        yield f"{world.today} ends with {world.book_shares()} shares, the broker has {world.broker.ours}"
    elif recorded.document["action"] != "HOLD" and recorded.document["blocked_by"] not in ("daily_loss", "size"):
        arrived = any(intent.session == world.today for _, intent in world.broker.arrivals)
        if not arrived:
            yield f"{world.today}: {recorded.document['action']} was not sent ({recorded.document['blocked_by']})"


def what_is_open_comes_to_its_end(world: World) -> Iterator[str]:
    """Nothing stays open where nothing has come between for days: no order, no session, no difference, no exit due."""
    if world.quiet_for < PATIENCE * (1 + world.is_astray):  # what a backup has forgotten the owner puts right by hand
        return
    if world.left_open:
        yield f"{world.today}: {world.left_open}, after {world.quiet_for} sessions without trouble"
    if world.exits_decided and world.broker.ours > 0:
        since = world.exits_decided[0]
        yield f"{world.today}: an exit is due since {since}, {world.broker.ours} shares are held"


def a_split_is_followed(world: World) -> Iterator[str]:
    """A session decided and settled since a split leaves a book on the new scale, where the broker bears it out."""
    row, broker, opened = world.row(), world.broker, calendar().open(world.today)
    if row is None or row.status is not SessionStatus.DECIDED or not row.is_settled or world.is_astray:
        return
    is_told = not any(place.startswith("broker") for place in world.places_today)
    is_told = is_told and not any(until and until > opened for until in (broker.silent_until, broker.away_until))
    is_borne_out = not broker.unbooked and not broker.by_hand and broker.ours == world.book_shares_today()
    if is_told and is_borne_out and world.book_shares() != broker.ours:
        yield f"{world.today}: the book holds {world.book_shares()} shares, {broker.ours} after the split"


def every_message_arrives(world: World) -> Iterator[str]:
    """What was kept for the owner is sent once somebody takes messages again, at the latest the day after."""
    opened = calendar().open(world.today)
    if not world.runs_today or (world.post.away_until and world.post.away_until > opened):
        return
    arrived = {in_kind(line.split(" (")[0]) for _, line in world.post.sent}
    for day, notice in world.told:
        words = in_kind(notice.words.split(" (")[0])
        if world.recent[0] < day < world.today and words not in arrived and day not in world.restored:
            yield f"{day}: {notice.event}: {notice.words}: never sent"


def nothing_is_told_a_hundred_times(world: World) -> Iterator[str]:
    """A failure that cron meets every minute is counted, not told every minute."""
    opened = calendar().open(world.today)
    said = Counter(in_kind(line.split(" (")[0]) for at, line in world.post.sent if at >= opened)
    for words, times in said.most_common(1):
        if times > TIMES_A_DAY:
            yield f"{world.today}: {times} times: {words}"


def the_whole_life_is_the_backtests(world: World) -> Iterator[str]:
    """Where nothing ever came between, a backtest of the same bars makes the same trades, to the share and the cent."""
    p, (opened, high, low, close, volume) = world.parameters.strategy, world.market.bars.T
    tape = Tape(
        sessions=list(world.market.position),
        open=opened,
        close=close,
        volume=volume,
        ma_50=sma(close, p.ma_period),
        rsi=rsi(close, p.rsi_period),
        atr=atr(high, low, close, p.atr_period),
        volume_ma_20=sma(volume, p.volume_lookback),
        vix=world.market.vix[:, 3],
    )
    played = backtest(tape, world.parameters, world.book.capital_usd, start=WARM_UP + world.life.first)
    wanted = [
        (session, side, trade.shares)
        for trade in played.trades
        for session, side in ((trade.entry_session, Side.BUY), (trade.exit_session, Side.SELL))
    ]
    if held := played.open_position:
        wanted.append((held.entry_session, Side.BUY, held.shares))
    traded: dict[tuple[date, Side], int] = {}
    for fill in world.book_fills():
        traded[fill.session, fill.side] = traded.get((fill.session, fill.side), 0) + fill.shares
    ours = [(*key, shares) for key, shares in traded.items()]
    wanted = [trade for trade in wanted if trade[0] <= world.today]  # the market has a day more than the life
    if ours != wanted:
        yield f"traded and the backtest's: {sorted(set(ours) ^ set(wanted))[:6]}"
    equity = dict(zip(played.sessions, played.equity, strict=True))
    for mark in world.store.equity_marks():
        if abs(mark.value - equity[mark.session]) > CENT:
            yield f"{mark.session}: {mark.value:.4f} USD, the backtest has {equity[mark.session]:.4f}"


AFTER_EVENTS: tuple[Invariant, ...] = (
    one_order_a_session,
    orders_come_in_time,
    orders_are_withdrawn_in_time,
    never_short,
    never_beyond_the_cap_or_the_cash,
    nothing_while_halted,
    nothing_against_the_owners_word,
    nothing_is_sent_blind,
    nothing_is_sold_unseen,
    ids_are_the_brokers,
    no_entry_beside_a_mismatch,
    one_run_at_a_time,
)
AFTER_RUNS: tuple[Invariant, ...] = (
    every_execution_once,
    a_decision_stands,
    decided_as_the_rules_say,
    sized_as_the_rules_say,
    an_exit_waits_only_where_it_may,
)
WORDS_OF_A_RUN: tuple[Invariant, ...] = (
    an_order_that_failed_is_told,
    what_was_missed_is_told,
    an_unattended_position_is_told,
    a_mismatch_that_blocked_is_told,
    a_failed_run_is_told,
    a_latch_is_told,
    a_sale_too_late_for_the_auction_goes_to_the_market,
    an_order_that_went_out_is_told,
    what_was_executed_is_told,
    a_question_is_asked,
)
"""Asked of whole runs only, not of a command in the midst of another."""
AT_SESSION_END: tuple[Invariant, ...] = (
    every_session_has_a_row,
    a_settled_session_is_the_brokers,
    a_restore_loses_nothing_the_broker_knows,
    money_adds_up,
    paid_out_of_the_cash,
    what_was_taken_back_stays_so,
    the_day_is_told,
    an_exit_is_never_forgotten,
    a_days_loss_is_told,
    an_untroubled_session_is_whole,
    what_is_open_comes_to_its_end,
    a_split_is_followed,
    every_message_arrives,
    nothing_is_told_a_hundred_times,
)


def check(world: World, invariants: tuple[Invariant, ...]) -> None:
    """Raise Broken for the first complaint."""
    for invariant in invariants:
        for words in invariant(world):
            raise Broken(invariant.__name__, words)
