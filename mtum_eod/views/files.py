"""Files that an owner asks for: there whole, or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from mtum_eod.errors import SettingsError


def require(extra: str, *packages: str) -> None:
    """Raise SettingsError where one of the packages of an extra is not installed: before long work, not after it."""
    for name in packages:
        if find_spec(name) is None:
            raise SettingsError(
                f"this needs the package {name}, which is not installed", hint=f"pip install 'mtum-eod[{extra}]'"
            )


def look(path: Path) -> None:
    """Raise SettingsError where `write` would not get `path` to the disk: asked before long work, not after it."""
    why = "it is a folder" if path.is_dir() else "" if path.parent.is_dir() else f"there is no folder {path.parent}"
    if not why and not os.access(path.parent, os.W_OK):
        why = f"{path.parent} is not yours to write in"
    if why:
        raise _refused(path, why)


def make(folder: Path) -> None:
    """Make a folder for files; one that is there will do. Raises SettingsError where it cannot be had."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        why = "" if os.access(folder, os.W_OK) else "it is not yours to write in"
    except OSError as error:
        is_taken = isinstance(error, FileExistsError | NotADirectoryError)
        why = "a file is in its place" if is_taken else error.strerror or str(error)
    if why:
        raise SettingsError(
            f"{folder} cannot be a folder: {why}",
            hint="name a folder, new or yours to write in, such as ./backtest",
        )


def write_all(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Put each of `contents` into `folder` under its name, as `write` does."""
    for name, content in contents.items():
        write(folder / name, content)


def write(path: Path, content: bytes) -> None:
    """Put `content` at `path`, readable by its owner only; an older file there stays until the new one is whole.

    Raises SettingsError where the folder is absent or will not take it.
    """
    try:
        if path.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            with suppress(OSError):
                Path(name).unlink()
            raise
    except OSError as error:
        raise _refused(path, error.strerror or str(error)) from error


def _refused(path: Path, why: str) -> SettingsError:
    name = path.name if path.suffix else "report.html"
    hint = f"name a file in a folder that exists and is yours to write in, such as ./{name}"
    return SettingsError(f"{path} cannot be written: {why}", hint=hint)
