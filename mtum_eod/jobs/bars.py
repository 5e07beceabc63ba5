"""Market data by itself: imported into the store, checked for faults, shown."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np

from mtum_eod.core import quality
from mtum_eod.core.market import COLUMNS, VIX, DailyBars, Finding, FindingKind
from mtum_eod.core.snapshot import number
from mtum_eod.errors import MarketDataError, SettingsError
from mtum_eod.jobs.desk import Desk, TradingDesk
from mtum_eod.jobs.session import last_closed


@dataclass(frozen=True, slots=True, kw_only=True)
class SymbolReport:
    """What one symbol's bars look like."""

    symbol: str
    source: str
    is_synthetic: bool
    rows: int
    first: date
    last: date
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BarsReport:
    """What was looked at, and what was written."""

    symbols: tuple[SymbolReport, ...]
    written: int | None  # rows new or changed in the store; None where nothing was to be written

    @property
    def document(self) -> dict[str, Any]:
        """The same as one document."""
        return {
            "written": self.written,
            "symbols": [
                {
                    "symbol": report.symbol,
                    "source": report.source,
                    "synthetic": report.is_synthetic,
                    "rows": report.rows,
                    "first": report.first.isoformat(),
                    "last": report.last.isoformat(),
                    "findings": [
                        {
                            "kind": str(finding.kind),
                            "session": finding.session and finding.session.isoformat(),
                            "fatal": finding.is_fatal,
                            "words": finding.words,
                        }
                        for finding in report.findings
                    ],
                }
                for report in self.symbols
            ],
        }

    @property
    def exit_code(self) -> int:
        """3 where a fault would stop a decision."""
        return 3 if any(finding.is_fatal for report in self.symbols for finding in report.findings) else 0


def check_bars(desk: Desk, first: date | None, last: date | None) -> BarsReport:
    """Every oddity of the source's bars from `first` to `last`. Raises MarketDataError where there are none."""
    return BarsReport(symbols=tuple(report for report, _ in _look(desk, first, last)), written=None)


def import_bars(desk: TradingDesk, first: date | None, last: date | None) -> BarsReport:
    """Store the source's bars; what is stored already and unchanged is left alone, a final bar that changed is named.

    Bars of another scale than the stored ones are left alone too: the next step that trades follows a split, and
    must still see it.
    """
    looked = [_compared(desk, report, bars) for report, bars in _look(desk, first, last)]
    written = desk.store.add_bars([bars for report, bars in looked if not _has_ratio(report)])
    return BarsReport(symbols=tuple(report for report, _ in looked), written=written)


def show_bars(desk: Desk, session: date, count: int) -> list[dict[str, Any]]:
    """The `count` sessions up to `session`, one row each, with the VIX's close; what is unknown is null.

    source: that of the bars; synthetic: whether they, or the VIX, are made up.
    """
    window = desk.calendar.window(session, count)
    now = desk.wall_clock.now()
    prices = quality.check(desk.prices.daily(desk.book.symbol, window[0], session, now), window, needed=0).bars
    vix = quality.check(desk.vix.daily(VIX, window[0], session, now), window, needed=0, is_index=True).bars
    closes = vix.on(prices.days)[:, 3]
    origin = {"source": desk.prices.name, "synthetic": desk.book.is_synthetic}
    names = (*COLUMNS, "vix")
    return [
        {"session": str(day)} | {name: number(value) for name, value in zip(names, row, strict=True)} | origin
        for day, row in zip(prices.days, np.column_stack([prices.values, closes]).tolist(), strict=True)
    ]


def _look(desk: Desk, first: date | None, last: date | None) -> list[tuple[SymbolReport, DailyBars]]:
    now = desk.wall_clock.now()
    first, last = first or desk.calendar.first_session, last or last_closed(desk.calendar, now)
    if first > last:
        raise SettingsError(f"the range {first} to {last} is empty", hint="--from is the earlier date")
    return [_look_at(desk, symbol, first, last) for symbol in (desk.book.symbol, VIX)]


def _look_at(desk: Desk, symbol: str, first: date, last: date) -> tuple[SymbolReport, DailyBars]:
    source = desk.vix if symbol == VIX else desk.prices
    raw = source.daily(symbol, first, last, desk.wall_clock.now())
    if raw.is_empty:
        raise MarketDataError(
            f"{symbol}: {source.name} has no bar from {first} to {last}", hint="choose another range or source"
        )
    # Judged over what is there: that a file begins or ends elsewhere than asked for is no fault of its rows.
    there = desk.calendar.sessions(raw.first, raw.last)
    checked = quality.check(raw, there, needed=0, is_index=symbol == VIX)
    report = SymbolReport(
        symbol=symbol,
        source=source.name,
        is_synthetic=source.is_synthetic,
        rows=len(raw.days),
        first=there[0],
        last=there[-1],
        findings=checked.findings,
    )
    return report, checked.bars


def _compared(desk: Desk, report: SymbolReport, bars: DailyBars) -> tuple[SymbolReport, DailyBars]:
    stored = desk.store.bars(report.symbol, report.first, report.last)
    changed = [
        replace(found, words=f"{found.words}. Not imported: the next `mtum-eod run` sees to it")
        if found.kind is FindingKind.RATIO
        else found
        for found in quality.compare_with_store(bars, stored)
    ]
    return replace(report, findings=(*report.findings, *changed)), bars


def _has_ratio(report: SymbolReport) -> bool:
    return any(found.kind is FindingKind.RATIO for found in report.findings)
