"""What can be made to go wrong, one line each. Every message is meant by its name: a request's or a reply's.

A fault on a request meets it before anything was done; one on a reply meets that message on its way out.
Each stays until `clear`, or for so many `times`; the first `skip` messages pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from tws_server.messages import REPLIES, REQUESTS, Reply

Kind = Literal["drop_before", "drop_after", "hang", "lose", "late", "twice", "cut", "error", "reorder"]

CODES = {
    103: "Duplicate order id",
    105: "Order being modified does not match original order",
    110: "The price does not conform to the minimum price variation for this contract.",
    113: "Tif option should be set to DAY for MOC and LOC orders.",
    161: "Cancel attempted when order is not in a cancellable state.  Order permId =0",
    162: "Historical Market Data Service error message:HMDS query returned no data: MTUM@SMART Trades",
    200: "No security definition has been found for the request",
    201: "Order rejected - reason:The exchange is closed.",
    202: "Order Canceled - reason:",
    320: "Error reading request:Unable to parse data. java.lang.NumberFormatException",
    321: "Error validating request.-'bX' : cause - The API interface is currently in Read-Only mode.",
    326: "Unable to connect as the client id is already in use. Retry with a unique client id.",
    354: "Requested market data is not subscribed. Delayed market data is not available.",
    366: "No historical data query found for ticker id:",
    399: "Order Message:\nBUY 19 MTUM BATS\nWarning: your order will not be placed at the exchange until"
    " 2024-11-06 09:30:00 US/Eastern",
    404: "Shares for this order are not immediately available for short sale. The order will be held while we attempt"
    " to locate the shares.",
    420: "Invalid Real-time Query:No market data permissions for CBOE IND",
    460: "No trading permissions.",
    502: 'Couldn\'t connect to TWS. Confirm that "Enable ActiveX and Socket EClients" is enabled and connection port'
    ' is the same as "Socket Port" on the TWS "Edit->Global Configuration...->API->Settings" menu.',
    504: "Not connected",
    1100: "Connectivity between IB and Trader Workstation has been lost.",
    1101: "Connectivity between IB and Trader Workstation has been restored - data lost.",
    1102: "Connectivity between IB and Trader Workstation has been restored - data maintained. All data farms are"
    " connected: usfarm; ushmds; secdefnj.",
    1300: "TWS socket port has been reset and this connection is being dropped. Please reconnect on the new port -"
    " 4002",
    2103: "Market data farm connection is broken:usfarm",
    2104: "Market data farm connection is OK:usfarm",
    2105: "HMDS data farm connection is broken:ushmds",
    2106: "HMDS data farm connection is OK:ushmds",
    2107: "HMDS data farm connection is inactive but should be available upon demand.ushmds",
    2108: "Market data farm connection is inactive but should be available upon demand.usfarm",
    2109: "Order Event Warning:Attribute 'Outside Regular Trading Hours' is ignored based on the order type and"
    " destination. PlaceOrder is now being processed.",
    2110: "Connectivity between Trader Workstation and server is broken. It will be restored automatically.",
    2119: "Market data farm is connecting:usfarm",
    2157: "Sec-def data farm connection is broken:secdefnj",
    2158: "Sec-def data farm connection is OK:secdefnj",
    10089: "Requested market data requires additional subscription for API. See link in 'Market Data Connections'"
    " dialog for more details.Delayed market data is available.MTUM BATS/TOP/ALL",
    10147: "OrderId {id} that needs to be cancelled is not found.",
    10148: "OrderId {id} that needs to be cancelled cannot be cancelled, state: {state}.",
    10167: "Requested market data is not subscribed. Displaying delayed market data.",
    10168: "Requested market data is not subscribed. Delayed market data is not enabled.",
    10197: "No market data during competing live session",
    10243: "Fractional-sized order cannot be placed via API. Please use desktop version to place this order.",
    10349: "Order TIF was set to DAY based on order preset.",
}
"""The terminal's own words for each code."""

