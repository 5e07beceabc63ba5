"""Outcomes for a person at a terminal: short, aligned, coloured where a terminal is (click strips it elsewhere)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from math import isnan, nan
from typing import TYPE_CHECKING, Any

import click
import pytz

from mtum_eod.core.evidence import Gate, Window
from mtum_eod.core.explanation import RuleLine
from mtum_eod.core.sizing import share_cost
from mtum_eod.core.strategy import target_price
from mtum_eod.core.trading import Action, Position
from mtum_eod.core.words import NEW_YORK, counted, wall

if TYPE_CHECKING:
    from mtum_eod.core.backtest import BacktestResult
    from mtum_eod.core.checks import Check
    from mtum_eod.core.decision_noise import Band, DecisionNoise
    from mtum_eod.core.expectations import Verdict
    from mtum_eod.core.metrics import Metrics
    from mtum_eod.core.review import Review
    from mtum_eod.jobs.approval import Question
    from mtum_eod.jobs.audit import Audit
    from mtum_eod.jobs.backtest import Backtest
    from mtum_eod.jobs.bars import BarsReport
    from mtum_eod.jobs.doctor import Diagnosis
    from mtum_eod.jobs.due import Agenda, Done
    from mtum_eod.jobs.history import RangeResult
    from mtum_eod.jobs.outcome import Outcome
    from mtum_eod.jobs.reconcile import Comparison
    from mtum_eod.jobs.settle import Settlement
    from mtum_eod.jobs.status import Status

COLOURS = {Action.BUY: "green", Action.SELL: "red", Action.HOLD: "cyan"}
MARKS = {True: ("✓", "green"), False: ("✗", "red"), None: ("?", "yellow")}
SYNTHETIC = click.style("  SYNTHETIC data", fg="yellow", bold=True)
"""What follows everything that made-up bars led to."""

ORDER_WORDS = {"MOC": "market-on-close", "MKT": "market"}


def instant(moment: datetime, zone: str) -> str:
    """An instant at the exchange, and in the owner's zone where that is another one."""
    return f"{moment.astimezone(pytz.timezone(NEW_YORK)):%Y-%m-%d} {wall(moment, pytz.timezone(zone))}"


def decision(outcome: Outcome, zone: str) -> str:
    """One session's decision: numbers, rules, action, and what stands against it."""
    document, evidence = outcome.document, outcome.evidence
    no_rule_was_asked = _is_by_hand(document) and document["close"] is None
    if document["blocked_by"] == Gate.NOT_A_SESSION or no_rule_was_asked:
        return f"{heading(outcome)}\n\n{verdict(outcome)}\n  {document['reason']}"
    i, p = evidence.indicators, outcome.parameters.strategy
    lines = [
        heading(outcome),
        dim(f"as of {instant(evidence.as_of, zone)}, {document['source']} bars, {volume_words(outcome)}"),
        "",
        f"  close {usd(i.close)}   MA{p.ma_period} {usd(i.ma_50)}   RSI {plain(i.rsi, 1)}   ATR {usd(i.atr)}   "
        f"VIX {plain(i.vix, 2)}",
        "",
    ]
    position = evidence.position
    if position is None:
        lines += ["  position  flat", "", "  entry needs all four", *rules(outcome.rules)]
    else:
        lines += [
            f"  position  {position_words(position, outcome)}",
            "",
            "  any one exits",
            *rules(outcome.rules),
        ]
    lines += ["", verdict(outcome), f"  {document['reason']}"]
    lines += [click.style(f"  ! {warning}", fg="yellow") for warning in document["warnings"]]
    lines += [dim(f"  {note}") for note in outcome.notes]
    return "\n".join(lines)


def check(looked_at: Check) -> str:
    """One link of the chain on a line; where it will not do, its cure on the next."""
    said = f"  {_mark(looked_at.passed)} {looked_at.name:<24} {looked_at.words}"
    return said if looked_at.passed or not looked_at.cure else f"{said}\n    {'':<24} {dim(looked_at.cure)}"


