"""The README's commands and what it says they print."""

import os
import re
import shlex
import sqlite3
import subprocess
import sys
import tomllib
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from lived import csv_settings, work_in

from mtum_eod.cli import cli
from mtum_eod.core.backtest import FillModel, backtest
from mtum_eod.core.parameters import ScheduleParameters
from mtum_eod.core.timing import EVENING_AT, timetable
from mtum_eod.core.trading import OrderType, Step
from mtum_eod.jobs.backtest import read_history, run_backtest
from mtum_eod.jobs.decision_noise import with_decision_noise

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(marker: str) -> str:
    """The text of the fenced block after a marker, `<!-- command: try -->` for instance."""
    [found] = re.findall(rf"<!-- {marker} -->\n```\w*\n(.*?)```$", README, re.DOTALL | re.MULTILINE)
    return found


def typed(marker: str) -> list[str]:
    """The last command of a line, what comes before it being the installation."""
    return shlex.split(block(marker).strip().split(" && ")[-1])


def test_the_first_command_installs_from_a_clone_and_decides_a_session() -> None:
    """One line, with nothing but Python: an environment of its own, the tested versions, the decision."""
    assert (
        "python3 -m venv .venv && .venv/bin/pip install -q -c constraints.txt . "
        "&& .venv/bin/mtum-eod run --date 2024-11-05 --dry-run\n"
    ) == block("command: try")


def test_the_second_command_installs_and_runs_all_tests() -> None:
    """The same environment, with what tests need; .ci/run takes this very line from the README."""
    assert (
        "python3 -m venv .venv && .venv/bin/pip install -q -c constraints.txt -e '.[test]' "
        "&& .venv/bin/pytest -n auto\n"
    ) == block("command: test")


def test_ci_runs_the_command_that_the_readme_prints() -> None:
    """The very extraction that .ci/run does, done here: it cannot come back empty."""
    [line] = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line.startswith("test_command=")]
    script = f'{line}; printf "%s\\n" "$test_command"'
    done = subprocess.run(["bash", "-euc", script], cwd=ROOT, check=True, capture_output=True, text=True)

    assert block("command: test") == done.stdout