ADVISORY = frozenset({399, 404, 1100, 1101, 1102, 10167, 10349, *range(2100, 2200)})
"""Codes that are said beside the answer, not in its place."""

NAMES = frozenset(REPLIES) | {layout.split()[0] for layout in REQUESTS.values()}


@dataclass(slots=True)
class Fault:
    """One thing that goes wrong."""

    kind: Kind
    name: str
    times: int | None = None  # None: until cleared
    skip: int = 0
    seconds: float = 0.0
    code: int = 0
    words: str | None = None
    order: tuple[str, ...] = ()
    hit: int = field(default=0, init=False)

    def meets(self) -> bool:
        """Whether this is one of the messages it is meant for; counts them."""
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.times is not None and self.hit >= self.times:
            return False
        self.hit += 1
        return True


class Faults:
    """The list of what goes wrong."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def clear(self) -> None:
        """All is well again."""
        self._faults.clear()

    def drop(
        self, *, before: str | None = None, after: str | None = None, times: int | None = 1, skip: int = 0
    ) -> Fault:
        """Close the connection before, or after, a message: a request's work is done then, but nothing was answered."""
        if (before is None) == (after is None):
            raise ValueError("drop: either before= or after= names the message")
        if before is not None:
            return self._add(Fault("drop_before", before, times, skip))
        return self._add(Fault("drop_after", str(after), times, skip))

    def hang(self, name: str, times: int | None = None, skip: int = 0) -> Fault:
        """A request is worked on and never answered; a reply is never sent. `serverVersion` hangs the handshake."""
        return self._add(Fault("hang", name, times, skip))

    def lose(self, name: str, times: int | None = None, skip: int = 0) -> Fault:
        """A request never arrives."""
        return self._add(Fault("lose", name, times, skip))

    def cut(self, name: str, after: int = 0, times: int | None = 1) -> Fault:
        """An answer ends once `after` replies of that name were sent: neither the rest nor the end mark comes."""
        return self._add(Fault("cut", name, times, after))

    def late(self, name: str, seconds: float, times: int | None = None, skip: int = 0) -> Fault:
        """A request is worked on, or one reply sent, so many seconds later; the other replies overtake it."""
        return self._add(Fault("late", name, times, skip, seconds=seconds))

    def twice(self, name: str, times: int | None = None, skip: int = 0) -> Fault:
        """A reply comes twice."""
        return self._add(Fault("twice", name, times, skip))

    def reorder(self, *names: str, times: int | None = None) -> Fault:
        """Replies of one event come in this order of names, whatever their own."""
        return self._add(Fault("reorder", names[0], times, order=names))

    def error(self, name: str, code: int, words: str | None = None, times: int | None = None, skip: int = 0) -> Fault:
        """A request is answered by an error, with IB's own words unless others are given.

        Codes that are only advice (399, 10167, 10349, 21xx, ...) are said and the request is worked on.
        """
        return self._add(Fault("error", name, times, skip, code=code, words=words))

    def met(self, name: str, *kinds: Kind) -> list[Fault]:
        """The faults that meet this message."""
        return [fault for fault in self._faults if fault.name == name and fault.kind in kinds and fault.meets()]

    def arranged(self, replies: Sequence[Reply]) -> list[Reply]:
        """The replies of one event in the order that `reorder` wants."""
        arranged = list(replies)
        for fault in [fault for fault in self._faults if fault.kind == "reorder"]:
            places = [index for index, reply in enumerate(arranged) if reply.name in fault.order]
            moved = sorted((arranged[index] for index in places), key=lambda reply: fault.order.index(reply.name))
            if len(places) > 1 and fault.meets():
                for index, reply in zip(places, moved, strict=True):
                    arranged[index] = reply
        return arranged

    def _add(self, fault: Fault) -> Fault:
        unknown = {fault.name, *fault.order} - NAMES
        if unknown:
            raise ValueError(f"no message is called {', '.join(sorted(unknown))}; there are {', '.join(sorted(NAMES))}")
        self._faults.append(fault)
        return fault
