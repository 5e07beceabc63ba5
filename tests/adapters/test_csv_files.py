"""CSV files as vendors write them, and as accidents leave them. The files' words are the vendors' own forms."""

from __future__ import annotations

import os
from datetime import UTC, date, datetime
from pathlib import Path
from textwrap import dedent

import numpy as np
import pandas as pd
import pytest

from mtum_eod.adapters.calendar import ExchangeCalendar
from mtum_eod.adapters.csv_files import CsvData
from mtum_eod.core.market import VIX, BarStatus, DailyBars, FindingKind
from mtum_eod.core.quality import check
from mtum_eod.errors import MarketDataError

CALENDAR = ExchangeCalendar(date(2024, 11, 30))
LATER = datetime(2024, 11, 30, tzinfo=UTC)
FIRST, LAST = date(2024, 11, 4), date(2024, 11, 6)

YAHOO = """\
    Date,Open,High,Low,Close,Adj Close,Volume
    2024-11-04,203.5,204.25,202.1,203.0,199.9,512300
    2024-11-05,203.2,206.5,203.0,206.0,202.8,498100
    2024-11-06,210.0,212.75,209.5,212.5,209.2,1020400
"""
STOOQ = """\
    Date,Open,High,Low,Close,Volume
    2024-11-04,203.5,204.25,202.1,203.0,512300
    2024-11-05,203.2,206.5,203.0,206.0,498100
    2024-11-06,210.0,212.75,209.5,212.5,1020400
"""
STOOQ_BULK = """\
    <TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>
    MTUM.US,D,20241104,000000,203.5,204.25,202.1,203.0,512300,0
    MTUM.US,D,20241105,000000,203.2,206.5,203.0,206.0,498100,0
    MTUM.US,D,20241106,000000,210.0,212.75,209.5,212.5,1020400,0
"""
IB = """\
    ,date,open,high,low,close,volume,average,barCount
    0,2024-11-04,203.5,204.25,202.1,203.0,512300.0,203.1,2100
    1,2024-11-05,203.2,206.5,203.0,206.0,498100.0,205.2,2300
    2,2024-11-06,210.0,212.75,209.5,212.5,1020400.0,211.3,4800
"""
EXPECTED = np.array(
    [
        [203.5, 204.25, 202.1, 203.0, 512300],
        [203.2, 206.5, 203.0, 206.0, 498100],
        [210.0, 212.75, 209.5, 212.5, 1020400],
    ]
)
CBOE = """\
    DATE,OPEN,HIGH,LOW,CLOSE
    11/04/2024,22.14,22.78,21.7,21.98
    11/05/2024,21.92,21.98,20.3,20.49
    11/06/2024,18.9,19.15,15.4,16.27
"""


def write(folder: Path, text: str, symbol: str = "MTUM", encoding: str = "utf-8") -> CsvData:
    (folder / f"{symbol}.csv").write_bytes(dedent(text).encode(encoding))
    return CsvData(folder, CALENDAR)


def read(source: CsvData, symbol: str = "MTUM") -> DailyBars:
    return source.daily(symbol, FIRST, LAST, LATER)


def test_yahoos_own_file_is_read_by_its_close_not_its_adjusted_close(tmp_path: Path) -> None:
    """Column Close, 203.0, and no finding: Adj Close stands beside it."""
    bars = read(write(tmp_path, YAHOO))

    np.testing.assert_array_equal(EXPECTED, bars.frame.to_numpy())
    assert ([FIRST, date(2024, 11, 5), LAST], ()) == ([day.date() for day in bars.frame.index], bars.findings)


