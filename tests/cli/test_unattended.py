"""Nobody is looking: what cron's minutes come to on a good day, and what the owner hears of a bad one."""

import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from machine_time import MachineTime
from receivers import Received, mail_server, web_server
from terminal import Person

from mtum_eod import bootstrap
from mtum_eod.adapters.clock import SystemClock
from mtum_eod.adapters.log import FILE
from mtum_eod.adapters.store import upkeep

TOKEN = "5ecc0ded-watchman-token"  # noqa: S105
PASSWORD = "p%40ssw0rd-of-the-owner"  # noqa: S105
SECRETS = (TOKEN, PASSWORD, "p@ssw0rd-of-the-owner")


@pytest.fixture
def web(person: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Received]:
    """A web server that takes the owner's messages under /inbox and is the watchman under /ping."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with web_server() as received:
        urls = f"json://owner:{PASSWORD}@127.0.0.1:{received.port}/inbox"
        person.environment |= {
            "MTUM_EOD_NOTIFICATIONS__URLS": urls,
            "MTUM_EOD_NOTIFICATIONS__HEARTBEAT_URL": f"http://127.0.0.1:{received.port}/ping/{TOKEN}",
        }
        yield received


def pings(web: Received) -> list[str]:
    """What the watchman heard: start, success, fail."""
    heard = [path for path in web.paths if path.startswith("/ping")]
    return [path.removeprefix(f"/ping/{TOKEN}").strip("/") or "success" for path in heard]


def cron(person: Person, minutes: int, every: int = 1) -> list[int]:
    """The exit codes of cron's calls over so many minutes."""
    codes = []
    for _ in range(0, minutes, every):
        codes.append(person.types("run --if-due").exit_code)
        person.clock.sleep(timedelta(minutes=every))
    return codes


# -- a good day -------------------------------------------------------------------------------------------------------


def test_a_day_pings_the_watchman_at_each_step_and_never_between(person: Person, web: Received):
    """A cron that calls every twenty minutes lives through a Friday, another through the Saturday."""
    person.at("2024-11-08", 140)
    cron(person, 60 * 6, every=20)
    friday = pings(web)
    person.clock.set(datetime(2024, 11, 9, 12, tzinfo=UTC))
    cron(person, 60 * 16, every=30)

    assert ["start", "success"] * 4 == friday
    assert ["start", "success"] == pings(web)[8:]


@pytest.mark.parametrize(
    ("session", "steps"),
    [
        ("2024-11-04", {"14:00": "preflight", "15:40": "decide", "16:20": "settle", "18:00": "evening"}),
        ("2024-11-29", {"11:00": "preflight", "12:40": "decide", "13:20": "settle", "18:00": "evening"}),
    ],
)
def test_each_step_is_done_at_its_minute_whatever_the_servers_zone(
    person: Person,
    server_time: type[MachineTime],
    monkeypatch: pytest.MonkeyPatch,
    session: str,
    steps: dict[str, str],
):
    """The day after the clocks went back, and a half day; cron asks in the minute before each step, and at it."""
    monkeypatch.setattr(bootstrap, "SystemClock", SystemClock)
    expected = []
    for wall_time, step in steps.items():
        at = datetime.fromisoformat(f"{session}T{wall_time}").replace(tzinfo=ZoneInfo("America/New_York"))
        for instant in (at - timedelta(minutes=1), at):
            server_time.set(instant)
            person.types("run --if-due")
        expected.append((step, session, at))
    runs = person.sql("SELECT step, session, started_at, exit_code FROM runs ORDER BY id")

    assert expected == [(step, of, datetime.fromisoformat(at)) for step, of, at, _ in runs]
    assert {0} == {code for *_, code in runs}


def test_a_day_tells_the_order_the_fill_and_the_summary(person: Person, web: Received):
    person.at("2024-11-05", 120)
    cron(person, 60 * 5, every=20)
    titles = [title for title, _ in web.messages]
    said = [line for _, text in web.messages for line in text.split("\n")]

    assert ["mtum-eod simulated, SYNTHETIC data: order_sent and 1 more"] == titles[:1]
    assert ["BUY 23 MTUM: ", "BUY 23 MTUM M", "BUY 23 MTUM a"] == [line[:13] for line in said]


