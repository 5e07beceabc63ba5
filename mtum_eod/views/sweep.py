"""A parameter review for a person, as a table of all combinations, and as a picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from mtum_eod.core.words import counted
from mtum_eod.views.files import require
from mtum_eod.views.text import SYNTHETIC, dim, pct, plain, table

if TYPE_CHECKING:
    from mtum_eod.core.indicators import Floats
    from mtum_eod.jobs.history import Progress
    from mtum_eod.jobs.sweep import Swept

FIGURES = ("total_return", "cagr", "final_equity", "trades", "win_rate", "max_drawdown", "sharpe")
MOST_COLUMNS, MOST_ROWS = 12, 30
"""A heat map larger than this is for --png."""

ROWS_AT_ONCE = 10_000
"""Lines of a file between two words on how far it is."""


def text(one: Swept, top: int) -> str:
    """The best combinations, how far the result can be trusted, and the walk forward."""
    names, order, returns = list(one.grid.axes), one.order, one.total_returns
    best = next(one.rows(order[:1]))
    neighbours = one.neighbours(int(order[0]))
    synthetic = SYNTHETIC * one.is_synthetic
    lines = [
        click.style("Sweep", bold=True)
        + f"  {one.sessions[0]} to {one.sessions[-1]}, {counted(len(one.sessions), 'session')} of {one.source}, "
        + f"{counted(len(one.tried), 'combination')}{synthetic}",
        *(f"skipped {count:,}: {reason}" for reason, count in one.tried.skipped.items()),
        "",
        table(
            ("", *names, "total return", "annual", "trades", "won", "drawdown", "Sharpe"),
            [
                *(_line(str(rank), row, names) for rank, row in enumerate(one.rows(order[:top]), 1)),
                _line(f"{one.rank_of_present:,}", one.present_row, names),
            ],
            right=range(1, len(names) + 7),
        ),
        dim(f"by {one.by}; the last line shows your settings, and their rank among these combinations"),
        "",
        f"best        {pct(best['total_return'])} with {_named(best, names)}: chosen with hindsight",
        f"neighbours  {_range(neighbours)} one step away on one parameter",
        f"all         {_range(returns)}; {pct(float(np.mean(returns > one.hold_return)))} of them beat buy and hold",
        f"buy & hold  {pct(one.hold_return)} by price",
    ]
    if len(names) == 2:
        lines += ["", *_map(one)]
    if one.out_of_sample:
        lines += ["", *_windows(one, one.out_of_sample)]
    lines += ["", dim("Hindsight: the best of many on one history says little about the next. No investment advice.")]
    return "\n".join(lines)


def as_csv(one: Swept, progress: Progress) -> str:
    """Every combination that was tried, in the order of the grid."""
    out = io.StringIO()
    writer = csv.DictWriter(out, [*one.grid.axes, *FIGURES], lineterminator="\n")
    writer.writeheader()
    for low in range(0, len(one.tried), ROWS_AT_ONCE):
        high = min(low + ROWS_AT_ONCE, len(one.tried))
        writer.writerows(one.rows(range(low, high)))
        progress("writing", high, len(one.tried))
    return out.getvalue()


def as_png(one: Swept) -> bytes:
    """Total returns over the two varied parameters, as a picture.

    Raises SettingsError where the extra `sweep` is not installed.
    """
    require("sweep", "matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    (row_name, rows), (column_name, columns) = one.grid.axes.items()
    values = _surface(one) * 100
    figure = Figure(figsize=(9, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_facecolor("0.8")  # what was skipped
    extreme = float(np.nanmax(np.abs(values))) or 1.0
    image = axes.imshow(values, cmap="RdBu", vmin=-extreme, vmax=extreme, aspect="auto", origin="lower")
    axes.set_xticks(*_ticks(columns))
    axes.set_yticks(*_ticks(rows))
    axes.set_xlabel(column_name)
    axes.set_ylabel(row_name)
    synthetic = " (SYNTHETIC data)" if one.is_synthetic else ""
    axes.set_title(f"Total return, {one.sessions[0]} to {one.sessions[-1]}{synthetic}: hindsight, not a forecast")
    figure.colorbar(image, label="percent")
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=120)
    return out.getvalue()


def _ticks(values: Sequence[Any]) -> tuple[list[int], list[str]]:
    """About a dozen places with their labels."""
    places = list(range(0, len(values), max(1, len(values) // 12)))
    return places, [_value(values[place]) for place in places]


def _surface(one: Swept) -> Floats:
    """Total returns as rows and columns; NaN where a combination was skipped."""
    flat = np.full(len(one.grid), np.nan)
    flat[one.tried.index] = one.total_returns
    return flat.reshape(one.grid.shape)


def _map(one: Swept) -> list[str]:
    (row_name, rows), (column_name, columns) = one.grid.axes.items()
    if len(rows) > MOST_ROWS or len(columns) > MOST_COLUMNS:
        return [dim(f"{len(rows)} x {len(columns)} results: --png FILE draws them")]
    best = one.total_returns[one.order[0]]
    body = [
        (_value(name), *(f"{pct(value)}{'*' if value == best else ' '}" for value in line))
        for name, line in zip(rows, _surface(one).tolist(), strict=True)
    ]
    return [
        f"total return by {row_name} (down) and {column_name} (across); * the best, with hindsight",
        table(("", *(f"{_value(c)} " for c in columns)), body, right=range(len(columns) + 1)),
    ]


def _windows(one: Swept, chained: dict[str, float]) -> list[str]:
    names = list(one.grid.axes)
    rows = [
        (
            f"{window.test_first} to {window.test_last}",
            *(_value(window.best[name]) for name in names),
            pct(window.train_return),
            pct(window.test_return),
            pct(window.present_return),
            pct(window.hold_return),
        )
        for window in one.windows
    ]
    return [
        "walk forward: each window trades what was best in the training before it",
        table(
            ("tested on", *names, "in training", "out of sample", "your settings", "buy & hold"),
            rows,
            right=range(1, len(names) + 5),
        ),
        f"out of sample in all {pct(chained['total_return'])}, your settings {pct(chained['present'])}, "
        f"buy and hold {pct(chained['buy_and_hold'])}",
        dim("in training is hindsight; each window starts flat, and shares held at its end count at their last close"),
    ]


def _line(rank: str, row: dict[str, Any], names: Iterable[str]) -> list[str]:
    return [
        rank,
        *(_value(row[name]) for name in names),
        pct(row["total_return"]),
        pct(row["cagr"]),
        str(row["trades"]),
        pct(row["win_rate"]),
        pct(row["max_drawdown"]),
        "-" if row["sharpe"] is None else plain(row["sharpe"], 2),
    ]


def _named(row: dict[str, Any], names: Iterable[str]) -> str:
    shown = [f"{name} {_value(row[name])}" for name in names]
    return ", ".join(islice(shown, 6)) + (", ..." if len(shown) > 6 else "")


def _range(values: Floats) -> str:
    if not len(values):
        return "none"
    low, middle, high = float(values.min()), float(np.median(values)), float(values.max())
    return f"{pct(low)} to {pct(high)}, median {pct(middle)} ({len(values):,})"


def _value(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:.10g}"
