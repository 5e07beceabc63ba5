"""Records of the book as CSV or JSON, columns named as in the database's views."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mtum_eod.ports import Records

DATED_BY = {"trades": "exit_session", "fills": "session", "signals": "session", "equity": "session"}
"""The column that says which year a record belongs to."""


def text(records: Records, what: str, form: str, year: int | None = None) -> str:
    """All records, or those of one year, in `form` csv or json."""
    place = records.columns.index(DATED_BY[what])
    rows = [row for row in records.rows if year is None or row[place].startswith(f"{year}-")]
    if form == "json":
        return json.dumps([dict(zip(records.columns, row, strict=True)) for row in rows], indent=2) + "\n"
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(records.columns)
    writer.writerows(rows)
    return out.getvalue()