@pytest.mark.parametrize(
    "text",
    [
        STOOQ,
        STOOQ.upper(),
        STOOQ.lower(),
        STOOQ_BULK,
        IB,
        YAHOO.replace(",", ";"),
        YAHOO.replace(",", "\t"),
        YAHOO.replace(",", ", "),
        YAHOO.replace("\n", "\r\n"),
        YAHOO.replace("2024-11-0", "2024110"),
        YAHOO.replace("2024-11-0", "11/0").replace("/04,", "/04/2024,").replace("/05,", "/05/2024,").replace(
            "/06,", "/6/2024,"
        ),
        YAHOO.replace("2024-11-05,", "2024-11-05 00:00:00-05:00,"),
        YAHOO.replace("2024-11-05,", "2024-11-05T00:00:00+00:00,"),
        YAHOO.replace("2024-11-05,", "2024-11-05 21:00:00+00:00,"),
        YAHOO.replace("2024-11-05,", "2024-11-06 00:59:59+00:00,"),
        YAHOO.replace("2024-11-05,", "2024-11-05 16:00:00,"),
        YAHOO.replace("Close,Adj Close", "Close*,Adj Close**"),
        YAHOO + "\n\n",
    ],
    ids=[
        "stooq", "upper case", "lower case", "stooq bulk", "ib_insync", "semicolons", "tabs", "blanks", "CRLF",
        "dates without dashes", "US dates", "midnight in New York", "midnight in UTC", "close in UTC",
        "evening in New York", "local time", "yahoo's page", "blank lines after",
    ],
)  # fmt: skip
def test_each_vendors_form_gives_the_same_bars(tmp_path: Path, text: str) -> None:
    """Headers in any case, three date forms and stamps, delimiters, line ends: one table."""
    bars = read(write(tmp_path, text))

    np.testing.assert_array_equal(EXPECTED, bars.frame.to_numpy())
    assert [FIRST, date(2024, 11, 5), LAST] == [day.date() for day in bars.frame.index]


def test_a_byte_order_mark_is_no_part_of_the_header(tmp_path: Path) -> None:
    """As spreadsheet programs save CSV."""
    bars = read(write(tmp_path, YAHOO, encoding="utf-8-sig"))

    np.testing.assert_array_equal(EXPECTED, bars.frame.to_numpy())


def test_cboes_vix_has_us_dates_and_no_volume(tmp_path: Path) -> None:
    """Closes of November 2024 as Cboe publishes them; volume is NaN, nothing is found."""
    bars = read(write(tmp_path, CBOE, VIX), VIX)

    assert [21.98, 20.49, 16.27] == bars.frame["close"].to_list()
    assert bars.frame["volume"].isna().all()
    assert () == bars.findings


@pytest.mark.parametrize(("text", "is_told"), [(STOOQ, True), (STOOQ_BULK, True), (YAHOO, False), (IB, False)])
def test_a_file_without_adj_close_may_be_adjusted_and_says_so(tmp_path: Path, text: str, is_told: bool) -> None:
    """Without Adj Close beside Close nobody can see which of the two Close is; IB's trades are as printed."""
    findings = read(write(tmp_path, text)).findings

    assert [(FindingKind.POSSIBLY_ADJUSTED, False)] * is_told == [(found.kind, found.is_fatal) for found in findings]


def test_text_in_a_number_is_kept_as_missing_and_named_with_its_line(tmp_path: Path) -> None:
    """Yahoo writes null, a person n/a; an empty field counts too."""
    text = YAHOO.replace("206.0", "null").replace("209.5", "")

    bars = read(write(tmp_path, text))

    assert [
        (date(2024, 11, 6), "MTUM 2024-11-06: low is empty (MTUM.csv line 4)"),
        (date(2024, 11, 5), "MTUM 2024-11-05: close is 'null', not a number (MTUM.csv line 3)"),
    ] == [(found.session, found.words) for found in bars.findings]
    assert [1, 1] == [int(bars.frame[column].isna().sum()) for column in ("low", "close")]


def test_a_row_whose_date_cannot_be_read_is_left_out_and_named(tmp_path: Path) -> None:
    """A footer, or the thirteenth month."""
    source = write(tmp_path, YAHOO.replace("2024-11-05", "2024-13-05"))

    assert ["MTUM: MTUM.csv line 3 has the date '2024-13-05', which cannot be read; row left out"] == [
        found.words for found in read(source).findings
    ]
    assert 2 == len(read(source).frame)


@pytest.mark.parametrize("slip", ["3024-11-05", "1011-11-05", "11/05/3024", "3024-11-05 16:00:00"])
def test_a_year_that_no_index_of_bars_can_hold_is_a_date_that_cannot_be_read(tmp_path: Path, slip: str) -> None:
    bars = read(write(tmp_path, YAHOO.replace("2024-11-05", slip)))

    assert [f"MTUM: MTUM.csv line 3 has the date '{slip}', which cannot be read; row left out"] == [
        finding.words for finding in bars.findings
    ]


