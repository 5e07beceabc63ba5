"""Telling the owner: every message is kept in the book, and those to be sent go out by Apprise when the work is done.

The order of events: a step that has something to say keeps it in the book, at once. Only when the step has done its
work, its order out and acknowledged and the run filed, are messages sent, all that wait in one, for a bounded time.
What does not get through, or waits because the process was killed, is sent by a later run, after growing pauses.

A failure that repeats itself, as cron repeats it every minute, is sent once and then counted; the count goes out with
the next news, at the latest when `QUIET` has passed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from mtum_eod.adapters.heartbeat import Heartbeat
from mtum_eod.adapters.secrets import hider
from mtum_eod.adapters.threads import heard, within
from mtum_eod.core.events import Beat, Event, in_kind
from mtum_eod.errors import MtumEodError
from mtum_eod.ports import Clock, Notice, Store, UnsentNotice

LOG = logging.getLogger(__name__)

PATIENCE = timedelta(seconds=30)
"""For all sending of one run."""

FIRST_PAUSE, LONGEST_PAUSE = timedelta(minutes=1), timedelta(hours=1)
"""Between attempts to send; doubled each time."""

QUIET = timedelta(hours=12)
"""So long a failure that was told is only counted: a session and its evening."""

FAILURES = frozenset({Event.RUN_FAILED, Event.MISMATCH, Event.POSITION_UNATTENDED})
"""What a run says again whenever it meets it again. All else happens anew each time, and is told anew."""

AT_ONCE = 25
"""Messages in one; the rest goes out with the next run."""


# -- with a book ------------------------------------------------------------------------------------------------------


class OwnerNotices:
    """A Notifier. A message that cannot be kept or sent stops nothing: a trade is worth more than a word about it.

    near: a folder to remember in what the book did not take.
    """

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        post: Post | None = None,
        events: Collection[Event] = (),
        run_id: Callable[[], int | None] = lambda: None,
        heartbeat: Heartbeat | None = None,
        near: Path = Path(),
    ) -> None:
        self._store = store
        self._clock = clock
        self._post = post
        self._events = frozenset(events) if post else frozenset()
        self._run_id = run_id
        self._heartbeat = heartbeat
        self._near = near
        self._unkept: list[Notice] = []

    def tell(self, notice: Notice) -> None:
        LOG.log(logging.WARNING if notice.is_urgent else logging.INFO, "%s: %s", notice.event, notice.words)
        is_to_send = notice.event in self._events
        try:
            self._store.add_notice(notice, self._clock.now(), self._run_id(), is_to_send=is_to_send)
        except MtumEodError as error:
            LOG.error("not kept in the book: %s", error.message)
            if is_to_send:
                self._unkept.append(notice)

    def beat(self, beat: Beat, words: str = "") -> None:
        if self._heartbeat:
            self._heartbeat.beat(beat, words)

    def send(self) -> None:
        """Send what waits, if it is time, and see the heartbeat out. For when the work is done: it may take a while."""
        if self._post:
            for notice in self._unkept:
                alarm(notice.words, partial(self._post.send_one, notice), self._near, self._clock.now())
            with suppress(MtumEodError):
                self._send_kept(self._post)
        if self._heartbeat:
            self._heartbeat.end()

    def _send_kept(self, post: Post) -> None:
        unsent = self._store.unsent_notices()
        if not unsent:
            return
        now = self._clock.now()
        sent_lately = self._store.sent_since(now - QUIET)
        if not is_time(unsent, sent_lately, now):
            return
        groups: dict[Kind, list[UnsentNotice]] = {}
        for one in unsent:
            groups.setdefault(_kind(one.notice), []).append(one)
        batch = list(groups.values())[:AT_ONCE]
        known = {_kind(notice) for notice in sent_lately}
        gravest = min((one.notice for group in batch for one in group), key=_subject_order)
        is_sent = post.send([_line(group, is_again=_kind(group[0].notice) in known) for group in batch], gravest)
        with self._store.transaction():
            for group in batch:
                for one in group:
                    self._store.notice_tried(one.id, self._clock.now(), is_sent=is_sent)


Kind: TypeAlias = tuple[Event, str]


def _kind(notice: Notice) -> Kind:
    """What makes a failure the same failure: not its numbers, of which one may be the minute it is met in."""
    return notice.event, in_kind(notice.words) if notice.event in FAILURES else notice.words


def _subject_order(notice: Notice) -> tuple[bool, bool]:
    """Before others what is urgent, behind them the summary that comes every day."""
    return not notice.is_urgent, notice.event is Event.DAILY_SUMMARY


def is_time(unsent: Iterable[UnsentNotice], sent_lately: Collection[Notice], now: datetime) -> bool:
    """Whether a message waits that is news and due for an attempt; whatever else waits goes out with it."""
    known = {_kind(notice) for notice in sent_lately if notice.event in FAILURES}
    return any(
        now >= _next_attempt(one.told_at, one.attempts, one.last_tried_at) and _kind(one.notice) not in known
        for one in unsent
    )


def _next_attempt(told_at: datetime, attempts: int, last_tried_at: datetime | None) -> datetime:
    if last_tried_at is None:
        return told_at
    doublings = min(attempts - 1, 10)  # of a week without a name server the pause must not overflow
    return last_tried_at + min(FIRST_PAUSE * (1 << doublings), LONGEST_PAUSE)


def _line(group: Sequence[UnsentNotice], *, is_again: bool) -> str:
    """One line for a message, however often it was told; its newest words."""
    first, last = group[0], group[-1]
    times, since = sum(one.times_told for one in group), f"since {first.told_at:%Y-%m-%d %H:%M} UTC"
    if is_again and first.notice.event in FAILURES:
        return f"{last.notice.words} (again, {times} times {since})"
    return f"{last.notice.words} ({times} times {since})" if times > 1 else last.notice.words


# -- without one ------------------------------------------------------------------------------------------------------


def alarm(words: str, send: Callable[[str], bool], near: Path, now: datetime) -> None:
    """Tell of a failure that no book can keep.

    What was told is remembered in a small file in `near`, else in the folder for temporary files, so that a failure
    cron meets every minute is told once in `QUIET`, with a count. Where neither can be written, once an hour.
    """
    memory = _Memory(near)
    known = memory.recall(now)
    told = known.setdefault(
        hashlib.sha256(in_kind(words).encode()).hexdigest(),
        {"first": now.isoformat(), "times": 0, "attempts": 0, "tried": None, "sent": False},
    )
    told["times"] += 1
    tried = datetime.fromisoformat(told["tried"]) if told["tried"] else None
    wait_until = tried + QUIET if tried and told["sent"] else _next_attempt(now, told["attempts"], tried)
    if now >= wait_until and (memory.keep(known) or now.minute == 0):
        is_sent = send(f"{words} ({told['times']} times since {told['first'][:16]})" if told["times"] > 1 else words)
        told |= {"tried": now.isoformat(), "sent": is_sent, "attempts": told["attempts"] + 1}
    memory.keep(known)


class _Memory:
    """What was told without a book, by a key of its words, in the first of two places that can be written."""

    def __init__(self, near: Path) -> None:
        own = Path(tempfile.gettempdir()) / f"mtum-eod-{os.getuid()}"
        self._files = [near / ".mtum-eod-alarms.json", own / "alarms.json"]

    def recall(self, now: datetime) -> dict[str, Any]:
        """What is remembered of the last days; of the two places the one that has counted further."""
        forgotten = (now - 2 * QUIET).isoformat()
        found: dict[str, Any] = {}
        for file in self._files:
            with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):  # whatever else lies there
                for key, one in json.loads(file.read_text()).items():
                    told = _entry(one)
                    if max(told["first"], told["tried"] or "") > forgotten:
                        found[key] = max(told, found.get(key, told), key=lambda one: int(one["times"]))
        return found

    def keep(self, known: dict[str, Any]) -> bool:
        """Whether it could be written down."""
        return any(_written(file, json.dumps(known)) for file in self._files)


def _entry(told: dict[str, Any]) -> dict[str, Any]:
    """One entry as `alarm` keeps it. Raises ValueError, LookupError, TypeError for another shape."""
    first, tried = (
        told[key] and datetime.fromisoformat(told[key]).astimezone(UTC).isoformat() for key in ("first", "tried")
    )
    times, attempts = int(told["times"]), int(told["attempts"])
    return {"first": first, "times": times, "attempts": attempts, "tried": tried, "sent": bool(told["sent"])}


def _written(file: Path, text: str) -> bool:
    try:
        file.parent.mkdir(mode=0o700, exist_ok=True)
        # In place, because a full disk has no room for a second file; and through no link that somebody laid there.
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600), "w") as opened:
            opened.write(text)
            opened.truncate()
    except OSError:
        return False
    return True


# -- sending ----------------------------------------------------------------------------------------------------------


class Post:
    """The owner's addresses. A message counts as sent where one of them took it: it has reached the owner.

    name: whose news it is, for the subject; `paper`, for instance.
    """

    def __init__(self, urls: Sequence[str], name: str, patience: timedelta = PATIENCE) -> None:
        self._urls = urls
        self._name = name
        self._patience = patience
        self._hide = hider(urls)

    def send(self, lines: Sequence[str], gravest: Notice) -> bool:
        """Send the lines as one message under the subject of the gravest; logs where it did not get through."""
        more = f" and {len(lines) - 1} more" if len(lines) > 1 else ""
        answers = self.deliver(f"mtum-eod {self._name}: {gravest.event}{more}", "\n".join(lines), gravest.is_urgent)
        for place, why in enumerate(answers, start=1):
            if why:
                LOG.warning("address %d of %d: %s", place, len(answers), why)
        return "" in answers

    def send_one(self, notice: Notice, words: str) -> bool:
        """Send one message in words that say more than its own."""
        return self.send([words], notice)

    def deliver(self, title: str, body: str, is_urgent: bool) -> list[str]:
        """Send to all addresses at once: of each why it failed, without a secret; empty where it was taken."""
        try:
            import apprise
        except ImportError:
            return ["the package apprise is missing: pip install 'mtum-eod[notify]'"] * len(self._urls)
        logging.getLogger("apprise").propagate = False  # it names whole addresses
        kind = apprise.NotifyType.WARNING if is_urgent else apprise.NotifyType.INFO
        seconds = self._patience.total_seconds()
        calls = [partial(_notify, apprise, url, title, body, kind) for url in self._urls]
        return [self._hide(why) for why in within(seconds, calls, late=f"no answer within {seconds:g} s")]


def _notify(apprise: Any, url: str, title: str, body: str, kind: Any) -> str:
    try:
        with heard("apprise", logging.WARNING) as words:
            sender = apprise.Apprise()
            if not sender.add(url):
                return "not an address that Apprise can use; its kinds are listed at https://appriseit.com"
            if sender.notify(title=title, body=body, notify_type=kind):
                return ""
            return " ".join(words) or "it was not taken"
    except Exception as error:  # a vendor's plugin may raise whatever it likes
        return f"{type(error).__name__}: {error}"
