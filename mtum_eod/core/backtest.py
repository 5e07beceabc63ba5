"""The rules over a whole history: what `run --from --to` does with a database under it, in a millisecond.

The rules, sizing and gates are the functions of a live decision, and decide every session on which anything happens.
The sessions between are jumped over: the same rules, asked of all sessions at once, say that nothing would.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from math import floor, nan
from typing import Any

import numpy as np

from mtum_eod.core.evidence import Gate
from mtum_eod.core.gates import daily_loss_limit, move_pct
from mtum_eod.core.indicators import Floats
from mtum_eod.core.money import Usd
from mtum_eod.core.parameters import Parameters
from mtum_eod.core.sizing import size_entry
from mtum_eod.core.strategy import (
    ENTRY_RULES,
    EntryRule,
    ExitReason,
    entry_rules,
    exit_rules_fired,
    market_exits,
    price_exits,
)
from mtum_eod.core.trading import OrderKind


class FillModel(StrEnum):
    """When and at what price an order fills."""

    CLOSE = "close"  # market-on-close: the session's own close
    NEXT_OPEN = "next-open"
    NEXT_CLOSE = "next-close"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tape:
    """A history as the rules see it: one value a session, ascending; NaN is not known.

    Prices and ATR in USD a share, volumes in shares, VIX in index points, RSI 0 to 100.
    """

    sessions: list[date]
    open: Floats
    close: Floats
    volume: Floats
    ma_50: Floats
    rsi: Floats
    atr: Floats
    volume_ma_20: Floats
    vix: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade:
    """One closed round trip."""

    entry_session: date
    entry_price: float  # USD a share, as filled
    shares: int
    entry_atr: float  # USD a share
    exit_session: date
    exit_price: float
    exit_reasons: tuple[ExitReason | OrderKind, ...]  # a sale by hand has its order's kind
    gross_pnl: Usd
    costs: Usd  # both sides
    days: int  # calendar
    sessions: int

    @property
    def exit_reason(self) -> ExitReason | OrderKind:
        """The primary one."""
        return self.exit_reasons[0]

    @property
    def net_pnl(self) -> Usd:
        """Gross less costs; above zero is a win."""
        return self.gross_pnl - self.costs


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenPosition:
    """What is held after the last session."""

    entry_session: date
    entry_price: float
    shares: int
    entry_atr: float
    unrealised: Usd  # at the last known close, entry cost booked


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestResult:
    """What the rules made of a history."""

    sessions: list[date]
    equity: list[Usd]  # at each session's close
    shares: list[int]  # held after each session
    trades: tuple[Trade, ...]
    open_position: OpenPosition | None
    blocked: tuple[tuple[date, Gate], ...]  # entries the rules asked for and a gate refused
    daily_losses: tuple[date, ...]  # sessions that lost more than `max_daily_loss`; counted, not latched


def backtest(
    tape: Tape,
    p: Parameters,
    capital: Usd,
    *,
    start: int,
    fill: FillModel = FillModel.CLOSE,
    slippage_pct: float = 0.0,
    left_out: EntryRule | None = None,
    decided_on: Tape | None = None,
) -> BacktestResult:
    """Decide every session from index `start` on, beginning flat; earlier ones only warmed the indicators up.

    slippage_pct: how much worse than the model's price each side fills, percent.
    left_out: an entry rule that is not asked, to see what it does.
    decided_on: what the decisions see of the same sessions where that is not `tape`; fills and marks are `tape`'s.
    An order of the next-day models that the last session decides stays unfilled.
    """
    run = _Run(tape, p, capital, fill, slippage_pct, left_out, decided_on or tape, start)
    i = start
    while (i := run.next_event(i)) < len(tape.sessions):
        run.session(i)
        i += 1
    return run.result()


def last_known(values: Floats) -> Floats:
    """Each value, or the last known one before it; 0 before the first."""
    missing = np.isnan(values)
    if not missing.any():
        return values
    latest = np.maximum.accumulate(np.where(missing, -1, np.arange(len(values))))
    return np.where(latest < 0, 0.0, values[latest])


class _Run:
    """The state of one pass. Plain attributes: a value object a session would cost more than the rules."""

    def __init__(
        self,
        tape: Tape,
        p: Parameters,
        capital: Usd,
        fill: FillModel,
        slippage_pct: float,
        left_out: EntryRule | None,
        seen: Tape,
        start: int,
    ) -> None:
        self.tape = tape
        self.seen = seen
        self.p = p
        self.capital = capital
        self.fill = fill
        self.slippage = slippage_pct / 100
        self.start = start
        asked = zip(
            ENTRY_RULES,
            entry_rules(seen.close, seen.ma_50, seen.rsi, seen.volume, seen.volume_ma_20, seen.vix, p.strategy),
            strict=True,
        )
        self.entries = _places(np.logical_and.reduce([holds for rule, holds in asked if rule is not left_out]))
        self.exits = _places(np.logical_or.reduce(market_exits(seen.close, seen.ma_50, seen.rsi, seen.vix, p.strategy)))
        self.closes = np.append(seen.close, nan)  # one place more, where a search ends
        self.loss_limit = daily_loss_limit(p.risk.max_daily_loss)
        # by how much each session's price stands below the last known close, where a daily loss sells
        self.falls = np.append(nan, last_known(tape.close)) - self.closes if p.risk.daily_loss_exit else None
        self.shares = 0
        self.realised: Usd = 0.0
        self.entry = 0  # index of the entry's session
        self.entry_price = 0.0
        self.entry_atr = 0.0
        self.entry_cost: Usd = 0.0
        self.exit_due: tuple[ExitReason, ...] = ()  # decided, and still to be filled
        self.to_buy = 0  # shares of an entry decided at the session before
        self.to_buy_atr = 0.0
        self.books: list[tuple[float, ...]] = []  # see `keep`
        self.trades: list[Trade] = []
        self.blocked: list[tuple[date, Gate]] = []
        self.keep(start)

    def next_event(self, i: int) -> int:
        """The first session from `i` on that anything happens on; the number of sessions where nothing does."""
        if self.exit_due or self.to_buy:
            return i
        if not self.shares:
            return self.entries[bisect_left(self.entries, i)]
        end = self.exits[bisect_left(self.exits, i)]
        target, stop = price_exits(self.closes[i : end + 1], self.entry_price, self.entry_atr, self.p.strategy)
        reached = target | stop
        if self.falls is not None:
            reached |= self.shares * self.falls[i : end + 1] >= self.loss_limit
        reached[-1] = True  # at `end` the market asks for the exit, or the history is over
        return i + int(reached.argmax())

    def session(self, i: int) -> None:
        """Live through one session: fill what is due, then decide."""
        seen = self.seen
        close = seen.close.item(i)
        if self.fill is not FillModel.CLOSE:
            self.fill_yesterdays(i)
        if self.shares:
            ma, rsi, vix = seen.ma_50.item(i), seen.rsi.item(i), seen.vix.item(i)
            fired = exit_rules_fired(close, ma, rsi, vix, self.entry_price, self.entry_atr, self.p.strategy)
            if self.falls is not None and self.lost(i, self.falls) >= self.loss_limit:
                fired = (*fired, ExitReason.DAILY_LOSS)
            if fired and not self.exit_due:
                self.exit_due = fired
            price = self.tape.close.item(i)
            if self.exit_due and self.fill is FillModel.CLOSE and price > 0:
                self.sell(i, price)
        # without a price nothing is bought, also where the trend is not asked
        elif not self.to_buy and close > 0 and self.entries[bisect_left(self.entries, i)] == i:
            self.enter(i, close)
        self.keep(i)

    def lost(self, i: int, falls: Floats) -> Usd:
        """How far the book stands below its last close at the price of session `i`'s decision; NaN is not known."""
        if i > self.entry:
            return self.shares * falls.item(i)
        # bought today, on an order of the session before: at the last close there was nothing to lose
        return self.shares * (self.entry_price - self.seen.close.item(i)) + self.entry_cost

    def enter(self, i: int, close: float) -> None:
        """Size the entry that the rules ask for, unless a gate stands against it."""
        equity = self.capital + self.realised
        size = size_entry(close, equity, equity, self.p.risk)
        before = self.tape.close.item(i - 1) if i else nan
        if move_pct(close, before) > self.p.risk.max_price_move_pct:
            self.blocked.append((self.tape.sessions[i], Gate.PRICE_MOVE))
        elif size.blocked_by:
            self.blocked.append((self.tape.sessions[i], size.blocked_by))
        elif self.fill is FillModel.CLOSE:
            self.buy(i, self.tape.close.item(i), size.shares, self.seen.atr.item(i))
        else:
            self.to_buy, self.to_buy_atr = size.shares, self.seen.atr.item(i)

    def fill_yesterdays(self, i: int) -> None:
        """Fill what the session before decided."""
        price = (self.tape.open if self.fill is FillModel.NEXT_OPEN else self.tape.close).item(i)
        if not price > 0:
            return
        if self.exit_due and self.shares:
            self.sell(i, price)
        elif self.to_buy:
            self.buy(i, price, self.to_buy, self.to_buy_atr)
            self.to_buy = 0

    def buy(self, i: int, price: float, shares: int, atr: float) -> None:
        """Book an entry of as many of these shares as there is money for.

        They were sized on another price where they fill a day later, were decided early, or slip beyond the buffer:
        nothing is bought on credit.
        """
        cost = price * (1 + self.slippage) * (1 + self.p.risk.transaction_cost)
        shares = min(shares, floor((self.capital + self.realised) / cost))
        if not shares:
            return
        self.entry, self.shares, self.entry_atr = i, shares, atr
        self.entry_price = price * (1 + self.slippage)
        self.entry_cost = self.p.risk.transaction_cost * shares * self.entry_price

    def sell(self, i: int, price: float) -> None:
        """Book an exit and the round trip it closes."""
        price *= 1 - self.slippage
        costs = self.entry_cost + self.p.risk.transaction_cost * self.shares * price
        opened, closed = self.tape.sessions[self.entry], self.tape.sessions[i]
        trade = Trade(
            entry_session=opened,
            entry_price=self.entry_price,
            shares=self.shares,
            entry_atr=self.entry_atr,
            exit_session=closed,
            exit_price=price,
            exit_reasons=self.exit_due,
            gross_pnl=self.shares * (price - self.entry_price),
            costs=costs,
            days=(closed - opened).days,
            sessions=i - self.entry,
        )
        self.trades.append(trade)
        self.realised += trade.net_pnl
        self.shares, self.exit_due = 0, ()

    def keep(self, i: int) -> None:
        """Note what the book is from session `i` on, to be valued at each close."""
        self.books.append((i, self.capital + self.realised, self.shares, self.entry_price, self.entry_cost))

    def result(self) -> BacktestResult:
        """What came of it."""
        sessions = self.tape.sessions[self.start :]
        begun, *book = np.array(self.books).T
        lengths = np.diff(begun.astype(np.int64), append=len(self.tape.sessions))
        cash, shares, entry_price, entry_cost = np.repeat(book, lengths, axis=1)
        marked = last_known(self.tape.close)[self.start :]
        unrealised = np.where(shares > 0, shares * (marked - entry_price) - entry_cost, 0.0)
        equity = cash + unrealised
        held = None
        if self.shares:
            held = OpenPosition(
                entry_session=self.tape.sessions[self.entry],
                entry_price=self.entry_price,
                shares=self.shares,
                entry_atr=self.entry_atr,
                unrealised=float(unrealised[-1]),
            )
        losses = np.flatnonzero(equity[:-1] - equity[1:] >= self.loss_limit)
        return BacktestResult(
            sessions=sessions,
            equity=equity.tolist(),
            shares=shares.astype(np.int64).tolist(),
            trades=tuple(self.trades),
            open_position=held,
            blocked=tuple(self.blocked),
            daily_losses=tuple(sessions[i + 1] for i in losses.tolist()),
        )


def _places(holds: np.ndarray[Any, np.dtype[np.bool_]]) -> list[int]:
    """The sessions on which it holds, and their number behind them, where a search ends."""
    return [*np.flatnonzero(holds).tolist(), len(holds)]
