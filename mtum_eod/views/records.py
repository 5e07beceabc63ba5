"""Records of the book as CSV or JSON, columns named as in the database's views."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mtum_eod.jobs.backtest import Backtest
    from mtum_eod.ports import Records

DATED_BY = {"trades": "exit_session", "fills": "session", "signals": "session", "equity": "session"}
"""The column that says which year a record belongs to."""

TRADE_COLUMNS = (
    "entry_session",
    "entry_price",
    "shares",
    "entry_atr",
    "exit_session",
    "exit_price",
    "exit_reason",
    "exit_reasons",
    "gross_pnl",
    "costs",
    "net_pnl",
    "days",
    "sessions",
)
"""Of a backtest, as in its JSON."""


def text(records: Records, what: str, form: str, year: int | None = None) -> str:
    """All records, or those of one year, in `form` csv or json."""
    place = records.columns.index(DATED_BY[what])
    rows = [row for row in records.rows if year is None or row[place].startswith(f"{year}-")]
    if form == "json":
        return json.dumps([dict(zip(records.columns, row, strict=True)) for row in rows], indent=2) + "\n"
    return table(records.columns, rows)


def backtest_tables(one: Backtest) -> dict[str, str]:
    """A backtest as CSV tables by file name, columns named as in its JSON; what is not known is empty.

    In metrics.csv `value` is the strategy's, `benchmark` that of buying and holding, which has no trades.
    """
    document, result = one.document, one.result
    trades = [trade | {"exit_reasons": json.dumps(trade["exit_reasons"])} for trade in document["trades"]]
    equity = zip(result.sessions, result.equity, result.shares, strict=True)
    figures = ((name, value, document["benchmark"].get(name)) for name, value in document["metrics"].items())
    return {
        "trades.csv": table(TRADE_COLUMNS, ([trade[column] for column in TRADE_COLUMNS] for trade in trades)),
        "equity.csv": table(("session", "value", "shares"), equity),
        "metrics.csv": table(("name", "value", "benchmark"), figures),
    }


def table(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Columns and rows as CSV."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return out.getvalue()
