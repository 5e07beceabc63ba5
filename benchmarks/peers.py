"""The strategy as the users of other backtesters would write it, to the same rules (SPEC: 300 bars, sizing, exits).

Each gives its closed round trips as (entry session, shares, exit session). A peer is imported when it is asked for.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from math import floor
from typing import Any

import numpy as np
import pandas as pd
import talib

from mtum_eod.core.indicators import Floats
from mtum_eod.core.parameters import MIN_HISTORY_BARS, Parameters

os.environ["TQDM_DISABLE"] = "1"  # the peers' progress bars would be drawn, and timed

START = MIN_HISTORY_BARS - 1
CAPITAL = 5000.0
FEE = 0.001
BUFFER = 1 + 1.0 / 100
CAP = 5000.0
VIX_EXIT, RSI_EXIT = 30.0, 30.0
DEFAULTS = Parameters()

RoundTrip = tuple[date, int, date]
Combination = tuple[int, float, float, float]
"""ma_period, rsi_entry_threshold, vix_entry_threshold, atr_multiplier."""

ONE: Combination = (50, 50.0, 25.0, 4.0)


@dataclass(frozen=True)
class Series:
    """The history as arrays, one value a session."""

    sessions: list[date]
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    vix: Floats

    @property
    def indicators(self) -> tuple[Floats, Floats, Floats]:
        """RSI, ATR and the mean volume, at their default periods."""
        return (
            talib.RSI(self.close, 14),
            talib.ATR(self.high, self.low, self.close, 14),
            talib.SMA(self.volume, 20),
        )


def whole_shares(cash: float, price: float) -> int:
    """What an entry buys."""
    return floor(min(cash, CAP) / (price * BUFFER * (1 + FEE)))


# -- backtesting.py ---------------------------------------------------------------------------------------------------


def backtesting(frame: pd.DataFrame) -> Callable[[], list[RoundTrip]]:
    """A run of backtesting.py, its statistics included: it computes them whether they are wanted or not.

    frame: Open, High, Low, Close, Volume, VIX by session.
    """
    from backtesting import Backtest, Strategy

    warnings.filterwarnings("ignore", category=UserWarning, module="backtesting")

    class Momentum(Strategy):
        def init(self) -> None:
            data = self.data
            self.ma = self.I(talib.SMA, data.Close, 50)
            self.rsi = self.I(talib.RSI, data.Close, 14)
            self.atr = self.I(talib.ATR, data.High, data.Low, data.Close, 14)
            self.mean_volume = self.I(talib.SMA, data.Volume, 20)

        def next(self) -> None:
            data = self.data
            if len(data) <= START:
                return
            close, vix, rsi = data.Close[-1], data.VIX[-1], self.rsi[-1]
            if self.position:
                target = self.trades[0].entry_price + 4 * self.entry_atr
                if close < self.ma[-1] or vix > VIX_EXIT or rsi < RSI_EXIT or close >= target:
                    self.position.close()
            elif close > self.ma[-1] and vix < 25 and rsi > 50 and data.Volume[-1] > self.mean_volume[-1]:
                shares = whole_shares(self.equity, close)
                if shares >= 1:
                    self.entry_atr = self.atr[-1]
                    self.buy(size=shares)

    engine = Backtest(frame, Momentum, cash=CAPITAL, commission=FEE, trade_on_close=True, finalize_trades=False)

    def run() -> list[RoundTrip]:
        trades = engine.run()["_strategy"].closed_trades
        return [(trade.entry_time.date(), trade.size, trade.exit_time.date()) for trade in trades]

    return run


# -- backtrader -------------------------------------------------------------------------------------------------------


def backtrader(frame: pd.DataFrame) -> Callable[[], list[RoundTrip]]:
    """A run of backtrader, filled at the deciding session's close ("cheat on close")."""
    import backtrader as bt

    class Feed(bt.feeds.PandasData):  # type: ignore[misc]
        lines = ("vix",)
        params = (("vix", "VIX"), ("openinterest", -1))

    class Momentum(bt.Strategy):  # type: ignore[misc]
        def __init__(self) -> None:
            data = self.data
            self.ma = bt.ind.SMA(data.close, period=50)
            self.rsi = bt.ind.RSI_Safe(data.close, period=14)
            self.atr = bt.ind.ATR(data, period=14)
            self.mean_volume = bt.ind.SMA(data.volume, period=20)
            self.filled: list[tuple[date, int]] = []

        def next(self) -> None:
            data = self.data
            if len(data) <= START:
                return
            close, vix, rsi = data.close[0], data.vix[0], self.rsi[0]
            if self.position:
                target = self.position.price + 4 * self.entry_atr
                if close < self.ma[0] or vix > VIX_EXIT or rsi < RSI_EXIT or close >= target:
                    self.close()
            elif close > self.ma[0] and vix < 25 and rsi > 50 and data.volume[0] > self.mean_volume[0]:
                shares = whole_shares(self.broker.getcash(), close)
                if shares >= 1:
                    self.entry_atr = self.atr[0]
                    self.buy(size=shares)

        def notify_order(self, order: Any) -> None:
            if order.status == order.Completed:
                self.filled.append((bt.num2date(order.executed.dt).date(), int(order.executed.size)))

    def run() -> list[RoundTrip]:
        cerebro = bt.Cerebro(stdstats=False)
        cerebro.adddata(Feed(dataname=frame))
        cerebro.broker.setcash(CAPITAL)
        cerebro.broker.setcommission(commission=FEE)
        cerebro.broker.set_coc(True)
        cerebro.addstrategy(Momentum)
        filled = cerebro.run()[0].filled
        return [(buy[0], buy[1], sell[0]) for buy, sell in zip(filled[::2], filled[1::2], strict=False)]

    return run


