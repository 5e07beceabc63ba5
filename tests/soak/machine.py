"""A computer with the daemon on it, seen from outside: its time is moved, its power fails, its /proc is read."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from soak.life import FORKS, Wait, live
from tws_server import Server

PATIENCE_SECONDS = 120.0

SETTINGS = """
mode = "paper"
[data]
source = "ib"
[ib]
paper_port = {port}
"""

Pace = Callable[[Wait], datetime]
"""To which instant time moves when the process waits; never before the one it waits for."""


def every_minute(wait: Wait) -> datetime:
    """As time goes."""
    return wait.until


def from_due_to_due(wait: Wait) -> datetime:
    """No minute between two steps."""
    return wait.due


@dataclass(frozen=True, kw_only=True)
class Size:
    """What a process takes of the machine."""

    resident_kb: int
    threads: int
    handles: int


class Machine:
    """A folder with the daemon's settings and book; the daemon, where it runs; and the server it trades with.

    Server and daemon keep the same time, which passes only here. In a `with` block the daemon runs from its begin on.
    more: lines and sections behind the settings that it must have.
    """

    def __init__(self, folder: Path, tws: Server, more: str = "") -> None:
        self.folder = folder
        self.tws = tws
        self.asked: Wait | None = None  # what the daemon waits for, and was not given yet
        self._process: Any = None
        folder.mkdir(parents=True, exist_ok=True)

        file = folder / "settings.toml"
        file.touch(0o600)
        file.write_text(SETTINGS.format(port=tws.port) + more)

    def __enter__(self) -> Machine:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self._process is not None:  # a test has failed; whoever leaves would wait for its processes
            self.kill()

    # -- its power --------------------------------------------------------------------------------------------------

    def start(self) -> Machine:
        """Start the daemon, at the present instant; it does at once what is due."""
        ours, its = FORKS.Pipe()
        home = {"HOME": str(self.folder), "XDG_CONFIG_HOME": str(self.folder), "PYTHONWARNINGS": "error"}
        self._process = FORKS.Process(target=live, args=(self.folder, home, its, self.tws.clock.now()))
        self._process.start()
        its.close()
        self._line = ours
        self.asked = None
        return self

    def kill(self) -> None:
        """SIGKILL, as the power would."""
        self._process.kill()
        self.end()
        until = time.monotonic() + PATIENCE_SECONDS
        while self.tws.sessions and time.monotonic() < until:  # the server reads what was under way, then the end
            time.sleep(0.002)

    def terminate(self) -> int:
        """SIGTERM; the exit code."""
        self.tell(signal.SIGTERM)
        return self.rest()

    def rest(self) -> int:
        """The exit code of a daemon that is told to end. Time stands meanwhile, except for a step that sleeps."""
        until = time.monotonic() + PATIENCE_SECONDS
        while self._process.is_alive() and time.monotonic() < until:
            if self.asked or self._line.poll(0.005):
                try:
                    wait = self.wait()
                    self._pass(self.tws.clock.now() if wait.is_idle else wait.until)
                except (EOFError, OSError):  # it has gone
                    break
        return self.end()

    def tell(self, number: signal.Signals) -> None:
        """Send the daemon a signal."""
        os.kill(self._process.pid, number)

    def end(self) -> int:
        """See the process end, and the exit code, negative where a signal ended it."""
        self._process.join(PATIENCE_SECONDS)
        code = self._process.exitcode
        assert code is not None, f"the daemon does not end\n{self.out}"
        self._process.close()
        self._process = None
        self._line.close()
        self.asked = None
        return int(code)

    # -- its time ---------------------------------------------------------------------------------------------------

    def wait(self) -> Wait:
        """What the daemon waits for, once it waits; a step under way is through then, or sleeps."""
        if self.asked is None:
            assert self._line.poll(PATIENCE_SECONDS), f"the daemon does not come to rest\n{self.out}"
            self.asked = self._line.recv()
        return self.asked

    def idle(self) -> Wait:
        """What the daemon waits for, once nothing is under way."""
        while not (wait := self.wait()).is_idle:
            self._pass(wait.until)
        return wait

    def go(self, instant: datetime) -> None:
        """Let time pass until `instant`, in one leap, and the daemon do what is due then; returns at once."""
        self.idle()
        self._pass(instant)

    def live(self, until: datetime, pace: Pace = from_due_to_due) -> None:
        """Let time pass until `until`; the daemon rests then, and has done what was due."""
        while self.idle().until <= until:
            self._pass(min(pace(self.idle()), until))

    def works(self, seconds: float) -> bool:
        """Whether the daemon is still at work after so many seconds, which are over then."""
        end = time.monotonic() + seconds
        while self.asked is None or not self.asked.is_idle:
            if self.asked is not None:
                self._pass(self.asked.until)
            elif not self._line.poll(max(0.0, end - time.monotonic())):
                return True
            else:
                self.asked = self._line.recv()
        return False

    def _pass(self, instant: datetime) -> None:
        self.tws.clock.set(instant)
        self.asked = None
        self._line.send(self.tws.clock.now())

    # -- what is there ----------------------------------------------------------------------------------------------

    @property
    def size(self) -> Size:
        """Read from /proc, of the daemon."""
        proc = Path("/proc") / str(self._process.pid)
        lines = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
        return Size(
            resident_kb=int(lines["VmRSS"].split()[0]),
            threads=int(lines["Threads"]),
            handles=len(list((proc / "fd").iterdir())),
        )

    @property
    def out(self) -> str:
        """All that the daemon has said."""
        path = self.folder / "out"
        return path.read_text() if path.exists() else ""

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """What the database says, past all code under test."""
        with closing(sqlite3.connect(self.folder / "mtum-eod-paper.db")) as db:
            return db.execute(statement, values).fetchall()


def minutes(count: float) -> timedelta:
    """So many minutes."""
    return timedelta(minutes=count)
