"""Every query of docs/sql.md, on the book of book_by_hand; the answers were worked out on paper."""

import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from book_by_hand import write_book

from mtum_eod.adapters.store import open_store

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "sql.md").read_text(encoding="utf-8")
QUERIES = dict(re.findall(r"^### ([^\n]+)\n\n```sql\n(.*?)```", PAGE, re.MULTILINE | re.DOTALL))

ANSWERS: dict[str, list[tuple[Any, ...]]] = {
    "The open position": [(10, 107.0, "2024-01-16", 2.2, 115.8)],
    "Round trips of a year, with profit and loss": [
        ("2024-01-03", "2024-01-08", 20, 100.0, 110.4, "atr_profit", 203.79, 203.79),
        ("2024-01-09", "2024-01-10", 21, 108.0, 105.0, "trend", -67.47, 136.32),
    ],
    "Why no trade on a day": [
        ("2024-01-02", "decided", "VIX 26.0 is not below 25", None, 1, 0, 1, None),
        ("2024-01-04", "decided", "HOLD on 01-04", None, 1, 1, 1, None),
        ("2024-01-05", "decided", "Halted: holiday", "halted", 1, 1, 1, None),
        ("2024-01-11", "skipped", "MTUM: no bar for 2024-01-11", None, None, None, None, None),
        ("2024-01-12", "missed", "no run", None, None, None, None, None),
    ],
    "Hit rate by exit reason": [("atr_profit", 1, 1, 100.0, 203.79), ("trend", 1, 0, 0.0, -67.47)],
    "Commissions a month": [("2024-01", 8.68, 1)],
    "The equity curve, with its drawdown": [
        ("2024-01-02", 5000.0, 0.0),
        ("2024-01-03", 4998.0, -0.04),
        ("2024-01-04", 5078.0, 0.0),
        ("2024-01-05", 5208.0, 0.0),
        ("2024-01-08", 5203.79, -0.08),
        ("2024-01-09", 5201.52, -0.12),
        ("2024-01-10", 5136.32, -1.38),
        ("2024-01-11", 6136.32, 0.0),
        ("2024-01-16", 6136.32, 0.0),
    ],
    "Runs that failed, or never ended": [
        ("2024-01-11", "decide", "2024-01-11T20:40:00Z", 3, "MTUM: no bar for 2024-01-11", 2)
    ],
    "What is estimated, or not reported yet": [("2024-01-16", "BUY", 10, 107.0, None, 0)],
    "Decisions the final bar would have made otherwise": [("2024-01-09", "BUY", "HOLD", "BUY on 01-09")],
}


@pytest.fixture
def db(tmp_path: Path):
    path = tmp_path / "book.db"
    store = open_store(path)
    write_book(store)
    store.close()
    opened = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    yield opened
    opened.close()


def test_every_query_of_the_page_has_its_answer_here():
    assert (set(ANSWERS), PAGE.count("```sql")) == (set(QUERIES), len(ANSWERS))


@pytest.mark.parametrize("title", ANSWERS)
def test_a_query_of_the_page_gives_the_answer_worked_out_by_hand(db: sqlite3.Connection, title: str):
    rows = db.execute(QUERIES[title]).fetchall()

    assert ANSWERS[title] == [tuple(round(v, 9) if isinstance(v, float) else v for v in row) for row in rows]


@pytest.mark.parametrize("view", ["trades", "position", "fills", "signals", "equity", "sessions", "runs"])
def test_the_page_names_every_column_of_every_view(db: sqlite3.Connection, view: str):
    columns = [column[0] for column in db.execute(f"SELECT * FROM {view}").description]  # noqa: S608 (our own names)
    section = PAGE.split(f"### `{view}`")[1].split("\n### ")[0]

    assert [] == [column for column in columns if not re.search(rf"\b{column}\b", section)]
