"""A person at a terminal: commands typed in a folder of their own, at an instant the test sets."""

import json
import shlex
import sqlite3
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from fakes import FakeClock, calendar, zigzag

from mtum_eod.cli import cli

MORNING = datetime.fromisoformat("2024-11-06T12:00:00+00:00")
"""Where the clock stands unless a test sets it: the morning after the README's session."""


@dataclass
class Typed:
    """What came of a command."""

    exit_code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Standard output as the one JSON document it must be."""
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, str]:
        """The document of a failure: code, message, hint."""
        return dict(self.document["error"])


@dataclass
class Person:
    """Someone in a folder of their own, with a clock on the wall and variables in the environment."""

    folder: Path
    clock: FakeClock
    environment: dict[str, str] = field(default_factory=dict)

    def types(self, command: str, answers: str = "") -> Typed:
        """Type a command, without the program's name, and the lines it may ask for."""
        runner = CliRunner(env=self.environment)
        result = runner.invoke(cli, shlex.split(command), input=answers, prog_name="mtum-eod")
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Typed(exit_code=result.exit_code, out=result.stdout, err=result.stderr)

    def at(self, session: str, before_close: float) -> "Person":
        """Set the clock to so many minutes before a session's close."""
        self.clock.set(calendar().close(date.fromisoformat(session)) - timedelta(minutes=before_close))
        return self

    @property
    def database(self) -> Path:
        return self.folder / "mtum-eod-simulated.db"

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """What the database says, past all code under test."""
        db = sqlite3.connect(self.database)
        try:
            return db.execute(statement).fetchall()
        finally:
            db.close()

    def settings(self, text: str) -> None:
        (self.folder / "settings.toml").write_text(text)

    def csv(self, last: str = "2024-11-05", sessions: int = 320) -> "CsvFiles":
        """Files of daily bars in the folder `bars`, and the settings that read them."""
        folder = self.folder.parent / "bars"
        folder.mkdir()
        self.environment |= {"MTUM_EOD_DATA__SOURCE": "csv", "MTUM_EOD_DATA__CSV_DIR": str(folder)}
        return CsvFiles(folder, date.fromisoformat(last), sessions)


class CsvFiles:
    """MTUM.csv as Yahoo and VIX.csv as Cboe write them; on the last session all entry rules hold."""

    HEADER = "Date,Open,High,Low,Close,Adj Close,Volume"

    def __init__(self, folder: Path, last: date, sessions: int) -> None:
        self.folder = folder
        days = calendar().window(last, sessions)
        closes = [*zigzag(sessions)[:-1], zigzag(sessions)[-1] + 2.0]
        volumes = [*([1_000_000] * (sessions - 1)), 1_200_000]
        self.mtum = [
            f"{day},{close:.2f},{close + 1:.2f},{close - 1:.2f},{close:.2f},{close:.2f},{volume}"
            for day, close, volume in zip(days, closes, volumes, strict=True)
        ]
        self.vix = [f"{day:%m/%d/%Y},15.00,15.50,14.50,15.00" for day in days]
        self.write()

    def write(self, header: str = HEADER, end: str = "\n", bom: str = "") -> None:
        (self.folder / "MTUM.csv").write_bytes((bom + end.join([header, *self.mtum, ""])).encode())
        (self.folder / "VIX.csv").write_text("\n".join(["DATE,OPEN,HIGH,LOW,CLOSE", *self.vix, ""]))
