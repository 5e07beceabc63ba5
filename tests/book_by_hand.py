"""A small book written by hand through the store: two closed round trips, an open one, and days without a trade.

capital 5,000 USD; every number below was worked out on paper.

2024-01-02  HOLD        VIX 26 is too high
2024-01-03  BUY  20     at 100.00, commission 2.00; ATR 2.5, so the target is 110.00
2024-01-04  HOLD
2024-01-05  SELL        profit taken, but halted: no order
2024-01-08  SELL 20     12 at 110.00 (1.32) and 8 at 111.00 (0.888): net 208 - 4.208 = 203.792
2024-01-09  BUY  21     at 108.00, commission 2.268; ATR 2.0
2024-01-10  SELL 21     at 105.00, commission 2.205: trend and vix; net -63 - 4.473 = -67.473
2024-01-11  skipped     no bar; 1,000 USD are deposited
2024-01-12  missed
2024-01-16  BUY  10     at 107.00, commission not reported yet; ATR 2.2, target 115.80
"""

from datetime import UTC, date, datetime, timedelta
from typing import Any

from mtum_eod.adapters.store import SqlStore
from mtum_eod.core.trading import (
    Book,
    CashFlow,
    CashKind,
    Fill,
    Mode,
    OrderIntent,
    OrderKind,
    OrderStatus,
    OrderType,
    SessionStatus,
    Side,
    Step,
    order_reference,
)
from mtum_eod.ports import EquityMark, Recording, SessionRow

BOOK = Book(mode=Mode.SIMULATED, account="SIM", symbol="MTUM", is_synthetic=False, capital_usd=5000.0)
SETTINGS = {"strategy": {"atr_multiplier": 4.0}}


def day(text: str) -> date:
    """A session of 2024, from `MM-DD`."""
    return date.fromisoformat(f"2024-{text}")


def at(text: str, time: str = "20:40:00") -> datetime:
    """An instant of 2024, UTC."""
    return datetime.fromisoformat(f"2024-{text}T{time}+00:00").astimezone(UTC)


def reference(text: str, side: Side) -> str:
    return order_reference(Mode.SIMULATED, "SIM", "MTUM", day(text), side)


def intent(text: str, side: Side, shares: int, **changes: Any) -> OrderIntent:
    values: dict[str, Any] = {
        "reference": reference(text, side),
        "session": day(text),
        "kind": OrderKind.DECISION,
        "side": side,
        "order_type": OrderType.MOC,
        "shares": shares,
        "order_id": 7,
        "decision_price_usd": 100.0,
    }
    return OrderIntent(**values | changes)


def signal(text: str, action: str = "HOLD", **changes: Any) -> dict[str, Any]:
    """A document with the keys of `run --json`."""
    return {
        "session": f"2024-{text}",
        "mode": "simulated",
        "source": "csv",
        "synthetic": False,
        "dry_run": False,
        "as_of": f"2024-{text}T20:40:00Z",
        "close": 100.0,
        "ma_50": 95.0,
        "rsi": 60.0,
        "atr": 2.5,
        "volume": 500000.0,
        "volume_ma_20": 400000.0,
        "volume_basis": "session",
        "vix": 15.5,
        "trend_bullish": True,
        "vix_stable": True,
        "rsi_bullish": True,
        "volume_confirm": None,
        "entry_confluence": False,
        "exit_reasons": [],
        "exit_confluence": False,
        "action": action,
        "shares": 0,
        "blocked_by": None,
        "reason": f"{action} on {text}",
        "order": None,
        "position": None,
        "warnings": [],
    } | changes


def recording(run_id: int, text: str, **changes: Any) -> Recording:
    values: dict[str, Any] = {
        "run_id": run_id,
        "book": BOOK,
        "row": SessionRow(session=day(text), status=SessionStatus.DECIDED),
        "bars": [],
        "signal": signal(text),
        "settings": SETTINGS,
        "inputs": {"seen": text},
        "intent": None,
        "recorded_at": at(text),
    }
    return Recording(**values | changes)


def fill(text: str, side: Side, shares: int, price: float, commission: float | None, number: int = 1) -> Fill:
    return Fill(
        execution_id=f"{text}.{number}",
        reference=reference(text, side),
        session=day(text),
        executed_at=at(text, f"21:00:0{number}"),
        side=side,
        shares=shares,
        price_usd=price,
        commission_usd=commission,
    )


