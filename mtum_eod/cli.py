"""The command line: parse, call one job, show one outcome. Answers on standard output, talk on standard error.

Everything heavy is imported inside the commands, once the arguments are good: `--help` costs no pandas.
"""

from __future__ import annotations

import gc
import json
import os
import re
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from mtum_eod import __version__
from mtum_eod.errors import MtumEodError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mtum_eod.bootstrap import Workplace
    from mtum_eod.core.checks import Check
    from mtum_eod.core.review import Review
    from mtum_eod.jobs.outcome import Handled, Outcome
    from mtum_eod.settings import NotificationSettings

FIRST = ("run", "settle", "schedule", "status", "explain", "doctor", "report")
GROUPS = {
    "On history": ("backtest", "sweep"),
    "Hands on the wheel": ("approve", "cancel", "halt", "resume", "flatten", "reconcile", "cash"),
    "Records and upkeep": ("export", "data", "db", "config", "notify"),
}


# -- the door itself --------------------------------------------------------------------------------------------------


@dataclass
class Door:
    """What every command gets: where the settings are, and how to speak."""

    config: Path | None = None
    as_json: bool = False
    overrides: dict[str, Any] = field(default_factory=dict)

    def load(self) -> Workplace:
        """The real parts under the settings as they are now, for somebody who closes them. Raises SettingsError."""
        from mtum_eod import bootstrap, settings

        return bootstrap.workplace(settings.load(self.config, os.environ, self.overrides))

    def workplace(self) -> Workplace:
        """The same, closed when the command is over."""
        place = self.load()
        click.get_current_context().call_on_close(place.close)
        return place

    def addresses(self) -> NotificationSettings:
        """Whom to tell of settings that cannot be used."""
        from mtum_eod import settings

        return settings.addresses(self.config, os.environ)

    def say(self, document: Any, text: Callable[[], str]) -> None:
        """Show an outcome: one JSON document, or text for a person."""
        click.echo(json.dumps(document, indent=2, ensure_ascii=False) if self.as_json else text())


class Commands(click.Group):
    """The commands in the order people need them."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        for title, names in {"Commands": FIRST, **GROUPS}.items():
            rows = [(name, self.commands[name].get_short_help_str(90)) for name in names]
            with formatter.section(title):
                formatter.write_dl(rows)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # Seen before anything is parsed: a program that asked for JSON gets its own typing errors as JSON too.
        ctx.ensure_object(Door).as_json = "--json" in args
        if args[:1] == ["--test"]:  # the original plan's name for it
            args = ["doctor", *args[1:]]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; our errors become a message, a hint and their exit code, here and nowhere else."""
        as_json = ctx.ensure_object(Door).as_json
        try:
            return super().invoke(ctx)
        except MtumEodError as error:
            _refuse(error, as_json=as_json)
        except click.UsageError as error:
            if not as_json:
                raise
            path = error.ctx.command_path if error.ctx else ctx.command_path
            _refuse(SettingsError(error.format_message(), hint=f"see `{path} --help`"), as_json=True)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise  # click's own ways to leave
        except Exception as error:
            click.echo(traceback.format_exc(), err=True)
            hint = "a fault of the program or of its installation; the lines above say where"
            _refuse(MtumEodError(f"{type(error).__name__}: {error}", hint=hint), as_json=as_json)


def _refuse(error: MtumEodError, *, as_json: bool) -> NoReturn:
    if as_json:
        told = {"code": error.code, "message": error.message, "hint": error.hint}
        click.echo(json.dumps({"error": told}, indent=2, ensure_ascii=False))
    click.echo(click.style("error: ", fg="red", bold=True) + error.message, err=True)
    if error.hint:
        click.echo(click.style("hint:  ", bold=True) + error.hint, err=True)
    sys.exit(error.exit_code)


class Number(click.FloatRange):
    """A number within bounds; click would call it a float range."""

    name = "number"


class WholeNumber(click.IntRange):
    """A whole number within bounds."""

    name = "whole number"


class Session(click.ParamType[date]):
    """A date, YYYY-MM-DD."""

    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        try:
            return value if isinstance(value, date) else date.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no date; write it as 2024-11-05", param, ctx)


class Held(click.ParamType[tuple[int, float]]):
    """Shares at a price, SHARES@PRICE."""

    name = "shares@price"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, float]:
        if isinstance(value, tuple):
            return value
        shares, _, price = value.partition("@")
        try:
            held = int(shares), float(price)
        except ValueError:
            self.fail(f"{value!r} is not SHARES@PRICE, such as 19@204.10", param, ctx)
        if held[0] < 1 or not 0 < held[1] < float("inf"):
            self.fail(f"{value!r}: shares and price must be above zero, such as 19@204.10", param, ctx)
        return held


class Executed(click.ParamType["int | None"]):
    """How much of an order was executed: 0 for `none`, None for `filled`, or the shares of a part."""

    name = "none|filled|shares"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        if value in ("none", "filled"):
            return 0 if value == "none" else None
        if not (value.isdecimal() and int(value)):
            self.fail(f"{value!r} is not one of none, filled, and the shares of a part, such as 12", param, ctx)
        return int(value)


def examples(*lines: str) -> str:
    """What a command looks like when typed, kept as it stands (click reads the first mark as 'do not wrap')."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--json` on a command; `Commands` has seen it already."""
    return click.option("--json", is_flag=True, expose_value=False, help="One JSON document on standard output.")(
        command
    )


