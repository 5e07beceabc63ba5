"""Which data stops a decision, and how every fault is named."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mtum_eod.adapters.calendar import ExchangeCalendar
from mtum_eod.adapters.csv_files import CsvData
from mtum_eod.core.market import COLUMNS, VIX, BarStatus, DailyBars, FindingKind, StoredBars, arrays_of, days_of
from mtum_eod.core.quality import (
    check,
    check_volume_units,
    closes_ratio,
    compare_with_store,
    median_unit_ratio,
    split_ratio,
)

WEEKDAYS = [day.date() for day in pd.bdate_range("2023-06-02", "2024-12-12")]  # 400, holidays aside
DECIDED = WEEKDAYS[-1]
OLDER = date(2024, 11, 5)
NOT_SET = float(np.finfo(float).max)
"""1.797e308, which Interactive Brokers writes where it has no number."""


def bars(symbol: str = "MTUM", **changes: Any) -> DailyBars:
    """Clean bars of every weekday: close 100, low 99, high 101, a million shares."""
    values = np.tile([100.0, 101.0, 99.0, 100.0, 1e6], (len(WEEKDAYS), 1))
    known = {"as_of": datetime(2024, 12, 13, tzinfo=UTC), "last_status": BarStatus.FINAL, "source": "made by hand"}
    return DailyBars(symbol=symbol, **(known | {"days": days_of(WEEKDAYS), "values": values} | changes))


def of(frame: pd.DataFrame, symbol: str = "MTUM", **changes: Any) -> DailyBars:
    days, values = arrays_of(frame)
    return bars(symbol, days=days, values=values, **changes)


def put(raw: DailyBars, day: date, **cells: float) -> DailyBars:
    raw.values[WEEKDAYS.index(day), [COLUMNS.index(name) for name in cells]] = list(cells.values())
    return raw


def with_cells(day: date, **cells: float) -> DailyBars:
    return put(bars(), day, **cells)


def without(*days: date) -> DailyBars:
    return of(bars().frame.drop(pd.DatetimeIndex(days)))


def with_row(day: date, close: float) -> DailyBars:
    row = pd.DataFrame([[100.0, 101.0, 99.0, close, 1e6]], index=pd.DatetimeIndex([day]), columns=list(COLUMNS))
    return of(pd.concat([bars().frame, row]).sort_index(kind="stable"))


def test_clean_bars_come_back_as_they_are() -> None:
    """Four hundred sessions without a fault: nothing found, nothing changed."""
    raw = bars()

    checked = check(raw, WEEKDAYS)

    assert ((), True) == (checked.findings, checked.has_session)
    pd.testing.assert_frame_equal(raw.frame, checked.bars.frame)


FATAL: list[tuple[str, Callable[[], DailyBars], FindingKind, date, str]] = [
    ("decision bar absent", lambda: without(DECIDED), FindingKind.BAR_MISSING, DECIDED,
     "MTUM 2024-12-12: no bar; the newest is of 2024-12-11"),
    ("an old last bar", lambda: without(*WEEKDAYS[-30:]), FindingKind.BAR_MISSING, DECIDED,
     "MTUM 2024-12-12: no bar; the newest is of 2024-10-31"),
    ("decision close NaN", lambda: with_cells(DECIDED, close=np.nan), FindingKind.VALUE_MISSING, DECIDED,
     "MTUM 2024-12-12: close missing, the session counts as absent"),
    ("decision close infinite", lambda: with_cells(DECIDED, close=np.inf), FindingKind.VALUE_MISSING, DECIDED,
     "MTUM 2024-12-12: close missing, the session counts as absent"),
    ("decision close not set", lambda: with_cells(DECIDED, high=NOT_SET, close=NOT_SET), FindingKind.VALUE_MISSING,
     DECIDED, "MTUM 2024-12-12: high, close missing, the session counts as absent"),
    ("older NaN is a hole", lambda: with_cells(OLDER, high=np.nan, low=np.nan), FindingKind.VALUE_MISSING, OLDER,
     "MTUM 2024-11-05: high, low missing, the session counts as absent"),
    ("zero price", lambda: with_cells(OLDER, low=0.0, close=0.0), FindingKind.NOT_POSITIVE, OLDER,
     "MTUM 2024-11-05: high 101, low 0, close 0, prices above 0 expected"),
    ("negative price", lambda: with_cells(DECIDED, close=-100.0), FindingKind.NOT_POSITIVE, DECIDED,
     "MTUM 2024-12-12: high 101, low 99, close -100, prices above 0 expected"),
    ("high below low", lambda: with_cells(OLDER, high=98.0), FindingKind.IMPOSSIBLE_RANGE, OLDER,
     "MTUM 2024-11-05: high 98, low 99, close 100: low <= close <= high expected"),
    ("close above high", lambda: with_cells(OLDER, close=101.01), FindingKind.IMPOSSIBLE_RANGE, OLDER,
     "MTUM 2024-11-05: high 101, low 99, close 101.01: low <= close <= high expected"),
    ("close below low", lambda: with_cells(OLDER, close=98.99), FindingKind.IMPOSSIBLE_RANGE, OLDER,
     "MTUM 2024-11-05: high 101, low 99, close 98.99: low <= close <= high expected"),
    ("conflicting duplicate", lambda: with_row(OLDER, 100.5), FindingKind.CONFLICTING_DUPLICATE, OLDER,
     "MTUM 2024-11-05: twice, with close 100 and 100.5; one row a session expected"),
    ("a hole", lambda: without(OLDER), FindingKind.SESSION_MISSING, OLDER,
     "MTUM 2024-11-05: no bar inside the window"),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "kind", "session", "words"), [case[1:] for case in FATAL], ids=[c[0] for c in FATAL])
def test_a_fatal_fault_is_the_one_finding_and_its_row_is_not_believed(
    raw: Callable[[], DailyBars], kind: FindingKind, session: date, words: str
) -> None:
    """Each fault of the price symbol that stops an entry, with symbol, session and value in words."""
    checked = check(raw(), WEEKDAYS)

    assert [(kind, "MTUM", session, words, True)] == [
        (found.kind, found.symbol, found.session, found.words, found.is_fatal) for found in checked.findings
    ]
    assert checked.bars.close_of(session) is None
    assert (session != DECIDED) == checked.has_session


TOLD: list[tuple[str, Callable[[], DailyBars], FindingKind, str]] = [
    ("zero volume", lambda: with_cells(OLDER, volume=0.0), FindingKind.ZERO_VOLUME,
     "MTUM 2024-11-05: volume 0 at close 100"),
    ("volume missing", lambda: with_cells(OLDER, volume=np.nan), FindingKind.VALUE_MISSING,
     "MTUM 2024-11-05: volume missing"),
    ("volume infinite", lambda: with_cells(OLDER, volume=np.inf), FindingKind.VALUE_MISSING,
     "MTUM 2024-11-05: volume missing"),
    ("volume not set", lambda: with_cells(OLDER, volume=NOT_SET), FindingKind.VALUE_MISSING,
     "MTUM 2024-11-05: volume missing"),
    ("open infinite downwards", lambda: with_cells(OLDER, open=-np.inf), FindingKind.VALUE_MISSING,
     "MTUM 2024-11-05: open missing"),
    ("open missing", lambda: with_cells(OLDER, open=np.nan), FindingKind.VALUE_MISSING,
     "MTUM 2024-11-05: open missing"),
    ("open outside", lambda: with_cells(OLDER, open=101.5), FindingKind.OPEN_OUTSIDE_RANGE,
     "MTUM 2024-11-05: open 101.5 outside low 99 to high 101"),
    ("high far out", lambda: with_cells(OLDER, high=114.04), FindingKind.OUTLIER,
     "MTUM 2024-11-05: high 114.04 is 14.0% above the close 100.00"),
    ("low far out", lambda: with_cells(OLDER, low=88.0), FindingKind.OUTLIER,
     "MTUM 2024-11-05: low 88.00 is 12.0% below the close 100.00"),
    ("a weekend row", lambda: with_row(date(2024, 11, 9), 100.0), FindingKind.NO_SESSION,
     "MTUM 2024-11-09: a row on a day without a session, left out: 2024-11-09 (close 100)"),
    ("identical duplicate", lambda: with_row(OLDER, 100.0), FindingKind.IDENTICAL_DUPLICATE,
     "MTUM 2024-11-05: twice, identical (close 100)"),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "kind", "words"), [case[1:] for case in TOLD], ids=[c[0] for c in TOLD])
def test_other_faults_are_named_and_stop_nothing(raw: Callable[[], DailyBars], kind: FindingKind, words: str) -> None:
    """Each fault that is repaired or kept; the sessions stay the window's."""
    checked = check(raw(), WEEKDAYS)

    assert [(kind, words, False)] == [(found.kind, found.words, found.is_fatal) for found in checked.findings]
    assert WEEKDAYS == checked.bars.days.tolist()


