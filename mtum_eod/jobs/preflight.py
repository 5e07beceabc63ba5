"""Before the session's decision: is the chain there? Cheap looks that leave hours for a cure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta

from mtum_eod.core import quality
from mtum_eod.core.checks import Check, failed, told_once
from mtum_eod.core.events import Event, in_kind
from mtum_eod.core.market import VIX
from mtum_eod.core.trading import Step
from mtum_eod.core.words import counted
from mtum_eod.errors import BrokerUnavailable, MtumEodError
from mtum_eod.jobs import consent
from mtum_eod.jobs.desk import Desk, TradingDesk
from mtum_eod.jobs.filing import Filing, clock, filed
from mtum_eod.ports import Notice, RunRecord, Unknown

CALENDAR_MARGIN = timedelta(days=60)


def preflight_step(desk: TradingDesk, session: date) -> tuple[Check, ...]:
    """Check every link of the chain for `session`, file the result, and tell the owner when it changed."""
    before = desk.store.last_runs(session).get(Step.PREFLIGHT)
    with filed(desk, Step.PREFLIGHT, session) as run:
        if desk.clock.now() < (decides_at := desk.timetable(session).decide_at):
            desk.broker.finish_by(decides_at)
        looked_at = (*checks(desk, session), *desk.look_at_book())
        conclude(desk, run, looked_at, before, f"Preflight of {session}")
        return looked_at


def conclude(desk: TradingDesk, run: Filing, looked_at: Sequence[Check], before: RunRecord | None, what: str) -> None:
    """File what was found, and tell the owner where it is not what the attempt before found.

    Numbers do not count as news: a clock 31 seconds wrong is the fault it was at 30.
    """
    faults = [check for check in looked_at if not check.passed]
    run.exit_code = exit_code(looked_at)
    run.outcome = "; ".join(f"{check.name}: {check.words}" for check in faults) or "passed"
    if faults and (before is None or in_kind(before.outcome) != in_kind(run.outcome)):
        said = "; ".join(f"{check.name}: {check.words}{f' ({check.cure})' * bool(check.cure)}" for check in faults)
        desk.notifier.tell(Notice(event=Event.RUN_FAILED, words=f"{what} failed: {said}", is_urgent=True))
    elif not faults and before is not None and before.exit_code:
        desk.notifier.tell(Notice(event=Event.RUN_FAILED, words=f"{what} passes now"))


def checks(desk: Desk, session: date) -> tuple[Check, ...]:
    """Every link of the chain that can be looked at before `session` is decided; reads only.

    Bars that come from the broker fail with its login: the login's own check says why.
    """
    told: dict[str, str] = {}
    links = tuple(told_once(broker(desk, session), told))
    return (
        *told_once(_data(desk, session), told),
        *links,
        _calendar(desk, session),
        clock(desk),
        *desk.look_at_machine(),
        *consent.look(desk),
    )


def exit_code(looked_at: Iterable[Check]) -> int:
    """The first failure's code; 0 where all passed."""
    return next((check.exit_code for check in looked_at if not check.passed), 0)


def _data(desk: Desk, session: date) -> tuple[Check, ...]:
    """Both symbols up to the session before: today's own bar is not expected hours before the close."""
    window = desk.calendar.window(desk.calendar.nearest(session)[0], desk.parameters.strategy.history_bars)
    return tuple(_readable(desk, symbol, window) for symbol in (desk.book.symbol, VIX))


def _readable(desk: Desk, symbol: str, window: list[date]) -> Check:
    source = desk.vix if symbol == VIX else desk.prices
    try:
        bars = source.daily(symbol, window[0], window[-1], desk.wall_clock.now())
    except MtumEodError as error:
        return failed(f"{symbol} bars", error)
    fatal = quality.check(bars, window, is_index=symbol == VIX).fatal
    words = fatal[0].words if fatal else f"{counted(len(bars.days), 'bar')} up to {window[-1]} from {source.name}"
    cure = "`mtum-eod data check` names every fault of the source's bars" if fatal else ""
    return Check(name=f"{symbol} bars", passed=not fatal, words=words, cure=cure)


def broker(desk: Desk, session: date) -> Iterator[Check]:
    """What the broker says of itself and, where one answers, what it holds."""
    links = desk.broker.inspect(session)
    yield from links
    if links and not links[0].passed:  # the login; without one there is nothing to ask
        return
    held = desk.broker.shares_held(desk.book.symbol)
    if isinstance(held, Unknown):
        yield unanswered("broker", held)
        return
    yield Check(name="broker", passed=True, words=f"{desk.broker.account} holds {counted(held.value, 'share')}")


def _calendar(desk: Desk, session: date) -> Check:
    known_until = desk.calendar.last_session
    passed = known_until - session > CALENDAR_MARGIN
    cure = "" if passed else "pip install --upgrade exchange_calendars"
    return Check(name="calendar", passed=passed, words=f"sessions are known until {known_until}", cure=cure)


def unanswered(name: str, answer: Unknown) -> Check:
    """A link whose question the broker left open."""
    cure = "ask again in a minute; where it stays so, restart the Gateway"
    return Check(name=name, passed=False, words=answer.why, cure=cure, exit_code=BrokerUnavailable.exit_code)
