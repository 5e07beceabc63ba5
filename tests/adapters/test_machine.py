"""The computer's own links: real folders, and a disk of the test's own that is nearly full or cannot be written."""

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mtum_eod.adapters import machine
from mtum_eod.adapters.machine import look_at_disks


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("this machine does not let the test mount a small disk")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_folders_on_one_disk_are_one_check(tmp_path: Path):
    """One of them does not exist yet: the disk it will be on is looked at."""
    found = list(look_at_disks([tmp_path, tmp_path / "logs" / "old", tmp_path]))

    assert [("disk", True)] == [(check.name, check.passed) for check in found]
    assert f"free at {tmp_path}" in found[0].words


def test_a_disk_with_little_room_fails_with_its_numbers_and_a_cure(tmp_path: Path, small_disk: Path):
    roomy, small = look_at_disks([tmp_path, small_disk / "backups"])

    assert (True, False, 7) == (roomy.passed, small.passed, small.exit_code)
    assert f"2 MiB are free at {small_disk}, 100 are wanted" == small.words
    assert "free space" in small.cure


def test_a_disk_that_may_not_be_written_is_named(small_disk: Path):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    [found] = look_at_disks([small_disk])

    assert (False, True) == (found.passed, "may not be written" in found.words)


def test_a_folder_without_permission_to_search_is_named(tmp_path: Path):
    """On the disk of another folder that is in order, so that its room alone says nothing."""
    locked = tmp_path / "locked"
    locked.mkdir(mode=0)
    if os.access(locked, os.X_OK):
        pytest.skip("this user searches every folder; .ci/run tries it without that power")
    whole, found = look_at_disks([tmp_path, locked / "backups" / "old"])

    assert (True, False, 7) == (whole.passed, found.passed, found.exit_code)
    assert found.words.endswith(f"free at {locked}, but it may not be written")
    assert f"chmod u+rwx {locked}" in found.cure


def test_a_disk_that_does_not_answer_fails_with_the_systems_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As a network's file system that is gone."""

    def gone(_: Path) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(machine, "disk_usage", gone)
    [found] = look_at_disks([tmp_path])

    assert (False, f"{tmp_path} cannot be looked at (Stale file handle)") == (found.passed, found.words)
    assert f"see that {tmp_path} is there" in found.cure
