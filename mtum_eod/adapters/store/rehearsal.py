"""A restore rehearsed aside: what would come back if the database were lost now."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from mtum_eod.adapters.no_history import NoHistory
from mtum_eod.adapters.store import upkeep
from mtum_eod.adapters.store.connect import copy_consistently, refusals
from mtum_eod.adapters.store.opening import open_reader
from mtum_eod.adapters.store.reading import SqlReader


@contextmanager
def rehearse(path: Path) -> Iterator[SqlReader | NoHistory]:
    """The book as it comes back from a backup of the database as it stands; gone again after the block.

    All of it happens in a temporary folder, so that neither the database nor its backups are touched.
    Raises StoreError where the database cannot be read, backed up or restored.
    """
    with TemporaryDirectory(prefix="mtum-eod-") as folder:
        copy = Path(folder) / path.name
        with refusals(path):
            copy_consistently(path, copy)
        restored = Path(folder) / "restored" / path.name
        upkeep.restore(upkeep.backup(copy, Path(folder) / "backups"), restored)
        with closing(open_reader(restored)) as reader:
            yield reader
