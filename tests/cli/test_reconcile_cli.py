"""`reconcile` as a person types it, on the embedded broker's book."""

import sqlite3
from contextlib import closing

import pytest
from terminal import Person


@pytest.fixture
def trader(person: Person) -> Person:
    """A book with 2024-11-05 bought and settled."""
    person.types("run --date 2024-11-05")
    person.types("settle")
    return person


def change(person: Person, statement: str) -> None:
    """Write into the database past all code under test."""
    with closing(sqlite3.connect(person.database)) as db, db:
        db.execute(statement)


def test_a_book_and_its_embedded_broker_agree(trader: Person):
    shown = trader.types("reconcile --json")
    lines = {line["what"]: line["agrees"] for line in shown.document["lines"]}

    assert (0, True) == (shown.exit_code, shown.document["agree"])
    assert {"position": True, "open orders": True, "executions": True, "cash": True} == lines


def test_comparing_touches_no_file(trader: Person):
    def files() -> dict[str, tuple[int, bytes]]:
        found = (path for path in trader.folder.rglob("*") if path.is_file())
        return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in found}

    before = files()
    trader.types("reconcile")

    assert before == files()


def test_a_table_names_what_differs(trader: Person):
    """Half of what was bought is sold at the embedded broker behind the book's back."""
    shares = trader.sql("SELECT shares FROM position")[0][0]
    change(trader, "UPDATE simulated_order SET shares = shares - 1")
    shown = trader.types("reconcile")

    assert 5 == shown.exit_code
    assert f"✗ position     {shares} shares" in shown.out


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("reconcile --leave 1 --resolve 2024-11-05 none", "go one at a time"),
        ("reconcile --adopt 19@204.10", "--adopt and --entry-date go together"),
        ("reconcile --entry-date 2024-11-05", "--adopt and --entry-date go together"),
        ("reconcile --sold 19@204.10", "--sold and --exit-date go together"),
        ("reconcile --adopt 19 --entry-date 2024-11-05", "is not SHARES@PRICE"),
        ("reconcile --fill 2024-11-05 0 1", "0.0 is not in the range x>0"),
        ("reconcile --fill 2024-11-05 204", "requires 3 arguments"),
        ("reconcile --resolve 2024-11-05 perhaps", "'perhaps' is not one of none, filled, and the shares of a part"),
        ("reconcile --resolve 2024-11-05 0", "'0' is not one of none, filled"),
        ("reconcile --resolve 2024-11-05 -3", "'-3' is not one of none, filled"),
        ("reconcile --resolve 2024-11-05 1.5", "'1.5' is not one of none, filled"),
        ("reconcile --leave -1", "-1.0 is not in the range x>=0"),
        ("reconcile --resolve 2024-11-05 none", "its order is filled"),
        ("reconcile --resolve 2024-11-04 none", "it has no order"),
        ("reconcile --fill 2024-11-05 204.1 1", "nothing is estimated"),
        ("reconcile --adopt 1@140 --entry-date 2024-11-04", "the book holds"),
        ("reconcile --leave 1", "of them are the book's"),
    ],
)
def test_nonsense_is_refused_in_words(trader: Person, typed: str, words: str):
    shown = trader.types(typed)

    assert (2, True) == (shown.exit_code, words in shown.err), shown.err
    assert [] == trader.sql("SELECT * FROM owner_act")


def test_an_estimate_is_put_right_and_who_did_it_is_kept(trader: Person):
    """What was booked is made an estimate by hand; the statement's numbers take its place."""
    change(trader, "UPDATE execution SET is_estimated = 1")
    shown = trader.types("reconcile --fill 2024-11-05 204.12 1.05 --json")

    assert (0, "at 204.12, commission 1.05 USD" in shown.document["words"]) == (shown.exit_code, True)
    assert [(204.12, 1.05, 0)] == trader.sql("SELECT price, commission, estimated FROM fills")
    [(act, who)] = trader.sql("SELECT act, acted_by FROM owner_act")
    assert ("fill", True) == (act, "@" in who)


def test_failures_are_one_document_too(trader: Person):
    shown = trader.types("reconcile --resolve 2024-11-05 none --json")

    assert "settings" == shown.error["code"]


def test_bars_of_another_scale_are_not_imported_over_the_stored_ones(trader: Person):
    """The book must still see the split at its next step."""
    change(trader, "UPDATE bar SET open = open * 2, high = high * 2, low = low * 2, close = close * 2")
    before = trader.sql("SELECT count(*) FROM bar WHERE symbol = 'MTUM'")
    shown = trader.types("data import --from 2024-01-02 --to 2024-11-04")

    assert before == trader.sql("SELECT count(*) FROM bar WHERE symbol = 'MTUM'")
    assert "as after a split of 2 new shares for one" in shown.out
    assert "Not imported: the next `mtum-eod run` sees to it" in shown.out
