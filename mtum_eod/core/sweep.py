"""The rules over one history under many parameters at once: what `core.backtest` gives for each of them, in arrays.

A combination's way through a history is a few hundred trades, so all of them jump together from trade to trade
instead of walking session by session. Where a jump lands is looked up: the next session on which an entry may happen,
or an exit rule holds, is a table over the sessions for each distinct set of thresholds, and where the price first
reaches a target is found in steps of powers of two. Prices, sizes and money are worked out in the very order of
operations of the scalar rules, so a trade is the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from itertools import zip_longest
from math import prod, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtum_eod.core.backtest import Tape, last_known
from mtum_eod.core.gates import daily_loss_limit, move_pct
from mtum_eod.core.indicators import Floats
from mtum_eod.core.metrics import SESSIONS_A_YEAR
from mtum_eod.core.money import Usd
from mtum_eod.core.parameters import SECTION_OF, WILDER_MEMORY, Parameters, StrategyParameters
from mtum_eod.core.strategy import entry_rules, market_exits

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

PERIODS = ("ma_period", "rsi_period", "atr_period", "volume_lookback")

CURVES_AT_ONCE = 64
"""Equity curves worked out together: a block that the processor's cache holds."""

GROUPS_AT_ONCE = 32
"""Sets of thresholds held against the sessions together: enough that numpy's calls weigh little."""


