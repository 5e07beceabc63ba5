"""Telling the owner: real mail and web servers on loopback take the messages, or refuse, or never answer."""

import logging
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fakes import FakeClock
from receivers import Received, closed_port, mail_server, silent_server, web_server

from mtum_eod.adapters.notices import AT_ONCE, OwnerNotices, Post, alarm
from mtum_eod.adapters.store import SqlStore, open_store
from mtum_eod.core.events import Event
from mtum_eod.errors import StoreError
from mtum_eod.ports import Notice

NOON = datetime(2024, 11, 5, 17, tzinfo=UTC)
FAILED = Notice(event=Event.RUN_FAILED, words="decide 2024-11-05: the Gateway does not answer", is_urgent=True)
SENT = Notice(event=Event.ORDER_SENT, words="BUY 33 MTUM MOC for 2024-11-05: working")
PASSWORD = "hunter2-very-secret"  # noqa: S105


@pytest.fixture
def web() -> Iterator[Received]:
    with web_server() as received:
        yield received


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOON)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    store = open_store(tmp_path / "book.db")
    yield store
    store.close()


def notices(store: SqlStore, clock: FakeClock, *urls: str, patience: float = 5) -> OwnerNotices:
    post = Post(urls, "paper", timedelta(seconds=patience))
    return OwnerNotices(store=store, clock=clock, post=post, events=tuple(Event), near=store.path.parent)


def json_url(received: Received) -> str:
    return f"json://owner:{PASSWORD}@127.0.0.1:{received.port}/inbox"


def run(store: SqlStore, clock: FakeClock, url: str, *told: Notice, minutes: float = 0) -> None:
    """One run of cron's: so many minutes later it says something, and sends when its work is done."""
    clock.set(clock.now() + timedelta(minutes=minutes))
    notifier = notices(store, clock, url)
    for notice in told:
        notifier.tell(notice)
    notifier.send()


def test_a_mail_arrives_with_its_subject_and_its_words(store: SqlStore, clock: FakeClock):
    with mail_server() as mail:
        url = f"mailto://owner:{PASSWORD}@127.0.0.1:{mail.port}?from=bot@example.com&to=me@example.com"
        run(store, clock, url, SENT)
        [arrived] = mail.mails

    assert ("mtum-eod paper: order_sent", "me@example.com") == (arrived["Subject"], arrived["To"])
    assert SENT.words in arrived.as_string()
    assert [f"\0owner\0{PASSWORD}"] == mail.logins


def test_a_message_is_sent_when_the_work_is_done_and_not_before(store: SqlStore, clock: FakeClock, web: Received):
    notifier = notices(store, clock, json_url(web))
    notifier.tell(SENT)
    before = list(web.messages)
    notifier.send()

    assert ([], [("mtum-eod paper: order_sent", SENT.words)]) == (before, web.messages)
    assert [] == store.unsent_notices()


def test_all_that_one_run_says_is_one_message(store: SqlStore, clock: FakeClock, web: Received):
    run(store, clock, json_url(web), SENT, FAILED)

    assert [("mtum-eod paper: run_failed and 1 more", f"{SENT.words}\n{FAILED.words}")] == web.messages


def test_events_not_asked_for_are_kept_and_not_sent(store: SqlStore, clock: FakeClock, web: Received):
    notifier = OwnerNotices(store=store, clock=clock, post=Post([json_url(web)], "paper"), events=[Event.RUN_FAILED])
    notifier.tell(SENT)
    notifier.send()

    assert [] == web.messages
    assert [(SENT.words, 0)] == sqlite3.connect(store.path).execute("SELECT words, is_to_send FROM notice").fetchall()


def test_a_hundred_identical_failures_are_one_message_and_a_count(store: SqlStore, clock: FakeClock, web: Received):
    """Cron meets the same failure every minute, each time in a new process; then the order goes out after all."""
    for _ in range(100):
        run(store, clock, json_url(web), FAILED, minutes=1)
    during = list(web.messages)
    run(store, clock, json_url(web), SENT, minutes=1)

    assert [("mtum-eod paper: run_failed", FAILED.words)] == during
    assert [f"{FAILED.words} (again, 99 times since 2024-11-05 17:02 UTC)\n{SENT.words}"] == [
        text for _, text in web.messages[1:]
    ]


