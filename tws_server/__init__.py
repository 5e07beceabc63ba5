"""A TWS server for tests: the socket protocol of Interactive Brokers' terminal, 157 to 176, on loopback.

    with Server(source, at=datetime(2024, 11, 5, 15, 40, tzinfo=NEW_YORK), account="DU1234567", version=176) as tws:
        ...connect a client to 127.0.0.1:tws.port...

source: an `mtum_eod.ports.MarketData`, a mapping of frames by symbol, or nothing for the sample.
The world, to read and to set: `tws.orders`, `.executions`, `.positions`, `.account` (an `Account`: cash, base currency,
settled cash, available funds), `.exchange.rules` (`Rules`: read-only, feeds, lots, cut-off, ...), `.managed_accounts`,
`.exchange.auctions[session] = Auction(price=, shares=, parts=, cancels=)`, `.exchange.contracts`,
`.market.splits["MTUM"] = (session, 2.0)`, `.hold("MTUM", 19, 204.10)`, `.trade_by_hand("SELL", "MTUM", 5, 204.10)`.
Time: `tws.clock.set(instant)`, `.advance(minutes=20)`; passing a close executes the auction, at the bar's close unless
an `Auction` says otherwise. `tws.clock` is an `mtum_eod.ports.Clock`.
What came: `tws.received`, `tws.asked("placeOrder")`, `tws.wait_for("placeOrder")`: `Request`s with client_id, name and
values, lost ones included.
At a message: `tws.on("placeOrder", call, when="before")`, or `"after"`; the conversation waits until `call` returns.
What happens: `tws.fill(order, shares, price)`, `.correct(execution, price)`, `.reject(order)`, `.cancel(order)`,
`.suspend(order)`, `.say(1100)`, `.disconnect()`, `.refuse()`, `.accept()`, `.restart(first_id=1)`.
What goes wrong: `tws.faults.drop(before="placeOrder")`, `.drop(after="orderStatus")`, `.hang("reqPositions")`,
`.lose("placeOrder")`, `.cut("openOrder", after=1)`, `.late("execDetails", 2.0)`, `.twice("execDetails")`,
`.reorder("orderStatus", "execDetails")`, `.error("reqHistoricalData", 162)`, `.clear()`: see `Faults`.
By hand: `python -m tws_server`.
"""

from tws_server.faults import CODES, Faults
from tws_server.market import NEW_YORK, Arrays
from tws_server.messages import Reply, Request
from tws_server.server import AT, Server
from tws_server.world import Account, Auction, Contract, Execution, Order, Position, Rules

__all__ = [
    "AT",
    "CODES",
    "NEW_YORK",
    "Account",
    "Arrays",
    "Auction",
    "Contract",
    "Execution",
    "Faults",
    "Order",
    "Position",
    "Reply",
    "Request",
    "Rules",
    "Server",
]
