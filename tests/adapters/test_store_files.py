"""The store and its file: creation, crashes, damage, other people's locks and disks, and reading without a trace."""

import hashlib
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from book_by_hand import BOOK, at, day, fill, recording, write_book

from mtum_eod.adapters.no_history import NoHistory
from mtum_eod.adapters.store import open_reader, open_store
from mtum_eod.core.trading import SessionStatus, Side, Step
from mtum_eod.errors import StoreError
from mtum_eod.ports import SessionRow

SHORT = timedelta(milliseconds=200)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "book.db"


@pytest.fixture
def written(path: Path) -> Path:
    """A database with the story of book_by_hand in it, closed."""
    store = open_store(path)
    write_book(store)
    store.close()
    return path


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("this machine does not let the test mount a small disk")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def sql(path: Path, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    db = sqlite3.connect(path)
    try:
        with db:
            return db.execute(statement, values).fetchall()
    finally:
        db.close()


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def traces(folder: Path) -> dict[str, Any]:
    """All that a look could have changed: names, contents, sizes, times, the folder's own too."""
    found: dict[str, Any] = {".": folder.stat().st_mtime_ns}
    for file in folder.iterdir():
        status = file.stat()
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        found[file.name] = (digest, status.st_size, status.st_mtime_ns, status.st_ino)
    return found


def leave_wal(path: Path, *, with_shm: bool) -> None:
    """A process commits one more execution and is killed: the commit is in the WAL alone."""
    script = (
        "import os, signal, sys; from pathlib import Path; sys.path.insert(0, sys.argv[2])\n"
        "from book_by_hand import fill; from mtum_eod.adapters.store import open_store\n"
        "from mtum_eod.core.trading import Side\n"
        "store = open_store(Path(sys.argv[1])); store.add_fills([fill('01-17', Side.SELL, 10, 108.0, 1.08)])\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run([sys.executable, "-c", script, path, Path(__file__).parents[1]])
    assert -signal.SIGKILL == ended.returncode
    if not with_shm:
        path.with_name(f"{path.name}-shm").unlink()


# -- a new database ---------------------------------------------------------------------------------------------------


def test_a_new_database_is_made_in_a_new_folder_for_its_owners_eyes_only(tmp_path: Path):
    path = tmp_path / "new" / "book.db"
    before = os.umask(0)
    try:
        store = open_store(path)
        store.start_run(Step.DECIDE, None, at("01-03"))
        modes = {file.name: mode_of(file) for file in path.parent.iterdir()}
        store.close()
    finally:
        os.umask(before)

    assert {"book.db": 0o600, "book.db-wal": 0o600, "book.db-shm": 0o600} == modes


def test_writes_are_synced_to_a_wal_with_foreign_keys_held(path: Path):
    store = open_store(path)
    with store.writing() as db:
        pragmas = [
            db.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    with pytest.raises(StoreError):
        store.record(recording(99, "01-03"))  # no such run
    store.close()

    assert ["wal", 2, 1] == pragmas


def test_a_creation_that_died_is_done_again(path: Path):
    path.touch()
    empty = open_reader(path)
    store = open_store(path)
    rows = store.ledger()
    store.close()

    assert (True, []) == (isinstance(empty, NoHistory), rows)


def test_the_ordinary_path_imports_no_alembic_and_no_orm(written: Path):
    script = (
        "import sys; from pathlib import Path; from mtum_eod.adapters.store import open_store, open_reader\n"
        "open_store(Path(sys.argv[1])).close(); open_reader(Path(sys.argv[1])).close()\n"
        "print([name for name in ('alembic', 'sqlalchemy.orm') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", script, written], capture_output=True, text=True, check=True)

    assert "[]" == ended.stdout.strip()


# -- crashes ----------------------------------------------------------------------------------------------------------


def test_a_process_killed_inside_a_transaction_leaves_nothing_of_it(written: Path):
    script = (
        "import os, signal, sys; from pathlib import Path; sys.path.insert(0, sys.argv[2])\n"
        "from book_by_hand import at, fill, intent, recording; from mtum_eod.adapters.store import open_store\n"
        "from mtum_eod.core.trading import Side, Step\n"
        "store = open_store(Path(sys.argv[1])); run = store.start_run(Step.DECIDE, None, at('01-17'))\n"
        "with store.transaction():\n"
        "    store.record(recording(run, '01-17', intent=intent('01-17', Side.SELL, 10)))\n"
        "    store.add_fills([fill('01-17', Side.SELL, 10, 108.0, 1.08)])\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script, written, Path(__file__).parents[1]])

    counts = "SELECT (SELECT count(*) FROM run WHERE ended_at IS NULL), (SELECT max(session) FROM session), "
    counts += "(SELECT max(session) FROM order_intent), (SELECT max(session) FROM execution)"
    assert [(1, "2024-01-16", "2024-01-16", "2024-01-16")] == sql(written, counts)


def test_what_a_killed_process_had_committed_is_there(written: Path):
    leave_wal(written, with_shm=True)
    store = open_store(written)
    fills = store.fills()
    store.close()

    assert (7, day("01-17")) == (len(fills), fills[-1].session)


# -- refusals ---------------------------------------------------------------------------------------------------------


def spoil_truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def spoil_text(path: Path) -> None:
    path.write_text("session,open,high,low,close\n" * 200)


def spoil_revision(path: Path) -> None:
    sql(path, "UPDATE alembic_version SET version_num = '9999'")


def spoil_owner(path: Path) -> None:
    path.unlink()
    sql(path, "CREATE TABLE recipe (name TEXT)")


def spoil_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "found", "cure"),
    [
        (spoil_truncate, "is damaged", "mtum-eod db restore"),
        (spoil_text, "is damaged or not a database", "mtum-eod db restore"),
        (spoil_revision, "has schema revision 9999, this program knows up to 0004", "install the newer mtum-eod"),
        (spoil_owner, "belongs to another program", "MTUM_EOD_DATABASE__URL"),
        (spoil_folder, "is a folder", "MTUM_EOD_DATABASE__URL"),
    ],
)
@pytest.mark.parametrize("door", [open_store, open_reader])
def test_a_file_that_cannot_be_used_is_refused_with_its_name_and_the_cure(
    written: Path, spoil: Any, found: str, cure: str, door: Any
):
    spoil(written)

    with pytest.raises(StoreError) as refused:
        door(written).bars("MTUM", day("01-01"), day("01-31"))

    assert 7 == refused.value.exit_code
    assert str(written) in refused.value.message
    assert found in refused.value.message
    assert cure in refused.value.hint


def test_a_lock_is_waited_for_and_then_named(written: Path):
    other = sqlite3.connect(written, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store = open_store(written, patience=SHORT)
    start = time.monotonic()
    with pytest.raises(StoreError, match="is locked by another program"):
        store.start_run(Step.DECIDE, None, at("01-17"))
    waited = time.monotonic() - start
    other.execute("ROLLBACK")
    store.start_run(Step.DECIDE, None, at("01-17"))
    store.close()
    other.close()

    assert SHORT.total_seconds() <= waited < 3


def test_a_full_disk_is_named_and_what_was_written_before_stays(small_disk: Path):
    path = small_disk / "book.db"
    store = open_store(path)
    run_id = store.start_run(Step.DECIDE, day("01-03"), at("01-03"))
    big = recording(run_id, "01-03", inputs={"filler": "x" * 2_000_000})
    with pytest.raises(StoreError, match="disk is full") as refused:
        store.record(big)
    after = (store.ledger(), [run.id for run in store.runs(5)])
    store.record(recording(run_id, "01-03"))
    rows = store.ledger()
    store.close()

    assert (([], [run_id]), [SessionRow(session=day("01-03"), status=SessionStatus.DECIDED)]) == (after, rows)
    assert "free space" in refused.value.hint


def test_a_creation_on_a_full_disk_can_be_repeated(small_disk: Path):
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space left"):
        filler.write_bytes(b"x" * 2_000_000)
    with pytest.raises(StoreError):
        open_store(small_disk / "book.db")
    filler.unlink()
    store = open_store(small_disk / "book.db")
    store.close()

    assert [] == store.ledger()


def test_a_read_only_disk_is_named(small_disk: Path):
    path = small_disk / "book.db"
    open_store(path).close()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)

    for place in (path, small_disk / "new.db"):
        with pytest.raises(StoreError, match="may not be written"):
            open_store(place)


# -- reading without a trace ------------------------------------------------------------------------------------------


def test_an_absent_database_reads_as_an_empty_book_and_stays_absent(tmp_path: Path):
    reader = open_reader(tmp_path / "no" / "book.db")

    assert (None, [], None, []) == (
        reader.book(),
        reader.fills(),
        reader.signal(day("01-03")),
        list(tmp_path.iterdir()),
    )
    assert reader.bars("MTUM", day("01-01"), day("01-31")).is_empty


@pytest.mark.parametrize("left", ["nothing", "wal and shm", "wal alone"])
def test_reading_leaves_no_trace_and_sees_every_commit(written: Path, left: str):
    if left != "nothing":
        leave_wal(written, with_shm=left == "wal and shm")
    before = traces(written.parent)
    reader = open_reader(written)
    fills, book = reader.fills(), reader.book()
    reader.close()

    assert (6 if left == "nothing" else 7, BOOK) == (len(fills), book)
    assert before == traces(written.parent)


@pytest.mark.parametrize("left", ["nothing", "wal and shm", "wal alone"])
def test_a_read_only_disk_is_read(small_disk: Path, left: str):
    path = small_disk / "book.db"
    store = open_store(path)
    store.add_fills([fill("01-03", Side.BUY, 20, 100.0, 2.0)])
    store.close()
    if left != "nothing":
        leave_wal(path, with_shm=left == "wal and shm")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    reader = open_reader(path)
    fills = reader.fills()
    reader.close()

    assert (1 if left == "nothing" else 2) == len(fills)


def test_a_change_under_an_open_reader_is_seen_whole(written: Path):
    reader = open_reader(written)
    before = len(reader.fills())
    store = open_store(written)
    store.add_fills([fill("01-17", Side.SELL, 10, 108.0, 1.08)])
    store.close()
    after = len(reader.fills())
    reader.close()

    assert (6, 7) == (before, after)


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from book_by_hand import at, day, mark
from mtum_eod.adapters.store import open_store
store = open_store(Path(sys.argv[1]))
cash = 0.0
while True:
    cash += 1
    marks = [mark(f"{month:02}-{date:02}", cash, 0.0, 0.0, 0.0) for month in range(1, 13) for date in range(1, 28)]
    store.settle(day("01-03"), at("01-03"), marks, is_settled=False, drift_actions={})
    if sys.argv[3] == "closing":
        store.close()
        store = open_store(Path(sys.argv[1]))
    print(cash, flush=True)
"""


@pytest.mark.parametrize("habit", ["closing", "staying open"])
def test_each_answer_is_from_one_moment_while_another_process_writes(written: Path, habit: str):
    """Every commit of the writer gives all marks the same cash; no reader ever sees two amounts."""
    command = [sys.executable, "-c", WRITER, written, Path(__file__).parents[1], habit]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        amounts: list[set[float]] = []
        end = time.monotonic() + 30
        while time.monotonic() < end and len(set().union(*amounts)) < 4:  # a busy machine writes slowly
            reader = open_reader(written)
            amounts += [{mark.cash for mark in reader.equity_marks()} for _ in range(3)]
            reader.close()
        writer.kill()

    seen = set.union(*amounts)
    assert {1} == {len(amount) for amount in amounts}
    assert len(seen) > 3