def test_a_close_a_quarter_away_from_the_last_is_named_both_ways() -> None:
    """A close of 60 between closes of 100: down by 40 %, up by 67 %."""
    checked = check(with_cells(OLDER, open=60.0, high=61.0, low=59.0, close=60.0), WEEKDAYS)

    assert [
        "MTUM 2024-11-05: close 60.00 is -40.0% from 100.00 before",
        "MTUM 2024-11-06: close 100.00 is +66.7% from 60.00 before",
    ] == [found.words for found in checked.findings]


def test_prices_one_float_step_outside_their_range_are_no_fault() -> None:
    """Vendors pass prices through 32-bit floats: 101.000004 over a high of 101 is the same price."""
    checked = check(with_cells(OLDER, open=101.000004, close=101.000004), WEEKDAYS)

    assert () == checked.findings


def test_shuffled_rows_are_sorted() -> None:
    """The newest first, as some vendors write; one finding, not four hundred."""
    raw = bars()

    checked = check(of(raw.frame.iloc[::-1]), WEEKDAYS)

    assert ["MTUM: rows out of order, the first 2024-12-11 after 2024-12-12; sorted"] == [
        found.words for found in checked.findings
    ]
    assert WEEKDAYS == checked.bars.days.tolist()


def test_all_faults_are_reported_together() -> None:
    """Five faults at once are five findings of one look."""
    raw = put(put(with_cells(DECIDED, close=np.nan), date(2024, 11, 5), volume=0), date(2024, 11, 6), high=120)
    raw = of(raw.frame.drop(pd.Timestamp("2024-11-07")).iloc[::-1])

    kinds = [found.kind for found in check(raw, WEEKDAYS).findings]

    assert {
        FindingKind.DISORDER, FindingKind.VALUE_MISSING, FindingKind.ZERO_VOLUME, FindingKind.OUTLIER,
        FindingKind.SESSION_MISSING,
    } == set(kinds)  # fmt: skip
    assert 5 == len(kinds)


