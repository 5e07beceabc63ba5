"""A backtest over any source: the history read once, checked once, and played through the live rules."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from math import nan
from typing import Any

import numpy as np

from mtum_eod.core import quality
from mtum_eod.core.backtest import BacktestResult, FillModel, Tape, Trade, backtest, last_known
from mtum_eod.core.decision_noise import DecisionNoise
from mtum_eod.core.expectations import Verdict, verdicts
from mtum_eod.core.indicators import Floats, atr, rsi, sma
from mtum_eod.core.market import COLUMNS, VIX, DailyBars, Finding, days_of
from mtum_eod.core.metrics import CurveMetrics, Metrics, curve_metrics, metrics
from mtum_eod.core.parameters import MIN_HISTORY_BARS, StrategyParameters
from mtum_eod.core.snapshot import number, plain
from mtum_eod.core.words import counted
from mtum_eod.errors import MarketDataError, SettingsError
from mtum_eod.jobs.desk import Desk
from mtum_eod.jobs.history import Progress
from mtum_eod.jobs.market import measure
from mtum_eod.jobs.session import last_closed


@dataclass(frozen=True, slots=True, kw_only=True)
class Backtest:
    """A backtest and what it is held against."""

    result: BacktestResult
    metrics: Metrics
    verdicts: tuple[Verdict, ...]  # against what the strategy was published with
    benchmark: CurveMetrics  # buy and hold the symbol from the first decided session's close, prices only
    capital: float
    fill: FillModel
    source: str
    is_synthetic: bool
    findings: tuple[Finding, ...]
    noise: DecisionNoise | None = None  # where it was asked for

    @property
    def document(self) -> dict[str, Any]:
        """The same as one document: the keys of `backtest --json`."""
        return {
            "source": self.source,
            "synthetic": self.is_synthetic,
            "from": self.result.sessions[0].isoformat(),
            "to": self.result.sessions[-1].isoformat(),
            "fill": str(self.fill),
            "capital": self.capital,
            "trades": [trade_document(trade) for trade in self.result.trades],
            "open_position": plain(self.result.open_position),
            "metrics": metrics_document(self.metrics),
            "expectations": [verdict.document for verdict in self.verdicts],
            "benchmark": plain(self.benchmark),
            "blocked": [{"session": day.isoformat(), "gate": str(gate)} for day, gate in self.result.blocked],
            "equity": [
                {"session": day.isoformat(), "value": value}
                for day, value in zip(self.result.sessions, self.result.equity, strict=True)
            ],
            **({"decision_noise": self.noise.document} if self.noise else {}),
        }


def run_backtest(
    desk: Desk,
    first: date | None,
    last: date | None,
    progress: Progress,
    *,
    fill: FillModel = FillModel.CLOSE,
    slippage_pct: float = 0.0,
) -> Backtest:
    """Play the rules over `first` to `last`, flat at first; earlier bars only warm the indicators up.

    first: None begins at the first session with enough bars. last: None ends at the last session that has closed.
    Raises MarketDataError for a start before that session, SettingsError for an empty range.
    """
    history, start = read_history(desk, first, last)
    tape = history.tape(desk.parameters.strategy, start, progress)
    result = backtest(tape, desk.parameters, desk.capital, start=start, fill=fill, slippage_pct=slippage_pct)
    found = metrics(result, desk.capital)
    return Backtest(
        result=result,
        metrics=found,
        verdicts=verdicts(result, desk.capital, found),
        benchmark=curve_metrics(last_known(tape.close)[start:], found.years),
        capital=desk.capital,
        fill=fill,
        source=desk.prices.name,
        is_synthetic=desk.book.is_synthetic,
        findings=history.findings,
    )


def read_history(desk: Desk, first: date | None, last: date | None) -> tuple[History, int]:
    """The history up to `last`, read and checked once, and the index of the first session to decide.

    Arguments and errors as in `run_backtest`.
    """
    now = desk.wall_clock.now()
    last = last or last_closed(desk.calendar, now)
    begin = desk.calendar.first_session
    prices, vix = (
        source.daily(symbol, begin, last, now) for source, symbol in ((desk.prices, desk.book.symbol), (desk.vix, VIX))
    )
    if prices.is_empty:
        raise MarketDataError(
            f"{desk.book.symbol}: {prices.source} has no bar up to {last}", hint="choose another range or source"
        )
    sessions = desk.calendar.sessions(prices.first, min(last, prices.last))
    return history_of(prices, vix, sessions), _start(desk.book.symbol, sessions, first)


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """A history that was checked once and can be measured under any periods."""

    prices: DailyBars  # as the source gave them
    vix: DailyBars
    sessions: list[date]
    columns: dict[str, Floats]  # open, high, low, close, volume, vix, a value a session; NaN is not known
    findings: tuple[Finding, ...]
    is_clean: bool

    def tape(self, p: StrategyParameters, start: int, progress: Progress) -> Tape:
        """The history as the rules see it.

        A clean history is measured in one pass: a window of `history_bars` forgets what lies before it, so indicators
        over all of it are those of each session's window. One with a fatal fault is measured window by window from
        `start` on, as the live job does, since a fault spoils every window it stands in.
        """
        given = {name: self.columns[name] for name in ("open", "close", "volume", "vix")}
        if self.is_clean:
            close, high, low, volume = (self.columns[name] for name in ("close", "high", "low", "volume"))
            return Tape(
                sessions=self.sessions,
                **given,
                ma_50=sma(close, p.ma_period),
                rsi=rsi(close, p.rsi_period),
                atr=atr(high, low, close, p.atr_period),
                volume_ma_20=sma(volume, p.volume_lookback),
            )
        names = ("close", "ma_50", "rsi", "atr", "volume", "volume_ma_20", "vix")
        slow = {name: np.full(len(self.sessions), nan) for name in names}
        for i in range(start, len(self.sessions)):
            window = self.sessions[max(0, i + 1 - p.history_bars) : i + 1]
            found = measure(self.prices, self.vix, window, p, None).indicators
            for name in names:
                slow[name][i] = getattr(found, name)
            progress(self.sessions[i], i + 1 - start, len(self.sessions) - start)
        return Tape(sessions=self.sessions, **given | slow)


def history_of(prices: DailyBars, vix: DailyBars, sessions: list[date]) -> History:
    """The bars checked, on the calendar's sessions."""
    days = days_of(sessions)
    checked = quality.check(prices, days, needed=0)
    checked_vix = quality.check(vix, days, needed=0, is_index=True)
    columns = dict(zip(COLUMNS, checked.bars.on(days).T.copy(), strict=True))
    return History(
        prices=prices,
        vix=vix,
        sessions=sessions,
        columns=columns | {"vix": checked_vix.bars.on(days)[:, 3].copy()},
        findings=(*checked.findings, *checked_vix.findings),
        # A volume that is not known would spoil TA-Lib's running sum for good, so that goes window by window too.
        is_clean=not checked.fatal and not np.isnan(columns["volume"]).any(),
    )


