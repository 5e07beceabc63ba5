"""What a picture of one session shows: the sessions before it, on final bars."""

from __future__ import annotations

from datetime import date, datetime

from mtum_eod.core.backtest import Tape
from mtum_eod.core.market import VIX
from mtum_eod.core.parameters import StrategyParameters
from mtum_eod.core.review import cut
from mtum_eod.jobs.backtest import history_of
from mtum_eod.jobs.market import Sources, fetch

SHOWN = 126
"""Half a year of sessions."""


def sessions_before(sources: Sources, session: date, as_of: datetime, p: StrategyParameters) -> Tape:
    """The last half year of sessions up to `session` as the rules see it, fewer where the source begins later.

    Raises MarketDataError where neither the source nor the store has a bar.
    """
    window = sources.calendar.window(session, SHOWN + p.history_bars)
    prices = fetch(sources.prices, sources.symbol, window, as_of, sources.store)
    vix = fetch(sources.vix, VIX, window, as_of, sources.store)
    known = [day for day in window if day >= prices.first]
    tape = history_of(prices, vix, known).tape(p, max(0, len(known) - SHOWN), lambda *_: None)
    return cut(tape, known[-SHOWN:])
