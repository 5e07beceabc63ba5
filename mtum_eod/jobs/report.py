"""What the owner's report is made from: the book, or a backtest, with the market around it. Reads only."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from math import nan
from typing import Any

import numpy as np
import pandas as pd

from mtum_eod.core.backtest import BacktestResult, OpenPosition, Tape, Trade, backtest
from mtum_eod.core.expectations import Verdict, verdicts
from mtum_eod.core.gates import daily_loss_limit
from mtum_eod.core.market import VIX
from mtum_eod.core.metrics import metrics
from mtum_eod.core.money import Usd
from mtum_eod.core.review import (
    ALREADY_HOLDING,
    Eve,
    Period,
    Review,
    RunLine,
    SignalDay,
    Subject,
    backtest_signals,
    dividends,
    review,
    rules_at,
    time_weighted,
)
from mtum_eod.core.snapshot import plain, utc
from mtum_eod.core.strategy import ENTRY_RULES, ExitReason
from mtum_eod.core.trading import CashFlow, CashKind, Fill, OrderKind, OrderStatus, Side
from mtum_eod.errors import MarketDataError, SettingsError
from mtum_eod.jobs.backtest import Backtest, History, history_of, metrics_document, read_history, trade_document
from mtum_eod.jobs.desk import Desk
from mtum_eod.jobs.gather import position_of
from mtum_eod.jobs.history import Progress
from mtum_eod.jobs.market import from_store
from mtum_eod.ports import BookReader, EquityMark, Records

NOT_OF_THE_MARKET = (CashKind.DEPOSIT, CashKind.WITHDRAWAL, CashKind.DIVIDEND)
"""Flows left out of a price return: money moved by hand, and dividends, which are compared with dividends only."""

NO_TRADE = (OrderStatus.REJECTED, OrderStatus.CANCELLED, OrderStatus.NOT_SENT, OrderStatus.UNKNOWN)
LENGTHS = {
    Period.WEEK: pd.DateOffset(weeks=1),
    Period.MONTH: pd.DateOffset(months=1),
    Period.YEAR: pd.DateOffset(years=1),
}


# -- the book ---------------------------------------------------------------------------------------------------------


def review_book(desk: Desk, period: Period, monthly_costs: Usd, progress: Progress) -> Review:
    """The book over the last week, month or year up to its last settled session, or over all of it.

    Raises SettingsError where no session is settled yet, MarketDataError where no price is known at all.
    """
    store = desk.store
    marks = store.equity_marks()
    if not marks:
        raise SettingsError(
            "there is nothing to report: no session of this book is settled yet",
            hint="the first one is after its `mtum-eod settle`; until then there is `mtum-eod backtest --html FILE`",
        )
    last = marks[-1].session
    first = marks[0].session if period is Period.ALL else _begin(last, period)
    history, start, tape, notes = _market(desk, last, progress)
    trades, fills, flows = trades_of(store.view("trades")), store.fills(), store.cash_flows()
    if estimated := [fill.session.isoformat() for fill in fills if fill.is_estimated]:
        notes += (f"Prices are estimated for {', '.join(estimated)}: `mtum-eod reconcile --fill` puts them right.",)
    whole, whole_capital, _ = _course(desk, marks, marks[0].session, trades, fills, flows)
    part, capital, eve = _course(desk, marks, first, trades, fills, flows)
    expectations = [("the whole book", verdicts(whole, whole_capital, metrics(whole, whole_capital)))]
    if period is not Period.ALL:
        found = metrics(part, capital, eve.session if eve else None)
        expectations.insert(0, (f"this {period}", verdicts(part, capital, found)))
    if history is not None:
        expectations.append(_whole_history(desk, tape, start))
    signals = [day for day in _signals(store.view("signals")) if first <= day.session <= last]
    rows = [row for row in _rows(store.view("sessions")) if first <= date.fromisoformat(row["session"]) <= last]
    return review(
        Subject(
            title=f"{desk.book.symbol} book ({desk.book.mode} / {desk.book.account})",
            period=str(period),
            symbol=desk.book.symbol,
            source=desk.prices.name,
            is_synthetic=desk.book.is_synthetic,
            is_book=True,
            result=part,
            capital=capital,
            values=[mark.value for mark in marks if mark.session >= first],
            eve=eve,
            splits=store.splits(),
            parameters=desk.parameters,
            tape=tape,
            dividends=_dividends(history, tape),
            signals=[*signals, *_undecided(desk, rows, signals, tape, fills)],
            expectations=tuple(expectations),
            monthly_costs=monthly_costs,
            multiples=_multiples(store, part),
            runs=[run for run in _runs(store.view("runs")) if first <= (run.session or run.started_at.date()) <= last],
            sessions_by_status=Counter(row["status"] for row in rows),
            flows=[flow for flow in flows if first <= flow.session <= last],
            halts=tuple(f"since {utc(halt.halted_at)}: {halt.why} (by {halt.by})" for halt in store.halts()),
            notes=notes,
        )
    )


def _begin(last: date, period: Period) -> date:
    """The first day of the period that ends with `last`."""
    before: pd.Timestamp = pd.Timestamp(last) - LENGTHS[period]
    return before.date() + timedelta(days=1)


def _market(desk: Desk, last: date, progress: Progress) -> tuple[History | None, int, Tape, tuple[str, ...]]:
    """The source's whole history, the index of the first session to decide, and the history as the rules see it.

    Where the source cannot be read: no history, but the bars that the book has kept.
    """
    p = desk.parameters.strategy
    try:
        history, start = read_history(desk, None, None)
    except MarketDataError as error:
        now, begin = desk.wall_clock.now(), desk.calendar.first_session
        kept = desk.store.bars(desk.book.symbol, begin, last)
        if kept.is_empty:
            raise
        prices, vix = (
            from_store(symbol, stored, now)
            for symbol, stored in ((desk.book.symbol, kept), (VIX, desk.store.bars(VIX, begin, last)))
        )
        sessions = desk.calendar.sessions(kept.first, kept.last)
        note = f"The market data source could not be read ({error.message}): the bars kept in the book are shown."
        return None, 0, history_of(prices, vix, sessions).tape(p, 0, progress), (note,)
    return history, start, history.tape(p, start, progress), ()


def _whole_history(desk: Desk, tape: Tape, start: int) -> tuple[str, tuple[Verdict, ...]]:
    """The rules played over all that the source knows, beside the published figures."""
    result = backtest(tape, desk.parameters, desk.capital, start=start)
    label = f"whole history, backtest {result.sessions[0].year} to {result.sessions[-1].year}"
    return label, verdicts(result, desk.capital, metrics(result, desk.capital))


def _dividends(history: History | None, tape: Tape) -> dict[date, Usd] | None:
    if history is None or history.prices.adjusted is None:
        return None
    adjusted = dict(zip(history.prices.days.tolist(), history.prices.adjusted.tolist(), strict=True))
    return dividends(tape.sessions, tape.close, np.array([adjusted.get(session, nan) for session in tape.sessions]))


def _course(
    desk: Desk,
    marks: Sequence[EquityMark],
    first: date,
    trades: Sequence[Trade],
    fills: Sequence[Fill],
    flows: Sequence[CashFlow],
) -> tuple[BacktestResult, Usd, Eve | None]:
    """The book from `first` on in a backtest's shape, its equity before that, and at which session's close.

    Trades count where they ended. Raises SettingsError for a range without a settled session.
    """
    inside = [mark for mark in marks if mark.session >= first]
    before = next((mark for mark in reversed(marks) if mark.session < first), None)
    capital = before.value if before else desk.capital
    values = [mark.value for mark in inside]
    previous = before.session if before else date.min
    came_in = []
    for mark in inside:
        came_in.append(
            sum(
                flow.kind.sign * flow.amount_usd
                for flow in flows
                if flow.kind in NOT_OF_THE_MARKET and previous < flow.session <= mark.session
            )
        )
        previous = mark.session
    losses = [
        mark.session
        for mark, value_before, flow in zip(inside, [capital, *values], came_in, strict=False)
        if value_before + flow - mark.value >= daily_loss_limit(desk.parameters.risk.max_daily_loss)
    ]
    held = position_of(desk.store, desk.ledger())
    result = BacktestResult(
        sessions=[mark.session for mark in inside],
        equity=time_weighted(values, came_in, capital),
        shares=[_held_after(fills, mark.session) for mark in inside],
        trades=tuple(trade for trade in trades if trade.exit_session >= first),
        open_position=OpenPosition(
            entry_session=held.entry_session,
            entry_price=held.entry_price,
            shares=held.shares,
            entry_atr=held.entry_atr,
            unrealised=marks[-1].unrealised,
        )
        if held
        else None,
        blocked=(),
        daily_losses=tuple(losses),
    )
    eve = Eve(session=before.session, shares=_held_after(fills, before.session)) if before else None
    return result, capital, eve


def _multiples(store: BookReader, result: BacktestResult) -> dict[date, float]:
    """The ATR multiple that each entry was decided with, by its session; shares adopted from outside have none."""
    entries = [trade.entry_session for trade in result.trades]
    if result.open_position:
        entries.append(result.open_position.entry_session)
    decided = {session: store.signal(session) for session in entries}
    return {
        session: float(signal.settings["strategy"]["atr_multiplier"])
        for session, signal in decided.items()
        if signal is not None
    }


def _held_after(fills: Iterable[Fill], session: date) -> int:
    return sum(fill.shares if fill.side is Side.BUY else -fill.shares for fill in fills if fill.session <= session)


def trades_of(records: Records) -> tuple[Trade, ...]:
    """The rows of the view `trades`."""
    return tuple(
        Trade(
            entry_session=date.fromisoformat(row["entry_session"]),
            entry_price=row["entry_price"],
            shares=row["shares"],
            entry_atr=nan if row["entry_atr"] is None else row["entry_atr"],
            exit_session=date.fromisoformat(row["exit_session"]),
            exit_price=row["exit_price"],
            exit_reasons=tuple(_reason(reason) for reason in _listed(row["exit_reasons"])),
            gross_pnl=row["gross_pnl"],
            costs=row["costs"],
            days=row["days"],
            sessions=row["sessions"],
        )
        for row in _rows(records)
    )


def _listed(reasons: str | None) -> list[str]:
    """The reasons of a trade; an execution that no order of ours explains was made by hand."""
    listed: list[str] = json.loads(reasons) if reasons else [str(OrderKind.FLATTEN)]
    return listed


def _reason(word: str) -> ExitReason | OrderKind:
    return ExitReason(word) if word in set(ExitReason) else OrderKind(word)


def _signals(records: Records) -> list[SignalDay]:
    """The rows of the view `signals`."""
    days = []
    for row in _rows(records):
        rules = {rule: None if row[rule] is None else bool(row[rule]) for rule in ENTRY_RULES}
        days.append(
            SignalDay(
                session=date.fromisoformat(row["session"]),
                rules=rules,
                is_flat=row["position_shares"] is None,
                why_not=_why_not(row),
                action=row["action"],
                drift_action=row["drift_action"],
            )
        )
    return days


def _why_not(row: dict[str, Any]) -> str:
    """Why an entry signal led to no trade; empty where it did."""
    if row["position_shares"] is not None:
        return ALREADY_HOLDING
    if row["blocked_by"]:
        why = row["reason"].rpartition("Blocked: ")[2]
        return f"{row['blocked_by']}: {why}" if "Blocked: " in row["reason"] else row["blocked_by"]
    if row["order_status"] in NO_TRADE:
        return f"order {row['order_status']}"
    return ""


def _undecided(
    desk: Desk, rows: Sequence[dict[str, Any]], signals: Sequence[SignalDay], tape: Tape, fills: Sequence[Fill]
) -> list[SignalDay]:
    """The ledger's sessions that were never decided, as the final bars would have had them."""
    decided = {day.session for day in signals}
    place = {session: i for i, session in enumerate(tape.sessions)}
    days = []
    for row in rows:
        session = date.fromisoformat(row["session"])
        if session in decided or session not in place:
            continue
        days.append(
            SignalDay(
                session=session,
                rules=rules_at(tape, place[session], desk.parameters),
                is_flat=_held_after(fills, session) == 0,
                why_not=f"{row['status']}: {row['why']}",
            )
        )
    return days


