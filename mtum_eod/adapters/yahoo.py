"""Bars from Yahoo through yfinance, the extra `yahoo`. Written against yfinance's source, versions 0.2.60 to 1.7."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from importlib.util import find_spec

import numpy as np
import pandas as pd
import stamina

from mtum_eod.adapters.bars import between, daily_bars, last_known, of_unknown_age, volumes_by, with_built
from mtum_eod.adapters.threads import heard, within
from mtum_eod.core.market import COLUMNS, VIX, DailyBars, Floats, arrays_of
from mtum_eod.core.words import counted
from mtum_eod.errors import MarketDataError, SettingsError
from mtum_eod.ports import Calendar

Download = Callable[..., "pd.DataFrame | None"]
"""`yfinance.download`, or what stands in for it."""

INTRADAY_REACH = timedelta(days=59)
"""Yahoo serves 5-minute bars of the last 60 days; one less keeps clear of its edge."""

INTRADAY_BAR = timedelta(minutes=5)
ATTEMPTS = 3

PATIENCE = timedelta(seconds=20)
"""For one answer. yfinance's own time-out counts for each of its requests anew, and a question makes up to five."""

BUDGET = timedelta(seconds=60)
"""For all that was not answered. A decision asks four times, and has 5 minutes to its hard stop."""

REST = timedelta(minutes=5)
"""After a silence nothing is asked: by then the step has ended, and the next one may find Yahoo again."""

PRICE_COLUMNS = ["Open", "High", "Low", "Close", "Volume"]
ADJUSTED = "Adj Close"
HINT = (
    "Yahoo limits and changes its service at will: try again in some minutes, `pip install -U yfinance`, "
    "or set data.source to csv."
)


class _NoAnswer(Exception):
    """Yahoo gave nothing to read; asking again may."""


class _Silent(_NoAnswer):
    """Yahoo took its time and said nothing; asking again would take as long."""