def diagnosis(done: Diagnosis) -> str:
    """How many links will do."""
    failed = [each for each in done.checks if not each.passed]
    said = f"\n{len(failed)} of {len(done.checks)} will not do" if failed else f"\nall {len(done.checks)} will do"
    return click.style(said, fg="red" if failed else "green", bold=True)


def heading(outcome: Outcome) -> str:
    """Whose session this is, and on what kind of data."""
    document = outcome.document
    parts = [f"{outcome.evidence.session:%a %Y-%m-%d}", document["mode"]]
    if document["dry_run"]:
        parts.append("dry run")
    said = click.style(f"{outcome.symbol} end of day", bold=True) + "  " + " · ".join(parts)
    return f"{said}{SYNTHETIC * document['synthetic']}"


def verdict(outcome: Outcome) -> str:
    """The action, its size, and the gate that blocked it."""
    document, price = outcome.document, outcome.evidence.indicators.close
    action = click.style(f"  {document['action']}", fg=COLOURS[outcome.decision.action], bold=True)
    order = document["order"]
    if _is_by_hand(document):
        action += f", by hand {order['side']}"
    shares = order["shares"] if order else document["shares"]
    if shares:
        kind = ORDER_WORDS[order["type"]] if order else ORDER_WORDS[str(outcome.parameters.order_type)]
        about = f", about {shares * price:,.2f} USD" if not isnan(price) else ""
        action += f" {shares} {outcome.symbol} {kind}{about}"
        action += f", {order['status']}" if order else ", not sent (dry run)"
    if document["blocked_by"]:
        action += click.style(f"  blocked by {document['blocked_by']}", fg="yellow")
    if outcome.evidence.window is Window.EARLY:
        action += dim("  (too early to count: nothing is recorded)")
    return action


def _is_by_hand(document: dict[str, Any]) -> bool:
    """Whether the session's order is the owner's own rather than what the rules asked for."""
    order = document["order"]
    return order is not None and order["side"] != document["action"]


def rules(lines: Iterable[RuleLine]) -> list[str]:
    """One line a rule: mark, name, value, threshold, distance."""
    return [_rule(line) for line in lines]


def _rule(line: RuleLine) -> str:
    digits = 0 if line.measured == "volume" else 2
    threshold = plain(line.threshold, digits) if line.threshold_name else f"{line.threshold:g}"
    against = f"{line.relation} {line.threshold_name + ' ' if line.threshold_name else ''}{threshold}"
    distance = "" if isnan(line.distance_pct) else f"{line.distance_pct:+.1f} %"
    said = f"{line.rule:<15} {line.measured:<7}{plain(line.value, digits):>12}  {against:<24}{distance:>9}"
    return f"  {_mark(line.holds)} {said}".rstrip()


def position_words(position: Position, outcome: Outcome) -> str:
    """What is held, since when, at what price and where its target lies."""
    target = target_price(position.entry_price, position.entry_atr, outcome.parameters.strategy)
    return (
        f"{position.shares} at {usd(position.entry_price)} since {position.entry_session}, "
        f"ATR at entry {usd(position.entry_atr)}, target {usd(target)}"
    )


def volume_words(outcome: Outcome) -> str:
    """Which volumes were compared."""
    same_time = outcome.document["volume_basis"] == "same_time"
    return "volume up to the same time of day" if same_time else "volume of whole sessions"


def usd(value: float) -> str:
    """A price, or that it is unknown."""
    return plain(value, 2)


def plain(value: float, digits: int) -> str:
    """A number with separators, or that it is unknown."""
    return "unknown" if isnan(value) else f"{value:,.{digits}f}"


def dim(words: str) -> str:
    """What matters less."""
    return click.style(words, dim=True)


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """Aligned columns under their names; the columns whose places stand in `right` are right-aligned."""
    cells = [list(headers), *(list(row) for row in rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(headers))]

    def line(row: Sequence[str]) -> str:
        pairs = enumerate(zip(row, widths, strict=True))
        aligned = (cell.rjust(width) if n in right else cell.ljust(width) for n, (cell, width) in pairs)
        return "  ".join(aligned).rstrip()

    return "\n".join([dim(line(cells[0])), *(line(row) for row in cells[1:])])


