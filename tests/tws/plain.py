"""A client of a few lines that shows every field as it came, for what a library would hide."""

import socket
import struct
from collections.abc import Sequence
from typing import Any, Self

NAMES = {
    1: "tickPrice", 2: "tickSize", 3: "orderStatus", 4: "error", 5: "openOrder", 6: "updateAccountValue",
    7: "updatePortfolio", 8: "updateAccountTime", 9: "nextValidId", 10: "contractDetails", 11: "execDetails",
    15: "managedAccounts", 17: "historicalData", 49: "currentTime", 52: "contractDetailsEnd", 53: "openOrderEnd",
    54: "accountDownloadEnd", 55: "execDetailsEnd", 57: "tickSnapshotEnd", 58: "marketDataType",
    59: "commissionReport", 61: "position", 62: "positionEnd", 63: "accountSummary", 64: "accountSummaryEnd",
    73: "accountUpdateMulti", 74: "accountUpdateMultiEnd", 81: "tickReqParams", 101: "completedOrder",
    102: "completedOrdersEnd", 106: "historicalSchedule",
}  # fmt: skip

MTUM = ["0", "MTUM", "STK", "", "0.0", "", "", "SMART", "BATS", "USD", "", ""]
VIX = ["0", "VIX", "IND", "", "0.0", "", "", "CBOE", "", "USD", "", ""]

Message = tuple[str, list[str]]


class Plain:
    """A connection after its handshake. `said` is everything up to the first notice of a farm."""

    def __init__(self, port: int, client_id: int = 1, offers: str = "v157..176", *, wait: float = 5.0) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=wait)
        self._data = b""
        try:
            self._socket.sendall(b"API\0" + struct.pack(">I", len(offers)) + offers.encode())
            version, self.connected_at = self._fields()
            self.version = int(version)
            self.send(71, 2, client_id, "")
            self.said = self.until("error", code="2158")
        except OSError:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, *fields: Any) -> None:
        payload = "".join(f"{field}\0" for field in fields).encode()
        self._socket.sendall(struct.pack(">I", len(payload)) + payload)

    def read(self) -> Message:
        """The next message. Raises ConnectionError at the end of the connection, TimeoutError in silence."""
        fields = self._fields()
        return NAMES[int(fields[0])], fields

    def until(self, name: str, code: str | None = None) -> list[Message]:
        """All messages up to the first of that name, an error of that code."""
        messages = []
        while True:
            messages.append(self.read())
            if messages[-1][0] == name and code in (None, messages[-1][1][3]):
                return messages

    def rest(self) -> list[Message]:
        """All messages up to the answer to a question about the time, or to the connection's end."""
        messages = []
        try:
            self.send(49, 1)
            while (message := self.read())[0] != "currentTime":
                messages.append(message)
        except ConnectionError:
            messages.append(("closed", []))
        return messages

    def names(self) -> list[str]:
        """The names of all messages, farm notices left out, as `rest` reads them."""
        return [name for name, _ in self.rest()]

    def place(self, order_id: int, action: str = "BUY", shares: Any = 19, kind: str = "MOC", **more: str) -> None:
        """Send an order; `more`: tif, reference, what_if, account."""
        fields = ["3", str(order_id), *MTUM, "", "", action, str(shares), kind, "", "", more.get("tif", "DAY"), ""]
        fields += [more.get("account", ""), "", "0", more.get("reference", ""), "1", "0", "0", "0", "0", "0", "0", "0"]
        fields += [""] * (110 - len(fields))
        fields[85] = more.get("what_if", "0")
        self.send(*fields)

    def history(self, contract: Sequence[str], span: str, size: str = "1 day", end: str = "", form: int = 1) -> Message:
        """The answer to a request for bars, its id 50."""
        self.send(20, 50, *contract, 0, end, size, span, 1, "TRADES", form, 0, "")
        return self.read()

    def _fields(self) -> list[str]:
        (size,) = struct.unpack(">I", self._exactly(4))
        return self._exactly(size).decode().split("\0")[:-1]

    def _exactly(self, count: int) -> bytes:
        while len(self._data) < count:
            more = self._socket.recv(65536)
            if not more:
                raise ConnectionError("the server closed the connection")
            self._data += more
        data, self._data = self._data[:count], self._data[count:]
        return data
