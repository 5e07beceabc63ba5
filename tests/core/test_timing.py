"""When each step is due: boundaries by hand, days walked minute by minute, and what holds on any day."""

from dataclasses import replace
from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtum_eod.core.evidence import Window
from mtum_eod.core.parameters import ScheduleParameters
from mtum_eod.core.timing import (
    Due,
    SessionFacts,
    Timetable,
    coming,
    due,
    missed_sessions,
    timetable,
    volume_cuts,
    window,
)
from mtum_eod.core.trading import OrderType, Step

MINUTE = timedelta(minutes=1)

# New York hours in UTC: winter 14:30 to 21:00, summer 13:30 to 20:00, half days to 18:00 and 17:00.
WINTER = date(2024, 11, 5)
SUMMER = date(2024, 7, 2)
HALF_DAY = date(2024, 7, 3)


def utc(day: date, clock: str) -> datetime:
    return datetime.fromisoformat(f"{day}T{clock}+00:00")


def table(
    session: date = WINTER,
    opens: str = "14:30",
    close: str = "21:00",
    *,
    require_confirmation: bool = False,
    order_type: OrderType = OrderType.MOC,
) -> Timetable:
    return timetable(
        session,
        utc(session, opens),
        utc(session, close),
        ScheduleParameters(),
        require_confirmation=require_confirmation,
        order_type=order_type,
    )


def facts(session: date = WINTER, close: str = "21:00", **state: object) -> SessionFacts:
    return SessionFacts(timetable=table(session, close=close), **state)  # type: ignore[arg-type]


def step_of(due_step: Due | None) -> tuple[Step, date] | None:
    return due_step and (due_step.step, due_step.session)


# -- the timetable ----------------------------------------------------------------------------------------------------


def test_a_session_is_timed_from_its_own_close():
    """A winter day closing at 16:00 in New York."""
    times = table()

    assert (
        Timetable(
            session=WINTER,
            open=utc(WINTER, "14:30"),
            preflight_at=utc(WINTER, "19:00"),
            decide_at=utc(WINTER, "20:40"),
            hard_stop_at=utc(WINTER, "20:45"),
            late_until=utc(WINTER, "20:58"),
            close=utc(WINTER, "21:00"),
            settle_at=utc(WINTER, "21:20"),
        )
        == times
    )


def test_a_half_day_comes_three_hours_early_as_a_whole():
    """The day before Independence Day closes at 13:00 in New York, 17:00 UTC."""
    times = table(HALF_DAY, "13:30", "17:00")

    assert [utc(HALF_DAY, at) for at in ("15:00", "16:40", "16:45", "16:58", "17:20")] == [
        times.preflight_at,
        times.decide_at,
        times.hard_stop_at,
        times.late_until,
        times.settle_at,
    ]


@pytest.mark.parametrize(
    ("confirmation", "order_type", "decide_at", "hard_stop_at"),
    [
        (False, OrderType.MOC, "20:40", "20:45"),
        (True, OrderType.MOC, "20:00", "20:45"),
        (False, OrderType.MKT, "20:57", "20:58"),
    ],
)
def test_confirmation_decides_early_and_market_orders_late(confirmation, order_type, decide_at, hard_stop_at):
    """An owner needs time to read; a market order should fill near the closing price."""
    times = table(require_confirmation=confirmation, order_type=order_type)

    assert (utc(WINTER, decide_at), utc(WINTER, hard_stop_at)) == (times.decide_at, times.hard_stop_at)


@pytest.mark.parametrize(
    ("clock", "expected"),
    [
        ("14:30:00", Window.EARLY),
        ("20:39:59.999999", Window.EARLY),
        ("20:40:00", Window.OPEN),
        ("20:44:59.999999", Window.OPEN),
        ("20:45:00", Window.LATE),
        ("20:57:59.999999", Window.LATE),
        ("20:58:00", Window.SHUT),
        ("21:00:00", Window.SHUT),
        ("23:59:59", Window.SHUT),
    ],
)
def test_each_instant_of_the_timetable_belongs_to_what_it_begins(clock, expected):
    """At the hard stop itself it is too late for the auction; at two minutes to the close for everything."""
    assert expected == window(utc(WINTER, clock), table())


@pytest.mark.parametrize(
    ("clock", "expected"),
    [
        ("20:56:59.999999", Window.EARLY),
        ("20:57:00", Window.OPEN),
        ("20:57:59.999999", Window.OPEN),
        ("20:58:00", Window.SHUT),
    ],
)
def test_a_market_order_is_sent_in_one_minute_or_not_at_all(clock, expected):
    """Its hard stop is the last call, so there is no LATE."""
    assert expected == window(utc(WINTER, clock), table(order_type=OrderType.MKT))


# -- volume up to the same time ---------------------------------------------------------------------------------------


def test_volume_is_cut_at_the_same_time_of_day():
    """15:40 in New York before and after the clocks changed on 2024-11-03."""
    friday = date(2024, 11, 1)
    hours = {
        friday: (utc(friday, "13:30"), utc(friday, "20:00")),
        WINTER: (utc(WINTER, "14:30"), utc(WINTER, "21:00")),
    }

    assert {friday: utc(friday, "19:40"), WINTER: utc(WINTER, "20:40")} == volume_cuts(
        utc(WINTER, "20:40"), WINTER, hours
    )


def test_half_days_are_cut_at_the_same_fraction_of_the_session():
    """After 195 of 390 minutes a half day counts up to 105 of its 210, and the other way round."""
    hours = {
        SUMMER: (utc(SUMMER, "13:30"), utc(SUMMER, "20:00")),
        HALF_DAY: (utc(HALF_DAY, "13:30"), utc(HALF_DAY, "17:00")),
    }

    assert {SUMMER: utc(SUMMER, "16:45"), HALF_DAY: utc(HALF_DAY, "15:15")} == volume_cuts(
        utc(SUMMER, "16:45"), SUMMER, hours
    )
    assert {SUMMER: utc(SUMMER, "16:45"), HALF_DAY: utc(HALF_DAY, "15:15")} == volume_cuts(
        utc(HALF_DAY, "15:15"), HALF_DAY, hours
    )


@pytest.mark.parametrize(("as_of", "cut"), [("12:00", "13:30"), ("23:00", "20:00")])
def test_outside_the_session_the_cut_is_its_open_or_its_close(as_of, cut):
    """Nothing has been traded before the open, all of it after the close."""
    hours = {SUMMER: (utc(SUMMER, "13:30"), utc(SUMMER, "20:00"))}

    assert {SUMMER: utc(SUMMER, cut)} == volume_cuts(utc(SUMMER, as_of), SUMMER, hours)


@given(st.integers(min_value=0, max_value=390 * 60 * 1_000_000))
def test_the_cut_of_a_session_of_equal_length_is_exact(microseconds):
    """No float shows in an instant."""
    elapsed = timedelta(microseconds=microseconds)
    hours = {day: (utc(day, "13:30"), utc(day, "20:00")) for day in (SUMMER, date(2024, 7, 1))}

    assert {day: hours[day][0] + elapsed for day in hours} == volume_cuts(hours[SUMMER][0] + elapsed, SUMMER, hours)


