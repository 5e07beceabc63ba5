"""Orders, executions, positions and cash at Interactive Brokers, in our words.

The library's picture of an order is never the answer: it calls an order cancelled after most errors, also where the
order lives on. What counts is what the broker's lists say to their end mark, and the statuses it sends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from math import isnan, nan
from typing import Any, TypeVar

from mtum_eod.adapters.calendar import NEW_YORK
from mtum_eod.adapters.ib import codes
from mtum_eod.adapters.ib.inspection import Inspection, Needs
from mtum_eod.adapters.ib.line import OURS, Line, Refusal, Said, Status, Talk
from mtum_eod.core.checks import Check
from mtum_eod.core.trading import Fill, OrderIntent, OrderStatus, OrderType, Side
from mtum_eod.core.words import SET_CLOCK, clock_off
from mtum_eod.errors import BrokerUnavailable
from mtum_eod.ports import Answer, BrokerOrder, Calendar, Cash, Known, Unknown, WhatIf

T = TypeVar("T")

SIDES = {"BOT": Side.BUY, "SLD": Side.SELL}

LARGEST = 1e12
"""No number of shares or dollars is larger; the library writes 1.8e308 for one that is not set."""

ACCEPTED = ("PreSubmitted", "Submitted", "Filled")
ENDED = ("Cancelled", "ApiCancelled", "Inactive")

LAST_WORDS_SECONDS = 2.0
"""How long an acknowledged order may keep us for what the broker has to say beside it."""

MAX_CLOCK_ERROR = timedelta(minutes=1)
"""What this computer's time may be wrong by when an order is made; smaller errors are told by the preflight."""

WITHDRAWN_SECONDS = 5.0
"""How long to look whether an order is gone that was withdrawn from beside the connection that sent it."""

COMMISSION_SECONDS = 1.0
"""How long to wait for commissions that come behind their executions; later ones are booked by a later run."""


class _Doubt(Exception):
    """What the broker said of an order leaves open what became of it."""

    def __init__(self, words: str, said: Said | None = None) -> None:
        super().__init__(words)
        self.said = said


class IbBroker:
    """A Broker on one connection. `order_id`s and `perm_id`s are IB's own; a reference is its orderRef."""

    reread_pause = timedelta(seconds=5)

    def __init__(self, line: Line, *, symbol: str, primary_exchange: str, calendar: Calendar, needs: Needs) -> None:
        self._line = line
        self._symbol = symbol
        self._primary_exchange = primary_exchange
        self._calendar = calendar
        self._needs = needs

    @property
    def account(self) -> str:
        """The account connected to. Raises BrokerUnavailable, SettingsError."""
        return self._line.account

    @property
    def retries(self) -> int:
        """How often a connection or a read was repeated."""
        return self._line.retries

    def finish_by(self, deadline: datetime) -> None:
        self._line.finish_by(deadline)

    # -- reading ----------------------------------------------------------------------------------------------------

    def inspect(self, session: date) -> Sequence[Check]:
        return self._inspection.checks(session, self.cash)

    def contract(self, session: date) -> Sequence[Check]:
        return list(self._inspection.contract(session))

    def orders(self) -> Answer[list[BrokerOrder]]:
        """As the port says, the working ones first. One that ends between the two lists is in the second."""
        working = self._answer("open orders", self._read_open)
        if isinstance(working, Unknown):
            return working
        done = self._answer("completed orders", self._read_completed)
        if isinstance(done, Unknown):
            return done
        return Known(sorted((working.value | done.value).values(), key=lambda order: not order.status.is_open))

    def executions(self) -> Answer[list[Fill]]:
        return self._answer("executions", self._read_executions)

    def shares_held(self, symbol: str) -> Answer[float]:
        async def read(talk: Talk) -> float:
            # rows can come twice; the last word on a contract counts
            rows = [row for row in await talk.ib.reqPositionsAsync() if _is_of(row, talk.account, symbol)]
            return sum({row.contract.conId: _measured(row.position) for row in rows}.values(), 0.0)

        return self._answer("positions", read)

    def cash(self) -> Answer[Cash]:
        answer = self._answer("cash", self._read_account)
        return answer if isinstance(answer, Unknown) else _cash(answer.value)

    def clock_ahead(self) -> Answer[timedelta]:
        told = self._answer("its clock", lambda talk: talk.ib.reqCurrentTimeAsync())
        return told if isinstance(told, Unknown) else Known(self._needs.clock.now() - told.value)

    def what_if(self, intent: OrderIntent) -> Answer[WhatIf]:
        async def ask(talk: Talk) -> str:
            state = await talk.ib.whatIfOrderAsync(self._contract(), _order(intent, talk.account))
            margin, commission = _told("margin", state.initMarginChange), _told("commission", state.commission)
            return "; ".join(filter(None, (margin, f"{commission} {state.commissionCurrency}", state.warningText)))

        try:
            return Known(WhatIf(is_accepted=True, words=self._line.ask_once("a what-if order", ask)))
        except BrokerUnavailable as error:
            return Unknown(error.message)
        except Refusal as refusal:
            return Known(WhatIf(is_accepted=False, words=_refused_words(refusal.said)))

    # -- sending ----------------------------------------------------------------------------------------------------

    def next_order_id(self) -> int:
        """As the port says; BrokerUnavailable also where the clocks differ too much to trust any hard stop."""
        self._refuse_wrong_time()
        self._refuse_broken_link()
        return self._line.connected().next_id

    def _refuse_broken_link(self) -> None:
        said = self._line.connected().has_said(*codes.LINK_LOST, *codes.LINK_BACK)
        if said and said.code in codes.LINK_LOST:
            raise BrokerUnavailable(
                f"no order may leave: {said.words}", hint="the Gateway restores its link by itself; then run again"
            )

    def _refuse_wrong_time(self) -> None:
        ahead = self.clock_ahead()
        if isinstance(ahead, Unknown):
            raise BrokerUnavailable(f"IB does not tell its time: {ahead.why}", hint="look at the Gateway")
        if abs(ahead.value) > MAX_CLOCK_ERROR:
            raise BrokerUnavailable(
                f"{clock_off(ahead.value)}: by it an order could leave after its hard stop",
                hint=f"{SET_CLOCK}, then run again",
            )

    def submit(self, intent: OrderIntent) -> BrokerOrder:
        if self._line.is_down:  # connecting takes time that an order may not have: whoever sends it looks at the clock
            raise BrokerUnavailable(
                f"the connection to IB was lost before order {intent.reference} left",
                hint="the next run asks the broker first; `mtum-eod status` shows the order",
            )
        self._refuse_broken_link()
        try:
            return self._line.ask_once(f"order {intent.reference}", lambda talk: self._place(talk, intent))
        except _Doubt as doubt:
            self._line.drop()
            return self._after_doubt(intent, doubt)
        except Refusal as refusal:  # without the order's id, but nothing else was asked
            self._line.drop()
            return self._after_doubt(intent, _Doubt(refusal.said.words, refusal.said))

    def cancel(self, reference: str) -> Answer[BrokerOrder]:
        answer = self._answer(f"cancelling {reference}", lambda talk: self._cancel(talk, reference), once=True)
        if isinstance(answer, Unknown):
            return answer
        self._line.drop()
        orders = self.orders()
        if isinstance(orders, Unknown):
            return orders
        found = next((order for order in orders.value if order.reference == reference), None)
        if found is None:
            return Unknown(f"IB has no order {reference}; {answer.value}")
        return Known(replace(found, words="; ".join(filter(None, (found.words, answer.value)))))

    # -- inside: reading --------------------------------------------------------------------------------------------

    @property
    def _inspection(self) -> Inspection:
        return Inspection(self._line, self._symbol, self._primary_exchange, self._calendar, self._needs)

    def _answer(self, what: str, question: Callable[[Talk], Awaitable[T]], *, once: bool = False) -> Answer[T]:
        ask = self._line.ask_once if once else self._line.ask
        try:
            return Known(ask(what, question))
        except BrokerUnavailable as error:
            return Unknown(error.message)
        except Refusal as refusal:
            return Unknown(f"{what}: {refusal}")

    async def _read_open(self, talk: Talk) -> dict[int, BrokerOrder]:
        """The working orders that may be ours, by permanent id."""
        trades = _perhaps_ours(await talk.ib.reqAllOpenOrdersAsync(), talk.account, self._symbol)
        return {t.order.permId: _open_order(t) for t in trades}

    async def _read_completed(self, talk: Talk) -> dict[int, BrokerOrder]:
        """The finished orders that may be ours, by permanent id, each with the words on how it ended."""
        trades = _perhaps_ours(await talk.ib.reqCompletedOrdersAsync(False), talk.account, self._symbol)
        return {t.order.permId: _completed_order(t, talk.ends.get(t.order.permId, "")) for t in trades}

    async def _read_executions(self, talk: Talk) -> list[Fill]:
        from mtum_eod.adapters.ib.library import ExecutionFilter

        rows = await talk.ib.reqExecutionsAsync(ExecutionFilter(acctCode=talk.account))
        if any(not hasattr(row, "execution") for row in rows):  # the library files answers by their number alone
            raise ValueError("the answer has rows that are no executions")
        ids = [row.execution.execId for row in rows if row.execution.orderRef.startswith(OURS)]
        known = {fill.execution.execId: fill for fill in talk.ib.fills()}  # there a commission is filled in
        with suppress(TimeoutError):
            async with talk.spare_time(COMMISSION_SECONDS):
                while not all(known[execution].commissionReport.execId for execution in ids):
                    await asyncio.sleep(0.02)
        newest: dict[str, Fill] = {}
        for fill in (self._fill(known[execution]) for execution in ids):
            if fill.execution_id not in newest or newest[fill.execution_id].revision < fill.revision:
                newest[fill.execution_id] = fill
        return sorted(newest.values(), key=lambda fill: fill.executed_at)

    def _fill(self, fill: Any) -> Fill:
        execution, report = fill.execution, fill.commissionReport
        print_id, _, number = execution.execId.rpartition(".")
        is_numbered = bool(print_id) and number.isdigit()
        session = date.fromisoformat(execution.orderRef.split("/")[-2])
        shares, price = round(_measured(execution.shares)), _measured(execution.price)
        if shares <= 0 or price <= 0:
            raise ValueError(f"{shares} shares at {price:g}")
        return Fill(
            execution_id=print_id if is_numbered else execution.execId,
            reference=execution.orderRef,
            session=session,
            executed_at=self._executed_at(execution.time, session),
            side=SIDES[execution.side],
            shares=shares,
            price_usd=price,
            commission_usd=_measured(report.commission) if report.execId else None,
            revision=int(number) if is_numbered else 0,
        )

    def _executed_at(self, told: datetime, session: date) -> datetime:
        """The execution's instant. A time IB wrote in UTC the library reads as New York's, hours too late."""
        as_utc = told.astimezone(NEW_YORK).replace(tzinfo=UTC)
        opened, closed = self._calendar.open(session), self._calendar.close(session)
        late = closed + timedelta(minutes=30)
        return as_utc if told > late and opened <= as_utc <= late else told.astimezone(UTC)

    async def _read_account(self, talk: Talk) -> dict[tuple[str, str], str]:
        """The account's values by tag and currency."""
        reading = talk.ib.reqAccountSummaryAsync()
        used = talk.ib.client.getReqId() - 1
        try:
            await reading
        finally:  # it goes on sending otherwise, and only two may at a time
            talk.ib.client.cancelAccountSummary(used)
        rows = talk.ib.wrapper.acctSummary.values()
        return {(row.tag, row.currency): row.value for row in rows if row.account == talk.account}

    # -- inside: sending --------------------------------------------------------------------------------------------

    def _contract(self) -> Any:
        from mtum_eod.adapters.ib.library import contract_of

        return contract_of(self._symbol, self._primary_exchange)

    async def _place(self, talk: Talk, intent: OrderIntent) -> BrokerOrder:
        """Send the order and wait for the broker's word on it. Raises _Doubt where the word is not plain.

        Past the library's own `placeOrder`, which would keep a picture of the order before the broker said anything.
        """
        talk.next_id = max(talk.next_id, intent.order_id + 1)
        with talk.listening(intent.order_id) as heard:
            talk.ib.client.placeOrder(intent.order_id, self._contract(), _order(intent, talk.account))
            beside: list[Said] = []
            status = await _accepted(heard, beside)
            # What is said along with it comes before the answer to another question.
            with suppress(TimeoutError):
                async with talk.spare_time(LAST_WORDS_SECONDS):
                    await talk.ib.reqCurrentTimeAsync()
            while not heard.empty():
                status = _sorted(heard.get_nowait(), beside) or status
            held = next((s for s in beside if s.code == codes.HELD and codes.NOT_PLACED_UNTIL in s.text), None)
            if held:  # it would trade in another session than the one it was decided for
                talk.ib.client.cancelOrder(intent.order_id, "")
                with suppress(TimeoutError):
                    async with talk.spare_time(LAST_WORDS_SECONDS):
                        await _ended(heard)
                raise _Doubt(f"withdrawn: {held.words}")
        return BrokerOrder(
            reference=intent.reference,
            order_id=intent.order_id,
            perm_id=status.perm_id or None,
            status=OrderStatus.FILLED if status.status == "Filled" else OrderStatus.WORKING,
            filled_shares=round(_measured(status.filled)),
            words="; ".join(said.words for said in beside),
            shares=intent.shares,
            order_type=intent.order_type,
        )

    def _after_doubt(self, intent: OrderIntent, doubt: _Doubt) -> BrokerOrder:
        """What the broker's lists say of an order after an error; on a new connection, which has no memory of it."""
        answer = self.orders()
        if isinstance(answer, Unknown):
            raise BrokerUnavailable(
                f"IB said of order {intent.reference}: {doubt}; whether it lives is not known: {answer.why}",
                hint="the next run asks again; `mtum-eod status` shows the order",
            )
        found = next((order for order in answer.value if order.reference == intent.reference), None)
        is_refused = doubt.said is not None and doubt.said.code not in codes.NO_REFUSAL
        if found is not None:
            was_ended = found.status is OrderStatus.CANCELLED  # in place of being accepted
            return replace(
                found,
                status=OrderStatus.REJECTED if was_ended else found.status,
                words=str(doubt) if doubt.said else "; ".join(filter(None, (str(doubt), found.words))),
                needs_person=found.status.is_open and (is_refused or found.needs_person),
            )
        is_id_used = doubt.said is not None and doubt.said.code == codes.ID_USED  # by whom, no list tells
        if not (is_refused or is_id_used):
            raise BrokerUnavailable(
                f"IB said of order {intent.reference}: {doubt}; its lists do not have the order",
                hint="the next run asks again; `mtum-eod status` shows the order",
            )
        return BrokerOrder(
            reference=intent.reference,
            order_id=intent.order_id,
            perm_id=None,
            status=OrderStatus.REJECTED if is_refused else OrderStatus.UNKNOWN,
            filled_shares=0,
            words=str(doubt),
            shares=intent.shares,
            order_type=intent.order_type,
        )

    async def _cancel(self, talk: Talk, reference: str) -> str:
        """Ask for an order to be withdrawn; the words that the broker has for it."""
        trades = _ours(await talk.ib.reqAllOpenOrdersAsync(), talk.account)
        trade = next((trade for trade in trades if trade.order.orderRef == reference), None)
        if trade is None:
            return "it is not among the open orders"
        order_id, owner = trade.order.orderId, trade.order.clientId
        if owner != self._line.client_id:
            return await self._cancel_from_beside(talk, reference, owner)
        with talk.listening(order_id) as heard:
            talk.ib.client.cancelOrder(order_id, "")
            return await _ended(heard)

    async def _cancel_from_beside(self, talk: Talk, reference: str, owner: int) -> str:
        """Withdraw an order that another connection has sent; the words where that cannot be done.

        IB knows no such order to cancel under another client id (10147). What it does under any is to cancel all that
        is open, an owner's own orders too: done only where this one is all there is.
        """
        others = [word for word in await _open_references(talk) if word != reference]
        if others:
            return (
                f"it was sent with client id {owner}, which a run still holds; from beside only all open orders could "
                f"be cancelled at once, and there are {len(others)} others: withdraw it in TWS, or end that run"
            )
        talk.ib.client.reqGlobalCancel()
        with suppress(TimeoutError):
            async with talk.spare_time(WITHDRAWN_SECONDS):
                while reference in await _open_references(talk):
                    await asyncio.sleep(0.1)
                return "withdrawn as the only open order"
        return "IB was asked to withdraw it, and still shows it"


