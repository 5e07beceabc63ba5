"""Engines on one SQLite file: for writing, and for reading without leaving a trace. SQLite's failures become ours here.

Writing: WAL, foreign keys, full sync, a bounded wait for locks, file mode 0600. The library's own transaction
handling is switched off: a read is a transaction of its own, and one that writes begins with a BEGIN IMMEDIATE of
ours, so that two writers meet at the start and never half-way.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from shutil import copyfile, disk_usage
from typing import Any, NamedTuple
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool, StaticPool

from mtum_eod.adapters.store.schema import HEAD
from mtum_eod.adapters.store.statements import driver
from mtum_eod.errors import StoreError

PATIENCE = timedelta(seconds=5)
"""How long a lock of another process is waited for."""

SQLITE_FAILURES = (DBAPIError, sqlite3.Error)
FAILURES = (*SQLITE_FAILURES, OSError)

COPY_ATTEMPTS = 5
WAL_HEADER_BYTES = 32
WAL_INDEX_BYTES = 32_768


# -- failures ---------------------------------------------------------------------------------------------------------


class refusals:  # noqa: N801 (read as a verb: with refusals(path))
    """Failures of SQLite and of the disk leave the block as StoreError: the file, what failed, the cure.

    A class, since each statement goes through here: a generator takes three times as long to enter and to leave.
    """

    def __init__(self, path: Path, kinds: tuple[type[Exception], ...] = FAILURES) -> None:
        self._path = path
        self._kinds = kinds

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, self._kinds):
            cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
            raise _refusal(self._path, cause) from error


def _refusal(path: Path, error: BaseException) -> StoreError:
    name = getattr(error, "sqlite_errorname", "") or ""
    number = getattr(error, "errno", None)
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        found, cure = "is locked by another program", "close what else has it open, then run again"
    elif name.startswith("SQLITE_FULL") or number in (errno.ENOSPC, errno.EDQUOT) or _has_no_room(name, path):
        found, cure = "cannot grow: the disk is full", "free space, then run again; nothing half-written remains"
    elif name.startswith(("SQLITE_READONLY", "SQLITE_PERM")) or number in (errno.EACCES, errno.EPERM, errno.EROFS):
        found, cure = "may not be written", f"`chmod u+rw {path}` and `chmod u+rwx {path.parent}`, or another owner"
    elif name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        found, cure = "is damaged or not a database", "bring the latest backup back with `mtum-eod db restore`"
    elif name.startswith("SQLITE_IOERR"):
        found, cure = (
            "could not be read from or written to its disk",
            "check the disk and its free space, then run again",
        )
    elif name.startswith("SQLITE_CANTOPEN") or isinstance(error, OSError):
        found, cure = "cannot be opened", f"check that the folder {path.parent} exists and is yours to write"
    else:
        found, cure = "refused", "look at it with `mtum-eod db check`; a backup returns with `mtum-eod db restore`"
    return StoreError(f"database {path} {found} ({error})", hint=cure)


def _has_no_room(name: str, path: Path) -> bool:
    """Whether what SQLite calls a disk error is a full disk, on which it cannot even lay out a WAL's index."""
    with suppress(OSError):
        return name.startswith("SQLITE_IOERR") and disk_usage(path.parent).free < WAL_INDEX_BYTES
    return False


def refuse_folder(path: Path) -> None:
    """Raise StoreError where a folder stands in the database's place."""
    if path.is_dir():
        raise StoreError(
            f"database {path} is a folder, a file was expected",
            hint="name a file in MTUM_EOD_DATABASE__URL, such as sqlite:///mtum-eod-simulated.db",
        )


# -- revisions --------------------------------------------------------------------------------------------------------


