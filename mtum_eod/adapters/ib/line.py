"""One connection to IB Gateway or TWS for one job.

The jobs ask one thing after the other; the client library wants an event loop. So a line keeps ONE coroutine running
in a thread of its own, which works from any thread the job itself runs in, connects when something is
first asked, and gives every question its own time-out, cut to the step's deadline. After a doubt (silence, a lost
connection, an order whose state must be learned) the connection is dropped with all that the library remembers:
an answer that comes late can end a second question of the same kind before its own rows are there.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import inf
from typing import Any, TypeVar

import stamina

from mtum_eod.adapters.ib.codes import CLIENT_ID_IN_USE, NO_ANSWER, cure, in_words, is_notice
from mtum_eod.errors import BrokerUnavailable
from mtum_eod.ports import Clock

T = TypeVar("T")

LOG = logging.getLogger(__name__)
logging.getLogger("stamina").addHandler(logging.NullHandler())  # what is repeated, and why, is told here in words

FIRST_WAIT_SECONDS = 0.25
LONGEST_WAIT_SECONDS = 5.0
HANG_UP_SECONDS = 1.0
THREAD_SECONDS = 5.0  # looking up a host's name cannot be cut short
LOST = "the connection was lost"
SHOWN = 120
"""Characters of an unreadable message that are shown; the log has all of it."""

OURS = "mtum-eod/"
"""What every reference of ours begins with: core.trading.order_reference."""

OTHERS_ORDERS = tuple(f"Error handling fields: ['{number}'," for number in (5, 11, 101))
"""How the library names an open order, an execution or a finished order that it cannot read."""


@dataclass(frozen=True, slots=True)
class Said:
    """What the broker says by a code: an error, a warning or a notice."""

    id: int  # of the request or order it is about; -1 for none
    code: int
    text: str

    @property
    def words(self) -> str:
        """The broker's words, with its code and what that means."""
        return in_words(self.code, self.text)


@dataclass(frozen=True, slots=True)
class Status:
    """The broker's own word on an order; never what the library makes of an error."""

    status: str
    filled: float
    perm_id: int


class Refusal(Exception):
    """The broker answered a question with an error."""

    def __init__(self, said: Said) -> None:
        super().__init__(said.words)
        self.said = said


class _Silent(Exception):
    """No answer came; asking again is safe for a read."""


class _NoConnection(Exception):
    """There is no connection; trying again may help."""

    def __init__(self, words: str, hint: str) -> None:
        super().__init__(words)
        self.hint = hint


class _IdInUse(_NoConnection):
    """Another connection has the client id."""


class _Unread(logging.LoggerAdapter[logging.Logger]):
    """The library's logger for messages it cannot read: it says so there only, and lets the list end without them."""

    def __init__(self, logger: logging.Logger, tell: Callable[[str], None]) -> None:
        super().__init__(logger)
        self._tell = tell

    def exception(self, msg: object, *args: Any, **values: Any) -> None:
        super().exception(msg, *args, **values)
        error = sys.exception()
        if not (isinstance(error, KeyError) and isinstance(error.args[0], int)):  # a number it knows no message of
            self._tell(str(msg))