def html_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--html FILE` on a command."""
    file = click.Path(path_type=Path)
    return click.option("--html", type=file, help="Write one HTML file with charts and tables.")(command)


@click.group(
    cls=Commands,
    epilog=examples("mtum-eod run --date 2024-11-05 --dry-run"),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name="mtum-eod")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="Settings file; else ./settings.toml, the user's config folder, the defaults.",
)
@click.pass_context
def cli(ctx: click.Context, config: Path | None) -> None:
    """Decide MTUM once a session near the close, and send at most one market-on-close order."""
    ctx.ensure_object(Door).config = config


def main() -> None:
    """The console script."""
    # What is imported lives to the end of a process of under a second: looking for garbage among it took a tenth of
    # that. A command with long work of its own turns the collector on again.
    gc.disable()
    cli()


# -- deciding ---------------------------------------------------------------------------------------------------------


@cli.command(
    epilog=examples(
        "mtum-eod run                                  decide today's session (from cron: --if-due)",
        "mtum-eod run --date 2024-11-05 --dry-run      replay a day; nothing is written",
        "mtum-eod run --from 2024-01-02 --to 2024-12-31",
    )
)
@click.option("--date", "day", type=Session(), help="The session to decide; default: today's.")
@click.option("--dry-run", is_flag=True, help="Decide and show; write nothing, send nothing.")
@click.option("--if-due", is_flag=True, help="Do the step that is due now, if any; for cron, every minute.")
@click.option("--paper", is_flag=True, help="Mode paper for this call.")
@click.option("--from", "first", type=Session(), help="Run and settle a range, in simulated mode.")
@click.option("--to", "last", type=Session(), help="The last session of the range.")
@click.option("--position", type=Held(), help="With --dry-run: as if this were held, SHARES@PRICE.")
@click.option("--entry-atr", type=Number(min=0, min_open=True), help="With --position: ATR at entry, USD.")
@click.option(
    "--with-current-settings", is_flag=True, help="With --dry-run: a recorded session under the present settings too."
)
@json_option
@click.pass_obj
def run(
    door: Door,
    day: date | None,
    dry_run: bool,
    if_due: bool,
    paper: bool,
    first: date | None,
    last: date | None,
    position: tuple[int, float] | None,
    entry_atr: float | None,
    with_current_settings: bool,
) -> None:
    """Decide one session, or replay one."""
    _usage(not (if_due and (day or dry_run or first or last)), "--if-due goes alone: it decides itself what is due")
    _usage((first is None) == (last is None), "--from and --to go together")
    _usage(not (first and (day or dry_run)), "--from/--to take neither --date nor --dry-run")
    _usage(position is None or dry_run, "--position goes with --dry-run")
    _usage((position is None) == (entry_atr is None), "--position and --entry-atr go together")
    _usage(dry_run or not with_current_settings, "--with-current-settings goes with --dry-run")
    if paper:
        door.overrides["mode"] = "paper"
    if if_due:
        _run_due(door)
        return
    place = door.workplace()
    if first and last:
        _run_range(door, place, first, last)
    elif dry_run:
        _run_dry(door, place, day, (*position, entry_atr) if position and entry_atr else None, with_current_settings)
    else:
        _run_one(door, place, day)


def _run_dry(
    door: Door,
    place: Workplace,
    day: date | None,
    held: tuple[int, float, float] | None,
    with_current_settings: bool,
) -> None:
    from mtum_eod.jobs.decide import preview
    from mtum_eod.jobs.replay import Assumed, replay
    from mtum_eod.jobs.session import no_session

    now = place.clock.now()
    today = place.calendar.local_date(now)
    session = _session(place, day) if day else today
    if not place.calendar.is_session(session):
        _show(door, place, no_session(place.desk(), session).with_document(dry_run=True))
    if session == today and now < place.calendar.close(session) and not held:
        _show(door, place, preview(place.desk(), session))
    outcomes = replay(
        place.sources(),
        place.book,
        place.loaded.settings.parameters(),
        session,
        now,
        assumed=held and Assumed(shares=held[0], price_usd=held[1], entry_atr=held[2]),
        with_current_settings=with_current_settings,
    )
    _show(door, place, *outcomes)


def _run_one(door: Door, place: Workplace, day: date | None) -> None:
    from mtum_eod.jobs.history import run_range
    from mtum_eod.jobs.session import decide_step, no_session
    from mtum_eod.views import text

    now = place.clock.now()
    today = place.calendar.local_date(now)
    session = _session(place, day) if day else today
    if not place.calendar.is_session(session):
        _show(door, place, no_session(place.desk(), session))
    if session == today:
        _ask_for_consent(place)
        with place.trading() as desk, text.progress("deciding"):
            outcome = decide_step(desk, session)
        _show(door, place, outcome)
    clock = place.session_clock()
    with place.trading(clock) as desk:
        outcomes = run_range(desk, clock, session, session, lambda *_: None, settle=False).outcomes
        if not outcomes:  # it has its decision: the answer is the record
            outcomes = (decide_step(desk, session),)
    _show(door, place, *outcomes)


def _ask_for_consent(place: Workplace) -> None:
    """Before the first real order: the owner types account and amount themselves, once. Unattended the run refuses."""
    from mtum_eod.jobs import consent

    if not (_is_terminal() and consent.is_needed(place.desk())):
        return
    click.echo("mode = live: orders of this program will spend real money, unattended, from now on.", err=True)
    account = click.prompt("Type the account it is to trade", err=True)
    amount = click.prompt("Type the amount it is to start with, USD", type=float, err=True)
    with place.trading(locked=False) as desk:
        consent.give(desk, account=account, amount_usd=amount, by=_user())


def _run_range(door: Door, place: Workplace, first: date, last: date) -> None:
    from mtum_eod.jobs.history import range_asked, run_range
    from mtum_eod.views import text

    first, last = range_asked(place.calendar, first, last, place.clock.now())
    clock = place.session_clock()
    gc.enable()
    with place.trading(clock) as desk, text.progress("deciding and settling") as shown:
        result = run_range(desk, clock, first, last, shown)
    door.say(result.document, lambda: text.range_result(result))
    sys.exit(result.exit_code)


def _run_due(door: Door) -> None:
    from mtum_eod import daemon
    from mtum_eod.views import text

    lived = daemon.minute(door.load, door.addresses)
    seen, done = lived.agenda, lived.done
    if lived.held:
        door.say(seen.document | {"held": lived.held}, lambda: lived.held)
    elif done is None or done.step is None:
        door.say(seen.document, lambda: text.agenda(seen, lived.zone))
    else:
        door.say(done.document, lambda: text.done(done, lived.zone))
        sys.exit(done.exit_code)


@cli.command(epilog=examples("mtum-eod settle"))
@json_option
@click.pass_obj
def settle(door: Door) -> None:
    """Collect fills and finish every session that has closed."""
    from mtum_eod.jobs.session import settle_all
    from mtum_eod.views import text

    place = door.workplace()
    with place.trading() as desk, text.progress("settling"):
        settlements = settle_all(desk)
    door.say([s.document for s in settlements], lambda: text.settlements(settlements))
    sys.exit(max((s.exit_code for s in settlements), default=0))


# -- unattended -------------------------------------------------------------------------------------------------------


@cli.command(epilog=examples("mtum-eod schedule"))
@click.pass_obj
def schedule(door: Door) -> None:
    """Stay, and do every step when it is due; SIGTERM or Ctrl-C ends it, the step under way first."""
    from mtum_eod.daemon import Daemon

    _ask_for_consent(door.workplace())
    gc.enable()
    sys.exit(Daemon(door.load, door.addresses, click.echo).run())


@cli.group(epilog=examples("mtum-eod notify test"))
def notify() -> None:
    """Try the ways that reach you."""


@notify.command("test", epilog=examples("mtum-eod notify test"))
@json_option
@click.pass_obj
def notify_test(door: Door) -> None:
    """Send one message of each event and ping the heartbeat; say what came of each."""
    from mtum_eod import bootstrap, settings
    from mtum_eod.views import text

    told = settings.load(door.config, os.environ).settings.notifications
    if not told.urls and not told.heartbeat_url:
        raise SettingsError(
            "nobody is to be told: neither notifications.urls nor notifications.heartbeat_url is set",
            hint="set MTUM_EOD_NOTIFICATIONS__URLS=mailto://USER:PASSWORD@HOST, or another address Apprise knows",
        )
    tried = [
        (what, place, why) for what, answers in bootstrap.try_notices(told) for place, why in enumerate(answers, 1)
    ]
    rows = [(what, str(place), f"not taken: {why}" if why else "taken") for what, place, why in tried]
    document = [{"event": what, "address": place, "taken": not why, "why": why or None} for what, place, why in tried]
    door.say(document, lambda: text.table(("event", "address", "result"), rows))
    sys.exit(SettingsError.exit_code if any(why for _, _, why in tried) else 0)


# -- looking ----------------------------------------------------------------------------------------------------------


@cli.command(epilog=examples("mtum-eod status"))
@json_option
@click.pass_obj
def status(door: Door) -> None:
    """Show position, P&L, the next step, open orders, halts and the last errors."""
    from mtum_eod.jobs.status import status_of
    from mtum_eod.views import text

    place = door.workplace()
    now = status_of(place.desk())
    zone = place.loaded.settings.schedule.timezone
    door.say(now.document, lambda: text.status(now, zone))


@cli.command(
    epilog=examples("mtum-eod explain --date 2024-11-05", "mtum-eod explain --date 2024-11-05 --png session.png")
)
@click.option("--date", "day", type=Session(), help="The session; default: the last one that has closed.")
@click.option("--png", type=click.Path(path_type=Path), help="Draw the session to a file.")
@json_option
@click.pass_obj
def explain(door: Door, day: date | None, png: Path | None) -> None:
    """Show every rule with its numbers and its distance to the threshold."""
    from mtum_eod.jobs.replay import as_lived, replay
    from mtum_eod.views import text

    place = door.workplace()
    now = place.clock.now()
    session = _session(place, day) if day else _last_closed(place)
    sources = place.sources()
    [outcome] = replay(sources, place.book, place.loaded.settings.parameters(), session, now)
    if png:
        from mtum_eod.jobs.picture import sessions_before
        from mtum_eod.views.png import picture

        shown = sessions_before(sources, session, now, outcome.parameters.strategy)
        _write(png, picture(outcome, shown))
    lived = as_lived(outcome, sources.store)
    zone = place.loaded.settings.schedule.timezone
    door.say(lived.explanation, lambda: text.explanation(lived, zone))
    sys.exit(outcome.exit_code)


@cli.command(
    epilog=examples(
        "mtum-eod doctor                       every link of the chain, with its cure",
        "mtum-eod doctor --full                indicators recomputed, a restore rehearsed, books compared",
        "mtum-eod doctor --place-test-order    what the broker would say to an order; none is placed",
        "mtum-eod doctor --go-live             what the paper book has shown so far",
    )
)
@click.option("--full", is_flag=True, help="Also recompute the indicators, rehearse a restore, compare executions.")
@click.option("--place-test-order", is_flag=True, help="Also ask the broker what it would say to one share.")
@click.option("--go-live", is_flag=True, help="What the paper book has shown of what live trading rests on.")
@json_option
@click.pass_obj
def doctor(door: Door, full: bool, place_test_order: bool, go_live: bool) -> None:
    """Check the whole chain, with a cure for each failure; nothing is written, no order is placed."""
    from mtum_eod.core.checks import told_once
    from mtum_eod.jobs.doctor import Diagnosis
    from mtum_eod.views import text

    _usage(not (go_live and (full or place_test_order)), "--go-live goes alone: it looks at the paper book only")
    if go_live:
        door.overrides["mode"] = "paper"
    place = door.workplace()
    shown: list[Check] = []
    found = _proven(place) if go_live else told_once(_examined(place, full=full, with_order=place_test_order), {})
    for check in found:
        if not door.as_json:
            click.echo(text.check(check))
        shown.append(check)
    diagnosis = Diagnosis(checks=tuple(shown))
    door.say(diagnosis.document, lambda: text.diagnosis(diagnosis))
    sys.exit(diagnosis.exit_code)


def _examined(place: Workplace, *, full: bool, with_order: bool) -> Iterator[Check]:
    """Each check as soon as it is done: one of them may wait for a broker that does not answer."""
    from mtum_eod.core.checks import failed
    from mtum_eod.jobs import doctor

    yield place.examine_database()
    try:
        desk = place.desk()
    except MtumEodError as error:
        yield failed("desk", error)
        return
    session = doctor.session_in_hand(desk)
    yield from doctor.examine(desk, session)
    if with_order:
        yield doctor.examine_order(desk, session)
    if full:
        try:
            with place.restored() as restored:
                yield from doctor.examine_fully(desk, restored)
        except MtumEodError as error:
            yield failed("restore", error)


def _proven(place: Workplace) -> Iterator[Check]:
    from mtum_eod.jobs.doctor import proven_on_paper

    yield from proven_on_paper(place.reader(), place.loaded.settings.symbol)


@cli.command(epilog=examples("mtum-eod report --period month", "mtum-eod report --html report.html"))
@click.option(
    "--period",
    type=click.Choice(["week", "month", "year", "all"]),
    default="all",
    show_default=True,
    help="How far back from the last settled session.",
)
@html_option
@json_option
@click.pass_obj
def report(door: Door, period: str, html: Path | None) -> None:
    """Review the book: results beside buy-and-hold and the published figures, costs, misses, the system itself."""
    from mtum_eod.core.review import Period
    from mtum_eod.jobs.report import document, review_book
    from mtum_eod.views import files, text

    if html:
        files.require("report", "jinja2", "plotly")
        files.look(html)
    place = door.workplace()
    with text.progress("measuring") as shown:
        reviewed = review_book(place.desk(), Period(period), place.loaded.settings.costs.monthly_costs, shown)
    if html:
        _write_page(place, reviewed, html)
    door.say(document(reviewed), lambda: text.review(reviewed))


def _write_page(place: Workplace, reviewed: Review, path: Path) -> None:
    from mtum_eod.views.html import page

    _write(path, page(reviewed, place.clock.now()).encode())


def _write(path: Path, content: bytes) -> None:
    from mtum_eod.views import files

    files.write(path, content)
    click.echo(f"written: {path}", err=True)


@cli.command("backtest", epilog=examples("mtum-eod backtest --from 2015-01-02 --to 2024-12-31"))
@click.option("--from", "first", type=Session(), help="First session; default: the first with 300 bars.")
@click.option("--to", "last", type=Session(), help="Last session; default: the last one that has closed.")
@click.option(
    "--fill",
    type=click.Choice(["close", "next-open", "next-close"]),
    default="close",
    show_default=True,
    help="Where an order fills; the close is the market-on-close model.",
)
@click.option("--slippage-pct", type=Number(0, 20), default=0.0, help="How much worse each side fills.")
@click.option("--audit", is_flag=True, help="Cut off the future at every session, and the past: nothing may change.")
@click.option(
    "--decision-noise",
    "trials",
    type=WholeNumber(1, 100_000),
    is_flag=False,
    flag_value=200,
    metavar="[N]",
    help="Decide again 20 minutes earlier, N times, and show how far results spread; 200 without N.",
)
@click.option("--csv", "folder", type=click.Path(path_type=Path), help="Write trades, equity and metrics to a folder.")
@html_option
@json_option
@click.pass_obj
def backtest_command(
    door: Door,
    first: date | None,
    last: date | None,
    fill: str,
    slippage_pct: float,
    audit: bool,
    trials: int | None,
    folder: Path | None,
    html: Path | None,
) -> None:
    """Play the live rules over history, beside buy-and-hold and the published figures.

    --audit goes with --from and --to alone: exit code 5 where a decision leans on the future, or on a far past.
    """
    from mtum_eod.core.backtest import FillModel
    from mtum_eod.jobs.backtest import run_backtest
    from mtum_eod.views import files, text

    plain = fill == "close" and not (slippage_pct or trials or folder or html)
    _usage(plain or not audit, "--audit looks at decisions: it goes with --from and --to alone")
    if html:
        files.require("report", "jinja2", "plotly")
        files.look(html)
    if folder:
        files.make(folder)
    place = door.workplace()
    if audit:
        _audit(door, place, first, last)
    with text.progress("measuring") as shown:
        done = run_backtest(place.desk(), first, last, shown, fill=FillModel(fill), slippage_pct=slippage_pct)
    if trials:
        from mtum_eod.jobs.decision_noise import with_decision_noise

        with text.progress("deciding early") as shown:
            done = with_decision_noise(place.desk(), done, trials, shown, slippage_pct=slippage_pct)
    if folder:
        from mtum_eod.views import records

        files.write_all(folder, {name: table.encode() for name, table in records.backtest_tables(done).items()})
        click.echo(f"written: {folder}", err=True)
    if html:
        from mtum_eod.jobs.report import review_backtest

        with text.progress("reviewing") as shown:
            costs = place.loaded.settings.costs.monthly_costs
            reviewed = review_backtest(place.desk(), done, costs, shown, slippage_pct=slippage_pct)
        _write_page(place, reviewed, html)
    door.say(done.document, lambda: text.backtest(done))


def _audit(door: Door, place: Workplace, first: date | None, last: date | None) -> NoReturn:
    from mtum_eod.jobs.audit import audit
    from mtum_eod.views import text

    with text.progress("auditing") as shown:
        found = audit(place.desk(), first, last, shown)
    door.say(found.document, lambda: text.audit(found))
    sys.exit(0 if found.passed else 5)


class Lengths(click.ParamType[tuple[int, int]]):
    """Months of training and of testing, train=5y,test=1y."""

    name = "train=5y,test=1y"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        found = re.fullmatch(r"train=([1-9]\d?)([ym]),test=([1-9]\d?)([ym])", value.replace(" ", ""))
        if not found:
            self.fail(f"{value!r} is not train=5y,test=1y; m is months, y years, both from 1 to 99", param, ctx)
        months = {"y": 12, "m": 1}
        return int(found[1]) * months[found[2]], int(found[3]) * months[found[4]]


@cli.command(
    epilog=examples(
        "mtum-eod sweep --vary ma_period=20:100:5 --vary vix_entry_threshold=18,20,25",
        "mtum-eod sweep --vary ma_period=20:100:5 --walk-forward train=5y,test=1y",
    )
)
@click.option(
    "--vary",
    "texts",
    multiple=True,
    metavar="NAME=FROM:TO:STEP",
    help="A number of [strategy] or [risk], with a range or A,B,C; once a number.",
)
@click.option("--from", "first", type=Session(), help="First session; default: the first with 300 bars.")
@click.option("--to", "last", type=Session(), help="Last session; default: the last one that has closed.")
@click.option(
    "--by",
    type=click.Choice(["total_return", "sharpe", "win_rate", "max_drawdown"]),
    default="total_return",
    show_default=True,
    help="What makes a combination the best.",
)
@click.option("--walk-forward", "lengths", type=Lengths(), help="Choose on years before, judge on the year after.")
@click.option("--jobs", type=WholeNumber(1, 512), default=1, show_default=True, help="How many chunks at a time.")
@click.option("--backend", type=click.Choice(["loky", "dask"]), default="loky", help="Processes here, or a cluster.")
@click.option("--address", help="With --backend dask: the scheduler, such as tcp://10.0.0.5:8786.")
@click.option("--top", type=WholeNumber(1, 1_000_000), default=10, show_default=True, help="How many to show.")
@click.option("--csv", "table", type=click.Path(path_type=Path), help="Write every combination to a file.")
@click.option("--png", "picture", type=click.Path(path_type=Path), help="With two --vary: draw the heat map.")
@click.option("--yes", is_flag=True, help="Go on, whatever it costs.")
@json_option
@click.pass_obj
def sweep(
    door: Door,
    texts: tuple[str, ...],
    first: date | None,
    last: date | None,
    by: str,
    lengths: tuple[int, int] | None,
    jobs: int,
    backend: str,
    address: str | None,
    top: int,
    table: Path | None,
    picture: Path | None,
    yes: bool,
) -> None:
    """Try other parameters on history: the best with hindsight, and how far that can be trusted."""
    from mtum_eod import settings

    _usage(bool(texts), "nothing to vary; give at least one --vary NAME=FROM:TO:STEP")
    _usage((backend == "dask") == (address is not None), "--backend dask and --address go together")
    axes = settings.varied(texts)
    _usage(picture is None or len(axes) == 2, "--png draws two varied numbers, neither more nor fewer")
    from mtum_eod.jobs.sweep import By, WalkForward, run_sweep
    from mtum_eod.views import files, text
    from mtum_eod.views import sweep as view

    if picture:
        files.require("sweep", "matplotlib")
    for path in filter(None, (table, picture)):
        files.look(path)
    place = door.workplace()
    gc.enable()
    with text.progress("") as shown:
        review = run_sweep(
            place.desk(),
            axes,
            first,
            last,
            shown,
            place.spread(jobs, backend, address),
            workers=jobs,
            by=By(by),
            walk_forward=lengths and WalkForward(train=lengths[0], test=lengths[1]),
            accept_cost=yes,
        )
        if table:
            files.write(table, view.as_csv(review, shown).encode())
    if picture:
        files.write(picture, view.as_png(review))
    door.say(review.document(top), lambda: view.text(review, top))


# -- hands on the wheel -----------------------------------------------------------------------------------------------


@cli.command(epilog=examples("mtum-eod approve", "mtum-eod approve --no"))
@click.option("--no", "is_refused", is_flag=True, help="Decline it, for this session.")
@click.option("--why", default="", help="Words for the record.")
@json_option
@click.pass_obj
def approve(door: Door, is_refused: bool, why: str) -> None:
    """Answer the entry that waits: decided again on fresh prices, sent if it still holds.

    Exit code 2 where nothing waits: not asked yet, declined, lapsed, or a day without a session.
    """
    from mtum_eod.jobs import wheel

    place = door.workplace()
    with place.trading(say=_talk) as desk:
        if is_refused:
            _show_handled(door, wheel.refuse(desk, why=why, by=_user()))
        outcome = wheel.approve(desk, why=why, by=_user())
    _show(door, place, outcome)


@cli.command(epilog=examples("mtum-eod cancel"))
@click.option("--why", default="", help="Words for the record.")
@json_option
@click.pass_obj
def cancel(door: Door, why: str) -> None:
    """Take back today's order, sent or not, before the hard stop; works while a run is under way.

    Exit code 0 where nothing will be executed, 5 where it still may be, 6 where a run under way is to do it.
    """
    from mtum_eod.jobs import wheel

    place = door.workplace()
    with place.trading(locked=False) as desk:
        handled = wheel.cancel(desk, why=why, by=_user(), turn=lambda: place.turn(_talk))
    _show_handled(door, handled)


@cli.command(epilog=examples("mtum-eod halt", 'mtum-eod halt --why "away this week" --allow-exits'))
@click.option("--why", default="", help="The reason, for the record.")
@click.option("--cancel", is_flag=True, help="Withdraw a working order too, if it is before the hard stop.")
@click.option("--allow-exits", is_flag=True, help="Let exits pass; stop entries only.")
@json_option
@click.pass_obj
def halt(door: Door, why: str, cancel: bool, allow_exits: bool) -> None:
    """Stop trading until `resume`; works while a run is under way."""
    from mtum_eod.jobs import wheel

    place = door.workplace()
    with place.trading(locked=False) as desk:
        handled = wheel.halt(
            desk,
            why=why.strip() or "no reason given",
            by=_user(),
            allow_exits=allow_exits,
            cancel=cancel,
            turn=lambda: place.turn(_talk),
        )
    door.say({"halted": True, "words": handled.words}, lambda: "\n".join(handled.words))
    sys.exit(handled.exit_code)


@cli.command(epilog=examples("mtum-eod resume", 'mtum-eod resume --why "looked, all is well"'))
@click.option("--why", default="", help="Words for the record.")
@json_option
@click.pass_obj
def resume(door: Door, why: str) -> None:
    """Lift every halt, the daily-loss latch included."""
    from mtum_eod.jobs import wheel

    place = door.workplace()
    with place.trading(locked=False) as desk:
        lifted = wheel.resume(desk, why=why, by=_user())
    door.say({"lifted": lifted}, lambda: f"{lifted} lifted" if lifted else "nothing was halted")


@cli.command(epilog=examples("mtum-eod flatten", 'mtum-eod flatten --yes --why "the money is needed"'))
@click.option("--why", default="", help="Words for the record.")
@click.option("--yes", is_flag=True, help="Do not ask back.")
@json_option
@click.pass_obj
def flatten(door: Door, why: str, yes: bool) -> None:
    """Sell everything with the one order of today's session; passes every halt.

    Exit code 2 where none can be sent now (it says when), 5 where the order did not get there.
    """
    from mtum_eod.jobs import flatten as selling

    place = door.workplace()
    if not yes and not _confirmed(place):
        door.say({"words": ["nothing is sold"], "order": None}, lambda: "nothing is sold")
        return
    with place.trading(say=_talk) as desk:
        handled = selling.flatten(desk, why=why, by=_user())
    _show_handled(door, handled)


def _confirmed(place: Workplace) -> bool:
    """What would be sold, and how, asked back. Raises SettingsError where nothing can be, or nobody is there to ask."""
    from mtum_eod.jobs.flatten import sale_type
    from mtum_eod.jobs.session import session_today
    from mtum_eod.views import text

    desk = place.desk()
    session = session_today(desk)
    kind = text.ORDER_WORDS[sale_type(desk, session)]
    _usage(_is_terminal(), "flatten asks back, and nobody is at a terminal; `flatten --yes` does not ask")
    held = f"all shares of {desk.book.name}, {desk.shares()} in the book"
    asked = f"Sell {held}, with a {kind} order of the session {session}?"
    return click.confirm(asked, err=True)


@cli.command(
    epilog=examples(
        "mtum-eod reconcile                                     compare, change nothing",
        "mtum-eod reconcile --adopt 19@204.10 --entry-date 2024-11-05",
        "mtum-eod reconcile --sold 19@211.30 --exit-date 2024-11-12",
        "mtum-eod reconcile --leave 5",
        "mtum-eod reconcile --fill 2024-11-05 204.12 1.05",
        "mtum-eod reconcile --resolve 2024-11-05 none           also `filled`, or the shares of a part, such as 12",
    )
)
@click.option("--adopt", type=Held(), help="Take over shares bought by hand, SHARES@PRICE; with --entry-date.")
@click.option("--entry-date", type=Session(), help="With --adopt: the session they count from, for its ATR.")
@click.option("--sold", type=Held(), help="Take out shares sold by hand, SHARES@PRICE; with --exit-date.")
@click.option("--exit-date", type=Session(), help="With --sold: the session they were sold in.")
@click.option("--leave", type=Number(min=0), help="So many shares at the broker are your own: never sold.")
@click.option(
    "--fill",
    type=(Session(), Number(min=0, min_open=True), Number(min=0)),
    metavar="SESSION PRICE COMMISSION",
    help="What the statement says, in the place of an estimate.",
)
@click.option(
    "--resolve",
    type=(Session(), Executed()),
    metavar="SESSION none|filled|SHARES",
    help="What became of an order that is in doubt; SHARES where a part of it was executed.",
)
@json_option
@click.pass_obj
def reconcile(
    door: Door,
    adopt: tuple[int, float] | None,
    entry_date: date | None,
    sold: tuple[int, float] | None,
    exit_date: date | None,
    leave: float | None,
    fill: tuple[date, float, float] | None,
    resolve: tuple[date, int | None] | None,
) -> None:
    """Compare the book with the broker, and put it right."""
    forms = [form for form in (adopt, sold, leave, fill, resolve) if form is not None]
    _usage(len(forms) < 2, "--adopt, --sold, --leave, --fill and --resolve go one at a time")
    _usage((adopt is None) == (entry_date is None), "--adopt and --entry-date go together")
    _usage((sold is None) == (exit_date is None), "--sold and --exit-date go together")
    from mtum_eod.jobs import reconcile as job
    from mtum_eod.views import text

    place = door.workplace()
    if not forms:
        with text.progress("comparing"):
            compared = job.compare(place.desk())
        door.say(compared.document, lambda: text.comparison(compared))
        sys.exit(compared.exit_code)
    by = _user()
    with place.trading() as desk:
        if adopt and entry_date:
            words = job.adopt(desk, *adopt, entry_date, by)
        elif sold and exit_date:
            words = job.sold(desk, *sold, exit_date, by)
        elif leave is not None:
            words = job.leave(desk, leave, by)
        elif fill:
            words = job.fill(desk, *fill, by)
        elif resolve:
            words = job.resolve(desk, resolve[0], executed=resolve[1], by=by)
    door.say({"words": words}, lambda: words)


@cli.group(cls=click.Group, epilog=examples("mtum-eod cash add deposit 1000"))
def cash() -> None:
    """Record money that moved without a trade."""


@cash.command("add", epilog=examples("mtum-eod cash add deposit 1000"))
@click.argument("kind", type=click.Choice(["deposit", "withdrawal", "dividend", "fee"]))
@click.argument("amount", type=Number(min=0, min_open=True, max=1e9))
@click.option("--date", "day", type=Session(), help="When it counts from; default: today.")
@click.option("--note", default="", help="Words for the record.")
@json_option
@click.pass_obj
def cash_add(door: Door, kind: str, amount: float, day: date | None, note: str) -> None:
    """Add a deposit, withdrawal, dividend or fee, in USD."""
    from mtum_eod.jobs.wheel import add_cash

    place = door.workplace()
    with place.trading() as desk:
        after = add_cash(desk, kind, amount, day, note)
    door.say(
        after, lambda: f"{kind} of {amount:,.2f} USD recorded; sizing equity is now {after['sizing_equity']:,.2f} USD"
    )


# -- records and upkeep -----------------------------------------------------------------------------------------------


@cli.command(
    epilog=examples(
        "mtum-eod export trades --format csv --year 2024 > trades-2024.csv",
        "mtum-eod export tax --year 2024 > form-8949-2024.csv",
    )
)
@click.argument("what", type=click.Choice(["trades", "fills", "signals", "equity", "tax"]))
@click.option("--format", "form", type=click.Choice(["csv", "json"]), default="csv", show_default=True)
@click.option("--year", type=WholeNumber(1990, 2100), help="Only that year.")
@click.pass_obj
def export(door: Door, what: str, form: str, year: int | None) -> None:
    """Write records to standard output. tax: closed lots with their wash sales, as Form 8949 lists them."""
    place = door.workplace()
    if place.book.is_synthetic:
        click.echo("SYNTHETIC data: made up, no market's", err=True)
    if what == "tax":
        _export_tax(place, form, year)
        return
    from mtum_eod.views import records

    click.echo(records.text(place.records(what), what, form, year), nl=False)


def _export_tax(place: Workplace, form: str, year: int | None) -> None:
    from mtum_eod.core.tax import tax_lots
    from mtum_eod.views import tax

    history = place.history()
    lots = tax_lots(history.fills(), place.book.symbol)
    rows = [row for row in lots.closed if year is None or row.sold.year == year]
    notes = tax.notes(lots, rows, place.book, place.calendar.local_date(place.clock.now()), history.splits())
    click.echo("\n".join(notes), err=True)
    click.echo(tax.as_csv(rows) if form == "csv" else tax.as_json(rows, notes, year), nl=False)


@cli.group(epilog=examples("mtum-eod data check"))
def data() -> None:
    """Fetch, check and show market data."""


@data.command("import", epilog=examples("mtum-eod data import --from 2013-04-18"))
@click.option("--from", "first", type=Session(), help="First day; default: as far back as the calendar goes.")
@click.option("--to", "last", type=Session(), help="Last day; default: the last session that has closed.")
@json_option
@click.pass_obj
def data_import(door: Door, first: date | None, last: date | None) -> None:
    """Store the source's bars, so that they are there when the source is not."""
    from mtum_eod.jobs.bars import import_bars
    from mtum_eod.views import text

    place = door.workplace()
    with place.trading() as desk, text.progress("importing"):
        report = import_bars(desk, first, last)
    door.say(report.document, lambda: text.bars_report(report))


@data.command("check", epilog=examples("mtum-eod data check"))
@click.option("--from", "first", type=Session(), help="First day; default: as far back as the calendar goes.")
@click.option("--to", "last", type=Session(), help="Last day; default: the last session that has closed.")
@json_option
@click.pass_obj
def data_check(door: Door, first: date | None, last: date | None) -> None:
    """Name everything odd in the source's bars; nothing is written."""
    from mtum_eod.jobs.bars import check_bars
    from mtum_eod.views import text

    place = door.workplace()
    with text.progress("checking"):
        report = check_bars(place.desk(), first, last)
    door.say(report.document, lambda: text.bars_report(report))
    sys.exit(report.exit_code)


@data.command("show", epilog=examples("mtum-eod data show --last 5"))
@click.option("--last", "count", type=WholeNumber(1, 10000), default=10, show_default=True, help="How many sessions.")
@click.option("--date", "day", type=Session(), help="The last of them; default: the last session that has closed.")
@json_option
@click.pass_obj
def data_show(door: Door, count: int, day: date | None) -> None:
    """Show the source's bars with the VIX beside them."""
    from mtum_eod.jobs.bars import show_bars
    from mtum_eod.views import text

    place = door.workplace()
    session = _session(place, day) if day else _last_closed(place)
    rows = show_bars(place.desk(), session, count)
    door.say(rows, lambda: text.bars_table(rows))


@cli.group(epilog=examples("mtum-eod db check"))
def db() -> None:
    """Look after the database."""


@db.command("upgrade", epilog=examples("mtum-eod db upgrade"))
@json_option
@click.pass_obj
def db_upgrade(door: Door) -> None:
    """Bring the schema up to date; a backup is made first."""
    place = door.workplace()
    before = place.upgrade()
    door.say({"database": str(place.database), "before": before}, lambda: f"{place.database} is up to date")


@db.command("backup", epilog=examples("mtum-eod db backup"))
@json_option
@click.pass_obj
def db_backup(door: Door) -> None:
    """Copy the database while it is in use, verified, mode 0600."""
    place = door.workplace()
    made = place.back_up()
    door.say({"backup": str(made)}, lambda: f"written: {made}")


@db.command("restore", epilog=examples("mtum-eod db restore backups/NAME.db"))
@click.argument("backup", type=click.Path(path_type=Path))
@json_option
@click.pass_obj
def db_restore(door: Door, backup: Path) -> None:
    """Bring a backup back, halts kept; the present database stays beside it."""
    place = door.workplace()
    restored = place.restore(backup)
    kept, notes = restored.kept and str(restored.kept), restored.notes
    done = f"{place.database} restored" + (f"; the one before is kept as {kept}" if kept else "")
    door.say({"database": str(place.database), "kept": kept, "notes": notes}, lambda: "\n".join((done, *notes)))


@db.command("check", epilog=examples("mtum-eod db check"))
@json_option
@click.pass_obj
def db_check(door: Door) -> None:
    """Check the file, its schema, and that the books add up."""
    place = door.workplace()
    findings = place.check()
    door.say({"findings": findings}, lambda: "\n".join(findings) or f"{place.database}: sound, and the books add up")
    sys.exit(7 if findings else 0)


@cli.group(epilog=examples("mtum-eod config show"))
def config() -> None:
    """Show and check the settings."""


@config.command("show", epilog=examples("mtum-eod config show"))
@json_option
@click.pass_obj
def config_show(door: Door) -> None:
    """Show each setting in force and where it came from; secrets are hidden."""
    from mtum_eod import settings
    from mtum_eod.views import text

    loaded = settings.load(door.config, os.environ)
    rows = [(key, origin, value) for key, value, origin in settings.describe(loaded)]
    origins = {key: origin for key, origin, _ in rows}
    document = {"settings": settings.to_document(loaded.settings), "origins": origins}
    door.say(document, lambda: text.table(("key", "from", "value"), rows))


@config.command("check", epilog=examples("mtum-eod config check"))
@json_option
@click.pass_obj
def config_check(door: Door) -> None:
    """Check the settings file and environment; say everything that is wrong at once."""
    from mtum_eod import settings

    loaded = settings.load(door.config, os.environ)
    where = str(loaded.path) if loaded.path else "built-in defaults"
    door.say({"ok": True, "file": loaded.path and str(loaded.path)}, lambda: f"settings are good ({where})")


# -- shared -----------------------------------------------------------------------------------------------------------


def _usage(holds: bool, words: str) -> None:
    if not holds:
        command = click.get_current_context().info_name
        raise SettingsError(words, hint=f"`mtum-eod {command} --help` shows the forms of this command")


def _session(place: Workplace, day: date) -> date:
    from mtum_eod.jobs.session import session_asked

    return session_asked(place.calendar, day, place.clock.now())


def _last_closed(place: Workplace) -> date:
    from mtum_eod.jobs.session import last_closed

    return last_closed(place.calendar, place.clock.now())


def _show(door: Door, place: Workplace, *outcomes: Outcome) -> NoReturn:
    """Show decisions, and leave with the gravest of their exit codes."""
    from mtum_eod.views import text

    zone = place.loaded.settings.schedule.timezone
    documents = [outcome.document for outcome in outcomes]
    door.say(
        documents[0] if len(documents) == 1 else documents,
        lambda: "\n\n".join(text.decision(outcome, zone) for outcome in outcomes),
    )
    sys.exit(max((outcome.exit_code for outcome in outcomes), default=0))


def _show_handled(door: Door, handled: Handled) -> NoReturn:
    """Show what came of a command, and leave with its exit code."""
    door.say(handled.document, lambda: "\n".join(handled.words))
    sys.exit(handled.exit_code)


def _talk(words: str) -> None:
    """Tell someone who waits why."""
    click.echo(words, err=True)


def _is_terminal() -> bool:
    """Whether there is someone who could answer."""
    return sys.stdin.isatty()


def _user() -> str:
    """Who is typing, on which machine, and from where: for the record."""
    import getpass
    import socket

    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name
        name = f"uid {os.getuid()}"
    origin = os.environ.get("SSH_CONNECTION", "").split(" ")[0]
    return f"{name}@{socket.gethostname()}" + (f" from {origin}" if origin else "")
