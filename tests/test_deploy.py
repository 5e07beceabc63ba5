"""What deploy/ holds is accepted by the system it is for."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mtum_eod.cli import cli
from mtum_eod.daemon import GRACE

UNIT = Path(__file__).parents[1] / "deploy" / "mtum-eod.service"


def setting(name: str) -> str:
    """The last word of the unit on a setting."""
    return [line for line in UNIT.read_text().splitlines() if line.startswith(f"{name}=")][-1].partition("=")[2]


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    """The program's path is put in: it is not installed where the unit expects it here."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not on this machine")
    program = setting("ExecStart").split()[0]
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace(program, sys.executable))
    verified = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)

    assert (0, "") == (verified.returncode, verified.stderr)


def test_the_unit_is_hardened() -> None:
    """By systemd's own reckoning, from 0 to 10, 10 being a service that may do anything."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not on this machine")
    rated = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", UNIT], capture_output=True, text=True
    )

    assert 0 == rated.returncode, rated.stdout


def test_the_unit_runs_a_command_there_is_and_waits_for_its_end() -> None:
    waits = float(setting("TimeoutStopSec"))

    assert setting("ExecStart").split()[1:] == ["schedule"]
    assert "schedule" in cli.commands
    assert GRACE.total_seconds() < waits