# -- what is tried ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Every combination of the varied values; the last parameter varies fastest. Never written out as a whole."""

    base: Parameters
    axes: dict[str, tuple[Any, ...]]  # by parameter name

    def __len__(self) -> int:
        return prod(self.shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """How many values each parameter has."""
        return tuple(map(len, self.axes.values()))

    def values(self, index: int) -> dict[str, Any]:
        """The varied values of one combination."""
        places = np.unravel_index(index, self.shape)
        return {name: axis[int(i)] for (name, axis), i in zip(self.axes.items(), places, strict=True)}

    def parameters(self, index: int) -> Parameters:
        """One combination in full."""
        return with_values(self.base, self.values(index))

    def column(self, name: str, indices: Ints) -> Floats:
        """A parameter's value in each of these combinations, whether it is varied or not."""
        if name not in self.axes:
            return np.full(len(indices), getattr(getattr(self.base, SECTION_OF[name]), name), dtype=np.float64)
        return np.array(self.axes[name], dtype=np.float64)[self._places(indices)[name]]

    def groups(self, indices: Ints, names: Sequence[str]) -> tuple[list[dict[str, Any]], Ints]:
        """The distinct values of some parameters among these combinations, and each one's place among them."""
        places, number = self._places(indices), np.zeros(len(indices), dtype=np.int64)
        for name in names:
            if name in self.axes:
                number = number * len(self.axes[name]) + places[name]
        _, first, place = np.unique(number, return_index=True, return_inverse=True)
        constant = {name: getattr(getattr(self.base, SECTION_OF[name]), name) for name in names}
        varied = [name for name in names if name in self.axes]
        return [constant | {n: self.axes[n][places[n][i]] for n in varied} for i in first.tolist()], place

    def contradictions(self, indices: Ints) -> dict[str, Bools]:
        """Which of these combinations the settings would refuse, by the reason in words; a mask each."""
        value = {name: self.column(name, indices) for name in (*PERIODS, *THRESHOLDS, "history_bars")}
        bars, wilder = value["history_bars"], np.maximum(value["rsi_period"], value["atr_period"])
        return {
            "vix_entry_threshold above vix_exit_threshold": value["vix_entry_threshold"] > value["vix_exit_threshold"],
            "rsi_exit_threshold above rsi_entry_threshold": value["rsi_exit_threshold"] > value["rsi_entry_threshold"],
            f"history_bars below {WILDER_MEMORY} times rsi_period or atr_period": bars < WILDER_MEMORY * wilder,
            "ma_period not below history_bars": value["ma_period"] >= bars,
            "volume_lookback not below history_bars": value["volume_lookback"] >= bars,
        }

    def _places(self, indices: Ints) -> dict[str, Ints]:
        return dict(zip(self.axes, np.unravel_index(indices, self.shape), strict=True))


THRESHOLDS = ("vix_entry_threshold", "vix_exit_threshold", "rsi_entry_threshold", "rsi_exit_threshold")


def with_values(p: Parameters, values: dict[str, Any]) -> Parameters:
    """The parameters with some of their values changed, by name."""
    strategy = {name: value for name, value in values.items() if SECTION_OF[name] == "strategy"}
    risk = {name: value for name, value in values.items() if SECTION_OF[name] == "risk"}
    return replace(p, strategy=replace(p.strategy, **strategy), risk=replace(p.risk, **risk))


# -- what it is tried on ----------------------------------------------------------------------------------------------


def to_measure(grid: Grid) -> Iterator[StrategyParameters]:
    """Parameters under which the history must be measured so that every period of the grid has its indicator."""
    base = grid.base.strategy
    for bars in grid.axes.get("history_bars", (base.history_bars,)):
        usable = {
            name: [value for value in grid.axes.get(name, (getattr(base, name),)) if value < bars] for name in PERIODS
        }
        if all(usable.values()):
            for values in zip_longest(*usable.values()):
                known = {name: value for name, value in zip(PERIODS, values, strict=True) if value is not None}
                rest = {name: usable[name][0] for name in PERIODS if name not in known}
                yield replace(base, history_bars=bars, **known, **rest)


@dataclass(frozen=True, kw_only=True)
class Market:
    """A history, measured under every period that is tried; one number a session, ascending, NaN is not known.

    Indicators are kept by period and `history_bars`, which matters where a fault stands in the history.
    """

    sessions: list[date]
    close: Floats
    vix: Floats
    ma: dict[tuple[int, int], Floats] = field(default_factory=dict)
    rsi: dict[tuple[int, int], Floats] = field(default_factory=dict)
    atr: dict[tuple[int, int], Floats] = field(default_factory=dict)
    volume: dict[tuple[int, int], Floats] = field(default_factory=dict)
    volume_ma: dict[tuple[int, int], Floats] = field(default_factory=dict)

    def until(self, stop: int) -> Market:
        """The same history, ending before the session of index `stop`."""
        cut = {
            name: {key: series[:stop] for key, series in getattr(self, name).items()}
            for name in ("ma", "rsi", "atr", "volume", "volume_ma")
        }
        return Market(sessions=self.sessions[:stop], close=self.close[:stop], vix=self.vix[:stop], **cut)

    @cached_property
    def move_pct(self) -> Floats:
        """How far each close moved from the one before, percent, unsigned."""
        return move_pct(self.close, np.concatenate(([np.nan], self.close[:-1])))

    @cached_property
    def marked(self) -> Floats:
        """The last known close at each session; 0 before the first, when nothing can be held."""
        return last_known(self.close)

    @cached_property
    def highest(self) -> list[Floats]:
        """See `_peaks`: of the closes."""
        return _peaks(self.close)

    @cached_property
    def lowest(self) -> list[Floats]:
        """See `_peaks`: of the closes with their sign turned."""
        return _peaks(-self.close)

    @cached_property
    def falls(self) -> list[Floats]:
        """See `_peaks`: of how far each close stands below the last known one."""
        return _peaks(np.concatenate(([np.nan], self.marked[:-1])) - self.close)

    @cached_property
    def tradable(self) -> Ints:
        """From each session on, the first with a price to sell at; their number stands for none."""
        return np.asarray(_next(self.close[None] > 0)[0], dtype=np.int64)


def market(measured: Iterable[tuple[StrategyParameters, Tape]]) -> Market:
    """The tapes of one history, measured under the parameters that `to_measure` names, as arrays."""
    found: Market | None = None
    for p, tape in measured:
        if found is None:
            found = Market(sessions=tape.sessions, close=tape.close, vix=tape.vix)
        found.ma[p.ma_period, p.history_bars] = tape.ma_50
        found.rsi[p.rsi_period, p.history_bars] = tape.rsi
        found.atr[p.atr_period, p.history_bars] = tape.atr
        found.volume[p.volume_lookback, p.history_bars] = tape.volume
        found.volume_ma[p.volume_lookback, p.history_bars] = tape.volume_ma_20
    if found is None:
        raise ValueError("no parameters to measure under")
    return found


# -- trying it --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What came of combinations: an entry each, in the order of `index`."""

    index: Ints  # of the combination in its grid
    equity: Floats  # USD at the last session's close
    trades: Ints  # closed
    wins: Ints
    max_drawdown: Floats  # ratio, positive; NaN where curves were not asked for
    sharpe: Floats  # NaN where the equity never moved, or curves were not asked for
    skipped: dict[str, int]  # how many more were contradictions, by the reason in words

    def __len__(self) -> int:
        return len(self.index)


def joined(parts: Sequence[Tried]) -> Tried:
    """Several of them as one."""
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("index", "equity", "trades", "wins", "max_drawdown", "sharpe")
    }
    reasons = dict.fromkeys(reason for part in parts for reason in part.skipped)
    return Tried(**columns, skipped={r: sum(part.skipped.get(r, 0) for part in parts) for r in reasons})