def _runs(records: Records) -> list[RunLine]:
    """The rows of the view `runs`."""
    lines = []
    for row in _rows(records):
        started = datetime.fromisoformat(row["started_at"])
        lines.append(
            RunLine(
                step=row["step"],
                session=row["session"] and date.fromisoformat(row["session"]),
                started_at=started,
                took=row["ended_at"] and datetime.fromisoformat(row["ended_at"]) - started,
                exit_code=row["exit_code"],
                retries=row["retries"],
                error=row["error"],
            )
        )
    return lines


def _rows(records: Records) -> list[dict[str, Any]]:
    return [dict(zip(records.columns, row, strict=True)) for row in records.rows]


# -- a backtest -------------------------------------------------------------------------------------------------------


def review_backtest(
    desk: Desk, done: Backtest, monthly_costs: Usd, progress: Progress, *, slippage_pct: float = 0.0
) -> Review:
    """A backtest that was run, with the whole history around it."""
    history, start = read_history(desk, None, None)
    tape = history.tape(desk.parameters.strategy, start, progress)
    result = done.result
    expectations = [("this range", done.verdicts)]
    if (result.sessions[0], result.sessions[-1]) != (tape.sessions[start], tape.sessions[-1]):
        expectations.append(_whole_history(desk, tape, start))
    return review(
        Subject(
            title="Backtest",
            period=f"{result.sessions[0]} to {result.sessions[-1]}",
            symbol=desk.book.symbol,
            source=done.source,
            is_synthetic=done.is_synthetic,
            is_book=False,
            result=result,
            capital=done.capital,
            values=result.equity,
            parameters=desk.parameters,
            tape=tape,
            dividends=_dividends(history, tape),
            signals=backtest_signals(tape, result, desk.parameters),
            noise=done.noise,
            expectations=tuple(expectations),
            monthly_costs=monthly_costs,
            fill=done.fill,
            slippage_pct=slippage_pct,
        )
    )


