"""Bugs on purpose. Each is planted alone into the program, and the simulation must find it.

A simulation that finds no planted bug proves nothing. Every defect here is one that a hurried change could bring in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from math import isnan
from typing import Any
from unittest.mock import patch

from mtum_eod.adapters.lock import DatabaseLock
from mtum_eod.adapters.notices import OwnerNotices
from mtum_eod.adapters.store import SqlStore
from mtum_eod.core import decision, gates, quality, sizing, timing
from mtum_eod.core import ledger as ledgers
from mtum_eod.core.events import Event
from mtum_eod.core.evidence import Gate, Window
from mtum_eod.core.trading import OrderStatus, OrderType, Step
from mtum_eod.errors import BrokerUnavailable, StoreError
from mtum_eod.jobs import collect, decide, desk, due, gather, inquiry, market, order, session, settle, wheel
from mtum_eod.jobs.outcome import Handled
from mtum_eod.ports import Known, Notice, Unknown
from simulation.fake_store import FakeStore

Defect = Callable[[ExitStack], None]
DEFECTS: dict[str, Defect] = {}


def defect(plant: Defect) -> Defect:
    """Add it to the table under its name."""
    DEFECTS[plant.__name__] = plant
    return plant


@contextmanager
def planted(name: str | None) -> Iterator[None]:
    """The program with that defect for the `with` block; as it is where None."""
    with ExitStack() as stack:
        if name is not None:
            DEFECTS[name](stack)
        yield


def swap(stack: ExitStack, owner: Any, name: str, new: Callable[..., Any]) -> None:
    """Put `new(original)` in the place of a function or method."""
    stack.enter_context(patch.object(owner, name, new(getattr(owner, name))))


@defect
def intent_after_the_wire(stack: ExitStack) -> None:
    """The order leaves before its intent is durable."""
    kept: list[Callable[[], None]] = []

    def record(real: Any) -> Any:
        def later(desk_: Any, gathered: Any, outcome: Any, intent: Any, *rest: Any, **more: Any) -> None:
            if intent is None:
                real(desk_, gathered, outcome, intent, *rest, **more)
            else:
                kept.append(lambda: real(desk_, gathered, outcome, intent, *rest, **more))

        return later

    def send(real: Any) -> Any:
        def first(desk_: Any, intent: Any, reason: str) -> Any:
            if not kept:
                return real(desk_, intent, reason)
            acknowledged = desk_.broker.submit(intent)
            kept.pop()()
            order.acknowledge(desk_, acknowledged)
            return None

        return first

    swap(stack, decide, "_record", record)
    swap(stack, decide, "send", send)


@defect
def empty_taken_for_flat(stack: ExitStack) -> None:
    """A list that never ended is read as an empty one."""

    def looking(real: Any) -> Any:
        def look(desk_: Any, intent: Any) -> Any:
            seen = real(desk_, intent)
            if isinstance(seen, Unknown):
                return inquiry.Seen(order=None, fills=(), moved=0.0)
            return seen

        return look

    swap(stack, inquiry, "look", looking)


@defect
def order_sent_again_under_a_new_id(stack: ExitStack) -> None:
    """An intent without acknowledgement is sent again at once, without asking the broker."""

    def recovering(_: Any) -> Any:
        def find_out(desk_: Any, intent: Any, _: str, *, may_send: bool, **_more: Any) -> None:
            if may_send:
                intent = replace(intent, order_id=intent.order_id + 1)
                order.acknowledge(desk_, desk_.broker.submit(intent))

        return find_out

    swap(stack, order, "_find_out", recovering)


@defect
def commission_counted_twice(stack: ExitStack) -> None:
    """Every commission is taken off twice."""

    def twice(real: Any) -> Any:
        return lambda held, fill: real(held, replace(fill, commission_usd=2 * (fill.commission_usd or 0.0)))

    for side in ("_bought", "_sold"):
        swap(stack, ledgers, side, twice)


@defect
def summer_time_off_by_one(stack: ExitStack) -> None:
    """The close is taken to be at 21:00 UTC all year."""

    def winter(real: Any) -> Any:
        def timetable(day: Any, open_: Any, close: Any, *rest: Any, **more: Any) -> Any:
            shift = timedelta(hours=1) if close.hour in (17, 20) else timedelta(0)
            return real(day, open_ + shift, close + shift, *rest, **more)

        return timetable

    swap(stack, desk, "timetable", winter)


@defect
def lock_dropped_early(stack: ExitStack) -> None:
    """The lock is taken, looked at, and given back before the work is done."""

    def briefly(real: Any) -> Any:
        @contextmanager
        def hold(self: Any) -> Iterator[None]:
            with real(self):
                pass
            yield

        return hold

    swap(stack, DatabaseLock, "hold", briefly)


@defect
def exit_blocked_by_missing_volume(stack: ExitStack) -> None:
    """A volume finding stands against an exit."""

    def block(real: Any) -> Any:
        def exit_block(evidence: Any, p: Any) -> Any:
            if isnan(evidence.indicators.volume):
                return gates.Blocked(gate=Gate.DATA, why="no volume")
            return real(evidence, p)

        return exit_block

    swap(stack, gates, "exit_block", block)


def exits_blocked(stack: ExitStack, gate: Gate, stands: Callable[[Any], bool]) -> None:
    """A gate stands against exits wherever `stands` says so of the evidence."""

    def block(real: Any) -> Any:
        return lambda evidence, p: gates.Blocked(gate=gate, why="") if stands(evidence) else real(evidence, p)

    swap(stack, gates, "exit_block", block)


@defect
def exit_blocked_by_any_mismatch(stack: ExitStack) -> None:
    """Book and broker differ, and the exit waits, though there are shares to sell."""
    exits_blocked(stack, Gate.RECONCILE_MISMATCH, lambda evidence: bool(evidence.mismatch))


@defect
def exit_blocked_by_a_halt_of_entries(stack: ExitStack) -> None:
    """The owner lets exits pass, and they wait all the same."""
    exits_blocked(stack, Gate.HALTED, lambda evidence: evidence.halt is not None)


@defect
def late_exit_never(stack: ExitStack) -> None:
    """An exit decided past the hard stop waits for the next session, whatever the owner has set."""
    exits_blocked(stack, Gate.OUTSIDE_WINDOW, lambda evidence: evidence.window is Window.LATE)


@defect
def sale_too_late_for_the_auction_given_up(stack: ExitStack) -> None:
    """A sale that was decided in time and misses the hard stop is not sent to the market."""
    swap(stack, order, "_goes_late", lambda _: lambda *_: False)


@defect
def pending_exit_forgotten(stack: ExitStack) -> None:
    """An exit that could not be sold is judged anew by the next session's signals."""
    swap(stack, gather, "_pending_exit", lambda _: lambda *_: None)


