"""A parameter review: every combination over one history, the best of them, and how little that says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from itertools import chain
from math import nan, prod
from typing import Any

import numpy as np

from mtum_eod.core.backtest import Tape
from mtum_eod.core.indicators import Floats
from mtum_eod.core.market import Finding
from mtum_eod.core.metrics import cagr, curve_metrics, years_between
from mtum_eod.core.parameters import SECTION_OF, StrategyParameters
from mtum_eod.core.snapshot import number, plain
from mtum_eod.core.sweep import Grid, Market, Tried, joined, market, sweep, to_measure
from mtum_eod.errors import SettingsError
from mtum_eod.jobs.backtest import History, read_history
from mtum_eod.jobs.desk import Desk
from mtum_eod.jobs.history import Progress

CHUNK = 5000
"""Combinations tried together: enough that numpy's calls weigh little, few enough for 200 MB."""

MANY = 1_000_000
"""More combinations than this are tried only once the owner has seen what they cost."""

COUNTABLE = 10**12
"""More than this and a year would not do."""

Chunk = tuple[Market, Grid, range, float, int, bool]
"""What `_try` is given: the arguments of `core.sweep.sweep`."""

Spread = Callable[[Callable[..., Tried], Iterable[Chunk]], Iterator[Tried]]
"""Calls a function with each of these arguments, in whatever process, and gives the answers in their order."""


class By(StrEnum):
    """What makes a combination the best."""

    TOTAL_RETURN = "total_return"
    SHARPE = "sharpe"
    WIN_RATE = "win_rate"
    MAX_DRAWDOWN = "max_drawdown"  # the smallest


