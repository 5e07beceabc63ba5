"""What every MarketData must do, run on each: sample, CSV files, Yahoo on constructed answers, IB over a socket."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import gateway
import numpy as np
import pandas as pd
import pytest

from mtum_eod.adapters.calendar import ExchangeCalendar
from mtum_eod.adapters.csv_files import CsvData
from mtum_eod.adapters.sample import SampleData
from mtum_eod.adapters.yahoo import YahooData
from mtum_eod.core.market import COLUMNS, VIX, BarStatus, DailyBars
from mtum_eod.ports import MarketData
from tws_server import Server

CALENDAR = ExchangeCalendar(date(2024, 11, 30))
SESSION = date(2024, 11, 5)  # a Tuesday, 09:30 to 16:00 in New York
FIRST = date(2024, 10, 1)
SESSIONS = CALENDAR.sessions(FIRST, date(2024, 11, 29))
OPEN, CLOSE = CALENDAR.open(SESSION), CALENDAR.close(SESSION)
LATER = datetime(2024, 11, 30, tzinfo=UTC)


def sample(folder: Path) -> MarketData:  # noqa: ARG001
    return SampleData(CALENDAR)


def csv(folder: Path) -> MarketData:
    rows = "".join(f"{day},100,101,99,100.5,90,1000000\n" for day in SESSIONS)
    for symbol in ("MTUM", VIX):
        (folder / f"{symbol}.csv").write_text("Date,Open,High,Low,Close,Adj Close,Volume\n" + rows)
    return CsvData(folder, CALENDAR)


def yahoo(folder: Path) -> MarketData:  # noqa: ARG001
    """Constructed: what yfinance's documentation and source say its frames look like."""

    def download(ticker: str, start: str, end: str, interval: str, **_: object) -> pd.DataFrame:
        days = [day for day in SESSIONS if start <= str(day) < end]  # the end is exclusive
        index = pd.DatetimeIndex(days, name="Date")
        if interval == "5m":
            minutes = [
                pd.date_range(CALENDAR.open(day), CALENDAR.close(day), freq="5min", inclusive="left") for day in days
            ]
            index = minutes[0].append(minutes[1:]).tz_convert("America/New_York").rename("Datetime")
        values = [[90.0, 100.5, 101.0, 99.0, 100.0, 1000]] * len(index)
        columns = ["Adj Close", "Close", "High", "Low", "Open", "Volume"]
        return pd.DataFrame(
            values, index=index, columns=pd.MultiIndex.from_product([columns, [ticker]], names=["Price", "Ticker"])
        )

    return YahooData(CALENDAR, download)


@contextmanager
def ib(folder: Path) -> Iterator[MarketData]:  # noqa: ARG001
    """Over the wire, from a terminal whose present is always the question's."""
    with Server() as tws, gateway.line(tws) as line:
        bars = gateway.data(line, tws)

        class Then:
            name, is_synthetic = bars.name, bars.is_synthetic

            def daily(self, symbol: str, first: date, last: date, as_of: datetime) -> DailyBars:
                tws.clock.set(as_of)
                return bars.daily(symbol, first, last, as_of)

            def volume_until(self, symbol: str, cuts: Mapping[date, datetime], as_of: datetime) -> dict[date, float]:
                tws.clock.set(as_of)
                return bars.volume_until(symbol, cuts, as_of)

        yield Then()


@pytest.fixture(params=[sample, csv, yahoo, ib], ids=lambda build: build.__name__)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MarketData]:
    built = request.param(tmp_path)
    with built if isinstance(built, AbstractContextManager) else nullcontext(built) as source:
        yield source


@pytest.mark.parametrize("symbol", ["MTUM", VIX])
def test_bars_are_the_table_the_port_describes(source: MarketData, symbol: str) -> None:
    """A day and five floats a row, the source's name, an instant."""
    bars = source.daily(symbol, FIRST, SESSION, LATER)

    assert ("datetime64[D]", "float64") == (bars.days.dtype, bars.values.dtype)
    assert (len(bars.days), len(COLUMNS)) == bars.values.shape
    assert (symbol, source.name, LATER) == (bars.symbol, bars.source, bars.as_of)


