"""What the rules say of each session, by plain loops over the market's truth: none of the program's arithmetic."""

from __future__ import annotations

from itertools import pairwise
from math import isclose

from mtum_eod.core.parameters import RiskParameters, StrategyParameters
from simulation.market import Market


class Oracle:
    """The indicators of every lived session, and the action that follows from them and a position."""

    def __init__(self, market: Market, p: StrategyParameters) -> None:
        self.p = p
        self.market = market
        self.high, self.low, self.close, self.volume = (market.bars[:, n].tolist() for n in (1, 2, 3, 4))
        self.vix = market.vix[:, 3].tolist()
        self.moves = _wilder_moves(self.close, p.rsi_period)
        self.ranges = _wilder_atr(self.high, self.low, self.close, p.atr_period)

    def action(
        self,
        day: int,
        entry: tuple[float, int] | None,
        *,
        exit_pending: bool,
        is_learned: bool = False,
        is_over: bool = False,
    ) -> str | None:
        """BUY, SELL or HOLD at the prices of the day's decision; None where a comparison is too close to call.

        entry: average price and day of the position held, None when flat. is_learned: no decision on record entered
        it, so its ATR may be that of the final bar. is_over: decided after the close.
        """
        p, close = self.p, self.market.at_decision(day, is_over=is_over)[2]
        vix, rsi = self.vix[day], self.rsi(day, close)
        mean = (sum(self.close[day - p.ma_period + 1 : day]) + close) / p.ma_period
        volumes = self.volume[day - p.volume_lookback + 1 : day + 1]
        usual = sum(volumes) / p.volume_lookback
        near = [(close, mean), (rsi, p.rsi_entry_threshold), (rsi, p.rsi_exit_threshold), (volumes[-1], usual)]
        targets = []
        if entry is not None:
            ranges = [self.atr(entry[1]), self.ranges[entry[1]]] if is_learned else [self.atr(entry[1])]
            targets = [entry[0] + p.atr_multiplier * true_range for true_range in ranges]
            near += [(close, target) for target in targets]
        is_profit = [close >= target for target in targets]
        if any(isclose(one, other, rel_tol=1e-5) for one, other in near) or any(is_profit) != all(is_profit or [False]):
            return None
        if entry is None:
            is_entry = close > mean and vix < p.vix_entry_threshold and rsi > p.rsi_entry_threshold
            return "BUY" if is_entry and volumes[-1] > usual else "HOLD"
        exits = close < mean, vix > p.vix_exit_threshold, rsi < p.rsi_exit_threshold, is_profit[0], exit_pending
        return "SELL" if any(exits) else "HOLD"

    def rsi(self, day: int, close: float) -> float:
        """With that price on the day."""
        n, (up, down) = self.p.rsi_period, self.moves[day - 1]
        move = close - self.close[day - 1]
        up, down = (up * (n - 1) + max(move, 0.0)) / n, (down * (n - 1) + max(-move, 0.0)) / n
        return 100 * up / (up + down)

    def atr(self, day: int) -> float:
        """As the day's decision sees it."""
        n, (high, low, _) = self.p.atr_period, self.market.at_decision(day)
        true_range = max(high, self.close[day - 1]) - min(low, self.close[day - 1])
        return (self.ranges[day - 1] * (n - 1) + true_range) / n


def sizes(price: float, equity: float, cash: float, risk: RiskParameters) -> set[int]:
    """How many shares an entry at that price may be: one number, or two where it is too close to call."""
    most = equity * risk.max_position_pct / 100
    for limit in (risk.max_position_size, cash):
        most = limit if limit < most else most
    cost = worst(price, risk)
    return {max(0, int((most + slack) // cost)) for slack in (-1e-6, 1e-6)}


def worst(price: float, risk: RiskParameters) -> float:
    """What a share may cost at the close by the owner's settings, USD, its commission included."""
    close = price + price * risk.price_buffer_pct / 100
    return close + close * risk.transaction_cost


def _wilder_moves(close: list[float], n: int) -> list[tuple[float, float]]:
    """Smoothed gains and losses up to each day."""
    moves = [after - before for before, after in pairwise(close)]
    up = sum(max(move, 0.0) for move in moves[:n]) / n
    down = sum(max(-move, 0.0) for move in moves[:n]) / n
    values = [(float("nan"), float("nan"))] * n + [(up, down)]
    for move in moves[n:]:
        up = (up * (n - 1) + max(move, 0.0)) / n
        down = (down * (n - 1) + max(-move, 0.0)) / n
        values.append((up, down))
    return values


def _wilder_atr(high: list[float], low: list[float], close: list[float], n: int) -> list[float]:
    ranges = [max(high[day], close[day - 1]) - min(low[day], close[day - 1]) for day in range(1, len(close))]
    now = sum(ranges[:n]) / n
    values = [float("nan")] * n + [now]
    for true_range in ranges[n:]:
        now = (now * (n - 1) + true_range) / n
        values.append(now)
    return values