BY_CURVES = (By.SHARPE, By.MAX_DRAWDOWN)
"""What asks for every combination's equity of every day; else it is worked out for those that are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WalkForward:
    """How long to learn and how long to be judged, in months."""

    train: int
    test: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One step of a walk forward: what was best in training, and what it did on the sessions that followed."""

    train_first: date
    test_first: date
    test_last: date
    best: dict[str, Any]
    train_return: float  # of the best, chosen with hindsight
    test_return: float  # of the same, out of sample
    present_return: float  # of the settings in force over the same test, with what they were worth themselves
    hold_return: float  # of the symbol bought and held, prices only
    equity: float  # USD after the test, carried from window to window


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """A sweep, and what it is held against."""

    grid: Grid
    market: Market
    start: int  # the first session that was decided
    tried: Tried
    capital: float
    by: By
    source: str
    is_synthetic: bool
    findings: tuple[Finding, ...]
    present: Tried  # the settings in force, alone
    hold_return: float
    windows: tuple[Window, ...]

    @property
    def sessions(self) -> list[date]:
        """Those that were decided."""
        return self.market.sessions[self.start :]

    @property
    def order(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Places in `tried`, the best first; equal ones in the order of the grid."""
        return np.argsort(-scores(self.tried, self.by), kind="stable")

    @property
    def rank_of_present(self) -> int:
        """One more than the combinations that are better than the settings in force."""
        return 1 + int(np.count_nonzero(scores(self.tried, self.by) > scores(self.present, self.by)[0]))

    @property
    def total_returns(self) -> Floats:
        """Ratio, one a combination."""
        return self.tried.equity / self.capital - 1

    @property
    def out_of_sample(self) -> dict[str, float] | None:
        """The windows of the walk forward in a row, as total returns; None without one."""
        if not self.windows:
            return None
        return {
            "total_return": self.windows[-1].equity / self.capital - 1,
            "present": prod(1 + window.present_return for window in self.windows) - 1,
            "buy_and_hold": prod(1 + window.hold_return for window in self.windows) - 1,
        }

    @property
    def present_row(self) -> dict[str, Any]:
        """The settings in force, as `row` gives a combination, and their rank."""
        p = self.grid.base
        values = {name: getattr(getattr(p, SECTION_OF[name]), name) for name in self.grid.axes}
        return self.row(self.present, 0, values) | {"rank": self.rank_of_present}

    def neighbours(self, place: int) -> Floats:
        """Total returns of the combinations one step away from this one, along one parameter at a time."""
        at = np.array(np.unravel_index(self.tried.index[place], self.grid.shape))
        found = []
        for axis, size in enumerate(self.grid.shape):
            for step in (-1, 1):
                beside = at.copy()
                beside[axis] += step
                if 0 <= beside[axis] < size:
                    index = int(np.ravel_multi_index(tuple(beside), self.grid.shape))
                    where = int(np.searchsorted(self.tried.index, index))
                    if where < len(self.tried) and self.tried.index[where] == index:
                        found.append(self.total_returns[where])
        return np.array(found)

    def row(self, tried: Tried, place: int, values: dict[str, Any]) -> dict[str, Any]:
        """One combination's values and figures."""
        equity, trades = float(tried.equity[place]), int(tried.trades[place])
        years = years_between(self.sessions[0], self.sessions[-1])
        return values | {
            "total_return": equity / self.capital - 1,
            "cagr": number(cagr(self.capital, equity, years)),
            "final_equity": equity,
            "trades": trades,
            "win_rate": int(tried.wins[place]) / trades if trades else None,
            "max_drawdown": float(tried.max_drawdown[place]),
            "sharpe": number(float(tried.sharpe[place])),
        }

    def rows(self, places: Iterable[int]) -> Iterator[dict[str, Any]]:
        """Those combinations, as `row` gives them."""
        index = self.tried.index[list(places)]
        tried = sweep(self.market, self.grid, index, self.capital, start=self.start)
        return (self.row(tried, at, self.grid.values(combination)) for at, combination in enumerate(index.tolist()))

    def document(self, top: int) -> dict[str, Any]:
        """The review as one document, with the `top` best combinations."""
        best, neighbours = int(self.order[0]), self.neighbours(int(self.order[0]))
        returns = self.total_returns
        return {
            "source": self.source,
            "synthetic": self.is_synthetic,
            "from": self.sessions[0].isoformat(),
            "to": self.sessions[-1].isoformat(),
            "capital": self.capital,
            "varied": {name: list(values) for name, values in self.grid.axes.items()},
            "combinations": len(self.grid),
            "tried": len(self.tried),
            "skipped": self.tried.skipped,
            "by": str(self.by),
            "best": next(self.rows([best])) | {"hindsight": True},
            "neighbours": _spread(neighbours),
            "spread": _spread(returns),
            "present": self.present_row,
            "buy_and_hold": self.hold_return,
            "results": list(self.rows(self.order[:top])),
            "walk_forward": plain(self.windows),
            "out_of_sample": self.out_of_sample,
            "findings": [finding.words for finding in self.findings],
        }


def run_sweep(
    desk: Desk,
    axes: dict[str, tuple[Any, ...]],
    first: date | None,
    last: date | None,
    progress: Progress,
    spread: Spread,
    *,
    workers: int = 1,
    by: By = By.TOTAL_RETURN,
    walk_forward: WalkForward | None = None,
    accept_cost: bool = False,
) -> Swept:
    """Try every combination over `first` to `last`, flat at first, filled at the close.

    first, last: as in `run_backtest`. workers: how many combinations are tried at a time by `spread`.
    Raises SettingsError where a varied number changes nothing, where no combination makes sense, or where there are
    more than MANY and `accept_cost` is false: then with what they would cost.
    """
    grid = Grid(base=desk.parameters, axes=axes)
    if len(grid) > COUNTABLE:
        raise SettingsError(f"{len(grid):.1e} combinations would take years", hint="narrow a range, or widen its step")
    history, start = read_history(desk, first, last)
    _refuse_idle(grid, history)
    alone = Grid(base=desk.parameters, axes={"ma_period": (desk.parameters.strategy.ma_period,)})
    asked = list(dict.fromkeys(chain(to_measure(alone), to_measure(grid))))
    measured = market(_measured(history, asked, start, progress))
    capital = desk.capital
    if len(grid) > MANY and not accept_cost:
        raise _costly(desk, measured, grid, start, workers, by)
    run = _Run(grid, capital, progress, spread, workers, by in BY_CURVES)
    tried = run.all(measured, start, "trying")
    if not len(tried):
        words = "; ".join(f"{count:,} {reason}" for reason, count in tried.skipped.items())
        raise SettingsError(f"none of the {len(grid):,} combinations makes sense: {words}", hint="vary other values")
    windows = _walk(run, measured, alone, start, by, walk_forward) if walk_forward else []
    closes = measured.marked[start:]
    return Swept(
        grid=grid,
        market=measured,
        start=start,
        tried=tried,
        capital=capital,
        by=by,
        source=desk.prices.name,
        is_synthetic=desk.book.is_synthetic,
        findings=history.findings,
        present=sweep(measured, alone, [0], capital, start=start),
        hold_return=curve_metrics(closes, 1.0).total_return,
        windows=tuple(windows),
    )


SWITCHES = {"stop_loss_pct": "stop_loss_enabled", "max_daily_loss": "daily_loss_exit"}
"""Numbers that change nothing in a backtest where their switch is off."""


def _refuse_idle(grid: Grid, history: History) -> None:
    """Raise SettingsError where a number is varied that changes nothing: its rows would pass for evidence."""
    idle = {"require_confirmation": "a backtest asks nobody"}
    for name, switch in SWITCHES.items():
        if not any(grid.axes.get(switch, (getattr(getattr(grid.base, SECTION_OF[switch]), switch),))):
            idle[name] = f"{switch} is false, --vary {switch}=true makes it count"
    if history.is_clean:
        idle["history_bars"] = "this history has no fault that a longer window would see for longer"
    if found := [f"--vary {name} changes nothing: {why}" for name, why in idle.items() if name in grid.axes]:
        matter = [name for name in SECTION_OF if name not in idle]
        raise SettingsError("; ".join(found), hint=f"vary what matters in a backtest: {', '.join(matter)}")


def scores(tried: Tried, by: By) -> Floats:
    """The higher, the better; what cannot be told comes last."""
    with np.errstate(divide="ignore", invalid="ignore"):
        score = {
            By.TOTAL_RETURN: tried.equity,
            By.SHARPE: tried.sharpe,
            By.WIN_RATE: tried.wins / tried.trades,
            By.MAX_DRAWDOWN: -tried.max_drawdown,
        }[by]
    return np.where(np.isnan(score), -np.inf, score)


@dataclass(frozen=True, slots=True)
class _Run:
    """How combinations are tried: what stays the same from window to window."""

    grid: Grid
    capital: float
    progress: Progress
    spread: Spread
    workers: int
    curves: bool

    def all(self, measured: Market, start: int, what: str) -> Tried:
        """Every combination over a market, chunk by chunk."""
        total = len(self.grid)
        size = min(CHUNK, -(-total // self.workers))
        ranges = [range(low, min(low + size, total)) for low in range(0, total, size)]
        arguments = ((measured, self.grid, some, self.capital, start, self.curves) for some in ranges)
        parts = []
        for part, some in zip(self.spread(_try, arguments), ranges, strict=True):
            parts.append(part)
            self.progress(what, some.stop, total)
        return joined(parts)


def _try(measured: Market, grid: Grid, some: range, capital: float, start: int, curves: bool) -> Tried:
    """One chunk, wherever it is worked on."""
    return sweep(measured, grid, some, capital, start=start, curves=curves)


def _measured(
    history: History, asked: list[StrategyParameters], start: int, progress: Progress
) -> Iterator[tuple[StrategyParameters, Tape]]:
    for count, p in enumerate(asked, 1):
        yield p, history.tape(p, start, progress)
        progress("measuring", count, len(asked))


def _costly(desk: Desk, measured: Market, grid: Grid, start: int, workers: int, by: By) -> SettingsError:
    """What trying all of them would cost, from a chunk in the middle."""
    middle = len(grid) // 2
    begun = desk.wall_clock.now()
    some = range(middle, middle + CHUNK)
    sample = sweep(measured, grid, some, desk.capital, start=start, curves=by in BY_CURVES)
    seconds = (desk.wall_clock.now() - begun).total_seconds() * len(grid) / CHUNK / workers
    bytes_each = sum(getattr(sample, name).itemsize for name in ("index", "equity", "trades", "wins")) + 16
    megabytes = 2 * len(grid) * bytes_each / 1e6  # the chunks, and all of them joined
    return SettingsError(
        f"{len(grid):,} combinations would take about {_duration(seconds)} and {megabytes:,.0f} MB of memory",
        hint="go on with --yes (and --jobs), or narrow a range, or widen its step",
    )


def _duration(seconds: float) -> str:
    for name, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {name}"
    return f"{seconds:.0f} seconds"


def _walk(run: _Run, measured: Market, alone: Grid, start: int, by: By, lengths: WalkForward) -> list[Window]:
    """The windows in order; each begins flat, with the equity that the same strategy left in the one before."""
    windows: list[Window] = []
    equity = presents = run.capital
    for train, test, stop in _cuts(measured.sessions, start, lengths):
        what = f"training up to {measured.sessions[test - 1]}"
        trained = run.all(measured.until(test), train, what)
        best = int(np.argmax(scores(trained, by)))
        chosen = int(trained.index[best])
        held_back = measured.until(stop)
        tested = sweep(held_back, run.grid, [chosen], equity, start=test, curves=False).equity.item()
        present = sweep(held_back, alone, [0], presents, start=test, curves=False).equity.item()
        windows.append(
            Window(
                train_first=measured.sessions[train],
                test_first=measured.sessions[test],
                test_last=measured.sessions[stop - 1],
                best=run.grid.values(chosen),
                train_return=float(trained.equity[best]) / run.capital - 1,
                test_return=tested / equity - 1,
                present_return=present / presents - 1,
                hold_return=float(held_back.marked[-1] / held_back.marked[test - 1]) - 1,
                equity=tested,
            )
        )
        equity, presents = tested, present
    return windows


def _cuts(sessions: list[date], start: int, lengths: WalkForward) -> list[tuple[int, int, int]]:
    """First session of each training and of its test, and the end of the test, as indices."""
    days = np.array(sessions, dtype="datetime64[D]")

    def place(months: int) -> int:
        return int(np.searchsorted(days, np.datetime64(_months_after(sessions[start], months))))

    cuts = []
    for begun in range(0, 12 * 200, lengths.test):
        train, test = place(begun), place(begun + lengths.train)
        if test >= len(sessions):
            break
        cuts.append((train, test, min(place(begun + lengths.train + lengths.test), len(sessions))))
    if not cuts:
        raise SettingsError(
            f"{sessions[start]} to {sessions[-1]} is shorter than {lengths.train} months of training and a test",
            hint="choose an earlier --from, or shorter lengths such as --walk-forward train=2y,test=6m",
        )
    return cuts


def _months_after(day: date, months: int) -> date:
    years, month = divmod(day.month - 1 + months, 12)
    return date(day.year + years, month + 1, min(day.day, 28))


def _spread(values: Floats) -> dict[str, Any]:
    low, middle, high = (values.min(), np.median(values), values.max()) if len(values) else (nan, nan, nan)
    return {
        "count": len(values),
        "lowest": number(float(low)),
        "median": number(float(middle)),
        "highest": number(float(high)),
    }