def sweep(
    market: Market, grid: Grid, indices: Iterable[int], capital: Usd, *, start: int, curves: bool = True
) -> Tried:
    """Try these combinations from session `start` on, beginning flat.

    Filled at each session's close. Contradictions are left out and counted; one with several counts for its first.
    curves: work out drawdown and Sharpe ratio too. They ask for the equity of every day: more than half of the time.
    """
    indices, skipped = np.array(indices, dtype=np.int64), {}
    kept = np.ones(len(indices), dtype=np.bool_)
    for reason, refused in grid.contradictions(indices).items():
        if count := np.count_nonzero(kept & refused):
            skipped[reason] = int(count)
            kept &= ~refused
    indices = indices[kept]
    walk = _Walk(market, grid, indices, capital, start)
    walk.trade(curves)
    max_drawdown, sharpe = walk.curves() if curves else np.full((2, len(indices)), np.nan)
    return Tried(
        index=indices,
        equity=walk.final_equity,
        trades=walk.trades,
        wins=walk.wins,
        max_drawdown=max_drawdown,
        sharpe=sharpe,
        skipped=skipped,
    )


class _Walk:
    """Combinations on their way through a history: `at` is the first session each has not decided yet."""

    def __init__(self, market: Market, grid: Grid, indices: Ints, capital: Usd, start: int) -> None:
        self.market = market
        self.capital = capital
        self.start = start
        self.count = len(indices)
        self.p = {name: grid.column(name, indices) for name in (*SIZING, *EXITS)}
        self.next_entry, self.entry_group = _tables(market, grid, indices, ENTRY_NAMES, _entries)
        self.next_exit, self.exit_group = _tables(market, grid, indices, EXIT_NAMES, _exits)
        atrs, self.atr_group = grid.groups(indices, ("atr_period", "history_bars"))
        self.atr = np.array([market.atr[one["atr_period"], one["history_bars"]] for one in atrs])
        self.has_stops = bool(self.p["stop_loss_enabled"].any())
        self.sells_losses = bool(self.p["daily_loss_exit"].any())
        self.realised = np.zeros(self.count)
        self.final_equity = np.full(self.count, capital)
        self.trades = np.zeros(self.count, dtype=np.int64)
        self.wins = np.zeros(self.count, dtype=np.int64)
        self.log: list[tuple[NDArray[Any], ...]] = []  # see `curves`

    def trade(self, logged: bool) -> None:
        """Jump from trade to trade until no combination enters any more; what `curves` needs is logged if asked."""
        close, end = self.market.close, len(self.market.close)
        who, at = np.arange(self.count), np.full(self.count, self.start)
        while who.size:
            entry = self.next_entry[self.entry_group[who], at]
            entering = entry < end
            who, entry = who[entering], entry[entering]
            price, cost_ratio = close[entry], self.p["transaction_cost"][who]
            shares = self.size(who, price)
            entry_cost = cost_ratio * shares * price
            sold = self.exit(who, entry, price, shares)
            at = np.where(shares >= 1, sold, entry) + 1  # blocked by its size: the next session may be cheaper
            bought = shares >= 1
            closed = bought & (sold < end)
            exit_price = close[np.minimum(sold, end - 1)]
            costs = entry_cost + cost_ratio * shares * exit_price
            net = np.where(closed, shares * (exit_price - price) - costs, 0.0)
            before = self.capital + self.realised[who]
            if logged:
                columns = (who, entry, sold, shares, before - shares * price - entry_cost, before)
                self.log.append(tuple(column[bought] for column in columns))
            self.realised[who] += net
            self.trades[who] += closed
            self.wins[who] += net > 0
            unrealised = shares * (self.market.marked[-1] - price) - entry_cost
            held = bought & ~closed
            self.final_equity[who] = self.capital + self.realised[who] + np.where(held, unrealised, 0.0)
            going = at < end
            who, at = who[going], at[going]

    def size(self, who: Ints, price: Floats) -> Floats:
        """Whole shares each entry buys, as `core.sizing.size_entry` says; less than 1 is blocked."""
        p = {name: self.p[name][who] for name in SIZING}
        equity = self.capital + self.realised[who]
        cap = np.minimum(equity * p["max_position_pct"] / 100, p["max_position_size"])
        cost = price * (1 + p["price_buffer_pct"] / 100) * (1 + p["transaction_cost"])
        return np.asarray(np.floor(np.minimum(cap, equity) / cost))

    def exit(self, who: Ints, entry: Ints, price: Floats, shares: Floats) -> Ints:
        """The session each entry is sold at; the number of sessions where it is still held at the end."""
        after = entry + 1
        fired = self.next_exit[self.exit_group[who], after]
        target = price + self.p["atr_multiplier"][who] * self.atr[self.atr_group[who], entry]
        span = int((fired - after).max(initial=0))
        fired = np.minimum(fired, _first_at_or_above(self.market.highest, after, target, span))
        if self.has_stops:
            stop = price * (1 - self.p["stop_loss_pct"][who] / 100)
            stop = np.where(self.p["stop_loss_enabled"][who] > 0, stop, np.nan)
            fired = np.minimum(fired, _first_at_or_above(self.market.lowest, after, -stop, span))
        if self.sells_losses:
            fall = daily_loss_limit(self.p["max_daily_loss"][who]) / np.maximum(shares, 1.0)  # none bought: passed over
            fall = np.where(self.p["daily_loss_exit"][who] > 0, fall, np.nan)
            fired = np.minimum(fired, _first_at_or_above(self.market.falls, after, fall, span))
        return self.market.tradable[fired]

    def curves(self) -> tuple[Floats, Floats]:
        """Maximum drawdown and Sharpe ratio of each combination, on daily equity as `core.metrics` defines them.

        A curve is a line of segments, alternately flat and held, on which equity = base + shares x close.
        """
        end = len(self.market.close)
        everyone = np.arange(self.count)
        last = np.full(self.count, end)  # one more "trade" at the end closes each curve with its flat rest
        rest = (everyone, last, last, np.zeros(self.count), np.zeros(self.count), self.capital + self.realised)
        who, entry, sold, shares, held_base, flat_base = map(np.concatenate, zip(*self.log, rest, strict=True))
        order = np.argsort(who, kind="stable")
        who, entry, sold, shares, held_base, flat_base = (
            column[order] for column in (who, entry, sold, shares, held_base, flat_base)
        )
        bounds = np.searchsorted(who, np.arange(self.count + 1))
        begun = np.concatenate(([0], sold[:-1]))
        begun[bounds[:-1]] = self.start - 1  # the value before the first session: the capital
        lengths = np.stack((entry - begun, sold - entry), axis=1)
        bases = np.stack((flat_base, held_base), axis=1)
        held = np.stack((np.zeros_like(shares), shares), axis=1)
        close = np.concatenate(([0.0], self.market.marked[self.start :]))
        found = np.empty((2, self.count))
        for low in range(0, self.count, CURVES_AT_ONCE):
            high = min(low + CURVES_AT_ONCE, self.count)
            rows = slice(bounds[low], bounds[high])
            times = lengths[rows].ravel()
            values = np.repeat(held[rows].ravel(), times).reshape(high - low, -1)
            values *= close
            values += np.repeat(bases[rows].ravel(), times).reshape(values.shape)
            found[:, low:high] = _drawdown_and_sharpe(values)
        return found[0], found[1]


