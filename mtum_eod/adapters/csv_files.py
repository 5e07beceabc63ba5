"""Bars from a folder of CSV files as Yahoo, Stooq, Interactive Brokers and Cboe write them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd

from mtum_eod.adapters.bars import daily_bars
from mtum_eod.core.market import COLUMNS, VIX, BarStatus, DailyBars, Days, Finding, FindingKind, Floats, arrays_of
from mtum_eod.core.words import counted
from mtum_eod.errors import MarketDataError
from mtum_eod.ports import Calendar

FORMS = "Yahoo (Date,Open,High,Low,Close,Adj Close,Volume), Stooq, IB or Cboe (DATE,OPEN,HIGH,LOW,CLOSE)"

DATE_FORMS = {  # a day alone; stamps with a time are read one by one
    r"\d{4}-\d\d-\d\d": "%Y-%m-%d",  # Yahoo, Stooq, IB
    r"\d{8}": "%Y%m%d",  # Stooq's bulk files
    r"\d\d?/\d\d?/\d{4}": "%m/%d/%Y",  # Cboe
}

DAY_FIRST = r"(1[3-9]|2\d|3[01])/0?([1-9]|1[0-2])/\d{4}"
"""Dates that show their file to begin with the day: 14/10/2024. Of 05/11/2024 alone nobody can tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parsed:
    """A file as it was read once."""

    stamp: tuple[int, int]  # modification time and size; another stamp is another file
    days: Days
    values: Floats
    findings: tuple[Finding, ...]
    adjusted: Floats | None


_parsed: dict[tuple[Path, str], _Parsed] = {}
"""Files read by this process. A year of sessions asks for the same file hundreds of times."""


class CsvData:
    """`<symbol>.csv` of each symbol in one folder; column Close, never Adj Close."""

    name = "csv"
    is_synthetic = False

    def __init__(self, folder: Path, calendar: Calendar) -> None:
        self._folder = folder
        self._calendar = calendar

    def daily(self, symbol: str, first: date, last: date, as_of: datetime) -> DailyBars:
        """The file's rows from `first` to `last`; raises MarketDataError where it cannot be read as bars."""
        file = self._parse(symbol)
        bars = daily_bars(
            self._calendar,
            symbol,
            file.days,
            file.values,
            first,
            last,
            as_of,
            self.name,
            findings=file.findings,
            adjusted=file.adjusted,
        )
        written = datetime.fromtimestamp(file.stamp[0] / 1e9, UTC)
        return bars if bars.is_empty else self._no_younger(bars, written)

    def _no_younger(self, bars: DailyBars, written: datetime) -> DailyBars:
        """The bars, their last row as old as the file: one written before the close has not seen it, whenever asked."""
        day, as_of = bars.last, bars.as_of
        if self._calendar.local_date(written) > day or not self._calendar.is_session(day):
            return bars
        closed = self._calendar.close(day)
        if min(as_of, written) >= closed:
            return bars
        bars = replace(bars, as_of=min(as_of, written), last_status=BarStatus.PARTIAL)
        if as_of < closed:
            return bars
        words = (
            f"{bars.symbol} {day}: {bars.symbol}.csv was written at {written:%Y-%m-%d %H:%M} UTC, before the session's "
            "close, and has no close of it; download it again"
        )
        stale = Finding(kind=FindingKind.STALE_PRICE, symbol=bars.symbol, session=day, words=words)
        return replace(bars, findings=(*bars.findings, stale))

    def volume_until(self, symbol: str, cuts: Mapping[date, datetime], as_of: datetime) -> dict[date, float]:  # noqa: ARG002
        """Nothing: a file of daily bars knows no time of day."""
        return {}

    def _parse(self, symbol: str) -> _Parsed:
        path = self._folder / f"{symbol}.csv"
        try:
            found = path.stat()
            stamp = (found.st_mtime_ns, found.st_size)
            parsed = _parsed.get((path, symbol))
            if parsed is None or parsed.stamp != stamp:
                parsed = _parsed[path, symbol] = _File(symbol, path, self._calendar).parse(path.read_bytes(), stamp)
        except FileNotFoundError:
            raise MarketDataError(
                f"{symbol}: no file {path}, expected one with daily bars as {FORMS}.",
                hint="Put it there, or name its folder in data.csv_dir (MTUM_EOD_DATA__CSV_DIR).",
            ) from None
        except IsADirectoryError:
            raise MarketDataError(
                f"{symbol}: {path} is a folder, expected a file with daily bars as {FORMS}.",
                hint="Put the file in its place, or name another folder in data.csv_dir (MTUM_EOD_DATA__CSV_DIR).",
            ) from None
        except OSError as error:
            raise MarketDataError(
                f"{symbol}: {path} cannot be read ({error.strerror}), expected a readable file with daily bars.",
                hint="Check data.csv_dir (MTUM_EOD_DATA__CSV_DIR) and the permissions of the file.",
            ) from error
        return parsed


