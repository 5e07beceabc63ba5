"""The rules over a whole history, session by session, on floats.

The same rule, sizing and gate functions as a live decision, called in one plain loop: what `run --from --to` does
with a database under it, this does in milliseconds, trade for trade.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from math import floor, isnan

from mtum_eod.core.evidence import Gate
from mtum_eod.core.money import Usd
from mtum_eod.core.parameters import Parameters
from mtum_eod.core.sizing import size_entry
from mtum_eod.core.strategy import ENTRY_RULES, EntryRule, ExitReason, entry_rules_fired, exit_rules_fired
from mtum_eod.core.trading import OrderKind


class FillModel(StrEnum):
    """When and at what price an order fills."""

    CLOSE = "close"  # market-on-close: the session's own close
    NEXT_OPEN = "next-open"
    NEXT_CLOSE = "next-close"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tape:
    """A history as the rules see it: equally long lists, one entry a session, ascending; NaN is not known.

    Prices and ATR in USD a share, volumes in shares, VIX in index points, RSI 0 to 100.
    """

    sessions: list[date]
    open: list[float]
    close: list[float]
    volume: list[float]
    ma_50: list[float]
    rsi: list[float]
    atr: list[float]
    volume_ma_20: list[float]
    vix: list[float]


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
    run = _Run(tape, p, capital, fill, slippage_pct, left_out, decided_on or tape)
    for i in range(start, len(tape.sessions)):
        run.session(i)
    return run.result(start)


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
    ) -> None:
        self.tape = tape
        self.seen = seen
        self.p = p
        self.capital = capital
        self.fill = fill
        self.slippage = slippage_pct / 100
        self.needed = tuple(rule for rule in ENTRY_RULES if rule is not left_out)
        self.shares = 0
        self.realised: Usd = 0.0
        self.entry = 0  # index of the entry's session
        self.entry_price = 0.0
        self.entry_atr = 0.0
        self.entry_cost: Usd = 0.0
        self.exit_due: tuple[ExitReason, ...] = ()  # decided, and still to be filled
        self.to_buy = 0  # shares of an entry decided at the session before
        self.to_buy_atr = 0.0
        self.last_close = float("nan")
        self.equity: list[Usd] = []
        self.held: list[int] = []
        self.trades: list[Trade] = []
        self.blocked: list[tuple[date, Gate]] = []
        self.daily_losses: list[date] = []

    def session(self, i: int) -> None:
        """Live through one session: fill what is due, decide, mark."""
        seen, p = self.seen, self.p
        close, price = seen.close[i], self.tape.close[i]
        if self.fill is not FillModel.CLOSE:
            self.fill_yesterdays(i)
        if self.shares:
            fired = exit_rules_fired(
                close, seen.ma_50[i], seen.rsi[i], seen.vix[i], self.entry_price, self.entry_atr, p.strategy
            )
            if fired and not self.exit_due:
                self.exit_due = fired
            if self.exit_due and self.fill is FillModel.CLOSE and price > 0:
                self.sell(i, price)
        elif not self.to_buy:
            fired_entry = entry_rules_fired(
                close, seen.ma_50[i], seen.rsi[i], seen.volume[i], seen.volume_ma_20[i], seen.vix[i], p.strategy
            )
            if len(fired_entry) >= len(self.needed) and all(rule in fired_entry for rule in self.needed):
                self.enter(i, close)
        self.mark(i, price)

    def enter(self, i: int, close: float) -> None:
        """Size the entry that the rules ask for, unless a gate stands against it."""
        equity = self.capital + self.realised
        size = size_entry(close, equity, equity, self.p.risk)
        if abs(close / self.last_close_before(i) - 1) * 100 > self.p.risk.max_price_move_pct:
            self.blocked.append((self.tape.sessions[i], Gate.PRICE_MOVE))
        elif size.blocked_by:
            self.blocked.append((self.tape.sessions[i], size.blocked_by))
        elif self.fill is FillModel.CLOSE:
            self.buy(i, self.tape.close[i], size.shares, self.seen.atr[i])
        else:
            self.to_buy, self.to_buy_atr = size.shares, self.seen.atr[i]

    def last_close_before(self, i: int) -> float:
        """The close of the session before; NaN for the first."""
        return self.tape.close[i - 1] if i else float("nan")

    def fill_yesterdays(self, i: int) -> None:
        """Fill what the session before decided."""
        price = (self.tape.open if self.fill is FillModel.NEXT_OPEN else self.tape.close)[i]
        if not price > 0:
            return
        if self.exit_due and self.shares:
            self.sell(i, price)
        elif self.to_buy:
            # Sized on yesterday's close: a gap beyond the buffer must not buy on credit.
            cost = price * (1 + self.slippage) * (1 + self.p.risk.transaction_cost)
            shares = min(self.to_buy, floor((self.capital + self.realised) / cost))
            self.to_buy = 0
            if shares:
                self.buy(i, price, shares, self.to_buy_atr)

    def buy(self, i: int, price: float, shares: int, atr: float) -> None:
        """Book an entry."""
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

    def mark(self, i: int, close: float) -> None:
        """Value the book at the close, or at the last known one."""
        if not isnan(close):
            self.last_close = close
        value = self.capital + self.realised + self.unrealised()
        if self.equity and self.equity[-1] - value >= self.p.risk.max_daily_loss:
            self.daily_losses.append(self.tape.sessions[i])
        self.equity.append(value)
        self.held.append(self.shares)

    def unrealised(self) -> Usd:
        """Open result at the last known close."""
        return self.shares * (self.last_close - self.entry_price) - self.entry_cost if self.shares else 0.0

    def result(self, start: int) -> BacktestResult:
        """What came of it."""
        held = None
        if self.shares:
            held = OpenPosition(
                entry_session=self.tape.sessions[self.entry],
                entry_price=self.entry_price,
                shares=self.shares,
                entry_atr=self.entry_atr,
                unrealised=self.unrealised(),
            )
        return BacktestResult(
            sessions=self.tape.sessions[start:],
            equity=self.equity,
            shares=self.held,
            trades=tuple(self.trades),
            open_position=held,
            blocked=tuple(self.blocked),
            daily_losses=tuple(self.daily_losses),
        )
