"""Yahoo through yfinance, on CONSTRUCTED frames: shaped as yfinance's documentation and source say, never fetched."""

from __future__ import annotations

import inspect
import logging
import os
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import stamina
from receivers import silent_server

from mtum_eod.adapters import yahoo
from mtum_eod.adapters.calendar import ExchangeCalendar
from mtum_eod.adapters.yahoo import YahooData
from mtum_eod.core.gates import MAX_EXIT_PRICE_AGE, MAX_VIX_AGE
from mtum_eod.core.market import VIX, BarStatus
from mtum_eod.errors import MarketDataError, SettingsError

CALENDAR = ExchangeCalendar(date(2024, 11, 30))
SESSION = date(2024, 11, 5)
DAYS = [date(2024, 11, 4), SESSION, date(2024, 11, 6)]
LATER = datetime(2024, 11, 30, tzinfo=UTC)
COLUMNS = ["Adj Close", "Close", "High", "Low", "Open", "Volume"]  # the order yfinance sorts them into
ROWS = [
    [199.9, 203.0, 204.25, 202.1, 203.5, 512300],
    [202.8, 206.0, 206.5, 203.0, 203.2, 498100],
    [209.2, 212.5, 212.75, 209.5, 210.0, 1020400],
]


@pytest.fixture(autouse=True)
def _no_waiting() -> Iterator[None]:
    """Retries happen, waiting between them does not."""
    with stamina.set_testing(True, attempts=10, cap=True):
        yield


class Constructed:
    """Stands in for `yfinance.download`: answers in turn, and remembers what it was asked."""

    def __init__(self, *answers: pd.DataFrame | Exception | None) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, ticker: str, **settings: Any) -> pd.DataFrame | None:
        self.asked.append((ticker, settings))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def frame(ticker: str = "MTUM", index: pd.DatetimeIndex | None = None) -> pd.DataFrame:
    """Constructed: column levels Price and Ticker, an index of days without zone."""
    return pd.DataFrame(
        ROWS,
        index=pd.DatetimeIndex(DAYS, name="Date") if index is None else index,
        columns=pd.MultiIndex.from_product([COLUMNS, [ticker]], names=["Price", "Ticker"]),
    )


def closes(download: Constructed, symbol: str = "MTUM") -> list[float]:
    return YahooData(CALENDAR, download).daily(symbol, DAYS[0], DAYS[-1], LATER).frame["close"].to_list()


def test_unadjusted_closes_are_asked_for_and_read() -> None:
    """Constructed: column Close, not Adj Close; the end is exclusive, so a day is added."""
    download = Constructed(frame())

    assert [203.0, 206.0, 212.5] == closes(download)
    assert [
        (
            "MTUM",
            {
                "start": "2024-11-04", "end": "2024-11-07", "interval": "1d", "auto_adjust": False, "actions": False,
                "progress": False, "threads": False, "multi_level_index": True,
            },
        )
    ] == download.asked  # fmt: skip


def test_yfinance_takes_what_it_is_asked() -> None:
    """Every argument exists in the installed version, by name."""
    download = Constructed(frame())
    closes(download)
    yfinance = pytest.importorskip("yfinance")

    assert set(download.asked[0][1]) <= set(inspect.signature(yfinance.download).parameters)


def test_the_vix_is_yahoos_index_without_volume() -> None:
    """Constructed: ticker ^VIX, and Yahoo's volume of 0 is no volume."""
    download = Constructed(frame("^VIX"))

    bars = YahooData(CALENDAR, download).daily(VIX, DAYS[0], DAYS[-1], LATER)

    assert ("^VIX", [203.0, 206.0, 212.5]) == (download.asked[0][0], bars.frame["close"].to_list())
    assert bars.frame["volume"].isna().all()


@pytest.mark.parametrize("zone", ["America/New_York", "America/Chicago", "UTC"])
def test_zoned_days_keep_their_own_date(zone: str) -> None:
    """Constructed: midnights where the symbol is traded, the VIX in Chicago; UTC must not become the day before."""
    download = Constructed(frame(index=pd.DatetimeIndex(DAYS, name="Date", tz=zone)))

    bars = YahooData(CALENDAR, download).daily("MTUM", DAYS[0], DAYS[-1], LATER)

    assert DAYS == [day.date() for day in bars.frame.index]
    assert bars.frame.index.tz is None


def test_one_level_of_columns_is_read_too() -> None:
    """Constructed: yfinance before 0.2.51 leaves the ticker out for a single one."""
    assert [203.0, 206.0, 212.5] == closes(Constructed(frame().droplevel("Ticker", axis=1)))


