"""Every run of a step is filed: when it began, how it ended, and what the owner must hear of its failure."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from mtum_eod.core.checks import Check
from mtum_eod.core.events import Beat, Event
from mtum_eod.core.trading import Mode, Step
from mtum_eod.core.words import SET_CLOCK, clock_off
from mtum_eod.errors import MtumEodError, SettingsError
from mtum_eod.jobs.desk import Desk, TradingDesk
from mtum_eod.ports import Known, Notice

LOG = logging.getLogger(__name__)

TOLD = "The owner was told."
"""A note on an error that has been through here: whoever meets it further out has nobody left to tell."""

CLOCK_STEP = timedelta(minutes=5)
"""What a clock may be set back by in good health."""

_current: ContextVar[int | None] = ContextVar("run", default=None)


def run_id() -> int | None:
    """The run under way, for the log; None between runs."""
    return _current.get()


def this_run() -> int:
    """The run under way, for what is recorded in it. Raises LookupError between runs."""
    if (run := _current.get()) is None:
        raise LookupError("no run is under way")
    return run


@dataclass(slots=True, kw_only=True)
class Filing:
    """A run in progress; what is set here is filed at its end."""

    run_id: int
    outcome: str = "done"
    exit_code: int = 0
    document: dict[str, Any] | None = field(default=None)


@contextmanager
def under(run: int) -> Iterator[None]:
    """What is logged and told in the `with` block belongs to this run."""
    token = _current.set(run)
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def filed(desk: TradingDesk, step: Step, session: date | None) -> Iterator[Filing]:
    """File the `with` block as a run of `step`, and ping the watchman. A failure is filed, told and raised again.

    Raises SettingsError where the clock stands before the newest run on record: what is due could not be known.
    """
    straight = clock(desk)
    if not straight.passed:
        raise SettingsError(straight.words, hint=straight.cure)
    run = Filing(run_id=desk.store.start_run(step, session, desk.wall_clock.now()))
    with under(run.run_id):
        repeated = desk.broker.retries
        LOG.info("%s of %s begins", step, session)
        desk.notifier.beat(Beat.START)
        try:
            yield run
        except BaseException as error:
            exit_code = error.exit_code if isinstance(error, MtumEodError) else 1
            said = f"{step} {session or ''}: {error or type(error).__name__}"
            LOG.error("%s", said, exc_info=not isinstance(error, MtumEodError))
            with suppress(MtumEodError):  # the failure itself is what must come out, not that it could not be filed
                words, retries = str(error) or repr(error), desk.broker.retries - repeated
                desk.store.end_run(run.run_id, desk.wall_clock.now(), "failed", exit_code, words, retries)
            desk.notifier.tell(Notice(event=Event.RUN_FAILED, words=said, is_urgent=True))
            desk.notifier.beat(Beat.FAIL, said)
            error.add_note(TOLD)
            raise
        else:
            LOG.info("%s of %s ends: %s, exit code %d", step, session, run.outcome, run.exit_code)
            retries = desk.broker.retries - repeated
            desk.store.end_run(
                run.run_id, desk.wall_clock.now(), run.outcome, run.exit_code, retries=retries, document=run.document
            )
            desk.notifier.beat(Beat.FAIL if run.exit_code else Beat.SUCCESS, f"{step} of {session}: {run.outcome}")


def clock(desk: Desk) -> Check:
    """Whether the machine's clock goes forward: no run on record can have begun later than now."""
    now = desk.wall_clock.now()
    newest = max((run.started_at for run in desk.store.runs(1)), default=now)
    passed = newest - now <= CLOCK_STEP or _is_broker_sure(desk)
    words = f"the clock says {now:%Y-%m-%d %H:%M} UTC"
    cure = ""
    if not passed:
        words += f", but a run is on record that began at {newest:%Y-%m-%d %H:%M} UTC: one of the two is wrong"
        cure = "set the clock (`timedatectl`); if that run's was wrong, `mtum-eod db restore` a backup from before it"
    return Check(name="clock and book", passed=passed, words=words, cure=cure, exit_code=SettingsError.exit_code)


def _is_broker_sure(desk: Desk) -> bool:
    """Whether the broker's clock says what ours does, so that the run on record was the one with a wrong clock."""
    if desk.book.mode is Mode.SIMULATED:  # the embedded broker reads the same clock
        return False
    ahead = desk.broker.clock_ahead()
    return isinstance(ahead, Known) and abs(ahead.value) <= CLOCK_STEP


def refuse_wrong_clock(desk: Desk) -> None:
    """Write nothing by a clock that the broker's contradicts: sessions would count as missed, or as over.

    A broker that does not answer contradicts nothing. Raises SettingsError.
    """
    ahead = desk.broker.clock_ahead()
    if isinstance(ahead, Known) and abs(ahead.value) > CLOCK_STEP:
        raise SettingsError(f"{clock_off(ahead.value)}: nothing is recorded by it", hint=f"{SET_CLOCK}, then run again")
