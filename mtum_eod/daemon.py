"""Unattended: the minute that cron and the daemon share, and the daemon itself, the home of APScheduler.

Every minute a workplace is built anew from the settings as they are then: a changed setting holds from the next minute
on, a broken one is told and, once mended, forgotten. The database's lock makes cron and daemon at once harmless.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import threading
import traceback
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytz

from mtum_eod import __version__, bootstrap
from mtum_eod.bootstrap import Workplace
from mtum_eod.errors import AlreadyRunning, MtumEodError, OlderSchema
from mtum_eod.jobs.due import Agenda, Done, agenda, do_due
from mtum_eod.jobs.filing import TOLD

if TYPE_CHECKING:
    from mtum_eod.settings import NotificationSettings

NEW_YORK = pytz.timezone("America/New_York")

GRACE = timedelta(minutes=2)
"""So long a step under way may take to end once the daemon is told to; deploy/mtum-eod.service waits longer."""

LATE = timedelta(hours=1)
"""A minute that comes late, a machine having slept, still counts: what is due is asked then, not assumed."""


# -- one minute -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Minute:
    """What a minute came to: what is due and next, or the step that was done; `held` where another run was at it."""

    agenda: Agenda
    zone: str  # the owner's
    done: Done | None = None
    held: str = ""


def minute(load: Callable[[], Workplace], addresses: Callable[[], NotificationSettings]) -> Minute:
    """Do the step that is due now, if any, and send what waits to be sent.

    load: builds the workplace. addresses: whom to tell where the settings do not even give one.
    Whatever is raised has been told, by the run it ended or from here.
    """
    place: Workplace | None = None
    try:
        place = load()
        return _minute(place)
    except Exception as error:
        if TOLD not in getattr(error, "__notes__", ()):
            told = place.loaded.settings.notifications if place else addresses()
            bootstrap.alarm(told, error, place.database.parent if place else None)
        raise
    finally:
        if place:
            place.close()


def _minute(place: Workplace) -> Minute:
    try:
        desk = place.desk()
    except OlderSchema:
        with suppress(AlreadyRunning):  # whoever is at it upgrades
            place.upgrade()
        desk = place.desk()
    seen, zone = agenda(desk), place.loaded.settings.schedule.timezone
    if seen.due is None and not place.has_mail(desk.store):
        return Minute(agenda=seen, zone=zone)
    try:
        with place.trading() as trading:
            return Minute(agenda=seen, zone=zone, done=do_due(trading))
    except AlreadyRunning as error:
        return Minute(agenda=seen, zone=zone, held=error.message)


# -- and all the others -----------------------------------------------------------------------------------------------


class Daemon:
    """Lives one minute after the other until it is told to end.

    say: shows a line or more; to the journal, where systemd runs it.
    """

    def __init__(
        self,
        load: Callable[[], Workplace],
        addresses: Callable[[], NotificationSettings],
        say: Callable[[str], None],
    ) -> None:
        self._load = load
        self._addresses = addresses
        self._say = say
        self._at_work = threading.Lock()

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT; the exit code. Raises SettingsError where it starts on unusable settings.

        The step under way is ended first. One that does not end within `GRACE` is left, and the exit code is 1: the
        next start asks the broker and goes on where the book stands.
        """
        told_to_end = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: told_to_end.set())
        self._announce()
        scheduler = _scheduler(self._live)
        scheduler.start()
        told_to_end.wait()
        scheduler.shutdown(wait=False)
        if not self._at_work.acquire(timeout=GRACE.total_seconds()):
            self._say(f"the step under way did not end in {GRACE.total_seconds():g} s; it is left as it stands")
            os._exit(1)  # its thread would be waited for
        self._say("ended")
        return 0

    def _announce(self) -> None:
        from mtum_eod.views import text

        with closing(self._load()) as place:
            self._say(f"mtum-eod {__version__} on {place.database}, asking every minute what is due")
            try:
                self._say(text.coming(agenda(place.desk()), place.loaded.settings.schedule.timezone))
            except MtumEodError as error:  # the first minute meets it again, and tells
                self._say(error.message)

    def _live(self) -> None:
        from mtum_eod.views import text

        with self._at_work:
            try:
                lived = minute(self._load, self._addresses)
            except MtumEodError as error:
                self._say(f"error: {error.message}\nhint:  {error.hint}")
            except Exception:
                self._say(traceback.format_exc())
            else:
                if lived.done and lived.done.step:
                    self._say(text.done(lived.done, lived.zone))
                    gc.collect()  # a connection to the Gateway leaves circles: months of sleep would not sweep them up
                elif lived.held:
                    self._say(lived.held)


def _scheduler(live: Callable[[], None]) -> Any:
    from apscheduler.executors.pool import ThreadPoolExecutor
    from apscheduler.schedulers.background import BackgroundScheduler

    logging.getLogger("apscheduler").setLevel(logging.ERROR)  # a step of several minutes is no reason for warnings
    scheduler = BackgroundScheduler(timezone=NEW_YORK, executors={"default": ThreadPoolExecutor(1)})
    scheduler.add_job(
        live,
        every_minute(),
        misfire_grace_time=int(LATE.total_seconds()),
        coalesce=True,
        max_instances=1,
        next_run_time=datetime.now(NEW_YORK),  # after a reboot there may be no minute to lose
    )
    return scheduler


def every_minute() -> Any:
    """The trigger: every minute, by the exchange's clock."""
    from apscheduler.triggers.cron import CronTrigger

    return CronTrigger(minute="*", second=0, timezone=NEW_YORK)