def test_fewer_than_300_bars_are_an_insufficient_history() -> None:
    """299 sessions: how many there are, how many are needed, how to get more; 300 are enough."""
    raw = bars()

    short, enough = (check(of(raw.frame.iloc[-count:]), WEEKDAYS) for count in (299, 300))

    assert [
        "MTUM 2024-12-12: insufficient history: 299 sessions up to 2024-12-12, 300 needed. "
        "Fetch more with `mtum-eod data import`"
    ] == [found.words for found in short.fatal]
    assert () == enough.findings


def test_an_empty_table_names_the_absent_bar_and_the_short_history() -> None:
    """A source without a row in the window."""
    raw = bars()

    checked = check(of(raw.frame.iloc[:0]), WEEKDAYS)

    assert [FindingKind.BAR_MISSING, FindingKind.SHORT_HISTORY] == [found.kind for found in checked.fatal]
    assert "no bar; there is none from 2023-06-02 on" in checked.fatal[0].words


def test_a_fault_on_many_sessions_is_named_ten_times_and_counted() -> None:
    """A source without volume: ten findings and a last one for the other 390."""
    raw = bars()
    raw.values[:, 4] = 0.0

    findings = check(raw, WEEKDAYS).findings

    assert 11 == len(findings)
    assert "MTUM 2024-12-12: and 390 more like it, the last: volume 0 at close 100" == findings[-1].words


def test_many_holes_are_named_ten_times_and_counted() -> None:
    """A file with a gap of two months."""
    checked = check(without(*WEEKDAYS[200:240]), WEEKDAYS)

    assert 11 == len(checked.fatal)
    assert "and 29 more sessions since" in checked.fatal[-1].words