SIZING = ("max_position_pct", "max_position_size", "price_buffer_pct", "transaction_cost")
EXITS = ("atr_multiplier", "stop_loss_enabled", "stop_loss_pct", "daily_loss_exit", "max_daily_loss")
ENTRY_NAMES = (
    "ma_period",
    "rsi_period",
    "volume_lookback",
    "history_bars",
    "vix_entry_threshold",
    "rsi_entry_threshold",
    "max_price_move_pct",
)
EXIT_NAMES = ("ma_period", "rsi_period", "history_bars", "vix_exit_threshold", "rsi_exit_threshold")


def _entries(market: Market, groups: Sequence[dict[str, Any]], p: Parameters) -> Bools:
    """The sessions on which all entry rules hold and no gate stands against it, its size left aside: a row a group.

    p: its numbers are columns, a row a group.
    """
    ma, rsi = _rows(market.ma, "ma_period", groups), _rows(market.rsi, "rsi_period", groups)
    volume, volume_ma = (_rows(kept, "volume_lookback", groups) for kept in (market.volume, market.volume_ma))
    trend, vix, momentum, confirmed = entry_rules(market.close, ma, rsi, volume, volume_ma, market.vix, p.strategy)
    blocked = market.move_pct > p.risk.max_price_move_pct  # a move that is not known blocks nothing
    holds: Bools = trend & vix & momentum & confirmed & ~blocked
    return holds