@defect
def hard_stop_read_too_early(stack: ExitStack) -> None:
    """The clock is looked at when deciding, not again when sending."""

    def looking(real: Any) -> Any:
        def last_look(desk_: Any, intent: Any) -> Any:
            blocked = real(desk_, intent)
            return None if blocked and blocked.gate is Gate.OUTSIDE_WINDOW else blocked

        return last_look

    swap(stack, order, "last_look", looking)


@defect
def halt_read_too_early(stack: ExitStack) -> None:
    """The halt flag is looked at when deciding, not again when sending."""

    def looking(real: Any) -> Any:
        def last_look(desk_: Any, intent: Any) -> Any:
            blocked = real(desk_, intent)
            return None if blocked and blocked.gate is Gate.HALTED else blocked

        return last_look

    swap(stack, order, "last_look", looking)


@defect
def nobody_asked(stack: ExitStack) -> None:
    """An entry goes out without the owner's yes, whatever they have set."""
    swap(stack, gates, "approval_block", lambda _: lambda *_: None)


@defect
def no_taken_for_yes(stack: ExitStack) -> None:
    """A refusal is carried out as an approval."""
    swap(stack, wheel, "refuse", lambda _: wheel.approve)


@defect
def order_not_taken_back(stack: ExitStack) -> None:
    """The owner takes the order back, reads that it is done, and nothing was."""
    swap(stack, wheel, "cancel", lambda _: lambda *_, **_more: Handled(words=("withdrawn",)))


@defect
def execution_booked_again(stack: ExitStack) -> None:
    """Collecting twice books twice: the execution's id is not its key."""

    def adding(real: Any) -> Any:
        def add_fills(self: Any, fills: Any) -> None:
            count = len(self.fills())
            real(self, [replace(fill, execution_id=f"{fill.execution_id}.{count}") for fill in fills])

        return add_fills

    for store in (SqlStore, FakeStore):
        swap(stack, store, "add_fills", adding)


@defect
def partial_fill_taken_for_whole(stack: ExitStack) -> None:
    """The order's shares are booked, however many were executed."""

    def adding(real: Any) -> Any:
        def add_fills(self: Any, fills: Any) -> None:
            wanted = [self.order(fill.session) for fill in fills[:1]]
            real(self, [replace(fill, shares=order.intent.shares) for fill, order in zip(fills, wanted, strict=False)])

        return add_fills

    for store in (SqlStore, FakeStore):
        swap(stack, store, "add_fills", adding)


@defect
def status_believed_over_executions(stack: ExitStack) -> None:
    """An order the broker calls filled is closed before its executions add up."""

    def collecting(real: Any) -> Any:
        def collect_open(desk_: Any, order: Any) -> Any:
            answer = desk_.broker.orders()
            found = [o for o in getattr(answer, "value", []) if o.reference == order.intent.reference]
            if found and not found[0].status.is_open and order.status.is_open:
                desk_.store.update_order(order.intent.reference, found[0].status, desk_.wall_clock.now())
                return collect.Collected(desk_.store.order(order.intent.session))
            return real(desk_, order)

        return collect_open

    swap(stack, collect, "_collect_open", collecting)


@defect
def rejection_kept_quiet(stack: ExitStack) -> None:
    """An order that failed is written down, and nobody is told."""
    swap(stack, order, "tell_order", lambda _: lambda *_: None)
    swap(stack, collect, "tell_order", lambda _: lambda *_: None)


@defect
def missed_sessions_left_out(stack: ExitStack) -> None:
    """Sessions that nobody ran have no row."""
    swap(stack, session, "file_missed", lambda _: lambda *_: [])
    swap(stack, due, "file_missed", lambda _: lambda *_: [])


@defect
def exit_sells_all_the_broker_holds(stack: ExitStack) -> None:
    """An exit sells what lies at the broker, the owner's own shares too."""

    def deciding(real: Any) -> Any:
        def decide_long(evidence: Any, *rest: Any) -> Any:
            decided = real(evidence, *rest)
            return replace(decided, shares=evidence.broker_shares) if decided.shares else decided

        return decide_long

    swap(stack, decision, "_decide_long", deciding)


@defect
def cap_ignored(stack: ExitStack) -> None:
    """An entry is sized on all the cash there is."""

    def sizing_(real: Any) -> Any:
        def size_entry(price: Any, equity: Any, cash: Any, risk: Any) -> Any:
            return real(price, max(equity, cash), cash, replace(risk, max_position_size=1e9))

        return size_entry

    swap(stack, sizing, "size_entry", sizing_)
    swap(stack, decision, "size_entry", sizing_)
    swap(stack, gates, "exceeds_position_limit", lambda _: lambda *_: False)


def sized(stack: ExitStack, name: str, new: Callable[..., Any]) -> None:
    """Entries are sized by `new(original)` in the place of a function of `sizing`."""
    swap(stack, sizing, name, new)
    if name == "size_entry":
        swap(stack, decision, name, new)


@defect
def buffer_and_cost_left_out(stack: ExitStack) -> None:
    """A share is taken to cost its price at the decision, and nothing more."""
    sized(stack, "share_cost", lambda _: lambda price, _risk: price)


@defect
def equity_cap_ignored(stack: ExitStack) -> None:
    """An entry may be of more than its percentage of the equity."""
    sized(stack, "size_entry", lambda real: lambda price, _, *rest: real(price, 1e9, *rest))
    swap(stack, gates, "exceeds_position_limit", lambda _: lambda *_: False)


