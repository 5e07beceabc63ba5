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
    """Whether each of these folders can be written, or made, and each of the file systems they are on has room."""
    seen = set()
    for folder in folders:
        # Not `Path.exists`, which raises where a folder may not be searched; what lies behind is as good as absent.
        place = next((path for path in (folder, *folder.parents) if os.path.exists(path)), folder)  # noqa: PTH110
        try:
            device, is_writable = place.stat().st_dev, os.access(place, os.W_OK | os.X_OK)
            if device not in seen or not is_writable:
                yield _look(place, is_writable)
            seen.add(device)
        except OSError as error:
            words = f"{place} cannot be looked at ({error.strerror})"
            cure = f"see that {folder} is there, or name another in [database], [backup] or [log]"
            yield Check(name="disk", passed=False, words=words, cure=cure, exit_code=StoreError.exit_code)


def _look(place: Path, is_writable: bool) -> Check:
    free = disk_usage(place).free
    words = f"{free / 2**20:,.0f} MiB are free at {place}"
    cure = ""
    if not is_writable:
        words += ", but it may not be written"
        cure = f"`chmod u+rwx {place}`, another owner, or a file system mounted for writing"
    elif free < ROOM:
        words += f", {ROOM / 2**20:,.0f} are wanted"
        cure = "free space: a database that cannot grow stops trading"
    return Check(name="disk", passed=not cure, words=words, cure=cure, exit_code=StoreError.exit_code)
