"""Bad input, as it arrives: each with its message and its exit code, and nothing lost.

Every case is typed with `--json`: the failure is one document on standard output, and words on standard error.
"""

import hashlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import rmtree

import pytest
from terminal import CsvFiles, Person, Typed

DECIDE = "run --date 2024-11-05 --json"
REPLAY = "run --date 2024-11-05 --dry-run --json"


def refused(typed: Typed, exit_code: int, code: str, *words: str) -> bool:
    """The failure is told alike to a program and to a person, with a hint; exit code and words as expected."""
    error = typed.error
    assert (exit_code, code) == (typed.exit_code, error["code"])
    assert error["hint"]
    for word in words:
        assert word in error["message"] + " | " + error["hint"]
    return error["message"] in typed.err and error["hint"] in typed.err


# -- settings and arguments -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("captial = 5000", ("captial", "capital")),
        ("[strategy]\nma_perod = 50", ("ma_perod", "ma_period")),
        ("[stratgy]\nma_period = 50", ("stratgy", "strategy")),
        ("[strategy]\nma_period = 'fifty'", ("strategy.ma_period", '"fifty"', "a whole number, at least 2")),
        ("capital = -5000", ("capital", "-5000", "above 0")),
        ("[risk]\nmax_position_pct = 150", ("risk.max_position_pct", "150", "No margin")),
        ("[strategy]\nvix_entry_threshold = 35", ("strategy.vix_entry_threshold", "strategy.vix_exit_threshold")),
        ("[strategy]\nrsi_exit_threshold = 60", ("strategy.rsi_exit_threshold", "strategy.rsi_entry_threshold")),
        ("[strategy]\nhistory_bars = 299", ("strategy.history_bars", "299", "300")),
        ("[schedule]\nhard_stop = 30", ("schedule.hard_stop", "schedule.decide")),
        ("[strategy\nma_period = 50", ("not valid TOML",)),
        ("mode = 'simu", ("not valid TOML",)),
        ("check_interval = 60", ("check_interval", "schedule")),
        ("[data]\nsource = 'csv'", ("data.csv_dir",)),
        ("mode = 'live'", ("mode",)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_settings_that_cannot_be_used_stop_everything_first(person: Person, text: str, words: tuple[str, ...]):
    person.settings(text + "\n")

    assert refused(person.types(DECIDE), 2, "settings", *words)
    assert ["settings.toml"] == [file.name for file in person.folder.iterdir()]


def test_all_that_is_wrong_is_told_at_once(person: Person):
    person.settings("captial = 5000\n[risk]\nmax_daily_loss = 0\n")
    person.environment["MTUM_EOD_STRATEGY__RSI_PERIOD"] = "x"
    message = person.types(DECIDE).error["message"]

    assert [True, True, True] == [word in message for word in ("captial", "risk.max_daily_loss", "RSI_PERIOD")]


def test_a_settings_file_that_is_not_there_is_named(person: Person):
    assert refused(person.types("--config other.toml " + DECIDE), 2, "settings", "other.toml", "no such settings file")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("run --date 5.11.2024 --json", ("'5.11.2024' is no date", "2024-11-05")),
        ("run --date 2024-11-09 --json", ("Saturday 2024-11-09", "2024-11-08 and 2024-11-11")),
        ("run --date 2024-11-28 --json", ("Thursday 2024-11-28", "2024-11-27 and 2024-11-29")),
        ("run --date 2024-11-09 --dry-run --json", ("Saturday 2024-11-09", "2024-11-08 and 2024-11-11")),
        ("run --date 2024-11-07 --json", ("2024-11-07 has not begun", "2024-11-05")),
        ("run --date 2024-11-06 --dry-run --json", ("2024-11-06 has not begun", "2024-11-05")),
        ("run --date 2010-06-02 --dry-run --json", ("2010-06-02", "2012-01-03")),
        ("run --date 2031-06-02 --dry-run --json", ("2031-06-02", "2026-11-06")),
        ("explain --date 2024-11-09 --json", ("Saturday 2024-11-09",)),
        ("data show --date 2024-12-25 --json", ("Wednesday 2024-12-25",)),
        ("run --if-due --dry-run --json", ("--if-due goes alone",)),
        ("run --from 2024-01-02 --json", ("--from and --to go together",)),
        ("run --from 2024-01-02 --to 2024-01-05 --dry-run --json", ("--from/--to take neither",)),
        ("run --from 2024-01-05 --to 2024-01-02 --json", ("no session lies between", "--from is the earlier date")),
        ("run --from 2024-01-02 --to 2024-12-31 --json", ("2024-12-31", "--to 2024-11-05")),
        ("run --position 19@204.10 --json", ("--position goes with --dry-run",)),
        ("run --dry-run --position 19@204.10 --json", ("--position and --entry-atr go together",)),
        ("run --dry-run --position 0@204.10 --entry-atr 2 --json", ("must be above zero",)),
        ("run --dry-run --position nineteen --entry-atr 2 --json", ("not SHARES@PRICE",)),
        ("run --dry-run --position 19@nan --entry-atr 2 --json", ("must be above zero",)),
        ("run --with-current-settings --json", ("--with-current-settings goes with --dry-run",)),
        ("run --date 2024-11-05 --paper --json", ('mode = "paper"', "simulated")),
        ("run --dryrun --json", ("--dryrun", "--dry-run")),
        ("doctor --go-live --full --json", ("--go-live goes alone", "mtum-eod doctor --help")),
        ("backtest --audit --fill next-open --json", ("--audit looks at decisions", "mtum-eod backtest --help")),
        ("sweep --json", ("nothing to vary", "mtum-eod sweep --help")),
        ("reconcile --leave 1 --adopt 1@100 --json", ("go one at a time", "mtum-eod reconcile --help")),
        ("cash add deposit -5 --json", ("-5",)),
        ("cash add deposit 100 --json", ("no book yet", "capital")),
        ("data check --from 2024-11-05 --to 2024-11-01 --json", ("empty", "--from is the earlier date")),
    ],
)
def test_arguments_that_cannot_be_acted_on_are_refused_and_leave_nothing_behind(
    person: Person, command: str, words: tuple[str, ...]
):
    assert refused(person.types(command), 2, "settings", *words)
    assert not person.database.exists() or [] == person.sql("SELECT * FROM session")