@pytest.mark.parametrize("slip", ["02/30/2024", "13/32/2024", "31/31/2024", "11/0/2024"])
def test_a_slip_in_a_us_date_is_a_date_that_cannot_be_read(tmp_path: Path, slip: str) -> None:
    """No day, whichever number comes first: one row's fault, and not the file's form."""
    source = write(tmp_path, CBOE.replace("11/05/2024", slip), VIX)

    assert [f"VIX: VIX.csv line 3 has the date '{slip}', which cannot be read; row left out"] == [
        found.words for found in read(source, VIX).findings
    ]


def test_findings_outside_the_range_asked_for_are_not_told(tmp_path: Path) -> None:
    """A fault of 2024-11-06 says nothing about the day before."""
    source = write(tmp_path, YAHOO.replace("209.5", "n/a"))

    assert () == source.daily("MTUM", FIRST, date(2024, 11, 5), LATER).findings


UNREADABLE = [
    ("missing columns", b"Date,Open,Close\n2024-11-05,1,1\n", "has no column high, low, volume", "Date,Open,Close"),
    ("no volume", b"Date,Open,High,Low,Close\n2024-11-05,1,1,1,1\n", "has no column volume", "expected columns date"),
    ("no header", b"2024-11-05,1,1,1,1,1,1\n", "has no column date", "expected columns date"),
    ("twice", b"Date,Open,High,Low,Close,Close,Volume\n2024-11-05,1,1,1,1,2,1\n", "two columns close", "one of each"),
    ("two forms", b"Date,<DATE>,Open,High,Low,Close,Volume\n", "two columns date", "one of each"),
    ("empty", b"", "is empty", "expected a header"),
    ("blank", b"\n \n", "is empty", "expected a header"),
    ("a blank line first", b"\n\nDate,Open,High,Low,Close,Volume\n2024-11-05,1,1,1,1,1\n",
     "begins with a line that names no column", "expected its header in the first line"),
    ("header only", b"Date,Open,High,Low,Close,Volume\n", "has no row with a date (0 rows)", "one row a session"),
    ("day first", b"Date,Open,High,Low,Close,Volume\n05/11/2024,1,1,1,1,1\n14/10/2024,1,1,1,1,1\n",
     "has dates such as '14/10/2024', day first", "expected month first, or YYYY-MM-DD"),
    ("no dates", b"Date,Open,High,Low,Close,Volume\nx,1,1,1,1,1\n", "has no row with a date (1 row)", "one row"),
    ("decimal commas", b"Date;Open;High;Low;Close;Volume\n2024-11-05;1,0;1,0;1,0;1,0;5\n",
     "has no number in column open (its first: '1,0')", "numbers with a decimal point"),
    ("surplus values", b"Date,Open,High,Low,Close,Volume\n2024-11-05,1,1,1,1,1\n2024-11-06,1,1,1,1,1,9\n",
     "is no table", "as many values"),
    ("surplus everywhere", b"Date,Open,High,Low,Close,Volume\n2024-11-05,1,1,1,1,1,9\n", "is no table", "as many"),
    ("not UTF-8", "Date,Öffnung\n".encode("latin-1"), "is not UTF-8 text (byte 5)", "a CSV file in UTF-8"),
    ("a spreadsheet", b"PK\x03\x04\xff\xfe", "is not UTF-8 text", "a CSV file in UTF-8"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "found", "expected"), [c[1:] for c in UNREADABLE], ids=[c[0] for c in UNREADABLE])
def test_what_is_no_table_of_bars_is_refused_in_words(
    tmp_path: Path, content: bytes, found: str, expected: str
) -> None:
    """The file, what was found, what was expected, and what to do."""
    (tmp_path / "MTUM.csv").write_bytes(content)

    with pytest.raises(MarketDataError) as refused:
        read(CsvData(tmp_path, CALENDAR))

    assert found in refused.value.message
    assert expected in refused.value.message
    assert str(tmp_path / "MTUM.csv") in refused.value.message
    assert refused.value.hint.startswith("Download the file again")


def test_an_absent_file_is_named_with_the_setting(tmp_path: Path) -> None:
    """A symbol without a file."""
    with pytest.raises(MarketDataError, match=r"no file .*MTUM\.csv") as refused:
        read(CsvData(tmp_path, CALENDAR))

    assert "data.csv_dir" in refused.value.hint


def test_a_folder_instead_of_a_file_is_named(tmp_path: Path) -> None:
    """MTUM.csv is a folder."""
    (tmp_path / "MTUM.csv").mkdir()

    with pytest.raises(MarketDataError, match="is a folder, expected a file"):
        read(CsvData(tmp_path, CALENDAR))