def explanation(outcome: Outcome, zone: str) -> str:
    """A decision with the arithmetic behind it."""
    evidence, risk = outcome.evidence, outcome.parameters.risk
    lines = [decision(outcome, zone)]
    if evidence.position is None and evidence.indicators.has_price:
        cost = share_cost(evidence.indicators.close, risk)
        cap = min(evidence.funds.sizing_equity * risk.max_position_pct / 100, risk.max_position_size)
        lines += [
            "",
            dim(
                f"  size: min({cap:,.2f} cap, {plain(evidence.funds.cash, 2)} cash) / {cost:.2f} a share, "
                f"that is {evidence.indicators.close:.2f} + {risk.price_buffer_pct:g} % buffer "
                f"+ {risk.transaction_cost:.2%} cost"
            ),
        ]
    return "\n".join(lines)


def agenda(now: Agenda, zone: str) -> str:
    """What is due, else what comes next."""
    if now.due:
        return f"due now: {now.due.step} of {now.due.session} ({now.due.why})"
    return f"nothing is due; next: {now.next.step} of {now.next.session}, {instant(now.next.at, zone)}"


def coming(now: Agenda, zone: str) -> str:
    """The steps ahead, a line each."""
    rows = [("now", str(now.due.step), str(now.due.session))] if now.due else []
    rows += [(instant(due.at, zone), str(due.step), str(due.session)) for due in now.coming]
    return table(("next", "step", "session"), rows)


def done(result: Done, zone: str) -> str:
    """A step that was due, as it came out."""
    if result.outcome:
        return decision(result.outcome, zone)
    if result.settlement:
        return settlements([result.settlement])
    if result.checks:
        return "\n".join(check(looked_at) for looked_at in result.checks)
    return f"{result.step}: nothing to tell" if result.step else "nothing is due"


def _mark(holds: bool | None) -> str:
    mark, colour = MARKS[holds]
    return click.style(mark, fg=colour)


def settlements(settled: Sequence[Settlement]) -> str:
    """One line a session, and one for each warning."""
    if not settled:
        return "nothing to settle"
    return "\n".join(
        f"{one.session}  {'settled' if one.is_settled else 'open: ' + one.why}"
        + (f", order {one.order.status}" if one.order else "")
        + (f", equity {one.mark.value:,.2f} USD" if one.mark else "")
        + SYNTHETIC * one.is_synthetic
        + "".join(click.style(f"\n  ! {warning}", fg="yellow") for warning in one.warnings)
        for one in settled
    )


def range_result(result: RangeResult) -> str:
    """What a run over a range did."""
    actions, gates = result.document["actions"], result.document["blocked_by"]
    done = f"{counted(result.sessions, 'session')}, {result.already_done} of them done before"
    lines = [done + SYNTHETIC * result.is_synthetic]
    if actions:
        lines.append("decided  " + ", ".join(f"{count} {action}" for action, count in sorted(actions.items())))
    if gates:
        lines.append("blocked  " + ", ".join(f"{count} {gate}" for gate, count in sorted(gates.items())))
    unfit = next((outcome for outcome in result.outcomes if outcome.exit_code), None)
    if unfit:
        why = unfit.document["warnings"] or [unfit.document["reason"]]
        lines.append(click.style(f"  ! {unfit.evidence.session}: {why[0]}", fg="yellow"))
    held = f"{counted(result.shares, 'share')} held" if result.shares else "flat"
    equity = f", equity {result.equity:,.2f} USD" if result.equity is not None else ""
    return "\n".join([*lines, f"now      {held}{equity}"])