# -- vectorbt ---------------------------------------------------------------------------------------------------------


def signals_portfolio(series: Series, combinations: Sequence[Combination]) -> Any:
    """The usual way of vectorbt, arrays of signals: `Portfolio.from_signals`.

    It can keep the buffer (a percentage of cash), yet not a cap in USD beside it: the cap is left out.
    """
    import vectorbt as vbt

    close = series.close
    rsi, atr, mean_volume = series.indicators
    ma_period, rsi_entry, vix_entry, multiple = map(np.array, zip(*combinations, strict=True))
    averages = {period: talib.SMA(close, period) for period in set(ma_period.tolist())}
    ma = np.column_stack([averages[period] for period in ma_period.tolist()])
    entries = (close[:, None] > ma) & (series.vix[:, None] < vix_entry) & (rsi[:, None] > rsi_entry)
    entries &= (series.volume > mean_volume)[:, None]
    entries[:START] = False
    exits = (close[:, None] < ma) | ((series.vix > VIX_EXIT) | (rsi < RSI_EXIT))[:, None]
    return vbt.Portfolio.from_signals(
        np.broadcast_to(close[:, None], entries.shape), entries, exits,
        tp_stop=(atr / close)[:, None] * multiple, stop_entry_price="close", stop_exit_price="close",
        size=1 / BUFFER, size_type="percent", size_granularity=1, fees=FEE, init_cash=CAPITAL,
        direction="longonly", freq="1D",
    )  # fmt: skip


def orders_portfolio(series: Series, combinations: Sequence[Combination], order: Any) -> Any:
    """The way of vectorbt for rules that signals cannot say, the cap among them: `Portfolio.from_order_func`.

    order: what `order_function` gives, kept so that it is compiled once.
    """
    import vectorbt as vbt

    close = series.close
    rsi, atr, mean_volume = series.indicators
    ma_period, rsi_entry, vix_entry, multiple = map(np.array, zip(*combinations, strict=True))
    periods, which = np.unique(ma_period, return_inverse=True)
    averages = np.array([talib.SMA(close, int(period)) for period in periods])
    return vbt.Portfolio.from_order_func(
        np.broadcast_to(close[:, None], (len(close), len(combinations))), order,
        close, series.vix, rsi, atr, series.volume > mean_volume, averages, which,
        rsi_entry, vix_entry, multiple, np.zeros(len(combinations)),
        init_cash=CAPITAL, freq="1D", max_orders=1024 * len(combinations),
    )  # fmt: skip