def test_rows_outside_the_window_are_no_fault() -> None:
    """Rows before and after the sessions asked about: left out without a word."""
    checked = check(bars(), WEEKDAYS[50:-50], needed=250)

    assert () == checked.findings
    assert WEEKDAYS[50:-50] == checked.bars.days.tolist()


def test_findings_of_the_source_come_first() -> None:
    """What only the source can see is told beside what is found here."""
    told = check(without(OLDER), WEEKDAYS).findings

    checked = check(bars(findings=told), WEEKDAYS)

    assert told == checked.findings


def index_bars(**cells: float) -> DailyBars:
    raw = bars(VIX)
    raw.values[:, 4] = np.nan
    return put(raw, DECIDED, **cells)


@pytest.mark.parametrize(
    ("close", "kind"),
    [
        (np.nan, FindingKind.VALUE_MISSING),
        (NOT_SET, FindingKind.VALUE_MISSING),
        (np.inf, FindingKind.VALUE_MISSING),
        (0.0, FindingKind.NOT_POSITIVE),
        (-1.0, FindingKind.NOT_POSITIVE),
    ],
)
def test_a_vix_that_cannot_be_believed_is_fatal(close: float, kind: FindingKind) -> None:
    """The decision session's own value: NaN, no number, zero or negative."""
    checked = check(index_bars(close=close), WEEKDAYS, is_index=True)

    assert [(kind, DECIDED, True)] == [(found.kind, found.session, found.is_fatal) for found in checked.findings]
    assert not checked.has_session


def test_a_vix_without_the_decision_session_is_fatal() -> None:
    """Yesterday's VIX is not today's."""
    raw = index_bars()

    checked = check(of(raw.frame.iloc[:-1], VIX), WEEKDAYS, is_index=True)

    assert ["VIX 2024-12-12: no bar; the newest is of 2024-12-11"] == [found.words for found in checked.fatal]


def test_holes_ranges_volume_and_short_history_of_an_index_say_nothing() -> None:
    """Only one value of the VIX is used; the rest of its table may be thin."""
    raw = index_bars(high=9.0, open=500.0)

    checked = check(of(raw.frame.iloc[[0, 5, 7, -1]], VIX), WEEKDAYS, is_index=True)

    assert () == checked.findings


def test_an_older_vix_that_is_missing_is_told_and_stops_nothing() -> None:
    """NaN weeks ago."""
    raw = put(index_bars(), OLDER, close=np.nan)

    checked = check(raw, WEEKDAYS, is_index=True)

    assert [(OLDER, False)] == [(found.session, found.is_fatal) for found in checked.findings]


def test_the_real_files_own_faults_are_named_and_stop_nothing(real_data: Any) -> None:
    """MTUM 2013 to 2022: zero volume in 2013, the 60.10 high, and not hundreds of ordinary days."""
    calendar = ExchangeCalendar(date(2026, 11, 22))
    sessions = calendar.sessions(date(2013, 1, 2), date(2022, 12, 30))
    source = CsvData(real_data, calendar)

    raw = source.daily("MTUM", sessions[0], sessions[-1], datetime(2026, 11, 22, tzinfo=UTC))

    assert [
        "MTUM 2013-04-19: volume 0 at close 50.92",
        "MTUM 2013-04-22: volume 0 at close 50.92",
        "MTUM 2013-08-19: high 60.10 is 14.0% above the close 52.70",
        "MTUM 2020-03-16: high 109.92 is 10.9% above the close 99.15",
        "MTUM 2015-08-24: low 55.00 is 17.2% below the close 66.46",
        "MTUM 2016-01-15: low 60.74 is 10.6% below the close 67.95",
    ] == [found.words for found in check(raw, sessions).findings]


def test_the_real_vix_has_rows_on_holidays_named_once(real_data: Any) -> None:
    """Memorial Day to Thanksgiving 2022: five holidays in one finding, told and left out."""
    calendar = ExchangeCalendar(date(2026, 11, 22))
    sessions = calendar.window(date(2022, 12, 30), 400)
    source = CsvData(real_data, calendar)

    raw = source.daily(VIX, sessions[0], sessions[-1], datetime(2026, 11, 22, tzinfo=UTC))
    checked = check(raw, sessions, is_index=True)

    assert [
        "VIX 2022-05-30: rows on 5 days without a session, left out: 2022-05-30 (close 26.54), "
        "2022-06-20 (close 31.03), "
        "2022-07-04 (close 27.53), 2022-09-05 (close 25.99), 2022-11-24 (close 20.42)"
    ] == [found.words for found in checked.findings]
    assert (() , 400) == (checked.fatal, len(checked.bars.days))  # fmt: skip


