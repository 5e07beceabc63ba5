"""The charts of a report as Plotly figures: plain data, no colour of their own.

A colour is a name with an @ before it; the page looks it up among its own colours, light or dark, when it draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from math import isnan
from typing import Any

from mtum_eod.core.review import Review, TradePath
from mtum_eod.core.words import counted

Figure = dict[str, Any]


def figures(one: Review) -> dict[str, Figure]:
    """Every chart by the id of its place on the page."""
    return {
        "equity": equity(one),
        "drawdown": drawdown(one),
        "price": price(one),
        "rsi": rsi(one),
        "vix": vix(one),
        "paths": paths(one),
        "reasons": reasons(one),
    }


def equity(one: Review) -> Figure:
    """The equity curve beside buy and hold, each without and, where they are known, with dividends."""
    sessions, curves, symbol = one.subject.result.sessions, one.curves, one.subject.symbol
    lines = [
        _line("these rules", sessions, curves.equity, "@strategy", width=2.2),
        _line(f"{symbol} held", sessions, curves.hold, "@benchmark"),
    ]
    if curves.equity_with_dividends is not None and curves.hold_with_dividends is not None:
        lines += [
            _line("these rules + dividends", sessions, curves.equity_with_dividends, "@strategy", dash="dot"),
            _line(f"{symbol} held + dividends", sessions, curves.hold_with_dividends, "@benchmark", dash="dot"),
        ]
    return {"data": lines, "layout": _over_time("USD", ",.2f")}


def drawdown(one: Review) -> Figure:
    """How far below their highest close so far both stood."""
    sessions, curves = one.subject.result.sessions, one.curves
    below = _line("these rules", sessions, [-fall for fall in curves.drawdown], "@strategy")
    held = _line(f"{one.subject.symbol} held", sessions, [-fall for fall in curves.hold_drawdown], "@benchmark")
    return {
        "data": [below | {"fill": "tozeroy", "fillcolor": "@shade"}, held],
        "layout": _over_time("below the high", ".1%"),
    }


def price(one: Review) -> Figure:
    """Closes, their mean, and where shares were bought and sold."""
    market, result = one.market, one.subject.result
    period = one.subject.parameters.strategy.ma_period
    trades = one.subject.trades_on_scale
    bought = [(t.entry_session, t.entry_price, f"buy {t.shares}") for t in trades]
    if result.open_position:
        held = result.open_position
        bought.append((held.entry_session, held.entry_price, f"buy {held.shares}, still held"))
    sold = [(t.exit_session, t.exit_price, f"sell {t.shares}: {t.exit_reason}") for t in trades]
    return {
        "data": [
            _line("close", market.sessions, market.close.tolist(), "@ink", width=1.4),
            _line(f"MA{period}", market.sessions, market.ma_50.tolist(), "@mean"),
            _marks("bought", bought, "triangle-up", "@good"),
            _marks("sold", sold, "triangle-down", "@bad"),
        ],
        "layout": _over_time("USD a share", ",.2f"),
    }


def rsi(one: Review) -> Figure:
    """Wilder's RSI with the thresholds of entry and exit."""
    p, market = one.subject.parameters.strategy, one.market
    line = _line("RSI", market.sessions, market.rsi.tolist(), "@strategy", width=1.0)
    return {"data": [line], "layout": _over_time("RSI", ".1f") | _across(p.rsi_entry_threshold, p.rsi_exit_threshold)}


def vix(one: Review) -> Figure:
    """The VIX with the thresholds of entry and exit."""
    p, market = one.subject.parameters.strategy, one.market
    line = _line("VIX", market.sessions, market.vix.tolist(), "@strategy", width=1.0)
    return {"data": [line], "layout": _over_time("VIX", ".2f") | _across(p.vix_entry_threshold, p.vix_exit_threshold)}


def paths(one: Review) -> Figure:
    """Each trade from its entry (0 %) towards its target (100 %), session by session."""
    layout = _layout("way to the target", ".0%") | _across(0.0, 1.0)
    layout["xaxis"] = {"title": {"text": "sessions since entry"}}
    return {"data": [_path(path) for path in one.paths], "layout": layout | {"hovermode": "closest"}}


def _path(path: TradePath) -> dict[str, Any]:
    colour = "@strategy" if path.is_open else "@good" if path.net_pnl > 0 else "@bad"
    name = f"{path.entry_session}, {counted(path.shares, 'share')}, {path.net_pnl:+,.2f} USD"
    name += ", open" if path.is_open else ""
    return {
        "type": "scatter",
        "mode": "lines" if len(path.progress) > 1 else "markers",
        "name": name,
        "showlegend": False,
        "x": list(range(len(path.progress))),
        "y": _known(path.progress),
        "customdata": _known(path.closes),
        "line": {"color": colour, "width": 2.4 if path.is_open else 1.1},
        "opacity": 1.0 if path.is_open else 0.75,
        "hovertemplate": f"{name}<br>session %{{x}}, close %{{customdata:.2f}}, %{{y:.0%}} of the way<extra></extra>",
    }


def reasons(one: Review) -> Figure:
    """Net profit and loss by the reason that ended the trades."""
    lines = one.by_reason
    bars = {
        "type": "bar",
        "x": [line.reason for line in lines],
        "y": [round(line.net_pnl, 2) for line in lines],
        "customdata": [[line.trades, line.wins] for line in lines],
        "marker": {"color": ["@good" if line.net_pnl > 0 else "@bad" for line in lines]},
        "hovertemplate": "%{x}: %{y:,.2f} USD, %{customdata[0]} trades, %{customdata[1]} won<extra></extra>",
    }
    return {
        "data": [bars],
        "layout": _layout("net USD", ",.0f") | {"hovermode": "closest", "xaxis": {"type": "category"}},
    }


def _line(
    name: str,
    sessions: Sequence[date],
    values: Sequence[float],
    colour: str,
    *,
    width: float = 1.4,
    dash: str = "solid",
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines" if len(values) > 1 else "markers",
        "name": name,
        "x": [session.isoformat() for session in sessions],
        "y": _known(values),
        "line": {"color": colour, "width": width, "dash": dash},
        "marker": {"color": colour},
    }


def _marks(name: str, at: Sequence[tuple[date, float, str]], symbol: str, colour: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [session.isoformat() for session, _, _ in at],
        "y": [round(price, 4) for _, price, _ in at],
        "text": [words for _, _, words in at],
        "hovertemplate": "%{text} at %{y:,.2f}<extra></extra>",
        "marker": {"symbol": symbol, "size": 8, "color": colour, "line": {"width": 1, "color": "@paper"}},
    }


def _over_time(title: str, form: str) -> dict[str, Any]:
    return _layout(title, form) | {"xaxis": {"type": "date", "hoverformat": "%a %Y-%m-%d"}}


def _layout(title: str, form: str) -> dict[str, Any]:
    ticks = {"tickformat": ".0%"} if form.endswith("%") else {}
    return {"yaxis": {"title": {"text": title}, "hoverformat": form} | ticks}


def _across(*heights: float) -> dict[str, Any]:
    """Dashed lines across the chart, at thresholds."""
    line = {"color": "@threshold", "width": 1.2, "dash": "dash"}
    ends = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "line": line}
    return {"shapes": [ends | {"y0": height, "y1": height} for height in heights]}


def _known(values: Sequence[float]) -> list[float | None]:
    """Values for JSON, with as many digits as anybody reads; what is not known is a gap."""
    return [None if isnan(value) else round(value, 4) for value in values]
