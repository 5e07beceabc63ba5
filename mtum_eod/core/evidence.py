"""What a decision is made from, and what it says. Built only where it is kept; sweeps stay on floats."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from math import isnan, nan

from mtum_eod.core.market import ENTRY_ONLY, Finding, VolumeBasis
from mtum_eod.core.money import Usd
from mtum_eod.core.strategy import EntryRule, ExitReason
from mtum_eod.core.trading import Action, Halt, Position


class Gate(StrEnum):
    """What can block an order, in the order they are asked; the first one is told."""

    HALTED = "halted"
    NOT_A_SESSION = "not_a_session"
    OUTSIDE_WINDOW = "outside_window"
    ALREADY_DECIDED = "already_decided"
    ORDER_UNKNOWN = "order_unknown"
    RECONCILE_MISMATCH = "reconcile_mismatch"
    DATA = "data"
    VOLUME_UNAVAILABLE = "volume_unavailable"
    POSITION_LIMIT = "position_limit"
    CASH = "cash"
    DAILY_LOSS = "daily_loss"
    PRICE_MOVE = "price_move"
    AWAITING_APPROVAL = "awaiting_approval"
    SIZE = "size"


class Window(StrEnum):
    """Where in the session's timetable the decision stands."""

    EARLY = "early"  # before the decision time: nothing may be sent yet
    OPEN = "open"
    LATE = "late"  # past the hard stop, market still open: exits may go as market orders
    SHUT = "shut"  # too near the close, or past it


@dataclass(frozen=True, slots=True, kw_only=True)
class Indicators:
    """The numbers the rules look at, for one session. What is not known is NaN."""

    close: float = nan
    ma_50: float = nan  # SMA over `ma_period` closes
    rsi: float = nan
    atr: float = nan  # USD a share
    volume: float = nan  # shares, on `volume_basis`
    volume_ma_20: float = nan  # shares, on `volume_basis`
    volume_basis: VolumeBasis = VolumeBasis.SESSION
    vix: float = nan
    previous_close: float = nan

    @property
    def has_price(self) -> bool:
        """Whether there is a close that shares could be priced at."""
        return not isnan(self.close) and self.close > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Funds:
    """What the book is worth and can spend before this decision, USD."""

    sizing_equity: Usd  # capital + cash flows + realised net P&L
    cash: Usd  # what may be spent; NaN where the broker did not say
    settled_cash: Usd
    last_final_equity: Usd  # at the last settled close, for the daily loss
    cash_unknown: str = ""  # why, where the broker did not say


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingExit:
    """An exit decided at an earlier session whose shares are still held."""

    since: date
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All a decision depends on besides the parameters. The same evidence gives the same decision."""

    session: date
    as_of: datetime  # UTC; everything used was known by then
    indicators: Indicators
    position: Position | None
    funds: Funds
    findings: tuple[Finding, ...] = ()
    window: Window = Window.OPEN
    halt: Halt | None = None
    daily_loss_latched: bool = False
    pending_exit: PendingExit | None = None
    order_unknown: str = ""  # words, where an order's state cannot be told
    mismatch: str = ""  # words, where book and broker disagree
    broker_shares: int | None = None  # whole shares the broker holds beside the owner's; None where it did not say
    has_order: bool = False  # of whatever kind; a session has at most one
    approved_shares: int | None = None  # what the owner said yes to; None where they have not

    @property
    def fatal_findings(self) -> tuple[Finding, ...]:
        """The findings that stop an entry."""
        return tuple(finding for finding in self.findings if finding.is_fatal)

    @property
    def needs_person(self) -> bool:
        """Whether book and broker differ, or an order's end cannot be told: somebody has to look."""
        return bool(self.order_unknown or self.mismatch)

    @property
    def exit_findings(self) -> tuple[Finding, ...]:
        """The findings under which nobody can say that no exit is due."""
        return tuple(finding for finding in self.fatal_findings if finding.kind not in ENTRY_ONLY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the rules say about one session, and what the gates leave of it."""

    action: Action
    entry_rules: dict[EntryRule, bool | None]  # None: an input is missing
    exit_reasons: tuple[ExitReason, ...] = ()
    exit_unknown: tuple[ExitReason, ...] = ()
    shares: int = 0  # the order's; 0 where none goes out
    shares_awaiting: int = 0  # what the owner is asked to approve; 0 where nothing is asked
    blocked_by: Gate | None = None
    reason: str = ""
    warnings: tuple[str, ...] = ()
    is_late_exit: bool = False  # goes out as a market order
    daily_loss_usd: Usd = 0.0  # how far equity stands below the last final close; 0 or positive
    daily_loss_hit: bool = False
    is_unattended: bool = False  # long, no exit rule true, and one that cannot be judged: a person must look

    @property
    def entry_confluence(self) -> bool:
        """Whether all four entry rules hold."""
        return all(holds is True for holds in self.entry_rules.values())

    @property
    def exit_confluence(self) -> bool:
        """Whether any exit rule fired."""
        return bool(self.exit_reasons)
