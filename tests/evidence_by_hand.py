"""One session by hand: numbers on which every entry rule holds and no exit rule does, and a position to hold.

2024-11-05, MTUM at 200.00 after 198.00, MA50 190.00, RSI 60, VIX 18, volume 1.2 million against a mean of 1 million.
Flat: 5,000 USD, so 5,000 / (200 x 1.01 x 1.001 = 202.202) = 24.7, 24 shares.
Long: 20 shares bought at 195.00 with an ATR of 4.00 and 3.90 USD of commission, so the target is 211.00.
"""

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

from mtum_eod.core.evidence import Evidence, Funds, Indicators
from mtum_eod.core.market import Finding, FindingKind
from mtum_eod.core.parameters import Parameters, RiskParameters, StrategyParameters
from mtum_eod.core.trading import Halt, Position

SESSION = date(2024, 11, 5)
AS_OF = datetime(2024, 11, 5, 20, 40, tzinfo=UTC)

NUMBERS = Indicators(
    close=200.0,
    ma_50=190.0,
    rsi=60.0,
    atr=3.0,
    volume=1_200_000.0,
    volume_ma_20=1_000_000.0,
    vix=18.0,
    previous_close=198.0,
)
HELD = Position(shares=20, entry_price=195.0, entry_session=date(2024, 10, 1), entry_atr=4.0, entry_commission_usd=3.9)
FUNDS_FLAT = Funds(sizing_equity=5000.0, cash=5000.0, settled_cash=5000.0, last_final_equity=5000.0)
FUNDS_LONG = Funds(sizing_equity=5000.0, cash=1096.1, settled_cash=1096.1, last_final_equity=5056.1)

HALT = Halt(halted_at=AS_OF, why="on holiday", by="owner", allow_exits=False)
HALT_BUT_EXITS = replace(HALT, allow_exits=True)
HOLE = Finding(
    kind=FindingKind.SESSION_MISSING,
    symbol="MTUM",
    session=date(2024, 10, 9),
    words="MTUM 2024-10-09: no bar inside the window",
    is_fatal=True,
)


def numbers(**changes: Any) -> Indicators:
    return replace(NUMBERS, **changes)


def flat(indicators: Indicators = NUMBERS, **changes: Any) -> Evidence:
    """No position, the way free: the rules say BUY and 24 shares go out."""
    values: dict[str, Any] = {"position": None, "funds": FUNDS_FLAT, "broker_shares": 0}
    return Evidence(session=SESSION, as_of=AS_OF, indicators=indicators, **(values | changes))


def long(indicators: Indicators = NUMBERS, **changes: Any) -> Evidence:
    """20 shares held, the way free: the rules say HOLD."""
    values: dict[str, Any] = {"position": HELD, "funds": FUNDS_LONG, "broker_shares": 20}
    return Evidence(session=SESSION, as_of=AS_OF, indicators=indicators, **(values | changes))


def parameters(**changes: Any) -> Parameters:
    """Defaults, with keys of the strategy or of the risk changed."""
    p = Parameters()
    strategy = {key: value for key, value in changes.items() if hasattr(p.strategy, key)}
    risk = {key: value for key, value in changes.items() if key not in strategy}
    return replace(p, strategy=StrategyParameters(**strategy), risk=RiskParameters(**risk))
