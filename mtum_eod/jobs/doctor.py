"""The whole chain looked at by hand: every link with its cure where it will not do. Reads only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

from mtum_eod.core import second_opinion
from mtum_eod.core.checks import Check, failed
from mtum_eod.core.market import VIX, BarStatus, FindingKind
from mtum_eod.core.trading import Fill, Order, OrderIntent, OrderKind, OrderStatus, OrderType, Side, order_reference
from mtum_eod.errors import MtumEodError, OrderStateUnknown, StoreError
from mtum_eod.jobs import market, preflight
from mtum_eod.jobs.desk import Desk
from mtum_eod.jobs.replay import replay_recorded
from mtum_eod.jobs.session import last_closed
from mtum_eod.ports import BookReader, RecordedSignal, Unknown

SAME_RELATIVE = 1e-9
"""Two ways of computing an indicator agree this closely, or one of them is wrong."""

A_PERSON = OrderStateUnknown.exit_code


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What was looked at, in order."""

    checks: tuple[Check, ...]

    @property
    def exit_code(self) -> int:
        """The first failure's; 0 where all passed."""
        return preflight.exit_code(self.checks)

    @property
    def document(self) -> dict[str, Any]:
        """The same as one document."""
        return {"passed": self.exit_code == 0, "checks": [asdict(check) for check in self.checks]}


def session_in_hand(desk: Desk) -> date:
    """Today's session until its close, then the next one."""
    now = desk.wall_clock.now()
    today = desk.calendar.local_date(now)
    if desk.calendar.is_session(today) and now < desk.calendar.close(today):
        return today
    return desk.calendar.nearest(today)[1]


def examine(desk: Desk, session: date) -> Iterator[Check]:
    """Data, broker, calendar and book, as the preflight of `session` would find them, and what stands open."""
    yield from preflight.checks(desk, session)
    yield _orders(desk)
    yield _messages(desk)


def examine_fully(desk: Desk, restored: BookReader | None) -> Iterator[Check]:
    """Indicators computed another way, the broker's executions against the book's, and a backup that replays.

    restored: the book as it came back from a backup just made; None where there is no book yet.
    """
    yield _indicators(desk)
    yield _executions(desk)
    if restored is None:
        yield Check(name="restore", passed=True, words="there is no database yet that could be restored")
    else:
        yield _replays(desk, restored)


def examine_order(desk: Desk, session: date) -> Check:
    """What the broker says to an order that is not placed: one share, of the type that would be sent."""
    if without := _without_login(desk, "test order"):
        return without
    book = desk.book
    try:
        order_id = desk.broker.next_order_id()
    except MtumEodError as error:
        return failed("test order", error)
    intent = OrderIntent(
        reference=order_reference(book.mode, book.account, book.symbol, session, Side.BUY) + "/test",
        session=session,
        kind=OrderKind.DECISION,
        side=Side.BUY,
        order_type=desk.parameters.order_type,
        shares=1,
        order_id=order_id,
        decision_price_usd=0.0,
    )
    answer = desk.broker.what_if(intent)
    if isinstance(answer, Unknown):
        return preflight.unanswered("test order", answer)
    asked = f"{intent.order_type} for 1 {book.symbol}, asked and not placed"
    return Check(
        name="test order",
        passed=answer.value.is_accepted,
        words=f"{asked}: {answer.value.words}",
        cure="" if answer.value.is_accepted else "docs/troubleshooting.md, 'order rejected', has the usual reasons",
        exit_code=A_PERSON,
    )


def _without_login(desk: Desk, name: str) -> Check | None:
    """The check that fails for want of a login; None where there is one."""
    try:
        _ = desk.broker.account
    except MtumEodError as error:
        return failed(name, error)
    return None


# -- the book ---------------------------------------------------------------------------------------------------------


def _orders(desk: Desk) -> Check:
    orders = desk.store.open_orders()
    unknown = [order for order in orders if order.status is OrderStatus.UNKNOWN]
    words = ", ".join(f"{order.intent.reference} is {order.status}" for order in orders) or "none is open"
    cure = f"`mtum-eod reconcile --resolve {unknown[0].intent.session} none|filled|SHARES`" if unknown else ""
    return Check(name="orders", passed=not unknown, words=words, cure=cure, exit_code=A_PERSON)


