"""The soak: months in CI, ten years in `.ci/slow`. What happens in them, and what must hold: `years`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import pytest
from receivers import mail_server, web_server

from mtum_eod.adapters.calendar import ExchangeCalendar
from soak.years import Years, history
from tws_server import Server

YEARS = range(2013, 2023)

BARS_UNTIL = date(2023, 12, 29)
"""More than the year that they begin early: they reach to the end of `YEARS`."""


@pytest.fixture
def years(tmp_path: Path) -> Iterator[Callable[..., Years]]:
    calendar = ExchangeCalendar(BARS_UNTIL)
    with (
        Server(history(calendar, BARS_UNTIL), at=calendar.close(BARS_UNTIL)) as tws,
        web_server() as web,
        mail_server() as mail,
    ):
        yield lambda **what: Years(folder=tmp_path / "machine", tws=tws, web=web, mail=mail, **what)


def test_three_months_leave_the_books_of_the_broker_and_a_process_as_it_was(years: Callable[..., Years]) -> None:
    """Half days, a change of the clocks, a day of mourning; the power fails in two of the months."""
    lived = years(
        first=date(2018, 10, 29),
        last=date(2019, 1, 31),
        calm=frozenset({(2018, 10), (2018, 12)}),
        deaf=(date(2018, 12, 3),),
    )
    lived.live()
    complaints = lived.complaints()
    print(f"FIGURE three months: {lived.figures()}")

    assert [] == complaints


@pytest.mark.slow
def test_ten_years_leave_the_books_of_the_broker_and_a_process_as_it_was(years: Callable[..., Years]) -> None:
    """From March 2013, as bars begin with 2012: the first sessions have too few to decide on. 2021 has no power cut."""
    lived = years(
        first=date(2013, 3, 1),
        last=date(2022, 12, 30),
        calm=frozenset((2021, month) for month in range(1, 13)),
        deaf=tuple(monday for year in YEARS for monday in (first_monday(year, 3), first_monday(year, 10))),
    )
    lived.live()
    complaints = lived.complaints()
    print(f"FIGURE ten years: {lived.figures()}")

    assert [] == complaints


def first_monday(year: int, month: int) -> date:
    """The first Monday of a month."""
    return next(day for day in (date(year, month, number) for number in range(1, 8)) if day.weekday() == 0)
