"""A review as one HTML file: no network, light and dark, phone, desk and paper.

Jinja2 fills the page and escapes whatever it fills in; Plotly's own script, carried in the file, draws the charts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from math import isnan
from typing import Any

from mtum_eod.core.decision_noise import Band
from mtum_eod.core.expectations import Verdict
from mtum_eod.core.metrics import Metrics
from mtum_eod.core.review import HORIZONS, Review
from mtum_eod.core.strategy import EntryRule
from mtum_eod.core.words import counted
from mtum_eod.views.figures import figures
from mtum_eod.views.files import require

FEW_TRADES = 30
"""With fewer trades than this, chance explains a win rate as well as skill does."""

LONG = 15
WIDE = 40
TONES = {True: "good", False: "bad", None: ""}
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
RULE_WORDS = {
    EntryRule.TREND_BULLISH: "close above its mean",
    EntryRule.VIX_STABLE: "VIX below its threshold",
    EntryRule.RSI_BULLISH: "RSI above its threshold",
    EntryRule.VOLUME_CONFIRM: "volume above its mean",
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: what is read, and what it is sorted by."""

    text: str
    key: float | str
    kind: str = ""  # good, bad, or how strong a colour: see the style sheet
    is_number: bool = True
    below: tuple[str, ...] = ()  # smaller lines under it


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table whose heads sort it."""

    caption: str
    heads: tuple[str, ...]
    rows: list[list[Cell]]

    @property
    def is_long(self) -> bool:
        """Whether it scrolls in a box of its own."""
        return len(self.rows) > LONG


def page(one: Review, made_at: datetime) -> str:
    """The whole page. Raises SettingsError where the extra `report` is not installed."""
    require("report", "jinja2", "plotly")
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    env = Environment(
        loader=PackageLoader("mtum_eod.views"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = env.get_template("report.html.j2")
    shown = {
        "review": one,
        "subject": one.subject,
        "counted": counted,
        "made_at": f"{made_at:%Y-%m-%d %H:%M} UTC",
        "words": findings(one),
        "cards": cards(one),
        "tables": tables(one),
        "months": month_rows(one),
        "month_names": MONTHS,
        "figures": figures(one),
        "plotly": Markup(get_plotlyjs()),  # noqa: S704 (the vendor's own script)
    }
    return template.render(shown)


# -- in words ---------------------------------------------------------------------------------------------------------


def findings(one: Review) -> list[str]:
    """What the figures amount to, a sentence each, the most important first."""
    curve, trades, symbol = one.metrics.curve, one.metrics.trades, one.subject.symbol
    said = [
        f"These rules made {pct(curve.total_return)} in all, {pct(curve.cagr)} a year; holding {symbol} made "
        f"{pct(one.benchmark.total_return)} in all, {pct(one.benchmark.cagr)} a year (prices only).",
        _beside_published(one.subject.expectations[0][1]),
    ]
    if one.metrics.is_short:
        said.append("Less than a year: figures “a year” are this range drawn out, not what a year will bring.")
    if 0 < trades.trades < FEW_TRADES:
        said.append(f"So few trades ({trades.trades}) prove little: read each rate with its interval, not alone.")
    if trades.costs:
        said.append(
            f"Closed trades made {usd(trades.gross_pnl)} USD before costs; trading them cost {usd(trades.costs)}, "
            f"which leaves {usd(trades.total_pnl)}."
        )
    return said


def _beside_published(verdicts: Sequence[Verdict]) -> str:
    """Which figures are as published and which are not, a sentence a verdict."""
    named: dict[str, list[str]] = {}
    for verdict in verdicts:
        named.setdefault(verdict.verdict, []).append(verdict.name)
    return " ".join(f"{words[0].upper()}{words[1:]}: {_listed(names)}." for words, names in named.items())


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def usd(value: float) -> str:
    """An amount or a price, with separators."""
    return plain(value, 2)


def pct(value: float, digits: int = 1) -> str:
    """A ratio in percent."""
    return "–" if isnan(value) else f"{plain(value * 100, digits)}\u00a0%"


def plain(value: float, digits: int) -> str:
    """A number with separators and a true minus; a dash where it is not known."""
    return "–" if isnan(value) else f"{value:z,.{digits}f}".replace("-", "−")


# -- figures on cards -------------------------------------------------------------------------------------------------


def cards(one: Review) -> list[tuple[str, str, str, str]]:
    """The figures that stand out: name, value, words beside it, kind."""
    curve, trades, hold = one.metrics.curve, one.metrics.trades, one.benchmark
    symbol, net = one.subject.symbol, trades.total_pnl
    return [
        ("Net P&L of closed trades", f"{usd(net)} USD", f"{usd(trades.average_pnl)} a trade", _sign(net)),
        ("Equity", f"{usd(one.subject.values[-1])} USD", f"began with {usd(one.subject.capital)}", ""),
        ("A year (CAGR)", pct(curve.cagr), f"{symbol} held: {pct(hold.cagr)}", _sign(curve.cagr)),
        ("Won", f"{trades.wins} of {trades.trades}", f"{pct(trades.win_rate)}; {trades.losses} lost", ""),
        ("Days a trade", plain(trades.average_days, 1), f"{plain(trades.trades_a_year, 1)} trades a year", ""),
        ("Sharpe ratio", plain(curve.sharpe, 2), f"{symbol} held: {plain(hold.sharpe, 2)}", ""),
        ("Maximum drawdown", pct(curve.max_drawdown), f"{symbol} held: {pct(hold.max_drawdown)}", ""),
        ("In the market", pct(one.metrics.exposure), "of the sessions", ""),
    ]  # fmt: skip


def _sign(value: float, digits: int = 2) -> str:
    """The colour of a gain or a loss; none for what reads as zero."""
    return "" if isnan(value) or round(value, digits) == 0 else "good" if value > 0 else "bad"


# -- tables -----------------------------------------------------------------------------------------------------------


def tables(one: Review) -> dict[str, Table]:
    """Every table by its place on the page."""
    return {
        "expectations": _expectations(one),
        "comparison": _comparison(one),
        "noise": _noise(one),
        "reasons": _reasons(one),
        "trades": _trades(one),
        "filters": _filters(one),
        "costs": _costs(one),
        "missed": _missed(one),
        "near": _near(one),
        "near_days": _near_days(one),
        "accuracy": _accuracy(one),
        "drift": _drift(one),
        "steps": _steps(one),
        "errors": _errors(one),
        "flows": _flows(one),
    }


def _words(text: str, kind: str = "") -> Cell:
    return Cell(text, text, kind or ("wide" if len(text) > WIDE else ""), is_number=False)


def _day(session: date) -> Cell:
    return Cell(session.isoformat(), session.isoformat(), "day", is_number=False)


def _number(value: float, digits: int = 2, *, signed: bool = False) -> Cell:
    return Cell(plain(value, digits), _key(value), _sign(value, digits) if signed else "")


def _percent(value: float, *, signed: bool = False) -> Cell:
    return Cell(pct(value), _key(value), _sign(value, 3) if signed else "")


def _key(value: float) -> float | str:
    return "" if isnan(value) else value


def _expectations(one: Review) -> Table:
    """What was published beside what was measured, a column a range."""
    ranges = one.subject.expectations
    rows = [
        [_published(found[0]), *(_verdict(verdict) for verdict in found)]
        for found in zip(*(verdicts for _, verdicts in ranges), strict=True)
    ]
    heads = ("published figure", *(label for label, _ in ranges))
    return Table(caption="Measured, and what chance makes of it", heads=heads, rows=rows)


def _published(verdict: Verdict) -> Cell:
    expected = _range(verdict, verdict.expected_low, verdict.expected_high)
    return Cell(verdict.name, verdict.name, is_number=False, below=(expected,))


def _verdict(verdict: Verdict) -> Cell:
    kind = TONES[verdict.is_better or verdict.holds]
    chance = _range(verdict, verdict.interval_low, verdict.interval_high)
    return Cell(_shown(verdict, verdict.measured), _key(verdict.measured), kind, below=(verdict.verdict, chance))


def _shown(verdict: Verdict, value: float) -> str:
    return pct(value) if verdict.is_ratio else plain(value, 1)


def _range(verdict: Verdict, low: float, high: float) -> str:
    """Two ends as one range; nothing where they are not known."""
    if isnan(low):
        return ""
    scale, unit = (100, "\u00a0%") if verdict.is_ratio else (1, "")
    digits = 0 if low * scale == round(low * scale) and high * scale == round(high * scale) else 1
    return f"{plain(low * scale, digits)}\u00a0to\u00a0{plain(high * scale, digits)}{unit}"


def _comparison(one: Review) -> Table:
    symbol = one.subject.symbol
    columns = [("these rules", one.metrics.curve), (f"{symbol} held", one.benchmark)]
    if one.total_return:
        columns += [
            ("rules + dividends", one.total_return.strategy),
            (f"{symbol} + dividends", one.total_return.benchmark),
        ]

    def line(name: str, cell: Any) -> list[Cell]:
        return [_words(name), *(cell(column) for _, column in columns)]

    rows = [
        line("total return", lambda c: _percent(c.total_return, signed=True)),
        line("a year (CAGR)", lambda c: _percent(c.cagr, signed=True)),
        line("volatility a year", lambda c: _percent(c.volatility)),
        line("Sharpe ratio", lambda c: _number(c.sharpe)),
        line("maximum drawdown", lambda c: _percent(c.max_drawdown)),
    ]
    return Table(caption="Beside buy and hold", heads=("figure", *(name for name, _ in columns)), rows=rows)


def _noise(one: Review) -> Table:
    """What deciding before the close makes plausible; without rows where nobody asked."""
    noise = one.subject.noise
    heads = ("", "at the close", "5 %", "median", "95 %")
    if noise is None:
        return Table(caption="", heads=heads, rows=[])

    def line(name: str, band: Band, cell: Callable[[float], Cell]) -> list[Cell]:
        return [_words(name), *(cell(value) for value in (band.at_close, band.low, band.median, band.high))]

    def count(value: float) -> Cell:
        return _number(value, 0)

    rows = [
        line("total return", noise.total_return, _percent),
        line("a year (CAGR)", noise.cagr, _percent),
        line("trades", noise.trades, count),
        line("sessions that decided otherwise", noise.changed_sessions, count),
    ]
    caption = f"Decided {counted(noise.minutes_early, 'minute')} before the close, {counted(noise.trials, 'trial')}"
    return Table(caption=caption, heads=heads, rows=rows)


def _reasons(one: Review) -> Table:
    rows = [
        [
            _words(line.reason),
            _number(line.trades, 0),
            _number(line.wins, 0),
            _number(line.net_pnl, signed=True),
            _number(line.average_pnl, signed=True),
        ]
        for line in one.by_reason
    ]
    return Table(
        caption="By primary exit reason", heads=("reason", "trades", "won", "net USD", "average USD"), rows=rows
    )


def _trades(one: Review) -> Table:
    rows = [
        [
            _day(trade.entry_session),
            _number(trade.entry_price),
            _number(trade.shares, 0),
            _day(trade.exit_session),
            _number(trade.exit_price),
            _words(", ".join(trade.exit_reasons)),
            _number(trade.days, 0),
            _number(trade.gross_pnl),
            _number(trade.costs),
            _number(trade.net_pnl, signed=True),
        ]
        for trade in one.subject.result.trades
    ]
    heads = ("entry", "at", "shares", "exit", "at", "reasons", "days", "gross", "costs", "net USD")
    return Table(caption="Closed trades", heads=heads, rows=rows)


def _filters(one: Review) -> Table:
    def line(name: str, found: Metrics) -> list[Cell]:
        curve, trades = found.curve, found.trades
        return [
            _words(name),
            _number(trades.trades, 0),
            _percent(trades.win_rate),
            _number(trades.total_pnl, signed=True),
            _percent(curve.cagr, signed=True),
            _number(curve.sharpe),
            _percent(curve.max_drawdown),
        ]

    rows = [
        line(f"without “{RULE_WORDS[effect.left_out]}”" if effect.left_out else "all four rules", effect.metrics)
        for effect in one.filters
    ]
    heads = ("entry needs", "trades", "won", "net USD", "a year", "Sharpe", "drawdown")
    return Table(caption="Each entry filter left out", heads=heads, rows=rows)


def _costs(one: Review) -> Table:
    costs = one.costs
    lines = [
        ("gross P&L of closed trades", costs.gross_pnl),
        ("commissions and trading costs", -costs.costs),
        ("net P&L", costs.net_pnl),
        (
            f"running costs, {usd(costs.monthly_costs)} a month for {plain(costs.months, 1)} months",
            -costs.running_costs,
        ),
        ("what is left", costs.net_after_all),
    ]
    rows = [[_words(name), _number(value, signed=True)] for name, value in lines]
    return Table(caption="From gross to net", heads=("step", "USD"), rows=rows)


def _missed(one: Review) -> Table:
    rows = [[_day(m.session), _words(m.why), _percent(m.forward, signed=True)] for m in one.missed]
    heads = ("session", "why", f"{HORIZONS[-1]} sessions later")
    return Table(caption="Entry signals without a trade", heads=heads, rows=rows)


def _near(one: Review) -> Table:
    rows = []
    for rule in EntryRule:
        after = [miss.forward for miss in one.near_misses if miss.rule is rule]
        known = [value for value in after if not isnan(value)]
        mean = sum(known) / len(known) if known else float("nan")
        positive = sum(value > 0 for value in known) / len(known) if known else float("nan")
        rows.append([_words(RULE_WORDS[rule]), _number(len(after), 0), _percent(mean, signed=True), _percent(positive)])
    heads = ("the one that failed", "days", f"mean {HORIZONS[-1]} sessions later", "of them up")
    return Table(caption="Flat days with three of four", heads=heads, rows=rows)


def _near_days(one: Review) -> Table:
    rows = [[_day(m.session), _words(RULE_WORDS[m.rule]), _percent(m.forward, signed=True)] for m in one.near_misses]
    heads = ("session", "the one that failed", f"{HORIZONS[-1]} sessions later")
    return Table(caption="Each of these days", heads=heads, rows=rows)


def _accuracy(one: Review) -> Table:
    rows = [
        [
            _number(line.horizon, 0),
            _number(line.signals, 0),
            _percent(line.mean, signed=True),
            _percent(line.median, signed=True),
            _percent(line.positive),
            _percent(line.mean_any, signed=True),
            _percent(line.positive_any),
        ]
        for line in one.accuracy
    ]
    heads = ("sessions later", "signals", "mean", "median", "up", "mean of any session", "up of any")
    return Table(caption="Returns after entry signals", heads=heads, rows=rows)


def _drift(one: Review) -> Table:
    differing = one.drift.differing if one.drift else ()
    rows = [[_day(day.session), _words(day.action), _words(day.drift_action or "")] for day in differing]
    return Table(
        caption="Decisions that the final bar would have changed", heads=("session", "decided", "final bar"), rows=rows
    )


def _steps(one: Review) -> Table:
    rows = [
        [
            _words(line.step),
            _number(line.runs, 0),
            _number(line.failed, 0),
            _number(line.retries, 0),
            _number(line.median_seconds),
            _number(line.longest_seconds),
        ]
        for line in one.steps
    ]
    heads = ("step", "runs", "failed", "retries", "median seconds", "longest seconds")
    return Table(caption="Runs by step", heads=heads, rows=rows)


def _errors(one: Review) -> Table:
    rows = [
        [_words(f"{run.started_at:%Y-%m-%d %H:%M} UTC"), _words(run.step), _words(run.error)]
        for run in one.subject.runs
        if run.error
    ]
    return Table(caption="Runs that ended in an error", heads=("started", "step", "error"), rows=rows)


def _flows(one: Review) -> Table:
    rows = [
        [
            _day(flow.session),
            _words(flow.kind),
            _number(flow.kind.sign * flow.amount_usd, signed=True),
            _words(flow.note),
        ]
        for flow in one.subject.flows
    ]
    return Table(caption="Money paid in and out", heads=("session", "kind", "USD", "note"), rows=rows)


def month_rows(one: Review) -> list[tuple[int, list[Cell | None], Cell]]:
    """Each year with its twelve months, None where the range has none, and the year's own return."""
    years: dict[int, dict[int, float]] = {}
    for found in one.months:
        years.setdefault(found.year, {})[found.month] = found.ratio
    rows = []
    for year, ratios in years.items():
        grown = 1.0
        for ratio in ratios.values():
            grown *= 1 + ratio
        cells = [_heat(ratios[month]) if month in ratios else None for month in range(1, 13)]
        rows.append((year, cells, _heat(grown - 1)))
    return rows


def _heat(ratio: float) -> Cell:
    """A return, its colour as strong as it is large: four steps of 2 %."""
    strength = min(4, int(abs(ratio) / 0.02) + 1) if round(ratio, 4) else 0
    kind = f"{_sign(ratio)}-{strength}" if strength else ""
    return Cell(plain(ratio * 100, 1), ratio, kind)