def mark(text: str, cash: float, position_value: float, realised: float, unrealised: float) -> EquityMark:
    return EquityMark(
        session=day(text),
        cash=cash,
        position_value=position_value,
        value=cash + position_value,
        realised=realised,
        unrealised=unrealised,
        is_final=True,
    )


def write_book(store: SqlStore) -> None:
    """Write the whole story."""
    held = {"shares": 20, "entry_price": 100.0, "entry_session": "2024-01-03", "entry_atr": 2.5, "target": 110.0}
    _day(store, "01-02", signal("01-02", vix=26.0, vix_stable=False, reason="VIX 26.0 is not below 25"))
    _day(store, "01-03", signal("01-03", "BUY", shares=20), Side.BUY, [(20, 100.0, 2.0)])
    _day(store, "01-04", signal("01-04", position=held))
    exit_signal = {"exit_reasons": ["atr_profit"], "exit_confluence": True, "position": held}
    _day(store, "01-05", signal("01-05", "SELL", blocked_by="halted", reason="Halted: holiday", **exit_signal))
    pending = {"exit_reasons": ["exit_pending"], "exit_confluence": True, "shares": 20, "position": held}
    _day(store, "01-08", signal("01-08", "SELL", **pending), Side.SELL, [(12, 110.0, 1.32), (8, 111.0, 0.888)])
    _day(store, "01-09", signal("01-09", "BUY", shares=21, atr=2.0), Side.BUY, [(21, 108.0, 2.268)])
    both = {"exit_reasons": ["trend", "vix"], "exit_confluence": True, "shares": 21}
    _day(store, "01-10", signal("01-10", "SELL", **both), Side.SELL, [(21, 105.0, 2.205)])
    failed = store.start_run(Step.DECIDE, day("01-11"), at("01-11"))
    skipped = SessionRow(session=day("01-11"), status=SessionStatus.SKIPPED, why="MTUM: no bar for 2024-01-11")
    store.record(recording(failed, "01-11", row=skipped, signal=None))
    store.end_run(failed, at("01-11", "20:40:02"), "failed", 3, "MTUM: no bar for 2024-01-11", retries=2)
    store.add_rows([SessionRow(session=day("01-12"), status=SessionStatus.MISSED, why="no run")], at("01-16"))
    store.add_cash_flow(CashFlow(kind=CashKind.DEPOSIT, amount_usd=1000.0, session=day("01-11")), at("01-11"))
    _day(store, "01-16", signal("01-16", "BUY", shares=10, atr=2.2), Side.BUY, [(10, 107.0, None)])
    marks = [
        mark("01-02", 5000.0, 0.0, 0.0, 0.0),
        mark("01-03", 2998.0, 2000.0, 0.0, -2.0),
        mark("01-04", 2998.0, 2080.0, 0.0, 78.0),
        mark("01-05", 2998.0, 2210.0, 0.0, 208.0),
        mark("01-08", 5203.792, 0.0, 203.792, 0.0),
        mark("01-09", 2933.524, 2268.0, 203.792, -2.268),
        mark("01-10", 5136.319, 0.0, 136.319, 0.0),
        mark("01-11", 6136.319, 0.0, 136.319, 0.0),
        mark("01-16", 5066.319, 1070.0, 136.319, 0.0),
    ]
    drift = {day("01-03"): "BUY", day("01-09"): "HOLD"}
    store.settle(day("01-16"), at("01-16", "21:20:00"), marks, is_settled=True, drift_actions=drift)


def _day(
    store: SqlStore,
    text: str,
    document: dict[str, Any],
    side: Side | None = None,
    executed: list[tuple[int, float, float | None]] | None = None,
) -> None:
    run_id = store.start_run(Step.DECIDE, day(text), at(text))
    order = intent(text, side, sum(shares for shares, _, _ in executed)) if side and executed else None
    store.record(recording(run_id, text, signal=document, intent=order))
    if order and side and executed:
        store.update_order(order.reference, OrderStatus.WORKING, at(text), perm_id=11)
        store.add_fills([fill(text, side, *print_, number) for number, print_ in enumerate(executed, 1)])
        store.update_order(order.reference, OrderStatus.FILLED, at(text, "21:20:00"))
    store.end_run(run_id, at(text) + timedelta(seconds=2), document["action"], 0)