def test_a_failure_that_goes_on_is_told_again_the_next_morning(store: SqlStore, clock: FakeClock, web: Received):
    """Every quarter of an hour for a day and a half: a message each half day."""
    for _ in range(4 * 36):
        run(store, clock, json_url(web), FAILED, minutes=15)

    assert [
        FAILED.words,
        f"{FAILED.words} (49 times since 2024-11-05 17:30 UTC)",
        f"{FAILED.words} (49 times since 2024-11-06 05:45 UTC)",
    ] == [text for _, text in web.messages]


def test_an_order_is_told_as_often_as_one_goes_out(store: SqlStore, clock: FakeClock, web: Received):
    """What is no failure happens anew each time, though it says the same."""
    halted = Notice(event=Event.HALT, words="Halted by me: away")
    for _ in range(2):
        run(store, clock, json_url(web), halted, minutes=30)

    assert [halted.words] * 2 == [text for _, text in web.messages]


def test_what_was_not_taken_is_sent_again_after_growing_pauses(store: SqlStore, clock: FakeClock, web: Received):
    """The server refuses for an hour; cron comes by every minute."""
    web.refuses = True
    run(store, clock, json_url(web), SENT)
    for _ in range(60):
        run(store, clock, json_url(web), minutes=1)
    attempts = len(web.messages)
    web.refuses = False
    for _ in range(60):
        run(store, clock, json_url(web), minutes=1)

    # at 0, 1, 3, 7, 15, 31 and, the server willing, at 63 minutes
    assert (6, 7) == (attempts, len(web.messages))
    assert [] == store.unsent_notices()


def test_a_week_without_a_notifier_ends_in_a_few_messages_that_hold_it_all(
    store: SqlStore, clock: FakeClock, web: Received
):
    web.refuses = True
    said = [Notice(event=Event.DAILY_SUMMARY, words=f"HOLD 33 MTUM, day {day}") for day in range(AT_ONCE + 5)]
    for notice in said:
        run(store, clock, json_url(web), notice, minutes=60)
    web.refuses, before = False, len(web.messages)
    for _ in range(120):
        run(store, clock, json_url(web), minutes=1)
    after = [text.split("\n") for _, text in web.messages[before:]]

    assert [AT_ONCE, 5] == [len(lines) for lines in after]
    assert [notice.words for notice in said] == [line for lines in after for line in lines]


def test_one_address_that_works_is_enough(store: SqlStore, clock: FakeClock, web: Received):
    notifier = notices(store, clock, f"json://127.0.0.1:{closed_port()}/", json_url(web))
    notifier.tell(SENT)
    notifier.send()

    assert ([], 1) == (store.unsent_notices(), len(web.messages))


def test_a_server_that_never_answers_costs_a_bounded_time(store: SqlStore, clock: FakeClock):
    """Two of them are tried side by side; the message waits for a later run."""
    with silent_server() as port:
        urls = [f"json://127.0.0.1:{port}/a?rto=60", f"mailto://a:bcdef@127.0.0.1:{port}?from=a@b.example"]
        notifier = notices(store, clock, *urls, patience=0.5)
        notifier.tell(SENT)
        started = time.monotonic()
        notifier.send()
        took = time.monotonic() - started

    assert 0.4 < took < 2
    assert [1] == [one.attempts for one in store.unsent_notices()]


@pytest.mark.parametrize(
    "url",
    [
        "json://owner:{secret}@127.0.0.1:{port}/inbox/{secret}",
        "json://127.0.0.1:{port}/hook?token={secret}",
        "mailto://owner:{secret}@127.0.0.1:{port}?from=a@b.example",
        "tgram://{secret}/12345678",
        "nonsense://{secret}/",
        "json://owner:{secret}@nowhere.invalid/inbox",
    ],
)
def test_no_failure_to_send_gives_a_secret_away(store: SqlStore, clock: FakeClock, url: str, caplog, capfd):
    """Whatever Apprise says of an address, in its own log and in ours, the secret in it is blotted out."""
    caplog.set_level(logging.DEBUG)
    notifier = notices(store, clock, url.format(secret=PASSWORD, port=closed_port()), patience=20)
    notifier.tell(SENT)
    notifier.send()
    told = [record.getMessage() for record in caplog.records if record.name.startswith("mtum_eod")]

    assert 1 == len([words for words in told if words.startswith("address 1 of 1: ")])
    assert [] == [words for words in told if PASSWORD in words]
    assert PASSWORD not in "".join(capfd.readouterr())
    assert PASSWORD.encode() not in b"".join(file.read_bytes() for file in store.path.parent.iterdir())


