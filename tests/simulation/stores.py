"""The real store on a database in memory, and on a file that a power failure can tear."""

from __future__ import annotations

import sqlite3
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from mtum_eod.adapters.store import SqlStore, connect, open_store
from simulation.fake_store import FakeStore

Torn = tuple[bytes, bytes]


@cache
def template() -> bytes:
    """An empty book as the migrations make it."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "book.db"
        open_store(path).close()
        db = sqlite3.connect(path)
        try:
            db.execute("PRAGMA journal_mode = DELETE")
            return db.serialize()
        finally:
            db.close()


class MemoryStore(SqlStore):
    """The real store on a database in memory."""

    def __init__(self) -> None:
        self._memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self.put_back(template())
        super().__init__(Path("memory.db"), connect._engine(lambda: self._memory, connect.StaticPool))

    def image(self) -> bytes:
        """The whole database, as a backup keeps it."""
        return self._memory.serialize()

    def put_back(self, image: bytes) -> None:
        """Take a backup's place."""
        self._memory.deserialize(image)
        self._memory.execute("PRAGMA foreign_keys = ON")


class FileStore(SqlStore):
    """The real store on a file with its log beside it, both as a power failure leaves them."""

    def __init__(self) -> None:
        self._folder = TemporaryDirectory()
        self._number = 0
        self._open(template(), b"")

    def _open(self, database: bytes, wal: bytes) -> None:
        self._number += 1
        path = Path(self._folder.name) / f"{self._number}.db"
        path.write_bytes(database)
        if wal:
            path.with_name(f"{path.name}-wal").write_bytes(wal)
        super().__init__(path, connect.write_engine(path))

    def torn(self, share: float) -> Torn:
        """Database and log in the midst of a run, the log cut so far from its start."""
        wal = self.path.with_name(f"{self.path.name}-wal")
        written = wal.read_bytes() if wal.exists() else b""
        return self.path.read_bytes(), written[: int(share * (len(written) + 1))]

    def come_back(self, torn: Torn) -> None:
        """The power is back, the next run opens what the disk kept."""
        super().close()
        self._open(*torn)

    def end_of_process(self) -> None:
        """What SQLite does when the last process closes the file: the log goes into the database."""
        with self._engine.connect() as db:
            db.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    def image(self) -> bytes:
        """The whole database, as a backup keeps it."""
        self.end_of_process()
        return self.path.read_bytes()

    def put_back(self, image: bytes) -> None:
        """Take a backup's place."""
        self.come_back((image, b""))

    def close(self) -> None:
        super().close()
        self._folder.cleanup()


AnyStore = MemoryStore | FileStore | FakeStore