# -- what is due ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("clock", "state", "expected"),
    [
        ("18:59:59.999999", {}, None),
        ("19:00", {}, Step.PREFLIGHT),
        ("20:39:59.999999", {}, Step.PREFLIGHT),
        ("20:40", {}, Step.DECIDE),
        ("20:45", {}, Step.DECIDE),  # past the hard stop: an exit may still go as a market order
        ("20:59", {}, Step.DECIDE),
        ("21:00", {}, Step.DECIDE),  # the skipped row
        ("23:00", {}, Step.DECIDE),
        ("19:00", {"preflight_passed": True}, None),
        ("19:14:59", {"preflight_tried_at": utc(WINTER, "19:00:04")}, None),
        ("19:15", {"preflight_tried_at": utc(WINTER, "19:00:04")}, Step.PREFLIGHT),
        ("19:16", {"preflight_tried_at": utc(WINTER, "19:15:02")}, None),
        ("19:00", {"preflight_tried_at": utc(WINTER, "18:00")}, Step.PREFLIGHT),  # by hand, before its time
        ("20:39", {"preflight_tried_at": utc(WINTER, "20:31")}, None),
        ("20:45", {"is_decided": True}, None),
        ("20:45", {"is_decided": True, "order_unacknowledged": True}, Step.DECIDE),
        ("20:59:59.999999", {"is_decided": True, "order_unacknowledged": True}, Step.DECIDE),
        ("21:00", {"is_decided": True, "order_unacknowledged": True}, None),
        ("14:30", {"is_decided": True, "withdrawal_open": True}, Step.DECIDE),  # a sale by hand taken back
        ("20:59:59.999999", {"is_decided": True, "withdrawal_open": True}, Step.DECIDE),
        ("21:00", {"is_decided": True, "withdrawal_open": True}, None),
        ("21:19:59.999999", {"is_decided": True}, None),
        ("21:20", {"is_decided": True}, Step.SETTLE),
        ("21:20", {"is_decided": True, "order_unacknowledged": True}, Step.SETTLE),
        ("21:34", {"is_decided": True, "settle_tried_at": utc(WINTER, "21:20:01")}, None),
        ("21:35", {"is_decided": True, "settle_tried_at": utc(WINTER, "21:20:01")}, Step.SETTLE),
        ("21:20", {"is_decided": True, "is_settled": True}, None),
    ],
)
def test_what_is_due_today(clock, state, expected):
    """Each row: the time, what has happened so far, the step that is due."""
    step = due(utc(WINTER, clock), facts(**state))

    assert expected == (step and step.step)


def test_nothing_is_due_without_a_session():
    """A Saturday with everything settled."""
    assert due(utc(date(2024, 11, 9), "20:45"), None) is None


MONDAY = date(2024, 11, 4)
FRIDAY = date(2024, 11, 1)


@pytest.mark.parametrize(
    ("clock", "expected"),
    [
        ("05:00", (Step.SETTLE, FRIDAY)),
        ("19:00", (Step.SETTLE, FRIDAY)),
        ("20:40", (Step.DECIDE, WINTER)),
        ("21:00", (Step.DECIDE, WINTER)),
    ],
)
def test_earlier_sessions_are_settled_first_but_never_at_the_cost_of_a_decision(clock, expected):
    """The decision settles by itself what it can; what cannot be settled must not keep a position unsold."""
    unsettled = [facts(FRIDAY, "20:00", is_decided=True), facts(MONDAY, is_decided=True)]

    assert expected == step_of(due(utc(WINTER, clock), facts(), unsettled))


def test_a_settlement_whose_attempts_take_long_keeps_no_other_from_its_turn():
    """Friday's is due again when its attempt ends; at midnight the broker forgets what was executed today."""
    friday = facts(FRIDAY, "20:00", is_decided=True, settle_tried_at=utc(WINTER, "21:05"))
    today = facts(is_decided=True)
    order = []
    for clock in ("21:20", "21:35", "21:50", "22:05"):
        now = utc(WINTER, clock)
        step = due(now, today, [friday])
        order.append(step.session)
        if step.session == FRIDAY:
            friday = replace(friday, settle_tried_at=now)
        else:
            today = replace(today, settle_tried_at=now)

    assert [WINTER, FRIDAY, WINTER, FRIDAY] == order


def test_a_settlement_that_fails_makes_room_for_what_else_is_due():
    """Friday's was just tried in vain: Monday's is next, then the preflight."""
    now = utc(WINTER, "19:05")
    friday = facts(FRIDAY, "20:00", is_decided=True, settle_tried_at=utc(WINTER, "19:05"))
    monday = facts(MONDAY, is_decided=True)
    monday_tried = replace(monday, settle_tried_at=utc(WINTER, "19:05"))

    assert [(Step.SETTLE, MONDAY), (Step.PREFLIGHT, WINTER)] == [
        step_of(due(now, facts(), [friday, monday])),
        step_of(due(now, facts(), [friday, monday_tried])),
    ]