def revision_of(db: Connection, path: Path) -> str | None:
    """The schema revision of an open database; None where nothing is in it yet. StoreError where it is not ours."""
    tables = set(db.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").scalars())
    if not tables:
        return None
    if "alembic_version" not in tables:
        raise StoreError(
            f"database {path} belongs to another program: it has tables, but no revision of mtum-eod",
            hint="name another file in MTUM_EOD_DATABASE__URL",
        )
    return db.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()


def refuse_newer(path: Path, revision: str) -> None:
    """Raise StoreError where the schema comes from a newer version of the program."""
    if revision > HEAD:
        raise StoreError(
            f"database {path} has schema revision {revision}, this program knows up to {HEAD}",
            hint="install the newer mtum-eod, or bring back a backup of this one with `mtum-eod db restore`",
        )


# -- writing ----------------------------------------------------------------------------------------------------------


def create_private(path: Path) -> None:
    """Create an empty file only its owner may read, whatever the umask. FileExistsError where there is one."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def write_engine(path: Path, patience: timedelta = PATIENCE) -> Engine:
    """Engine for writing an existing file; -wal and -shm take over its mode."""

    def connect() -> sqlite3.Connection:
        db = _connect(path, "mode=rw", patience)
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA journal_mode = WAL").fetchone()
        return db

    return _engine(connect, QueuePool)


def _connect(path: Path, options: str, patience: timedelta = PATIENCE) -> sqlite3.Connection:
    uri = f"file:{quote(str(path.absolute()))}?{options}"
    return sqlite3.connect(
        uri, uri=True, timeout=patience.total_seconds(), isolation_level=None, check_same_thread=False
    )


def _engine(connect: Callable[[], sqlite3.Connection], pool: type[QueuePool] | type[StaticPool]) -> Engine:
    return create_engine("sqlite://", creator=connect, poolclass=pool)


@contextmanager
def together(db: Connection) -> Iterator[None]:
    """What the block writes becomes durable together at its end. Where it fails, nothing does, and `db` is closed."""
    run = driver(db).execute
    try:
        run("BEGIN IMMEDIATE")  # in here, since an interrupt while it waits for a lock is raised when it has begun
        yield
        run("COMMIT")  # refused where SQLite has taken all back by itself, as on a full disk
    except BaseException:
        db.close()  # the pool takes back what was written, or throws away a connection on which that fails
        raise


@contextmanager
def apart(db: Connection) -> Iterator[None]:
    """A part of what `together` writes: where the block fails, its own writes are taken back, and only these."""
    run = driver(db).execute
    run("SAVEPOINT apart")
    try:
        yield
    except BaseException:
        with suppress(sqlite3.Error):  # SQLite has taken all back by itself: then there is nothing to commit either
            run("ROLLBACK TO apart")
            run("RELEASE apart")
        raise
    run("RELEASE apart")


# -- reading without a trace ------------------------------------------------------------------------------------------


class Reading(NamedTuple):
    """A connection that writes nothing, and whether the file still is what it believes."""

    db: Connection
    is_current: Callable[[], bool]

    def close(self) -> None:
        """Close the file."""
        self.db.close()
        self.db.engine.dispose()


def read_only(path: Path) -> Reading:
    """The file opened in place as immutable; where another process has left or keeps a WAL, a copy of both.

    SQLite's own read-only mode would create or touch -shm beside a WAL, and cannot open one on a read-only disk.
    """
    if _wal_header(path) is not None:
        return read_copy(path)
    before = _stamp(path)
    engine = _engine(lambda: _connect(path, "mode=ro&immutable=1"), StaticPool)
    return Reading(engine.connect(), lambda: _stamp(path) == before)


def read_copy(path: Path) -> Reading:
    """The database as it stands now, in memory, with the WAL's transactions: it cannot change any more."""
    memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    with tempfile.TemporaryDirectory(prefix="mtum-eod-") as folder:
        copy = Path(folder) / "copy.db"
        copy_consistently(path, copy)
        source = _connect(copy, "mode=rw")
        try:
            source.backup(memory)
        finally:
            source.close()
    return Reading(_engine(lambda: memory, StaticPool).connect(), lambda: True)


def copy_consistently(path: Path, copy: Path) -> None:
    """Copy file and WAL so that they belong together.

    A checkpoint may write into the file while it is copied, but what it writes is in the WAL too, until a writer
    starts that over with a new header. So the same header before and after means the pair is whole.
    """
    wal, wal_copy = _wal(path), _wal(copy)
    for _ in range(COPY_ATTEMPTS):
        header, before = _wal_header(path), _stamp(path)
        copyfile(path, copy)
        wal_copy.unlink(missing_ok=True)
        if header is None:
            if _wal_header(path) is None and _stamp(path) == before:
                return
            continue
        with suppress(FileNotFoundError):  # its last user has just closed it
            create_private(wal_copy)
            copyfile(wal, wal_copy)
            if _wal_header(copy) == header:
                return
    raise StoreError(
        f"database {path} changed {COPY_ATTEMPTS} times while it was read",
        hint="run again when the other program is done",
    )


def _wal(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _wal_header(path: Path) -> bytes | None:
    """The start of the WAL beside a file; None where there is none or nothing is in it."""
    try:
        with _wal(path).open("rb") as file:
            return file.read(WAL_HEADER_BYTES) or None
    except FileNotFoundError:
        return None


def _stamp(path: Path) -> tuple[Any, ...]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns
