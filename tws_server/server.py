"""The server itself: it listens on loopback in a thread of its own and serves each client as a terminal would."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from datetime import datetime
from functools import cache
from typing import Literal, TypeVar

import pandas as pd

from mtum_eod.adapters.calendar import ExchangeCalendar
from mtum_eod.adapters.sample import DEFAULT_SEED, SampleData
from mtum_eod.ports import MarketData
from tws_server import answers
from tws_server.clock import Clock
from tws_server.exchange import Exchange
from tws_server.faults import CODES, Faults
from tws_server.market import NEW_YORK, Arrays, Market
from tws_server.messages import Reply, Request
from tws_server.session import Session
from tws_server.world import Account, Execution, Order, Position

T = TypeVar("T")
When = Literal["before", "after"]
Hook = Callable[[Request | Reply], object]

AT = datetime(2024, 11, 5, 15, 40, tzinfo=NEW_YORK)
"""Where the clock stands unless a test says otherwise: twenty minutes before the close of the README's session."""

_calendar = cache(ExchangeCalendar)  # building one takes longer than all else a server does before it listens


class Server:
    """A terminal for tests; `tws_server` tells how it is used. Everything here may be called from any thread."""

    def __init__(
        self,
        source: MarketData | Mapping[str, pd.DataFrame] | None = None,
        *,
        at: datetime = AT,
        account: str | Account = "DU1234567",
        version: int = 176,
        port: int = 0,
        ticks: bool = False,
        seed: int = DEFAULT_SEED,
    ) -> None:
        calendar = _calendar(at.astimezone(NEW_YORK).date())
        if source is None:
            source = SampleData(calendar, seed)
        elif isinstance(source, Mapping):
            source = Arrays(calendar, source)
        self.version = version
        self.port = port
        self.calendar = calendar
        self.clock = Clock(at, ticks=ticks, moved=self._move)
        self.market = Market(source, calendar, seed)
        self.account = Account(id=account) if isinstance(account, str) else account
        self.exchange = Exchange(self.market, self.account, self._hear)
        self.managed_accounts = [self.account.id]
        self.faults = Faults()
        self.received: list[Request] = []
        self.sessions: list[Session] = []
        self._hooks: dict[tuple[str, When], list[Hook]] = defaultdict(list)
        self._heard: dict[int, list[Reply]] = defaultdict(list)  # by client id, not sent yet
        self._traded: list[str] = []  # symbols whose position has moved, not told yet
        self._lived_until = self.clock.now()  # what fell due by then has happened
        self._arrival = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tws", daemon=True)
        self._listening: asyncio.Server | None = None
        self._broken: list[Exception] = []  # the server's own defects; a test hears of them when it leaves

    # -- what a test looks at ---------------------------------------------------------------------------------------

    @property
    def orders(self) -> list[Order]:
        """All orders ever taken, rejected ones included, oldest first."""
        return self.exchange.orders

    @property
    def executions(self) -> list[Execution]:
        """All prints, oldest first; corrections stand beside what they correct."""
        return self.exchange.executions

    @property
    def positions(self) -> dict[str, Position]:
        """What is held, by symbol."""
        return self.exchange.positions

    def asked(self, *names: str) -> list[Request]:
        """The requests of these names, in the order they came."""
        return [request for request in list(self.received) if request.name in names]

    def wait_for(self, name: str, count: int = 1, timeout: float = 10.0) -> Request:
        """The `count`-th request of that name, once it is there. Raises TimeoutError."""
        with self._arrival:
            if not self._arrival.wait_for(lambda: len(self.asked(name)) >= count, timeout):
                raise TimeoutError(f"{len(self.asked(name))} x {name} in {timeout} s, {count} expected")
        return self.asked(name)[count - 1]

    # -- what a test does -------------------------------------------------------------------------------------------

    def __enter__(self) -> Server:
        self._thread.start()
        try:
            self.accept()
        except OSError:  # the port is somebody else's
            self.__exit__()
            raise
        if self.clock.ticks:
            self._call(lambda: self.start(self._tick()))
        return self

    def __exit__(self, *_: object) -> None:
        self._wait(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        if self._broken:
            raise self._broken[0]

    def on(self, name: str, hook: Hook, when: When = "before") -> None:
        """Call `hook` with each message of that name; the client's conversation stands still until it returns.

        A request: before anything is done, or after it was done and before anything is answered. A reply: before it
        is sent, or after its bytes have left. Hooks run in a thread of their own, so they may wait.
        """
        self._hooks[name, when].append(hook)

    def hold(self, symbol: str, shares: float, cost: float) -> None:
        """Own so many shares at that average cost."""
        contract = next(contract for contract in self.exchange.contracts if contract.symbol == symbol)
        self._act(lambda: self.positions.__setitem__(symbol, Position(contract, shares, cost)))

    def fill(self, order: Order, shares: float | None = None, price: float | None = None) -> Execution:
        """Execute an order, or so many shares of it, now; at the last price unless another is given."""
        now = self.clock.now()
        traded = price if price is not None else self.market.last(order.contract.symbol, now)
        if traded is None:
            raise ValueError(f"{order.contract.symbol} has no price at {now}")
        return self._act(lambda: self.exchange.fill(order, shares or order.remaining, traded, now))

    def trade_by_hand(self, action: str, symbol: str, shares: float, price: float) -> Execution:
        """Trade in the terminal's own window: client and order id are 0, and there is no reference."""
        return self._act(lambda: self.exchange.trade_by_hand(action, symbol, shares, price, self.clock.now()))

    def correct(self, execution: Execution, price: float) -> Execution:
        """Send a print again, at another price, under the next correction number."""
        return self._act(lambda: self.exchange.correct(execution, price))

    def reject(self, order: Order, words: str = CODES[201]) -> None:
        """Let the exchange refuse a working order: 201 and Inactive."""
        self._act(lambda: self.exchange.end(order, "Inactive", self.clock.now(), words))

    def cancel(self, order: Order, words: str = "Order Canceled - reason:Cancelled by System") -> None:
        """Let the system cancel a working order."""
        self._act(lambda: self.exchange.end(order, "Cancelled", self.clock.now(), words))

    def suspend(self, order: Order) -> None:
        """Show a working order as Inactive, which is no proof that it is dead."""
        order.status = "Inactive"
        self._act(lambda: self._hear("status", order, None))

    def say(self, code: int, words: str | None = None, request_id: int = -1) -> None:
        """Tell every client something, such as 1100, in IB's own words unless others are given."""
        self._call(lambda: self._broadcast(answers.error(request_id, code, words or CODES[code])))

    def disconnect(self) -> None:
        """Close every connection."""
        self._call(self._drop_all)

    def refuse(self) -> None:
        """Close every connection and take no new one."""
        self._call(self._close)

    def accept(self) -> None:
        """Take connections, on the same port as before."""
        self._wait(self._listen())

    def restart(self, *, first_id: int | None = None) -> None:
        """Go away and come back; with `first_id` the order ids are issued again from there."""
        self.refuse()
        if first_id is not None:
            self.exchange.reissue_ids(first_id)
        self.accept()

    # -- for the sessions -------------------------------------------------------------------------------------------

    def start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Do this beside everything else; a defect in it is kept for the test to hear of."""
        return self._loop.create_task(self._watched(work))

    def note(self, request: Request) -> None:
        """Remember a request."""
        with self._arrival:
            self.received.append(request)
            self._arrival.notify_all()

    async def tell_hooks(self, message: Request | Reply, when: When) -> None:
        """Call the hooks of a message, away from the loop: other clients are served meanwhile."""
        for hook in self._hooks.get((message.name, when), ()):
            await asyncio.to_thread(hook, message)

    def has_hooks(self, name: str) -> bool:
        """Whether somebody waits for messages of that name."""
        return (name, "before") in self._hooks or (name, "after") in self._hooks

    def heard(self, client_id: int) -> list[Reply]:
        """What has happened to a client's orders and was not sent yet; it is the caller's to send now."""
        return self._heard.pop(client_id, [])

    def send_heard(self) -> None:
        """Send every client what has happened to its orders, and then to the account."""
        for session in list(self.sessions):
            session.post(self.heard(session.client_id))
        self._heard.clear()  # nobody is there to hear it
        traded, self._traded = self._traded, []
        for session in list(self.sessions):
            session.post([news for symbol in traded for news in session.account_news(symbol)])

    # -- inside -----------------------------------------------------------------------------------------------------

    def _hear(self, what: str, order: Order, execution: Execution | None) -> None:
        """Put what happened to an order in the terminal's messages, in its own order."""
        state = [answers.open_order(order), answers.order_status(order)]
        rules, replies = self.exchange.rules, self._heard[order.client_id]
        if what == "held":
            opens = f"{self.calendar.open(order.session).astimezone(NEW_YORK):%Y-%m-%d %H:%M:%S}"
            words = (
                f"Order Message:\n{order.action} {order.quantity:g} {order.contract.symbol}"
                f" {order.contract.primary_exchange}\nWarning: your order will not be placed at the exchange until"
                f" {opens} {rules.zone}"
            )
            replies.append(answers.error(order.order_id, 399, words))
        elif what == "filled" and execution is not None:
            details = answers.execution_details(-1, execution, rules)
            replies += [*state, details] if rules.status_before_execution else [details, *state]
            if rules.sends_commissions:
                replies.append(answers.commission_report(execution))
            self._traded.append(order.contract.symbol)
        elif what == "rejected":
            replies += [answers.error(order.order_id, 201, order.why), *state]
        elif what == "cancelled":
            words = order.why or CODES[202]
            replies += [answers.order_status(order), answers.error(order.order_id, 202, words)]
        else:
            replies += state

    def _broadcast(self, reply: Reply) -> None:
        for session in [session for session in self.sessions if session.is_started]:
            session.post([reply])

    def _act(self, action: Callable[[], T]) -> T:
        """Do something to the books and let the clients hear of it."""

        def act() -> T:
            done = action()
            self.send_heard()
            return done

        return self._call(act)

    def _move(self, instant: datetime) -> None:
        """Move the clock, stopping at each open and close on the way."""

        def move() -> None:
            for moment in self.exchange.due(self._lived_until, instant):
                self.clock.stand(moment)
                self.exchange.pass_by(moment)
            self.clock.stand(instant)
            self._live(instant)

        self._call(move)

    async def _tick(self) -> None:
        """Let happen what falls due while the clock ticks by itself."""
        while True:
            await asyncio.sleep(1)
            now = self.clock.now()
            for moment in self.exchange.due(self._lived_until, now):
                self.exchange.pass_by(moment)
            self._live(now)

    def _live(self, until: datetime) -> None:
        self._lived_until = until
        self.send_heard()
        for session in list(self.sessions):
            session.post(session.market_news())

    def _call(self, action: Callable[[], T]) -> T:
        """Run in the server's own thread, and wait for it."""
        if threading.current_thread() is self._thread:
            return action()
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(action())
            except BaseException as error:  # it is the caller's
                done.set_exception(error)

        self._loop.call_soon_threadsafe(run)
        return done.result()

    def _wait(self, work: Coroutine[None, None, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _listen(self) -> None:
        if self._listening is None:
            self._listening = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
            self.port = self._listening.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        self._close()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = Session(self, reader, writer)
        with contextlib.suppress(asyncio.CancelledError):
            await self._watched(session.run())
        session.close()

    async def _watched(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the other side has gone
        except Exception as broken:
            self._broken.append(broken)

    def _drop_all(self) -> None:
        for session in list(self.sessions):
            session.close()

    def _close(self) -> None:
        if self._listening is not None:
            for listener in self._listening.sockets:
                with contextlib.suppress(OSError):
                    listener.shutdown(socket.SHUT_RDWR)  # as in Session.close
            self._listening.close()
            self._listening = None
        self._drop_all()