def _messages(desk: Desk) -> Check:
    unsent = desk.store.unsent_notices()
    words = f"{len(unsent)} wait to be sent, the oldest says: {unsent[0].notice.words}" if unsent else "none is unsent"
    cure = "`mtum-eod notify test` shows what stands against sending" if unsent else ""
    return Check(name="messages", passed=not unsent, words=words, cure=cure, exit_code=A_PERSON)


def _executions(desk: Desk) -> Check:
    """Every execution the broker still knows is in the book, and as it says."""
    ours = {fill.execution_id: fill for fill in desk.store.fills()}
    if without := _without_login(desk, "executions"):
        return without
    answer = desk.broker.executions()
    if isinstance(answer, Unknown):
        return preflight.unanswered("executions", answer)
    other = [fill for fill in answer.value if not _is_same(fill, ours.get(fill.execution_id))]
    words = f"the broker knows {len(answer.value)}, the book has them all"
    if other:
        first = other[0]
        words = (
            f"{len(other)} of {len(answer.value)} are not in the book as the broker has them, the first is "
            f"{first.side} {first.shares} at {first.price_usd:g} ({first.execution_id})"
        )
    return Check(
        name="executions", passed=not other, words=words, cure="`mtum-eod settle`" if other else "", exit_code=A_PERSON
    )


def _is_same(theirs: Fill, ours: Fill | None) -> bool:
    if ours is None:
        return False
    return (theirs.side, theirs.shares, theirs.price_usd) == (ours.side, ours.shares, ours.price_usd)


# -- the arithmetic ---------------------------------------------------------------------------------------------------


def _indicators(desk: Desk) -> Check:
    """The last closed session's indicators by TA-Lib and by Wilder's definitions, on the same bars."""
    p, now = desk.parameters.strategy, desk.wall_clock.now()
    session = last_closed(desk.calendar, now)
    try:
        reading = market.read(desk.sources, session, now, p)
    except MtumEodError as error:
        return failed("indicators", error)
    bars, found = reading.bars[0], reading.indicators
    highs, lows, closes = bars.high.tolist(), bars.low.tolist(), bars.close.tolist()
    pairs = {
        f"MA{p.ma_period}": (found.ma_50, second_opinion.mean_of_last(closes, p.ma_period)),
        "RSI": (found.rsi, second_opinion.relative_strength(closes, p.rsi_period)),
        "ATR": (found.atr, second_opinion.true_range_average(highs, lows, closes, p.atr_period)),
    }
    differ = [
        f"{name} is {ours:.10g}, by its definition {other:.10g}"
        for name, (ours, other) in pairs.items()
        if not abs(ours - other) <= SAME_RELATIVE * abs(other)  # a NaN differs from everything
    ]
    words = "; ".join(differ) or f"{', '.join(pairs)} of {session} agree with their definitions"
    cure = "look at the bars with `mtum-eod data show`, and at TA-Lib's version" if differ else ""
    return Check(name="indicators", passed=not differ, words=words, cure=cure)


def _replays(desk: Desk, restored: BookReader) -> Check:
    """The newest recorded decision comes out of the restored book as it went in."""
    recorded = _newest_signal(restored)
    if recorded is None:
        return Check(name="restore", passed=True, words="a backup was made and restored; it has no decision to replay")
    try:
        again = replay_recorded(recorded, restored, desk.calendar, desk.book).document
    except MtumEodError as error:
        return failed("restore", error)
    wanted = ("close", "ma_50", "rsi", "atr", "vix", "action", "shares", "exit_reasons")
    differ = [f"{key} {recorded.document[key]} became {again[key]}" for key in wanted if _differ(recorded, again, key)]
    words = f"a backup was made and restored, and {recorded.session} replayed from it: "
    words += "; ".join(differ) or f"{again['action']} again, on the same indicators"
    cure = "keep the present database and its backups; `mtum-eod db check` looks closer" if differ else ""
    return Check(name="restore", passed=not differ, words=words, cure=cure, exit_code=StoreError.exit_code)


def _differ(recorded: RecordedSignal, again: dict[str, Any], key: str) -> bool:
    before, after = recorded.document[key], again[key]
    if isinstance(before, float) and isinstance(after, float):
        return abs(before - after) > SAME_RELATIVE * abs(before)
    return bool(before != after)


def _newest_signal(book: BookReader) -> RecordedSignal | None:
    found = (book.signal(row.session) for row in reversed(book.ledger()))
    return next((signal for signal in found if signal is not None), None)