def test_without_the_daily_summary_a_quiet_day_says_nothing(person: Person, web: Received):
    person.environment |= {"MTUM_EOD_NOTIFICATIONS__DAILY_SUMMARY": "false"}
    person.environment |= {"MTUM_EOD_STRATEGY__VIX_ENTRY_THRESHOLD": "1"}
    person.at("2024-11-05", 120)
    cron(person, 60 * 5, every=20)

    assert [] == web.messages
    assert [("HOLD",)] == person.sql("SELECT action FROM signals")


def test_the_summary_of_a_blocked_entry_says_what_blocked_it(person: Person, web: Received):
    """Nobody reads a BUY that was none."""
    person.types("halt --why holiday")
    person.at("2024-11-05", 20).types("run --if-due")
    said = [text for title, text in web.messages if title.endswith("daily_summary")]

    assert ["BUY (flat), blocked by halted: "] == [text[:31] for text in said]


def test_the_links_of_a_preflight_stand_in_one_column(person: Person):
    lines = person.at("2024-11-05", 120).types("run --if-due").out.splitlines()

    assert {" "} == {line[28] for line in lines}
    assert not {" "} & {line[29] for line in lines}


def test_an_evening_without_news_says_that_it_was_one(person: Person):
    """A Saturday."""
    person.clock.set(datetime(2024, 11, 9, 23, tzinfo=UTC))

    assert "evening: nothing to tell\n" == person.types("run --if-due").out


def test_a_settled_session_is_backed_up_once_and_old_copies_go(person: Person):
    person.environment["MTUM_EOD_BACKUP__KEEP"] = "2"
    found = []
    for session in ("2024-11-05", "2024-11-06", "2024-11-07"):
        person.at(session, 20)
        cron(person, 60, every=5)
        found.append(len(list((person.folder / "backups").iterdir())))

    assert [1, 2, 2] == found


def test_the_nightly_backups_line_names_its_run_which_has_ended_in_the_copy(person: Person):
    """In the log the settlement is followed to its last line; a restored copy has no run that looks killed."""
    person.at("2024-11-05", 20).types("run")
    person.at("2024-11-05", -20).types("settle")
    lines = [json.loads(line) for line in (person.folder / "logs" / FILE).read_text().splitlines()]
    [(settled,)] = person.sql("SELECT id FROM runs WHERE step = 'settle'")
    [copy] = (person.folder / "backups").iterdir()
    with closing(sqlite3.connect(copy)) as db:
        ended = db.execute("SELECT step, ended_at IS NOT NULL FROM runs").fetchall()

    assert [settled] == [line["run"] for line in lines if line["message"].startswith("backed up")]
    assert [("decide", 1), ("settle", 1)] == ended


def test_a_backup_that_cannot_be_made_is_told_and_the_session_is_settled(person: Person, web: Received):
    (person.folder / "backups").write_text("no folder")
    person.at("2024-11-05", 20)
    codes = cron(person, 60, every=5)

    assert {0} == set(codes)
    assert [(1,)] == person.sql("SELECT settled FROM sessions")
    assert [True] == [
        "The nightly backup failed" in text for title, text in web.messages if title.endswith("run_failed and 1 more")
    ]


def test_the_last_session_replays_from_last_nights_backup(person: Person):
    """The disk dies; the newest backup comes back, and decides again what was decided."""
    person.at("2024-11-05", 20)
    lived = person.types("run --if-due --json").document["result"]
    person.at("2024-11-05", -20)
    person.types("run --if-due")
    [backup] = (person.folder / "backups").iterdir()
    person.database.write_bytes(b"rubbish" * 1000)
    damaged = person.types("status").exit_code
    restored = person.types(f"db restore {backup}")
    replayed = person.types("run --date 2024-11-05 --dry-run --json").document
    sound = person.types("db check")
    keys = ("close", "ma_50", "rsi", "atr", "volume", "vix", "exit_reasons", "action", "shares", "reason")

    assert (7, 0, 0) == (damaged, restored.exit_code, sound.exit_code), sound.out
    assert {key: lived[key] for key in keys} == {key: replayed[key] for key in keys}
    assert [("filled",)] == person.sql("SELECT status FROM order_intent")


