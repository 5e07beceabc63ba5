"""One client's connection: its handshake, its requests in turn, and what it has subscribed to."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from tws_server import answers, wire
from tws_server.answers import reply
from tws_server.exchange import Refused, local, today_only
from tws_server.faults import ADVISORY, CODES
from tws_server.market import INTRADAY_MINUTES, instant_of, span
from tws_server.messages import Reply, Request, decode, encode
from tws_server.world import Contract, Order

if TYPE_CHECKING:
    from tws_server.server import Server

T = TypeVar("T")

CHUNK = 4096
"""The official client loses what it has read so far when a read ends exactly on a multiple of this."""

_RANGE = re.compile(rb"v(\d+)\.\.(\d+)")


class Session:
    """A connection. Requests are worked on one after the other; replies leave in the order they were made."""

    def __init__(self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.client_id = -1  # none yet
        self.version = 0
        self._server = server
        self._reader = reader
        self._writer = writer
        self._outbox: asyncio.Queue[Reply] = asyncio.Queue()
        self._sender: asyncio.Task[None] | None = None
        self._is_open = True
        self._is_busy = False  # with a request: what happens meanwhile is told behind its answer
        self._waiting: list[list[Reply]] = []
        self._feed_type = 1  # as reqMarketDataType last said
        self._wants_positions = False
        self._wants_account = False
        self._quotes: dict[int, Contract] = {}
        self._unanswered: set[int] = set()

    # -- the conversation -------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Talk until one side goes."""
        self._server.sessions.append(self)
        if await self._reader.readexactly(len(wire.PREFIX)) != wire.PREFIX:
            return
        offered = _RANGE.match(await wire.read_frame(self._reader))
        if offered is None:
            return
        lowest, highest = int(offered[1]), int(offered[2])
        self.version = min(self._server.version, highest)
        if self.version < lowest:
            return
        self._sender = self._server.start(self._send_all())
        connected = f"{self._server.clock.now():%Y%m%d %H:%M:%S} Greenwich Mean Time"
        self.post([reply("serverVersion", version=self.version, connectionTime=connected)])
        while self._is_open:
            fields = wire.fields_of(await wire.read_frame(self._reader))
            await self._take(decode(self.client_id, fields))

    @property
    def is_started(self) -> bool:
        """Whether the client has said who it is."""
        return self.client_id >= 0

    def close(self) -> None:
        """Hang up."""
        self._is_open = False
        if self in self._server.sessions:
            self._server.sessions.remove(self)
        if self._sender is not None and self._sender is not asyncio.current_task():
            self._sender.cancel()
        with contextlib.suppress(OSError):
            self._writer.write_eof()  # a forked worker may hold this socket too: closing alone would not hang up
        self._writer.close()

    def post(self, replies: list[Reply]) -> None:
        """Send these, in turn, behind what is being sent already, and behind the answer being worked on."""
        if self._is_busy:
            self._waiting.append(replies)
        else:
            self._put(replies)

    def _put(self, replies: list[Reply]) -> None:
        faults = self._server.faults
        for message in faults.arranged(replies):
            if faults.met(message.name, "cut"):
                return
            self._outbox.put_nowait(message)

    async def _take(self, request: Request) -> None:
        """Work on one request and answer it, as far as the faults let that happen."""
        server, faults = self._server, self._server.faults
        server.note(request)
        await server.tell_hooks(request, "before")
        if faults.met(request.name, "drop_before"):
            self.close()
            return
        if faults.met(request.name, "lose"):
            return
        for fault in faults.met(request.name, "late"):
            self._later(fault.seconds, lambda: self._server.start(self._work(request)))
            return
        await self._work(request)

    async def _work(self, request: Request) -> None:
        server, faults = self._server, self._server.faults
        replies: list[Reply] = []
        for fault in faults.met(request.name, "error"):
            replies.append(answers.error(request.id, fault.code, fault.words or CODES[fault.code]))
            if fault.code not in ADVISORY:
                self.post(replies)
                return
        try:
            answer = list(self._answer(request))
        except Refused as refused:
            answer = [answers.error(request.id, refused.code, refused.words or CODES[refused.code])]
        answer = replies + server.heard(self.client_id) + answer
        self._is_busy = True
        await server.tell_hooks(request, "after")
        self._is_busy = False
        if faults.met(request.name, "drop_after"):
            self.close()
        elif faults.met(request.name, "hang"):
            self._unanswered.add(request.id)
        else:
            self.post(answer)
        waiting, self._waiting = self._waiting, []
        for replies in waiting:
            self.post(replies)
        server.send_heard()
        if request.name == "startApi" and not self.is_started:
            await self._writer.drain()
            self._later(0.05, self.close)  # behind the words that say why

    # -- sending ----------------------------------------------------------------------------------------------------

    async def _send_all(self) -> None:
        burst = bytearray()
        while True:
            message = await self._outbox.get()
            server, faults = self._server, self._server.faults
            hooked = server.has_hooks(message.name)
            if hooked:
                await self._write(burst)
                await server.tell_hooks(message, "before")
            if faults.met(message.name, "drop_before"):
                await self._write(burst)
                self.close()
                return
            data = wire.frame(encode(message, self.version))
            late = faults.met(message.name, "late")
            if late:
                self._later(late[0].seconds, partial(self._writer.write, data))
            elif not faults.met(message.name, "hang"):
                burst += data * (2 if faults.met(message.name, "twice") else 1)
            drops = faults.met(message.name, "drop_after")
            if hooked or drops or self._outbox.empty():
                await self._write(burst)
            if hooked:
                await server.tell_hooks(message, "after")
            if drops:
                self.close()
                return

    async def _write(self, burst: bytearray) -> None:
        """Send what has gathered; never so that the official client's read could end on its bad multiple."""
        if burst and len(burst) % CHUNK == 0:
            self._writer.write(bytes(burst[:-1]))
            await self._writer.drain()
            await asyncio.sleep(0.05)
            del burst[:-1]
        self._writer.write(bytes(burst))
        burst.clear()
        await self._writer.drain()

    def _later(self, seconds: float, action: Callable[[], object]) -> None:
        def act() -> None:
            if self._is_open:
                action()

        asyncio.get_running_loop().call_later(seconds, act)

    # -- answering --------------------------------------------------------------------------------------------------

    def _answer(self, request: Request) -> Iterator[Reply]:
        """The answer to a request, in the order a terminal gives it. Raises Refused."""
        handler = getattr(self, "_on_" + re.sub(r"([A-Z])", r"_\1", request.name).lower(), None)
        return iter(()) if handler is None else handler(request)

    def _on_start_api(self, request: Request) -> Iterator[Reply]:
        server, client_id = self._server, int(request.values["clientId"])
        if any(session.client_id == client_id for session in server.sessions):
            raise Refused(326)
        self.client_id = client_id
        yield reply("managedAccounts", accounts=",".join(server.managed_accounts))
        yield reply("nextValidId", orderId=server.exchange.next_id(client_id))
        for code in (2104, 2106, 2158):
            yield answers.error(-1, code, CODES[code])

    def _on_req_ids(self, request: Request) -> Iterator[Reply]:
        del request
        yield reply("nextValidId", orderId=self._server.exchange.next_id(self.client_id))

    def _on_req_managed_accts(self, request: Request) -> Iterator[Reply]:
        del request
        yield reply("managedAccounts", accounts=",".join(self._server.managed_accounts))

    def _on_req_current_time(self, request: Request) -> Iterator[Reply]:
        del request
        yield reply("currentTime", time=int(self._server.clock.now().timestamp()))

    def _on_req_contract_details(self, request: Request) -> Iterator[Reply]:
        server, request_id = self._server, request.id
        for contract in server.exchange.contract(request):
            yield answers.contract_details(request_id, contract, server.calendar, server.clock.now())
        yield reply("contractDetailsEnd", reqId=request_id)

    # orders and executions

    def _on_place_order(self, request: Request) -> Iterator[Reply]:
        exchange, now = self._server.exchange, self._server.clock.now()
        account = request.values["account"]
        if account and account not in self._server.managed_accounts:
            raise Refused(321, f"Error validating request.-'bX' : cause - Invalid account code '{account}'.")
        if request.values.get("whatIf") == "1":
            order = exchange.imagined(request, now)
            yield answers.what_if(order, exchange, exchange.price_of(order.contract, now), now)
            return
        exchange.place(request, now)

    def _on_cancel_order(self, request: Request) -> Iterator[Reply]:
        self._server.exchange.cancel(request, self._server.clock.now())
        return iter(())

    def _on_req_global_cancel(self, request: Request) -> Iterator[Reply]:
        del request
        for order in [order for order in self._server.orders if order.is_live]:
            self._server.exchange.end(order, "Cancelled", self._server.clock.now())
        return iter(())

    def _on_req_open_orders(self, request: Request) -> Iterator[Reply]:
        del request
        return self._open_orders([order for order in self._server.orders if order.client_id == self.client_id])

    def _on_req_all_open_orders(self, request: Request) -> Iterator[Reply]:
        del request
        return self._open_orders(self._server.orders)

    def _open_orders(self, orders: list[Order]) -> Iterator[Reply]:
        self._refuse_if_read_only()
        for order in [order for order in orders if order.is_live]:
            yield answers.open_order(order)
            yield answers.order_status(order)
        yield reply("openOrderEnd")

    def _on_req_completed_orders(self, request: Request) -> Iterator[Reply]:
        del request
        self._refuse_if_read_only()
        today = local(self._server.clock.now()).date()
        for order in self._server.orders if self._server.exchange.rules.shows_completed else ():
            if order.completed_at is not None and local(order.completed_at).date() == today:
                yield answers.completed_order(order, self._server.exchange.rules)
        yield reply("completedOrdersEnd")

    def _on_req_executions(self, request: Request) -> Iterator[Reply]:
        server, wanted = self._server, request.values
        rules, today = server.exchange.rules, local(server.clock.now()).date()
        for execution in today_only(server.executions, today) if rules.shows_executions else ():
            order = execution.order
            facts = {
                "clientId": str(order.client_id),
                "account": order.account,
                "symbol": order.contract.symbol,
                "secType": order.contract.sec_type,
                "side": order.action,
            }
            if all(wanted.get(key) in (None, "", "0", fact) for key, fact in facts.items()):
                yield answers.execution_details(request.id, execution, rules)
                if rules.sends_commissions:
                    yield answers.commission_report(execution)
        yield reply("execDetailsEnd", reqId=request.id)

    def _refuse_if_read_only(self) -> None:
        if self._server.exchange.rules.read_only:
            raise Refused(321)

    # the account

    def _on_req_positions(self, request: Request) -> Iterator[Reply]:
        del request
        self._wants_positions = True
        for held in self._server.positions.values():
            if held.shares:
                yield answers.position(held, self._server.account.id)
        yield reply("positionEnd")

    def _on_cancel_positions(self, request: Request) -> Iterator[Reply]:
        del request
        self._wants_positions = False
        return iter(())

    def _on_req_account_summary(self, request: Request) -> Iterator[Reply]:
        exchange, now = self._server.exchange, self._server.clock.now()
        tags = request.values["tags"].split(",")
        rows = [row for row in answers.account_rows(exchange, now) if row[0] in tags]
        for tag in tags:
            if tag.startswith("$LEDGER"):
                rows += answers.ledger_rows(exchange, now, tag.partition(":")[2] or "BASE")
        for tag, value, currency in rows:
            yield reply(
                "accountSummary",
                reqId=request.id,
                account=self._server.account.id,
                tag=tag,
                value=value,
                currency=currency,
            )
        yield reply("accountSummaryEnd", reqId=request.id)

    def _on_req_account_updates(self, request: Request) -> Iterator[Reply]:
        self._wants_account = request.values["subscribe"] == "1"
        if self._wants_account:
            yield from self._account_updates()
            yield reply("accountDownloadEnd", account=self._server.account.id)

    def _account_updates(self) -> Iterator[Reply]:
        exchange, now, account = self._server.exchange, self._server.clock.now(), self._server.account.id
        for tag, value, currency in [*answers.account_rows(exchange, now), *answers.ledger_rows(exchange, now)]:
            yield reply("updateAccountValue", tag=tag, value=value, currency=currency, account=account)
        for held in exchange.positions.values():
            yield answers.portfolio(held, account, exchange.price(held, now))
        yield reply("updateAccountTime", time=f"{local(now):%H:%M}")

    def _on_req_account_updates_multi(self, request: Request) -> Iterator[Reply]:
        exchange, now, request_id = self._server.exchange, self._server.clock.now(), request.id
        for tag, value, currency in [*answers.account_rows(exchange, now), *answers.ledger_rows(exchange, now)]:
            yield reply(
                "accountUpdateMulti",
                reqId=request_id,
                account=self._server.account.id,
                tag=tag,
                value=value,
                currency=currency,
            )
        yield reply("accountUpdateMultiEnd", reqId=request_id)

    def account_news(self, symbol: str) -> list[Reply]:
        """What a subscriber hears after a fill."""
        news = []
        if self._wants_positions:
            news.append(answers.position(self._server.positions[symbol], self._server.account.id))
        if self._wants_account:
            news += self._account_updates()
        return news

    # market data

    def _on_req_market_data_type(self, request: Request) -> Iterator[Reply]:
        self._feed_type = int(request.values["type"])
        return iter(())

    def _on_req_mkt_data(self, request: Request) -> Iterator[Reply]:
        server = self._server
        contract = server.exchange.contract(request)[0]
        rules = server.exchange.rules
        feed = rules.feeds.get(contract.symbol, "live")
        if rules.competing_session:
            raise Refused(10197)
        if feed == "none":
            raise Refused(354)
        is_delayed = feed == "delayed"
        if is_delayed and self._feed_type < 3:
            raise Refused(10089)
        if is_delayed:
            yield answers.error(request.id, 10167, CODES[10167])
        yield reply(
            "tickReqParams", reqId=request.id, minTick=contract.min_tick, bboExchange="9c0001", snapshotPermissions=3
        )
        yield reply("marketDataType", reqId=request.id, type=3 if is_delayed else 1)
        yield from self._quote(request.id, contract)
        if request.values["snapshot"] == "1":
            yield reply("tickSnapshotEnd", reqId=request.id)
        else:
            self._quotes[request.id] = contract

    def _on_cancel_mkt_data(self, request: Request) -> Iterator[Reply]:
        self._quotes.pop(request.id, None)
        return iter(())

    def _quote(self, request_id: int, contract: Contract) -> Iterator[Reply]:
        server = self._server
        now = server.clock.now()
        rules = server.exchange.rules
        is_delayed = rules.feeds.get(contract.symbol) == "delayed"
        at = now - timedelta(minutes=15) if is_delayed else now
        today = server.calendar.local_date(at)
        bars = server.market.daily(contract.symbol, today - timedelta(days=10), today, at)
        if bars:
            before = bars[-2].close if len(bars) > 1 else 0.0
            yield from answers.quote(request_id, contract, bars[-1], before, rules, is_delayed=is_delayed)

    def market_news(self) -> list[Reply]:
        """What a subscriber to quotes hears when time has passed."""
        return [tick for request_id, contract in self._quotes.items() for tick in self._quote(request_id, contract)]

    def _on_req_historical_data(self, request: Request) -> Iterator[Reply]:
        server, values = self._server, request.values
        contract, rules = server.exchange.contract(request)[0], server.exchange.rules
        prefix = "Historical Market Data Service error message:"
        if rules.competing_session:
            raise Refused(162, prefix + "Trading TWS session is connected from a different IP address")
        if rules.feeds.get(contract.symbol, "live") != "live":
            venue = contract.primary_exchange or contract.exchange
            raise Refused(162, f"{prefix}No market data permissions for {venue} {contract.sec_type}")
        no_data = f"{prefix}HMDS query returned no data: {contract.symbol}@{contract.exchange} Trades"
        end = self._checked_end(values)
        if server.calendar.local_date(end) < server.calendar.first_session:
            raise Refused(162, no_data)
        first, last = _checked(lambda: span(server.calendar, values["duration"], end))
        sessions = server.calendar.sessions(first, last)
        if values["whatToShow"] == "SCHEDULE":
            yield answers.schedule(request.id, sessions, server.calendar)
            return
        market, symbol, size = server.market, contract.symbol, values["barSize"]
        if size == "1 day":
            bars = market.daily(symbol, first, last, end)
            if bars and not rules.has_today and bars[-1].start == server.calendar.local_date(server.clock.now()):
                bars.pop()
        else:
            bars = list(market.intraday(symbol, sessions, INTRADAY_MINUTES[size], end))
        if not bars:
            raise Refused(162, no_data)
        begin = server.calendar.open(sessions[0])
        yield answers.historical_data(request.id, bars, (begin, end), rules, as_seconds=values["formatDate"] == "2")

    def _on_cancel_historical_data(self, request: Request) -> Iterator[Reply]:
        if request.id not in self._unanswered:
            raise Refused(366, f"{CODES[366]}{request.id}")
        self._unanswered.remove(request.id)
        words = "Historical Market Data Service error message:API historical data query cancelled: "
        raise Refused(162, f"{words}{request.id}")

    def _checked_end(self, values: Mapping[str, str]) -> datetime:
        """The end of a history request, everything else about it being fine. Raises Refused with 321."""
        if values["whatToShow"] not in ("TRADES", "ADJUSTED_LAST", "SCHEDULE"):
            raise Refused(321, f"Error validating request.-'bP' : cause - {values['whatToShow']} is not served here")
        if values["whatToShow"] == "ADJUSTED_LAST" and values["endDateTime"]:
            raise Refused(321, "Error validating request.-'bP' : cause - End Date not supported with adjusted last")
        if values["barSize"] not in (*INTRADAY_MINUTES, "1 day"):
            raise Refused(
                321,
                f"Error validating request.-'bP' : cause - Historical data bar size setting is invalid."
                f" Legal ones are: {', '.join(INTRADAY_MINUTES)}, 1 day",
            )
        return _checked(lambda: instant_of(values["endDateTime"], self._server.clock.now()))


def _checked(read: Callable[[], T]) -> T:
    try:
        return read()
    except ValueError as error:
        raise Refused(321, f"Error validating request.-'bP' : cause - {error}") from None
