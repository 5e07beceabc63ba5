"""What is fed to each reader of outside input, and what must hold whatever it is fed.

That is: an answer that makes sense, or one of our own errors. Anything else that comes out is a finding.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from datetime import UTC, date, datetime
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from mtum_eod.adapters.bars import daily_bars
from mtum_eod.adapters.calendar import ExchangeCalendar
from mtum_eod.adapters.csv_files import _File
from mtum_eod.core import quality
from mtum_eod.core.market import COLUMNS, VIX, BarStatus, DailyBars, StoredBars
from mtum_eod.core.trading import Fill
from mtum_eod.errors import MarketDataError, MtumEodError, SettingsError
from mtum_eod.ports import BrokerOrder, Cash, Known
from mtum_eod.settings import describe, load, to_document

CALENDAR = ExchangeCalendar(date(2024, 11, 30))
WINDOW = CALENDAR.window(date(2024, 11, 6), 400)
LATER = datetime(2024, 11, 30, tzinfo=UTC)

FILE = Path(tempfile.gettempdir()) / "mtum-eod-fuzz.toml"


STORED = b"\nSTORED\n"


def csv(data: bytes) -> None:
    """A file of bars; one that begins with `VIX` and a line's end is read as the VIX's.

    What follows a line `STORED` is a second one, with the bars that had been stored when the first was read.
    """
    symbol, content = (VIX, data[4:]) if data.startswith(b"VIX\n") else ("MTUM", data)
    content, _, before = content.partition(STORED)
    try:
        read = _read(symbol, content)
        stored = _read(symbol, before) if before else None
    except MarketDataError:
        return
    believable(read)
    if stored is not None:
        comparable(read, stored)


def _read(symbol: str, content: bytes) -> DailyBars:
    # past the folder, whose files are read once and remembered
    parsed = _File(symbol, Path("MTUM.csv"), CALENDAR).parse(content, (0, 0))
    return daily_bars(
        CALENDAR,
        symbol,
        parsed.days,
        parsed.values,
        WINDOW[0],
        WINDOW[-1],
        LATER,
        "csv",
        findings=parsed.findings,
        adjusted=parsed.adjusted,
    )


def believable(read: DailyBars) -> None:
    """Whatever was read, what passes the checks is what a decision can be computed on."""
    assert (np.dtype("float64"), (len(read.days), len(COLUMNS))) == (read.values.dtype, read.values.shape)
    assert read.days.dtype == np.dtype("datetime64[D]")
    own = CALENDAR.sessions(read.first, read.last) if len(read.days) else []
    for window in (WINDOW, own or WINDOW):  # a whole history, and one in which each session may have its row
        checked = quality.check(read, window, needed=0, is_index=read.symbol == VIX)
        days, close = checked.bars.days, checked.bars.close
        assert (days[1:] > days[:-1]).all()
        assert np.isfinite(close).all()
        assert (close > 0).all()
        assert all(finding.words for finding in checked.findings)


def comparable(read: DailyBars, before: DailyBars) -> None:
    """Bars beside those stored: a ratio that can be followed, or findings in words."""
    fetched, kept = (quality.check(bars, WINDOW, needed=0, is_index=bars.symbol == VIX).bars for bars in (read, before))
    statuses = np.full(len(kept.days), BarStatus.FINAL.value, dtype=object)
    statuses[-1:] = kept.last_status.value
    stored = StoredBars(days=kept.days, values=kept.values, statuses=statuses)
    ratio = quality.closes_ratio(fetched, stored)
    assert ratio is None or (isfinite(ratio) and ratio > 0)
    shares = quality.split_ratio(ratio) if ratio else None
    assert shares is None or (isfinite(shares) and shares > 0)
    assert all(finding.words for finding in quality.compare_with_store(fetched, stored))
    assert all(finding.words for finding in quality.check_volume_units(WINDOW[-1], fetched, stored))


def settings(data: bytes) -> None:
    """A settings file; where it begins with our variables' prefix, an environment of a variable a line."""
    environ, path = {}, None
    if data.startswith(b"MTUM_EOD_"):
        lines = data.decode(errors="replace").splitlines()
        environ = {name: value for name, found, value in (line.partition("=") for line in lines) if found}
    else:
        FILE.write_bytes(data)
        path = FILE
    try:
        loaded = load(path, environ)
    except SettingsError as error:
        assert error.message  # noqa: PT017 (no test function)
        return
    assert describe(loaded)
    assert to_document(loaded.settings)
    assert loaded.settings.parameters


def ib(data: bytes) -> None:
    """What the broker sends: see `fuzz.wire`."""
    from fuzz.wire import QUESTIONS, Script, settled, talk

    script = Script(data)
    ask = QUESTIONS.get(script.question)
    if ask is None:
        return
    try:
        with talk(script) as (broker, bars):
            answer = ask(broker, bars)
    except MtumEodError as error:
        assert error.message  # noqa: PT017
        return
    finally:
        settled()
    sensible(answer)


def sensible(answer: Any) -> None:
    """An answer that the jobs can count on."""
    match answer:
        case Known(value=list(rows)):
            for row in rows:
                sensible(row)
        case Known(value=Cash() as cash):
            assert isfinite(cash.spendable_usd)
            assert isfinite(cash.settled_usd)
        case Known(value=float(shares)):
            assert isfinite(shares)
        case BrokerOrder():
            assert answer.reference.startswith("mtum-eod/")
            assert answer.filled_shares >= 0
            assert isinstance(answer.filled_shares, int)
        case Fill():
            assert answer.shares > 0
            assert 0 < answer.price_usd < 1e9
            assert answer.commission_usd is None or abs(answer.commission_usd) < 1e9
            assert answer.executed_at.tzinfo is not None
        case DailyBars():
            believable(answer)


TARGETS: dict[str, Callable[[bytes], None]] = {"csv": csv, "settings": settings, "ib": ib}
