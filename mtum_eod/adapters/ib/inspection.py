"""The links of the chain at Interactive Brokers, each looked at with a cure where it will not do. Reads only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from math import isnan
from typing import Any

from mtum_eod.adapters.calendar import NEW_YORK
from mtum_eod.adapters.ib import codes
from mtum_eod.adapters.ib.line import Line, Refusal, Said, Talk
from mtum_eod.core.checks import Check, failed
from mtum_eod.core.trading import OrderType
from mtum_eod.core.words import SET_CLOCK
from mtum_eod.errors import BrokerUnavailable, MtumEodError, SettingsError
from mtum_eod.ports import Answer, Calendar, Cash, Clock, Unknown

MAX_SKEW = timedelta(seconds=5)
"""IB's clock answers in whole seconds, so less than two say nothing."""

LIVE, DELAYED = 1, 3
"""IB's numbers for a kind of market data. Asked for delayed data, it gives live ones where it may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What the settings want of the broker."""

    order_type: OrderType
    quotes: Sequence[str]  # the symbols whose bars come from IB
    clock: Clock


@dataclass(frozen=True, slots=True)
class Inspection:
    """One look along the chain."""

    line: Line
    symbol: str
    primary_exchange: str
    calendar: Calendar
    needs: Needs

    def checks(self, session: date, cash: Callable[[], Answer[Cash]]) -> list[Check]:
        """What was found; the connection alone where there is none."""
        try:
            account = self.line.account
        except MtumEodError as error:
            return [failed("IB login", error)]
        return [
            Check(name="IB login", passed=True, words=f"account {account}, client id {self.line.client_id}"),
            *self._orders(),
            *self._clock(),
            *self.contract(session),
            *(check for symbol in self.needs.quotes for check in self._quote(symbol)),
            self._cash(cash()),
            *self._farms(),  # told unasked, so by now
        ]

    def _orders(self) -> Iterator[Check]:
        answer = self._ask("IB orders", "open orders", lambda talk: talk.ib.reqAllOpenOrdersAsync())
        if isinstance(answer, Check):
            yield answer
        else:
            yield Check(name="IB orders", passed=True, words="orders may be read; a what-if order shows the rest")

    def _clock(self) -> Iterator[Check]:
        answer = self._ask("clock", "its clock", lambda talk: talk.ib.reqCurrentTimeAsync())
        if isinstance(answer, Check):
            yield answer
            return
        skew = (self.needs.clock.now() - answer).total_seconds()
        passed = abs(skew) <= MAX_SKEW.total_seconds()
        words = f"this computer is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} IB"
        cure = "" if passed else SET_CLOCK
        yield Check(name="clock", passed=passed, words=words, cure=cure)

    def contract(self, session: date) -> Iterator[Check]:
        """What IB's details of the contract say against an order of ours, or that they did not come."""
        from mtum_eod.adapters.ib.library import contract_of

        asked = contract_of(self.symbol)  # without its exchange: a listing that has moved must be found, not missed
        found = self._ask("contract", f"contract {self.symbol}", lambda talk: talk.ib.reqContractDetailsAsync(asked))
        if isinstance(found, Check):
            yield found
            return
        if len(found) != 1:
            words = f"{len(found)} contracts fit {self.symbol} in USD, one expected"
            yield Check(name="contract", passed=False, words=words, cure=codes.cure(200), exit_code=2)
            return
        [details] = found
        yield self._listing(details.contract.primaryExchange)
        yield self._order_types(details.orderTypes.split(","))
        yield self._hours(session, details.liquidHours, details.timeZoneId)

    def _listing(self, listed: str) -> Check:
        passed = listed == self.primary_exchange
        words = f"{self.symbol} is listed at {listed}" + ("" if passed else f", {self.primary_exchange} expected")
        cure = "" if passed else f"where this is right, set ib.primary_exchange to {listed}"
        return Check(name="listing", passed=passed, words=words, cure=cure, exit_code=SettingsError.exit_code)

    def _order_types(self, offered: Sequence[str]) -> Check:
        wanted = str(self.needs.order_type)
        passed = wanted in offered
        words = f"{self.symbol} {'takes' if passed else 'does not take'} {wanted} orders"
        cure = "" if passed else "set ib.order_type to MKT, which goes out three minutes before the close"
        return Check(name="order type", passed=passed, words=words, cure=cure, exit_code=SettingsError.exit_code)

    def _hours(self, session: date, told: str, zone: str) -> Check:
        expected = self.calendar.open(session), self.calendar.close(session)
        try:
            hours = liquid_hours(told).get(session)
        except ValueError as error:
            cure = "compare the hours with the exchange's own page"
            return Check(name="hours", passed=False, words=f"IB's hours cannot be read ({error})", cure=cure)
        if hours is None:
            return Check(name="hours", passed=True, words=f"IB does not tell the hours of {session} yet")
        if zone not in NEW_YORK_NAMES:
            words = f"IB tells the hours of {self.symbol} in the zone {zone}, New York's expected"
            return Check(name="hours", passed=False, words=words, cure=codes.cure(200))
        shown = " to ".join(f"{at.astimezone(NEW_YORK):%H:%M}" for at in expected)
        if hours != expected:
            at_ib = " to ".join(f"{at.astimezone(NEW_YORK):%H:%M}" for at in hours) or "closed"
            words = f"{session}: {at_ib} at IB, {shown} in the calendar"
            cure = "look at the exchange's own page, and pip install --upgrade exchange_calendars"
            return Check(name="hours", passed=False, words=words, cure=cure)
        return Check(name="hours", passed=True, words=f"{session}: {shown} New York, as in the calendar")

    def _quote(self, symbol: str) -> Iterator[Check]:
        from mtum_eod.adapters.ib.library import contract_of

        name = f"{symbol} quotes"

        async def ask(talk: Talk) -> Any:
            # looked up first: ib_async keeps quotes by the contract's number
            [found, *_] = await talk.ib.reqContractDetailsAsync(contract_of(symbol, self.primary_exchange))
            talk.ib.reqMarketDataType(DELAYED)
            [ticker] = await talk.ib.reqTickersAsync(found.contract)
            return ticker

        ticker = self._ask(name, f"quotes of {symbol}", ask)
        if isinstance(ticker, Check):
            yield ticker
            return
        kind = "live" if ticker.marketDataType == LIVE else "delayed"
        has_price = any(not isnan(price) and price > 0 for price in (ticker.last, ticker.close))
        passed = kind == "live" and has_price
        words = f"{kind}" if has_price else f"{kind}, without a price"
        yield Check(name=name, passed=passed, words=words, cure="" if passed else codes.cure(354))

    def _cash(self, answer: Answer[Cash]) -> Check:
        if isinstance(answer, Unknown):
            return Check(name="cash", passed=False, words=answer.why, cure="try again in a minute")
        cash, passed = answer.value, answer.value.spendable_usd > 0
        settled = "not told" if isnan(cash.settled_usd) else f"{cash.settled_usd:,.2f}"
        words = f"{cash.spendable_usd:,.2f} USD, settled {settled}"
        return Check(name="cash", passed=passed, words=words, cure="" if passed else "convert money to USD at IB")

    def _farms(self) -> Iterator[Check]:
        """Links that IB told to be down and not up again since."""
        try:
            told = self.line.connected().said
        except BrokerUnavailable as error:  # it died at the last question
            yield failed("IB servers", error)
            return
        down: dict[str, Said] = {}
        for said in told:
            if said.code in codes.FARM_BROKEN:
                down[f"{codes.FARM_BROKEN[said.code]}{said.text.partition(':')[2]}"] = said
            elif said.code in codes.FARM_BROKEN.values():
                down.pop(f"{said.code}{said.text.partition(':')[2]}", None)
            elif said.code in codes.LINK_LOST:
                down["link"] = said
            elif said.code in codes.LINK_BACK:
                down.pop("link", None)
        for said in down.values():
            yield Check(name="IB servers", passed=False, words=said.words, cure="IB restores these by itself; wait")
        if not down:
            yield Check(name="IB servers", passed=True, words="the Gateway tells of no broken link")

    def _ask(self, name: str, what: str, question: Callable[[Talk], Awaitable[Any]]) -> Any:
        """The answer, or a failed check that says why there is none."""
        try:
            return self.line.ask(what, question)
        except Refusal as refusal:
            said = refusal.said
            return Check(name=name, passed=False, words=said.words, cure=codes.cure(said.code))
        except BrokerUnavailable as error:
            return failed(name, error)


NEW_YORK_NAMES = ("America/New_York", "US/Eastern", "EST", "EST5EDT")


def liquid_hours(told: str) -> dict[date, tuple[datetime, ...]]:
    """The instants of open and close by session, () for a day that is told to be closed; IB tells about a week.

    told: `20241105:0930-20241105:1600;20241109:CLOSED`, wall times in New York; older forms leave out the second date.
    """
    hours: dict[date, tuple[datetime, ...]] = {}
    for part in filter(None, told.split(";")):
        first, _, last = part.partition("-")
        day, _, opened = first.partition(":")
        session = datetime.strptime(day, "%Y%m%d").date()  # noqa: DTZ007  # a date
        if opened == "CLOSED":
            hours[session] = ()
        else:
            closed = last.rpartition(":")[2]
            walls = (datetime.strptime(f"{day}{wall}", "%Y%m%d%H%M") for wall in (opened, closed))  # noqa: DTZ007
            hours[session] = tuple(NEW_YORK.localize(wall) for wall in walls)
    return hours
