"""One run at a time on a database, by an operating system lock that ends with its process, however that ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from filelock import FileLock, Timeout

from mtum_eod.errors import AlreadyRunning, StoreError
from mtum_eod.ports import Clock


class DatabaseLock:
    """`ports.Lock` on `<database>.lock`, a file of mode 0600 that stays and names its latest holder.

    The lock is the kernel's (flock), not the file: a holder that was killed leaves the file, but no lock.
    """

    def __init__(self, database: Path, clock: Clock) -> None:
        self._database = database
        self._path = database.with_name(database.name + ".lock")
        self._clock = clock

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold it for the `with` block; never waits.

        Raises AlreadyRunning, naming the holder and since when, and StoreError where the file cannot be written.
        """
        # A fresh object each time: one FileLock lets its own holder in again, and two runs inside one process
        # (a daemon's threads) must exclude each other too. A soft lock would outlive a killed holder.
        lock = FileLock(self._path, mode=0o600, blocking=False, thread_local=False, fallback_to_soft=False)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            self._path.write_text(f"pid {os.getpid()} since {self._clock.now():%Y-%m-%d %H:%M:%S} UTC\n")
        except Timeout:
            raise AlreadyRunning(
                f"another run holds the lock of {self._database}: {self._holder()}",
                hint="Wait until it ends; the lock goes with it, even if it is killed.",
            ) from None
        except OSError as error:
            lock.release()
            raise StoreError(
                f"the lock {self._path} cannot be taken: {error.strerror or error}",
                hint="The database's folder must be writable, on a file system that has locks (flock).",
            ) from error
        try:
            yield
        finally:
            lock.release()

    def _holder(self) -> str:
        """Who wrote the file last; between taking the lock and writing, for some microseconds, the one before."""
        return self._path.read_text().strip() or "it has not said who it is"


class NoLock:
    """`ports.Lock` of a dry run, which writes nothing, not even a lock."""

    def hold(self) -> AbstractContextManager[None]:
        """Nothing is held."""
        return nullcontext()
