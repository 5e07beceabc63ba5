"""A run over a range leaves the same book however often, and in however many pieces, it is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from lived import book_rows, live, query, work_in

FIRST, LAST = "2024-01-02", "2024-03-28"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of the whole quarter, run at once."""
    return lived(tmp_path_factory.mktemp("sample") / "whole", (FIRST, LAST))


def lived(folder: Path, *ranges: tuple[str, str]) -> Path:
    """The database left by these ranges of the sample, one after the other."""
    folder.mkdir()
    place = work_in(folder, {})
    for first, last in ranges:
        live(place, first, last)
    return place.database


def test_the_same_range_leaves_the_same_rows(whole: Path, tmp_path: Path) -> None:
    """Two books, one quarter of the sample: 61 sessions, not a cent apart."""
    again = lived(tmp_path / "again", (FIRST, LAST))

    assert book_rows(whole) == book_rows(again)
    assert [(61, 4)] == query(
        whole, "SELECT (SELECT count(*) FROM sessions WHERE settled), (SELECT count(*) FROM trades)"
    )


def test_a_range_in_two_halves_is_the_whole_range(whole: Path, tmp_path: Path) -> None:
    """The second run goes on where the first one ended."""
    halves = lived(tmp_path / "halves", (FIRST, "2024-02-14"), ("2024-02-15", LAST))

    assert book_rows(whole) == book_rows(halves)


def test_a_range_run_again_writes_nothing(tmp_path: Path) -> None:
    """What is done is passed over: no run is filed, no row is written."""
    database = lived(tmp_path / "book", (FIRST, "2024-01-31"))
    before = query(database, "SELECT * FROM runs"), book_rows(database)
    result = live(work_in(database.parent, {}), FIRST, "2024-01-31")

    assert (21, 21, ()) == (result.sessions, result.already_done, result.outcomes)
    assert before == (query(database, "SELECT * FROM runs"), book_rows(database))