def test_a_file_instead_of_the_folder_is_named(tmp_path: Path) -> None:
    """data.csv_dir names a file."""
    (tmp_path / "data").write_text("")

    with pytest.raises(MarketDataError, match=r"cannot be read .Not a directory"):
        read(CsvData(tmp_path / "data", CALENDAR))


def test_a_file_without_permission_is_named(tmp_path: Path) -> None:
    """Mode 000."""
    source = write(tmp_path, YAHOO)
    (tmp_path / "MTUM.csv").chmod(0)
    if os.access(tmp_path / "MTUM.csv", os.R_OK):
        pytest.skip("this user reads every file; .ci/run tries it without that power")

    with pytest.raises(MarketDataError, match=r"cannot be read .Permission denied"):
        read(source)


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    """Another size or modification time, another file."""
    source = write(tmp_path, YAHOO)
    read(source)
    write(tmp_path, YAHOO.replace("206.0", "206.125"))

    assert 206.125 == read(source).frame["close"].iloc[1]


@pytest.mark.parametrize(
    ("written", "asked", "known"),
    [
        ("10:00", "15:40", "10:00"),
        ("15:40", "15:40", "15:40"),
        ("15:45", "15:40", "15:40"),
        ("16:00", "16:20", "16:20"),
        ("16:20", "16:00", "16:00"),
    ],
    ids=["before", "just now", "later", "at the close", "after it"],
)
@pytest.mark.parametrize(("symbol", "text"), [("MTUM", YAHOO), (VIX, CBOE)])
def test_a_row_of_today_is_no_younger_than_its_file(
    tmp_path: Path, symbol: str, text: str, written: str, asked: str, known: str
) -> None:
    """What is finished does not age."""
    source = write(tmp_path, text, symbol)
    stamp = CALENDAR.at(LAST, written).timestamp()
    os.utime(tmp_path / f"{symbol}.csv", (stamp, stamp))

    assert CALENDAR.at(LAST, known) == source.daily(symbol, FIRST, LAST, CALENDAR.at(LAST, asked)).as_of


@pytest.mark.parametrize(("day", "wall"), [(6, "16:00"), (6, "16:20"), (7, "09:00"), (7, "15:40"), (30, "12:00")])
@pytest.mark.parametrize(("symbol", "text"), [("MTUM", YAHOO), (VIX, CBOE)])
def test_a_file_written_before_the_close_never_comes_to_know_it(
    tmp_path: Path, symbol: str, text: str, day: int, wall: str
) -> None:
    """Downloaded at 15:35 and left there: that evening and every later day its last row is the price of 15:35."""
    source = write(tmp_path, text, symbol)
    written = CALENDAR.at(LAST, "15:35")
    os.utime(tmp_path / f"{symbol}.csv", (written.timestamp(),) * 2)

    bars = source.daily(symbol, FIRST, LAST, CALENDAR.at(date(2024, 11, day), wall))

    assert (written, BarStatus.PARTIAL, LAST) == (bars.as_of, bars.last_status, bars.last)
    assert [
        f"{symbol} 2024-11-06: {symbol}.csv was written at 2024-11-06 20:35 UTC, before the session's close, "
        "and has no close of it; download it again"
    ] == [found.words for found in bars.findings]


def test_a_file_that_begins_with_its_newest_row_is_as_finished_as_that_row(tmp_path: Path) -> None:
    """At 15:40 today's row is the price of 15:40, wherever it stands."""
    header, *rows = YAHOO.splitlines(keepends=True)
    source = write(tmp_path, header + "".join(reversed(rows)))

    assert BarStatus.PARTIAL is source.daily("MTUM", FIRST, LAST, CALENDAR.at(LAST, "15:40")).last_status


def test_of_a_file_written_before_the_close_earlier_sessions_are_final(tmp_path: Path) -> None:
    source = write(tmp_path, YAHOO)
    os.utime(tmp_path / "MTUM.csv", (CALENDAR.at(LAST, "15:35").timestamp(),) * 2)

    bars = source.daily("MTUM", FIRST, date(2024, 11, 5), LATER)

    assert (LATER, BarStatus.FINAL, ()) == (bars.as_of, bars.last_status, bars.findings)


