"""`backtest --csv` and `--decision-noise` as they are typed: what they show and write, and what they refuse."""

import csv
import json
import sys
from datetime import date
from io import StringIO
from pathlib import Path
from stat import S_IMODE
from typing import Any

import pytest
from conftest import Person
from lived import csv_settings

from mtum_eod.jobs import decision_noise as job
from mtum_eod.jobs.audit import Audit
from mtum_eod.views import files

TRADED = "backtest --from 2018-01-02 --to 2018-12-31"
"""Some trades in the real history and in the sample."""

NAMES = ["equity.csv", "metrics.csv", "trades.csv"]


@pytest.fixture
def owner(person: Person, real_data: Path) -> Person:
    """Someone with the real history."""
    person.environment |= csv_settings(real_data)
    return person


def rows(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(file.read_text())))


# -- csv --------------------------------------------------------------------------------------------------------------


def test_the_files_say_what_json_says(owner: Person) -> None:
    """Every trade, every session, every figure, to the last digit; what is held stands beside the value."""
    document = owner.types(f"{TRADED} --csv out/new --json").document
    out = owner.folder / "out" / "new"
    trades = [
        {name: json.loads(text) if name == "exit_reasons" else text for name, text in row.items()}
        for row in rows(out / "trades.csv")
    ]

    assert [
        {name: text if name == "exit_reasons" else str(text) for name, text in trade.items()}
        for trade in document["trades"]
    ] == trades
    assert [(point["session"], str(point["value"])) for point in document["equity"]] == [
        (row["session"], row["value"]) for row in rows(out / "equity.csv")
    ]
    assert {
        name: (str(value), str(document["benchmark"].get(name, ""))) for name, value in document["metrics"].items()
    } == {row["name"]: (row["value"], row["benchmark"]) for row in rows(out / "metrics.csv")}


def test_shares_are_those_held_after_the_session(owner: Person) -> None:
    """Held from each entry to the session before its exit, nothing otherwise but for what is still open."""
    document = owner.types(f"{TRADED} --csv out --json").document
    held: dict[str, int] = {}
    for row in rows(owner.folder / "out" / "equity.csv"):
        inside = [t for t in document["trades"] if t["entry_session"] <= row["session"] < t["exit_session"]]
        still = document["open_position"]
        inside += [still] if still and still["entry_session"] <= row["session"] else []
        held[row["session"]] = sum(one["shares"] for one in inside)

    assert held == {row["session"]: int(row["shares"]) for row in rows(owner.folder / "out" / "equity.csv")}


def test_only_the_owner_reads_them(owner: Person) -> None:
    owner.types(f"{TRADED} --csv out")

    assert dict.fromkeys(NAMES, 0o600) == {
        path.name: S_IMODE(path.stat().st_mode) for path in sorted((owner.folder / "out").iterdir())
    }


def test_without_a_trade_the_head_stands_alone(owner: Person) -> None:
    """Two sessions: no round trip, and nothing to average."""
    owner.types("backtest --from 2018-01-02 --to 2018-01-03 --csv out")
    lines = (owner.folder / "out" / "trades.csv").read_text().splitlines()

    assert [True] == [line.startswith("entry_session,entry_price,shares,entry_atr,exit_session,") for line in lines]
    assert "win_rate,," in (owner.folder / "out" / "metrics.csv").read_text().splitlines()


@pytest.mark.parametrize("place", ["taken", "taken/below"])
def test_a_file_in_the_folders_place_is_refused(owner: Person, place: str) -> None:
    (owner.folder / "taken").write_text("mine")
    typed = owner.types(f"{TRADED} --csv {place}")

    assert (2, "") == (typed.exit_code, typed.out)
    assert f"{place} cannot be a folder: a file is in its place" in typed.err
    assert "hint:  name a folder, new or yours to write in, such as ./backtest" in typed.err
    assert "mine" == (owner.folder / "taken").read_text()


def test_a_folder_in_a_files_place_is_refused(owner: Person) -> None:
    (owner.folder / "out" / "equity.csv").mkdir(parents=True)
    typed = owner.types(f"{TRADED} --csv out --json")

    assert 2 == typed.exit_code
    assert "out/equity.csv cannot be written: it is a folder" in typed.error["message"]


def test_an_unwritable_folder_is_refused(owner: Person) -> None:
    """One that even root cannot write to."""
    typed = owner.types(f"{TRADED} --csv /proc/nobody")

    assert (2, "") == (typed.exit_code, typed.out)
    assert "/proc/nobody cannot be a folder" in typed.err