@pytest.mark.parametrize(("command", "is_dry_run"), [("run", False), ("run --dry-run", True)])
def test_a_run_on_a_day_off_has_nothing_to_do(person: Person, command: str, is_dry_run: bool):
    """Typed on a Saturday, without a date: no mistake, and nothing due. Only a dry run is called one."""
    person.clock.set(person.clock.now().replace(day=9))
    typed = person.types(f"{command} --json")

    assert (0, "HOLD", "not_a_session", is_dry_run) == (
        typed.exit_code,
        typed.document["action"],
        typed.document["blocked_by"],
        typed.document["dry_run"],
    )
    assert is_dry_run == ("dry run" in person.types(command).out)
    assert "the next is Monday 2024-11-11" in typed.document["reason"]


# -- market data ------------------------------------------------------------------------------------------------------


def no_volume_column(files: CsvFiles) -> None:
    files.mtum = [row.rpartition(",")[0] for row in files.mtum]
    files.write(header="Date,Open,High,Low,Close,Adj Close")


def no_date_column(files: CsvFiles) -> None:
    files.write(header=files.HEADER.replace("Date", "Day"))


def empty_file(files: CsvFiles) -> None:
    (files.folder / "MTUM.csv").write_bytes(b"")


def header_alone(files: CsvFiles) -> None:
    files.mtum = []
    files.write()


def folder_instead(files: CsvFiles) -> None:
    (files.folder / "MTUM.csv").unlink()
    (files.folder / "MTUM.csv").mkdir()


def absent_file(files: CsvFiles) -> None:
    (files.folder / "MTUM.csv").unlink()


def absent_folder(files: CsvFiles) -> None:
    rmtree(files.folder)


def not_text(files: CsvFiles) -> None:
    (files.folder / "MTUM.csv").write_bytes(b"\xff\xfe\x00PK\x03\x04")


def a_web_page(files: CsvFiles) -> None:
    (files.folder / "MTUM.csv").write_text("<html><body>Too many requests</body></html>\n")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (no_volume_column, ("MTUM.csv has no column volume",)),
        (no_date_column, ("MTUM.csv has no column date",)),
        (empty_file, ("MTUM.csv is empty",)),
        (header_alone, ("MTUM.csv has no row",)),
        (folder_instead, ("MTUM.csv is a folder",)),
        (absent_file, ("no file", "MTUM.csv", "data.csv_dir")),
        (absent_folder, ("no file", "data.csv_dir")),
        (not_text, ("MTUM.csv is not UTF-8 text",)),
        (a_web_page, ("MTUM.csv has no column",)),
    ],
)
@pytest.mark.parametrize("command", [DECIDE, REPLAY])
def test_a_file_that_is_no_table_of_bars_is_named(
    person: Person, spoil: Callable[[CsvFiles], None], words: tuple[str, ...], command: str
):
    spoil(person.csv())

    assert refused(person.types(command), 3, "market_data", "MTUM", *words)


