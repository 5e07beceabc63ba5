"""Closed lots for the tax return, as CSV or JSON: the columns of Form 8949 and what they were worked out from."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from datetime import date
from typing import Any

from mtum_eod.core.tax import WASH_SALE_WINDOW, ClosedLot, TaxLots
from mtum_eod.core.trading import Book, Mode, Split

BANNER = "this book only, other accounts unseen"


def notes(lots: TaxLots, rows: Sequence[ClosedLot], book: Book, today: date, splits: Sequence[Split] = ()) -> list[str]:
    """What the owner must know beside the rows: the banner, what may still change, what a split leaves open."""
    told = [BANNER]
    if book.mode is not Mode.LIVE:
        told.append(f"mode {book.mode}: no real money was traded, so nothing here is to be declared")
    if lots.deferred:
        told.append(f"{lots.deferred:,.2f} USD of disallowed losses wait in the basis of shares still held")
    fresh = [row.sold for row in rows if row.net_pnl < 0 and today <= row.sold + WASH_SALE_WINDOW]
    if fresh:
        until = max(fresh) + WASH_SALE_WINDOW
        told.append(f"buying again up to {until} can still make a wash sale of the losses of the last 30 days")
    for split in splits:
        if any(row.net_pnl < 0 and row.sold < split.session for row in lots.closed):
            told.append(
                f"split of {split.ratio:g} for 1 on {split.session}: sales before it are in old shares, what was held "
                "through it in new ones; compare wash sales across it with Form 1099-B"
            )
    if any(row.is_estimated for row in rows):
        told.append("rows with estimated = 1 hold a price or commission that the broker has not reported yet")
    return told


def as_json(rows: Sequence[ClosedLot], told: Sequence[str], year: int | None) -> str:
    """One document; amounts as they were worked out."""
    document = {"banner": told[0], "notes": told[1:], "year": year, "rows": [_row(row) for row in rows]}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def as_csv(rows: Sequence[ClosedLot]) -> str:
    """One line a closed lot; amounts in cents, and each line adds up in cents."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        cents = {name: _cents(value) if isinstance(value, float) else value for name, value in _row(row).items()}
        plain = cents["proceeds"] - cents["cost_basis"]
        gain = cents["gain_or_loss"] if row.code else plain  # a loss washed whole leaves nothing, not a cent
        shown = cents | {"gain_or_loss": gain, "adjustment": gain - plain, "estimated": int(row.is_estimated)}
        writer.writerow({name: f"{v / 100:.2f}" if name in AMOUNTS else v for name, v in shown.items()})
    return out.getvalue()


COLUMNS = (
    "description",
    "date_acquired",
    "date_sold",
    "proceeds",
    "cost_basis",
    "code",
    "adjustment",
    "gain_or_loss",
    "term",
    "symbol",
    "shares",
    "purchase_cost",
    "deferred_in",
    "net_pnl",
    "estimated",
)
AMOUNTS = ("proceeds", "cost_basis", "adjustment", "gain_or_loss", "purchase_cost", "deferred_in", "net_pnl")


def _row(lot: ClosedLot) -> dict[str, Any]:
    values = (
        lot.description,
        lot.acquired.isoformat(),
        lot.sold.isoformat(),
        lot.proceeds,
        lot.cost_basis,
        lot.code,
        lot.disallowed,
        lot.gain,
        str(lot.term),
        lot.symbol,
        lot.shares,
        lot.purchase_cost,
        lot.deferred_in,
        lot.net_pnl,
        lot.is_estimated,
    )
    return dict(zip(COLUMNS, values, strict=True))


def _cents(usd: float) -> int:
    return round(usd * 100)