def status(now: Status, zone: str) -> str:
    """Where things stand, a line a thing."""
    position, mark, row = now.position, now.last_mark, now.last_row
    held = f"{position.shares} at {usd(position.entry_price)} since {position.entry_session}" if position else "flat"
    lines = [
        ("book", now.book),
        ("position", held),
        ("cash", f"{now.cash:,.2f} USD, sizing equity {now.sizing_equity:,.2f}"),
        ("equity", f"{mark.value:,.2f} USD at the close of {mark.session}" if mark else "no session settled yet"),
        *([("P&L", f"realised {mark.realised:+,.2f} USD, unrealised {mark.unrealised:+,.2f}")] if mark else ()),
        ("last session", f"{row.session} {row.status}: {row.why}" if row else "none yet"),
        ("now", agenda(now.agenda, zone)),
    ]
    if now.agenda.due:
        then = now.agenda.next
        lines.append(("next", f"{then.step} of {then.session}, {instant(then.at, zone)}"))
    lines += [
        ("working", f"{order.intent.reference}, {counted(order.intent.shares, 'share')}, {order.status}")
        for order in now.open_orders
    ]
    lines += [("halted", f"{halt.why} (by {halt.by}, {instant(halt.halted_at, zone)})") for halt in now.halts]
    if now.question:
        lines.append(("awaiting", question(now.question, zone)))
    lines += [("by hand", f"{a.act} by {a.by}, {instant(a.at, zone)}{a.words and ': ' + a.words}") for a in now.acts]
    lines += [("error", f"{run.step} {instant(run.started_at, zone)}: {run.error}") for run in now.last_errors]
    return "\n".join(f"{dim(f'{name:<13}')} {said}" for name, said in lines)


def question(asked: Question, zone: str) -> str:
    """What waits for the owner, and the lines to type."""
    said = f"BUY {asked.shares} at about {usd(asked.price_usd)}, until {instant(asked.until, zone)}"
    if asked.approved_by:
        return f"{said}: approved by {asked.approved_by}, to be sent by the next run"
    return f"{said}: `mtum-eod approve` or `mtum-eod approve --no`"


def comparison(compared: Comparison) -> str:
    """The book beside the broker, a line a thing."""
    rows = [(line.what, line.book, line.broker) for line in compared.lines]
    head, *lines = table(("", "book", "broker"), rows).splitlines()
    marked = [f"{_mark(line.agrees)} {shown}" for line, shown in zip(compared.lines, lines, strict=True)]
    cures = [f"  {dim(line.cure)}" for line in compared.lines if line.cure]
    return "\n".join([f"  {head}", *marked, *cures])


def bars_report(report: BarsReport) -> str:
    """What the bars look like, and every oddity by name."""
    lines = []
    for one in report.symbols:
        found = f"{one.symbol}: {counted(one.rows, 'row')} from {one.source}, {one.first} to {one.last}"
        lines.append(found + SYNTHETIC * one.is_synthetic)
        colours = {True: "red", False: "yellow"}
        lines += [click.style(f"  ! {f.words}", fg=colours[f.is_fatal]) for f in one.findings]
    if report.written is not None:
        lines.append(f"{counted(report.written, 'row')} new or changed in the database")
    return "\n".join(lines)


def bars_table(rows: Sequence[dict[str, Any]]) -> str:
    """Bars with the VIX beside them."""
    headers = ("session", "open", "high", "low", "close", "volume", "vix")

    def cell(row: dict[str, Any], name: str) -> str:
        value = row[name]
        return value if name == "session" else plain(nan if value is None else value, 0 if name == "volume" else 2)

    shown = table(headers, [[cell(row, name) for name in headers] for row in rows], right=range(1, 7))
    return f"{shown}\n{SYNTHETIC}" if any(row["synthetic"] for row in rows) else shown