def set_row(files: CsvFiles, place: int, column: int, value: str) -> None:
    cells = files.mtum[place].split(",")
    cells[column] = value
    files.mtum[place] = ",".join(cells)


def missing_session(files: CsvFiles) -> None:
    del files.mtum[-30]


def text_in_a_close(files: CsvFiles) -> None:
    set_row(files, -30, 4, "n/a")


def high_below_low(files: CsvFiles) -> None:
    set_row(files, -30, 2, "1.00")


def zero_price(files: CsvFiles) -> None:
    for column in (1, 2, 3, 4):
        set_row(files, -30, column, "0")


def row_twice_that_differs(files: CsvFiles) -> None:
    files.mtum.append(files.mtum[-30])
    set_row(files, -1, 4, files.mtum[-30].split(",")[2])


def old_last_bar(files: CsvFiles) -> None:
    del files.mtum[-3:]


def close_not_read(files: CsvFiles) -> None:
    set_row(files, -1, 4, "-")


def vix_too_short(files: CsvFiles) -> None:
    del files.vix[-1]


def history_too_short(files: CsvFiles) -> None:
    files.mtum = files.mtum[-299:]


HOLE = "2024-09-25"  # 30 sessions back, the last one included


@pytest.mark.parametrize(
    ("spoil", "finding"),
    [
        (missing_session, f"MTUM {HOLE}: no bar inside the window"),
        (text_in_a_close, f"MTUM {HOLE}: close is 'n/a', not a number (MTUM.csv line 292)"),
        (high_below_low, f"MTUM {HOLE}: high 1,"),
        (zero_price, f"MTUM {HOLE}: high 0, low 0, close 0, prices above 0 expected"),
        (row_twice_that_differs, f"MTUM {HOLE}: twice, with close"),
        (old_last_bar, "MTUM 2024-11-05: no bar; the newest is of 2024-10-31"),
        (close_not_read, "MTUM 2024-11-05: close is '-', not a number"),
        (vix_too_short, "VIX 2024-11-05: no bar; the newest is of 2024-11-04"),
        (history_too_short, "MTUM 2024-11-05: insufficient history: 299 sessions up to 2024-11-05, 300 needed"),
    ],
)
@pytest.mark.parametrize("command", [DECIDE, REPLAY])
def test_bars_that_cannot_be_decided_on_hold_and_say_why(
    person: Person, spoil: Callable[[CsvFiles], None], finding: str, command: str
):
    files = person.csv()
    spoil(files)
    files.write()
    typed = person.types(command)

    assert (3, "HOLD", "data", None) == (
        typed.exit_code,
        typed.document["action"],
        typed.document["blocked_by"],
        typed.document["order"],
    )
    assert [] != [warning for warning in typed.document["warnings"] if warning.startswith(finding)]


def shuffled(files: CsvFiles) -> None:
    files.mtum[10], files.mtum[200] = files.mtum[200], files.mtum[10]
    files.write()


def twice_the_same(files: CsvFiles) -> None:
    files.mtum.append(files.mtum[-30])
    files.write()


def weekend_row(files: CsvFiles) -> None:
    files.mtum.append(files.mtum[-30].replace(HOLE, "2024-09-28"))
    files.write()


def zero_volume(files: CsvFiles) -> None:
    set_row(files, -30, 6, "0")
    files.write()


def zoned_dates(files: CsvFiles) -> None:
    files.mtum = [row.replace(",", " 00:00:00-05:00,", 1) for row in files.mtum]
    files.write()


def bom_and_crlf(files: CsvFiles) -> None:
    files.write(end="\r\n", bom="\ufeff")


def other_header(files: CsvFiles) -> None:
    files.write(header=files.HEADER.upper())


def blank_lines(files: CsvFiles) -> None:
    files.mtum.insert(100, "")
    files.mtum.append("")
    files.write()


