"""Long work on a real terminal: a bar while it lasts, none where nobody watches, and the answer by itself."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest

RANGE = "--from 2024-01-02 --to 2024-06-28"
LONG = {
    f"backtest --audit {RANGE}": ("auditing", "2024-06-28"),
    f"backtest --decision-noise 300 {RANGE}": ("deciding early", ""),
    f"sweep --vary ma_period=20:100:1 --vary atr_multiplier=1:10:0.1 --by sharpe {RANGE}": ("trying", ""),
}
"""Commands on half a year of the sample, and what their bars are called; the audit's names its last session."""

WAITING = {
    "settle": "settling",
    "reconcile": "comparing",
    "data check": "checking",
}
"""Commands that last as long as somebody else takes to answer, and what their bars are called."""


def seen_on_a_terminal(command: str, folder: Path) -> tuple[str, str]:
    """What the command answers on standard output, and all that a terminal on standard error was sent."""
    mine, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100", "XDG_CONFIG_HOME": str(folder)}
    typed = subprocess.Popen(
        [sys.executable, "-m", "mtum_eod", *command.split(), "--json"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    )
    os.close(theirs)
    sent: list[bytes] = []

    def watch() -> None:
        try:
            while chunk := os.read(mine, 65536):
                sent.append(chunk)
        except OSError:  # Linux's word for a terminal that nobody writes to any more
            pass

    watcher = Thread(target=watch)
    watcher.start()
    out, _ = typed.communicate(timeout=120)
    watcher.join(10)
    os.close(mine)
    assert 0 == typed.returncode
    return out, b"".join(sent).decode()


@pytest.mark.parametrize("command", LONG)
def test_long_work_shows_a_bar_that_reaches_its_end_and_goes_away(command: str, tmp_path: Path) -> None:
    out, seen = seen_on_a_terminal(command, tmp_path)
    name, last = LONG[command]

    assert json.loads(out)
    assert (True, True, True) == (name in seen, last in seen, "100%" in seen)
    assert seen.rstrip().endswith("\x1b[2K")  # the line is empty again


@pytest.mark.parametrize("command", WAITING)
def test_waiting_shows_a_bar_that_goes_away(command: str, tmp_path: Path) -> None:
    """How long it will be nobody knows: the bar has no end to reach."""
    out, seen = seen_on_a_terminal(command, tmp_path)

    assert json.loads(out) is not None
    assert WAITING[command] in seen
    assert seen.rstrip().endswith("\x1b[2K")


def test_without_a_terminal_there_is_no_bar(tmp_path: Path) -> None:
    """Redirected to a file or a pipe, standard error stays silent."""
    arguments = ["backtest", "--audit", "--from", "2024-01-02", "--to", "2024-03-28"]
    done = subprocess.run(
        [sys.executable, "-m", "mtum_eod", *arguments],
        cwd=tmp_path,
        env=os.environ | {"XDG_CONFIG_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert "" == done.stderr
