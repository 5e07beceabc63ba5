"""A conversation with IB from one small text, without a socket: what the broker would send, as a fuzzer bends it.

    executions
    11|1|7|756733|MTUM|STK||0||...
    55|1|1

The first line is the question. Each line after it is one message, its fields between bars; an empty line waits for
the next request. Where the first line begins with `raw`, the rest goes into the socket as it stands.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from typing import Any, TypeVar
from unittest.mock import patch

from eventkit import Event
from gateway import ACCOUNT, SESSION, intent

from mtum_eod.adapters.calendar import ExchangeCalendar
from mtum_eod.adapters.clock import SessionClock
from mtum_eod.adapters.ib.accounts import chooser
from mtum_eod.adapters.ib.broker import IbBroker
from mtum_eod.adapters.ib.data import IbData
from mtum_eod.adapters.ib.inspection import Needs
from mtum_eod.adapters.ib.line import Line
from mtum_eod.core.trading import Mode, OrderType

T = TypeVar("T")

CALENDAR = ExchangeCalendar(date(2024, 11, 30))
NOW = CALENDAR.close(SESSION) - timedelta(minutes=20)
FIRST_ID = 1
VERSION = b"176\x0020241105 15:30:00 EST\x00"
START = (b"15\x001\x00%s\x00" % ACCOUNT.encode(), b"9\x001\x00%d\x00" % FIRST_ID)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next timer once nothing else is left to do: silence costs nothing."""

    now = 0.0

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]  # the base class's own
            self.now = max(self.now, self._scheduled[0].when())  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


LOOP = VirtualLoop()


class Script:
    """What the far side sends at each request."""

    def __init__(self, text: bytes) -> None:
        first, _, rest = text.partition(b"\n")
        self.is_raw, self.question = first.startswith(b"raw "), first.removeprefix(b"raw ").decode(errors="replace")
        self.parts = (
            [rest] if self.is_raw else [b"".join(map(_frame, part.split(b"\n"))) for part in rest.split(b"\n\n")]
        )
        if self.question != "connect":
            self.parts = [_framed(VERSION), b"".join(map(_framed, START)), *self.parts]


def _frame(message: bytes) -> bytes:
    return _framed(b"".join(field + b"\0" for field in message.split(b"|"))) if message else b""


def _framed(payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + payload


class Wire:
    """The library's connection, with a script at the other end."""

    script: Script

    def __init__(self) -> None:
        self.hasData = Event("hasData")  # the library's names
        self.disconnected = Event("disconnected")
        self.reset()

    def reset(self) -> None:
        self.is_open = False
        self.numBytesSent = self.numMsgSent = 0

    async def connectAsync(self, host: str, port: int) -> None:  # noqa: ARG002, N802
        self.is_open = True

    def disconnect(self) -> None:
        if self.is_open:
            self.is_open = False
            asyncio.get_running_loop().call_soon(self.disconnected.emit, "")

    def isConnected(self) -> bool:  # noqa: N802
        return self.is_open

    def sendMsg(self, message: bytes) -> None:  # noqa: ARG002, N802
        if self.is_open and self.script.parts:
            asyncio.get_running_loop().call_soon(self._receive, self.script.parts.pop(0))

    def _receive(self, data: bytes) -> None:
        """As asyncio does: a protocol that raises loses its connection."""
        try:
            self.hasData.emit(data)
        except Exception:
            self.disconnect()


class ScriptedLine(Line):
    """A line whose thread is the caller's own."""

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return LOOP.run_until_complete(work)


@contextmanager
def talk(script: Script) -> Iterator[tuple[IbBroker, IbData]]:
    """Broker and bars at the end of a line on which `script` is said."""
    from mtum_eod.adapters.ib.library import vendor

    Wire.script = script
    clock = SessionClock(NOW)
    line = ScriptedLine(
        host="127.0.0.1",
        port=4002,
        client_ids=[1],
        choose_account=chooser(Mode.PAPER, ""),
        clock=clock,
        request_timeout=5.0,
        reconnect_timeout=5.0,
        max_retries=0,
    )
    with patch.object(vendor.client, "Connection", Wire):
        needs = Needs(order_type=OrderType.MOC, quotes=("MTUM", "VIX"), clock=clock)
        broker = IbBroker(line, symbol="MTUM", primary_exchange="BATS", calendar=CALENDAR, needs=needs)
        try:
            yield broker, IbData(line, primary_exchange="BATS", calendar=CALENDAR)
        finally:
            line.drop()


FIRST = CALENDAR.window(SESSION, 5)[0]
QUESTIONS: dict[str, Callable[[IbBroker, IbData], Any]] = {
    "connect": lambda broker, _: broker.account,
    "orders": lambda broker, _: broker.orders(),
    "executions": lambda broker, _: broker.executions(),
    "positions": lambda broker, _: broker.shares_held("MTUM"),
    "cash": lambda broker, _: broker.cash(),
    "submit": lambda broker, _: broker.submit(intent(order_id=FIRST_ID)),
    "cancel": lambda broker, _: broker.cancel(intent().reference),
    "what_if": lambda broker, _: broker.what_if(intent()),
    "inspect": lambda broker, _: broker.inspect(SESSION),
    "daily": lambda _, data: data.daily("MTUM", FIRST, SESSION, NOW),
    "daily_vix": lambda _, data: data.daily("VIX", FIRST, SESSION, NOW),
    "volume": lambda _, data: data.volume_until("MTUM", {SESSION: NOW}, NOW),
}


def settled() -> None:
    """Let what the last conversation left behind end, so that the next one begins alone."""
    LOOP.run_until_complete(asyncio.sleep(0))


logging.getLogger("ib_insync").setLevel(logging.CRITICAL + 1)
logging.getLogger("eventkit").setLevel(logging.CRITICAL + 1)