@contextmanager
def progress(what: str) -> Iterator[Callable[[object, int, int], None]]:
    """A progress bar on standard error while the block runs; silent where that is no terminal."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)

        def shown(at: object, count: int, total: int) -> None:
            bar.update(task, completed=count, total=total, description=f"{what} {at}".strip())

        yield shown


def backtest(one: Backtest) -> str:
    """A backtest on one page: figures beside buy-and-hold, trades by reason, and the published figures."""
    result, found, curve, hold = one.result, one.metrics, one.metrics.curve, one.benchmark
    first, last = result.sessions[0], result.sessions[-1]
    synthetic = SYNTHETIC * one.is_synthetic
    figures = [
        ("total return", pct(curve.total_return), pct(hold.total_return)),
        ("annual return", pct(curve.cagr), pct(hold.cagr)),
        ("volatility", pct(curve.volatility), pct(hold.volatility)),
        ("Sharpe ratio", plain(curve.sharpe, 2), plain(hold.sharpe, 2)),
        ("maximum drawdown", pct(curve.max_drawdown), pct(hold.max_drawdown)),
        ("exposure", pct(found.exposure), pct(1.0)),
    ]
    trades = found.trades
    held = result.open_position
    lines = [
        click.style("Backtest", bold=True)
        + f"  {first} to {last}, {counted(len(result.sessions), 'session')} of {one.source}, "
        f"fills at {one.fill}{synthetic}",
        "",
        table(("", "these rules", "buy and hold"), figures, right=(1, 2)),
        *_drawn_out(found),
        "",
        f"{counted(trades.trades, 'trade')}, {trades.wins} won ({pct(trades.win_rate)}), "
        f"{plain(trades.trades_a_year, 1)} a year, {plain(trades.average_days, 1)} days each",
        f"net {trades.total_pnl:,.2f} USD of {one.capital:,.2f}: gross {trades.gross_pnl:,.2f}, "
        f"costs {trades.costs:,.2f}; average win {usd(trades.average_win)}, average loss {usd(trades.average_loss)}",
    ]
    if held:
        lines.append(
            f"open: {held.shares} at {held.entry_price:.2f} since {held.entry_session}, {held.unrealised:+,.2f} USD"
        )
    lines += [
        "",
        "exits by primary reason",
        table(("reason", "trades", "won", "net USD"), _by_reason(result), right=(1, 2, 3)),
        "",
        "published beside measured",
        table(
            ("", "published", "measured", "90 % interval", ""),
            [_verdict(verdict) for verdict in one.verdicts],
            right=(1, 2, 3),
        ),
        *(_noise(one.noise, len(result.sessions)) if one.noise else ()),
        "",
        dim("Hindsight: these rules were written down after much of this history had happened. No investment advice."),
    ]
    return "\n".join(lines)


def _drawn_out(found: Metrics) -> list[str]:
    """What figures a year of less than a year are."""
    words = "less than a year: annual figures are this range drawn out, not what a year will bring"
    return [dim(words)] if found.is_short else []


def _noise(one: DecisionNoise, sessions: int) -> list[str]:
    def row(name: str, band: Band, shown: Callable[[float], str]) -> tuple[str, ...]:
        return name, *(shown(value) for value in (band.at_close, band.low, band.median, band.high))

    rows = [
        row("total return", one.total_return, pct),
        row("annual return", one.cagr, pct),
        row("trades", one.trades, "{:.0f}".format),
        row(f"changed, of {counted(sessions, 'session')}", one.changed_sessions, "{:.0f}".format),
    ]
    return [
        "",
        f"decided {counted(one.minutes_early, 'minute')} before the close, {counted(one.trials, 'trial')}",
        table(("", "at the close", "5 %", "median", "95 %"), rows, right=(1, 2, 3, 4)),
        dim(
            f"Assumed: price off by recent volatility within the session's range, VIX {one.vix_sensitivity:+.1f} % "
            "for +1 % of price, volume as on the whole day."
        ),
    ]


def _by_reason(result: BacktestResult) -> list[tuple[str, str, str, str]]:
    rows = []
    for reason in dict.fromkeys(trade.exit_reason for trade in result.trades):
        net = [trade.net_pnl for trade in result.trades if trade.exit_reason is reason]
        rows.append((str(reason), str(len(net)), str(sum(pnl > 0 for pnl in net)), f"{sum(net):,.2f}"))
    return rows


def _verdict(one: Verdict) -> tuple[str, str, str, str, str]:
    def shown(value: float) -> str:
        if isnan(value):
            return "-"
        return pct(value) if one.is_ratio else f"{value:.1f}"

    interval = "" if isnan(one.interval_low) else f"{shown(one.interval_low)} to {shown(one.interval_high)}"
    expected = f"{shown(one.expected_low)} to {shown(one.expected_high)}"
    return one.name, expected, shown(one.measured), interval, one.verdict


def pct(value: float | None) -> str:
    """A ratio in percent; a dash where it is not known."""
    return "-" if value is None or isnan(value) else f"{value:.1%}"


def audit(one: Audit) -> str:
    """What cutting the future and the past off changed."""
    ahead = f"{_mark(not one.looked_ahead)} the future cut off at each of {counted(one.cuts, 'session')}: "
    ahead += _changed(one.looked_ahead)
    start = f"{_mark(not one.needs_its_start)} {counted(one.shortenings, 'shorter past')}: "
    start += _changed(one.needs_its_start)
    return f"{ahead}\n{start}; no indicator moved by more than {one.largest_move:.1g} of its value"


def _changed(days: Sequence[date]) -> str:
    if not days:
        return "no decision changed"
    return f"decisions changed on {counted(len(days), 'session')}, first on {days[0]}"


def review(one: Review) -> str:
    """The owner's report on one page; `--html` has all of it."""
    subject, found, trades = one.subject, one.metrics, one.metrics.trades
    result, symbol = subject.result, subject.symbol
    first, last = result.sessions[0], result.sessions[-1]
    synthetic = SYNTHETIC * subject.is_synthetic
    figures = [
        ("total return", pct(found.curve.total_return), pct(one.benchmark.total_return)),
        ("annual return", pct(found.curve.cagr), pct(one.benchmark.cagr)),
        ("Sharpe ratio", plain(found.curve.sharpe, 2), plain(one.benchmark.sharpe, 2)),
        ("maximum drawdown", pct(found.curve.max_drawdown), pct(one.benchmark.max_drawdown)),
        ("exposure", pct(found.exposure), pct(1.0)),
    ]
    left = f"{one.costs.net_after_all:,.2f} after {one.costs.running_costs:,.2f} of running costs"
    lines = [
        click.style(subject.title, bold=True)
        + f"  {subject.period}: {first} to {last}, {counted(len(result.sessions), 'session')}{synthetic}",
        *(click.style(f"  ! halted {halt}", fg="yellow") for halt in subject.halts),
        *(click.style(f"  ! {note}", fg="yellow") for note in subject.notes),
        "",
        table(("", "this book", f"{symbol} held"), figures, right=(1, 2)),
        *_drawn_out(found),
        "",
        f"equity {subject.values[-1]:,.2f} USD, {subject.capital:,.2f} before the first of these sessions",
        f"{counted(trades.trades, 'trade')} closed, {trades.wins} won ({pct(trades.win_rate)}), "
        f"{usd(trades.average_days)} days each"
        if trades.trades
        else "no trade closed yet",
        f"net {trades.total_pnl:,.2f} USD: gross {trades.gross_pnl:,.2f}, costs {trades.costs:,.2f}; {left}",
        f"{counted(len(one.missed), 'entry signal')} without a trade, "
        f"{counted(len(one.near_misses), 'flat day')} with three of four rules",
    ]
    lines += [f"  {missed.session}  {missed.why}" for missed in one.missed[-5:]]
    if one.drift and one.drift.compared:
        differing = len(one.drift.differing)
        lines.append(
            f"drift  {differing} of {counted(one.drift.compared, 'decision')} not what the final bar would have decided"
        )
    if subject.sessions_by_status:
        lines.append("ledger " + ", ".join(f"{n} {status}" for status, n in sorted(subject.sessions_by_status.items())))
    lines += [
        f"{step.step:<10}{counted(step.runs, 'run')}, {step.failed} failed, "
        f"{counted(step.retries, 'retry', 'retries')}, median {plain(step.median_seconds, 2)} s"
        for step in one.steps
    ]
    for label, verdicts in subject.expectations:
        rows = [_verdict(verdict) for verdict in verdicts]
        heads = ("", "published", "measured", "90 % interval", "")
        lines += ["", f"published beside {label}", table(heads, rows, right=(1, 2, 3))]
    return "\n".join([*lines, "", dim("No investment advice. This book only, other accounts unseen.")])
