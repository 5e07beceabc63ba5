"""What the rules say of each session, by plain loops over the market's truth: none of the program's arithmetic."""

from __future__ import annotations

from itertools import pairwise
from math import isclose

from mtum_eod.core.parameters import StrategyParameters
from simulation.market import Market


class Oracle:
    """The indicators of every lived session, and the action that follows from them and a position."""

    def __init__(self, market: Market, p: StrategyParameters) -> None:
        self.p = p
        self.high, self.low, self.close, self.volume = (market.bars[:, n].tolist() for n in (1, 2, 3, 4))
        self.vix = market.vix[:, 3].tolist()
        self.rsi = _wilder_rsi(self.close, p.rsi_period)
        self.atr = _wilder_atr(self.high, self.low, self.close, p.atr_period)

    def action(self, day: int, entry: tuple[float, int] | None, *, exit_pending: bool) -> str | None:
        """BUY, SELL or HOLD at the day's final prices; None where a comparison is too close to call.

        entry: average price and day of the position held, None when flat.
        """
        p = self.p
        close, vix, rsi = self.close[day], self.vix[day], self.rsi[day]
        mean = sum(self.close[day - p.ma_period + 1 : day + 1]) / p.ma_period
        volumes = self.volume[day - p.volume_lookback + 1 : day + 1]
        usual = sum(volumes) / p.volume_lookback
        near = [(close, mean), (rsi, p.rsi_entry_threshold), (rsi, p.rsi_exit_threshold), (volumes[-1], usual)]
        if entry is not None:
            target = entry[0] + p.atr_multiplier * self.atr[entry[1]]
            near.append((close, target))
        if any(isclose(one, other, rel_tol=1e-5) for one, other in near):
            return None
        if entry is None:
            is_entry = close > mean and vix < p.vix_entry_threshold and rsi > p.rsi_entry_threshold
            return "BUY" if is_entry and volumes[-1] > usual else "HOLD"
        exits = close < mean, vix > p.vix_exit_threshold, rsi < p.rsi_exit_threshold, close >= target, exit_pending
        return "SELL" if any(exits) else "HOLD"


def _wilder_rsi(close: list[float], n: int) -> list[float]:
    moves = [after - before for before, after in pairwise(close)]
    up = sum(max(move, 0.0) for move in moves[:n]) / n
    down = sum(max(-move, 0.0) for move in moves[:n]) / n
    values = [float("nan")] * n + [100 * up / (up + down)]
    for move in moves[n:]:
        up = (up * (n - 1) + max(move, 0.0)) / n
        down = (down * (n - 1) + max(-move, 0.0)) / n
        values.append(100 * up / (up + down))
    return values


def _wilder_atr(high: list[float], low: list[float], close: list[float], n: int) -> list[float]:
    ranges = [max(high[day], close[day - 1]) - min(low[day], close[day - 1]) for day in range(1, len(close))]
    now = sum(ranges[:n]) / n
    values = [float("nan")] * n + [now]
    for true_range in ranges[n:]:
        now = (now * (n - 1) + true_range) / n
        values.append(now)
    return values