async def _open_references(talk: Talk) -> list[str]:
    """The reference of every open order that the login shows, whoever sent it; empty for one without."""
    trades = await talk.ib.reqAllOpenOrdersAsync()
    return [trade.order.orderRef for trade in trades if trade.orderStatus.status not in ("Filled", *ENDED[:2])]


# -- the broker's words ------------------------------------------------------------------------------------------------


def _is_of(row: Any, account: str, symbol: str) -> bool:
    """Whether a row of positions is the account's own of that US stock or fund."""
    told = (row.account, row.contract.symbol, row.contract.secType, row.contract.currency)
    return told == (account, symbol, "STK", "USD")


def _ours(trades: list[Any], account: str) -> list[Any]:
    return [t for t in trades if t.order.orderRef.startswith(OURS) and t.order.account in ("", account)]


def _perhaps_ours(trades: list[Any], account: str, symbol: str) -> list[Any]:
    """Ours, and those of the symbol without a reference: no document says that every list keeps one."""
    nameless = [
        t for t in trades if not t.order.orderRef and t.contract.symbol == symbol and t.order.account == account
    ]
    return [*_ours(trades, account), *nameless]


def _order(intent: OrderIntent, account: str) -> Any:
    from mtum_eod.adapters.ib.library import Order

    return Order(
        action=str(intent.side),
        totalQuantity=int(intent.shares),
        orderType=str(intent.order_type),
        tif="DAY",  # said outright: a preset of the terminal would set it with an error beside (10349)
        account=account,
        orderRef=intent.reference,
        outsideRth=False,
        transmit=True,
    )


