"""Market data by themselves: what an import says of bars that the book has otherwise."""

from datetime import date
from pathlib import Path

import pytest
from fakes import SESSION, Bench

from mtum_eod.core.market import VIX
from mtum_eod.jobs.bars import import_bars

FIRST, REVISED = date(2024, 10, 1), date(2024, 11, 1)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A book that has the bars up to SESSION, the day after."""
    bench = Bench(tmp_path / "book.db")
    bench.at(date(2024, 11, 6), 60)
    import_bars(bench.desk, FIRST, SESSION)
    return bench


def findings(bench: Bench) -> list[list[tuple[str, str]]]:
    """Kind and words, of the symbol and of the VIX, as another import has them."""
    document = import_bars(bench.desk, FIRST, SESSION).document
    return [[(found["kind"], found["words"]) for found in symbol["findings"]] for symbol in document["symbols"]]


def test_an_import_names_final_bars_that_have_changed_and_keeps_both(bench: Bench):
    """Once: the next import finds them as they are stored."""
    bench.data.edit("MTUM", REVISED, volume=2e6)
    bench.data.edit(VIX, REVISED, open=15.0, high=15.0, low=15.0, close=15.5)
    first, again = findings(bench), findings(bench)

    assert [
        [("revised", "MTUM 2024-11-01: revised at arrays, volume 1000000 and 2000000")],
        [("revised", "VIX 2024-11-01: revised at arrays, close 15 and 15.5")],
    ] == first
    assert [[], []] == again
    assert [(1e6,), (2e6,)] == bench.sql(
        "SELECT volume FROM bar WHERE symbol = 'MTUM' AND session = '2024-11-01' ORDER BY revision"
    )


def test_an_import_of_another_scale_is_left_alone_and_says_so(bench: Bench):
    for column in ("open", "high", "low", "close"):
        bench.data.frames["MTUM"][column] /= 2
    [(kind, words)], vix = findings(bench)

    assert ("ratio", True, []) == (kind, words.endswith("Not imported: the next `mtum-eod run` sees to it"), vix)
