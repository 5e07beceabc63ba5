"""The nightly copy of the book."""

from __future__ import annotations

import logging

from mtum_eod.core.events import Event
from mtum_eod.errors import MtumEodError
from mtum_eod.jobs.desk import TradingDesk
from mtum_eod.ports import Notice

LOG = logging.getLogger(__name__)


def back_up(desk: TradingDesk) -> None:
    """Copy the book, its session being settled. A copy that fails is told and stops nothing: the book is whole."""
    try:
        copy = desk.copy_book()
    except MtumEodError as error:
        said = f"The nightly backup failed: {error.message}. {error.hint}"
        desk.notifier.tell(Notice(event=Event.RUN_FAILED, words=said, is_urgent=True))
    else:
        LOG.info("backed up: %s", copy)