@defect
def half_the_size(stack: ExitStack) -> None:
    """An entry is of half the shares that it may be."""

    def half(real: Any) -> Any:
        def size_entry(*arguments: Any) -> Any:
            size = real(*arguments)
            return replace(size, shares=(size.shares + 1) // 2)

        return size_entry

    sized(stack, "size_entry", half)


@defect
def commission_in_the_entry_price(stack: ExitStack) -> None:
    """The entry price, on which the target hangs, has the commission in it."""

    def bought(real: Any) -> Any:
        def with_cost(held: Any, fill: Any) -> Any:
            after = real(held, fill)
            cost = after.entry_commission_usd / after.shares
            return replace(after, entry_price=after.entry_price + cost, entry_commission_usd=0.0)

        return with_cost

    swap(stack, ledgers, "_bought", bought)


@defect
def missing_volume_taken_for_enough(stack: ExitStack) -> None:
    """Where nobody knows the volume, the entry is not held up by it."""

    def judging(real: Any) -> Any:
        def judge_entry(i: Any, p: Any) -> Any:
            return {
                rule: holds is not False if rule == "volume_confirm" else holds for rule, holds in real(i, p).items()
            }

        return judge_entry

    swap(stack, decision, "judge_entry", judging)


@defect
def yesterday_taken_for_today(stack: ExitStack) -> None:
    """The rules look at the session before."""

    def measuring(real: Any) -> Any:
        def measure(*arguments: Any) -> Any:
            reading = real(*arguments)
            found = reading.indicators
            return replace(reading, indicators=replace(found, close=found.previous_close))

        return measure

    swap(stack, market, "measure", measuring)


@defect
def simple_mean_instead_of_wilder(stack: ExitStack) -> None:
    """RSI of plain means over the period."""

    def plain(_: Any) -> Any:
        def rsi(close: Any, period: int) -> Any:
            import numpy as np

            moves = np.diff(close[-period - 1 :])
            up, down = moves[moves > 0].sum(), -moves[moves < 0].sum()
            return np.array([100 * up / (up + down)])

        return rsi

    swap(stack, market, "rsi", plain)


@defect
def mismatch_not_looked_at(stack: ExitStack) -> None:
    """Book and broker differ, and entries go on."""
    swap(stack, gather, "mismatch", lambda _: lambda *_: "")


@defect
def late_entry_to_the_market(stack: ExitStack) -> None:
    """What has missed its closing auction goes to the market, an entry as well as an exit."""

    def going(_: Any) -> Any:
        def goes_late(desk_: Any, intent: Any) -> bool:
            late = timing.window(desk_.clock.now(), desk_.timetable(intent.session)) is Window.LATE
            return late and intent.order_type is OrderType.MOC

        return goes_late

    def looking(real: Any) -> Any:
        def last_look(desk_: Any, intent: Any) -> Any:
            blocked, until = real(desk_, intent), desk_.timetable(intent.session).late_until
            is_late = blocked and blocked.gate is Gate.OUTSIDE_WINDOW and intent.order_type is OrderType.MKT
            return None if is_late and desk_.clock.now() < until else blocked

        return last_look

    swap(stack, order, "_goes_late", going)
    swap(stack, order, "last_look", looking)


@defect
def word_in_a_commit_of_its_own(stack: ExitStack) -> None:
    """What became of an order is durable before the word about it."""

    @contextmanager
    def told(desk_: Any, intent: Any, reason: str) -> Iterator[None]:
        yield
        order.tell_order(desk_, intent, reason)

    swap(stack, order, "_told", lambda _: told)


@defect
def refused_order_tried_again(stack: ExitStack) -> None:
    """A rejected order is sent once more under a fresh id."""

    def sending(real: Any) -> Any:
        def send(desk_: Any, intent: Any, reason: str) -> Any:
            stopped = real(desk_, intent, reason)
            sent = desk_.store.order(intent.session)
            if stopped is None and sent and sent.status == "rejected":
                try:
                    again = replace(intent, order_id=desk_.broker.next_order_id())
                    order.acknowledge(desk_, desk_.broker.submit(again))
                except BrokerUnavailable:
                    pass
            return stopped

        return send

    swap(stack, decide, "send", sending)


@defect
def ids_given_anew_are_trusted(stack: ExitStack) -> None:
    """The Gateway begins its order ids anew, and the intent goes out under the id it had."""
    swap(stack, order, "_send_again", lambda _: lambda d, i, why, _: order._submit(d, i, why, is_last_try=True))


@defect
def exits_gated_like_entries(stack: ExitStack) -> None:
    """A day's loss beyond the limit blocks the exit too."""

    def block(real: Any) -> Any:
        def exit_block(evidence: Any, p: Any) -> Any:
            if evidence.daily_loss_latched:
                return gates.Blocked(gate=Gate.DAILY_LOSS, why="daily loss")
            return real(evidence, p)

        return exit_block

    swap(stack, gates, "exit_block", block)


@defect
def unknown_position_sold_on_the_books_word(stack: ExitStack) -> None:
    """Where the broker does not say what it holds, the book's number is sold."""

    def gathering(real: Any) -> Any:
        def gather_(desk_: Any, day: Any) -> Any:
            gathered = real(desk_, day)
            evidence = gathered.evidence
            if evidence.broker_shares is None and evidence.position:
                evidence = replace(evidence, broker_shares=evidence.position.shares)
            return replace(gathered, evidence=evidence)

        return gather_

    swap(stack, decide, "gather", gathering)


@defect
def split_ignored(stack: ExitStack) -> None:
    """Closes on another scale than the stored ones are taken as they come."""
    swap(stack, quality, "_one_ratio", lambda _: lambda *_: None)


@defect
def halt_not_kept(stack: ExitStack) -> None:
    """The owner's halt is confirmed, and not written down."""

    def halting(real: Any) -> Any:
        return lambda self, halt: real(self, halt) if halt.is_daily_loss else None

    for store in (SqlStore, FakeStore):
        swap(stack, store, "halt", halting)


@defect
def commission_counted_twice_in_a_restored_book(stack: ExitStack) -> None:
    """Once a backup has come back, every commission is taken off twice."""
    is_back = False

    def mark(value: bool) -> Callable[[Any], Any]:
        def marking(real: Any) -> Any:
            def marked(*arguments: Any) -> Any:
                nonlocal is_back
                is_back = value
                return real(*arguments)

            return marked

        return marking

    def twice(real: Any) -> Any:
        def adding(held: Any, fill: Any) -> Any:
            return real(held, replace(fill, commission_usd=(1 + is_back) * (fill.commission_usd or 0.0)))

        return adding

    swap(stack, FakeStore, "__init__", mark(value=False))
    swap(stack, FakeStore, "put_back", mark(value=True))
    for side in ("_bought", "_sold"):
        swap(stack, ledgers, side, twice)


@defect
def dead_after_an_unsettled_night(stack: ExitStack) -> None:
    """Once a session was left unsettled overnight every run fails before it does or tells anything."""

    def seeing(real: Any) -> Any:
        def seen(desk_: Any) -> Any:
            today = desk_.calendar.local_date(desk_.clock.now())
            if any(row.session < today for row in desk_.store.unsettled_rows()):
                raise StoreError("an old session is open", hint="none")
            return real(desk_)

        return seen

    swap(stack, due, "_seen", seeing)


@defect
def partly_filled_never_settles(stack: ExitStack) -> None:
    """A session whose order was filled in part counts as open for ever."""

    def judging(real: Any) -> Any:
        def still_open(desk_: Any, collected: Any, mark: Any) -> Any:
            if collected.order and collected.order.status is OrderStatus.PARTLY_FILLED:
                return "partly filled"
            return real(desk_, collected, mark)

        return still_open

    swap(stack, settle, "_still_open", judging)


@defect
def forgotten_order_not_adopted(stack: ExitStack) -> None:
    """An order that only the broker knows of blocks a second one, and is never taken into the book."""

    def looking(_: Any) -> Any:
        def adopt_forgotten(desk_: Any, day: Any) -> Any:
            if desk_.store.order(day):
                return Known(None)
            had = inquiry.had_already(desk_, day)
            return Unknown("the broker has had one") if isinstance(had, Unknown) or had.value else Known(None)

        return adopt_forgotten

    swap(stack, decide, "adopt_forgotten", looking)
    swap(stack, settle, "adopt_forgotten", lambda _: lambda *_: Known(None))


def kept_quiet(stack: ExitStack, is_dropped: Callable[[Notice], bool]) -> None:
    """Messages of a kind reach nobody."""

    def telling(real: Any) -> Any:
        return lambda self, notice: None if is_dropped(notice) else real(self, notice)

    swap(stack, OwnerNotices, "tell", telling)


@defect
def failed_run_kept_quiet(stack: ExitStack) -> None:
    """What ended a run is filed, and nobody is told."""
    kept_quiet(stack, lambda told: told.event is Event.RUN_FAILED and told.words.startswith(tuple(Step)))


@defect
def mismatch_kept_quiet(stack: ExitStack) -> None:
    """Book and broker differ, entries are blocked, and nobody is told."""
    kept_quiet(stack, lambda told: told.event is Event.MISMATCH)


@defect
def unattended_position_kept_quiet(stack: ExitStack) -> None:
    """The rules cannot be asked of shares that are held, and nobody is told."""
    kept_quiet(stack, lambda told: told.event is Event.POSITION_UNATTENDED)


@defect
def daily_loss_kept_quiet(stack: ExitStack) -> None:
    """A day's loss blocks entries, and nobody is told."""
    kept_quiet(stack, lambda told: told.event is Event.DAILY_LOSS)


@defect
def daily_loss_not_seen(stack: ExitStack) -> None:
    """A day's loss beyond the limit blocks nothing, and nobody is told."""
    swap(stack, gates, "daily_loss", lambda _: lambda *_: 0.0)
    swap(stack, settle, "_watch_daily_loss", lambda _: lambda *_: None)


@defect
def halt_kept_quiet(stack: ExitStack) -> None:
    """A halt is written down, and nobody but the one who typed it knows."""
    kept_quiet(stack, lambda told: told.event is Event.HALT)


@defect
def order_sent_kept_quiet(stack: ExitStack) -> None:
    """An order goes out, and nobody is told."""
    kept_quiet(stack, lambda told: told.event is Event.ORDER_SENT)


@defect
def fills_kept_quiet(stack: ExitStack) -> None:
    """Shares are bought and sold, and nobody is told."""
    kept_quiet(stack, lambda told: told.event is Event.ORDER_FILLED)


@defect
def estimates_kept_quiet(stack: ExitStack) -> None:
    """What the broker no longer shows is booked at a guess, and nobody is told."""
    kept_quiet(stack, lambda told: "ESTIMATED" in told.words)


@defect
def partly_filled_told_as_whole(stack: ExitStack) -> None:
    """The owner reads that the whole order was filled."""

    def saying(real: Any) -> Any:
        def filled_words(desk_: Any, intent: Any) -> str:
            booked = sum(fill.shares for fill in desk_.store.fills_of(intent.reference))
            words: str = real(desk_, intent).replace(f"{intent.side} {booked} ", f"{intent.side} {intent.shares} ")
            return words

        return filled_words

    swap(stack, collect, "filled_words", saying)


@defect
def question_kept_quiet(stack: ExitStack) -> None:
    """An entry waits for the owner's yes, and nobody asks for it."""
    kept_quiet(stack, lambda told: told.event is Event.APPROVAL and told.is_urgent)


@defect
def lapsed_question_kept_quiet(stack: ExitStack) -> None:
    """Nobody answered, nothing was bought, and nobody is told."""
    kept_quiet(stack, lambda told: told.event is Event.APPROVAL and "not bought" in told.words)


@defect
def daily_summary_kept_quiet(stack: ExitStack) -> None:
    """A session is decided, and nobody is told what on."""
    kept_quiet(stack, lambda told: told.event is Event.DAILY_SUMMARY)
