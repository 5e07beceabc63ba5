"""Fakes behind the ports: a clock that is set, bars from arrays, a broker that does as it is told; and a desk of them.

The store is never faked: it is the real one, in a file of the test's own.
"""

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from math import nan
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import pandas as pd

from mtum_eod.adapters.bars import daily_bars
from mtum_eod.adapters.calendar import ExchangeCalendar
from mtum_eod.adapters.clock import SessionClock
from mtum_eod.adapters.notices import OwnerNotices
from mtum_eod.adapters.store import SqlStore, open_store
from mtum_eod.core.checks import Check
from mtum_eod.core.market import COLUMNS, VIX, DailyBars, arrays_of
from mtum_eod.core.parameters import Parameters
from mtum_eod.core.trading import Book, Fill, Mode, OrderIntent, OrderStatus, Side
from mtum_eod.errors import BrokerUnavailable, MarketDataError
from mtum_eod.jobs.desk import TradingDesk
from mtum_eod.jobs.outcome import Outcome
from mtum_eod.jobs.session import decide_step, settle_step
from mtum_eod.jobs.settle import Settlement
from mtum_eod.ports import Answer, BrokerOrder, Cash, Known, Recording, Unknown, WhatIf

SESSION = date(2024, 11, 5)
BOOK = Book(mode=Mode.PAPER, account="DU1", symbol="MTUM", is_synthetic=False, capital_usd=5000.0)
KEY = "mtum-eod/paper/DU1/MTUM"


@cache
def calendar() -> ExchangeCalendar:
    """The exchange's calendar, built once for all tests."""
    return ExchangeCalendar(date(2025, 1, 2))


@cache
def empty_book() -> bytes:
    """A database in which nothing is written yet: copying one costs a tenth of what migrating costs."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "book.db"
        open_store(path).close()
        return path.read_bytes()


class FakeClock(SessionClock):
    """A clock that stands where it was set, and remembers how long it was slept on."""

    def __init__(self, instant: datetime) -> None:
        super().__init__(instant)
        self.slept: list[timedelta] = []

    def sleep(self, duration: timedelta) -> None:
        super().sleep(duration)
        self.slept.append(duration)


def zigzag(sessions: int) -> list[float]:
    """Closes that gain 1.00 and lose 0.80 in turn, from 100 USD on: above their mean, with an RSI near 55."""
    return [round(100 + 0.2 * (n // 2) + (1.0 if n % 2 else 0.0), 2) for n in range(sessions)]


class ArrayData:
    """A MarketData of bars written down by a test, one frame a symbol; `edit` changes one number."""

    name = "arrays"
    is_synthetic = False

    def __init__(self, last: date = date(2024, 12, 31), sessions: int = 500) -> None:
        days = pd.DatetimeIndex(calendar().window(last, sessions), name="session").as_unit("ns")
        close = np.array(zigzag(sessions))
        columns = {"open": close, "high": close + 1, "low": close - 1, "close": close, "volume": 1e6}
        self.frames = {
            "MTUM": pd.DataFrame(columns, index=days, dtype="float64"),
            VIX: pd.DataFrame(dict.fromkeys(COLUMNS[:4], 15.0) | {"volume": nan}, index=days),
        }
        self.ages: dict[str, timedelta] = {}  # how old a symbol's last price is
        self.down: set[str] = set()  # symbols whose source cannot be read
        self.volumes: dict[date, float] = {}  # up to the same time of day

    def edit(self, symbol: str, session: date, **numbers: float) -> None:
        """Set numbers of one bar; a close takes high and low with it, one USD away."""
        if "close" in numbers:
            numbers = {"high": numbers["close"] + 1, "low": numbers["close"] - 1, "open": numbers["close"]} | numbers
        for column, number in numbers.items():
            self.frames[symbol].loc[pd.Timestamp(session), column] = number

    def drop(self, symbol: str, session: date) -> None:
        """Leave a session's bar out."""
        self.frames[symbol] = self.frames[symbol].drop(pd.Timestamp(session))

    def begin(self, symbol: str, first: date) -> None:
        """Leave out every bar before `first`."""
        self.frames[symbol] = self.frames[symbol].loc[pd.Timestamp(first) :]

    def daily(self, symbol: str, first: date, last: date, as_of: datetime) -> DailyBars:
        if symbol in self.down:
            raise MarketDataError(f"{symbol}: no answer", hint="wait")
        bars = daily_bars(calendar(), symbol, *arrays_of(self.frames[symbol]), first, last, as_of, self.name)
        return replace(bars, as_of=as_of - self.ages.get(symbol, timedelta(0)))

    def volume_until(self, symbol: str, cuts: Mapping[date, datetime], as_of: datetime) -> dict[date, float]:  # noqa: ARG002
        return {day: self.volumes[day] for day in cuts if day in self.volumes}

    def know_volumes(self, session: date, today: float, before: float) -> None:
        """Volumes up to the same time of day: `today` at `session`, `before` at each of the 19 sessions before it."""
        self.volumes = dict.fromkeys(calendar().window(session, 20), before) | {session: today}