def test_only_the_ticker_asked_for_is_read() -> None:
    """Constructed: a table of two tickers."""
    both = pd.concat([frame("SPY") * 2, frame()], axis=1).sort_index(axis=1)

    assert [203.0, 206.0, 212.5] == closes(Constructed(both))


def test_a_missing_day_stays_missing() -> None:
    """Constructed: a row of NaN, as a table of several tickers has it; quality names it."""
    gap = frame().astype("float64")
    gap.iloc[1] = np.nan

    np.testing.assert_array_equal([203.0, np.nan, 212.5], closes(Constructed(gap)))


def test_nothing_is_asked_beyond_what_can_be_known() -> None:
    """Constructed: before the open of 2024-11-06 the last day asked for is 2024-11-05."""
    download = Constructed(frame())
    before_open = CALENDAR.open(DAYS[-1]) - timedelta(minutes=5)

    bars = YahooData(CALENDAR, download).daily("MTUM", DAYS[0], DAYS[-1], before_open)

    assert "2024-11-06" == download.asked[0][1]["end"]
    assert SESSION == bars.frame.index[-1].date()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (frame().iloc[:0], "an empty table"),
        (None, "an empty table"),
        (ConnectionError("no route"), "ConnectionError: no route"),
        (KeyError("chart"), "KeyError: 'chart'"),
    ],
    ids=["empty", "none", "no network", "a vendor's own error"],
)
def test_no_answer_is_a_market_data_error_after_three_attempts(
    answer: pd.DataFrame | Exception | None, words: str
) -> None:
    """Constructed: what was asked, what came, how often, and what to do."""
    download = Constructed(answer)

    with pytest.raises(MarketDataError) as refused:
        closes(download)

    assert 3 == len(download.asked)
    assert f"MTUM 2024-11-04 to 2024-11-06: Yahoo gave no 1d bars of MTUM in 3 attempts ({words})." == str(
        refused.value
    )
    assert "data.source" in refused.value.hint


def test_reading_again_helps() -> None:
    """Constructed: rate-limited, then empty, then an answer."""
    exceptions = pytest.importorskip("yfinance.exceptions")
    download = Constructed(exceptions.YFRateLimitError(), frame().iloc[:0], frame())

    assert [203.0, 206.0, 212.5] == closes(download)


def test_yfinances_log_says_why_a_table_is_empty_and_stays_off_the_terminal() -> None:
    """Constructed: yfinance swallows its errors and logs them; the words belong into ours."""
    handled: list[logging.LogRecord] = []  # where the program's log and the terminal hear it
    handler = logging.Handler()
    handler.emit = handled.append  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)

    def download(*_: object, **__: object) -> pd.DataFrame:
        logging.getLogger("yfinance").error("['MTUM']: YFRateLimitError('Too Many Requests.')")
        return frame().iloc[:0]

    with pytest.raises(MarketDataError, match="Too Many Requests"):
        YahooData(CALENDAR, download).daily("MTUM", DAYS[0], DAYS[-1], LATER)
    logging.getLogger().removeHandler(handler)

    assert [] == [record for record in handled if record.name == "yfinance"]


SHORT = timedelta(seconds=0.2)


def unanswered(source: YahooData) -> tuple[str, float]:
    """In which words a question fails, and after how many seconds."""
    began = time.monotonic()
    with pytest.raises(MarketDataError) as refused:
        source.daily("MTUM", DAYS[0], DAYS[-1], LATER)
    return refused.value.message, time.monotonic() - began


def test_a_silent_network_is_waited_for_once() -> None:
    """Every further question would wait as long, and the step has one deadline for all: stored bars serve sooner."""
    asked = []
    with silent_server() as port:

        def download(*_: object, **__: object) -> None:
            asked.append(port)
            with socket.create_connection(("127.0.0.1", port), timeout=30) as server:
                server.recv(1)

        source = YahooData(CALENDAR, download, patience=SHORT)
        (first, seconds), (again, no_time) = unanswered(source), unanswered(source)

    wanted = "MTUM 2024-11-04 to 2024-11-06: Yahoo"
    assert f"{wanted} gave no 1d bars of MTUM in 1 attempt (no answer within 0.2 s)." == first
    assert f"{wanted} was not asked again so soon after it gave no answer." == again
    assert (1, True, True) == (len(asked), 0.2 <= seconds < 2, no_time < 0.1)