def _start(symbol: str, sessions: list[date], first: date | None) -> int:
    """The index of the first session to decide."""
    if len(sessions) < MIN_HISTORY_BARS:
        raise MarketDataError(
            f"{symbol}: {counted(len(sessions), 'session')} up to {sessions[-1]}, {MIN_HISTORY_BARS} needed",
            hint="fetch more with `mtum-eod data import`, or choose a later end",
        )
    ready = sessions[MIN_HISTORY_BARS - 1]
    if first is None:
        return MIN_HISTORY_BARS - 1
    if first < ready:
        raise MarketDataError(
            f"{symbol}: {first} is too early, {MIN_HISTORY_BARS} bars are there from {ready} on",
            hint=f"start at `--from {ready}` or later",
        )
    start = next((i for i, session in enumerate(sessions) if session >= first), None)
    if start is None:
        raise SettingsError(
            f"no session from {first} to {sessions[-1]}", hint="--from is the earlier date, and the data end there"
        )
    return start


def metrics_document(found: Metrics) -> dict[str, Any]:
    """The figures of a curve and of its trades, by name."""
    exposed = {"exposure": found.exposure, "daily_losses": found.daily_losses}
    return {**plain(found.curve), **plain(found.trades), **exposed}


def trade_document(trade: Trade) -> dict[str, Any]:
    """A trade with the names of the view `trades`."""
    return {
        "entry_session": trade.entry_session.isoformat(),
        "entry_price": trade.entry_price,
        "shares": trade.shares,
        "entry_atr": number(trade.entry_atr),
        "exit_session": trade.exit_session.isoformat(),
        "exit_price": trade.exit_price,
        "exit_reason": str(trade.exit_reason),
        "exit_reasons": [str(reason) for reason in trade.exit_reasons],
        "gross_pnl": trade.gross_pnl,
        "costs": trade.costs,
        "net_pnl": trade.net_pnl,
        "days": trade.days,
        "sessions": trade.sessions,
    }
