"""The exchange's sessions against evidence from outside: published closures, half days, and MTUM's own history."""

import csv
import time
from datetime import UTC, date, datetime, timedelta
from datetime import time as wall_time

import pandas as pd
import pytest
from exchange_calendars.exchange_calendar_xnys import XNYSExchangeCalendar
from hypothesis import given
from hypothesis import strategies as st

from mtum_eod.adapters import calendar as calendar_module
from mtum_eod.adapters.calendar import ExchangeCalendar, exchange_instant, local_date
from mtum_eod.errors import SettingsError

TODAY = date(2024, 11, 5)

CALENDAR = ExchangeCalendar(TODAY)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text + "+00:00")


# -- sessions ---------------------------------------------------------------------------------------------------------


def test_every_session_of_mtum_is_a_session_and_no_other_day_is(real_data):
    """The dates of the real file, 2013-04-18 to 2022-12-30."""
    with (real_data / "MTUM.csv").open() as file:
        dates = [date.fromisoformat(row["Date"]) for row in csv.DictReader(file)]

    assert dates == CALENDAR.sessions(dates[0], dates[-1])


@pytest.mark.parametrize(
    "day",
    [
        "2012-10-29",  # hurricane Sandy
        "2012-10-30",
        "2018-12-05",  # mourning for George H. W. Bush
        "2025-01-09",  # mourning for Jimmy Carter
        "2022-06-20",  # the first Juneteenth, observed on Monday
        "2024-03-29",  # Good Friday
        "2024-07-04",
        "2024-11-28",
        "2021-12-24",  # Christmas observed on Friday
        "2024-11-02",  # a Saturday
    ],
)
def test_the_exchange_is_closed(day):
    """Closures as the exchange announced them."""
    assert not CALENDAR.is_session(date.fromisoformat(day))


@pytest.mark.parametrize(
    "day",
    [
        "2021-06-18",  # Juneteenth was no holiday of the exchange before 2022
        "2021-12-31",  # New Year's Day on a Saturday is not moved to Friday
        "2024-10-14",  # Columbus Day
        "2024-11-05",  # election day
        "2024-11-11",  # Veterans Day
    ],
)
def test_the_exchange_is_open(day):
    """Days on which banks or offices rest, and the exchange does not."""
    assert CALENDAR.is_session(date.fromisoformat(day))


@pytest.mark.parametrize(("year", "count"), [(2013, 252), (2016, 252), (2018, 251), (2020, 253), (2024, 252)])
def test_a_year_has_the_published_number_of_sessions(year, count):
    """As the exchange counts its trading days."""
    assert count == len(CALENDAR.sessions(date(year, 1, 1), date(year, 12, 31)))


@pytest.mark.parametrize(
    ("session", "close"),
    [
        ("2018-12-24", "18:00"),
        ("2019-07-03", "17:00"),
        ("2024-07-03", "17:00"),
        ("2024-11-29", "18:00"),
        ("2024-12-24", "18:00"),
        ("2024-07-02", "20:00"),
        ("2024-12-23", "21:00"),
        ("2013-07-03", "17:00"),
        ("2014-12-26", "21:00"),
    ],
)
def test_half_days_close_at_one_in_new_york(session, close):
    """Announced early closes and whole days beside them, in UTC."""
    assert utc(f"{session}T{close}") == CALENDAR.close(date.fromisoformat(session))


@pytest.mark.parametrize(
    ("session", "opens", "close"),
    [
        ("2024-03-08", "14:30", "21:00"),  # winter everywhere
        ("2024-03-11", "13:30", "20:00"),  # summer in New York, winter in Europe
        ("2024-03-28", "13:30", "20:00"),
        ("2024-04-01", "13:30", "20:00"),  # summer everywhere
        ("2024-10-25", "13:30", "20:00"),
        ("2024-10-28", "13:30", "20:00"),  # winter in Europe, summer in New York
        ("2024-11-01", "13:30", "20:00"),
        ("2024-11-04", "14:30", "21:00"),  # winter everywhere
    ],
)
def test_the_clocks_of_new_york_alone_move_the_session(session, opens, close):
    """The weeks in which America and Europe differ, in UTC."""
    day = date.fromisoformat(session)

    assert (utc(f"{session}T{opens}"), utc(f"{session}T{close}")) == (CALENDAR.open(day), CALENDAR.close(day))