def test_a_machine_off_for_ten_sessions_tells_them_in_one_message_and_looks_after_its_position_first(
    person: Person, web: Received
):
    """It goes down with shares held, and comes back in the middle of a session's last half hour."""
    person.at("2024-11-05", 20)
    cron(person, 45, every=5)
    person.at("2024-11-20", 20)
    codes = cron(person, 180, every=5)
    missed = person.sql("SELECT session FROM sessions WHERE status = 'missed'")

    assert {0} == set(codes)
    assert 10 == len(missed)
    assert [(("2024-11-06",), ("2024-11-19",))] == [(missed[0], missed[-1])]
    assert 1 == sum("Missed: 10 sessions, 2024-11-06 to 2024-11-19" in text for _, text in web.messages)
    assert ["decide", "settle"] == [
        step
        for (step,) in person.sql("SELECT step FROM runs WHERE session >= '2024-11-06' ORDER BY id")
        if step != "evening"
    ]
    assert [("2024-11-05",)] == person.sql("SELECT session FROM order_intent WHERE side = 'BUY'")


# -- what used to stop it ---------------------------------------------------------------------------------------------


def test_an_older_database_is_upgraded_behind_a_backup_by_the_next_minute(person: Person):
    """A new version was installed; nobody types `db upgrade`."""
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import create_engine

    config = Config()
    config.set_main_option("script_location", str(upkeep.migrations_dir()))
    config.set_main_option("path_separator", "os")
    with create_engine(f"sqlite:///{person.database}").begin() as db:
        config.attributes["connection"] = db
        command.upgrade(config, "0001")
    refused = person.types("status").exit_code
    done = person.at("2024-11-05", 20).types("run --if-due --json")

    assert (7, 0, "decide") == (refused, done.exit_code, done.document["step"])
    assert ["0001"] == [re.findall(r"-(\d{4})\.db", file.name)[0] for file in (person.folder / "backups").iterdir()]


# -- a bad day --------------------------------------------------------------------------------------------------------


def broken_settings(person: Person) -> None:
    person.settings("captial = 5000\n")


def damaged_database(person: Person) -> None:
    person.database.write_bytes(b"rubbish" * 1000)


def database_from_the_future(person: Person) -> None:
    with closing(sqlite3.connect(person.database)) as db:
        db.executescript("CREATE TABLE alembic_version (version_num TEXT); INSERT INTO alembic_version VALUES ('9999')")


def log_folder_that_is_none(person: Person) -> None:
    (person.folder / "logs").write_text("no folder")


@pytest.mark.parametrize(
    ("spoil", "exit_code", "words"),
    [
        (broken_settings, 2, "did you mean capital"),
        (damaged_database, 7, "is damaged or not a database"),
        (database_from_the_future, 7, "install the newer mtum-eod"),
        (log_folder_that_is_none, 7, "MTUM_EOD_LOG__DIR"),
    ],
)
def test_what_keeps_every_step_from_beginning_is_told_once_with_its_cure(
    person: Person, web: Received, spoil: object, exit_code: int, words: str
):
    """Cron meets it every minute of the last half hour; no order leaves."""
    spoil(person)  # type: ignore[operator]
    codes = cron(person.at("2024-11-05", 20), 18)

    assert {exit_code} == set(codes)
    assert [("mtum-eod cannot run: run_failed", True)] == [(title, words in text) for title, text in web.messages]
    assert ["fail"] == pings(web)


@pytest.fixture
def full_disk(person: Person) -> Iterator[Path]:
    """A disk for the database on which nothing more fits, once `fill` is called."""
    disk = person.folder.parent / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("this machine does not let the test mount a small disk")
    person.environment["MTUM_EOD_DATABASE__URL"] = str(disk / "book.db")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_full_disk_is_told_once_and_nothing_is_traded(person: Person, web: Received, full_disk: Path):
    cron(person.at("2024-11-05", 120), 1)
    free = os.statvfs(full_disk)
    (full_disk / "filler").write_bytes(b"x" * (free.f_bavail * free.f_frsize))
    codes = cron(person.at("2024-11-05", 20), 18)
    (full_disk / "filler").unlink()
    with closing(sqlite3.connect(full_disk / "book.db")) as db:
        [(orders,)] = db.execute("SELECT count(*) FROM order_intent").fetchall()

    assert ({7}, 0) == (set(codes), orders)
    assert [True] == ["the disk is full" in text for _, text in web.messages if "MiB" not in text], web.messages


