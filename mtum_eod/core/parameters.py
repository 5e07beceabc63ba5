"""The numbers an owner may change, as the rules receive them. Defaults are SPEC's; bounds are checked in settings."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import timedelta
from enum import StrEnum
from typing import Any, TypeVar

from mtum_eod.core.money import Usd
from mtum_eod.core.trading import OrderType

T = TypeVar("T")

MIN_HISTORY_BARS = 300
"""Fewer bars than this and nothing is decided."""

WILDER_MEMORY = 25
"""A window of this many Wilder periods forgets its start to within 1e-9 relative."""


class VolumeChoice(StrEnum):
    """The owner's choice of volume basis; `auto` compares like with like."""

    AUTO = "auto"
    SESSION = "session"
    SAME_TIME = "same_time"


class LateExit(StrEnum):
    """What an exit does that missed the hard stop."""

    MARKET = "market"
    SKIP = "skip"


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyParameters:
    """Thresholds and periods of the rules. Periods in sessions; `_pct` 10 means 10 %."""

    ma_period: int = 50
    rsi_period: int = 14
    atr_period: int = 14
    volume_lookback: int = 20
    atr_multiplier: float = 4.0
    vix_entry_threshold: float = 25.0
    vix_exit_threshold: float = 30.0
    rsi_entry_threshold: float = 50.0
    rsi_exit_threshold: float = 30.0
    history_bars: int = 400
    volume_basis: VolumeChoice = VolumeChoice.AUTO
    stop_loss_enabled: bool = False
    stop_loss_pct: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskParameters:
    """How much may be bought, and what blocks an entry."""

    max_position_pct: float = 100.0
    max_position_size: Usd = 5000.0
    transaction_cost: float = 0.001  # ratio of the value traded, each side
    price_buffer_pct: float = 1.0
    max_daily_loss: Usd = 500.0
    daily_loss_exit: bool = False
    max_price_move_pct: float = 15.0
    require_confirmation: bool = False
    late_exit: LateExit = LateExit.MARKET


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleParameters:
    """A session's timetable as distances from the exchange's own close."""

    preflight_before: timedelta = timedelta(minutes=120)
    decide_before: timedelta = timedelta(minutes=20)
    confirm_before: timedelta = timedelta(minutes=60)  # decide, where the owner confirms
    hard_stop_before: timedelta = timedelta(minutes=15)
    settle_after: timedelta = timedelta(minutes=20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Everything a decision depends on besides its evidence."""

    strategy: StrategyParameters = StrategyParameters()
    risk: RiskParameters = RiskParameters()
    schedule: ScheduleParameters = ScheduleParameters()
    order_type: OrderType = OrderType.MOC


SECTION_OF = {
    one.name: section
    for section, kind in (("strategy", StrategyParameters), ("risk", RiskParameters))
    for one in fields(kind)
    if isinstance(one.default, int | float)
}
"""The numbers that can be varied, switches among them, and the settings' section each is in."""


def document(p: Parameters) -> dict[str, Any]:
    """The parameters as JSON keeps them beside each decision; durations in minutes."""
    return {
        "strategy": _values(p.strategy),
        "risk": _values(p.risk),
        "schedule": {name: length.total_seconds() / 60 for name, length in _values(p.schedule).items()},
        "order_type": str(p.order_type),
    }


def _values(section: StrategyParameters | RiskParameters | ScheduleParameters) -> dict[str, Any]:
    return {field.name: getattr(section, field.name) for field in fields(section)}


def parameters_from(kept: dict[str, Any]) -> Parameters:
    """The parameters that `document` wrote down.

    Keys that did not exist then take their defaults, keys that exist no longer are passed over.
    """
    durations = {name: timedelta(minutes=minutes) for name, minutes in kept["schedule"].items()}
    return Parameters(
        strategy=_built(StrategyParameters, kept["strategy"], volume_basis=VolumeChoice),
        risk=_built(RiskParameters, kept["risk"], late_exit=LateExit),
        schedule=_built(ScheduleParameters, durations),
        order_type=OrderType(kept["order_type"]),
    )


def _built(kind: type[T], values: dict[str, Any], **enums: type[StrEnum]) -> T:
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]  # each kind is a dataclass
    return kind(**{name: enums.get(name, _same)(value) for name, value in values.items() if name in names})


def _same(value: Any) -> Any:
    return value