def test_the_sample_output_is_what_the_program_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first command, in an empty folder with no settings and no database."""
    for name in [name for name in os.environ if name.startswith("MTUM_EOD_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    program, *arguments = typed("command: try")
    done = subprocess.run([sys.executable, "-m", "mtum_eod", *arguments], check=True, capture_output=True, text=True)

    assert ".venv/bin/mtum-eod" == program
    assert block("output: try") == done.stdout
    assert [] == list(tmp_path.iterdir())


def test_a_paper_day_ends_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The three lines as they stand, but on a free port and in a folder of their own."""
    for name in [name for name in os.environ if name.startswith("MTUM_EOD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    program, module, server, *arguments = shlex.split(block("command: paper").replace("\\\n", " "))
    command = [sys.executable, module, server, "--port", "0", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True)
    last = block("output: paper")

    assert ".venv/bin/python" == program
    assert last == done.stdout[-len(last) :]


def test_the_timetable_is_the_programs_own() -> None:
    """Each step with its distance from the close, under the default settings; the evening by New York's clock."""
    [rows] = re.findall(r"^```\n(close - .*?)```$", README, re.DOTALL | re.MULTILINE)
    said = {row[15:27].strip(): row[:15].strip() for row in rows.splitlines()}
    close = datetime(2024, 11, 5, 21, tzinfo=UTC)
    times = timetable(
        close.date(),
        close - timedelta(hours=6.5),
        close,
        ScheduleParameters(),
        require_confirmation=False,
        order_type=OrderType.MOC,
    )

    def from_close(instant: datetime) -> str:
        minutes = (instant - close) // timedelta(minutes=1)
        distance = f"{abs(minutes) // 60} h" if minutes % 60 == 0 else f"{abs(minutes)} min"
        return f"close {'-' if minutes < 0 else '+'} {distance}"

    assert {
        Step.PREFLIGHT: from_close(times.preflight_at),
        Step.DECIDE: from_close(times.decide_at),
        "hard stop": from_close(times.hard_stop_at),
        Step.SETTLE: from_close(times.settle_at),
        Step.EVENING: f"{EVENING_AT} New York",
    } == said
    assert set(Step) == set(said) - {"hard stop"}


def test_versions_named_are_those_supported() -> None:
    """README, classifiers and the range that pip checks say the same."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    classified = [c.rsplit(" ", 1)[1] for c in project["classifiers"] if "Python :: 3." in c]

    assert ["3.11", "3.12", "3.13"] == classified
    assert ">=3.11,<3.14" == project["requires-python"]
    assert "Python 3.11, 3.12 or 3.13" in README


def test_every_command_named_in_the_readme_exists() -> None:
    """Each `mtum-eod ...` in backquotes answers to --help."""
    named = {tuple(words.split()) for words in re.findall(r"`mtum-eod ([a-z]+(?: [a-z]+)?)", README)}
    unknown = [
        words
        for words in sorted(named)
        if CliRunner().invoke(cli, [*words, "--help"]).exit_code
        and CliRunner().invoke(cli, [words[0], "--help"]).exit_code
    ]

    assert [] == unknown


def test_crontab_example_calls_a_command_every_minute() -> None:
    """One line, five stars, none of the variables that only some crons know."""
    lines = (ROOT / "crontab.example").read_text(encoding="utf-8").splitlines()
    said = [line for line in lines if line and not line.startswith("#")]

    assert [True] == [line.startswith("* * * * * ") and "mtum-eod run --if-due" in line for line in said]


def rows_of(text: str) -> list[list[str]]:
    """A printed table as its cells, rules and padding left out."""
    return [line.split() for line in text.splitlines() if line.strip() and not line.startswith("-")]


def test_the_year_in_sql_is_what_the_database_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The range and the query as printed, on the embedded sample."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    [query] = re.findall(r'"(SELECT entry_session, .*? FROM trades)"', README)
    [first, last] = re.findall(r"run --from (\S+) --to (\S+)", README)[0]
    CliRunner().invoke(cli, ["run", "--from", first, "--to", last], catch_exceptions=False)
    with closing(sqlite3.connect("mtum-eod-simulated.db")) as db:
        cursor = db.execute(query)
        found = [[column[0] for column in cursor.description], *([str(cell) for cell in row] for row in cursor)]

    assert rows_of(block("output: year")) == found


def test_what_each_change_from_the_plan_does_is_what_comes_of_taking_it_back(real_data: Path, tmp_path: Path) -> None:
    """Indicators by pandas, volume cut, another fill: total return and number of trades as the README names them."""
    desk = work_in(tmp_path, csv_settings(real_data)).desk()
    history, start = read_history(desk, None, None)
    tape, p = history.tape(desk.parameters.strategy, start, lambda *_: None), desk.parameters
    high, low, close = (pd.Series(history.columns[name]) for name in ("high", "low", "close"))
    up, down = close.diff().clip(lower=0).rolling(14).mean(), -close.diff().clip(upper=0).rolling(14).mean()
    true_range = np.maximum(high, close.shift()) - np.minimum(low, close.shift())
    simple = {"rsi": (100 * up / (up + down)).to_numpy(), "atr": true_range.rolling(14).mean().to_numpy()}

    def played(**changes: Any) -> str:
        arguments = {"tape": tape, "p": p, "capital": 5000.0, "start": start} | changes
        done = backtest(**arguments)
        return f"{done.equity[-1] / 5000 - 1:.1%} in {len(done.trades)}".replace("%", " %")

    unbuffered = replace(p, risk=replace(p.risk, price_buffer_pct=0.0))
    noise = with_decision_noise(desk, run_backtest(desk, None, None, lambda *_: None), 200, lambda *_: None).noise
    assert noise is not None
    band = noise.total_return
    told = " ".join(README.split())
    assert f"With simple means: {played(tape=replace(tape, **simple))} trades." in told
    assert f"lie between {band.low:.1%} and {band.high:.1%} (".replace("%", " %") in told
    assert f"Without the buffer: {played(p=unbuffered).replace(' in ', ' in the same ')} trades." in told
    assert f"Filled at the next session's open instead: {played(fill=FillModel.NEXT_OPEN)}." in told
    assert f"Blocked that way: {played(tape=replace(tape, volume=0.89 * tape.volume))} trades," in told


def test_the_backtest_on_real_history_is_what_the_program_prints(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The published figures beside the measured ones, whatever they are."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("MTUM_EOD_DATA__SOURCE", "csv")
    monkeypatch.setenv("MTUM_EOD_DATA__CSV_DIR", str(real_data))
    done = CliRunner().invoke(cli, ["backtest"], catch_exceptions=False)

    assert rows_of(block("output: backtest")) == rows_of(done.stdout)
