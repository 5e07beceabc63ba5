"""Every evening of the year: a sign of life, what was missed, and whether the week can begin."""

from __future__ import annotations

from datetime import date

from mtum_eod.core import timing
from mtum_eod.core.checks import Check
from mtum_eod.core.trading import Mode, Step
from mtum_eod.jobs import preflight
from mtum_eod.jobs.desk import Desk, TradingDesk
from mtum_eod.jobs.filing import filed
from mtum_eod.jobs.session import file_missed


def evening_step(desk: TradingDesk, day: date) -> tuple[Check, ...]:
    """Give the sessions nobody ran their rows, and on the eve of a week ask whether the broker answers.

    The Gateway wants its weekly login on a Sunday, and says so to nobody; told on that evening, the owner has until the
    next afternoon. Being filed as a run the step also pings the watchman, on days without a session too.
    """
    before = desk.store.last_runs(day).get(Step.EVENING)
    with filed(desk, Step.EVENING, day) as run:
        desk.broker.finish_by(desk.clock.now() + timing.RETRY_EVERY)  # then the next attempt is due
        file_missed(desk, day)
        looked_at = _weekly_login(desk, day)
        preflight.conclude(desk, run, looked_at, before, f"On the eve of the week, {day}: the broker's line")
        return looked_at


def _weekly_login(desk: Desk, day: date) -> tuple[Check, ...]:
    upcoming = desk.calendar.nearest(day)[1]
    last = desk.calendar.nearest(upcoming)[0]
    if desk.book.mode is Mode.SIMULATED or not timing.is_eve_of_a_week(day, upcoming, last):
        return ()
    return tuple(preflight.broker(desk, upcoming))
