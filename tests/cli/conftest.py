"""A person at a terminal, in a folder and at an instant of the test's own."""

from pathlib import Path

import pytest
from fakes import FakeClock
from terminal import MORNING, Person

from mtum_eod import bootstrap


@pytest.fixture
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Person:
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    clock = FakeClock(MORNING)
    monkeypatch.setattr(bootstrap, "SystemClock", lambda: clock)
    return Person(folder, clock)
