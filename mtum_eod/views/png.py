"""One session's picture: price, volume, RSI and VIX up to it, with what the rules hold them against."""

from __future__ import annotations

import io
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from mtum_eod.core.backtest import Tape
from mtum_eod.core.strategy import target_price
from mtum_eod.core.trading import Action
from mtum_eod.views.files import require

if TYPE_CHECKING:
    from mtum_eod.core.indicators import Floats
    from mtum_eod.jobs.outcome import Outcome

INK, DIM, GRID = "#1d2433", "#5c667a", "#e8ebf0"
BLUE, ORANGE, GREEN, RED, VIOLET = "#1f6feb", "#c77700", "#1a7f4b", "#c9372c", "#8250df"
ACTIONS = {Action.BUY: GREEN, Action.SELL: RED, Action.HOLD: INK}


def picture(outcome: Outcome, tape: Tape) -> bytes:
    """The session of `outcome` at the right edge of `tape`, as a PNG.

    Lines are final bars; the dots are the numbers that were decided on.
    Raises SettingsError where the extra `report` is not installed.
    """
    require("report", "matplotlib")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 9), dpi=110, layout="constrained", facecolor="white")
    price, volume, rsi, vix = figure.subplots(4, 1, sharex=True, height_ratios=(4, 1.4, 1.6, 1.6))
    _price(price, outcome, tape)
    _volume(volume, outcome, tape)
    p, seen = outcome.parameters.strategy, outcome.evidence.indicators
    _gauge(rsi, "RSI", tape, tape.rsi, seen.rsi, (p.rsi_entry_threshold, "entry >"), (p.rsi_exit_threshold, "exit <"))
    _gauge(vix, "VIX", tape, tape.vix, seen.vix, (p.vix_entry_threshold, "entry <"), (p.vix_exit_threshold, "exit >"))
    for axes in (price, volume, rsi, vix):
        axes.grid(color=GRID, linewidth=0.8)
        axes.tick_params(colors=DIM, labelsize=9)
        axes.set_axisbelow(True)
        for side in ("top", "right", "left", "bottom"):
            axes.spines[side].set_visible(side == "bottom")
            axes.spines[side].set_color(GRID)
    price.set_xlim(
        tape.sessions[0], tape.sessions[-1] + timedelta(days=(tape.sessions[-1] - tape.sessions[0]).days // 9)
    )
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", metadata={"Software": "mtum-eod"})
    return drawn.getvalue()


def _price(axes: Any, outcome: Outcome, tape: Tape) -> None:
    document, position, p = outcome.document, outcome.evidence.position, outcome.parameters.strategy
    axes.plot(tape.sessions, tape.close, color=INK, linewidth=1.6, label="close")
    axes.plot(tape.sessions, tape.ma_50, color=ORANGE, linewidth=1.4, label=f"MA{p.ma_period}")
    if position:
        since = max(position.entry_session, tape.sessions[0])
        target = target_price(position.entry_price, position.entry_atr, p)
        for height, words, colour in ((target, "target", GREEN), (position.entry_price, "entry", DIM)):
            axes.plot([since, tape.sessions[-1]], [height, height], color=colour, linestyle="--", linewidth=1.1)
            _tag(axes, tape, height, f"{words} {height:,.2f}", colour)
    i = outcome.evidence.indicators
    _dot(axes, tape, i.close, ACTIONS[outcome.decision.action])
    _tag(axes, tape, i.close, f"{i.close:,.2f}", INK)
    axes.legend(loc="upper left", frameon=False, fontsize=9, ncols=2)
    synthetic = "   SYNTHETIC data" if document["synthetic"] else ""
    blocked = f", blocked by {document['blocked_by']}" if document["blocked_by"] else ""
    axes.set_title(
        f"{outcome.symbol} {outcome.evidence.session:%a %Y-%m-%d}   {document['action']}{blocked}{synthetic}",
        loc="left", fontsize=13, fontweight="bold", color=INK, pad=26,
    )  # fmt: skip
    axes.annotate(_short(document["reason"]), (0, 1), (0, 8), "axes fraction", "offset points", fontsize=9, color=DIM)
    axes.set_ylabel("USD a share", color=DIM, fontsize=9)


def _volume(axes: Any, outcome: Outcome, tape: Tape) -> None:
    millions = tape.volume / 1e6
    axes.bar(tape.sessions, millions, width=0.8, color="#c3cad6")
    axes.plot(tape.sessions, tape.volume_ma_20 / 1e6, color=ORANGE, linewidth=1.3)
    axes.set_ylabel("volume, million", color=DIM, fontsize=9)
    lookback = outcome.parameters.strategy.volume_lookback
    _tag(axes, tape, tape.volume_ma_20[-1] / 1e6, f"mean of {lookback}", ORANGE)
    _dot(axes, tape, outcome.evidence.indicators.volume / 1e6, INK)


def _gauge(axes: Any, name: str, tape: Tape, values: Floats, seen: float, *thresholds: tuple[float, str]) -> None:
    axes.plot(tape.sessions, values, color=BLUE, linewidth=1.4)
    for height, words in thresholds:
        axes.axhline(height, color=VIOLET, linestyle="--", linewidth=1)
        axes.annotate(
            f"{words} {height:g}", (1, height), (-4, 3), ("axes fraction", "data"), "offset points",
            ha="right", fontsize=8, color=VIOLET,
        )  # fmt: skip
    _dot(axes, tape, seen, BLUE)
    axes.set_ylabel(name, color=DIM, fontsize=9)
    axes.annotate(
        f"{seen:.1f}",
        (tape.sessions[-1], seen),
        (7, -3),
        "data",
        "offset points",
        fontsize=9,
        color=BLUE,
        weight="bold",
    )


def _dot(axes: Any, tape: Tape, value: float, colour: str) -> None:
    axes.plot([tape.sessions[-1]], [value], "o", color=colour, markersize=6, zorder=5)


def _tag(axes: Any, tape: Tape, height: float, words: str, colour: str) -> None:
    axes.annotate(
        words, (tape.sessions[-1], height), (7, -3), "data", "offset points", fontsize=9, color=colour, weight="bold"
    )


def _short(reason: str) -> str:
    """The reason as far as the picture is wide."""
    return reason if len(reason) <= 130 else reason[:129] + "…"