def stored(kept: DailyBars, status: BarStatus = BarStatus.FINAL) -> StoredBars:
    statuses = np.full(len(kept.days), str(status), dtype=object)
    return StoredBars(days=kept.days, values=kept.values, statuses=statuses)


def test_a_source_that_repeats_itself_has_no_findings() -> None:
    """The same final bars as were stored, read again."""
    raw = bars()

    assert () == compare_with_store(raw, stored(raw))


def test_a_revised_final_bar_is_named_with_both_values() -> None:
    """A close corrected by its source a day later."""
    raw = with_cells(OLDER, close=100.4)

    found = compare_with_store(raw, stored(bars()))

    assert [(FindingKind.REVISED, OLDER, False)] == [(f.kind, f.session, f.is_fatal) for f in found]
    assert "MTUM 2024-11-05: revised at made by hand, close 100 and 100.4" == found[0].words


def test_many_revised_bars_are_named_ten_times_and_counted() -> None:
    """A source that counts volume anew: ten findings and one for the rest."""
    raw = bars()
    raw.values[:, 4] *= 1.01

    found = compare_with_store(raw, stored(bars()))

    assert 11 == len(found)
    assert "MTUM 2024-12-12: revised too at made by hand: 390 sessions more, this the last" == found[-1].words


def test_bars_that_were_not_final_may_change() -> None:
    """A partial bar stored yesterday, and today's own, are expected to differ."""
    raw = with_cells(OLDER, close=100.4)
    today = replace(with_cells(DECIDED, close=100.4), last_status=BarStatus.PARTIAL)

    assert () == compare_with_store(raw, stored(bars(), BarStatus.PARTIAL))
    assert () == compare_with_store(today, stored(bars()))


def test_one_ratio_over_all_closes_is_fatal_and_named() -> None:
    """Three for one: every fetched close is a third of the stored one."""
    raw = bars()
    thirds = of((raw.frame / [3, 3, 3, 3, 1]).round(2))

    (found,) = compare_with_store(thirds, stored(raw))

    assert (FindingKind.RATIO, True) == (found.kind, found.is_fatal)
    assert "are 0.3333 times the stored ones, as after a split of 3 new shares for one" in found.words


@pytest.mark.parametrize(
    ("closes", "shares"),
    [
        (1 / 2, 2.0),
        (1 / 3, 3.0),
        (2 / 3, 1.5),
        (4 / 5, 1.25),
        (10.0, 0.1),
        (50.0, 0.02),
        (0.49998, 2.0),
        (1.0, None),
        (0.996, None),
        (0.9, None),
        (1.03, None),
        (0.487, None),
    ],
)
def test_a_ratio_of_closes_is_a_split_only_where_small_whole_numbers_make_it(closes: float, shares: float | None):
    """Two, three, three for two, a tenth of one; prices rounded to cents; a dividend taken out of them is none."""
    assert shares == split_ratio(closes)


def test_a_split_stands_out_among_revised_and_partial_bars() -> None:
    """One close of twenty was revised the same night, and today's bar is partial: its close says nothing."""
    raw = bars()
    halves = raw.frame / [2, 2, 2, 2, 1]
    halves.iloc[3, 3] *= 1.05
    halves.iloc[-1, 3] *= 3
    partial = of(halves, last_status=BarStatus.PARTIAL)

    assert 0.5 == pytest.approx(closes_ratio(partial, stored(raw)))


