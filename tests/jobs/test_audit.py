"""An honest backtest passes its audit; one that cheats does not."""

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from fakes import Bench

from mtum_eod.cli import cli
from mtum_eod.core import quality
from mtum_eod.core.backtest import Tape
from mtum_eod.core.parameters import StrategyParameters
from mtum_eod.jobs.audit import Audit, audit
from mtum_eod.jobs.backtest import History


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A seeded random walk of 460 sessions, so that 161 of them are decided, with entries and exits among them."""
    bench = Bench(tmp_path / "book.db")
    frame = bench.data.frames["MTUM"]
    walk = np.random.RandomState(7)
    close = 100 * np.exp(np.cumsum(walk.normal(0.0005, 0.012, len(frame))))
    frame[["open", "close"]] = np.column_stack([close, close])
    frame["high"], frame["low"] = close * 1.01, close * 0.99
    frame["volume"] = walk.uniform(5e5, 2e6, len(frame))
    bench.data.begin("MTUM", frame.index[40].date())
    bench.at(date(2024, 12, 31), -60)
    return bench


def audited(bench: Bench) -> Audit:
    return audit(bench.desk, None, None, lambda *_: None)


def cheat(monkeypatch: pytest.MonkeyPatch, spoil: Any) -> None:
    """Let every tape be spoiled on its way to the rules."""
    honest = History.tape

    def spoiled(self: History, p: StrategyParameters, start: int, progress: Any) -> Tape:
        return spoil(honest(self, p, start, progress))

    monkeypatch.setattr(History, "tape", spoiled)


def test_the_live_rules_neither_look_ahead_nor_need_their_start(bench: Bench):
    found = audited(bench)

    assert (True, 161, 3) == (found.passed, found.cuts, found.shortenings)
    assert found.largest_move < 1e-6


def test_a_backtest_that_sees_tomorrows_volume_is_caught(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """Each session is shown the volume of the next: on the last day of a cut there is none to show."""

    def look_ahead(tape: Tape) -> Tape:
        return replace(tape, volume=np.append(tape.volume[1:], 0.0))

    cheat(monkeypatch, look_ahead)
    found = audited(bench)

    assert (False, True) == (found.passed, len(found.looked_ahead) > 0)


def test_cleaning_that_sees_tomorrows_volume_is_caught(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """The check of the bars gives each session the volume of the next; rules and indicators are honest."""
    honest = quality.check

    def look_ahead(*args: Any, **options: Any) -> quality.Checked:
        checked = honest(*args, **options)
        values = checked.bars.values.copy()
        values[:-1, 4] = values[1:, 4]
        return replace(checked, bars=replace(checked.bars, values=values))

    monkeypatch.setattr(quality, "check", look_ahead)
    found = audited(bench)

    assert (False, True) == (found.passed, len(found.looked_ahead) > 0)


def test_a_backtest_that_leans_on_its_first_bar_is_caught(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """An average scaled by the first close is another one where the history begins later."""

    def from_the_start(tape: Tape) -> Tape:
        return replace(tape, ma_50=tape.ma_50 * tape.close[0] / 100)

    cheat(monkeypatch, from_the_start)
    found = audited(bench)

    assert ((), True) == (found.looked_ahead, len(found.needs_its_start) > 0)
    assert found.largest_move > 1e-6


def test_the_command_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """On the embedded sample, as typed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    typed = CliRunner().invoke(cli, ["backtest", "--from", "2024-01-02", "--to", "2024-06-28", "--audit"])

    assert 0 == typed.exit_code
    assert "the future cut off at each of 124 sessions: no decision changed" in typed.stdout
    assert [] == list(tmp_path.iterdir())