async def _accepted(heard: asyncio.Queue[Said | Status], beside: list[Said]) -> Status:
    """The first status that says the broker has the order. Raises _Doubt."""
    while True:
        status = _sorted(await heard.get(), beside)
        if status is not None:
            return status


def _sorted(word: Said | Status, beside: list[Said]) -> Status | None:
    """The word where it is an acceptance; what is merely said beside goes there. Raises _Doubt for all else."""
    if isinstance(word, Said):
        if word.code not in codes.ADVICE:
            raise _Doubt(word.words, word)
        beside.append(word)
        return None
    if word.status in ENDED:
        raise _Doubt("; ".join([f"it is {word.status}", *(said.words for said in beside)]))
    return word if word.status in ACCEPTED else None


async def _ended(heard: asyncio.Queue[Said | Status]) -> str:
    """The words with which the broker ended an order, or would not."""
    while True:
        word = await heard.get()
        if isinstance(word, Said) and word.code not in codes.ADVICE:
            return word.words
        if isinstance(word, Status) and word.status in ("Filled", *ENDED):
            return ""


def _open_order(trade: Any) -> BrokerOrder:
    status, filled = trade.orderStatus.status, round(_measured(trade.orderStatus.filled))
    is_filled = status == "Filled"
    ended = status in ("Cancelled", "ApiCancelled")
    done = (OrderStatus.PARTLY_FILLED if filled else OrderStatus.CANCELLED) if ended else OrderStatus.WORKING
    is_inactive = status == "Inactive"  # held back or refused: no proof of either, its end is in the other list
    return BrokerOrder(
        reference=trade.order.orderRef,
        order_id=trade.order.orderId or None,
        perm_id=trade.order.permId or None,
        status=OrderStatus.FILLED if is_filled else done,
        filled_shares=filled,
        words="IB shows it as Inactive" if is_inactive else "",
        needs_person=is_inactive,
        shares=_ordered(trade.order),
        order_type=_type(trade.order),
    )