def test_a_due_step_says_since_when_and_why():
    """Ten minutes after the hard stop nobody has decided."""
    assert Due(at=utc(WINTER, "20:40"), step=Step.DECIDE, session=WINTER, why="the session is not decided") == due(
        utc(WINTER, "20:55"), facts(preflight_passed=True)
    )


# -- days walked minute by minute -------------------------------------------------------------------------------------


def walk(
    first: datetime, last: datetime, tables: list[Timetable], *, failing: frozenset[Step] = frozenset()
) -> list[str]:
    """What cron starts when it calls every minute from `first` to `last` in UTC; `failing` steps never succeed.

    Every session here is over before midnight UTC, so the session's date is the exchange's date all along.
    """
    started = []
    book = {times.session: SessionFacts(timetable=times) for times in tables}
    now = first
    while now <= last:
        unsettled = [one for day, one in book.items() if day < now.date() and one.is_decided and not one.is_settled]
        step = due(now, book.get(now.date()), unsettled)
        if step:
            started.append(f"{now:%a %H:%M} {step.step} {step.session:%m-%d}")
            done = step.step not in failing
            one = book[step.session]
            match step.step:
                case Step.PREFLIGHT:
                    one = replace(one, preflight_tried_at=now, preflight_passed=done)
                case Step.DECIDE:
                    one = replace(one, is_decided=done)
                case Step.SETTLE:
                    one = replace(one, settle_tried_at=now, is_settled=done)
            book[step.session] = one
        now += MINUTE
    return started


def whole_day(day: date) -> tuple[datetime, datetime]:
    return utc(day, "00:00"), utc(day, "23:59")


@pytest.mark.parametrize(
    ("session", "opens", "close", "expected"),
    [
        (WINTER, "14:30", "21:00", ["Tue 19:00 preflight 11-05", "Tue 20:40 decide 11-05", "Tue 21:20 settle 11-05"]),
        (SUMMER, "13:30", "20:00", ["Tue 18:00 preflight 07-02", "Tue 19:40 decide 07-02", "Tue 20:20 settle 07-02"]),
        (HALF_DAY, "13:30", "17:00", ["Wed 15:00 preflight 07-03", "Wed 16:40 decide 07-03", "Wed 17:20 settle 07-03"]),
    ],
)
def test_a_day_has_three_steps_each_at_its_minute(session, opens, close, expected):
    """Winter, summer and the half day before Independence Day."""
    assert expected == walk(*whole_day(session), [table(session, opens, close)])


def test_the_weekend_the_clocks_go_forward():
    """Summer time began on Sunday 2024-03-10: Monday's close comes an hour earlier in UTC."""
    friday, monday = date(2024, 3, 8), date(2024, 3, 11)
    tables = [table(friday, "14:30", "21:00"), table(monday, "13:30", "20:00")]

    assert [
        "Fri 19:00 preflight 03-08",
        "Fri 20:40 decide 03-08",
        "Fri 21:20 settle 03-08",
        "Mon 18:00 preflight 03-11",
        "Mon 19:40 decide 03-11",
        "Mon 20:20 settle 03-11",
    ] == walk(utc(friday, "00:00"), utc(monday, "23:59"), tables)


def test_the_weekend_the_clocks_go_back():
    """Winter time began on Sunday 2024-11-03: Monday's close comes an hour later in UTC."""
    tables = [table(FRIDAY, "13:30", "20:00"), table(MONDAY, "14:30", "21:00")]

    assert [
        "Fri 18:00 preflight 11-01",
        "Fri 19:40 decide 11-01",
        "Fri 20:20 settle 11-01",
        "Mon 19:00 preflight 11-04",
        "Mon 20:40 decide 11-04",
        "Mon 21:20 settle 11-04",
    ] == walk(utc(FRIDAY, "00:00"), utc(MONDAY, "23:59"), tables)


