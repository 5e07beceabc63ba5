"""Looking leaves no trace: not on the disk, not on a disk that cannot be written, not while another process writes."""

import hashlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from shutil import copyfile
from typing import Any

import pytest
from terminal import Person

LOOKS = [
    "run --date 2024-11-05 --dry-run",
    "run --date 2024-11-04 --dry-run --json",
    "run --date 2024-11-05 --dry-run --with-current-settings",
    "run --dry-run --date 2024-11-05 --position 19@204.10 --entry-atr 2.5",
    "explain",
    "explain --date 2024-11-04 --json",
    "status",
    "status --json",
    "config show",
    "config check",
    "data check --from 2024-01-02",
    "data show --last 5",
    "export trades",
    "export signals --format json",
    "doctor --full --place-test-order",
    "db check",
]
FEW = ["run --date 2024-11-05 --dry-run", "explain", "status", "data show", "export trades", "db check"]


def traces(folder: Path) -> dict[str, Any]:
    """All that a look could have changed below a folder: names, contents, sizes, times of files and folders."""
    found: dict[str, Any] = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        status = path.stat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path.relative_to(folder))] = (content, status.st_size, status.st_mtime_ns, status.st_ino)
    return found


@pytest.fixture
def book(person: Person) -> Person:
    """A bought position and a settled session; the morning after."""
    person.settings("")
    person.types("run --date 2024-11-05")
    person.types("settle")
    return person


@pytest.mark.parametrize("look", LOOKS)
def test_a_look_changes_nothing(book: Person, look: str):
    before = traces(book.folder.parent)
    typed = book.types(look)

    assert (0, before) == (typed.exit_code, traces(book.folder.parent)), typed.err


@pytest.mark.parametrize("look", [look for look in FEW if not look.startswith(("export", "db"))])
def test_a_look_makes_no_database(person: Person, look: str):
    person.at("2024-11-05", 20)
    before = traces(person.folder.parent)
    look = look.replace("2024-11-05", "2024-11-04")
    typed = person.types(look)

    assert (0, before) == (typed.exit_code, traces(person.folder.parent)), typed.err


def test_a_preview_before_the_close_changes_nothing(book: Person):
    before = traces(book.folder.parent)
    typed = book.at("2024-11-06", 20).types("run --dry-run --json")

    assert (0, "same_time", True) == (typed.exit_code, typed.document["volume_basis"], typed.document["dry_run"])
    assert before == traces(book.folder.parent)


def test_a_preview_before_the_open_says_what_is_missing_and_changes_nothing(book: Person):
    before = traces(book.folder.parent)
    typed = book.types("run --dry-run --json")

    assert (3, "data", "2024-11-06") == (typed.exit_code, typed.document["blocked_by"], typed.document["session"])
    assert before == traces(book.folder.parent)


def test_what_is_due_is_told_without_a_trace_when_nothing_is(book: Person):
    before = traces(book.folder.parent)
    typed = book.types("run --if-due")

    assert (0, "nothing is due; next: preflight of 2024-11-06, 2024-11-06 14:00 New York\n") == (
        typed.exit_code,
        typed.out,
    )
    assert before == traces(book.folder.parent)


LEAVE_WAL = """
import os, signal, sys
from datetime import UTC, date, datetime
from pathlib import Path
from mtum_eod.adapters.store import open_store
from mtum_eod.core.trading import CashFlow, CashKind
store = open_store(Path(sys.argv[1]))
flow = CashFlow(kind=CashKind.DEPOSIT, amount_usd=250.0, session=date(2024, 11, 6))
store.add_cash_flow(flow, datetime(2024, 11, 5, tzinfo=UTC))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("look", FEW)
def test_a_log_left_by_a_killed_process_is_read_and_left(book: Person, look: str):
    """A deposit is committed in the write-ahead log alone; the file itself does not have it yet."""
    subprocess.run([sys.executable, "-c", LEAVE_WAL, book.database], check=False)
    before = traces(book.folder.parent)
    typed = book.types(look)
    status = book.types("status --json").document

    assert book.database.with_name(book.database.name + "-wal").stat().st_size > 0
    assert (0, before) == (typed.exit_code, traces(book.folder.parent)), typed.err
    assert 5250.0 == status["sizing_equity"]


@pytest.fixture
def read_only(book: Person) -> Iterator[Person]:
    """The whole folder on a disk that cannot be written."""
    disk = book.folder.parent / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("this machine does not let the test mount a disk")
    for file in book.folder.iterdir():
        if file.is_file():
            copyfile(file, disk / file.name)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    here = Path.cwd()
    os.chdir(disk)
    yield Person(disk, book.clock, book.environment)
    os.chdir(here)
    subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.parametrize("look", FEW)
def test_a_disk_that_cannot_be_written_can_be_looked_at(read_only: Person, look: str):
    typed = read_only.types(look)

    assert 0 == typed.exit_code, typed.err


@pytest.mark.parametrize("look", FEW)
def test_a_look_does_not_wait_for_another_programs_transaction(book: Person, look: str):
    other = sqlite3.connect(book.database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    other.execute("UPDATE session SET why = 'half done'")
    before = traces(book.folder.parent)
    typed = book.types(look)
    after = traces(book.folder.parent)
    other.execute("ROLLBACK")
    other.close()

    assert (0, before, False) == (typed.exit_code, after, "half done" in typed.out), typed.err


WRITE_ON = """
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from mtum_eod.adapters.store import open_store
from mtum_eod.core.trading import CashFlow, CashKind
store = open_store(Path(sys.argv[1]))
while True:
    flow = CashFlow(kind=CashKind.DEPOSIT, amount_usd=1.0, session=date(2024, 11, 5))
    with store.transaction():
        store.add_cash_flow(flow, datetime(2024, 11, 5, tzinfo=UTC))
        store.add_cash_flow(flow, datetime(2024, 11, 5, tzinfo=UTC))
    print(flush=True)
"""


def test_looks_while_another_process_writes_on_and_on_are_whole(book: Person):
    """Two dollars come with each transaction; nobody ever sees one of them alone."""
    with subprocess.Popen([sys.executable, "-c", WRITE_ON, book.database], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        seen = [book.types("status --json") for _ in range(8)]
        replayed = book.types("run --date 2024-11-05 --dry-run")
        writer.kill()

    paid_in = [typed.document["sizing_equity"] - 5000.0 for typed in seen]
    assert {0} == {typed.exit_code for typed in (*seen, replayed)}
    assert {0.0} == {amount % 2 for amount in paid_in}
    assert len(set(paid_in)) > 1
