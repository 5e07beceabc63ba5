"""`sweep` as it is typed: what it shows and writes, and what it says to what makes no sense."""

import csv
from io import StringIO
from pathlib import Path

import pytest
from conftest import Person
from lived import csv_settings

from mtum_eod.settings import varied
from mtum_eod.views import sweep as view

SWEEP = "sweep --vary ma_period=20:100:20 --vary vix_entry_threshold=18,25,35"


@pytest.fixture
def owner(person: Person, real_data: Path) -> Person:
    """Someone with the real history."""
    person.environment |= csv_settings(real_data)
    return person


# -- what it shows ----------------------------------------------------------------------------------------------------


def test_the_best_stands_beside_your_settings_with_the_word_hindsight(owner: Person) -> None:
    shown = owner.types(SWEEP)

    assert (0, True, True) == (shown.exit_code, "chosen with hindsight" in shown.out, "buy & hold" in shown.out)
    assert "skipped 5: vix_entry_threshold above vix_exit_threshold" in shown.out


def test_two_varied_numbers_make_a_heat_map(owner: Person) -> None:
    """A line a moving average, a column a threshold, one star, and a dash where a combination was skipped."""
    lines = owner.types(SWEEP).out.splitlines()
    head = next(place for place, line in enumerate(lines) if line.startswith("total return by ma_period"))
    rows = [line.split() for line in lines[head + 2 : head + 7]]

    assert ["18", "25", "35"] == lines[head + 1].split()
    assert ["20", "40", "60", "80", "100"] == [row[0] for row in rows]
    assert ["-"] * 5 == [row[-1] for row in rows]
    assert 1 == sum(cell.endswith("*") for row in rows for cell in row)


def test_json_has_all_of_it(owner: Person) -> None:
    document = owner.types(f"{SWEEP} --json --top 4 --walk-forward train=4y,test=18m").document

    assert ({"ma_period": [20, 40, 60, 80, 100], "vix_entry_threshold": [18.0, 25.0, 35.0]}, 15, 10, 4) == (
        document["varied"],
        document["combinations"],
        document["tried"],
        len(document["results"]),
    )
    assert {"vix_entry_threshold above vix_exit_threshold": 5} == document["skipped"]
    assert "2018-06-25" == document["walk_forward"][0]["test_first"]
    assert {"total_return", "present", "buy_and_hold"} == set(document["out_of_sample"])


def test_json_of_one_combination_is_the_backtest_of_its_settings(owner: Person) -> None:
    """The same figures under the same names, typed as settings."""
    swept = owner.types("sweep --vary ma_period=90 --vary stop_loss_enabled=true --json --from 2016-01-04").document
    owner.environment |= {"MTUM_EOD_STRATEGY__MA_PERIOD": "90", "MTUM_EOD_STRATEGY__STOP_LOSS_ENABLED": "true"}
    tested = owner.types("backtest --json --from 2016-01-04").document["metrics"]

    names = ("total_return", "cagr", "trades", "win_rate", "max_drawdown", "sharpe")
    assert {name: pytest.approx(tested[name], rel=1e-9) for name in names} == {
        name: swept["best"][name] for name in names
    }


def test_csv_has_every_combination_that_was_tried(owner: Person) -> None:
    owner.types(f"{SWEEP} --csv all.csv")
    rows = list(csv.DictReader(StringIO((owner.folder / "all.csv").read_text())))

    assert [(a, v) for a in ("20", "40", "60", "80", "100") for v in ("18.0", "25.0")] == [
        (row["ma_period"], row["vix_entry_threshold"]) for row in rows
    ]


def test_png_is_a_picture(owner: Person) -> None:
    pytest.importorskip("matplotlib")
    owner.types(f"{SWEEP} --png map.png")

    assert b"\x89PNG\r\n\x1a\n" == (owner.folder / "map.png").read_bytes()[:8]


def test_synthetic_data_are_called_so(person: Person) -> None:
    assert "SYNTHETIC" in person.types("sweep --vary ma_period=50,60 --from 2016-01-04 --to 2016-12-30").out


def test_nothing_is_written_without_being_asked(owner: Person) -> None:
    owner.types(SWEEP)

    assert [] == list(owner.folder.iterdir())


