"""The real history to measure with, in the forms that we and the peers take."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from peers import Series

from mtum_eod.adapters.calendar import ExchangeCalendar
from mtum_eod.adapters.csv_files import CsvData
from mtum_eod.core.market import VIX
from mtum_eod.jobs.backtest import History, history_of


def data_folder() -> Path:
    """Where MTUM.csv and VIX.csv are: MTUM_EOD_TEST_DATA, else beside the repository. Ends the program without."""
    folder = Path(os.environ.get("MTUM_EOD_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not (folder / "MTUM.csv").is_file():
        sys.exit("no real history: name the folder with MTUM.csv and VIX.csv in MTUM_EOD_TEST_DATA")
    return folder.absolute()


def real_history() -> History:
    """The whole of it, checked as `mtum-eod backtest` checks it."""
    now = datetime.now(UTC)
    calendar = ExchangeCalendar(now.date())
    source = CsvData(data_folder(), calendar)
    prices, vix = (source.daily(symbol, calendar.first_session, now.date(), now) for symbol in ("MTUM", VIX))
    return history_of(prices, vix, calendar.sessions(prices.first, prices.last))


def repeated(history: History, times: int) -> History:
    """The history that many times in a row, on made-up sessions: one a day."""
    sessions = [date(1990, 1, 1) + timedelta(days=day) for day in range(times * len(history.sessions))]
    columns = {name: np.tile(values, times) for name, values in history.columns.items()}
    return replace(history, sessions=sessions, columns=columns)


def frame_of(history: History) -> pd.DataFrame:
    """Open, High, Low, Close, Volume, VIX by session, as the peers' feeds want them."""
    names = {"open": "Open", "high": "High", "low": "Low", "close": "Close", "volume": "Volume", "vix": "VIX"}
    return pd.DataFrame(history.columns, index=pd.DatetimeIndex(history.sessions)).rename(columns=names)


def series_of(history: History) -> Series:
    """The same as arrays."""
    wanted = {name: history.columns[name] for name in ("high", "low", "close", "volume", "vix")}
    return Series(sessions=history.sessions, **wanted)