class Killed(BaseException):
    """The process ends here."""


class ScriptedBroker:
    """A Broker that does as it is told. What is set here is how it behaves from then on.

    on_submit: `accept`; `reject`; `lose` (the connection drops before the order arrives); `drop` (the order arrives,
    the connection drops before the answer does); `fall silent` (as `drop`, and executions cannot be read from then on);
    `die` before the order leaves, `send and die` behind it.
    Each of `silent` is a read that answers Unknown.
    """

    account = BOOK.account
    reread_pause = timedelta(seconds=5)
    retries = 0

    def __init__(self, shares: float = 0.0, usd: float = 5000.0) -> None:
        self.on_submit = "accept"
        self.on_cancel = "withdraw"  # or `refuse`
        self.silent: set[str] = set()
        self.shares = shares
        self.usd = usd
        self.received: list[OrderIntent] = []  # every order that came over the wire
        self.at_broker: dict[str, BrokerOrder] = {}
        self.executed: list[Fill] = []
        self.forgets = False  # orders no longer stand in any list
        self.looks = 0
        self.behind_us = timedelta(0)  # what its clock says is so much earlier than what ours says
        self.deadline: datetime | None = None
        self.checks: tuple[Check, ...] = ()
        self.thinks: Answer[WhatIf] = Known(WhatIf(is_accepted=True, words="fine"))
        self.on_look: dict[int, float] = {}  # at that look the position becomes this

    def finish_by(self, deadline: datetime) -> None:
        self.deadline = deadline

    def clock_ahead(self) -> Answer[timedelta]:
        return Unknown("no answer") if "clock" in self.silent else Known(self.behind_us)

    def inspect(self, session: date) -> tuple[Check, ...]:  # noqa: ARG002
        return self.checks

    contract = inspect

    def what_if(self, intent: OrderIntent) -> Answer[WhatIf]:  # noqa: ARG002
        return self.thinks

    def next_order_id(self) -> int:
        if "order_id" in self.silent:
            raise BrokerUnavailable("no order id came", hint="look at the Gateway")
        return len(self.received) + 1

    def submit(self, intent: OrderIntent) -> BrokerOrder:
        if self.on_submit == "lose":
            raise BrokerUnavailable("the connection dropped", hint="look at the Gateway")
        if self.on_submit == "die":
            raise Killed
        self.received.append(intent)
        rejected = self.on_submit == "reject"
        order = BrokerOrder(
            reference=intent.reference,
            order_id=intent.order_id,
            perm_id=900 + intent.order_id,
            status=OrderStatus.REJECTED if rejected else OrderStatus.WORKING,
            filled_shares=0,
            words="no trading permission" if rejected else "",
            shares=intent.shares,
            order_type=intent.order_type,
        )
        self.at_broker[intent.reference] = order
        if self.on_submit == "fall silent":
            self.silent.add("executions")
        if self.on_submit in ("drop", "fall silent"):
            raise BrokerUnavailable("the connection dropped", hint="look at the Gateway")
        if self.on_submit == "send and die":
            raise Killed
        return order

    def cancel(self, reference: str) -> Answer[BrokerOrder]:
        if "cancel" in self.silent:
            return Unknown("no answer to the cancellation")
        if self.on_cancel == "withdraw":
            self.at_broker[reference] = replace(self.at_broker[reference], status=OrderStatus.CANCELLED)
        return Known(self.at_broker[reference])

    def execute(self, reference: str, shares: int, price: float, commission: float | None, number: int = 1) -> None:
        """Print some of an order's shares; the order is filled once all of them are."""
        order, intent = self.at_broker[reference], next(i for i in self.received if i.reference == reference)
        sign = 1 if intent.side is Side.BUY else -1
        self.shares += sign * shares
        self.executed.append(
            Fill(
                execution_id=f"{reference}.{number}",
                reference=reference,
                session=intent.session,
                executed_at=calendar().close(intent.session),
                side=intent.side,
                shares=shares,
                price_usd=price,
                commission_usd=commission,
            )
        )
        filled = order.filled_shares + shares
        status = OrderStatus.FILLED if filled == intent.shares else OrderStatus.WORKING
        self.at_broker[reference] = replace(order, filled_shares=filled, status=status)

    def report_commission(self, number: int, commission: float) -> None:
        """A commission that comes after its execution."""
        self.executed[number] = replace(self.executed[number], commission_usd=commission)

    def end(self, reference: str, status: OrderStatus) -> None:
        """The broker's last word on an order."""
        self.at_broker[reference] = replace(self.at_broker[reference], status=status)

    def orders(self) -> Answer[list[BrokerOrder]]:
        self.looks += 1
        if "orders" in self.silent:
            return Unknown("the list of orders never ended")
        return Known([] if self.forgets else list(self.at_broker.values()))

    def executions(self) -> Answer[list[Fill]]:
        if "executions" in self.silent:
            return Unknown("the list of executions never ended")
        return Known(list(self.executed))

    def shares_held(self, symbol: str) -> Answer[float]:  # noqa: ARG002
        if "shares_held" in self.silent:
            return Unknown("the list of positions never ended")
        self.shares = self.on_look.get(self.looks, self.shares)
        return Known(self.shares)

    def cash(self) -> Answer[Cash]:
        if "cash" in self.silent:
            return Unknown("the account's values never ended")
        return Known(Cash(spendable_usd=self.usd, settled_usd=self.usd))