def test_failures_that_take_their_time_use_up_one_budget() -> None:
    """Each comes just in time, and would be asked for three times, four times a decision."""

    def download(*_: object, **__: object) -> None:
        time.sleep(0.15)

    source = YahooData(CALENDAR, download, patience=SHORT, budget=timedelta(seconds=0.4))
    first, again = unanswered(source)[0], unanswered(source)[0]

    assert ("in 3 attempts (no answer within 0.0" in first, "was not asked again" in again) == (True, True)


def test_after_a_rest_a_silent_network_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon lives for months."""
    monkeypatch.setattr(yahoo, "REST", timedelta(0))
    gate = threading.Event()
    download = Constructed(frame())
    source = YahooData(CALENDAR, lambda *a, **k: gate.wait(30) and download(*a, **k), patience=SHORT)
    unanswered(source)
    gate.set()

    assert [203.0, 206.0, 212.5] == list(source.daily("MTUM", DAYS[0], DAYS[-1], LATER).close)


def test_a_download_left_over_takes_nothing_of_the_process_with_it() -> None:
    """It ends when the caller has its own filters again, and the next one listens to its own log."""
    gate, ended = threading.Event(), threading.Event()

    def download(*_: object, **__: object) -> None:
        gate.wait(30)
        logging.getLogger("yfinance").error("late")
        ended.set()

    unanswered(YahooData(CALENDAR, download, patience=SHORT))
    filters, before = list(warnings.filters), logging.getLogger("yfinance").handlers[:]
    gate.set()
    words, _ = unanswered(YahooData(CALENDAR, Constructed(None)))

    assert ended.wait(5)
    assert (filters, "(an empty table)" in words) == (warnings.filters, True)
    assert len(logging.getLogger("yfinance").handlers) <= len(before)


def test_a_table_without_a_column_is_refused() -> None:
    """Constructed: a release that renames a column."""
    with pytest.raises(MarketDataError, match="no column Volume"):
        closes(Constructed(frame().drop(columns="Volume", level="Price")))


def intraday(*sessions: date, zone: str = "America/New_York") -> pd.DataFrame:
    """Constructed: 5-minute bars of regular hours labelled by their start, 1000 shares each, zoned index."""
    stamps = [pd.date_range(CALENDAR.open(day), CALENDAR.close(day), freq="5min", inclusive="left") for day in sessions]
    index = stamps[0].append(stamps[1:]).tz_convert(zone).rename("Datetime")
    return pd.DataFrame(
        [[1.0, 1.0, 1.0, 1.0, 1.0, 1000]] * len(index),
        index=index,
        columns=pd.MultiIndex.from_product([COLUMNS, ["MTUM"]], names=["Price", "Ticker"]),
    )


@pytest.mark.parametrize("zone", ["America/New_York", "UTC"])  # since 1.4.0, and before
def test_volume_is_that_of_the_bars_ended_by_the_cut(zone: str) -> None:
    """Constructed: 15:40 is 74 bars after 09:30, 12:40 on a half day 38; a bar still open at the cut is left out."""
    half = date(2024, 11, 29)
    cuts = {
        SESSION: CALENDAR.close(SESSION) - timedelta(minutes=20),
        DAYS[-1]: CALENDAR.close(DAYS[-1]) - timedelta(minutes=18),
        half: CALENDAR.close(half) - timedelta(minutes=20),
    }
    download = Constructed(intraday(SESSION, DAYS[-1], half, zone=zone))

    volumes = YahooData(CALENDAR, download).volume_until("MTUM", cuts, LATER)

    assert {SESSION: 74_000, DAYS[-1]: 74_000, half: 38_000} == volumes
    assert ("5m", "2024-11-05", "2024-11-30") == tuple(
        download.asked[0][1][key] for key in ("interval", "start", "end")
    )


@pytest.mark.parametrize("gap", [np.nan, np.inf, 1.797e308])
def test_unknown_volumes_are_absent(gap: float) -> None:
    """Constructed: a session without bars, one with no number among them, one beyond Yahoo's 60 days."""
    table = intraday(SESSION, DAYS[-1]).astype("float64")
    table.iloc[3] = gap
    wanted = [date(2024, 9, 3), DAYS[0], SESSION, DAYS[-1]]
    download = Constructed(table)

    volumes = YahooData(CALENDAR, download).volume_until("MTUM", {day: CALENDAR.close(day) for day in wanted}, LATER)

    assert {DAYS[-1]: 78_000} == volumes
    assert "2024-11-04" == download.asked[0][1]["start"]