def test_an_interruption_leaves_the_file_that_was_there(owner: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while the table is put together."""

    def interrupted(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(view, "as_csv", interrupted)
    (owner.folder / "all.csv").write_text("the one before")
    typed = owner.types(f"{SWEEP} --csv all.csv")

    assert (1, ["all.csv"]) == (typed.exit_code, [path.name for path in owner.folder.iterdir()])
    assert "the one before" == (owner.folder / "all.csv").read_text()


# -- what makes no sense ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ("", 2, "nothing to vary"),
        ("--vary ma_perid=20:100:5", 2, "did you mean ma_period?"),
        ("--vary risk.ma_period=20,30", 2, "--vary risk.ma_period: there is no such number"),
        ("--vary elephants=1,2", 2, "there is no such number in [strategy] or [risk]; there are: ma_period,"),
        ("--vary volume_basis=auto,session", 2, "there is no such number"),
        ("--vary ma_period", 2, "no values; write ma_period=FROM:TO:STEP"),
        ("--vary ma_period=", 2, "no values"),
        ("--vary ma_period=20:100:0", 2, "the step is 0; it must be above 0"),
        ("--vary ma_period=20:100:-5", 2, "the step is -5; it must be above 0"),
        ("--vary ma_period=100:20:5", 2, "100 to 20 is empty; FROM is the smaller one"),
        ("--vary ma_period=20:100", 2, "20:100 is no range; write FROM:TO:STEP"),
        ("--vary ma_period=nan:100:5", 2, "nan:100:5 is no range"),
        ("--vary atr_multiplier=0:1:1e-9", 2, "has more than 100,000 values; widen the step"),
        ("--vary ma_period=1:5:1", 2, "strategy.ma_period = 1; allowed: a whole number, at least 2"),
        ("--vary ma_period=20.5,30", 2, 'strategy.ma_period = "20.5"; allowed: a whole number'),
        ("--vary vix_entry_threshold=nan,20", 2, "strategy.vix_entry_threshold = NaN; allowed: a number, above 0"),
        ("--vary max_position_pct=50,150", 2, "risk.max_position_pct = 150.0; allowed: a number above 0 and at most"),
        ("--vary stop_loss_enabled=maybe", 2, 'strategy.stop_loss_enabled = "maybe"; allowed: true or false'),
        ("--vary ma_period=20 --vary strategy.ma_period=30", 2, "given twice"),
        ("--vary vix_entry_threshold=31,35", 2, "none of the 2 combinations makes sense"),
        ("--vary ma_period=20,30 --from 2013-05-01", 3, "2013-05-01 is too early"),
        ("--vary ma_period=20,30 --to 2011-01-03", 3, "no bar up to 2011-01-03"),
        ("--vary ma_period=20,30 --from 2020-06-01 --to 2020-01-02", 2, "no session from 2020-06-01 to 2020-01-02"),
        ("--vary ma_period=20,30 --from 2019-13-45", 2, "'2019-13-45' is no date"),
        ("--vary ma_period=20,30 --walk-forward train=0y", 2, "is not train=5y,test=1y"),
        ("--vary ma_period=20,30 --walk-forward train=9y,test=1y", 2, "shorter than 108 months of training"),
        ("--vary ma_period=20,30 --png map.png", 2, "--png draws two varied numbers"),
        ("--vary ma_period=20,30 --csv nowhere/all.csv", 2, "nowhere/all.csv cannot be written"),
        ("--vary ma_period=20,30 --csv .", 2, "cannot be written"),
        ("--vary ma_period=20,30 --backend dask", 2, "--backend dask and --address go together"),
        ("--vary ma_period=20,30 --address tcp://x:1", 2, "--backend dask and --address go together"),
        ("--vary ma_period=20:119:1 --vary atr_multiplier=0.00005:5:0.00005", 2, "10,000,000 combinations would take"),
        (
            "--vary atr_multiplier=1:9e4:1 --vary max_position_size=1:9e4:1 --vary vix_exit_threshold=1:9e4:1",
            2,
            "years",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(owner: Person, arguments: str, code: int, words: str) -> None:
    typed = owner.types(f"sweep {arguments}")

    assert (code, "") == (typed.exit_code, typed.out)
    assert words in typed.err


def test_everything_that_is_wrong_is_told_at_once(owner: Person) -> None:
    told = owner.types("sweep --vary ma_perid=1 --vary rsi_period=1,5 --json").error["message"]

    assert "2 problems" in told
    assert "ma_period" in told
    assert "strategy.rsi_period = 1" in told


def test_ranges_include_their_end_and_keep_their_decimals() -> None:
    """0.1 steps are 0.3, not 0.30000000000000004; a value given twice counts once."""
    assert {"atr_multiplier": (0.1, 0.2, 0.3), "ma_period": (20, 25, 30, 50)} == varied(
        ["atr_multiplier=0.1:0.3:0.1", "strategy.ma_period=20:30:5,50,20"]
    )
