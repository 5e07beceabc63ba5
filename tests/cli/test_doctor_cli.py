"""`doctor` as a person types it."""

import os

import pytest
from terminal import Person


@pytest.mark.parametrize("typed", ["doctor", "--test", "doctor --full --place-test-order"])
def test_a_new_folder_is_told_that_all_will_do(person: Person, typed: str):
    seen = person.types(typed)

    assert (0, True) == (seen.exit_code, "will do" in seen.out.splitlines()[-1])
    assert [] == list(person.folder.iterdir())


def test_a_damaged_database_is_one_failure_among_the_others(person: Person):
    person.types("run --date 2024-11-05")
    content = person.database.read_bytes()
    person.database.write_bytes(content[:4096] + b"\xff" * 4096 + content[8192:])
    seen = person.types("doctor --json")
    first = seen.document["checks"][0]

    assert (7, "database", False) == (seen.exit_code, first["name"], first["passed"])


def test_a_database_in_a_folder_without_permission_is_one_failure(person: Person):
    """Neither a traceback nor a book that is taken for none yet."""
    locked = person.folder / "locked"
    locked.mkdir(mode=0)
    if os.access(locked, os.X_OK):
        pytest.skip("this user searches every folder; .ci/run tries it without that power")
    person.environment["MTUM_EOD_DATABASE__URL"] = f"sqlite:///{locked}/book.db"
    seen = person.types("doctor --json")
    first = seen.document["checks"][0]

    assert (7, "database", False) == (seen.exit_code, first["name"], first["passed"])
    assert f"database {locked}/book.db: its folder cannot be looked into (Permission denied)" == first["words"]


def test_what_paper_has_shown_is_asked_of_the_paper_book_alone(person: Person):
    person.environment["MTUM_EOD_DATA__SOURCE"] = "yahoo"
    seen = person.types("doctor --go-live")
    both = person.types("doctor --go-live --full")

    assert (5, 2) == (seen.exit_code, both.exit_code)
    assert "7 of 7 will not do" in seen.out
