"""Trading values: positions, intents, executions, and the enums that the database stores."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from math import floor, prod

from mtum_eod.core.money import Usd


class Mode(StrEnum):
    """Whose money and which broker."""

    SIMULATED = "simulated"
    PAPER = "paper"
    LIVE = "live"


class Action(StrEnum):
    """What the rules say; no gate changes it."""

    BUY = "BUY"
    SELL = "SELL"
    HOLD = "HOLD"


class Side(StrEnum):
    """Which way an order goes."""

    BUY = "BUY"
    SELL = "SELL"

    @property
    def sign(self) -> int:
        """+1 where shares come in, -1 where they go out."""
        return 1 if self is Side.BUY else -1


class OrderKind(StrEnum):
    """Why an order exists; whatever the kind, a session has at most one."""

    DECISION = "decision"
    LATE_EXIT = "late_exit"
    FLATTEN = "flatten"


class OrderType(StrEnum):
    """Market-on-close, or a plain market order where the auction can no longer be reached."""

    MOC = "MOC"
    MKT = "MKT"


class OrderStatus(StrEnum):
    """What is known of an order. Only the broker's word moves it past INTENT."""

    INTENT = "intent"  # committed here, not known to have reached the broker
    WORKING = "working"  # acknowledged, resting for the close
    FILLED = "filled"
    PARTLY_FILLED = "partly_filled"  # final, with fewer shares than meant
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    NOT_SENT = "not_sent"  # surely never at the broker, and too late to send
    UNKNOWN = "unknown"  # cannot be told; a person looks

    @property
    def is_open(self) -> bool:
        """Whether something may still happen to it."""
        return self in (OrderStatus.INTENT, OrderStatus.WORKING, OrderStatus.UNKNOWN)


class SessionStatus(StrEnum):
    """The ledger's word on one session."""

    DECIDED = "decided"
    SKIPPED = "skipped"
    MISSED = "missed"


class Step(StrEnum):
    """The steps of a session's life and of every day, as runs are filed under."""

    PREFLIGHT = "preflight"
    DECIDE = "decide"
    SETTLE = "settle"
    EVENING = "evening"  # every day of the year, so that its silence is noticed


class CashKind(StrEnum):
    """Money that moved without a trade. Amounts are positive; the kind gives the sign."""

    DEPOSIT = "deposit"
    WITHDRAWAL = "withdrawal"
    DIVIDEND = "dividend"
    FEE = "fee"

    @property
    def sign(self) -> int:
        """+1 where the book grows, -1 where it shrinks."""
        return 1 if self in (CashKind.DEPOSIT, CashKind.DIVIDEND) else -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """What a database belongs to; bound at its first write."""

    mode: Mode
    account: str  # the broker's name for it; empty in a database until a run has decided on that account
    symbol: str
    is_synthetic: bool
    capital_usd: Usd

    def matches(self, other: Book) -> bool:
        """Whether these can be one book: what is known of both is the same. The money put in does not count."""
        accounts = {self.account, other.account} - {""}
        same = (self.mode, self.symbol, self.is_synthetic) == (other.mode, other.symbol, other.is_synthetic)
        return same and len(accounts) < 2

    @property
    def name(self) -> str:
        """The book in words, for messages."""
        kind = "synthetic" if self.is_synthetic else "real"
        account = self.account or "an account still to be connected"
        return f"{self.mode} / {account} / {self.symbol} on {kind} data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Shares held, as the book's own executions add up to. Never negative, never zero."""

    shares: int
    entry_price: float  # USD a share, average execution price without commission
    entry_session: date
    entry_atr: float  # USD a share, of the entry decision; NaN where it is not known
    entry_commission_usd: Usd = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderIntent:
    """What we mean to send, committed before the order leaves."""

    reference: str  # the broker's order reference; unique
    session: date
    kind: OrderKind
    side: Side
    order_type: OrderType
    shares: int
    order_id: int  # the broker's id it will use
    decision_price_usd: float  # 0 where there was none; on the scale of the shares it was made for
    is_beside_mismatch: bool = False
    """Book and broker differed then, or might have stood on two scales: no position tells what became of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An intent and what has become of it."""

    intent: OrderIntent
    status: OrderStatus
    intended_at: datetime
    perm_id: int | None = None
    filled_shares: int | None = None  # by the broker's count once it had ended there; its executions may be gone
    words: str = ""  # the broker's own, or why it stands where it stands

    @property
    def is_held_back(self) -> bool:
        """Whether the broker refused it or holds it back, and has it among its working orders all the same."""
        return self.status is OrderStatus.WORKING and self.words.startswith(HELD_BACK)


HELD_BACK = "a person must look: "
"""What the words of a working order begin with that the broker refused or holds back: it may trade, or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """One execution at the broker."""

    execution_id: str  # the broker's; unique, so collecting twice changes nothing
    reference: str  # of the order it belongs to
    session: date
    executed_at: datetime  # UTC, the exchange's time rather than the message's arrival
    side: Side
    shares: int  # positive
    price_usd: float  # a share, as printed
    commission_usd: Usd | None  # None until reported
    is_estimated: bool = False
    revision: int = 0  # a correction has the id of what it corrects and a higher revision


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A change of scale: what was one share is `ratio` shares from this session on."""

    session: date
    ratio: float  # 2.0 for two new shares for an old one, 0.1 for a reverse split of ten into one

    @property
    def eve(self) -> date:
        """The last day of the old scale."""
        return self.session - timedelta(days=1)


def ratio_since(splits: Iterable[Split], session: date) -> float:
    """How many shares of today one share of that session has become."""
    return prod(split.ratio for split in splits if split.session > session)


class Act(StrEnum):
    """What an owner can do by hand that the book must remember."""

    APPROVE = "approve"
    DECLINE = "decline"
    CANCEL = "cancel"
    FLATTEN = "flatten"
    ADOPT = "adopt"
    SOLD = "sold"
    LEAVE = "leave"
    FILL = "fill"
    RESOLVE = "resolve"
    GO_LIVE = "go_live"
    RESUME = "resume"


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerAct:
    """One act of the owner: who did what, when and why."""

    act: Act
    session: date | None
    at: datetime
    by: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CashFlow:
    """Money paid in or out, or earned outside trades."""

    kind: CashKind
    amount_usd: Usd  # positive
    session: date  # the session it counts from
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Halt:
    """A standing stop, and whether exits pass it."""

    halted_at: datetime
    why: str
    by: str
    allow_exits: bool
    is_daily_loss: bool = False  # the latch, which blocks entries only


SHARES_TOLERANCE = 1e-6
"""Numbers of shares closer than this are one: brokers tell of fractions as decimals."""


def same_shares(one: float, other: float) -> bool:
    """Whether two numbers of shares are the same."""
    return abs(one - other) < SHARES_TOLERANCE


def whole_shares(shares: float) -> int:
    """The whole shares in a number of them; a fraction cannot be sold at the close."""
    return floor(shares + SHARES_TOLERANCE)


def order_reference(mode: Mode, account: str, symbol: str, session: date, side: Side) -> str:
    """The one key a session's order can have; the broker gives it back with every answer."""
    return f"mtum-eod/{mode}/{account}/{symbol}/{session:%Y-%m-%d}/{side}"