def test_preflight_warns_hours_before_that_the_disk_is_filling_up(person: Person, web: Received, full_disk: Path):
    typed = person.at("2024-11-05", 120).types("run --if-due --json")

    assert 7 == typed.exit_code
    assert [True] == [f"MiB are free at {full_disk}, 100 are wanted" in text for _, text in web.messages]


def test_preflight_finds_the_books_out_of_order_hours_before_and_says_so_on_change_only(person: Person, web: Received):
    """Somebody wrote into the file; the next day a preflight fails, and again, until it is put right."""
    cron(person.at("2024-11-05", 20), 60, every=20)
    told_before, found = len(web.messages), []
    for before_close, cash in ((120, "+ 1"), (105, "+ 0"), (90, "- 1")):
        with closing(sqlite3.connect(person.database)) as db, db:
            db.execute(f"UPDATE equity_mark SET cash = cash {cash}")  # noqa: S608
        typed = person.at("2024-11-06", before_close).types("run --if-due --json")
        found.append((typed.exit_code, [check["name"] for check in typed.document["result"] if not check["passed"]]))
    first, last = (text for _, text in web.messages[told_before:])

    assert [(7, ["database"]), (7, ["database"]), (0, [])] == found
    assert first.startswith("Preflight of 2024-11-06 failed: database: equity of 2024-11-05: cash is ")
    assert first.endswith("(`mtum-eod db restore` brings a backup back)")
    assert "Preflight of 2024-11-06 passes now" == last
    assert ["success", "start", "fail", "start", "fail", "start", "success"] == pings(web)[-7:]


