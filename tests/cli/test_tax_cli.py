"""`export tax` on real history: what is in the file, what is beside it, and that it agrees with `trades`."""

import csv
import json
from io import StringIO
from pathlib import Path
from shutil import copyfile

import pytest
from conftest import Person
from lived import csv_settings, live, work_in

BANNER = "this book only, other accounts unseen"


@pytest.fixture(scope="module")
def book(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = work_in(tmp_path_factory.mktemp("taxed"), csv_settings(real_data))
    live(place, "2015-11-20", "2016-01-15")
    return place.database


@pytest.fixture
def owner(person: Person, book: Path, real_data: Path) -> Person:
    """Someone with that book."""
    person.environment |= csv_settings(real_data)
    copyfile(book, person.database)
    return person


def test_net_pnl_of_the_lots_is_that_of_the_trades(owner: Person) -> None:
    """Each round trip's lots add up to its line in the view, to the cent; there are wash sales among them."""
    rows = owner.types("export tax --format json").document["rows"]
    trades = owner.sql("SELECT exit_session, net_pnl FROM trades")

    assert [pytest.approx(pnl, abs=0.005) for _, pnl in trades] == [
        sum(row["net_pnl"] for row in rows if row["date_sold"] == session) for session, _ in trades
    ]
    assert {"", "W"} == {row["code"] for row in rows}


def test_the_banner_stands_beside_the_csv_and_inside_the_json(owner: Person) -> None:
    as_csv, as_json = owner.types("export tax"), owner.types("export tax --format json")

    assert (BANNER, True) == (as_csv.err.splitlines()[0], as_csv.out.startswith("description,date_acquired,"))
    assert BANNER == as_json.document["banner"]


def test_a_year_is_the_year_of_the_sale(owner: Person) -> None:
    every = list(csv.DictReader(StringIO(owner.types("export tax").out)))
    years = [list(csv.DictReader(StringIO(owner.types(f"export tax --year {y}").out))) for y in (2015, 2016)]

    assert every == [row for year in years for row in year]
    assert [{"2015"}, {"2016"}] == [{row["date_sold"][:4] for row in year} for year in years]


def test_a_year_without_a_sale_has_no_rows(owner: Person) -> None:
    assert [] == json.loads(owner.types("export tax --year 2030 --format json").out)["rows"]


def test_without_a_database_there_is_nothing_to_declare(person: Person) -> None:
    assert 7 == person.types("export tax").exit_code
