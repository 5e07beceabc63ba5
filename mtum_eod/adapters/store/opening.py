"""Opening a book: for writing, with its schema brought up to date, or for reading without a trace."""

from __future__ import annotations

import errno
import os
from contextlib import closing
from datetime import timedelta
from pathlib import Path

from mtum_eod.adapters.no_history import NoHistory
from mtum_eod.adapters.store.connect import (
    PATIENCE,
    read_only,
    refusals,
    refuse_folder,
    refuse_newer,
    revision_of,
    write_engine,
)
from mtum_eod.adapters.store.reading import SqlReader
from mtum_eod.adapters.store.schema import HEAD
from mtum_eod.adapters.store.sql_store import SqlStore
from mtum_eod.adapters.store.upkeep import upgrade
from mtum_eod.errors import OlderSchema


def open_store(path: Path, *, backup_dir: Path | None = None, patience: timedelta = PATIENCE) -> SqlStore:
    """The book at `path` for writing. Absent: created; older: upgraded behind a backup; newer: StoreError.

    backup_dir: where that backup goes; a folder `backups` beside the database where None.
    patience: how long a lock of another process is waited for.
    """
    refuse_folder(path)
    with refusals(path):
        if not path.exists():
            upgrade(path, backup_dir)
        if not (os.access(path, os.R_OK | os.W_OK) and os.access(path.parent, os.W_OK | os.X_OK)):
            raise PermissionError(errno.EACCES, "file or folder is read-only")
        # Looked at before it is opened for writing, which makes a WAL database of whatever file it finds.
        with closing(read_only(path)) as reading:
            revision = revision_of(reading.db, path)
        if revision != HEAD:
            upgrade(path, backup_dir)
        return SqlStore(path, write_engine(path, patience))


def open_reader(path: Path) -> SqlReader | NoHistory:
    """The book at `path` for reading; nothing beside or in the file is created, deleted or touched.

    An absent or still empty file reads as an empty book. An older schema: OlderSchema; a newer one: StoreError.
    """
    refuse_folder(path)
    if not path.exists():
        return NoHistory()
    with refusals(path):
        reading = read_only(path)
        try:
            revision = revision_of(reading.db, path)
            if revision is None:
                reading.close()
                return NoHistory()
            refuse_newer(path, revision)
            if revision != HEAD:
                raise OlderSchema(
                    f"database {path} has schema revision {revision}, this program reads {HEAD}",
                    hint="bring it up to date with `mtum-eod db upgrade`; a backup is made first",
                )
        except BaseException:
            reading.close()
            raise
    return SqlReader(path, reading)
