"""What a report says: a book or a backtest over a range, taken apart. Pure; `jobs.report` gathers what goes in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from itertools import accumulate, pairwise
from math import isnan, nan

import numpy as np

from mtum_eod.core.backtest import BacktestResult, FillModel, OpenPosition, Tape, Trade, backtest, last_known
from mtum_eod.core.decision_noise import DecisionNoise
from mtum_eod.core.expectations import Verdict
from mtum_eod.core.indicators import Floats
from mtum_eod.core.metrics import (
    DAYS_A_YEAR,
    CurveMetrics,
    Metrics,
    curve_metrics,
    drawdowns,
    metrics,
)
from mtum_eod.core.money import Usd
from mtum_eod.core.parameters import Parameters
from mtum_eod.core.strategy import ENTRY_RULES, EntryRule, entry_rules, target_price
from mtum_eod.core.trading import CashFlow, Split, ratio_since

HORIZONS = (1, 5, 10, 20)
"""How many sessions after a signal its return is looked at."""

ALREADY_HOLDING = "already holding"


class Period(StrEnum):
    """How far back a report on the book looks."""

    WEEK = "week"
    MONTH = "month"
    YEAR = "year"
    ALL = "all"


# -- what goes in -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalDay:
    """One session's entry rules, and what came of them."""

    session: date
    rules: dict[EntryRule, bool | None]
    is_flat: bool  # before the decision
    why_not: str = ""  # why an entry signal led to no trade; empty where it did, or where there was none
    action: str = ""
    drift_action: str | None = None  # what the final bar would have decided; None where nobody looked

    @property
    def is_entry(self) -> bool:
        """Whether all four rules held."""
        return all(self.rules[rule] is True for rule in ENTRY_RULES)

    @property
    def only_failure(self) -> EntryRule | None:
        """The one rule that did not hold where the other three did."""
        failed = [rule for rule in ENTRY_RULES if self.rules[rule] is not True]
        return failed[0] if len(failed) == 1 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLine:
    """One run of one step."""

    step: str
    session: date | None
    started_at: datetime
    took: timedelta | None  # None: it never ended
    exit_code: int | None
    retries: int
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Eve:
    """The session before a range in which the book was lived already: its close is where the range begins."""

    session: date
    shares: int  # held after it


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is reviewed: one range of a book or a backtest, with the market around it."""

    title: str
    period: str
    symbol: str
    source: str
    is_synthetic: bool
    is_book: bool  # else a backtest
    result: BacktestResult  # equity as it grew from `capital`, deposits and withdrawals taken out
    capital: Usd  # equity before the first session
    values: Sequence[Usd]  # equity at each close as the book has it, deposits and withdrawals included
    eve: Eve | None = None  # None where the range begins with the book or the backtest itself
    splits: Sequence[Split] = ()  # that the book has followed
    parameters: Parameters
    tape: Tape  # the whole known history
    dividends: Mapping[date, Usd] | None  # a share, by ex-date; None where the source does not know them
    signals: Sequence[SignalDay]
    expectations: tuple[tuple[str, tuple[Verdict, ...]], ...]  # by range: the reviewed one first
    monthly_costs: Usd
    multiples: Mapping[date, float] = field(default_factory=dict)  # atr_multiplier of entry decisions that recorded it
    noise: DecisionNoise | None = None  # where a backtest was asked for it
    fill: FillModel = FillModel.CLOSE
    slippage_pct: float = 0.0
    runs: Sequence[RunLine] = ()
    sessions_by_status: Mapping[str, int] | None = None  # of the ledger; None in a backtest
    flows: Sequence[CashFlow] = ()
    halts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def since(self) -> date:
        """The session at whose close both sides begin: the eve, else the first of the range."""
        return self.eve.session if self.eve else self.result.sessions[0]

    @property
    def trades_on_scale(self) -> list[Trade]:
        """The closed trades with prices and ATR on the scale of the tape, which has followed every split."""
        return [_on_scale(trade, self.scale_since(trade.exit_session)) for trade in self.result.trades]

    def scale_since(self, session: date) -> float:
        """How many shares of today one share of that session has become."""
        return ratio_since(self.splits, session)

    def shares_on_scale(self, session: date, shares: int) -> float:
        """Shares held after a session, as shares of today: a book rescales those of an open round trip only."""
        trades = self.result.trades
        closed = (trade.exit_session for trade in trades if trade.entry_session <= session < trade.exit_session)
        return shares * self.scale_since(next(closed, date.max))


def _on_scale(trade: Trade, ratio: float) -> Trade:
    return replace(
        trade,
        entry_price=trade.entry_price / ratio,
        entry_atr=trade.entry_atr / ratio,
        exit_price=trade.exit_price / ratio,
    )


# -- what comes out ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """Lines over the range's sessions, USD; what was held, and the symbol bought with all of `capital` at `since`."""

    equity: list[Usd]
    hold: list[Usd]
    drawdown: list[float]  # ratio, 0 or positive
    hold_drawdown: list[float]
    equity_with_dividends: list[Usd] | None  # None where the source knows no dividends
    hold_with_dividends: list[Usd] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TotalReturn:
    """The figures with dividends: paid out in cash to these rules, reinvested by the holder."""

    strategy: CurveMetrics
    benchmark: CurveMetrics


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonLine:
    """Trades that one primary reason ended."""

    reason: str
    trades: int
    wins: int
    net_pnl: Usd
    average_pnl: Usd


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthReturn:
    """The return of one calendar month, or of what of it lies in the range."""

    year: int
    month: int
    ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TradePath:
    """A trade's closes on its way from entry (0) to target (1)."""

    entry_session: date
    shares: int
    net_pnl: Usd  # unrealised where it is still open
    is_open: bool
    progress: list[float]  # the entry's session first
    closes: list[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterEffect:
    """The rules played again over the range without one entry rule; None: with all four."""

    left_out: EntryRule | None
    metrics: Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class CostImpact:
    """What trading and keeping the program running took, USD."""

    gross_pnl: Usd
    costs: Usd
    net_pnl: Usd
    monthly_costs: Usd
    months: float
    running_costs: Usd  # monthly costs over the range
    net_after_all: Usd
    monthly_costs_a_year: float  # ratio of the capital


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """An entry signal without a trade."""

    session: date
    why: str
    forward: float  # the 20-session return that followed; NaN where it lies ahead


@dataclass(frozen=True, slots=True, kw_only=True)
class NearMiss:
    """A flat session on which one rule alone stood against an entry."""

    session: date
    rule: EntryRule
    forward: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Returns that followed entry signals, beside those that followed any session of the range."""

    horizon: int  # sessions
    signals: int
    mean: float
    median: float
    positive: float  # share of them above zero
    mean_any: float
    positive_any: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """Decisions made before the close, beside those the final bars would have led to."""

    compared: int
    differing: tuple[SignalDay, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleCash:
    """Money that could not work."""

    cap: Usd  # `max_position_size`
    above_cap: Usd  # mean over entries of the equity that the cap shut out
    above_cap_now: Usd
    cash_share_held: float  # mean share of equity in cash while something was held


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLine:
    """How the runs of one step went."""

    step: str
    runs: int
    failed: int  # ended with an exit code other than 0, or never
    retries: int
    median_seconds: float
    longest_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """Everything a report says about its subject."""

    subject: Subject
    market: Tape  # of the range
    metrics: Metrics
    benchmark: CurveMetrics
    curves: Curves
    total_return: TotalReturn | None
    by_reason: tuple[ReasonLine, ...]
    months: tuple[MonthReturn, ...]
    paths: tuple[TradePath, ...]
    filters: tuple[FilterEffect, ...]
    costs: CostImpact
    missed: tuple[Missed, ...]
    near_misses: tuple[NearMiss, ...]
    signals_while_holding: int
    accuracy: tuple[Accuracy, ...]
    drift: Drift | None  # None in a backtest, which decides on final bars
    idle: IdleCash
    steps: tuple[StepLine, ...]


# -- how it comes about -----------------------------------------------------------------------------------------------


def review(subject: Subject) -> Review:
    """The subject taken apart."""
    result, capital, tape = subject.result, subject.capital, subject.tape
    market = cut(tape, result.sessions)
    place = {session: i for i, session in enumerate(tape.sessions)}
    lines = curves(subject)
    found = metrics(result, capital, subject.since)
    flat = [day for day in subject.signals if day.is_flat]
    compared = [day for day in subject.signals if day.drift_action is not None]
    return Review(
        subject=subject,
        market=market,
        metrics=found,
        benchmark=_held(lines.hold, subject, found.years),
        curves=lines,
        total_return=_total_return(lines, subject, found.years),
        by_reason=by_reason(result.trades),
        months=months(result.sessions, lines.equity, capital),
        paths=paths(subject),
        filters=filter_effects(subject),
        costs=cost_impact(result.trades, capital, subject.monthly_costs, result.sessions),
        missed=tuple(
            Missed(session=day.session, why=day.why_not, forward=forward_return(tape, place, day.session))
            for day in flat
            if day.is_entry and day.why_not
        ),
        near_misses=tuple(
            NearMiss(session=day.session, rule=rule, forward=forward_return(tape, place, day.session))
            for day in flat
            if (rule := day.only_failure)
        ),
        signals_while_holding=sum(day.is_entry and not day.is_flat for day in subject.signals),
        accuracy=accuracy(tape, [day.session for day in subject.signals if day.is_entry], result.sessions),
        drift=Drift(compared=len(compared), differing=tuple(day for day in compared if day.action != day.drift_action))
        if subject.is_book
        else None,
        idle=idle_cash(subject, market.close.tolist()),
        steps=steps(subject.runs),
    )


def cut(tape: Tape, sessions: Sequence[date]) -> Tape:
    """The tape at `sessions`, in their order; what it does not have is NaN."""
    place = {session: i for i, session in enumerate(tape.sessions)}
    names = [name for name in Tape.__dataclass_fields__ if name != "sessions"]
    at = np.array([place.get(session, -1) for session in sessions])  # -1 is the NaN behind the last
    columns = {name: np.append(getattr(tape, name), nan)[at] for name in names}
    return Tape(sessions=list(sessions), **columns)


def rules_at(tape: Tape, i: int, p: Parameters) -> dict[EntryRule, bool | None]:
    """The entry rules at index `i`, as a backtest judges them: what is not known does not hold."""
    holds = entry_rules(
        tape.close[i], tape.ma_50[i], tape.rsi[i], tape.volume[i], tape.volume_ma_20[i], tape.vix[i], p.strategy
    )
    return {rule: bool(it_holds) for rule, it_holds in zip(ENTRY_RULES, holds, strict=True)}


def backtest_signals(tape: Tape, result: BacktestResult, p: Parameters) -> list[SignalDay]:
    """A backtest's sessions as signal days."""
    place = {session: i for i, session in enumerate(tape.sessions)}
    blocked = {session: str(gate) for session, gate in result.blocked}
    held = [0, *result.shares]
    days = []
    for n, session in enumerate(result.sessions):
        rules = rules_at(tape, place[session], p)
        why_not = blocked.get(session, "") if held[n] == 0 else ALREADY_HOLDING
        days.append(SignalDay(session=session, rules=rules, is_flat=held[n] == 0, why_not=why_not))
    return days


def dividends(sessions: Sequence[date], close: Floats, adjusted: Floats) -> dict[date, Usd]:
    """Dividends a share by ex-date, worked back from closes as printed and closes adjusted for dividends.

    A vendor scales every earlier close by 1 - D / (close before the ex-date); so the step in adjusted / close tells D.
    Steps below 0.01 % come from rounding and count as none. Source: CRSP, total return calculation.
    """
    known = ~(np.isnan(close) | np.isnan(adjusted))
    days = [session for session, is_known in zip(sessions, known, strict=True) if is_known]
    factor = adjusted[known] / close[known]
    step = 1 - factor[:-1] / factor[1:]
    return {
        day: float(share * before)
        for day, share, before in zip(days[1:], step, close[known][:-1], strict=True)
        if share > 1e-4
    }


def curves(subject: Subject) -> Curves:
    """The range's lines. Both sides are drawn without dividends, and with them where they are known."""
    result, capital, eve = subject.result, subject.capital, subject.eve
    # Without an eve both begin at the first close, which is asked for twice: nothing has moved by then.
    days = [subject.since, *result.sessions]
    closes = _filled(cut(subject.tape, days).close)
    hold = capital * closes[1:] / closes[0]
    with_dividends = hold_with_dividends = None
    if (paid := subject.dividends) is not None:
        # What is paid on the first session went to who held on its eve.
        day_paid = [paid.get(day, 0.0) if before < day else 0.0 for before, day in pairwise(days)]
        held_before = [eve.shares if eve else 0, *result.shares[:-1]]
        cash = accumulate(
            subject.shares_on_scale(before, shares) * each
            for before, shares, each in zip(days[:-1], held_before, day_paid, strict=True)
        )
        with_dividends = [value + received for value, received in zip(result.equity, cash, strict=True)]
        reinvested = np.cumprod(1 + np.array(day_paid) / closes[1:])  # at the close of the ex-date
        hold_with_dividends = (hold * reinvested).tolist()
    return Curves(
        equity=list(result.equity),
        hold=hold.tolist(),
        drawdown=drawdowns(np.array([capital, *result.equity]))[1:].tolist(),
        hold_drawdown=drawdowns(np.array([capital, *hold]))[1:].tolist(),
        equity_with_dividends=with_dividends,
        hold_with_dividends=hold_with_dividends,
    )


def _filled(closes: Floats) -> Floats:
    """Closes with each unknown one replaced by the last known, the first known one before that."""
    known = np.flatnonzero(~np.isnan(closes))
    if not len(known):
        return np.ones(len(closes))
    filled = last_known(closes)
    filled[: known[0]] = closes[known[0]]
    return filled


def _held(line: Sequence[Usd], subject: Subject, years: float) -> CurveMetrics:
    """The figures of buying and holding: from the eve's close, where there is one."""
    return curve_metrics(np.array([subject.capital, *line] if subject.eve else line), years)


def _total_return(lines: Curves, subject: Subject, years: float) -> TotalReturn | None:
    if lines.equity_with_dividends is None or lines.hold_with_dividends is None:
        return None
    return TotalReturn(
        strategy=curve_metrics(np.array([subject.capital, *lines.equity_with_dividends]), years),
        benchmark=_held(lines.hold_with_dividends, subject, years),
    )


def by_reason(trades: Sequence[Trade]) -> tuple[ReasonLine, ...]:
    """Profit and loss by what ended the trades, the reason with most trades first."""
    lines = []
    for reason in dict.fromkeys(trade.exit_reason for trade in trades):
        net = [trade.net_pnl for trade in trades if trade.exit_reason == reason]
        wins = sum(pnl > 0 for pnl in net)
        lines.append(
            ReasonLine(
                reason=str(reason), trades=len(net), wins=wins, net_pnl=sum(net), average_pnl=sum(net) / len(net)
            )
        )
    return tuple(sorted(lines, key=lambda line: -line.trades))


def months(sessions: Sequence[date], equity: Sequence[Usd], capital: Usd) -> tuple[MonthReturn, ...]:
    """The return of each month of the range, from the last value before it to its own last."""
    last = {(session.year, session.month): value for session, value in zip(sessions, equity, strict=True)}
    before, found = capital, []
    for (year, month), value in last.items():
        found.append(MonthReturn(year=year, month=month, ratio=value / before - 1))
        before = value
    return tuple(found)


def paths(subject: Subject) -> tuple[TradePath, ...]:
    """Each trade's way to its target, the open position's last. A trade without a known ATR has no target: left out.

    The target is that of the entry's own decision, whatever the settings are today.
    """
    held, last = subject.result.open_position, subject.tape.sessions[-1]
    trades = subject.trades_on_scale
    ways = [_path(trade, trade.exit_session, trade.net_pnl, subject, is_open=False) for trade in trades]
    if held is not None:
        ways.append(_path(held, last, held.unrealised, subject, is_open=True))
    return tuple(way for way in ways if way is not None)


def _path(held: Trade | OpenPosition, until: date, pnl: Usd, subject: Subject, *, is_open: bool) -> TradePath | None:
    p, tape = subject.parameters.strategy, subject.tape
    own = replace(p, atr_multiplier=subject.multiples.get(held.entry_session, p.atr_multiplier))
    room = target_price(held.entry_price, held.entry_atr, own) - held.entry_price
    closes = [
        close
        for session, close in zip(tape.sessions, tape.close.tolist(), strict=True)
        if held.entry_session <= session <= until
    ]
    if isnan(room) or room <= 0 or not closes:
        return None
    return TradePath(
        entry_session=held.entry_session,
        shares=held.shares,
        net_pnl=pnl,
        is_open=is_open,
        progress=[(close - held.entry_price) / room for close in closes],
        closes=closes,
    )


def filter_effects(subject: Subject) -> tuple[FilterEffect, ...]:
    """The rules played over the range with all four entry rules, then with each of them left out.

    Empty where the range begins before the indicators are known.
    """
    tape, sessions, capital = subject.tape, subject.result.sessions, subject.capital
    inside = [i for i, session in enumerate(tape.sessions) if sessions[0] <= session <= sessions[-1]]
    if not inside or isnan(tape.ma_50[inside[0]]):
        return ()
    start, end = inside[0], inside[-1] + 1
    ended = cut(tape, tape.sessions[:end])

    def played(rule: EntryRule | None) -> Metrics:
        result = backtest(
            ended,
            subject.parameters,
            capital,
            start=start,
            fill=subject.fill,
            slippage_pct=subject.slippage_pct,
            left_out=rule,
        )
        return metrics(result, capital)

    return tuple(FilterEffect(left_out=rule, metrics=played(rule)) for rule in (None, *ENTRY_RULES))


def cost_impact(trades: Sequence[Trade], capital: Usd, monthly: Usd, sessions: Sequence[date]) -> CostImpact:
    """What was earned before and after costs. A range counts its calendar days, months of a twelfth of a year."""
    gross, costs = sum(trade.gross_pnl for trade in trades), sum(trade.costs for trade in trades)
    length = ((sessions[-1] - sessions[0]).days + 1) / DAYS_A_YEAR * 12
    return CostImpact(
        gross_pnl=gross,
        costs=costs,
        net_pnl=gross - costs,
        monthly_costs=monthly,
        months=length,
        running_costs=monthly * length,
        net_after_all=gross - costs - monthly * length,
        monthly_costs_a_year=monthly * 12 / capital,
    )


def forward_return(tape: Tape, place: Mapping[date, int], session: date, horizon: int = HORIZONS[-1]) -> float:
    """From the session's close to the close `horizon` sessions later; NaN where that is not known."""
    i = place.get(session)
    if i is None or i + horizon >= len(tape.close):
        return nan
    return float(tape.close[i + horizon] / tape.close[i] - 1)


def accuracy(tape: Tape, signals: Sequence[date], sessions: Sequence[date]) -> tuple[Accuracy, ...]:
    """What followed entry signals, at each horizon, beside what followed any session."""
    place = {session: i for i, session in enumerate(tape.sessions)}

    def known(days: Sequence[date], horizon: int) -> Floats:
        found = np.array([forward_return(tape, place, day, horizon) for day in days], dtype=np.float64)
        return found[~np.isnan(found)]

    lines = []
    for horizon in HORIZONS:
        after, any_day = known(signals, horizon), known(sessions, horizon)
        lines.append(
            Accuracy(
                horizon=horizon,
                signals=len(after),
                mean=_mean(after),
                median=float(np.median(after)) if len(after) else nan,
                positive=_mean(after > 0),
                mean_any=_mean(any_day),
                positive_any=_mean(any_day > 0),
            )
        )
    return tuple(lines)


def _mean(values: Floats | np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> float:
    return float(np.mean(values)) if len(values) else nan


def idle_cash(subject: Subject, closes: Sequence[float]) -> IdleCash:
    """What `max_position_size` kept out of the market: equity that `max_position_pct` allows, above the cap."""
    result, risk = subject.result, subject.parameters.risk
    cap, share = risk.max_position_size, risk.max_position_pct / 100
    equity_before = [subject.capital, *subject.values]
    place = {session: i for i, session in enumerate(result.sessions)}
    entries = [place[trade.entry_session] for trade in result.trades if trade.entry_session in place]
    if result.open_position and result.open_position.entry_session in place:
        entries.append(place[result.open_position.entry_session])
    shut_out = [max(0.0, equity_before[i] * share - cap) for i in entries]
    in_cash = [
        1 - subject.shares_on_scale(session, shares) * close / value
        for session, shares, close, value in zip(result.sessions, result.shares, closes, subject.values, strict=True)
        if shares and not isnan(close)
    ]
    return IdleCash(
        cap=cap,
        above_cap=_mean(np.array(shut_out)),
        above_cap_now=max(0.0, subject.values[-1] * share - cap),
        cash_share_held=_mean(np.array(in_cash)),
    )


def steps(runs: Sequence[RunLine]) -> tuple[StepLine, ...]:
    """How the runs went, by step."""
    lines = []
    for step in dict.fromkeys(run.step for run in runs):
        own = [run for run in runs if run.step == step]
        took = [run.took.total_seconds() for run in own if run.took is not None]
        lines.append(
            StepLine(
                step=step,
                runs=len(own),
                failed=sum(run.exit_code != 0 for run in own),
                retries=sum(run.retries for run in own),
                median_seconds=float(np.median(took)) if took else nan,
                longest_seconds=max(took, default=nan),
            )
        )
    return tuple(lines)


def time_weighted(values: Sequence[Usd], flows: Sequence[Usd], before: Usd) -> list[Usd]:
    """How `before` would have grown at the book's own daily returns, money paid in and out left aside.

    values: the book's worth at each close; flows: what came in (positive) or went out since the close before.
    Source: CFA Institute, Global Investment Performance Standards (time-weighted return, flows at the end of the day).
    """
    grown, previous, line = before, before, []
    for value, flow in zip(values, flows, strict=True):
        if previous > 0:
            grown *= (value - flow) / previous
        previous = value
        line.append(grown)
    return line