def test_no_intraday_answer_is_an_unknown_volume_not_an_error() -> None:
    """Constructed: volume never touches an exit, so its absence may not end the run."""
    download = Constructed(ConnectionError("no route"))

    volumes = YahooData(CALENDAR, download).volume_until("MTUM", {SESSION: CALENDAR.close(SESSION)}, LATER)

    assert {} == volumes


AT_DECISION = CALENDAR.close(DAYS[-1]) - timedelta(minutes=20)


@pytest.mark.parametrize("row", ["absent", "all NaN"])
def test_todays_absent_bar_is_built_from_intraday_bars(row: str) -> None:
    """Constructed: no daily row of today yet; 74 bars of 5 minutes up to 15:40, and what lies after is not used."""
    daily = frame().astype("float64")
    daily.iloc[-1] = np.nan
    minutes = intraday(DAYS[-1]).astype("float64")
    minutes.iloc[0, 4], minutes.iloc[5, 2], minutes.iloc[6, 3], minutes.iloc[73, 1] = 210.0, 212.75, 0.5, 212.5
    minutes.iloc[74] = 999.0
    download = Constructed(daily.iloc[:-1] if row == "absent" else daily, minutes)

    bars = YahooData(CALENDAR, download).daily("MTUM", DAYS[0], DAYS[-1], AT_DECISION)

    assert DAYS == [day.date() for day in bars.frame.index]
    assert [210.0, 212.75, 0.5, 212.5, 74_000] == bars.frame.iloc[-1].to_list()
    assert (BarStatus.BUILT, AT_DECISION) == (bars.last_status, bars.as_of)


def test_a_built_bar_is_as_old_as_its_newest_five_minutes() -> None:
    """Constructed: Yahoo stopped at 14:00; the price is known up to 14:05, and says so."""
    download = Constructed(frame().iloc[:-1], intraday(DAYS[-1]).iloc[:55])

    bars = YahooData(CALENDAR, download).daily("MTUM", DAYS[0], DAYS[-1], AT_DECISION)

    assert CALENDAR.at(DAYS[-1], "14:05") == bars.as_of


@pytest.mark.parametrize(
    ("bars", "known"),
    [(18, "11:00"), (74, "15:40"), (75, "15:42"), (78, "15:42")],
    ids=["stood still", "ended by now", "running", "of later"],
)
@pytest.mark.parametrize("symbol", ["MTUM", VIX])
def test_todays_row_is_as_old_as_the_newest_five_minutes(symbol: str, bars: int, known: str) -> None:
    """Constructed: at 15:42 the daily table has a row of today, whose age Yahoo does not tell; a running bar is now."""
    at = CALENDAR.at(DAYS[-1], "15:42")
    ticker = "MTUM" if symbol == "MTUM" else "^VIX"
    minutes = intraday(DAYS[-1]).rename(columns={"MTUM": ticker}, level="Ticker").iloc[:bars]
    source = YahooData(CALENDAR, Constructed(frame(ticker), minutes))

    read = source.daily(symbol, DAYS[0], DAYS[-1], at)

    assert (BarStatus.PARTIAL, CALENDAR.at(DAYS[-1], known)) == (read.last_status, read.as_of)
    assert 212.5 == read.close[-1]


@pytest.mark.parametrize(("symbol", "limit"), [("MTUM", MAX_EXIT_PRICE_AGE), (VIX, MAX_VIX_AGE + timedelta(minutes=5))])
def test_a_row_of_today_of_unknown_age_buys_nothing_and_may_sell(symbol: str, limit: timedelta) -> None:
    """Constructed: Yahoo gives no 5-minute bars."""
    ticker = "MTUM" if symbol == "MTUM" else "^VIX"
    source = YahooData(CALENDAR, Constructed(frame(ticker), ConnectionError("no route")))

    bars = source.daily(symbol, DAYS[0], DAYS[-1], AT_DECISION)

    assert (BarStatus.PARTIAL, AT_DECISION - limit) == (bars.last_status, bars.as_of)


@pytest.mark.parametrize(("last", "at"), [(DAYS[-1], CALENDAR.close(DAYS[-1])), (DAYS[-2], AT_DECISION)])
def test_of_finished_rows_no_age_is_asked(last: date, at: datetime) -> None:
    """Constructed: at the close, and where the last row is an earlier session's."""
    download = Constructed(frame().loc[: str(last)])

    bars = YahooData(CALENDAR, download).daily("MTUM", DAYS[0], last, at)

    assert (at, 1) == (bars.as_of, len(download.asked))


