"""A virtual clock walks through every day from 2013 to the calendar's end, on servers in five time zones.

The calendar is the real one; what each day must have done is written in New York's wall time, by Python's own zones.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from machine_time import MachineTime

from mtum_eod.adapters.calendar import ExchangeCalendar
from mtum_eod.adapters.clock import SystemClock
from mtum_eod.core.parameters import ScheduleParameters
from mtum_eod.core.timing import EVENING_AT, Due, EveningFacts, SessionFacts, due, is_eve_of_a_week, timetable
from mtum_eod.core.trading import OrderType, Step

NEW_YORK = ZoneInfo("America/New_York")
MINUTE = timedelta(minutes=1)
FIRST = date(2013, 1, 2)

FULL = (("14:00", "preflight"), ("15:40", "decide"), ("16:20", "settle"), ("18:00", "evening"))
HALF = (("11:00", "preflight"), ("12:40", "decide"), ("13:20", "settle"), ("18:00", "evening"))
OFF = (("18:00", "evening"),)

HALF_DAYS = {"2013-07-03", "2013-11-29", "2013-12-24", "2018-12-24", "2019-07-03", "2023-07-03", "2024-12-24"}
"""Some, as the exchange published them."""


@dataclass
class Walker:
    """Cron in a time zone, and what the book would say: a step that was done once is done."""

    calendar: ExchangeCalendar
    day: date
    facts: SessionFacts | None = None
    evening: EveningFacts | None = None
    done: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        calendar, day = self.calendar, self.day
        self.evening = EveningFacts(
            day=day, at=calendar.at(day, EVENING_AT), until=calendar.at(day + timedelta(days=1), "00:00")
        )
        if calendar.is_session(day):
            times = timetable(
                day,
                calendar.open(day),
                calendar.close(day),
                ScheduleParameters(),
                require_confirmation=False,
                order_type=OrderType.MOC,
            )
            self.facts = SessionFacts(timetable=times)

    def boundaries(self) -> set[datetime]:
        """The minutes at which something could happen, and their neighbours."""
        assert self.evening is not None
        instants = {self.evening.at, self.evening.until - MINUTE, self.calendar.at(self.day, "00:00") + MINUTE}
        if self.facts:
            times = self.facts.timetable
            instants |= {
                times.open,
                times.preflight_at,
                times.decide_at,
                times.hard_stop_at,
                times.close,
                times.settle_at,
            }
        return {instant + shift for instant in instants for shift in (-MINUTE, timedelta(0), MINUTE)}

    def every_minute(self) -> Iterator[datetime]:
        assert self.evening is not None
        now = self.calendar.at(self.day, "00:00")
        while now < self.evening.until:
            yield now
            now += MINUTE

    def at(self, now: datetime) -> None:
        """What cron does at that minute: the program asks the machine's own clock what time it is."""
        MachineTime.set(now)
        instant = SystemClock().now()
        if self.calendar.local_date(instant) != self.day:
            return
        assert self.evening is not None
        found = due(instant, self.facts, (), (self.evening,))
        if found:
            self.done.append((f"{now.astimezone(NEW_YORK):%H:%M}", str(found.step)))
            self._do(found, instant)

    def _do(self, found: Due, now: datetime) -> None:
        if found.step is Step.EVENING:
            assert self.evening is not None
            self.evening = replace(self.evening, passed=True, tried_at=now)
            return
        assert self.facts is not None
        change = {
            Step.PREFLIGHT: {"preflight_passed": True, "preflight_tried_at": now},
            Step.DECIDE: {"is_decided": True},
            Step.SETTLE: {"is_settled": True, "settle_tried_at": now},
        }[found.step]
        self.facts = replace(self.facts, **change)  # type: ignore[arg-type]


def days_of(calendar: ExchangeCalendar) -> Iterator[date]:
    day = FIRST
    while day < calendar.last_session:
        yield day
        day += timedelta(days=1)


def expected(calendar: ExchangeCalendar, day: date) -> tuple[tuple[str, str], ...]:
    if not calendar.is_session(day):
        return OFF
    return {16: FULL, 13: HALF}[calendar.close(day).astimezone(NEW_YORK).hour]


@pytest.mark.usefixtures("server_time")
@pytest.mark.parametrize("steps", ["boundaries", pytest.param("every_minute", marks=pytest.mark.slow)])
def test_on_every_day_each_step_is_due_exactly_once_at_its_wall_time(steps: str):
    """Half days, holidays, weekends and both weeks in which the clocks change, over all the years there are."""
    calendar = ExchangeCalendar(datetime.now(UTC).date())
    wrong, half = [], set()
    for day in days_of(calendar):
        walker = Walker(calendar, day)
        for now in sorted(getattr(walker, steps)()):
            walker.at(now)
        if list(expected(calendar, day)) != walker.done:
            wrong.append((day, walker.done))
        if len(walker.done) == len(HALF) and walker.done[0] == HALF[0]:
            half.add(f"{day}")

    assert [] == wrong
    assert HALF_DAYS <= half
    assert day.year >= datetime.now(UTC).year + 1


def test_each_week_has_one_eve_on_the_day_before_its_first_session():
    """Sundays, but for weeks that begin with a holiday."""
    calendar = ExchangeCalendar(date(2025, 1, 2))
    eves = []
    for day in list(days_of(calendar))[:-7]:
        upcoming = calendar.nearest(day)[1]
        if is_eve_of_a_week(day, upcoming, calendar.nearest(upcoming)[0]):
            eves.append(day)
    weeks = {session.isocalendar()[:2] for session in calendar.sessions(date(2013, 1, 7), day + timedelta(days=1))}
    found = Counter(eve.strftime("%A") for eve in eves)

    assert (len(weeks), {"Sunday", "Monday"}) == (len(eves), set(found))
    assert {date(2024, 1, 1), date(2024, 1, 15), date(2024, 11, 10)} <= set(eves)
    assert [date(2024, 9, 2)] == [eve for eve in eves if date(2024, 9, 1) <= eve <= date(2024, 9, 7)]