def entry_data(session: date = SESSION) -> ArrayData:
    """Bars on which all four entry rules hold at `session`."""
    data = ArrayData()
    data.edit("MTUM", session, close=float(data.frames["MTUM"].loc[pd.Timestamp(session), "close"]) + 1.0)
    data.know_volumes(session, today=900_000.0, before=800_000.0)
    return data


@dataclass
class Bench:
    """A desk of fakes around a real store, and the words to work it with."""

    path: Path
    data: ArrayData = field(default_factory=entry_data)
    broker: ScriptedBroker = field(default_factory=ScriptedBroker)
    parameters: Parameters = field(default_factory=Parameters)
    clock: FakeClock = field(default_factory=lambda: FakeClock(datetime(2024, 11, 5, tzinfo=UTC)))

    def __post_init__(self) -> None:
        if not self.path.exists():
            self.path.write_bytes(empty_book())
        self.store: SqlStore = open_store(self.path)

    @property
    def desk(self) -> TradingDesk:
        notifier = OwnerNotices(store=self.store, clock=self.clock)
        return TradingDesk(
            calendar=calendar(),
            clock=self.clock,
            wall_clock=self.clock,
            prices=self.data,
            vix=self.data,
            broker=self.broker,
            store=self.store,
            notifier=notifier,
            book=BOOK,
            parameters=self.parameters,
        )

    def at(self, session: date, before_close: float) -> None:
        """Set the clock to so many minutes before the session's close."""
        self.clock.set(calendar().close(session) - timedelta(minutes=before_close))

    def decide(self, session: date = SESSION, before_close: float = 20) -> Outcome:
        """Run the decide step so many minutes before the close."""
        self.at(session, before_close)
        return decide_step(self.desk, session)

    def settle(self, session: date = SESSION, after_close: float = 20) -> Settlement:
        """Run the settle step so many minutes after the close."""
        self.at(session, -after_close)
        return settle_step(self.desk, session)

    def once_recorded(self, happens: Callable[[], object]) -> None:
        """Let something happen between the record of a decision and the wire."""
        record = self.store.record

        def record_first(recording: Recording) -> None:
            record(recording)
            happens()

        self.store.record = record_first  # type: ignore[method-assign]

    @contextmanager
    def killed(self, where: Literal["before the wire", "behind the wire"]) -> Iterator[None]:
        """The run inside ends as by a power cut, its intent committed: before its order leaves, or once it has it."""
        self.broker.on_submit = "die" if where == "before the wire" else "send and die"
        with suppress(Killed):
            yield
            raise AssertionError("no order was sent")
        self.broker.on_submit = "accept"

    def give_up(self, *, arrives: bool) -> None:
        """Neither try at SESSION's order was acknowledged, and no list had it; arrives: then the broker has it."""
        self.broker.on_submit = "lose"
        self.decide()
        self.broker.on_submit = "accept"
        order = self.store.order(SESSION)
        assert order
        if arrives:
            self.broker.submit(order.intent)

    def buy(self, session: date, price: float | None = None, commission: float = 1.0) -> int:
        """Decide and fill an entry at `session`, by the rules; returns the shares."""
        outcome = self.decide(session)
        assert "BUY" == outcome.document["action"], outcome.document["reason"]
        shares = int(outcome.document["order"]["shares"])
        close = float(self.data.frames["MTUM"].loc[pd.Timestamp(session), "close"])
        self.broker.execute(f"{KEY}/{session}/BUY", shares, price or close, commission)
        self.settle(session)
        return shares

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """What the database says, past all code under test."""
        db = sqlite3.connect(self.path)
        try:
            return db.execute(statement).fetchall()
        finally:
            db.close()

    def notices(self, *events: str) -> list[tuple[str, int]]:
        """The owner's messages of these events: words and urgency."""
        return [
            (words, urgent)
            for event, words, urgent in self.sql("SELECT event, words, is_urgent FROM notice ORDER BY id")
            if event in events
        ]