def _completed_order(trade: Any, words: str) -> BrokerOrder:
    """An order of the list of finished ones, which has no order id, no price, and no quantity once filled."""
    order, state = trade.order, trade.orderStatus.status
    filled = round(order.filledQuantity) if order.filledQuantity < LARGEST else 0
    status = {"Filled": OrderStatus.FILLED, "Inactive": OrderStatus.REJECTED}.get(state, OrderStatus.CANCELLED)
    return BrokerOrder(
        reference=order.orderRef,
        order_id=order.orderId or None,
        perm_id=order.permId or None,
        status=OrderStatus.PARTLY_FILLED if filled and status is not OrderStatus.FILLED else status,
        filled_shares=filled,
        words=words,
        shares=_ordered(order),
        order_type=_type(order),
    )


def _ordered(order: Any) -> int | None:
    """The shares that were ordered; the list of finished orders may have 0 there."""
    return round(order.totalQuantity) if 0 < order.totalQuantity < LARGEST else None


def _type(order: Any) -> OrderType | None:
    return OrderType(order.orderType) if order.orderType in list(OrderType) else None


def _cash(values: dict[tuple[str, str], str]) -> Answer[Cash]:
    """US dollars that may be spent and that have settled; never a total in another base currency."""
    if not any(tag == "CashBalance" for tag, _ in values):
        return Unknown("the account's summary has no balance in any currency")
    if ("CashBalance", "USD") not in values:  # a currency that the account never had has no row
        return Known(Cash(spendable_usd=0.0, settled_usd=0.0))
    try:
        balance = _measured(float(values["CashBalance", "USD"]))
        available, settled = _in_usd("AvailableFunds", values), _in_usd("SettledCash", values)
    except (ValueError, ZeroDivisionError) as error:
        return Unknown(f"the account's summary cannot be read: {error}")
    if isnan(available):
        return Unknown("the account's summary has no AvailableFunds in USD")
    return Known(Cash(spendable_usd=min(balance, available), settled_usd=min(settled, balance)))  # NaN stays NaN


def _in_usd(tag: str, values: dict[tuple[str, str], str]) -> float:
    """An amount of the summary in US dollars, NaN where it has none; its ledger has what a dollar is in base."""
    told = next(((currency, value) for (name, currency), value in values.items() if name == tag), None)
    if told is None:
        return nan
    currency, value = told[0], _measured(float(told[1]))
    return value if currency == "USD" else value / _measured(float(values.get(("ExchangeRate", "USD"), nan)))


def _measured(value: float) -> float:
    """The number, where it is one. ValueError for NaN, infinity and the library's mark of one that is not set."""
    if not abs(value) < LARGEST:
        raise ValueError(f"{value} is no amount")
    return float(value)


def _told(name: str, amount: str | float) -> str:
    """An amount in words, also where it is not set."""
    return f"{name} {value:,.2f}" if abs(value := float(amount or 0)) < LARGEST else f"{name} not told"


def _refused_words(said: Said) -> str:
    text = said.text.lower()
    if "kid" in text.split() or "key information document" in text or "priip" in text:
        return f"no key information document (KID): IB may not sell this fund to you in the EU or UK: {said.words}"
    if "permission" in text:
        return f"no trading permission: {said.words}"
    return said.words