def test_preflight_finds_a_damaged_page_hours_before(person: Person, web: Received):
    """The disk lost a page that no step has read since."""
    cron(person.at("2024-11-05", 20), 60, every=20)
    with closing(sqlite3.connect(person.database)) as db:
        [(page,)] = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'owner_act'").fetchall()
        [(size,)] = db.execute("PRAGMA page_size").fetchall()
    with person.database.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"rubbish " * (size // 8))
    told_before = len(web.messages)
    typed = person.at("2024-11-06", 120).types("run --if-due --json")
    found = f"database {person.database} is damaged or not a database (database disk image is malformed)"
    cure = "`mtum-eod db restore` brings a backup back"

    assert 7 == typed.exit_code
    assert [f"Preflight of 2024-11-06 failed: database: {found} ({cure})"] == [
        text for _, text in web.messages[told_before:]
    ]


def test_a_read_only_database_is_told_once(person: Person, web: Received, full_disk: Path):
    cron(person.at("2024-11-05", 120), 1)
    told_before = len(web.messages)
    subprocess.run(["mount", "-o", "remount,ro", full_disk], check=True)
    codes = cron(person.at("2024-11-05", 20), 18)

    assert {7} == set(codes)
    assert 1 == len(web.messages[told_before:])


def test_a_clock_that_went_backwards_trades_no_past_session(person: Person, web: Received):
    """Its battery is dead: after a reboot the machine believes in a session of the week before."""
    person.at("2024-11-12", 20).types("run --if-due")
    codes = cron(person.at("2024-11-05", 20), 18)

    assert {2} == set(codes)
    assert [("2024-11-12",)] == person.sql("SELECT session FROM sessions")
    assert 1 == sum("one of the two is wrong" in text for _, text in web.messages)


def test_without_a_name_server_the_order_goes_out_and_the_message_waits(person: Person, web: Received):
    """Neither the owner's server nor the watchman's has an address any more."""
    person.environment["MTUM_EOD_NOTIFICATIONS__URLS"] = f"json://owner:{PASSWORD}@nowhere.invalid/inbox"
    person.environment["MTUM_EOD_NOTIFICATIONS__HEARTBEAT_URL"] = f"http://nowhere.invalid/{TOKEN}"
    typed = person.at("2024-11-05", 20).types("run --if-due --json")
    waiting = person.sql("SELECT count(*) FROM notice WHERE is_to_send AND sent_at IS NULL")

    assert (0, "working", []) == (typed.exit_code, typed.document["result"]["order"]["status"], web.requests)
    assert [(2,)] == waiting


WITHOUT_ZONES = """
import sys
sys.modules["tzdata"] = None
from mtum_eod.cli import main
main()
"""


def test_a_missing_time_zone_database_is_named(person: Person, web: Received, tmp_path: Path):
    """A slim container: no zones in the system, none in Python."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MTUM_EOD_")}
    environment |= person.environment | {"TMPDIR": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT_ZONES, "run", "--if-due"],
        cwd=tmp_path,
        env=environment | {"PYTHONTZPATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (2, "error: this computer has no time-zone database") == (ended.returncode, ended.stderr[:46]), ended.stderr
    assert "pip install tzdata" in ended.stderr
    assert [True] == ["pip install tzdata" in text for _, text in web.messages]


# -- secrets ----------------------------------------------------------------------------------------------------------


def test_planted_secrets_are_nowhere_after_two_days(person: Person, web: Received):
    """One in the settings file, two in the environment; servers take some messages and refuse others."""
    out = []
    with mail_server() as mail:
        mail.refuses = True
        mailto = f"mailto://owner:{PASSWORD}@127.0.0.1:{mail.port}?from=a@b.example&to=c@d.example"
        del person.environment["MTUM_EOD_NOTIFICATIONS__URLS"]
        person.settings(f'[notifications]\nurls = ["{mailto}", "json://127.0.0.1:{web.port}/inbox/{TOKEN}"]\n')
        (person.folder / "settings.toml").chmod(0o600)
        for session in ("2024-11-05", "2024-11-06"):
            web.refuses = session == "2024-11-06"
            person.at(session, 120)
            for _ in range(28):
                out.append(person.types("run --if-due --json"))
                person.clock.sleep(timedelta(minutes=10))
        looks = ("status", "config show", "config show --json", "doctor", "notify test", "notify test --json")
        looks += ("explain", "export signals", "export tax", "reconcile", "report", "report --html report.html")
        out += [person.types(look) for look in (*looks, "backtest --from 2024-09-03 --html backtest.html", "db backup")]
        person.settings(f'[notifications]\nurls = ["{mailto}"]\ncaptial = "{TOKEN}"\n')
        out += [person.types("run --if-due"), person.types("config check --json")]
    files = [file for file in person.folder.parent.rglob("*") if file.is_file() and file.name != "settings.toml"]
    kept = {file.name: file.read_bytes().decode("utf-8", "replace") for file in files}
    said = "\n".join(text for _, text in web.messages) + "\n".join(typed.out + typed.err for typed in out)

    assert {"mtum-eod.log", "mtum-eod-simulated.db", "report.html", "backtest.html"} <= set(kept)
    assert 3 == sum(file.parent.name == "backups" for file in files)  # of two nights, and the one asked for
    assert [] == [(secret, name) for name, text in kept.items() for secret in SECRETS if secret in text]
    assert [] == [secret for secret in SECRETS if secret in said]


# -- trying the ways --------------------------------------------------------------------------------------------------


def test_notify_test_sends_one_of_each_and_says_what_came_of_it(person: Person, web: Received):
    document = person.types("notify test --json").document
    events = [row["event"] for row in document]

    assert {True} == {row["taken"] for row in document}
    assert ["heartbeat start", "heartbeat fail", "heartbeat success"] == events[-3:]
    assert [f"mtum-eod test: {event}" for event in events[:-3]] == [title for title, _ in web.messages]
    assert ["start", "fail", "success"] == pings(web)
    assert not person.database.exists()


def test_notify_test_says_why_nothing_arrives(person: Person, web: Received):
    web.refuses = True
    typed = person.types("notify test")

    assert 2 == typed.exit_code
    assert 1 == typed.out.count("order_sent")  # the first is enough
    assert "not taken" in typed.out


def test_notify_test_without_an_address_says_which_setting(person: Person):
    typed = person.types("notify test --json")

    assert (2, True) == (typed.exit_code, "MTUM_EOD_NOTIFICATIONS__URLS" in typed.error["hint"])
