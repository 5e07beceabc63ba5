"""A decision as one document: the keys of `run --json`, their order, and null for what is not known."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from math import nan
from typing import Any

import pytest
from evidence_by_hand import AS_OF, HELD, HOLE, SESSION, flat, long, numbers

from mtum_eod.core import snapshot
from mtum_eod.core.decision import decide
from mtum_eod.core.evidence import Evidence, Indicators
from mtum_eod.core.parameters import Parameters
from mtum_eod.core.trading import Mode, Order, OrderIntent, OrderKind, OrderStatus, OrderType, Side

INTENT = OrderIntent(
    reference="mtum-eod/paper/DU1/MTUM/2024-11-05/SELL",
    session=SESSION,
    kind=OrderKind.DECISION,
    side=Side.SELL,
    order_type=OrderType.MOC,
    shares=20,
    order_id=7,
    decision_price_usd=200.0,
)


def document(evidence: Evidence, intent: OrderIntent | None = None) -> dict[str, Any]:
    p = Parameters()
    return snapshot.document(
        evidence,
        decide(evidence, p),
        p,
        mode=Mode.PAPER,
        source="csv",
        is_synthetic=False,
        is_dry_run=True,
        intent=intent,
    )


def test_the_document_has_the_documented_keys_in_their_order():
    """SPEC section 4."""
    keys = (
        "session, mode, source, synthetic, dry_run, as_of, close, ma_50, rsi, atr, volume, volume_ma_20, volume_basis, "
        "vix, trend_bullish, vix_stable, rsi_bullish, volume_confirm, entry_confluence, exit_reasons, exit_confluence, "
        "action, shares, blocked_by, reason, order, position, warnings"
    )

    assert keys.split(", ") == list(document(flat()))


def test_a_sale_as_a_document():
    """Each value as SPEC and the numbers by hand have it."""
    expected = {
        "session": "2024-11-05",
        "mode": "paper",
        "source": "csv",
        "synthetic": False,
        "dry_run": True,
        "as_of": "2024-11-05T20:40:00Z",
        "close": 200.0,
        "ma_50": 190.0,
        "rsi": 29.0,
        "atr": 3.0,
        "volume": 1_200_000.0,
        "volume_ma_20": 1_000_000.0,
        "volume_basis": "session",
        "vix": 31.2,
        "trend_bullish": True,
        "vix_stable": False,
        "rsi_bullish": False,
        "volume_confirm": True,
        "entry_confluence": False,
        "exit_reasons": ["vix", "rsi"],
        "exit_confluence": True,
        "action": "SELL",
        "shares": 20,
        "blocked_by": None,
        "reason": "VIX spike (31.2 > 30); RSI collapse (29.0 < 30)",
        "order": {
            "key": "mtum-eod/paper/DU1/MTUM/2024-11-05/SELL",
            "side": "SELL",
            "type": "MOC",
            "shares": 20,
            "status": "intent",
        },
        "position": {
            "shares": 20,
            "entry_price": 195.0,
            "entry_session": "2024-10-01",
            "entry_atr": 4.0,
            "target": 211.0,
        },
        "warnings": ["MTUM 2024-10-09: no bar inside the window"],
    }

    assert expected == document(long(numbers(vix=31.2, rsi=29.0), findings=(HOLE,)), INTENT)


def test_flat_and_held_back_as_a_document():
    told = document(flat(has_order=True))

    assert ("BUY", 0, "already_decided", None, None, [], False, True) == tuple(
        told[key]
        for key in (
            "action",
            "shares",
            "blocked_by",
            "order",
            "position",
            "exit_reasons",
            "exit_confluence",
            "entry_confluence",
        )
    )


@pytest.mark.parametrize("evidence", [flat(Indicators()), long(Indicators(), position=replace(HELD, entry_atr=nan))])
def test_what_is_not_known_is_null(evidence):
    """No program reads NaN: it is no JSON."""
    told = document(evidence)
    unknown = ("close", "ma_50", "rsi", "atr", "volume", "volume_ma_20", "vix", "trend_bullish", "volume_confirm")

    assert [None] * len(unknown) == [told[key] for key in unknown]
    assert "NaN" not in json.dumps(told, allow_nan=False)
    if told["position"]:
        assert (None, None) == (told["position"]["entry_atr"], told["position"]["target"])


@pytest.mark.parametrize(
    "instant",
    [AS_OF, AS_OF.astimezone(timezone(timedelta(hours=-5))), datetime(2024, 11, 5, 20, 40, 0, 999_999, tzinfo=UTC)],
)
def test_instants_are_utc_to_the_second(instant):
    """Whatever the zone they came in."""
    assert "2024-11-05T20:40:00Z" == snapshot.utc(instant)


def test_a_recorded_document_shows_its_order_as_it_stands_now():
    """Filled since; the rest stays as recorded."""
    recorded = document(long(numbers(vix=31.2)), INTENT)
    filled = Order(intent=INTENT, status=OrderStatus.FILLED, intended_at=AS_OF)

    assert (
        {**recorded, "order": {**recorded["order"], "status": "filled"}},
        {**recorded, "order": None},
    ) == (snapshot.with_order(recorded, filled), snapshot.with_order(recorded, None))
