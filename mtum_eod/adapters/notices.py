"""Telling the owner: every message is kept in the book, and sent by Apprise where addresses are set."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from contextlib import suppress

from mtum_eod.core.events import Event
from mtum_eod.errors import MtumEodError
from mtum_eod.ports import Clock, Notice, Store

LOG = logging.getLogger(__name__)


class OwnerNotices:
    """A Notifier. A message that cannot be kept or sent stops nothing: a trade is worth more than a word about it."""

    def __init__(self, *, store: Store, clock: Clock, urls: Sequence[str], events: Collection[Event]) -> None:
        self._store = store
        self._clock = clock
        self._urls = urls
        self._events = frozenset(events)

    def tell(self, notice: Notice) -> None:
        LOG.log(logging.WARNING if notice.is_urgent else logging.INFO, "%s: %s", notice.event, notice.words)
        with suppress(MtumEodError):
            self._store.add_notice(notice, self._clock.now(), None, is_to_send=False)
        if self._urls and notice.event in self._events:
            self._send(notice)

    def _send(self, notice: Notice) -> None:
        import apprise

        sender = apprise.Apprise()
        for url in self._urls:
            sender.add(url)
        kind = apprise.NotifyType.WARNING if notice.is_urgent else apprise.NotifyType.INFO
        sender.notify(title=f"mtum-eod: {notice.event}", body=notice.words, notify_type=kind)