@pytest.mark.parametrize(
    ("spoil", "finding"),
    [
        (shuffled, "MTUM: rows out of order"),
        (twice_the_same, f"MTUM {HOLE}: twice, identical"),
        (weekend_row, "MTUM 2024-09-28: a row on a day without a session"),
        (zero_volume, f"MTUM {HOLE}: volume 0"),
        (zoned_dates, None),
        (bom_and_crlf, None),
        (other_header, None),
        (blank_lines, None),
    ],
)
def test_what_can_be_repaired_is_named_and_changes_no_decision(
    person: Person, spoil: Callable[[CsvFiles], None], finding: str | None
):
    files = person.csv()
    clean = person.types(REPLAY).document
    spoil(files)
    typed = person.types(REPLAY)
    keys = ("close", "ma_50", "rsi", "atr", "volume", "vix", "action", "shares", "blocked_by")

    assert (0, "BUY") == (typed.exit_code, clean["action"])
    assert {key: clean[key] for key in keys} == {key: typed.document[key] for key in keys}
    assert (finding is None) == (typed.document["warnings"] == clean["warnings"])
    if finding:
        assert [] != [warning for warning in typed.document["warnings"] if warning.startswith(finding)]


def test_data_check_names_the_faults_and_its_exit_code_their_weight(person: Person):
    files = person.csv()
    sound = person.types("data check --json")
    weekend_row(files)
    odd = person.types("data check --json")
    missing_session(files)
    files.write()
    fatal = person.types("data check --json")

    assert [0, 0, 3] == [typed.exit_code for typed in (sound, odd, fatal)]
    kinds = [[finding["kind"] for finding in typed.document["symbols"][0]["findings"]] for typed in (odd, fatal)]
    assert [["disorder", "no_session"], ["disorder", "no_session", "session_missing"]] == kinds
    assert {"MTUM.csv", "VIX.csv"} == {file.name for file in files.folder.iterdir()}


def test_a_range_without_a_bar_is_named(person: Person):
    typed = person.types("data check --from 2012-02-01 --to 2012-02-29 --json")

    assert refused(typed, 3, "market_data", "MTUM: sample has no bar from 2012-02-01 to 2012-02-29")


# -- the database -----------------------------------------------------------------------------------------------------


@pytest.fixture
def traded(person: Person) -> Person:
    """A book with a decided and settled session in it."""
    person.types(DECIDE)
    person.types("settle")
    return person


def digest(person: Person) -> str:
    """The file's content; of its header only the part that is not the journal's."""
    content = person.database.read_bytes()
    return hashlib.sha256(content[:18] + content[100:]).hexdigest()


def another_capital(person: Person) -> None:
    person.environment["MTUM_EOD_CAPITAL"] = "9000"


def real_data_now(person: Person) -> None:
    person.csv()


def another_symbol(person: Person) -> None:
    person.environment["MTUM_EOD_SYMBOL"] = "SPMO"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (real_data_now, ("belongs to simulated / SIMULATED / MTUM on synthetic data", "MTUM_EOD_DATABASE__URL=")),
        (another_symbol, ("the settings ask for simulated / SIMULATED / SPMO", "MTUM_EOD_DATABASE__URL=")),
        (another_capital, ("capital = 9000", "traded on 5000", "mtum-eod cash add deposit")),
    ],
)
@pytest.mark.parametrize("command", [DECIDE, REPLAY, "status --json", "settle --json", "halt --why x --json"])
def test_another_books_database_is_refused_and_left_alone(
    traded: Person, change: Callable[[Person], None], words: tuple[str, ...], command: str
):
    change(traded)
    before = digest(traded)

    assert refused(traded.types(command), 2, "settings", *words)
    assert before == digest(traded)


@pytest.mark.parametrize("first", ["data import --from 2024-01-02 --to 2024-11-04", "halt --why x", "settle"])
def test_the_first_write_of_whatever_command_makes_a_database_one_books(person: Person, first: str):
    """Made-up bars imported, and the real ones decided on in the same file: one would be read for the other."""
    written = person.types(first).exit_code
    person.csv()
    before = digest(person)

    words = ("belongs to simulated / SIMULATED / MTUM on synthetic data", "MTUM_EOD_DATABASE__URL=")
    assert refused(person.types(DECIDE), 2, "settings", *words)
    assert (0, before) == (written, digest(person))


def from_a_newer_version(person: Person) -> None:
    with sqlite3.connect(person.database) as db:
        db.execute("UPDATE alembic_version SET version_num = '9999'")
    db.close()


