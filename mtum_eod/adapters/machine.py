"""The computer's own links of the chain: room on its disks, and a file system that can be written."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from shutil import disk_usage

from mtum_eod.core.checks import Check
from mtum_eod.errors import StoreError

ROOM = 100 * 2**20
"""Bytes. A session writes less than one of these mebibytes; a hundred leave the owner weeks to make room."""


def look_at_disks(folders: Iterable[Path]) -> Iterator[Check]:
    """Whether each of the file systems these folders are on, or will be, has room and can be written."""
    seen = set()
    for folder in folders:
        place = next(path for path in (folder, *folder.parents) if path.exists())
        device = place.stat().st_dev
        if device not in seen:
            seen.add(device)
            yield _look(place)


def _look(place: Path) -> Check:
    free = disk_usage(place).free
    is_writable = os.access(place, os.W_OK | os.X_OK)
    words = f"{free / 2**20:,.0f} MiB are free at {place}"
    cure = ""
    if not is_writable:
        words += ", but it may not be written"
        cure = f"`chmod u+rwx {place}`, another owner, or a file system mounted for writing"
    elif free < ROOM:
        words += f", {ROOM / 2**20:,.0f} are wanted"
        cure = "free space: a database that cannot grow stops trading"
    return Check(name="disk", passed=not cure, words=words, cure=cure, exit_code=StoreError.exit_code)
