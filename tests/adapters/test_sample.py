"""The made-up market: looks like the real one, never changes, and lets every rule speak."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import chain

import numpy as np
import pandas as pd
import pytest
import talib

from mtum_eod.adapters import sample
from mtum_eod.adapters.calendar import ExchangeCalendar
from mtum_eod.adapters.sample import SampleData
from mtum_eod.core.market import VIX
from mtum_eod.core.quality import check

CALENDAR = ExchangeCalendar(date(2026, 11, 22))
LATER = datetime(2026, 11, 22, tzinfo=UTC)
SESSIONS = CALENDAR.sessions(date(2013, 1, 2), date(2025, 12, 31))
SHOWN = date(2024, 11, 5)

FIRST_BAR = (49.97, 50.88, 49.91, 50.85, 1172036.0, 15.28)
SHOWN_BAR = (205.01, 209.7, 204.52, 207.74, 1115402.0, 16.12)  # open, high, low, close, volume, VIX


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """All sessions up to 2025: the fund's bars, the index as column vix, and the indicators by TA-Lib."""
    source = SampleData(CALENDAR)
    table = source.daily("MTUM", SESSIONS[0], SESSIONS[-1], LATER).frame
    table["vix"] = source.daily(VIX, SESSIONS[0], SESSIONS[-1], LATER).frame["close"]
    table["ma"] = talib.SMA(table["close"], 50)
    table["rsi"] = talib.RSI(table["close"], 14)
    table["atr"] = talib.ATR(table["high"], table["low"], table["close"], 14)
    table["volume_ma"] = talib.SMA(table["volume"], 20)
    return table


def trade(table: pd.DataFrame, *, stop_loss: bool) -> tuple[int, list[list[str]]]:
    """SPEC section 1 in a plain loop: how many entries, and the rules that fired at each exit."""
    entries, exits, held = 0, [], None
    for bar in table.loc["2014-03-17":].itertuples():
        if held is None:
            if bar.close > bar.ma and bar.vix < 25 and bar.rsi > 50 and bar.volume > bar.volume_ma:
                held, entries = bar, entries + 1
            continue
        fired = {
            "trend": bar.close < bar.ma,
            "vix": bar.vix > 30,
            "rsi": bar.rsi < 30,
            "atr_profit": bar.close >= held.close + 4 * held.atr,
            "stop_loss": stop_loss and bar.close <= held.close * 0.9,
        }
        if any(fired.values()):
            exits.append([name for name, holds in fired.items() if holds])
            held = None
    return entries, exits


def test_the_first_and_last_bars_are_these_for_ever(table: pd.DataFrame) -> None:
    """A change of these numbers changes every sample book there is; the frozen streams of numpy give them."""
    assert [
        FIRST_BAR,
        SHOWN_BAR,
    ] == [
        tuple(table.loc[day, ["open", "high", "low", "close", "volume", "vix"]]) for day in ("2013-01-02", "2024-11-05")
    ]


def test_2024_11_05_has_something_to_show(table: pd.DataFrame) -> None:
    """All four entry rules hold by a clear margin."""
    bar = table.loc["2024-11-05"]

    assert bar["close"] > 1.02 * bar["ma"]
    assert bar["vix"] < 20
    assert bar["rsi"] > 55
    assert bar["volume"] > 1.15 * bar["volume_ma"]


@pytest.mark.parametrize("stop_loss", [False, True])
def test_every_exit_rule_fires_by_2025(table: pd.DataFrame, stop_loss: bool) -> None:
    """Under the default rules: trend, VIX and profit as the first reason, RSI and the stop among the reasons."""
    entries, exits = trade(table, stop_loss=stop_loss)

    assert 50 < entries < 200
    assert {"trend", "vix", "atr_profit"} <= {fired[0] for fired in exits}
    assert {"trend", "vix", "rsi", "atr_profit"} | ({"stop_loss"} if stop_loss else set()) == set(
        chain.from_iterable(exits)
    )


def test_it_looks_like_the_fund_and_the_index(table: pd.DataFrame) -> None:
    """Level, drift, volatility and its clusters, the leverage effect, the index's mean and spikes.

    Evidence: MTUM and VIX of 2013 to 2022: 19.8 % volatility, autocorrelation of absolute returns 0.36, correlation
    of returns with changes of the VIX -0.69, VIX between 9.14 and 82.69 with mean 18.0.
    """
    returns = np.log(table["close"]).diff().dropna()
    fear = np.log(table["vix"]).diff().dropna()

    assert 45 < table["close"].iloc[0] < 55
    assert 200 < table["close"].iloc[-1] < 300
    assert 0.15 < returns.std() * np.sqrt(252) < 0.22
    assert returns.abs().autocorr(1) > 0.12
    assert -0.9 < returns.corr(fear) < -0.5
    assert 16 < table["vix"].mean() < 19
    assert 9 < table["vix"].min() < 12
    assert 40 < table["vix"].max() < 90
    assert 500_000 < table["volume"].median() < 1_000_000


def test_its_bars_pass_the_quality_rules() -> None:
    """Thirteen years without a fatal finding."""
    source = SampleData(CALENDAR)

    checked = check(source.daily("MTUM", SESSIONS[0], SESSIONS[-1], LATER), SESSIONS)
    checked_vix = check(source.daily(VIX, SESSIONS[0], SESSIONS[-1], LATER), SESSIONS, is_index=True)

    assert ((), ()) == (checked.fatal, checked_vix.findings)


