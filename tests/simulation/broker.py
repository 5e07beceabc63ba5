"""A broker that holds the truth: what was ordered, executed, held and paid, whatever it says of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from itertools import takewhile
from random import Random
from typing import Any

from mtum_eod.core.checks import Check, failed
from mtum_eod.core.trading import Fill, OrderIntent, OrderStatus, OrderType, Side
from mtum_eod.errors import BrokerUnavailable
from mtum_eod.ports import Answer, BrokerOrder, Cash, Known, Unknown, WhatIf
from simulation.market import SYMBOL, Market, calendar

ACCOUNT = "DU1"
CUT_OFF = timedelta(minutes=15)

FOREIGN = BrokerOrder(
    reference="", order_id=0, perm_id=999, status=OrderStatus.WORKING, filled_shares=0, shares=1, order_type=None
)
"""An order of the owner's own, typed at the broker."""


@dataclass
class Resting:
    """An order at the broker."""

    intent: OrderIntent
    perm_id: int
    status: OrderStatus
    arrived_on: date
    filled: int = 0
    words: str = ""


@dataclass
class Execution:
    """An execution, and when the broker first tells of it and of its commission."""

    fill: Fill
    happened_on: date
    told_from: datetime
    commission_from: datetime
    scales: list[float] = field(default_factory=lambda: [1.0])  # today's shares for one of its own, after each split
    slacks: list[float] = field(default_factory=lambda: [0.0])  # by how many shares of each a book may be off
    is_listed: bool = True  # among our executions; what the owner traded is not
    split_into: int | None = None  # whole shares of today

    @property
    def shares(self) -> int:
        """In shares of today."""
        return self.fill.shares if self.split_into is None else self.split_into


def can_be(executions: Sequence[Execution], shares: int) -> bool:
    """Whether so many are the shares of these, of one order, on the scale of some day since.

    Where a split left a fraction, nearly so many: how that is shared out is the book's own.
    """
    true, first = sum(execution.fill.shares for execution in executions), executions[0]
    return any(
        abs(shares - true * scale) <= 1e-6 + slack * len(executions)
        for scale, slack in zip(first.scales, first.slacks, strict=True)
    )


def whole(shares: float) -> int:
    """The whole shares in a number of them."""
    return int(shares + (1e-6 if shares > 0 else -1e-6))


@dataclass(frozen=True)
class Sent:
    """A try to send an order, as it leaves the program."""

    at: datetime
    intent: OrderIntent
    halted: str  # what stood still by the owner's word
    word: (
        str  # the owner's own on this session's order, the last that was carried out: approve, refuse, cancel, flatten
    )
    booked: int  # shares the book held
    beside: int  # shares that the broker held beyond the book's, the owner having traded before the run began
    next_id: int  # that the broker would have given
    is_again: bool  # a try of the same order left before
    said: dict[str, Any]  # the broker's last answers to this process; None for one that did not come