class _File:
    """One file's way from bytes to bars."""

    def __init__(self, symbol: str, path: Path, calendar: Calendar) -> None:
        self.symbol = symbol
        self.path = path
        self.calendar = calendar
        self.findings: list[Finding] = []

    def error(self, found: str, expected: str) -> MarketDataError:
        return MarketDataError(
            f"{self.symbol}: {self.path} {found}, expected {expected}.",
            hint=f"Download the file again from its vendor; recognised: {FORMS}.",
        )

    def parse(self, content: bytes, stamp: tuple[int, int]) -> _Parsed:
        """Its rows in the file's order, and what was found on the way."""
        table = self.read(content)
        days = self.days(table["date"])
        placed = days.notna()
        if not placed.any():
            raise self.error(f"has no row with a date ({counted(len(table), 'row')})", "one row a session")
        index = pd.DatetimeIndex(days[placed], name="session")
        table = table[placed]
        numbers = {
            column: self.numbers(column, table[column], index)
            for column in COLUMNS
            if column != "volume" or self.symbol != VIX
        }
        read, values = arrays_of(pd.DataFrame(numbers, index=index, columns=COLUMNS, dtype="float64"))
        adjusted = None
        if "adj close" in table:
            adjusted = pd.to_numeric(table["adj close"], errors="coerce").to_numpy(dtype=np.float64)
        return _Parsed(stamp=stamp, days=read, values=values, findings=tuple(self.findings), adjusted=adjusted)

    def read(self, content: bytes) -> pd.DataFrame:
        """The table as text, columns by our names; row n of the index stands in line n of the file."""
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise self.error(f"is not UTF-8 text (byte {error.start})", "a CSV file in UTF-8") from None
        if not text.strip():
            raise self.error("is empty", "a header and one row a session")
        header, _, _ = text.partition("\n")
        delimiter = max(",;\t", key=header.count)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", pd.errors.ParserWarning)  # else surplus values are cut off silently
                table = pd.read_csv(
                    StringIO(text), sep=delimiter, dtype=str, keep_default_na=False, index_col=False,
                    skip_blank_lines=False, skipinitialspace=True,
                )  # fmt: skip
        except pd.errors.EmptyDataError:
            raise self.error("begins with a line that names no column", "its header in the first line") from None
        except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
            raise self.error(f"is no table ({error})", "as many values in each line as in the header") from None
        table.columns = [_our_name(column) for column in table.columns]
        needed = [column for column in ("date", *COLUMNS) if column != "volume" or self.symbol != VIX]
        if missing := [column for column in needed if column not in table]:
            raise self.error(
                f"has no column {', '.join(missing)} (its header: {header.strip()!r})", f"columns {', '.join(needed)}"
            )
        named = [_our_name(name) for name in header.split(delimiter)]  # pandas would number a second one, and go on
        if twice := [column for column in needed if named.count(column) > 1]:
            raise self.error(f"has two columns {', '.join(twice)} (its header: {header.strip()!r})", "one of each")
        if not {"adj close", "average", "barcount"} & set(table) and self.symbol != VIX:
            self.find(
                FindingKind.POSSIBLY_ADJUSTED,
                None,
                f"{self.path.name} has no column Adj Close beside Close, so its prices may be dividend-adjusted; "
                "prices as printed expected",
            )
        table.index = pd.RangeIndex(2, len(table) + 2)
        return table[~(table.isna() | (table == "")).all(axis=1)]

    def days(self, texts: pd.Series) -> pd.Series:
        """Each row's session as midnight without zone; NaT, and a finding, where the date cannot be read."""
        texts = texts.fillna("").str.strip()
        day_first = texts[texts.str.fullmatch(DAY_FIRST)]
        if len(day_first):  # its other half would be read as other days, and no price would look wrong
            raise self.error(f"has dates such as {day_first.iloc[0]!r}, day first", "month first, or YYYY-MM-DD")
        read = pd.Series(pd.NaT, index=texts.index, dtype="datetime64[s]")
        for pattern, form in DATE_FORMS.items():
            written = texts.str.fullmatch(pattern)
            if written.any():
                read[written] = pd.to_datetime(texts[written], format=form, errors="coerce").astype("datetime64[s]")
        others = texts[read.isna()]
        read[others.index] = np.array([self.day_of_stamp(text) for text in others], dtype="datetime64[s]")
        # A slip such as the year 3024 would not fit into an index of bars; no exchange was open then either.
        days = read.where(read.between("1900", "2200")).astype("datetime64[ns]")
        for line, text in texts[days.isna()].items():
            words = f"{self.path.name} line {line} has the date {text!r}, which cannot be read; row left out"
            self.find(FindingKind.VALUE_MISSING, None, words)
        return days

    def day_of_stamp(self, text: str) -> date | None:
        """The session of a stamp with a time: its date at the exchange.

        Midnight is the exception, in whatever zone: vendors stamp a daily bar with its date and 00:00, and
        00:00 in UTC is still the evening before in New York.
        """
        try:
            stamp = datetime.fromisoformat(text)
        except ValueError:
            return None
        if stamp.tzinfo is None or stamp.time() == datetime.min.time():
            return stamp.date()
        return self.calendar.local_date(stamp)

    def numbers(self, column: str, texts: pd.Series, index: pd.DatetimeIndex) -> pd.Series:
        """The column as floats on `index`; NaN, and a finding, where a number cannot be read."""
        values = pd.to_numeric(texts, errors="coerce").astype("float64")
        unread = values.isna()
        if unread.all():
            raise self.error(
                f"has no number in column {column} (its first: {texts.iloc[0]!r})", "numbers with a decimal point"
            )
        if unread.any():
            for line, session in zip(texts.index[unread], index[unread], strict=True):
                text = texts[line]
                found = f"is {text!r}, not a number" if isinstance(text, str) and text else "is empty"
                words = f"{column} {found} ({self.path.name} line {line})"
                self.find(FindingKind.VALUE_MISSING, session.date(), words)
        return values.set_axis(index)

    def find(self, kind: FindingKind, session: date | None, words: str) -> None:
        named = f"{self.symbol} {session}: {words}" if session else f"{self.symbol}: {words}"
        self.findings.append(Finding(kind=kind, symbol=self.symbol, session=session, words=named))


def _our_name(column: str) -> str:
    """A vendor's column by our name: Stooq writes <VOL>, Yahoo's page Close* and Adj Close**."""
    name = column.strip(" <>*\"'").lower()
    return "volume" if name == "vol" else name