class Talk:
    """One connection as long as it lasts. Handlers of the library's events collect here; nothing is decided in them."""

    def __init__(self, ib: Any) -> None:
        self.ib = ib
        self.account = ""
        self.next_id = 0  # the order id that the broker expects next
        self.said: list[Said] = []
        self.ends: dict[int, str] = {}  # the words on how an order ended, by permanent id
        self.is_lost = False
        self._until = 0.0  # on the loop's clock: when the present question's time is over
        self._asked: asyncio.Future[None] | None = None  # ends early where no answer can come any more
        self._has_unread = False  # a message came meanwhile that the library could not read
        self._heard: dict[int, asyncio.Queue[Said | Status]] = {}
        ib.errorEvent += self._on_error
        ib.openOrderEvent += self._on_order
        ib.orderStatusEvent += self._on_order
        ib.client.conn.disconnected += self._on_lost
        self._pass_on = ib.wrapper.completedOrder
        ib.wrapper.completedOrder = self._on_completed  # the library itself loses those words
        ib.client.decoder.logger = _Unread(ib.client.decoder.logger, self._on_unread)

    async def answer(self, question: Callable[[], Awaitable[T]], seconds: float) -> T:
        """The answer to one question. Raises _Silent, Refusal, and OSError where there never was a connection."""
        from mtum_eod.adapters.ib.library import RequestError

        loop = asyncio.get_running_loop()
        self._until = loop.time() + seconds
        self._asked = loop.create_future()
        self._has_unread = False
        try:
            work = asyncio.ensure_future(question())
            try:
                either: tuple[asyncio.Future[Any], ...] = (work, self._asked)
                await asyncio.wait(either, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
                if work.done() and not self._has_unread:
                    return work.result()
                if self._asked.done():
                    self._asked.result()
                raise _Silent(f"no answer within {seconds:.3g} s{self._notices()}")
            finally:
                work.cancel()
                await asyncio.wait({work})
        except ConnectionError as error:
            if error.errno is not None:
                raise
            raise _Silent(LOST) from error
        except RequestError as error:
            raise Refusal(Said(error.reqId, error.code, error.message)) from error
        except (ArithmeticError, LookupError, ValueError) as error:  # not a number, no such side, a date of no form
            raise _Silent(f"what it said cannot be read ({error!r})") from error
        finally:
            if not self._asked.cancel():
                self._asked.exception()  # looked at, whichever came first
            self._asked = None

    def spare_time(self, seconds: float) -> asyncio.Timeout:
        """So long, and no longer than half of what the present question has left: for what is good to know, no more."""
        return asyncio.timeout(min(seconds, (self._until - asyncio.get_running_loop().time()) / 2))

    @contextmanager
    def listening(self, order_id: int) -> Iterator[asyncio.Queue[Said | Status]]:
        """All that is said of an order meanwhile, in its order."""
        heard = self._heard[order_id] = asyncio.Queue()
        try:
            yield heard
        finally:
            del self._heard[order_id]

    def has_said(self, *codes: int) -> Said | None:
        """The newest word with one of these codes."""
        return next((said for said in reversed(self.said) if said.code in codes), None)

    def _notices(self) -> str:
        """What the broker said of itself, as far as it explains a silence."""
        told = [said.words for said in self.said if said.id == -1 and not is_notice(said.code)]
        return f"; it said: {told[-1]}" if told else ""

    def _on_error(self, request_id: int, code: int, text: str, *_: Any) -> None:
        said = Said(request_id, code, text)
        self.said.append(said)
        if request_id in self._heard:
            self._heard[request_id].put_nowait(said)
        elif code in NO_ANSWER or code == CLIENT_ID_IN_USE:  # after which a Gateway may leave the socket open
            self._end_question(Refusal(said))

    def _on_order(self, trade: Any) -> None:
        heard = self._heard.get(trade.order.orderId)
        from_library = trade.log and trade.log[-1].errorCode  # it calls an order cancelled after most errors
        if heard is not None and not from_library and trade.order.clientId == self.ib.client.clientId:
            status = trade.orderStatus
            heard.put_nowait(Status(status.status, status.filled, status.permId or trade.order.permId))

    def _on_completed(self, contract: Any, order: Any, state: Any) -> None:
        self.ends[order.permId] = " ".join(state.completedStatus.split())
        self._pass_on(contract, order, state)

    def _on_unread(self, words: str) -> None:
        """A row less is no answer. Orders of others may be of kinds the library does not know."""
        if OURS in words or not words.startswith(OTHERS_ORDERS):
            self._has_unread = True
            self._end_question(_Silent(f"a message of it cannot be read ({words[:SHOWN]})"))

    def _on_lost(self, *_: Any) -> None:
        self.is_lost = True
        self._end_question(_Silent(LOST))

    def _end_question(self, error: Exception) -> None:
        if self._asked is not None and not self._asked.done():
            self._asked.set_exception(error)


class Line:
    """The connection of one job, made when it is first needed; `close` ends it. Made for one caller at a time.

    client_ids: tried in this order where another connection has one; `client_id` is the one that is used.
    choose_account: the account to trade out of those that the login manages; raises SettingsError where none will do.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        client_ids: Sequence[int],
        choose_account: Callable[[Sequence[str]], str],
        clock: Clock,
        request_timeout: float,
        reconnect_timeout: float,
        max_retries: int,
    ) -> None:
        self._host = host
        self._port = port
        self._client_ids = client_ids
        self.client_id = client_ids[0]
        self._choose_account = choose_account
        self._clock = clock
        self._request_timeout = request_timeout
        self._reconnect_timeout = reconnect_timeout
        self._attempts = max_retries + 1
        self._deadline: datetime | None = None
        self._talk: Talk | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop
        self._over: asyncio.Event
        self.retries = 0
        """How often a connection or a read was repeated."""

    # -- for the job's own thread -----------------------------------------------------------------------------------

    def finish_by(self, deadline: datetime) -> None:
        """From now on no wait goes beyond that instant."""
        self._deadline = deadline

    @property
    def account(self) -> str:
        """The account the line trades. Raises BrokerUnavailable, SettingsError."""
        return self.connected().account

    @property
    def is_down(self) -> bool:
        """Whether there was a connection, and it was lost since something was last asked."""
        return self._talk is not None and self._talk.is_lost

    def connected(self) -> Talk:
        """The connection, made now where there is none. Raises BrokerUnavailable, SettingsError."""
        if self._talk is not None and not self._talk.is_lost:
            return self._talk
        self.drop()
        try:
            for attempt in self._repeated(_NoConnection, timeout=self._reconnect_timeout):
                with attempt:
                    self.retries += attempt.num > 1
                    self._talk = self._run(self._connect())
        except _NoConnection as error:
            raise BrokerUnavailable(str(error), hint=error.hint) from error
        assert self._talk is not None  # noqa: S101  # the loop above ends in one or the other
        return self._talk

    def ask(self, what: str, question: Callable[[Talk], Awaitable[T]]) -> T:
        """The answer to a question that may be repeated. Raises BrokerUnavailable, Refusal, SettingsError."""
        try:
            for attempt in self._repeated(_Silent):
                with attempt:
                    self.retries += attempt.num > 1
                    answer = self._ask(what, question)
        except _Silent as error:
            raise self._unanswered(what, error) from error
        return answer

    def ask_once(self, what: str, question: Callable[[Talk], Awaitable[T]]) -> T:
        """The answer to what must never be repeated by itself. Raises BrokerUnavailable, Refusal, SettingsError."""
        try:
            return self._ask(what, question)
        except _Silent as error:
            raise self._unanswered(what, error) from error

    def pause(self, duration: timedelta) -> None:
        """Let the broker's own waiting time pass before something is repeated, up to the step's deadline."""
        self._clock.sleep(timedelta(seconds=min(duration.total_seconds(), max(self._left, 0.0))))
        self.retries += 1

    def drop(self) -> None:
        """Let go of the connection and of all that the library remembers; the next question makes a new one."""
        if self._talk is not None:
            talk, self._talk = self._talk, None
            self._run(_hang_up(talk))

    def close(self) -> None:
        """End the connection and the thread; the next question would start both again."""
        if self._thread is None:
            return
        self.drop()
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(THREAD_SECONDS)
        self._thread = None

    # -- inside -----------------------------------------------------------------------------------------------------

    def _ask(self, what: str, question: Callable[[Talk], Awaitable[T]]) -> T:
        talk = self.connected()
        seconds = self._seconds(what, self._request_timeout)

        try:
            return self._run(talk.answer(lambda: question(talk), seconds))
        except _Silent as error:
            LOG.info("no answer about %s: %s", what, error)
            self.drop()
            raise

    def _repeated(self, on: type[Exception], timeout: float | None = None) -> Iterator[Any]:
        """Tries of what fails with such an error; none that the wait before it could push past the deadline."""
        return iter(
            stamina.retry_context(
                on=lambda error: isinstance(error, on) and self._left > LONGEST_WAIT_SECONDS,
                attempts=self._attempts,
                timeout=timeout,
                wait_initial=FIRST_WAIT_SECONDS,
                wait_max=LONGEST_WAIT_SECONDS,
                wait_jitter=0,
            )
        )

    def _unanswered(self, what: str, error: _Silent) -> BrokerUnavailable:
        return BrokerUnavailable(
            f"IB at {self._host}:{self._port} did not answer about {what}: {error}",
            hint="look at the Gateway: is it logged in, and connected to IB?",
        )

    def _seconds(self, what: str, limit: float) -> float:
        """How long a wait may take. Raises BrokerUnavailable where its time is over."""
        left = self._left
        if self._deadline is not None and left <= 0:
            raise BrokerUnavailable(
                f"no time left to ask IB about {what}: this step was to end by {self._deadline:%H:%M:%S} UTC",
                hint="look at the Gateway: is it slow, or was the run started late?",
            )
        return min(limit, left)

    @property
    def _left(self) -> float:
        """Seconds until the step is to end, negative past it."""
        return inf if self._deadline is None else (self._deadline - self._clock.now()).total_seconds()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run in the line's own thread, and wait for it; every wait inside is bounded."""
        if self._thread is None:
            started: Future[None] = Future()
            self._thread = threading.Thread(target=self._live, args=(started,), name="ib", daemon=True)
            self._thread.start()
            try:
                started.result(THREAD_SECONDS)
            except OSError as error:  # TimeoutError is one
                work.close()
                self._thread = None
                raise BrokerUnavailable(
                    f"this computer could not begin to talk to IB: {error or f'not within {THREAD_SECONDS:g} s'}",
                    hint="look for what holds too many files or sockets open (ulimit -n)",
                ) from error
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _live(self, started: Future[None]) -> None:
        try:
            with asyncio.Runner() as runner:
                runner.run(self._main(started))
        except OSError as error:  # no file left for the loop: who waits must hear of it
            started.set_exception(error)

    async def _main(self, started: Future[None]) -> None:
        """The one coroutine of the thread: it stands while others come and go, and hangs up at the end."""
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        started.set_result(None)
        await self._over.wait()

    async def _connect(self) -> Talk:
        """A connection under the first client id that no other one has.

        Raises _NoConnection, SettingsError, and BrokerUnavailable where the time is over.
        """
        *spare, last = self._client_ids
        for self.client_id in spare:
            with suppress(_IdInUse):
                return await self._connect_as(self.client_id)
        self.client_id = last
        return await self._connect_as(last)

    async def _connect_as(self, client_id: int) -> Talk:
        """A connection on which the broker has named its accounts and its next order id.

        The library's own `connect` would go on to read orders, positions and more, and succeed with some of it
        missing; each is asked for where it is needed instead, and known or unknown by itself.
        """
        from mtum_eod.adapters.ib.library import IB

        seconds = self._seconds("a connection", self._reconnect_timeout)
        ib = IB()
        ib.RaiseRequestErrors = True
        ib.TimezoneTWS = "America/New_York"  # where a time comes without a zone
        talk = Talk(ib)
        ib.wrapper.clientId = client_id
        where = f"{self._host}:{self._port}"
        try:
            await talk.answer(lambda: ib.client.connectAsync(self._host, self._port, client_id, None), seconds)
        except socket.gaierror as error:
            cure = "see that ib.host is right, and that the name server answers"
            raise _NoConnection(f"there is no host {self._host}: {error}", cure) from error
        except OSError as error:
            raise _NoConnection(
                f"nothing takes connections at {where}: {os.strerror(error.errno) if error.errno else error}",
                "start IB Gateway, allow its API (Configure > Settings > API), and compare the port with [ib]",
            ) from error
        except (_Silent, Refusal) as error:
            await _hang_up(talk)
            raise self._no_start(talk, where, error) from error
        try:
            talk.next_id, accounts = ib.client.getReqId(), ib.client.getAccounts()
        except ConnectionError as error:  # lost since
            raise self._no_start(talk, where, _Silent(LOST)) from error
        try:
            talk.account = self._choose_account(accounts)
        except BaseException:
            await _hang_up(talk)
            raise
        return talk

    def _no_start(self, talk: Talk, where: str, error: Exception) -> _NoConnection:
        if talk.has_said(CLIENT_ID_IN_USE):
            return _IdInUse(
                f"IB at {where} has a connection with client id {self.client_id} already",
                "end the other program, or give this one its own ib.client_id (it uses the next numbers too)",
            )
        weekly = "log in at the Gateway: it asks again once a week, and after a restart"
        return _NoConnection(
            f"IB at {where} took the connection and did not start its API: {error}",
            cure(error.said.code) if isinstance(error, Refusal) else weekly,
        )


async def _hang_up(talk: Talk) -> None:
    """Close the socket, and wait a little until it is closed."""
    client = talk.ib.client
    with suppress(OSError):
        client.disconnect()
    with suppress(TimeoutError):
        async with asyncio.timeout(HANG_UP_SECONDS):
            while client.conn.isConnected():
                await asyncio.sleep(0.001)