def test_a_file_that_ends_with_an_earlier_session_has_nothing_that_ages(tmp_path: Path) -> None:
    """On the seventh, from a file of the sixth."""
    source = write(tmp_path, YAHOO)
    stamp = CALENDAR.at(LAST, "16:30").timestamp()
    os.utime(tmp_path / "MTUM.csv", (stamp, stamp))
    asked = CALENDAR.at(date(2024, 11, 7), "15:40")

    assert asked == source.daily("MTUM", FIRST, date(2024, 11, 7), asked).as_of


DAYS = CALENDAR.window(LAST, 400)
ROWS = [f"{day},203.5,204.25,202.1,203.0,199.9,512300\n" for day in DAYS]
HEADER = "Date,Open,High,Low,Close,Adj Close,Volume\n"
BAD_ROWS = [
    ("clean", ROWS, set(), set()),
    ("shuffled", ROWS[::-1], set(), {FindingKind.DISORDER}),
    ("identical duplicate", [*ROWS, ROWS[-1]], set(), {FindingKind.IDENTICAL_DUPLICATE}),
    ("conflicting duplicate", [*ROWS, ROWS[-1].replace("203.0", "203.1")], {FindingKind.CONFLICTING_DUPLICATE}, set()),
    ("missing session", ROWS[:200] + ROWS[201:], {FindingKind.SESSION_MISSING}, set()),
    ("text in a number", [*ROWS[:-1], ROWS[-1].replace("203.0", "n/a")], {FindingKind.VALUE_MISSING},
     {FindingKind.VALUE_MISSING}),
    ("high below low", [*ROWS[:-1], ROWS[-1].replace("204.25", "201.0")], {FindingKind.IMPOSSIBLE_RANGE},
     set()),
    ("zero prices", [*ROWS[:-1], f"{LAST},0,0,0,0,0,0\n"], {FindingKind.NOT_POSITIVE}, set()),
    ("weekend row", [*ROWS[:-1], ROWS[-1].replace(str(LAST), "2024-11-03"), ROWS[-1]], set(),
     {FindingKind.NO_SESSION, FindingKind.DISORDER}),
    ("old last bar", ROWS[:-5], {FindingKind.BAR_MISSING}, set()),
    ("too few bars", ROWS[-299:], {FindingKind.SHORT_HISTORY}, set()),
    ("zoned dates", [row.replace(",", " 00:00:00-05:00,", 1) for row in ROWS], set(), set()),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "fatal", "told"), [case[1:] for case in BAD_ROWS], ids=[case[0] for case in BAD_ROWS])
@pytest.mark.parametrize(("start", "end"), [("", "\n"), ("\ufeff", "\r\n")], ids=["plain", "BOM and CRLF"])
def test_bad_rows_stop_a_decision_or_are_told(
    tmp_path: Path,
    rows: list[str],
    fatal: set[FindingKind],
    told: set[FindingKind],
    start: str,
    end: str,
) -> None:
    """The table of bad input, from the file to the findings; nothing raises, everything is named."""
    source = write(tmp_path, start + (HEADER + "".join(rows)).replace("\n", end))

    found = check(source.daily("MTUM", DAYS[0], LAST, LATER), DAYS).findings

    assert (fatal, told) == (
        {finding.kind for finding in found if finding.is_fatal},
        {finding.kind for finding in found if not finding.is_fatal},
    )


def test_the_real_files_are_read_whole(real_data: Path) -> None:
    """Every row of both files as pandas itself reads it, with nothing found in their form."""
    source = CsvData(real_data, CALENDAR)
    for symbol, close in (("MTUM", "Close"), (VIX, "CLOSE")):
        bars = source.daily(symbol, date(2012, 1, 3), date(2022, 12, 30), LATER)
        raw = pd.read_csv(real_data / f"{symbol}.csv")

        assert (len(raw), ()) == (len(bars.frame), bars.findings)
        np.testing.assert_array_equal(raw[close], bars.frame["close"])


def test_adjusted_closes_stand_beside_the_bars_where_the_file_has_them(tmp_path: Path) -> None:
    """Yahoo's Adj Close is kept for the total return; Stooq's file has none."""
    yahoo, stooq = read(write(tmp_path, YAHOO)), read(write(tmp_path, STOOQ, symbol="OTHER"), "OTHER")

    assert [199.9, 202.8, 209.2] == list(yahoo.adjusted if yahoo.adjusted is not None else [])
    assert stooq.adjusted is None