class YahooData:
    """Unadjusted bars of Yahoo; the VIX is its ^VIX. `download` stands in for yfinance's own in tests.

    A question waits `patience` for its answer, and all that come to nothing wait `budget` together. After that, and
    after one silence, each is refused at once: stored bars serve sooner.
    """

    name = "yahoo"
    is_synthetic = False

    def __init__(
        self,
        calendar: Calendar,
        download: Download | None = None,
        *,
        patience: timedelta = PATIENCE,
        budget: timedelta = BUDGET,
    ) -> None:
        if download is None and find_spec("yfinance") is None:
            raise SettingsError(
                "data.source is yahoo, but the package yfinance is not installed.",
                hint="pip install 'mtum-eod[yahoo]'",
            )
        self._calendar = calendar
        self._download = download
        self._patience = patience.total_seconds()
        self._budget = self._left = budget.total_seconds()
        self._resting_until = 0.0  # on the monotonic clock

    def daily(self, symbol: str, first: date, last: date, as_of: datetime) -> DailyBars:
        """Daily bars as printed, split-adjusted only; raises MarketDataError where Yahoo gives none at all.

        Today's has its age from the 5-minute bars; where Yahoo has none yet, it is built from them and marked BUILT.
        """
        last = last_known(self._calendar, last, as_of)
        table = self._ask(symbol, first, last, "1d")
        days = pd.DatetimeIndex(table.index).tz_localize(None).normalize()  # midnights where the symbol is traded
        frame = _frame(table[PRICE_COLUMNS], days)
        if symbol == VIX:
            frame["volume"] = np.nan  # Yahoo says 0 where an index has no volume
        adjusted = table[ADJUSTED].to_numpy(dtype=np.float64) if ADJUSTED in table else None
        bars = daily_bars(self._calendar, symbol, *arrays_of(frame), first, last, as_of, self.name, adjusted=adjusted)
        today = self._calendar.local_date(as_of)
        return self._with_today(bars, today) if last == today else bars

    def volume_until(self, symbol: str, cuts: Mapping[date, datetime], as_of: datetime) -> dict[date, float]:
        """Volume of the 5-minute bars of regular hours that ended by each cut; sessions without any are absent."""
        reach = self._calendar.local_date(as_of - INTRADAY_REACH)
        wanted = {
            session: min(cut, as_of)
            for session, cut in cuts.items()
            if session >= reach and as_of >= self._calendar.open(session)
        }
        if symbol == VIX or not wanted:
            return {}
        minutes = self._intraday(symbol, min(wanted), max(wanted))
        return volumes_by(self._calendar, minutes, INTRADAY_BAR, wanted)

    def _with_today(self, bars: DailyBars, today: date) -> DailyBars:
        """The bars with the age of today's price; today's row built where there is none."""
        opened, closed = self._calendar.open(today), self._calendar.close(today)
        has_row = not np.isnan(bars.close[bars.days == np.datetime64(today)]).all()
        if has_row and bars.as_of >= closed:
            return bars
        newest = min(bars.as_of, closed)
        if not has_row:
            newest -= INTRADAY_BAR  # a running bar may know more than as_of
        minutes = between(self._intraday(bars.symbol, today, today), opened, newest).dropna(subset=COLUMNS[:4])
        if minutes.empty:
            return of_unknown_age(bars, INTRADAY_BAR) if has_row else bars
        known = min(minutes.index[-1].to_pydatetime() + INTRADAY_BAR, bars.as_of)
        return replace(bars, as_of=known) if has_row else with_built(bars, today, minutes, known)

    def _intraday(self, symbol: str, first: date, last: date) -> pd.DataFrame:
        """5-minute bars of regular hours on the UTC instants they start at; empty where Yahoo gives none.

        Not an error: without them an entry is blocked and the daily bars still decide an exit.
        """
        try:
            table = self._ask(symbol, first, last, "5m")
        except MarketDataError:
            return _frame(np.empty((0, len(COLUMNS))), pd.DatetimeIndex([], tz=UTC))
        return _frame(table[PRICE_COLUMNS], pd.DatetimeIndex(table.index).tz_convert(UTC))

    def _ask(self, symbol: str, first: date, last: date, interval: str) -> pd.DataFrame:
        """Columns PRICE_COLUMNS of one symbol, and ADJUSTED where Yahoo has it; at least one row."""
        ticker = "^VIX" if symbol == VIX else symbol
        wanted = f"{symbol} {first} to {last}"
        if time.monotonic() < self._resting_until:
            raise MarketDataError(f"{wanted}: Yahoo was not asked again so soon after it gave no answer.", hint=HINT)
        asked = 0
        try:
            for attempt in stamina.retry_context(on=_is_worth_repeating, attempts=ATTEMPTS, timeout=30, wait_initial=1):
                with attempt:
                    asked = attempt.num
                    table = self._ask_once(ticker, first, last, interval)
        except _NoAnswer as error:
            raise MarketDataError(
                f"{wanted}: Yahoo gave no {interval} bars of {ticker} in {counted(asked, 'attempt')} ({error}).",
                hint=HINT,
            ) from error
        if missing := [column for column in PRICE_COLUMNS if column not in table]:
            raise MarketDataError(
                f"{symbol}: Yahoo's table has no column {', '.join(missing)} (its columns: "
                f"{', '.join(map(str, table.columns))}), expected {', '.join(PRICE_COLUMNS)}.",
                hint=HINT,
            )
        return table

    def _ask_once(self, ticker: str, first: date, last: date, interval: str) -> pd.DataFrame:
        began = time.monotonic()
        try:
            table = self._answer(ticker, first, last, interval)
        except _NoAnswer as error:
            self._left -= time.monotonic() - began
            if isinstance(error, _Silent) or self._left <= 0:
                self._left, self._resting_until = self._budget, time.monotonic() + REST.total_seconds()
                raise _Silent(*error.args) from error
            raise
        if isinstance(table.columns, pd.MultiIndex):  # levels Price and Ticker
            tickers = table.columns.get_level_values("Ticker")
            table = table.loc[:, tickers == ticker.upper()].droplevel("Ticker", axis=1)
        return table

    def _answer(self, ticker: str, first: date, last: date, interval: str) -> pd.DataFrame:
        """At least one row. What changes for the whole process is done here: a thread left over puts nothing back."""
        logging.getLogger("yfinance").propagate = False  # what it says of a failure stands in ours
        seconds = min(self._patience, self._left)
        with warnings.catch_warnings():
            call = partial(
                _words_or_table,
                self._download or _vendor_download(),
                ticker,
                start=first.isoformat(),
                end=(last + timedelta(days=1)).isoformat(),  # exclusive
                interval=interval,
                auto_adjust=False,
                actions=False,
                progress=False,
                threads=False,
                multi_level_index=True,
            )
            warnings.simplefilter("ignore", DeprecationWarning)  # pandas' words to yfinance's authors
            [answer] = within(seconds, [call], late=None)
        if answer is None:
            raise _Silent(f"no answer within {seconds:.2g} s")
        if isinstance(answer, str):
            raise _NoAnswer(answer)
        return answer


def _frame(prices: pd.DataFrame | Floats, stamps: pd.DatetimeIndex) -> pd.DataFrame:
    """Yahoo's columns under our names."""
    return pd.DataFrame(np.asarray(prices, dtype=np.float64), index=stamps, columns=list(COLUMNS))


def _is_worth_repeating(error: Exception) -> bool:
    return isinstance(error, _NoAnswer) and not isinstance(error, _Silent)


def _words_or_table(download: Download, ticker: str, **settings: object) -> pd.DataFrame | str:
    """The answer, at least one row; else why there is none. yfinance tells of an empty table in its log only."""
    try:
        with heard("yfinance", logging.ERROR) as complaints:
            table = download(ticker, **settings)
    except Exception as error:  # whatever a vendor raises ends at this border
        return f"{type(error).__name__}: {error}"
    if table is None or table.empty:
        return "; ".join(dict.fromkeys(complaints)) or "an empty table"
    return table


def _vendor_download() -> Download:
    """The vendor's own, without its caches of time zones and cookies.

    Its cache folder is set to a place that can never be one; yfinance then goes without, on any file system, and a
    dry run leaves no trace. The cookie is fetched anew, one request more a process.
    """
    import yfinance  # asks for deprecations to be shown, which is for the caller to undo

    yfinance.set_tz_cache_location(os.path.join(os.devnull, "no-cache"))  # noqa: PTH118
    download: Download = yfinance.download
    return download
