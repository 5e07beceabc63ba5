"""The newest bars of each symbol, kept in memory by a store that is asked for them ten times a session."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from sqlalchemy import Text, bindparam, select, text, type_coerce

from mtum_eod.adapters.store import schema
from mtum_eod.adapters.store.reading import BARS, BARS_REVISION, bars_of
from mtum_eod.adapters.store.statements import Statement
from mtum_eod.core.market import COLUMNS, StoredBars

_bar = schema.bar.c

VERSION = Statement(text("PRAGMA data_version"))  # another number to this connection once another one has committed
ADDED = Statement(
    select(_bar.symbol, type_coerce(_bar.session, Text), *(_bar[name] for name in (*COLUMNS, "status")))
    .where(_bar.revision > bindparam("after"), _bar.revision <= bindparam("revision"))
    .order_by(_bar.revision)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """All newest bars of one symbol from a session on."""

    first: date
    bars: StoredBars

    def between(self, first: date, last: date) -> StoredBars:
        days = self.bars.days
        asked = slice(np.searchsorted(days, np.datetime64(first)), np.searchsorted(days, np.datetime64(last), "right"))
        return StoredBars(days=days[asked], values=self.bars.values[asked], statuses=self.bars.statuses[asked])


class KnownBars:
    """Answers as the book itself would, for one connection.

    A row of bars is never changed, and each has a higher revision than all before it. So what was read up to a
    revision stands while no other process has committed anything and the newest revision has not gone back; what
    has come since is read alone. Where writes of this connection were taken back, the revision has gone back by the
    next read, which comes before others are written under the same numbers: the store compares before it writes.
    """

    def __init__(self, rows: Callable[..., Sequence[tuple[Any, ...]]]) -> None:
        self._rows = rows
        self._known: dict[str, _Known] = {}
        self._state = (0, 0)

    def forget(self) -> None:
        """Read all anew from here on."""
        self._known = {}

    def newest(self, symbol: str, first: date, last: date) -> StoredBars:
        """As `BookReader.bars` says. The arrays are shared and cannot be written to."""
        ((version,),) = self._rows(VERSION)  # before the revision: what is committed between the two shows next time
        ((revision,),) = self._rows(BARS_REVISION)
        if version != self._state[0] or revision < self._state[1]:
            self.forget()
        elif self._known and revision > self._state[1]:
            self._add(self._rows(ADDED, after=self._state[1], revision=revision))
        self._state = (version, revision)
        known = self._known.get(symbol)
        if known is None or first < known.first:
            rows = self._rows(BARS, symbol=symbol, first=first, last=date.max, revision=revision)
            known = self._known[symbol] = _Known(first=first, bars=_fixed(bars_of(rows)))
        return known.between(first, last)

    def _add(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Put these bars, ascending by revision, in the place of earlier ones of their sessions."""
        added: dict[str, dict[str, tuple[Any, ...]]] = {}
        for symbol, *row in rows:
            added.setdefault(symbol, {})[row[0]] = tuple(row)
        for symbol, known in self._known.items():
            new = [row for day, row in sorted(added.get(symbol, {}).items()) if day >= known.first.isoformat()]
            if new:
                self._known[symbol] = _Known(first=known.first, bars=_fixed(_merged(known.bars, bars_of(new))))


def _merged(old: StoredBars, new: StoredBars) -> StoredBars:
    """Both, ascending; of a session that both have, the new bar."""
    kept = ~np.isin(old.days, new.days)
    days = np.concatenate([old.days[kept], new.days])
    order = np.argsort(days)
    return StoredBars(
        days=days[order],
        values=np.concatenate([old.values[kept], new.values])[order],
        statuses=np.concatenate([old.statuses[kept], new.statuses])[order],
    )


def _fixed(bars: StoredBars) -> StoredBars:
    for array in (bars.days, bars.values, bars.statuses):
        array.flags.writeable = False
    return bars