@dataclass
class VirtualBroker:
    """A Broker. It takes market-on-close orders until the cut-off, fills at the close, forgets at midnight."""

    market: Market
    usd: float
    chance: Random
    now: datetime
    say: Callable[[str], None] = lambda _: None
    reread_pause: timedelta = timedelta(seconds=5)
    retries: int = 0
    ours: int = 0  # shares that our own executions add up to
    by_hand: int = 0  # shares the owner bought elsewhere, less those sold there
    unbooked: int = 0  # shares that a split has made, and that it does not show yet; what is bought since it does
    resting: list[Resting] = field(default_factory=list)  # all that ever rested, in the order they came
    working: list[Resting] = field(default_factory=list)  # those that may still be executed
    executed: list[Execution] = field(default_factory=list)
    arrivals: list[tuple[datetime, OrderIntent]] = field(default_factory=list)  # all that ever came over the wire
    spendable: list[float] = field(default_factory=list)  # when each of these arrived
    sent: list[Sent] = field(default_factory=list)
    cancels: list[tuple[datetime, OrderIntent]] = field(default_factory=list)  # when each withdrawal was asked for
    on_the_wire: list[tuple[datetime, OrderIntent]] = field(default_factory=list)  # sent, not there yet
    last_id: int = 0
    restarted_at: int = 0  # how many orders there were when ids began anew
    proceeds: tuple[date, float] | None = None  # of the newest sale, and its session
    away_until: datetime | None = None
    silent_until: datetime | None = None  # till when it does not say what it holds
    clock_off: timedelta = timedelta(0)  # how far the machine's clock is ahead of its own
    clock_off_until: datetime | None = None
    has_foreign_order: bool = False  # the owner's own order rests there, without a reference
    rejects: bool = False
    commission: Callable[[float], float] = lambda usd: round(max(1.0, 0.0004 * usd), 2)
    differs: dict[str, float] = field(default_factory=dict)  # how our next auction differs from a whole, quick one
    felt: set[tuple[str, str]] = field(default_factory=set)  # what troubles of its have had an effect

    # -- truth --------------------------------------------------------------------------------------------------------

    @property
    def is_away(self) -> bool:
        return self.away_until is not None and self.now < self.away_until

    @property
    def clock_ahead_by(self) -> timedelta:
        """How far the machine's clock is ahead now."""
        is_off = self.clock_off_until is not None and self.now < self.clock_off_until
        return self.clock_off if is_off else timedelta(0)

    @property
    def is_silent(self) -> bool:
        """Whether it does not say what it holds."""
        return self.silent_until is not None and self.now < self.silent_until

    def reach(self, instant: datetime) -> None:
        """Let time pass: orders on the wire arrive, the close fills."""
        for arrives_at, intent in [wired for wired in self.on_the_wire if wired[0] <= instant]:
            self.on_the_wire.remove((arrives_at, intent))
            self._arrive(intent, arrives_at)
        for order in self.working:
            if order.status is OrderStatus.WORKING and instant >= calendar().close(order.intent.session):
                self._auction(order, calendar().close(order.intent.session))
        self.working = [order for order in self.working if order.status is OrderStatus.WORKING]
        self.now = instant

    def split(self, ratio: float, price: float) -> float:
        """So many new shares for one, overnight; for a fraction of one cash is paid. Returns what of that is ours, USD.

        price: of a new share.
        """
        exact, held = self.ours * ratio, (self.ours + self.by_hand) * ratio
        ours = whole(exact)
        self.by_hand, self.ours = whole(held) - ours, ours
        self.usd += (held - whole(held)) * price
        position = after = 0
        for execution in self.executed:
            position += execution.fill.side.sign * execution.shares
            before, after = after, whole(position * ratio)
            execution.split_into = abs(after - before)
            execution.scales.append(execution.scales[-1] * ratio)
            execution.slacks.append(execution.slacks[-1] * ratio + (0.0 if float(ratio).is_integer() else 2.0))
        return (exact - ours) * price

    def correct(self, shares: int, session: date, price: float) -> None:
        """The owner's own trade in what counts as ours; no list of our executions has it."""
        self.ours += shares
        fill = Fill(
            execution_id=f"hand.{len(self.executed)}",
            reference="by hand",
            session=session,
            executed_at=self.now,
            side=Side.BUY if shares > 0 else Side.SELL,
            shares=abs(shares),
            price_usd=price,
            commission_usd=0.0,
        )
        self.executed.append(Execution(fill, calendar().local_date(self.now), self.now, self.now, is_listed=False))

    def adopt(self, shares: int, session: date, price: float) -> Fill:
        """The owner's own shares are ours from now on, as bought at a session's close; no list of ours has that."""
        self.by_hand -= shares
        self.correct(shares, session, price)
        self.executed[-1].fill = replace(
            self.executed[-1].fill, reference=f"mtum-eod/paper/{ACCOUNT}/{SYMBOL}/{session}/ADOPTED"
        )
        return self.executed[-1].fill

    def disown(self, fill: Fill) -> None:
        """The same undone, where the book would not have them."""
        self.by_hand += fill.shares
        self.ours -= fill.shares
        self.executed = [execution for execution in self.executed if execution.fill is not fill]

    def restart(self) -> None:
        """The Gateway comes up again: what was on the wire is lost, ids begin anew below those used."""
        if self.on_the_wire:
            self.felt.add(("broker", "restarts"))
        self.on_the_wire.clear()
        self.last_id = max(0, self.last_id - 3)
        self.restarted_at = len(self.resting)

    def _arrive(self, intent: OrderIntent, at: datetime) -> None:
        since_restart = self.resting[self.restarted_at :]
        known = next((order for order in since_restart if order.intent.order_id == intent.order_id), None)
        if known is not None and known.intent == intent:
            return  # the same order again under its own id: the broker sees one
        self.arrivals.append((at, intent))
        self.spendable.append(self._spendable())
        perm_id, day = 1000 + len(self.arrivals), calendar().local_date(at)
        order = Resting(intent, perm_id=perm_id, status=OrderStatus.WORKING, arrived_on=day)
        self.resting.append(order)
        self.say(f"broker has {intent.reference} of {intent.shares} shares under id {intent.order_id}")
        self.working.append(order)
        if known is not None:
            order.status, order.words = OrderStatus.REJECTED, "103: duplicate order id"
        elif self.rejects:
            self.rejects = False
            self.felt.add(("broker", "rejects"))
            order.status, order.words = OrderStatus.REJECTED, "201: order rejected"
        elif intent.order_type is OrderType.MKT and not self._is_halted(intent.session):
            self._fill(order, intent.shares, self.market.price(at), at)
            order.status = OrderStatus.FILLED

    def _is_halted(self, session: date) -> bool:
        if session in self.market.halted:
            self.felt.add(("market", "halts_trading"))
        return session in self.market.halted or not self.market.is_open(session)

    def _auction(self, order: Resting, close: datetime) -> None:
        wanted, differs = order.intent.shares, self.differs
        done = 0 if "nothing" in differs else int(wanted * differs.get("partial", 1.0))
        if self._is_halted(order.intent.session):
            done = 0
        if done < wanted:
            self.felt.update(("auction", what) for what in ("partial", "nothing") if what in differs)
        if done:
            first = done // 2 if self.chance.random() < 0.3 else 0
            for shares in (first, done - first):
                if shares:
                    self._fill(order, shares, self.market.close(order.intent.session), close)
        order.status = OrderStatus.FILLED if done == wanted else OrderStatus.CANCELLED
        order.words = "" if done == wanted else f"expired with {done} of {wanted} shares filled"
        self.differs = {}

    def _fill(self, order: Resting, shares: int, price: float, at: datetime) -> None:
        intent = order.intent
        sign = 1 if intent.side is Side.BUY else -1
        commission = self.commission(shares * price)
        self.usd -= sign * shares * price + commission
        if sign < 0:
            before = self.proceeds[1] if self.proceeds and self.proceeds[0] == intent.session else 0.0
            self.proceeds = (intent.session, before + shares * price)
        order.filled += shares
        self.ours += sign * shares
        fill = Fill(
            execution_id=f"0001.{len(self.executed) + 1:05d}",
            reference=intent.reference,
            session=intent.session,
            executed_at=at,
            side=intent.side,
            shares=shares,
            price_usd=price,
            commission_usd=commission,
        )
        told_from = at + timedelta(minutes=self.differs.get("late_report", 0.05))
        commission_from = max(told_from, at + timedelta(minutes=self.differs.get("late_commission", 0.1)))
        self.executed.append(Execution(fill, calendar().local_date(at), told_from, commission_from))
        self.say(f"broker fills {shares} shares of {intent.reference} at {price:.4f}, commission {commission:.2f}")

    # -- what it says -------------------------------------------------------------------------------------------------

    def _is_asked_in_vain(self) -> bool:
        if self.is_away:
            self.felt.add(("broker", "away"))
        return self.is_away

    def finish_by(self, deadline: datetime) -> None:
        """Waiting takes no time here; the clock is moved by the troubles."""

    def clock_ahead(self) -> Answer[timedelta]:
        if self._is_asked_in_vain():
            return Unknown("the broker is away")
        if self.clock_ahead_by:
            self.felt.add(("server", "clock_wrong"))
        return Known(self.clock_ahead_by)

    @property
    def account(self) -> str:
        if self._is_asked_in_vain():
            raise BrokerUnavailable("the broker is away", hint="look at the Gateway")
        return ACCOUNT

    def inspect(self, session: date) -> Sequence[Check]:
        """As an adapter: without a login there is nothing more to be said."""
        try:
            login = Check(name="login", passed=True, words=f"account {self.account}")
        except BrokerUnavailable as error:
            return (failed("login", error),)
        return (login, *self.contract(session))

    def contract(self, session: date) -> Sequence[Check]:  # noqa: ARG002
        if self._is_asked_in_vain():
            words = "the broker is away"
            return (Check(name="contract", passed=False, words=words, exit_code=BrokerUnavailable.exit_code),)
        return (Check(name="contract", passed=True, words=f"{SYMBOL} takes orders"),)

    def what_if(self, intent: OrderIntent) -> Answer[WhatIf]:  # noqa: ARG002
        if self._is_asked_in_vain():
            return Unknown("the broker is away")
        return Known(WhatIf(is_accepted=True, words="fine"))

    def next_order_id(self) -> int:
        if self._is_asked_in_vain():
            raise BrokerUnavailable("the broker is away", hint="look at the Gateway")
        if self.restarted_at:
            self.felt.add(("broker", "restarts"))
        return self.last_id + 1

    def submit(self, intent: OrderIntent) -> BrokerOrder:
        if self._is_asked_in_vain():
            raise BrokerUnavailable("the broker is away", hint="look at the Gateway")
        self.last_id = max(self.last_id, intent.order_id)
        self._arrive(intent, self.now)
        return self._report(self._order(intent))

    def cancel(self, reference: str) -> Answer[BrokerOrder]:
        found = [o for o in self.resting if o.intent.reference == reference]
        if self._is_asked_in_vain() or not found:
            return Unknown("no answer to the cancellation")
        self.cancels.append((self.now, found[-1].intent))
        if found[-1].status is OrderStatus.WORKING:
            found[-1].status = OrderStatus.CANCELLED
        return Known(self._report(found[-1]))

    def orders(self) -> Answer[list[BrokerOrder]]:
        if self._is_asked_in_vain():
            return Unknown("the broker is away")
        today = calendar().local_date(self.now)
        newest = takewhile(lambda order: order.arrived_on == today, reversed(self.resting))
        return Known([*[self._report(order) for order in newest][::-1], *[FOREIGN] * self.has_foreign_order])

    def executions(self) -> Answer[list[Fill]]:
        if self._is_asked_in_vain():
            return Unknown("the broker is away")
        today = calendar().local_date(self.now)
        newest = takewhile(lambda execution: execution.happened_on >= today, reversed(self.executed))
        told = []
        for execution in list(newest)[::-1]:
            if not execution.is_listed:
                continue
            if self.now >= execution.commission_from:
                told.append(execution.fill)
            elif self.now >= execution.told_from:
                self.felt.add(("auction", "late_commission"))
                told.append(replace(execution.fill, commission_usd=None))
            else:
                self.felt.add(("auction", "late_report"))
        return Known(told)

    def shares_held(self, symbol: str) -> Answer[float]:
        if self.is_silent:
            self.felt.add(("broker", "silent"))
            return Unknown("the list of positions never ended")
        if self._is_asked_in_vain():
            return Unknown("the broker is away")
        return Known(float(self.ours + self.by_hand - self.unbooked) if symbol == SYMBOL else 0.0)

    def cash(self) -> Answer[Cash]:
        if self._is_asked_in_vain():
            return Unknown("the broker is away")
        return Known(Cash(spendable_usd=self._spendable(), settled_usd=self._spendable()))

    def _spendable(self) -> float:
        """Without what was sold today: it settles on the next session."""
        is_unsettled = self.proceeds and self.proceeds[0] == calendar().local_date(self.now)
        return self.usd - (self.proceeds[1] if self.proceeds and is_unsettled else 0.0)

    def _order(self, intent: OrderIntent) -> Resting:
        return next(o for o in reversed(self.resting) if o.intent.reference == intent.reference)

    def _report(self, order: Resting) -> BrokerOrder:
        return BrokerOrder(
            reference=order.intent.reference,
            order_id=order.intent.order_id,
            perm_id=order.perm_id,
            status=order.status,
            filled_shares=order.filled,
            words=order.words,
            shares=order.intent.shares,
            order_type=order.intent.order_type,
        )