def test_without_intraday_bars_either_todays_bar_stays_absent() -> None:
    """Constructed: quality then names the absent bar."""
    download = Constructed(frame().iloc[:-1], frame().iloc[:0])

    bars = YahooData(CALENDAR, download).daily("MTUM", DAYS[0], DAYS[-1], AT_DECISION)

    assert (DAYS[:-1], BarStatus.FINAL) == ([day.date() for day in bars.frame.index], bars.last_status)


def test_without_yfinance_the_cure_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is not installed."""
    monkeypatch.setattr(yahoo, "find_spec", lambda _: None)

    with pytest.raises(SettingsError) as refused:
        YahooData(CALENDAR)

    assert "pip install 'mtum-eod[yahoo]'" == refused.value.hint


THROUGH_YFINANCE = """
import os, sys
from datetime import UTC, date, datetime
import pandas as pd
import yfinance, yfinance.cache
from mtum_eod.adapters.calendar import ExchangeCalendar
from mtum_eod.adapters.yahoo import YahooData

def history(self, **settings):  # constructed: as PriceHistory gives it
    assert self.ticker == "MTUM" and settings["auto_adjust"] is False
    yfinance.cache.get_tz_cache().store("MTUM", "America/New_York")
    yfinance.cache.get_cookie_cache().store("basic", {"A": "1"})
    index = pd.DatetimeIndex(["2024-11-04", "2024-11-05"], tz="America/New_York", name="Date")
    return pd.DataFrame({"Open": 203.5, "High": 204.25, "Low": 202.1, "Close": [203.0, 203.5], "Adj Close": 199.9,
                         "Volume": 512300}, index=index)

yfinance.Ticker.history = history
calendar = ExchangeCalendar(date(2024, 11, 30))
bars = YahooData(calendar).daily("MTUM", date(2024, 11, 4), date(2024, 11, 5), datetime(2024, 11, 30, tzinfo=UTC))
print(bars.frame["close"].to_list(), str(bars.frame.index[-1].date()), len(sys.argv))
"""


def test_through_yfinances_own_download_and_without_its_caches(tmp_path: Path) -> None:
    """Constructed below yfinance's `download`, so its own code shapes the table; its cache folder stays unmade."""
    pytest.importorskip("yfinance")
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "TMPDIR": str(tmp_path)}

    done = subprocess.run(
        [sys.executable, "-c", THROUGH_YFINANCE],
        capture_output=True, text=True, cwd=tmp_path, env=os.environ | home, timeout=60, check=False,
    )  # fmt: skip

    assert ("", "[203.0, 203.5] 2024-11-05 1\n") == (done.stderr, done.stdout)
    assert [] == list(tmp_path.iterdir())


THROUGH_A_SILENT_NETWORK = """
import time
from datetime import UTC, date, datetime, timedelta
import yfinance
from mtum_eod.adapters.calendar import ExchangeCalendar
from mtum_eod.adapters.yahoo import YahooData

source = YahooData(ExchangeCalendar(date(2024, 11, 30)), patience=timedelta(seconds=1))
began = time.monotonic()
for symbol in ("MTUM", "VIX"):
    try:
        source.daily(symbol, date(2024, 11, 4), date(2024, 11, 5), datetime(2024, 11, 30, tzinfo=UTC))
    except Exception as error:
        print(error)
print(time.monotonic() - began < 5)
"""


def test_yfinances_own_requests_wait_no_longer(tmp_path: Path) -> None:
    """Its cookie and crumb are asked for with time-outs of their own, five times 10 to 30 seconds."""
    pytest.importorskip("yfinance")
    with silent_server() as port:
        proxies = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), f"http://127.0.0.1:{port}")
        home = {"HOME": str(tmp_path), "no_proxy": ""}
        done = subprocess.run(
            [sys.executable, "-c", THROUGH_A_SILENT_NETWORK],
            capture_output=True, text=True, cwd=tmp_path, env=os.environ | proxies | home, timeout=60, check=False,
        )  # fmt: skip

    assert ("", 0) == (done.stderr, done.returncode)
    assert (
        "MTUM 2024-11-04 to 2024-11-05: Yahoo gave no 1d bars of MTUM in 1 attempt (no answer within 1 s).\n"
        "VIX 2024-11-04 to 2024-11-05: Yahoo was not asked again so soon after it gave no answer.\n"
        "True\n"
    ) == done.stdout