def test_instants_are_in_utc():
    """Nothing carries a zone of its own out of the adapter."""
    instants = [CALENDAR.open(TODAY), CALENDAR.close(TODAY), CALENDAR.at(TODAY, "09:30")]

    assert [UTC] * 3 == [instant.tzinfo for instant in instants]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the package on pandas 3.1
def test_working_out_only_the_rules_in_force_changes_no_session():
    """The whole package, untouched, over the same range."""
    whole = XNYSExchangeCalendar(start="2012-01-01", end="2026-11-05")
    days = [stamp.date() for stamp in whole.sessions]

    assert {
        day: (opens.to_pydatetime(), close.to_pydatetime())
        for day, opens, close in zip(days, whole.opens, whole.closes, strict=True)
    } == {day: (CALENDAR.open(day), CALENDAR.close(day)) for day in CALENDAR.sessions(days[0], days[-1])}
    assert (days[0], days[-1]) == (CALENDAR.first_session, CALENDAR.last_session)


# -- around a day -----------------------------------------------------------------------------------------------------


def test_a_window_ends_at_its_session():
    """Over Thanksgiving 2024."""
    assert [date(2024, 11, 26), date(2024, 11, 27), date(2024, 11, 29)] == CALENDAR.window(date(2024, 11, 29), 3)


def test_a_window_is_shorter_where_the_calendar_starts():
    """Three sessions into 2012, 400 were asked for."""
    assert [date(2012, 1, 3), date(2012, 1, 4), date(2012, 1, 5)] == CALENDAR.window(date(2012, 1, 5), 400)


@pytest.mark.parametrize(
    ("day", "before", "after"),
    [
        ("2024-11-28", "2024-11-27", "2024-11-29"),
        ("2024-11-29", "2024-11-27", "2024-12-02"),
        ("2024-11-30", "2024-11-29", "2024-12-02"),
    ],
)
def test_the_nearest_sessions_lie_on_both_sides_of_a_day(day, before, after):
    """A holiday, a session itself, a Saturday."""
    assert (date.fromisoformat(before), date.fromisoformat(after)) == CALENDAR.nearest(date.fromisoformat(day))


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ask", [CALENDAR.open, CALENDAR.close, lambda day: CALENDAR.window(day, 3)])
def test_a_day_that_is_no_session_is_refused_with_its_neighbours(ask):
    """Thanksgiving 2024."""
    with pytest.raises(SettingsError) as caught:
        ask(date(2024, 11, 28))

    assert (
        "Thursday 2024-11-28 is no session of the exchange",
        "The nearest sessions are 2024-11-27 and 2024-11-29.",
    ) == (
        caught.value.message,
        caught.value.hint,
    )


@pytest.mark.parametrize("day", [date(2026, 11, 6), date(2031, 1, 1), date(2012, 1, 2)])
@pytest.mark.parametrize(
    "ask",
    [
        CALENDAR.is_session,
        CALENDAR.open,
        CALENDAR.close,
        CALENDAR.nearest,
        lambda day: CALENDAR.window(day, 3),
        lambda day: CALENDAR.sessions(day, TODAY),
        lambda day: CALENDAR.sessions(TODAY, day),
    ],
)
def test_what_lies_beyond_is_unknown_not_a_holiday(ask, day):
    """A day on either side of what is known from 2012 to two years ahead."""
    with pytest.raises(SettingsError) as caught:
        ask(day)

    assert f"{day} lies beyond the exchange calendar, known from 2012-01-03 to 2026-11-05" == caught.value.message


@pytest.mark.parametrize("day", [date(2012, 1, 3), date(2026, 11, 5)])
def test_the_neighbour_of_an_edge_is_unknown(day):
    """The first and the last known session."""
    with pytest.raises(SettingsError, match="has no known neighbour at the edge of the exchange calendar"):
        CALENDAR.nearest(day)


def test_the_packages_own_end_is_respected_and_told(monkeypatch):
    """A release whose rules end next summer cannot vouch for two years."""
    monkeypatch.setattr(XNYSExchangeCalendar, "bound_max", staticmethod(lambda: pd.Timestamp("2025-06-30")))
    calendar = ExchangeCalendar(TODAY)

    with pytest.raises(SettingsError) as caught:
        calendar.is_session(date(2025, 7, 1))

    assert (
        date(2025, 6, 30),
        "The installed package ends at 2025-06-30: pip install --upgrade exchange_calendars",
    ) == (
        calendar.last_session,
        caught.value.hint,
    )