def test_a_failing_preflight_is_tried_every_quarter_of_an_hour_until_the_decision():
    """It never stands in the decision's way."""
    assert [
        *(f"Tue {clock} preflight 11-05" for clock in ("19:00", "19:15", "19:30", "19:45", "20:00", "20:15", "20:30")),
        "Tue 20:40 decide 11-05",
        "Tue 21:20 settle 11-05",
    ] == walk(*whole_day(WINTER), [table()], failing=frozenset({Step.PREFLIGHT}))


def test_a_failing_decision_is_tried_every_minute():
    """From the decision time on; the last try in this walk falls on the hard stop."""
    assert ["Tue 19:00 preflight 11-05", *(f"Tue 20:{minute} decide 11-05" for minute in range(40, 46))] == walk(
        utc(WINTER, "00:00"), utc(WINTER, "20:45"), [table()], failing=frozenset({Step.DECIDE})
    )


def test_a_failing_settlement_goes_on_every_quarter_of_an_hour_and_lets_the_next_session_live():
    """Monday's commissions never come; Tuesday is checked and decided at its minutes all the same."""
    tables = [table(MONDAY), table(WINTER)]
    started = walk(utc(MONDAY, "20:30"), utc(WINTER, "20:50"), tables, failing=frozenset({Step.SETTLE}))

    assert [
        "Mon 20:30 preflight 11-04",
        "Mon 20:40 decide 11-04",
        "Mon 21:20 settle 11-04",
        "Mon 21:35 settle 11-04",
        "Mon 21:50 settle 11-04",
    ] == started[:5]
    assert [
        "Tue 18:50 settle 11-04",
        "Tue 19:00 preflight 11-05",
        "Tue 19:05 settle 11-04",
    ] == [line for line in started if line.startswith(("Tue 18:5", "Tue 19:0"))]
    assert ["Tue 20:35 settle 11-04", "Tue 20:40 decide 11-05", "Tue 20:50 settle 11-04"] == started[-3:]


@pytest.mark.parametrize(
    ("boot", "expected"),
    [
        ("19:07", ["Tue 19:07 preflight 11-05", "Tue 20:40 decide 11-05", "Tue 21:20 settle 11-05"]),
        ("20:50", ["Tue 20:50 decide 11-05", "Tue 21:20 settle 11-05"]),
        ("21:10", ["Tue 21:10 decide 11-05", "Tue 21:20 settle 11-05"]),
        ("22:00", ["Tue 22:00 decide 11-05", "Tue 22:01 settle 11-05"]),
    ],
)
def test_after_a_reboot_it_goes_on_where_the_session_stands(boot, expected):
    """After the close the decision is due once, to write why nothing was done."""
    assert expected == walk(utc(WINTER, boot), utc(WINTER, "23:59"), [table()])


# -- the next fire ----------------------------------------------------------------------------------------------------

WEDNESDAY = date(2024, 11, 6)


@pytest.mark.parametrize(
    ("now", "state", "expected"),
    [
        ("08:00", {}, ("2024-11-05T19:00", Step.PREFLIGHT)),
        ("19:00", {}, ("2024-11-05T20:40", Step.DECIDE)),  # the preflight is due already
        ("19:01", {"preflight_tried_at": utc(WINTER, "19:00")}, ("2024-11-05T19:15", Step.PREFLIGHT)),
        ("19:01", {"preflight_passed": True}, ("2024-11-05T20:40", Step.DECIDE)),
        ("20:31", {"preflight_tried_at": utc(WINTER, "20:30")}, ("2024-11-05T20:40", Step.DECIDE)),
        # decided already, and no attempt at a preflight is left before the decision time: 20:45 would be the next
        ("20:31", {"preflight_tried_at": utc(WINTER, "20:30"), "is_decided": True}, ("2024-11-05T21:20", Step.SETTLE)),
        ("20:41", {}, ("2024-11-05T21:20", Step.SETTLE)),
        ("20:41", {"is_decided": True}, ("2024-11-05T21:20", Step.SETTLE)),
        ("21:21", {"is_decided": True, "settle_tried_at": utc(WINTER, "21:20")}, ("2024-11-05T21:35", Step.SETTLE)),
        ("21:21", {"is_decided": True, "is_settled": True}, ("2024-11-06T19:00", Step.PREFLIGHT)),
    ],
)
def test_the_next_fire_follows_from_how_things_stand(now, state, expected):
    """Each row: the time, what has happened so far, when which step falls due next."""
    step = coming(utc(WINTER, now), facts(**state), [], table(WEDNESDAY))[0]

    assert (datetime.fromisoformat(expected[0] + "+00:00"), expected[1]) == (step.at, step.step)