# -- what paper has shown ---------------------------------------------------------------------------------------------


LEAST_MEAN_VOLUME = 100_000
"""Shares a session that MTUM trades at the least: since 2018 a mean over 20 sessions has been 415,000 to 2.4 million.

In lots, of 100 shares or from 250 USD on of 40, the largest of these is 60,000. A book that has had lots from its first
run on has no other bars to compare with.
"""


def proven_on_paper(paper: BookReader, symbol: str) -> Iterator[Check]:
    """What the paper book has seen of all that live trading will rest on; each with what is still to be waited for.

    Nothing here is assumed: what Interactive Brokers does with this listing, these subscriptions and this account is
    known only once it has been seen.
    """
    signals = [signal for row in paper.ledger() if (signal := paper.signal(row.session)) is not None]
    fills = [fill for fill in paper.fills() if not fill.is_estimated and fill.commission_usd is not None]
    orders = [order for signal in signals if (order := paper.order(signal.session)) is not None]
    taken = [order.intent.session for order in orders if _was_taken(order) and order.intent.order_type is OrderType.MOC]
    yield _seen("MOC accepted", taken, "let an entry or an exit go out in mode paper")
    yield _seen(
        "fill and commission", [fill.session for fill in fills], "let `mtum-eod settle` run after a filled order"
    )
    partial = [s.session for s in signals if _is_from_ib(s, symbol) and _status(paper, s, symbol) is BarStatus.PARTIAL]
    yield _seen(
        "today's partial bar",
        partial,
        "decide a session before its close with data.source = ib; where the broker has no bar yet, one is built "
        "from intraday bars, and this stays open",
    )
    units = [signal.session for signal in signals if _is_from_ib(signal, symbol) and _compares_shares(signal)]
    yield _seen("volume in shares", units, "uncheck 'Send market data in lots for US stocks' in the Gateway's settings")
    vix = [signal.session for signal in signals if _is_from_ib(signal, VIX) and signal.document["vix"] is not None]
    yield _seen(
        "VIX entitlement", vix, "subscribe to CBOE index data, or set data.vix_source = yahoo and accept its delay"
    )
    lived = [s.session for s in signals if s.inputs["broker_shares"] is not None]
    yield _seen(
        "Gateway on a second day",
        lived[1:],
        "let two sessions be decided with the Gateway's nightly restart between, which only its own log shows",
    )
    exits = {fill.session for fill in fills if fill.side is Side.SELL}
    cash = [
        s.session for s in signals if s.inputs["funds"]["cash"] is not None and any(day < s.session for day in exits)
    ]
    yield _seen("cash after an exit", cash, "let a session after a filled exit be decided")


def _seen(name: str, sessions: Iterable[date], cure: str) -> Check:
    """A claim, and the last session that showed it."""
    last = max(sessions, default=None)
    if last is None:
        return Check(name=name, passed=False, words="not seen yet", cure=cure, exit_code=A_PERSON)
    return Check(name=name, passed=True, words=f"last seen {last}")


def _compares_shares(signal: RecordedSignal) -> bool:
    """Whether volumes up to the same time of day were compared, and neither jumped nor are as small as lots."""
    found = {finding["kind"] for finding in signal.inputs["findings"]}
    compared = signal.document["volume_basis"] == "same_time" and signal.document["volume"] is not None
    mean = signal.document["volume_ma_20"] or 0.0
    return compared and mean >= LEAST_MEAN_VOLUME and FindingKind.VOLUME_UNITS not in found


def _was_taken(order: Order) -> bool:
    """Whether the broker has had the order and did not refuse it."""
    ends = (OrderStatus.WORKING, OrderStatus.FILLED, OrderStatus.PARTLY_FILLED, OrderStatus.CANCELLED)
    return order.perm_id is not None and order.status in ends and not order.is_held_back


def _is_from_ib(signal: RecordedSignal, symbol: str) -> bool:
    """Whether the symbol's bars were Interactive Brokers' own; not known of records older than the question."""
    return bool(signal.inputs.get("sources", {}).get(symbol) == "ib")


def _status(paper: BookReader, signal: RecordedSignal, symbol: str) -> BarStatus | None:
    """How far on its way the session's bar was when it was decided."""
    bars = paper.bars(symbol, signal.session, signal.session, signal.bars_revision)
    return None if bars.is_empty else BarStatus(bars.statuses[-1])