@pytest.mark.parametrize("dividend", [0.0, 0.4, 1.2])
def test_prices_less_their_dividends_show_no_one_ratio(dividend: float) -> None:
    """Adjusted for two dividends on two days, the ratio has three steps; each is a revision, none a split."""
    raw = bars()
    adjusted = raw.frame.copy()
    adjusted.iloc[: len(adjusted) // 3, :4] -= dividend
    adjusted.iloc[: 2 * len(adjusted) // 3, :4] -= dividend

    assert closes_ratio(of(adjusted), stored(raw)) is None


def test_nothing_in_common_with_the_store_is_no_finding() -> None:
    """A book's first run."""
    raw = bars()

    assert () == compare_with_store(raw, stored(of(raw.frame.iloc[:0])))


@pytest.mark.parametrize(
    ("factor", "is_refused"), [(0.01, True), (0.19, True), (0.2, False), (0.9, False), (5.0, False), (100.0, True)]
)
def test_volumes_in_other_units_are_refused(factor: float, is_refused: bool) -> None:
    """Lots of 100 shares against shares; a volume 10 % short of the session's is ordinary."""
    read = of(bars().frame.iloc[-20:] * [1, 1, 1, 1, factor])

    assert is_refused == bool(check_volume_units(DECIDED, read, stored(bars())))
    assert factor == pytest.approx(median_unit_ratio(read, bars()))


def test_volumes_without_a_session_in_common_have_no_ratio() -> None:
    """Nothing to compare says nothing about units; nor does a volume of zero."""
    whole = put(bars(), DECIDED, volume=0.0).frame
    early, late = of(whole.iloc[:2]), of(whole.iloc[-2:])

    assert np.isnan(median_unit_ratio(early, late))
    assert () == check_volume_units(DECIDED, early, stored(late))
    assert 1 == median_unit_ratio(late, late)


# -- in words ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: with_row(OLDER, np.nan),
         "MTUM 2024-11-05: twice, with close 100 and missing; one row a session expected"),
        (lambda: with_row(date(2024, 11, 9), np.nan),
         "MTUM 2024-11-09: a row on a day without a session, left out: 2024-11-09 (close missing)"),
        (lambda: with_twin_without_a_close(), "MTUM 2024-11-05: twice, identical (close missing)"),
    ],
)  # fmt: skip
def test_what_is_missing_is_called_so(make: Callable[[], DailyBars], expected: str) -> None:
    """Published VIX files have rows without a value on holidays; nobody reads `nan`."""
    said = [finding.words for finding in check(make(), WEEKDAYS).findings]

    assert expected in said
    assert "nan" not in " ".join(said)


def with_twin_without_a_close() -> DailyBars:
    frame = with_cells(OLDER, close=np.nan).frame
    return of(pd.concat([frame, frame.loc[[pd.Timestamp(OLDER)]]]).sort_index(kind="stable"))


def test_a_revised_volume_that_was_unknown_is_called_missing() -> None:
    """Stored without a volume, fetched with one."""
    before = stored(with_cells(OLDER, volume=np.nan))

    assert ["MTUM 2024-11-05: revised at made by hand, volume missing and 1000000"] == [
        finding.words for finding in compare_with_store(bars(), before)
    ]


def test_bars_stored_on_the_new_scale_already_do_not_hide_a_split() -> None:
    """Decisions beside a split in doubt keep what they saw: the last two sessions are stored as the source has them."""
    raw = bars()
    old = raw.values.copy()
    old[:-2, :4] *= 2

    assert 0.5 == pytest.approx(closes_ratio(raw, stored(replace(raw, values=old))))


def test_revisions_on_the_new_scale_do_not_hide_a_split() -> None:
    """Of the last third of the sessions, stored on the new scale already, the source has changed every other since."""
    raw = bars()
    old = raw.values.copy()
    third = len(old) // 3
    old[:-third, :4] *= 2
    old[-third::2, 3] *= 1.01

    assert 0.5 == pytest.approx(closes_ratio(raw, stored(replace(raw, values=old))))


def test_bars_from_before_the_stored_ones_do_not_hide_a_split() -> None:
    """The settings ask for a longer window since: what it adds was read on the new scale."""
    raw = bars()
    old = raw.values.copy()
    old[len(old) // 2 :, :4] *= 2

    assert 0.5 == pytest.approx(closes_ratio(raw, stored(replace(raw, values=old))))


def test_a_few_equal_ratios_are_revisions() -> None:
    """Four closes of twenty are half of what is stored."""
    raw = bars()
    old = raw.values.copy()
    old[3:7, 3] *= 2

    assert closes_ratio(raw, stored(replace(raw, values=old))) is None
