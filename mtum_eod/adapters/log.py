"""The log: one JSON object a line, a file a day, old ones deleted; every line names the run it belongs to."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from io import TextIOWrapper
from logging.handlers import TimedRotatingFileHandler
from pathlib import Path

from mtum_eod.errors import StoreError

FILE = "mtum-eod.log"


@contextmanager
def to_file(
    folder: Path, level: str, keep_days: int, run_id: Callable[[], int | None], hide: Callable[[str], str] = str
) -> Iterator[None]:
    """Log to `folder` while the block runs. The file is its owner's alone: it tells of money.

    hide: what takes secrets out of every line; a library's warning may quote an address.
    Raises StoreError where the folder cannot be written: a run that leaves no trace does not start.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handler = _PrivateFile(folder / FILE, when="midnight", backupCount=keep_days, utc=True, encoding="utf-8")
    except OSError as error:
        raise StoreError(
            f"the log folder {folder} cannot be written ({error.strerror})",
            hint="make it writable, or name another one in MTUM_EOD_LOG__DIR",
        ) from error
    handler.setFormatter(_JsonLines(run_id, hide))
    root, ours = logging.getLogger(), logging.getLogger("mtum_eod")
    root.addHandler(handler)
    ours.setLevel(level)  # libraries keep to the root's level and speak of warnings only
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()


class _PrivateFile(TimedRotatingFileHandler):
    """A rotated file of mode 0600, whatever the umask."""

    def _open(self) -> TextIOWrapper:
        os.close(os.open(self.baseFilename, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600))
        return super()._open()


class _JsonLines(logging.Formatter):
    def __init__(self, run_id: Callable[[], int | None], hide: Callable[[str], str]) -> None:
        super().__init__()
        self._run_id = run_id
        self._hide = hide

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "run": self._run_id(),
            "logger": record.name,
            "message": self._hide(record.getMessage()),
        }
        if record.exc_info:
            line["trace"] = self._hide(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)