def test_prices_are_cents_and_volumes_whole_shares(table: pd.DataFrame) -> None:
    """As an exchange prints them."""
    prices = table[["open", "high", "low", "close", "vix"]]

    pd.testing.assert_frame_equal(prices.round(2), prices)
    pd.testing.assert_series_equal(table["volume"].round(), table["volume"])
    assert (table["low"] <= table[["open", "close"]].min(axis=1)).all()
    assert (table["high"] >= table[["open", "close"]].max(axis=1)).all()


def test_a_longer_history_begins_with_the_shorter_one() -> None:
    """Asking for a later year changes no earlier bar."""
    short, long = sample._history(7, 1000)[0], sample._history(7, 2000)[0]

    np.testing.assert_array_equal(short, long[:1000])


def test_another_seed_is_another_market() -> None:
    """And no seed is a bad one."""
    one, other = (
        SampleData(CALENDAR, seed).daily("MTUM", date(2024, 1, 2), SHOWN, LATER).frame["close"]
        for seed in (0, 2**32 - 1)
    )

    assert not np.allclose(one, other)


class WithOneClosureMore(ExchangeCalendar):
    """A calendar that has learned of a day of mourning."""

    def sessions(self, first: date, last: date) -> list[date]:
        return [day for day in super().sessions(first, last) if day != date(2025, 1, 9)]


def test_a_closure_learned_of_later_moves_no_other_bar() -> None:
    """2025-01-09, a national day of mourning that some calendar packages do not know."""
    knowing, unknowing = (
        SampleData(calendar).daily("MTUM", date(2025, 1, 2), date(2025, 12, 31), LATER).frame
        for calendar in (WithOneClosureMore(date(2026, 11, 22)), CALENDAR)
    )

    pd.testing.assert_frame_equal(knowing, unknowing.drop(pd.Timestamp(2025, 1, 9), errors="ignore"))


@pytest.mark.parametrize("symbol", ["MTUM", VIX])
@pytest.mark.parametrize("session", [SHOWN, date(2024, 11, 29)])  # the second closes at 13:00
def test_a_partial_bar_grows_into_the_final_one(symbol: str, session: date) -> None:
    """Minute by minute: open fixed, high and volume never falling, low never rising, the day's bar at the end."""
    source = SampleData(CALENDAR)
    opened, closed = CALENDAR.open(session), CALENDAR.close(session)
    minutes = [opened + timedelta(minutes=minute) for minute in range((closed - opened) // timedelta(minutes=1) + 1)]

    path = np.array([source.daily(symbol, session, session, minute).frame.to_numpy()[0] for minute in minutes])
    final = source.daily(symbol, session, session, LATER).frame.to_numpy()[0]

    assert 1 == len(set(path[:, 0]))
    assert (np.diff(path[:, 1]) >= 0).all()
    assert (np.diff(path[:, 2]) <= 0).all()
    assert ((path[:, 2] <= path[:, 3]) & (path[:, 3] <= path[:, 1])).all()
    assert symbol == VIX or (np.diff(path[:, 4]) >= 0).all()
    assert len(set(path[:, 3])) > 20
    np.testing.assert_array_equal(final, path[-1])
    # the last tick before the close has seen the day's range, the path having reached both ends inside the session
    np.testing.assert_array_equal(final[1:3], path[-2, 1:3])


def test_twenty_minutes_before_the_close_most_of_the_volume_is_traded() -> None:
    """U-shaped: about 85 to 93 % by then (SPEC section 1), and the first half hour busier than one at noon."""
    source = SampleData(CALENDAR)
    days = CALENDAR.window(SHOWN, 250)
    volume = source.daily("MTUM", days[0], days[-1], LATER).frame["volume"].to_numpy()

    def share(*, after_open: timedelta | None = None, before_close: timedelta = timedelta(0)) -> np.ndarray:
        cuts = {
            day: CALENDAR.open(day) + after_open if after_open is not None else CALENDAR.close(day) - before_close
            for day in days
        }
        return np.array(list(source.volume_until("MTUM", cuts, LATER).values())) / volume

    late = share(before_close=timedelta(minutes=20))
    noon = share(after_open=timedelta(minutes=165)) - share(after_open=timedelta(minutes=135))

    assert 0.85 < late.min() <= late.max() < 0.94
    assert share(after_open=timedelta(minutes=30)).mean() > 1.3 * noon.mean()
    assert (share() == 1).all()
    assert late.std() > 0.003


def test_the_partial_bars_volume_is_the_intraday_volume() -> None:
    """Two ways to the same number."""
    source = SampleData(CALENDAR)
    as_of = CALENDAR.close(SHOWN) - timedelta(minutes=20)

    partial = source.daily("MTUM", SHOWN, SHOWN, as_of).frame["volume"].iloc[0]

    assert {SHOWN: partial} == source.volume_until("MTUM", {SHOWN: as_of}, as_of)


def test_half_days_are_quiet() -> None:
    """13:00 closes trade less than the average day."""
    source = SampleData(CALENDAR)
    volume = source.daily("MTUM", SESSIONS[0], SESSIONS[-1], LATER).frame["volume"]
    half = [pd.Timestamp(day) for day in SESSIONS if CALENDAR.close(day) - CALENDAR.open(day) < timedelta(hours=6)]

    assert 25 < len(half) < 45
    assert volume[half].mean() < 0.6 * volume.mean()


def test_before_2013_there_is_nothing() -> None:
    """The sample begins with 2013."""
    source = SampleData(CALENDAR)

    assert source.daily("MTUM", date(2012, 6, 1), date(2012, 12, 31), LATER).frame.empty
    assert date(2013, 1, 2) == source.daily("MTUM", date(2012, 6, 1), SHOWN, LATER).frame.index[0].date()
    assert {} == source.volume_until("MTUM", {date(2012, 12, 31): LATER}, LATER)