def test_one_row_a_session_from_first_to_last(source: MarketData) -> None:
    """Both ends included, nothing outside them."""
    bars = source.daily("MTUM", FIRST, SESSION, LATER)

    assert CALENDAR.sessions(FIRST, SESSION) == [day.date() for day in bars.frame.index]


def test_an_index_has_no_volume(source: MarketData) -> None:
    """NaN, also where the vendor writes a number."""
    assert source.daily(VIX, FIRST, SESSION, LATER).frame["volume"].isna().all()


@pytest.mark.parametrize(
    ("as_of", "newest", "status"),
    [
        (OPEN - timedelta(minutes=1), date(2024, 11, 4), BarStatus.FINAL),
        (OPEN, SESSION, BarStatus.PARTIAL),
        (CLOSE - timedelta(minutes=20), SESSION, BarStatus.PARTIAL),
        (CLOSE, SESSION, BarStatus.PROVISIONAL),
        (datetime(2024, 11, 6, 4, 59, tzinfo=UTC), SESSION, BarStatus.PROVISIONAL),  # 23:59 in New York
        (datetime(2024, 11, 6, 5, 0, tzinfo=UTC), SESSION, BarStatus.FINAL),  # midnight in New York
        (datetime(2024, 11, 9, 15, 0, tzinfo=UTC), date(2024, 11, 8), BarStatus.FINAL),  # a Saturday
    ],
)
@pytest.mark.parametrize("symbol", ["MTUM", VIX])
def test_nothing_later_than_as_of_is_in_the_answer(
    source: MarketData, symbol: str, as_of: datetime, newest: date, status: BarStatus
) -> None:
    """Before the open today has no bar; then it is partial, at the close provisional, the next day final."""
    bars = source.daily(symbol, FIRST, SESSIONS[-1], as_of)

    assert (newest, status) == (bars.frame.index[-1].date(), bars.last_status)


def test_a_range_that_ends_earlier_is_final(source: MarketData) -> None:
    """Asked during a session for bars up to the day before."""
    bars = source.daily("MTUM", FIRST, date(2024, 11, 4), CLOSE - timedelta(minutes=20))

    assert (date(2024, 11, 4), BarStatus.FINAL) == (bars.frame.index[-1].date(), bars.last_status)


def test_the_same_question_has_the_same_answer_and_its_own_table(source: MarketData) -> None:
    """Writing into an answer changes no later one."""
    spoilt = source.daily("MTUM", FIRST, SESSION, LATER)
    before = spoilt.values.copy()
    spoilt.values[:] = 0.0

    np.testing.assert_array_equal(before, source.daily("MTUM", FIRST, SESSION, LATER).values)


def test_intraday_volume_grows_with_its_cut_and_stops_at_as_of(source: MarketData) -> None:
    """Shares up to a cut; a cut in the future counts up to now; a session that has not begun is unknown."""
    as_of = CLOSE - timedelta(minutes=20)
    early, late, beyond = OPEN + timedelta(hours=1), as_of, CLOSE
    volumes = [source.volume_until("MTUM", {SESSION: cut}, as_of).get(SESSION) for cut in (early, late, beyond)]

    if volumes == [None] * 3:
        assert source.name == "csv"
    else:
        assert 0 < volumes[0] < volumes[1] == volumes[2]
    assert {} == source.volume_until("MTUM", {date(2024, 11, 6): CLOSE + timedelta(days=1)}, as_of)
    assert {} == source.volume_until(VIX, {SESSION: as_of}, as_of)


def test_only_the_sample_is_made_up(source: MarketData) -> None:
    """Synthetic bars are marked at their source."""
    assert (source.name == "sample") == source.is_synthetic
