"""What the server's market and accounts are made of. Tests read these values, and set those that are not frozen."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal

Feed = Literal["live", "delayed", "none"]
"""The market data an account is entitled to."""

LIVE_STATUSES = ("PendingSubmit", "PreSubmitted", "Submitted", "Inactive")
"""Statuses of orders that something may still happen to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """Something that can be asked for, and what the terminal says of it."""

    con_id: int
    symbol: str
    sec_type: str = "STK"
    exchange: str = "SMART"
    primary_exchange: str = ""
    currency: str = "USD"
    long_name: str = ""
    stock_type: str = ""
    order_types: str = (
        "ACTIVETIM,AD,ADJUST,ALERT,AVGCOST,BASKET,COND,DAY,GAT,GTC,GTD,IOC,LIT,LMT,LOC,MIT,MKT,MOC,OPG,STP"
    )
    valid_exchanges: str = "SMART,AMEX,NYSE,CBOE,PHLX,ISE,CHX,ARCA,ISLAND,DRCTEDGE,BEX,BATS,EDGEA,BYX,IEX,FOXRIVER,PSX"
    min_tick: float = 0.01
    isin: str = ""


MTUM = Contract(
    con_id=129_216_520,
    symbol="MTUM",
    primary_exchange="BATS",
    long_name="ISHARES MSCI USA MOMENTUM FACTOR ETF",
    stock_type="ETF",
    isin="US46432F3964",
)
VIX = Contract(
    con_id=13_455_763,
    symbol="VIX",
    sec_type="IND",
    exchange="CBOE",
    order_types="",
    valid_exchanges="CBOE",
    long_name="CBOE Volatility Index",
)
SPY = Contract(
    con_id=756_733,
    symbol="SPY",
    primary_exchange="ARCA",
    long_name="SS SPDR S&P 500 ETF TRUST-US",
    stock_type="ETF",
    isin="US78462F1030",
)
SAP = Contract(
    con_id=14_204,
    symbol="SAP",
    exchange="IBIS",
    primary_exchange="IBIS",
    currency="EUR",
    long_name="SAP SE",
    stock_type="COMMON",
    valid_exchanges="SMART,IBIS,TGATE,VSE",
)


@dataclass(slots=True, kw_only=True)
class Order:
    """An order in the server's books, working or done."""

    client_id: int
    order_id: int
    perm_id: int
    contract: Contract
    action: str
    quantity: float
    order_type: str
    tif: str
    reference: str
    account: str
    exchange: str
    session: date  # in whose auction it trades
    placed_at: datetime
    lmt_price: float = 0.0
    status: str = "PreSubmitted"
    filled: float = 0.0
    avg_price: float = 0.0
    last_price: float = 0.0
    completed_at: datetime | None = None
    why: str = ""  # the words of its end

    @property
    def remaining(self) -> float:
        return self.quantity - self.filled

    @property
    def is_live(self) -> bool:
        return self.completed_at is None and self.status in LIVE_STATUSES


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One print, with its commission."""

    exec_id: str
    order: Order
    at: datetime
    side: str  # BOT or SLD
    shares: float
    price: float
    cum_shares: float
    avg_price: float
    commission: float
    realized: float | None  # of a sale


@dataclass(slots=True)
class Position:
    """Shares held; the average cost includes commissions, as the terminal's does."""

    contract: Contract
    shares: float
    avg_cost: float


@dataclass(slots=True, kw_only=True)
class Account:
    """An account: its money by currency, and what of it has not settled."""

    id: str
    cash: dict[str, float] = field(default_factory=lambda: {"USD": 10_000.0})
    base_currency: str = "USD"
    rates: dict[str, float] = field(default_factory=lambda: {"USD": 1.0})  # one unit in base currency
    unsettled: list[tuple[date, float]] = field(default_factory=list)  # USD arriving on a date
    available_funds: float | None = None  # base currency; worked out where None
    settled_cash: float | None = None  # USD; worked out where None
    kind: str = "INDIVIDUAL"
    initial_margin_ratio: float = 0.25

    def in_base(self, usd: float) -> float:
        """US dollars in the account's base currency."""
        return usd * self.rates["USD"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Auction:
    """What a closing auction does, where it shall not be the bar's close for everybody."""

    price: float | None = None
    shares: float | None = None  # of each order, the rest is cancelled
    parts: tuple[tuple[float, float], ...] = ()  # shares and price of each print
    cancels: str = ""  # no trade at all: the words of the cancellation


@dataclass(slots=True, kw_only=True)
class Rules:
    """How the terminal and the exchange behave; a test sets what it wants otherwise."""

    read_only: bool = False
    rejects: str = ""  # the words every new order is rejected with
    lots: bool = False  # volumes in hundreds
    zone: str = "US/Eastern"  # the name in execution and bar times
    execution_time: str | None = None  # sent word for word in place of the execution's time
    moc_cutoff_minutes: float = 1.0  # before the close; later entries and cancellations are refused
    after_close: Literal["next_session", "reject"] = "next_session"
    sends_commissions: bool = True
    shows_executions: bool = True  # since midnight; a list that forgets is empty and has its end mark
    shows_completed: bool = True
    commission_per_share: float = 0.005
    commission_minimum: float = 1.0
    status_before_execution: bool = False  # the other order seen live
    feeds: dict[str, Feed] = field(default_factory=dict)  # by symbol; live where absent
    competing_session: bool = False
    has_today: bool = True  # daily history contains today's partial bar
    checks_funds: bool = True