def test_without_the_package_the_message_waits_and_the_log_says_what_to_install(
    store: SqlStore, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setitem(sys.modules, "apprise", None)
    run(store, clock, "json://127.0.0.1/", SENT)

    assert "pip install 'mtum-eod[notify]'" in caplog.text
    assert 1 == len(store.unsent_notices())


SENDER_KILLED = """
import os, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from mtum_eod.adapters.clock import SystemClock
from mtum_eod.adapters.notices import OwnerNotices, Post
from mtum_eod.adapters.store import open_store
from mtum_eod.core.events import Event
from mtum_eod.ports import Notice
store = open_store(Path(sys.argv[1]))
notifier = OwnerNotices(store=store, clock=SystemClock(), post=Post([sys.argv[2]], "paper"), events=tuple(Event))
notifier.tell(Notice(event=Event.ORDER_SENT, words="BUY 33 MTUM MOC"))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_run_wanted_to_say_is_sent_by_the_next(store: SqlStore, clock: FakeClock, web: Received):
    subprocess.run([sys.executable, "-c", SENDER_KILLED, store.path, json_url(web)], check=False)
    clock.set(datetime.now(UTC))
    run(store, clock, json_url(web), minutes=1)

    assert ["BUY 33 MTUM MOC"] == [text for _, text in web.messages]


# -- without a book ---------------------------------------------------------------------------------------------------


def test_what_the_book_does_not_take_is_told_all_the_same(store: SqlStore, clock: FakeClock, web: Received):
    """The disk is full: each minute's run fails to keep its message, and the owner hears of it once."""

    def refuse(*_: object, **__: object) -> None:
        raise StoreError("database book.db cannot grow: the disk is full", hint="free space")

    store.add_notice = refuse  # type: ignore[method-assign]
    for _ in range(30):
        run(store, clock, json_url(web), FAILED, minutes=1)

    assert [FAILED.words] == [text for _, text in web.messages]


def test_an_alarm_without_a_book_is_told_once_and_then_counted(tmp_path: Path):
    said: list[str] = []
    for minute in range(24 * 60):
        alarm(
            "the database is damaged", lambda words: not said.append(words), tmp_path, NOON + timedelta(minutes=minute)
        )

    assert ["the database is damaged", "the database is damaged (721 times since 2024-11-05T17:00)"] == said


def test_an_alarm_that_nobody_took_is_tried_again_after_growing_pauses(tmp_path: Path):
    said: list[str] = []
    for minute in range(60):
        alarm("broken", lambda words: bool(said.append(words)), tmp_path, NOON + timedelta(minutes=minute))

    assert ["broken", *(f"broken ({n} times since 2024-11-05T17:00)" for n in (2, 4, 8, 16, 32))] == said


def test_an_alarm_that_can_be_remembered_nowhere_is_told_once_an_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Neither the database's folder nor the one for temporary files is a folder."""
    (tmp_path / "file").touch()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
    said: list[str] = []
    for minute in range(1, 180):
        alarm("no disk", lambda words: not said.append(words), tmp_path / "file", NOON + timedelta(minutes=minute))

    assert ["no disk"] * 2 == said


def test_the_memory_of_alarms_goes_through_no_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Somebody laid a link to another file of the owner's into the shared folder."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "precious").write_text("precious")
    (tmp_path / ".mtum-eod-alarms.json").symlink_to(tmp_path / "precious")
    alarm("broken", lambda _: True, tmp_path, NOON)

    assert "precious" == (tmp_path / "precious").read_text()


@pytest.mark.parametrize(
    "left", ["[]", '{"key": []}', '{"key": {"first": "2024-11-05"}}', '{"key": {"first": 5, "tried": null}}', "null"]
)
def test_a_memory_of_alarms_in_another_shape_is_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: str):
    """Somebody else's file, or half of ours: the alarm goes out."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / ".mtum-eod-alarms.json").write_text(left)
    said: list[str] = []
    alarm("broken", lambda words: not said.append(words), tmp_path, NOON)

    assert ["broken"] == said
