"""Bars from IB: their age, today's partial one, volumes to the minute, and refusals in words."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta

import gateway
import numpy as np
import pandas as pd
import pytest

from mtum_eod.adapters.ib.data import IbData
from mtum_eod.core.market import VIX, BarStatus, FindingKind
from mtum_eod.core.timing import volume_cuts
from mtum_eod.errors import BrokerUnavailable, MarketDataError
from tws_server import CODES, NEW_YORK, Server

SESSION = gateway.SESSION
FIRST = date(2024, 10, 1)


@pytest.fixture(params=[157, 176])
def tws(request: pytest.FixtureRequest) -> Iterator[Server]:
    with Server(version=request.param) as server:
        yield server


@pytest.fixture
def source(tws: Server) -> Iterator[IbData]:
    with gateway.line(tws) as line:
        yield gateway.data(line, tws)


def test_a_window_of_a_decision_is_one_request_of_days_and_one_of_todays_minutes(tws: Server, source: IbData) -> None:
    """400 sessions are more than a year, which IB wants in years."""
    window = tws.calendar.window(SESSION, 400)
    bars = source.daily("MTUM", window[0], window[-1], tws.clock.now())
    asked = [
        (r.values["barSize"], r.values["duration"], r.values["endDateTime"]) for r in tws.asked("reqHistoricalData")
    ]

    assert window == [stamp.date() for stamp in bars.frame.index]
    assert [("1 day", "2 Y", ""), ("1 min", "1 D", "")] == asked


def test_every_request_is_for_trades_in_regular_hours(tws: Server, source: IbData) -> None:
    """TRADES is split-adjusted only; no other series is ever mixed in."""
    source.daily(VIX, FIRST, SESSION, tws.clock.now())
    source.volume_until("MTUM", {SESSION: tws.clock.now()}, tws.clock.now())
    kinds = {(r.values["whatToShow"], r.values["useRTH"]) for r in tws.asked("reqHistoricalData")}

    assert {("TRADES", "1")} == kinds


def test_todays_price_is_as_old_as_the_newest_minute(tws: Server, source: IbData) -> None:
    """At 15:40:30 the minute of 15:40 is running."""
    tws.clock.set(datetime(2024, 11, 5, 15, 40, 30, tzinfo=NEW_YORK))
    bars = source.daily("MTUM", FIRST, SESSION, tws.clock.now())

    assert (BarStatus.PARTIAL, ()) == (bars.last_status, bars.findings)
    assert timedelta(0) <= tws.clock.now() - bars.as_of <= timedelta(minutes=1)


@pytest.mark.parametrize("symbol", ["MTUM", VIX])
def test_a_bar_of_today_that_is_not_there_is_built_from_its_minutes(tws: Server, source: IbData, symbol: str) -> None:
    """Some sources have no partial daily bar; the minutes of regular hours add up to one."""
    whole = source.daily(symbol, FIRST, SESSION, tws.clock.now())
    tws.exchange.rules.has_today = False
    built = source.daily(symbol, FIRST, SESSION, tws.clock.now())

    assert (BarStatus.PARTIAL, BarStatus.BUILT) == (whole.last_status, built.last_status)
    pd.testing.assert_frame_equal(whole.frame, built.frame, rtol=1e-3)


def test_a_late_feed_is_told_with_its_age(tws: Server, source: IbData) -> None:
    """The newest minute ended a quarter of an hour ago: an entry needs five minutes or younger."""
    late = tws.clock.now() + timedelta(minutes=15)
    bars = source.daily("MTUM", FIRST, SESSION, late)

    assert [FindingKind.STALE_PRICE] == [finding.kind for finding in bars.findings]
    assert "15 min old: delayed data, no trading, or a wrong clock here" in bars.findings[0].words
    assert timedelta(minutes=14) <= late - bars.as_of <= timedelta(minutes=15)


@pytest.mark.parametrize(("symbol", "age"), [("MTUM", 30), (VIX, 31)])
def test_without_minutes_a_price_of_today_may_sell_and_not_buy(
    tws: Server, source: IbData, symbol: str, age: int
) -> None:
    """Its age is not known: taken as the oldest that an exit may rest on. A VIX older than 30 minutes buys nothing."""
    tws.faults.error("reqHistoricalData", 162, skip=1)
    bars = source.daily(symbol, FIRST, SESSION, tws.clock.now())

    assert (SESSION, timedelta(minutes=age)) == (bars.frame.index[-1].date(), tws.clock.now() - bars.as_of)


def test_after_the_close_the_bar_is_provisional_and_minutes_are_not_asked(tws: Server, source: IbData) -> None:
    tws.clock.set(datetime(2024, 11, 5, 16, 20, tzinfo=NEW_YORK))
    bars = source.daily("MTUM", FIRST, SESSION, tws.clock.now())

    assert (BarStatus.PROVISIONAL, 1) == (bars.last_status, len(tws.asked("reqHistoricalData")))


def test_an_earlier_range_ends_where_it_was_asked_to(tws: Server, source: IbData) -> None:
    """The end is named, so that years before today need not be fetched with it."""
    bars = source.daily("MTUM", date(2024, 1, 2), date(2024, 3, 28), tws.clock.now())

    assert (date(2024, 1, 2), date(2024, 3, 28)) == (bars.frame.index[0].date(), bars.frame.index[-1].date())
    assert "20240329 03:59:00 UTC" == tws.asked("reqHistoricalData")[0].values["endDateTime"]


def test_a_range_of_years_is_whole(tws: Server, source: IbData) -> None:
    first, last = date(2014, 1, 2), date(2024, 11, 4)
    bars = source.daily("MTUM", first, last, tws.clock.now())

    assert tws.calendar.sessions(first, last) == [stamp.date() for stamp in bars.frame.index]


def test_volumes_of_twenty_sessions_are_one_request_and_add_up(tws: Server, source: IbData) -> None:
    """Up to the same time of day, from 5-minute bars; a whole day's add up to the daily bar's."""
    sessions = tws.calendar.window(SESSION, 20)
    hours = {day: (tws.calendar.open(day), tws.calendar.close(day)) for day in sessions}
    now = tws.clock.now()
    volumes = source.volume_until("MTUM", volume_cuts(now, SESSION, hours), now)
    whole = source.volume_until("MTUM", {day: closed for day, (_, closed) in hours.items() if day < SESSION}, now)
    daily = source.daily("MTUM", sessions[0], sessions[-2], now).frame["volume"]

    assert sessions == sorted(volumes)
    assert [("5 mins", "20 D")] * 2 == [
        (r.values["barSize"], r.values["duration"]) for r in tws.asked("reqHistoricalData")[:2]
    ]
    assert all(0 < volumes[day] < whole[day] for day in sessions[:-1])
    np.testing.assert_allclose(daily.to_numpy(), [whole[day] for day in sessions[:-1]])


def test_half_days_count_by_their_own_close(tws: Server, source: IbData) -> None:
    """The day after Thanksgiving closes at 13:00."""
    tws.clock.set(datetime(2024, 12, 2, 15, 40, tzinfo=NEW_YORK))
    half = date(2024, 11, 29)
    closes = {half: tws.calendar.close(half)}
    volume = source.volume_until("MTUM", closes, tws.clock.now())
    daily = source.daily("MTUM", half, half, tws.clock.now()).frame["volume"]

    np.testing.assert_allclose(float(daily.iloc[0]), volume[half])


@pytest.mark.parametrize(
    ("code", "words", "hint"),
    [
        (162, "no history (162", "market data subscriptions"),
        (200, "no such contract (200", "ib.primary_exchange"),
        (321, "refused (321", "Read-Only"),
        (354, "no subscription", "Client Portal"),
        (420, "no permission", "Client Portal"),
        (10089, "no live subscription", "Client Portal"),
        (10168, "no subscription", "Client Portal"),
        (10197, "another login", "log the same user out"),
    ],
)
def test_a_refusal_is_told_in_ibs_words_with_its_cure(
    tws: Server, source: IbData, code: int, words: str, hint: str
) -> None:
    """Exit code 3; an empty list would look like a quiet market. Not asked again: the answer would be the same."""
    text = (
        "Historical Market Data Service error message:No market data permissions for CBOE IND" if code == 162 else None
    )
    tws.faults.error("reqHistoricalData", code, text)
    with pytest.raises(MarketDataError) as failure:
        source.daily("MTUM", FIRST, SESSION, tws.clock.now())

    assert (3, 1) == (failure.value.exit_code, len(tws.asked("reqHistoricalData")))
    assert words in failure.value.message
    assert " ".join((text or CODES[code]).split()) in failure.value.message
    assert hint in failure.value.hint


def test_no_data_is_an_empty_answer(tws: Server, source: IbData) -> None:
    """162 with these words means that there is simply no bar."""
    tws.faults.error("reqHistoricalData", 162)

    assert source.daily("MTUM", FIRST, date(2024, 11, 4), tws.clock.now()).frame.empty
    assert {} == source.volume_until("MTUM", {SESSION: tws.clock.now()}, tws.clock.now())


@pytest.mark.parametrize("times", [1, 2])
def test_history_asked_too_fast_is_asked_once_more_after_ibs_quarter_of_a_minute(
    tws: Server, source: IbData, times: int
) -> None:
    """162 with these words; a second time it is told."""
    words = "Historical Market Data Service error message:Historical data request pacing violation"
    tws.faults.error("reqHistoricalData", 162, words, times=times)
    before = tws.clock.now()
    try:
        newest = source.daily("MTUM", FIRST, date(2024, 11, 4), before).frame.index[-1].date()
    except MarketDataError as error:
        newest = error.message

    assert date(2024, 11, 4) == newest if times == 1 else "pacing violation" in newest
    assert (2, timedelta(seconds=16)) == (len(tws.asked("reqHistoricalData")), tws.clock.now() - before)


def test_silence_is_no_empty_answer(tws: Server, source: IbData) -> None:
    """Asked again; then stored bars may serve, and where none do the exit code is the broker's."""
    tws.faults.hang("reqHistoricalData")
    with pytest.raises(MarketDataError, match="did not answer about 1 day bars of MTUM") as failure:
        source.daily("MTUM", FIRST, SESSION, tws.clock.now())

    assert (4, True) == (failure.value.exit_code, isinstance(failure.value, BrokerUnavailable))
    assert 2 == len(tws.asked("reqHistoricalData"))


def test_a_connection_lost_in_the_middle_of_history_is_made_again(tws: Server, source: IbData) -> None:
    tws.faults.drop(before="historicalData")

    assert SESSION == source.daily("MTUM", FIRST, SESSION, tws.clock.now()).frame.index[-1].date()