def order_function() -> Any:
    """The rules as vectorbt asks for them at each session of each combination, compiled at the first call."""
    from numba import njit
    from vectorbt.portfolio.nb import order_nb, order_nothing_nb

    @njit
    def order(c, close, vix, rsi, atr, volume_confirm, averages, which, rsi_entry, vix_entry, multiple, target):  # type: ignore[no-untyped-def]  # compiled, typed by its arguments
        i, price, ma = c.i, close[c.i], averages[which[c.col], c.i]
        if i < START:
            return order_nothing_nb()
        if c.position_now > 0:
            if price < ma or vix[i] > VIX_EXIT or rsi[i] < RSI_EXIT or price >= target[c.col]:
                return order_nb(size=-c.position_now, price=price, fees=FEE)
        elif price > ma and vix[i] < vix_entry[c.col] and rsi[i] > rsi_entry[c.col] and volume_confirm[i]:
            shares = np.floor(min(c.cash_now, CAP) / (price * BUFFER * (1 + FEE)))
            if shares >= 1:
                target[c.col] = price + multiple[c.col] * atr[i]
                return order_nb(size=shares, price=price, fees=FEE)
        return order_nothing_nb()

    return order


def round_trips(portfolio: Any, sessions: list[date]) -> list[RoundTrip]:
    """The closed trades of a portfolio of vectorbt."""
    records = portfolio.trades.values
    closed = records[records["status"] == 1]
    return [
        (sessions[entry], int(size), sessions[sold])
        for entry, size, sold in zip(closed["entry_idx"], closed["size"], closed["exit_idx"], strict=True)
    ]


# -- the compiled floor -----------------------------------------------------------------------------------------------


def floor_function() -> Any:
    """The bare loop over sessions for each combination, compiled, on all cores: final equity, nothing else."""
    from numba import njit, prange

    @njit(parallel=True)
    def run(close, vix, rsi, atr, volume_confirm, averages, which, rsi_entry, vix_entry, multiple):  # type: ignore[no-untyped-def]  # compiled, typed by its arguments
        final = np.empty(len(which))
        for k in prange(len(which)):
            cash, shares, target, ma = CAPITAL, 0.0, 0.0, averages[which[k]]
            for i in range(START, len(close)):
                price = close[i]
                if shares > 0:
                    if price < ma[i] or vix[i] > VIX_EXIT or rsi[i] < RSI_EXIT or price >= target:
                        cash += shares * price * (1 - FEE)
                        shares = 0.0
                elif price > ma[i] and vix[i] < vix_entry[k] and rsi[i] > rsi_entry[k] and volume_confirm[i]:
                    shares = np.floor(min(cash, CAP) / (price * BUFFER * (1 + FEE)))
                    cash -= shares * price * (1 + FEE)
                    target = price + multiple[k] * atr[i]
            final[k] = cash + shares * close[-1]
        return final

    return run


def compiled_floor(series: Series, combinations: Sequence[Combination], run: Any) -> Floats:
    """Final equity of each combination by `floor_function`, indicators included."""
    rsi, atr, mean_volume = series.indicators
    ma_period, rsi_entry, vix_entry, multiple = map(np.array, zip(*combinations, strict=True))
    periods, which = np.unique(ma_period, return_inverse=True)
    averages = np.array([talib.SMA(series.close, int(period)) for period in periods])
    confirm = series.volume > mean_volume
    found = run(series.close, series.vix, rsi, atr, confirm, averages, which, rsi_entry, vix_entry, multiple)
    return np.asarray(found, dtype=np.float64)