def truncated(person: Person) -> None:
    os.truncate(person.database, person.database.stat().st_size // 2)


def a_text_file(person: Person) -> None:
    person.database.write_text("session,open\n" * 500)


def of_another_program(person: Person) -> None:
    person.database.unlink()
    with sqlite3.connect(person.database) as db:
        db.execute("CREATE TABLE recipe (name TEXT)")
    db.close()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (from_a_newer_version, ("schema revision 9999", "install the newer mtum-eod")),
        (truncated, ("is damaged", "mtum-eod db restore")),
        (a_text_file, ("is damaged or not a database", "mtum-eod db restore")),
        (of_another_program, ("belongs to another program", "MTUM_EOD_DATABASE__URL")),
    ],
)
@pytest.mark.parametrize("command", [DECIDE, REPLAY, "status --json", "export trades", "run --if-due --json"])
def test_a_database_that_cannot_be_used_is_refused_and_left_alone(
    traded: Person, spoil: Callable[[Person], None], words: tuple[str, ...], command: str
):
    spoil(traded)
    before = digest(traded)
    typed = traded.types(command)

    assert 7 == typed.exit_code
    assert [] == [word for word in (str(traded.database), *words) if word not in typed.err]
    assert before == digest(traded)


def test_a_database_locked_by_another_program_is_waited_for_and_named(traded: Person):
    other = sqlite3.connect(traded.database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    locked = traded.types("halt --why x --json")
    other.execute("ROLLBACK")
    other.close()

    assert refused(locked, 7, "store", "is locked by another program", "close what else has it open")
    assert (0, []) == (traded.types("db check").exit_code, traded.sql("SELECT * FROM halt"))


HOLDER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from mtum_eod.adapters.clock import SessionClock
from mtum_eod.adapters.lock import DatabaseLock
with DatabaseLock(Path(sys.argv[1]), SessionClock(datetime(2024, 11, 5, 20, 40, tzinfo=UTC))).hold():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def another_run(person: Person) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the database's lock."""
    command = [sys.executable, "-c", HOLDER, str(person.database)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.communicate()


@pytest.mark.parametrize("command", [DECIDE, "settle --json", "cash add deposit 5 --json", "db upgrade --json"])
def test_a_second_run_names_the_first(person: Person, another_run: subprocess.Popen[str], command: str):
    said = f"pid {another_run.pid} since 2024-11-05 20:40:00 UTC"

    assert refused(person.types(command), 6, "already_running", "another run holds the lock", said)


def test_cron_finds_the_lock_held_and_goes_home(person: Person, another_run: subprocess.Popen[str]):
    person.at("2024-11-05", 20)
    typed = person.types("run --if-due")

    assert (0, True) == (typed.exit_code, f"pid {another_run.pid}" in typed.out + typed.err)


def test_a_halt_waits_for_no_run(person: Person, another_run: subprocess.Popen[str]):
    assert another_run.poll() is None
    assert 0 == person.types("halt --why fire").exit_code


@pytest.fixture
def small_disk(person: Person) -> Iterator[Path]:
    """A disk of 2 MiB for the database."""
    disk = person.folder.parent / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("this machine does not let the test mount a small disk")
    person.environment["MTUM_EOD_DATABASE__URL"] = str(disk / "book.db")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_full_disk_stops_the_run_and_loses_nothing(person: Person, small_disk: Path):
    person.types(DECIDE)
    person.types("settle")
    free = os.statvfs(small_disk)
    (small_disk / "filler").write_bytes(b"x" * (free.f_bavail * free.f_frsize - 81_920))
    full = person.types("data import --json")
    (small_disk / "filler").unlink()
    after = [person.types(command).exit_code for command in ("db check", "data import")]

    assert refused(full, 7, "store", "disk is full", "free space")
    assert [0, 0] == after


@pytest.mark.parametrize("command", [DECIDE, "settle --json", "halt --why x --json", "resume --json"])
def test_a_read_only_database_is_refused_where_something_would_be_written(
    person: Person, small_disk: Path, command: str
):
    person.types(DECIDE)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    typed = person.types(command)

    assert (7, "store") == (typed.exit_code, typed.error["code"])
    assert str(small_disk / "book.db") in typed.error["message"]


def test_a_log_folder_that_cannot_be_written_stops_a_run_before_it_begins(person: Person):
    (person.folder / "logs").write_text("no folder")

    assert refused(person.types(DECIDE), 7, "store", "log folder", "MTUM_EOD_LOG__DIR")
    assert not person.database.exists() or [] == person.sql("SELECT * FROM session")