def test_no_preflight_begins_at_the_decision_time_itself():
    """Deciding an hour before the close, 20:00 is a slot of the preflight too; the session is decided already."""
    state = SessionFacts(
        timetable=table(require_confirmation=True), preflight_tried_at=utc(WINTER, "19:45"), is_decided=True
    )
    step = coming(utc(WINTER, "19:50"), state, [], table(WEDNESDAY))[0]

    assert (utc(WINTER, "21:20"), Step.SETTLE) == (step.at, step.step)


@pytest.mark.parametrize(
    ("now", "expected"),
    [("20:00", None), ("20:44", None), ("20:45", Step.DECIDE), ("20:59", Step.DECIDE), ("21:30", Step.DECIDE)],
)
def test_a_question_waits_until_the_hard_stop_and_then_lapses(now, expected):
    """Asked an hour before the close; nothing is decided every minute while the owner reads."""
    asked = SessionFacts(timetable=table(require_confirmation=True), preflight_passed=True, awaits_approval=True)
    step = due(utc(WINTER, now), asked)

    assert expected == (step and step.step)


@pytest.mark.parametrize(
    ("now", "state", "expected"),
    [
        ("19:00", {}, "the chain is not checked yet"),
        ("19:15", {"preflight_tried_at": utc(WINTER, "19:00")}, "the last check failed"),
        ("20:40", {}, "the session is not decided"),
        ("20:40", {"is_decided": True, "order_unacknowledged": True}, "the order is not acknowledged"),
        ("20:40", {"is_decided": True, "withdrawal_open": True}, "the order is not withdrawn yet"),
        ("21:20", {"is_decided": True}, "the session has closed"),
    ],
)
def test_a_step_says_why_it_is_due(now, state, expected):
    """In the owner's status and in the log."""
    assert expected == due(utc(WINTER, now), facts(**state)).why


def test_an_earlier_session_says_why_it_is_due():
    assert "an earlier session is not settled" == due(utc(WINTER, "08:00"), None, [facts(MONDAY)]).why


def test_over_a_weekend_the_next_fire_is_mondays():
    """Saturday 2024-11-02, no session; Friday's is settled."""
    assert (
        Due(at=utc(MONDAY, "19:00"), step=Step.PREFLIGHT, session=MONDAY, why="the chain is not checked yet")
        == coming(utc(date(2024, 11, 2), "12:00"), None, [], table(MONDAY))[0]
    )


# -- what nobody ran --------------------------------------------------------------------------------------------------

WEEK = [date(2024, 11, day) for day in (1, 4, 5, 6, 7)]


@pytest.mark.parametrize(
    ("last_row", "in_hand", "expected"),
    [
        (None, date(2024, 11, 6), []),  # the book's first run
        (date(2024, 11, 5), date(2024, 11, 6), []),
        (date(2024, 11, 6), date(2024, 11, 6), []),
        (date(2024, 11, 1), date(2024, 11, 6), [date(2024, 11, 4), date(2024, 11, 5)]),
        (date(2024, 11, 1), date(2024, 11, 3), []),  # a Sunday
        (date(2024, 11, 6), date(2024, 11, 9), [date(2024, 11, 7)]),  # a Saturday, as if the 8th were a holiday
    ],
)
def test_missed_sessions_lie_between_the_last_row_and_the_session_in_hand(last_row, in_hand, expected):
    """Neither a row that stands nor the session that can still get one is missed."""
    assert expected == missed_sessions(last_row, WEEK, in_hand)


# -- what holds on any day --------------------------------------------------------------------------------------------