# -- as one document --------------------------------------------------------------------------------------------------


def document(one: Review) -> dict[str, Any]:
    """The review as one document: the keys of `report --json`, those of `backtest --json` among them."""
    subject, result = one.subject, one.subject.result
    return {
        "title": subject.title,
        "period": subject.period,
        "source": subject.source,
        "synthetic": subject.is_synthetic,
        "from": result.sessions[0].isoformat(),
        "to": result.sessions[-1].isoformat(),
        "capital": subject.capital,
        "trades": [trade_document(trade) for trade in result.trades],
        "open_position": plain(result.open_position),
        "metrics": metrics_document(one.metrics),
        "benchmark": plain(one.benchmark),
        "total_return": plain(one.total_return),
        "expectations": [
            verdict.document | {"range": label} for label, found in subject.expectations for verdict in found
        ],
        "exit_reasons": plain(one.by_reason),
        "months": plain(one.months),
        "filters": [
            {"left_out": effect.left_out, **plain(effect.metrics.curve), **plain(effect.metrics.trades)}
            for effect in one.filters
        ],
        "costs": plain(one.costs),
        "missed": plain(one.missed),
        "near_misses": plain(one.near_misses),
        "signals_while_holding": one.signals_while_holding,
        "accuracy": plain(one.accuracy),
        "drift": one.drift
        and {
            "compared": one.drift.compared,
            "differing": [
                {"session": day.session.isoformat(), "action": day.action, "drift_action": day.drift_action}
                for day in one.drift.differing
            ],
        },
        "idle_cash": plain(one.idle),
        "sessions": subject.sessions_by_status and dict(subject.sessions_by_status),
        "steps": plain(one.steps),
        "halts": list(subject.halts),
        "notes": list(subject.notes),
        "equity": [
            {"session": session.isoformat(), "value": value}
            for session, value in zip(result.sessions, subject.values, strict=True)
        ],
    }
