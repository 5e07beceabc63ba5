"""Every exit code, from the program as the shell starts it: nothing is patched, no clock is set."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from receivers import web_server

from mtum_eod.adapters.clock import SystemClock
from mtum_eod.adapters.lock import DatabaseLock
from tws_server import Server

DECIDE = ("run", "--date", "2024-11-05")
REPLAY = (*DECIDE, "--dry-run")


@pytest.fixture
def shell(tmp_path: Path) -> "Shell":
    return Shell(tmp_path)


class Shell:
    """A person's shell in an empty folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MTUM_EOD_")}
        self.environment = kept | {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}

    def types(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "mtum_eod", *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )

    def fails(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, the error's code and its message; people are told the same on standard error."""
        ended = self.types(*arguments, "--json")
        error = json.loads(ended.stdout)["error"]
        assert ["code", "message", "hint"] == list(error)
        assert f"error: {error['message']}\nhint:  {error['hint']}\n" in ended.stderr
        return ended.returncode, error["code"], error["message"]

    def trades_with(self, port: int) -> "Shell":
        self.environment |= {
            "MTUM_EOD_MODE": "paper",
            "MTUM_EOD_DATA__SOURCE": "ib",
            "MTUM_EOD_IB__PAPER_PORT": str(port),
            "MTUM_EOD_IB__MAX_RETRIES": "0",
            "MTUM_EOD_IB__RECONNECT_TIMEOUT": "2",
        }
        return self


@pytest.fixture
def broken(shell: Shell) -> Shell:
    """An installation of which an upgrade has left a part unusable."""
    beside = shell.folder / "site"
    beside.mkdir()
    (beside / "exchange_calendars.py").write_text("raise ImportError('half an upgrade')\n")
    shell.environment["PYTHONPATH"] = f"{beside}:{os.environ.get('PYTHONPATH', '')}"
    return shell


def test_0_a_decision(shell: Shell):
    assert 0 == shell.types(*REPLAY).returncode


def test_1_what_nobody_expected_is_told_in_words_with_where_it_happened(broken: Shell):
    ended = broken.types(*DECIDE, "--json")
    error = json.loads(ended.stdout)["error"]
    words = "ImportError: half an upgrade"

    assert (1, "unexpected", words) == (ended.returncode, error["code"], error["message"])
    assert f"error: {words}\nhint:  a fault of the program or of its installation" in ended.stderr
    assert f'File "{broken.folder}/site/exchange_calendars.py", line 1' in ended.stderr
    assert not (broken.folder / "mtum-eod-simulated.db").exists()


def test_1_what_nobody_expected_ends_each_of_crons_minutes_and_is_told_once(broken: Shell):
    with web_server() as web:
        broken.environment["MTUM_EOD_NOTIFICATIONS__URLS"] = f"json://127.0.0.1:{web.port}"
        codes = [broken.types("run", "--if-due").returncode for _ in range(2)]
    told = "No step could begin. ImportError: half an upgrade"

    assert ([1, 1], [("mtum-eod cannot run: run_failed", told)]) == (codes, web.messages)


def test_2_a_date_that_is_no_session(shell: Shell):
    weekend = "Saturday 2024-11-09 is no session of the exchange"

    assert (2, "settings", weekend) == shell.fails("run", "--date", "2024-11-09")
    assert [] == list(shell.folder.iterdir())


def test_3_no_bars(shell: Shell):
    shell.environment |= {"MTUM_EOD_DATA__SOURCE": "csv", "MTUM_EOD_DATA__CSV_DIR": str(shell.folder)}
    code, kind, message = shell.fails(*REPLAY)

    assert (3, "market_data") == (code, kind)
    assert message.startswith(f"MTUM: no file {shell.folder}/MTUM.csv, expected one with daily bars as ")
    assert [] == list(shell.folder.iterdir())


@pytest.fixture
def tws() -> Iterator[Server]:
    with Server() as server:
        yield server


def test_4_no_gateway(shell: Shell, tws: Server):
    tws.refuse()

    assert (4, "broker_unavailable") == shell.trades_with(tws.port).fails("data", "check")[:2]


def test_5_shares_at_the_broker_that_nobody_booked(shell: Shell, tws: Server):
    tws.hold("MTUM", 7, 200.0)
    ended = shell.trades_with(tws.port).types("reconcile")

    assert (5, ["✗", "position", "0", "shares", "7", "shares"]) == (
        ended.returncode,
        ended.stdout.splitlines()[1].split(),
    )


def test_6_another_run(shell: Shell):
    with DatabaseLock(shell.folder / "mtum-eod-simulated.db", SystemClock()).hold():
        code, kind, message = shell.fails(*DECIDE)

    assert (6, "already_running", True) == (code, kind, f"pid {os.getpid()} since " in message)


def test_7_a_file_that_is_no_database(shell: Shell):
    (shell.folder / "mtum-eod-simulated.db").write_text("session,open\n" * 500)
    code, kind, message = shell.fails(*DECIDE)

    assert (7, "store", True) == (code, kind, "is damaged or not a database" in message)