INSTANTS = st.floats(min_value=0, max_value=60).map(lambda hours: utc(MONDAY, "00:00") + timedelta(hours=hours))


@st.composite
def any_facts(draw: st.DrawFn, session: date = WINTER) -> SessionFacts:
    """A session in any state, of any length, under any schedule whose instants come in their order."""
    before = draw(st.lists(st.integers(min_value=2, max_value=600), min_size=4, max_size=4, unique=True).map(sorted))
    hard_stop, decide, confirm, preflight = (timedelta(minutes=minutes) for minutes in before)
    schedule = ScheduleParameters(
        preflight_before=preflight,
        decide_before=decide,
        confirm_before=confirm,
        hard_stop_before=hard_stop,
        settle_after=draw(st.integers(min_value=0, max_value=600)) * MINUTE,
    )
    times = timetable(
        session,
        utc(session, "14:30"),
        utc(session, draw(st.sampled_from(["17:00", "18:00", "20:00", "21:00"]))),
        schedule,
        require_confirmation=draw(st.booleans()),
        order_type=draw(st.sampled_from(OrderType)),
    )
    return SessionFacts(
        timetable=times,
        preflight_passed=draw(st.booleans()),
        preflight_tried_at=draw(st.none() | INSTANTS),
        is_decided=draw(st.booleans()),
        awaits_approval=draw(st.booleans()),
        order_unacknowledged=draw(st.booleans()),
        is_settled=draw(st.booleans()),
        settle_tried_at=draw(st.none() | INSTANTS),
    )


STARTS = {Step.PREFLIGHT: "preflight_at", Step.DECIDE: "decide_at", Step.SETTLE: "settle_at"}


@given(INSTANTS, st.none() | any_facts(), st.lists(any_facts(MONDAY), max_size=2))
def test_no_step_is_due_before_its_instant(now, today, unsettled):
    """Whatever the schedule and the state, and an attempt is followed by the next one no sooner than its slot."""
    step = due(now, today, unsettled)

    if step:
        sessions = [one.timetable for one in (today, *unsettled) if one and one.timetable.session == step.session]
        starts = [getattr(times, STARTS[step.step]) for times in sessions]
        assert min(starts) <= step.at <= now


@given(INSTANTS, any_facts(), st.lists(any_facts(MONDAY), max_size=2))
def test_an_attempt_just_made_is_not_due_again_at_once(now, today, unsettled):
    """Preflight and settlement wait for their next slot, so nothing else starves."""
    just_tried = replace(
        today,
        preflight_tried_at=now,
        settle_tried_at=now,
        is_decided=True,
        awaits_approval=False,
        order_unacknowledged=False,
    )
    earlier = [replace(one, settle_tried_at=now) for one in unsettled]
    step = due(now, just_tried, earlier)

    assert step is None


@given(INSTANTS, st.none() | any_facts(), st.lists(any_facts(MONDAY), max_size=2))
def test_what_is_next_is_due_when_its_instant_comes(now, today, unsettled):
    """`coming` names no instant at which `due` would stay silent."""
    upcoming = table(date(2024, 11, 7))
    step = coming(now, today, unsettled, upcoming)[0]
    session = SessionFacts(timetable=upcoming) if step.session == upcoming.session else today

    assert step.at > now
    assert due(step.at, session, unsettled) is not None


@given(INSTANTS, any_facts(), st.lists(any_facts(MONDAY), max_size=2))
def test_an_undecided_session_is_always_due_for_deciding(now, today, unsettled):
    """From its decision time on nothing comes before it."""
    undecided = replace(today, is_decided=False, awaits_approval=False)
    at = max(now, undecided.timetable.decide_at)

    assert (Step.DECIDE, WINTER) == step_of(due(at, undecided, unsettled))


@given(INSTANTS, any_facts())
def test_the_window_only_moves_forward(now, today):
    """A minute later is never an earlier part of the session."""
    order = list(Window)

    assert order.index(window(now, today.timetable)) <= order.index(window(now + MINUTE, today.timetable))
