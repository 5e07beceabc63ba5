"""The stable views of the book in memory, worked out in Python: a second way to the numbers that SQL gives."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from mtum_eod.core.trading import Fill, Order, Side
from mtum_eod.ports import Records

if TYPE_CHECKING:
    from simulation.fake_store import Intent, Signal

DOCUMENT = (
    *("mode", "source", "synthetic", "dry_run", "as_of", "close", "ma_50", "rsi", "atr"),
    *("volume", "volume_ma_20", "volume_basis", "vix", "trend_bullish", "vix_stable", "rsi_bullish", "volume_confirm"),
    *("entry_confluence", "exit_reasons", "exit_confluence", "action", "shares", "blocked_by", "reason"),
)
POSITION = ("shares", "entry_price", "entry_session", "entry_atr", "target")

View = tuple[str, list[tuple[Any, ...]]]
"""Names of the columns, and the rows."""


class FakeViews:
    """The views over the tables of `FakeStore`."""

    def view(self, name: str) -> Records:
        columns, rows = getattr(self, f"_view_{name}")()
        return Records(columns=tuple(columns.split()), rows=tuple(rows))

    def _view_sessions(self) -> View:
        rows = [(_day(row.session), str(row.status), row.why, int(row.is_settled)) for row in self._ledger]
        return "session status why settled", rows

    def _view_equity(self) -> View:
        numbers = ("cash", "position_value", "value", "realised", "unrealised")
        rows = [(_day(mark.session), *(getattr(mark, name) for name in numbers)) for mark in self._marks]
        return "session cash position_value value realised unrealised", rows

    def _view_runs(self) -> View:
        columns = "id step session started_at ended_at outcome exit_code error retries"
        return columns, [
            (
                r.id,
                str(r.step),
                _day(r.session),
                _instant(r.started_at),
                _instant(r.ended_at),
                r.outcome,
                r.exit_code,
                r.error,
                run.retries,
            )
            for run in self._runs
            for r in [run.record]
        ]

    def _view_fills(self) -> View:
        columns = "execution_id executed_at session action symbol quantity price value commission estimated reason"
        rows = []
        for fill in self.fills():
            intent = self._intent(fill.reference)
            signal = self._signal_of(intent)
            reason = signal.recorded.document.get("reason") if signal else None
            kind = str(intent.order.intent.kind) if intent else None
            rows.append(
                (
                    fill.execution_id,
                    _instant(fill.executed_at),
                    _day(fill.session),
                    str(fill.side),
                    self._book.symbol if self._book else None,
                    fill.shares,
                    fill.price_usd,
                    fill.shares * fill.price_usd,
                    fill.commission_usd,
                    int(fill.is_estimated),
                    kind if reason is None else reason,
                    intent.signal_id if intent else None,
                )
            )
        return f"{columns} signal_id", rows

    def _view_signals(self) -> View:
        """The newest of each session; every key of the document is a column."""
        newest = {session: self._signals.rows[session, number] for session, number in self._signals.keys}
        intents = {intent.signal_id: intent.order for intent in self._orders}
        rows = []
        for session, signal in newest.items():
            document, order = signal.recorded.document, intents.get(signal.id)
            position = document.get("position") or {}
            rows.append(
                (signal.id, _day(session), *(_plain(document.get(name)) for name in DOCUMENT))
                + (_order_values(order) if order else (None,) * 5)
                + (*(position.get(name) for name in POSITION), _plain(document.get("warnings")), signal.drift)
            )
        nested = [f"order_{name}" for name in ("key", "side", "type", "shares", "status")]
        nested += [f"position_{name}" for name in POSITION]
        return " ".join(("id", "session", *DOCUMENT, *nested, "warnings", "drift_action")), rows

    def _view_position(self) -> View:
        trips = [trip for trip in _round_trips(self.fills()) if _held(trip) > 0]
        rows = []
        for trip in trips:
            atr, multiplier = self._entry(trip)
            price = _average(trip, Side.BUY)
            target = price + multiplier * atr if None not in (price, atr, multiplier) else None
            rows.append((_held(trip), price, _day(_entry_session(trip)), atr, target))
        return "shares entry_price entry_session entry_atr target", rows

    def _view_trades(self) -> View:
        columns = "entry_session entry_price shares entry_atr exit_session exit_price exit_reason exit_reasons"
        closed = [trip for trip in _round_trips(self.fills()) if _held(trip) == 0]
        rows = [self._trade(trip) for trip in closed]
        return f"{columns} gross_pnl costs net_pnl days sessions estimated", sorted(rows, key=lambda row: row[0] or "")

    def _trade(self, trip: list[Fill]) -> tuple[Any, ...]:
        entry, exit_ = _entry_session(trip), max(fill.session for fill in trip if fill.side is Side.SELL)
        sells = (signal for signal in self._signals.marked() if entry and entry < signal.recorded.session <= exit_)
        first = next(sells, None)
        reasons = first.recorded.document.get("exit_reasons") if first else None
        if reasons is None:
            by_hand = self._intent(min(fill.reference for fill in trip if fill.side is Side.SELL))
            reasons = [str(by_hand.order.intent.kind)] if by_hand else None
        gross = -sum(_signed(fill) * fill.price_usd for fill in trip)
        costs = sum((fill.commission_usd for fill in trip if fill.commission_usd is not None), 0.0)
        return (
            _day(entry),
            _average(trip, Side.BUY),
            sum(fill.shares for fill in trip if fill.side is Side.BUY),
            self._entry(trip)[0],
            _day(exit_),
            _average(trip, Side.SELL),
            reasons[0] if reasons else None,
            _plain(reasons),
            gross,
            costs,
            gross - costs,
            (exit_ - entry).days if entry else None,
            len([day for day in self._ledger.keys if entry and entry < day <= exit_]),
            int(any(fill.is_estimated for fill in trip)),
        )

    def _entry(self, trip: list[Fill]) -> tuple[Any, Any]:
        """ATR at entry and its multiplier, of the decision whose order entered."""
        entry = _entry_session(trip)
        intent = self._orders.rows.get(entry) if entry else None
        signal = self._signal_of(intent) if intent and intent.order.intent.side is Side.BUY else None
        return self._basis(entry, signal.recorded if signal else None) if entry else (None, None)

    def _intent(self, reference: str) -> Intent | None:
        session = self._sessions.rows.get(reference)
        return self._orders.rows[session] if session else None

    def _signal_of(self, intent: Intent | None) -> Signal | None:
        if intent is None or intent.signal_id is None:
            return None
        return self._signals.rows[intent.order.intent.session, intent.signal_id]


def _signed(fill: Fill) -> int:
    return fill.shares if fill.side is Side.BUY else -fill.shares


def _held(trip: list[Fill]) -> int:
    return sum(_signed(fill) for fill in trip)


def _round_trips(fills: Sequence[Fill]) -> list[list[Fill]]:
    """Executions between two moments at which no share is held; the last one may be open."""
    trips: list[list[Fill]] = []
    for fill in fills:
        if not trips or _held(trips[-1]) == 0:
            trips.append([])
        trips[-1].append(fill)
    return trips


def _entry_session(trip: list[Fill]) -> date | None:
    return min((fill.session for fill in trip if fill.side is Side.BUY), default=None)


def _average(trip: list[Fill], side: Side) -> Any:
    shares = sum(fill.shares for fill in trip if fill.side is side)
    return sum(fill.price_usd * fill.shares for fill in trip if fill.side is side) / shares if shares else None


def _order_values(order: Order) -> tuple[Any, ...]:
    intent = order.intent
    return intent.reference, str(intent.side), str(intent.order_type), intent.shares, str(order.status)


def _day(session: date | None) -> str | None:
    return None if session is None else session.isoformat()


def _instant(at: datetime | None) -> str | None:
    return None if at is None else f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z".replace(".000000Z", "Z")


def _plain(value: Any) -> Any:
    """A part of a document as SQL has it: 0 and 1 for booleans, lists as text."""
    if isinstance(value, bool):
        return int(value)
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False) if isinstance(value, list) else value
