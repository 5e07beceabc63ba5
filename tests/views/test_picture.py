"""A session's picture: half a year up to it, drawn from the decision and the bars around it."""

import struct
import sys
from dataclasses import replace
from math import nan
from pathlib import Path
from typing import Any

import pytest
from evidence_by_hand import NUMBERS, flat, long, parameters
from fakes import SESSION, ArrayData, Bench, calendar
from matplotlib.axes import Axes

from mtum_eod.core.backtest import Tape
from mtum_eod.core.evidence import Evidence
from mtum_eod.core.indicators import sma
from mtum_eod.errors import SettingsError
from mtum_eod.jobs.outcome import Outcome
from mtum_eod.jobs.picture import SHOWN, sessions_before
from mtum_eod.jobs.replay import outcome_of
from mtum_eod.views.png import picture


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "book.db", data=ArrayData())


def tape(bench: Bench) -> Tape:
    return sessions_before(bench.desk.sources, SESSION, calendar().close(SESSION), parameters().strategy)


def outcome(evidence: Evidence, bench: Bench) -> Outcome:
    return outcome_of(evidence, parameters(), bench.desk.book, source="arrays")


def test_the_picture_ends_with_the_session_and_shows_half_a_year(bench: Bench):
    """126 sessions; the mean at the last of them is that of its 50 closes."""
    shown = tape(bench)
    closes = bench.data.frames["MTUM"]["close"].loc[: str(SESSION)].to_numpy()

    assert (SHOWN, SESSION) == (len(shown.sessions), shown.sessions[-1])
    assert closes[-126:].tolist() == shown.close.tolist()
    assert pytest.approx(sum(closes[-50:]) / 50, rel=1e-12) == shown.ma_50[-1]
    assert pytest.approx(float(sma(closes, 50)[-126]), rel=1e-12) == shown.ma_50[0]


UNKNOWN = replace(NUMBERS, vix=nan, volume=nan, volume_ma_20=nan)


@pytest.mark.parametrize("evidence", [flat(), long(), long(UNKNOWN)], ids=["flat", "long", "unknown numbers"])
def test_a_picture_is_a_png_of_its_size(bench: Bench, evidence: Evidence):
    """11 by 9 inches at 110 dots; what is not known is left out."""
    drawn = picture(outcome(evidence, bench), tape(bench))

    assert (b"\x89PNG", (1210, 990)) == (drawn[:4], struct.unpack(">II", drawn[16:24]))


def test_the_picture_shows_the_numbers_that_were_decided_on(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """Close 200.00, RSI 60.0, VIX 18.0; entry 195.00 and target 211.00 of the shares held."""
    words: list[str] = []
    annotate = Axes.annotate

    def heard(axes: Axes, text: str, *places: Any, **looks: Any) -> Any:
        words.append(text)
        return annotate(axes, text, *places, **looks)

    monkeypatch.setattr(Axes, "annotate", heard)
    picture(outcome(long(), bench), tape(bench))

    assert {"200.00", "60.0", "18.0", "entry 195.00", "target 211.00", "exit > 30", "exit < 30"} <= set(words)


def test_without_the_extra_the_cure_is_named(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    with pytest.raises(SettingsError) as refused:
        picture(outcome(flat(), bench), tape(bench))
    assert "pip install 'mtum-eod[report]'" == refused.value.hint
