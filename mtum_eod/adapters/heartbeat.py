"""The heartbeat: a web address pinged as healthchecks.io has it, so that a job that never starts is noticed."""

from __future__ import annotations

import logging
from datetime import timedelta
from queue import SimpleQueue
from threading import Thread
from urllib.parse import urlsplit, urlunsplit

from mtum_eod import __version__
from mtum_eod.adapters.secrets import hider
from mtum_eod.core.events import Beat

LOG = logging.getLogger(__name__)

TIMEOUT = timedelta(seconds=5)
"""For one ping."""

PATIENCE = timedelta(seconds=10)
"""For the pings still under way when a run is over."""

LONGEST_WORDS = 500
"""Characters of what a failing step says of itself."""


class Heartbeat:
    """Pings from a thread of its own: neither a slow watchman nor a dead name server holds up what is being watched.

    Nothing is raised and nothing is repeated; a ping that fails is logged, without the address.
    """

    def __init__(self, url: str, patience: timedelta = PATIENCE) -> None:
        self._url = url
        self._patience = patience
        self._hide = hider([url])
        self._waiting: SimpleQueue[tuple[Beat, str] | None] = SimpleQueue()
        self._pinger: Thread | None = None

    def beat(self, beat: Beat, words: str = "") -> None:
        """Have the watchman told, in turn; returns at once."""
        if not self._url:
            return
        if self._pinger is None:
            self._pinger = Thread(target=self._ping_all, name="heartbeat", daemon=True)
            self._pinger.start()
        self._waiting.put((beat, words))

    def end(self) -> None:
        """Wait for the pings under way, for a bounded time."""
        if self._pinger is not None:
            self._waiting.put(None)
            self._pinger.join(self._patience.total_seconds())
            self._pinger = None

    def _ping_all(self) -> None:
        while (ping := self._waiting.get()) is not None:
            beat, words = ping
            why = self.ping(beat, words)
            if why:
                LOG.warning("heartbeat %s: %s", beat, why)

    def ping(self, beat: Beat, words: str = "") -> str:
        """Tell the watchman now: why it failed, in words without the address; empty where it was heard."""
        from http.client import HTTPException  # 30 ms that a run without a watchman need not pay
        from urllib.request import Request, urlopen

        body = words[:LONGEST_WORDS].encode()
        try:
            # `settings` lets only http:// and https:// through
            request = Request(  # noqa: S310
                _address(self._url, beat), data=body or None, headers={"User-Agent": f"mtum-eod/{__version__}"}
            )
            with urlopen(request, timeout=TIMEOUT.total_seconds()):  # noqa: S310
                return ""
        except (OSError, HTTPException, ValueError) as error:
            return self._hide(f"{type(error).__name__}: {error}")


def _address(url: str, beat: Beat) -> str:
    """URL/start, URL and URL/fail; a query stays behind the path."""
    if beat is Beat.SUCCESS:
        return url
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{beat}"))