@pytest.mark.parametrize("asked", ["--csv taken", "--html nowhere/page.html", "--html page.html"])
def test_what_cannot_be_written_is_told_before_the_work(
    owner: Person, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    """A long backtest is not to be lost for the want of a folder, or of the packages that draw its page."""
    (owner.folder / "taken").write_text("mine")
    monkeypatch.setitem(sys.modules, "plotly", None)
    monkeypatch.setattr("mtum_eod.jobs.backtest.run_backtest", None)
    refused = owner.types(f"{TRADED} {asked} --json")

    assert (2, "settings") == (refused.exit_code, refused.error["code"])
    assert "page.html" != asked.split()[1] or "pip install 'mtum-eod[report]'" == refused.error["hint"]


def test_an_interruption_leaves_no_half_written_file(owner: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while the second file goes to the disk: the first is whole, the second the one before."""
    owner.types(f"{TRADED} --csv out")
    before = {name: (owner.folder / "out" / name).read_text() for name in NAMES}
    synced = []

    def interrupted(_: int) -> None:
        synced.append(1)
        if len(synced) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "fsync", interrupted)
    typed = owner.types(f"{TRADED} --csv out")

    assert (1, before) == (typed.exit_code, {path.name: path.read_text() for path in (owner.folder / "out").iterdir()})


# -- html -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["backtest --html absent/page.html", "report --html absent/page.html"])
def test_a_place_that_takes_no_page_is_refused_before_the_work(
    person: Person, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is read, measured or reviewed first."""
    monkeypatch.setattr("mtum_eod.jobs.backtest.run_backtest", lambda *_, **__: pytest.fail("worked in vain"))
    monkeypatch.setattr("mtum_eod.jobs.report.review_book", lambda *_, **__: pytest.fail("worked in vain"))
    typed = person.types(f"{command} --json")

    assert (2, "absent/page.html cannot be written: there is no folder absent") == (
        typed.exit_code,
        typed.error["message"],
    )
    assert "such as ./page.html" in typed.error["hint"]


# -- audit ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "beside", ["--fill next-open", "--slippage-pct 1", "--csv out", "--html page.html", "--decision-noise 5"]
)
def test_an_audit_goes_with_a_range_alone(person: Person, beside: str) -> None:
    """What it would not look at is refused, not passed over."""
    typed = person.types(f"{TRADED} --audit {beside}")

    assert (2, "", True) == (typed.exit_code, typed.out, "--audit looks at decisions" in typed.err)
    assert [] == list(person.folder.iterdir())


def test_a_failed_audit_asks_for_a_person(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 5: the rules have been changed so that they see tomorrow."""
    day = date(2024, 3, 1)
    failed = Audit(cuts=60, looked_ahead=(day,), shortenings=3, needs_its_start=(), largest_move=0.0)
    monkeypatch.setattr("mtum_eod.jobs.audit.audit", lambda *_: failed)
    typed = person.types(f"{TRADED} --audit")

    assert (5, True) == (typed.exit_code, "first on 2024-03-01" in typed.out)


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("backtest --slippage-pct abc", "'abc' is not a valid number."),
        ("backtest --decision-noise abc", "'abc' is not a valid whole number."),
    ],
)
def test_what_is_no_number_is_called_so(person: Person, typed: str, words: str) -> None:
    refused = person.types(typed)

    assert (2, True) == (refused.exit_code, words in refused.err)


# -- decision noise ---------------------------------------------------------------------------------------------------


def test_the_band_stands_below_the_published_figures(owner: Person) -> None:
    shown = owner.types(f"{TRADED} --decision-noise 20").out

    assert "decided 20 minutes before the close, 20 trials" in shown
    assert "Assumed: price off by recent volatility within the session's range, VIX -" in shown
    assert "of 251 sessions" in shown


def test_json_has_the_band_of_each_figure(owner: Person) -> None:
    """The same every time; around the trials' median, beside the figure of the plain backtest."""
    document = owner.types(f"{TRADED} --json --decision-noise 30").document
    noise = document["decision_noise"]
    bands: dict[str, Any] = {name: noise[name] for name in ("total_return", "cagr", "trades", "changed_sessions")}

    assert (30, 20, True) == (noise["trials"], noise["minutes_early"], -8 < noise["vix_sensitivity"] < -2)
    assert [True] * 4 == [band["low"] <= band["median"] <= band["high"] for band in bands.values()]
    assert [*(document["metrics"][name] for name in ("total_return", "cagr", "trades")), 0] == [
        band["at_close"] for band in bands.values()
    ]
    assert bands["total_return"]["low"] < bands["total_return"]["high"]
    assert noise == owner.types(f"{TRADED} --json --decision-noise 30").document["decision_noise"]


@pytest.mark.parametrize("typed", ["--decision-noise --json", "--json --decision-noise"])
def test_two_hundred_trials_unless_a_number_is_given(person: Person, typed: str) -> None:
    """On the sample."""
    assert 200 == person.types(f"{TRADED} {typed}").document["decision_noise"]["trials"]


def test_it_is_there_only_where_it_was_asked_for(person: Person) -> None:
    assert "decision_noise" not in person.types(f"{TRADED} --json").document


@pytest.mark.parametrize("trials", ["0", "100001", "some", "1.5"])
def test_a_number_of_trials_that_is_none_is_refused(person: Person, trials: str) -> None:
    typed = person.types(f"{TRADED} --decision-noise {trials}")

    assert (2, "") == (typed.exit_code, typed.out)
    assert "--decision-noise" in typed.err


def test_decided_at_the_close_itself_nothing_changes(owner: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten years of real history with the noise turned off: every trial is the plain backtest."""
    monkeypatch.setattr(job.EarlyView, "seen", lambda view, e, seen=job.EarlyView.seen: seen(view, 0 * e))
    noise = owner.types("backtest --json --decision-noise 2").document["decision_noise"]

    assert [True] * 4 == [
        noise[name]["low"] == noise[name]["high"] == noise[name]["at_close"]
        for name in ("total_return", "cagr", "trades", "changed_sessions")
    ]


def test_a_history_with_a_fault_is_decided_early_too(owner: Person, real_data: Path) -> None:
    """A session missing in 2017, inside the windows of most of 2018: entries stand still, and nothing breaks."""
    copied = owner.folder / "data"
    copied.mkdir()
    for name in ("MTUM.csv", "VIX.csv"):
        lines = (real_data / name).read_text().splitlines(keepends=True)
        (copied / name).write_text("".join(line for line in lines if not line.startswith("2017-06-01")))
    owner.environment |= csv_settings(copied)
    noise = owner.types(f"{TRADED} --json --decision-noise 5").document["decision_noise"]

    assert 0 == noise["trades"]["at_close"]
    assert 5 == noise["trials"]