def _exits(market: Market, groups: Sequence[dict[str, Any]], p: Parameters) -> Bools:
    """The sessions on which an exit rule holds that does not depend on the entry; rows and `p` as in `_entries`."""
    ma, rsi = _rows(market.ma, "ma_period", groups), _rows(market.rsi, "rsi_period", groups)
    trend, vix, momentum = market_exits(market.close, ma, rsi, market.vix, p.strategy)
    holds: Bools = trend | vix | momentum
    return holds


def _rows(kept: dict[tuple[int, int], Floats], period: str, groups: Sequence[dict[str, Any]]) -> Floats:
    return np.array([kept[one[period], one["history_bars"]] for one in groups])


def _tables(
    market: Market, grid: Grid, indices: Ints, names: Sequence[str], rule: Any
) -> tuple[NDArray[np.int32], Ints]:
    """Where a rule holds next, from each session on, for each distinct set of its parameters; and whose is which."""
    groups, place = grid.groups(indices, names)
    tables = np.empty((len(groups), len(market.close) + 1), dtype=np.int32)
    for low in range(0, len(groups), GROUPS_AT_ONCE):
        some = groups[low : low + GROUPS_AT_ONCE]
        columns = {name: np.array([[one[name]] for one in some]) for name in names}
        tables[low : low + len(some)] = _next(rule(market, some, with_values(grid.base, columns)))
    return tables, place


def _next(holds: Bools) -> NDArray[np.int32]:
    """From each session on (and from past the last), the first that holds; their number stands for none. Row by row."""
    closed = np.ones((len(holds), holds.shape[1] + 1), dtype=np.bool_)
    closed[:, :-1] = holds
    places = np.flatnonzero(closed)
    firsts = (places % closed.shape[1]).astype(np.int32)
    return np.repeat(firsts, np.diff(places, prepend=-1)).reshape(closed.shape)


def _peaks(values: Floats) -> list[Floats]:
    """The highest of each 1, 2, 4, ... values from each place on.

    Unknown values are never high. Past the end lies one that nothing exceeds: a search ends there.
    """
    peaks = [np.append(np.where(np.isnan(values), -np.inf, values), np.inf)]
    while (step := 2 ** (len(peaks) - 1)) <= len(values):
        low = peaks[-1]
        peaks.append(np.maximum(low, np.concatenate((low[step:], np.full(step, np.inf)))))
    return peaks


def _first_at_or_above(peaks: list[Floats], places: Ints, levels: Floats, span: int) -> Ints:
    """From each place on, the first whose value reaches its level, looked for `span` places far: else one beyond.

    A level that is NaN is not reached.
    """
    levels, places = np.where(np.isnan(levels), np.inf, levels), places.copy()
    for power in reversed(range(min(span.bit_length(), len(peaks)))):
        places += (peaks[power][places] < levels) << power
    return places


def _drawdown_and_sharpe(values: Floats) -> tuple[Floats, Floats]:
    """Of each row: capital, then equity at each session's close."""
    deepest = (values / np.maximum.accumulate(values, axis=1)).min(axis=1)
    returns = values[:, 1:] / values[:, :-1]
    returns -= 1
    count = returns.shape[1]
    mean = returns.mean(axis=1)
    variance = (np.einsum("ij,ij->i", returns, returns) - count * mean * mean) / max(count - 1, 1)
    deviation = np.sqrt(np.maximum(variance, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        sharpe = np.where(deviation > 0, mean / deviation * sqrt(SESSIONS_A_YEAR), np.nan)
    return 1 - deepest, sharpe