# -- wall time --------------------------------------------------------------------------------------------------------

SERVER_ZONES = ["Pacific/Kiritimati", "Asia/Tokyo", "Europe/Berlin", "UTC", "America/New_York", "Pacific/Pago_Pago"]


@pytest.fixture(params=SERVER_ZONES)
def server_zone(request, monkeypatch):
    """The machine's zone, from 14 hours before UTC to 11 behind."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("server_zone")
@pytest.mark.parametrize(
    ("instant", "day"),
    [
        ("2024-11-05T04:59:59", "2024-11-04"),
        ("2024-11-05T05:00:00", "2024-11-05"),
        ("2024-11-05T20:40:00", "2024-11-05"),
        ("2024-11-06T02:00:00", "2024-11-05"),  # nine in the evening in New York
        ("2024-11-06T04:59:59", "2024-11-05"),
        ("2024-07-03T03:59:59", "2024-07-02"),
        ("2024-07-03T04:00:00", "2024-07-03"),
    ],
)
def test_which_session_it_is_does_not_depend_on_the_servers_zone(instant, day):
    """Midnight is New York's; asked in UTC and in the server's own zone."""
    in_utc = utc(instant)

    assert [date.fromisoformat(day)] * 2 == [local_date(in_utc), CALENDAR.local_date(in_utc.astimezone())]


@pytest.mark.usefixtures("server_zone")
def test_closes_and_wall_times_do_not_depend_on_the_servers_zone():
    """A calendar built where the server stands."""
    calendar = ExchangeCalendar(TODAY)

    assert (utc("2024-07-03T17:00"), utc("2024-11-05T14:30")) == (
        calendar.close(date(2024, 7, 3)),
        calendar.at(TODAY, "09:30"),
    )


@pytest.mark.parametrize(
    ("day", "clock", "instant"),
    [
        ("2024-11-05", "09:30", "2024-11-05T14:30"),
        ("2024-07-03", "09:30", "2024-07-03T13:30"),
        ("2024-03-10", "01:59", "2024-03-10T06:59"),
        ("2024-03-10", "03:00", "2024-03-10T07:00"),
        ("2024-03-10", "02:30", "2024-03-10T07:30"),  # left out in spring: on winter time
        ("2024-11-03", "01:30", "2024-11-03T06:30"),  # twice in autumn: the later one
        ("2024-11-03", "00:59", "2024-11-03T04:59"),
    ],
)
def test_a_wall_time_in_new_york_is_one_instant(day, clock, instant):
    """Winter, summer and the nights the clocks change."""
    assert utc(instant) == CALENDAR.at(date.fromisoformat(day), clock)


@given(st.sampled_from(CALENDAR.sessions(CALENDAR.first_session, CALENDAR.last_session)))
def test_the_package_and_pytz_agree_on_every_open(session):
    """Two sources of zone rules, one instant: 09:30 in New York, on the session's own date."""
    assert (CALENDAR.open(session), session) == (
        exchange_instant(session, wall_time(9, 30)),
        local_date(CALENDAR.close(session)),
    )


def test_an_instant_without_a_zone_is_refused():
    """It would silently be read in the server's zone."""
    with pytest.raises(ValueError, match="an instant without a zone: 2024-11-05T20:40:00"):
        local_date(datetime(2024, 11, 5, 20, 40))  # noqa: DTZ001  # the point of the test


# -- cost -------------------------------------------------------------------------------------------------------------


def test_the_calendar_is_built_once_and_only_when_asked(monkeypatch):
    """A command that names no session pays nothing for it."""
    builds = []
    build = calendar_module._build
    monkeypatch.setattr(calendar_module, "_build", lambda *range_: builds.append(range_) or build(*range_))
    calendar = ExchangeCalendar(TODAY)
    before = len(builds)
    calendar.close(TODAY)
    calendar.sessions(TODAY - timedelta(days=30), TODAY)

    assert (0, [(date(2012, 1, 1), date(2026, 11, 5))]) == (before, builds)
