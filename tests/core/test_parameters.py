"""The parameters as they are kept beside each decision, and the values that the database stores."""

import json
from dataclasses import replace
from datetime import date, timedelta

import pytest

from mtum_eod.core import parameters
from mtum_eod.core.parameters import (
    LateExit,
    Parameters,
    RiskParameters,
    ScheduleParameters,
    StrategyParameters,
    VolumeChoice,
)
from mtum_eod.core.trading import Book, CashKind, Mode, OrderStatus, OrderType, Side, order_reference

UNUSUAL = Parameters(
    strategy=StrategyParameters(ma_period=40, volume_basis=VolumeChoice.SESSION, stop_loss_enabled=True),
    risk=RiskParameters(max_position_size=1234.5, late_exit=LateExit.SKIP, require_confirmation=True),
    schedule=ScheduleParameters(decide_before=timedelta(minutes=25, seconds=30)),
    order_type=OrderType.MKT,
)


@pytest.mark.parametrize("p", [Parameters(), UNUSUAL])
def test_parameters_come_back_from_json_as_they_went(p):
    """A replay decides with the settings of its day."""
    assert p == parameters.parameters_from(json.loads(json.dumps(parameters.document(p))))


def test_kept_parameters_outlive_a_change_of_the_program():
    """A key of today that did not exist then takes its default, one that is gone is passed over."""
    kept = parameters.document(UNUSUAL)
    del kept["strategy"]["ma_period"]
    kept["risk"]["check_interval"] = 60

    assert replace(UNUSUAL, strategy=replace(UNUSUAL.strategy, ma_period=50)) == parameters.parameters_from(kept)


def test_the_defaults_are_the_documented_ones():
    """SPEC section 5; schedule in minutes, section 2."""
    assert {
        "strategy": {
            "ma_period": 50, "rsi_period": 14, "atr_period": 14, "volume_lookback": 20, "atr_multiplier": 4.0,
            "vix_entry_threshold": 25.0, "vix_exit_threshold": 30.0, "rsi_entry_threshold": 50.0,
            "rsi_exit_threshold": 30.0, "history_bars": 400, "volume_basis": "auto", "stop_loss_enabled": False,
            "stop_loss_pct": 10.0,
        },
        "risk": {
            "max_position_pct": 100.0, "max_position_size": 5000.0, "transaction_cost": 0.001, "price_buffer_pct": 1.0,
            "max_daily_loss": 500.0, "daily_loss_exit": False, "max_price_move_pct": 15.0,
            "require_confirmation": False, "late_exit": "market",
        },
        "schedule": {
            "preflight_before": 120, "decide_before": 20, "confirm_before": 60, "hard_stop_before": 15,
            "settle_after": 20,
        },
        "order_type": "MOC",
    } == parameters.document(Parameters())  # fmt: skip


def test_the_least_history_is_the_documented_one():
    assert (300, 25) == (parameters.MIN_HISTORY_BARS, parameters.WILDER_MEMORY)


# -- values -----------------------------------------------------------------------------------------------------------


def test_money_in_grows_the_book_and_money_out_shrinks_it():
    assert {"deposit": 1, "withdrawal": -1, "dividend": 1, "fee": -1} == {kind.value: kind.sign for kind in CashKind}


def test_an_order_is_open_while_something_may_happen_to_it():
    assert ["intent", "working", "unknown"] == [status.value for status in OrderStatus if status.is_open]


def test_an_orders_reference_names_book_session_and_side():
    """SPEC section 2: the broker gives it back with every answer."""
    assert "mtum-eod/live/U123/MTUM/2024-11-05/BUY" == order_reference(
        Mode.LIVE, "U123", "MTUM", date(2024, 11, 5), Side.BUY
    )


@pytest.mark.parametrize(
    ("is_synthetic", "expected"),
    [(True, "simulated / SIM / MTUM on synthetic data"), (False, "simulated / SIM / MTUM on real data")],
)
def test_a_book_in_words(is_synthetic, expected):
    book = Book(mode=Mode.SIMULATED, account="SIM", symbol="MTUM", is_synthetic=is_synthetic, capital_usd=5000.0)

    assert expected == book.name
