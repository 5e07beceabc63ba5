"""The conversation as Interactive Brokers' own client holds it: `talk_ibapi.py PORT`.

It prints one JSON document of what the client decoded. It asks for the server's time where the test moves the clock.
"""

import json
import queue
import sys
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from ibapi.client import EClient
from ibapi.contract import Contract
from ibapi.execution import ExecutionFilter
from ibapi.order import Order
from ibapi.wrapper import EWrapper

CALLBACKS = (
    "error", "managedAccounts", "nextValidId", "contractDetails", "contractDetailsEnd", "historicalData",
    "historicalDataEnd", "tickPrice", "tickSize", "tickSnapshotEnd", "openOrder", "openOrderEnd",
    "orderStatus", "execDetails", "execDetailsEnd", "commissionReport", "completedOrder", "completedOrdersEnd",
    "position", "positionEnd", "accountSummary", "accountSummaryEnd", "currentTime", "marketDataType",
    "tickReqParams",
)  # fmt: skip


class Client(EWrapper, EClient):  # type: ignore[misc]
    """The official client, with everything it hears in one queue."""

    def __init__(self) -> None:
        EClient.__init__(self, self)
        self.heard: queue.Queue[tuple[str, tuple[Any, ...]]] = queue.Queue()
        self.errors: list[int] = []
        for name in CALLBACKS:
            setattr(self, name, self._hears(name))

    def _hears(self, name: str) -> Callable[..., None]:
        def hear(*values: Any, **named: Any) -> None:
            self.heard.put((name, (*values, *named.values())))

        return hear

    def until(self, *ends: str, where: Callable[..., bool] = lambda *_: True) -> dict[str, list[Any]]:
        """What was heard, by name, up to the first message of these names that fits."""
        told: dict[str, list[Any]] = {}
        while True:
            name, values = self.heard.get(timeout=10)
            told.setdefault(name, []).append(values)
            if name == "error":
                self.errors.append(values[1])
            if name in ends and where(*values):
                return told


def contract(symbol: str, sec_type: str = "STK", exchange: str = "SMART", primary: str = "") -> Contract:
    asked = Contract()
    asked.symbol, asked.secType, asked.exchange = symbol, sec_type, exchange
    asked.primaryExchange, asked.currency = primary, "USD"
    return asked


def moc(shares: int, reference: str, *, what_if: bool = False) -> Order:
    order = Order()
    order.action, order.totalQuantity, order.orderType, order.tif = "BUY", shares, "MOC", "DAY"
    order.orderRef, order.whatIf, order.eTradeOnly, order.firmQuoteOnly = reference, what_if, False, False
    return order


def main(port: int) -> dict[str, Any]:
    client = Client()
    client.connect("127.0.0.1", port, 7)
    threading.Thread(target=client.run, daemon=True).start()
    hello = client.until("nextValidId")
    (order_id,) = hello["nextValidId"][0]
    told: dict[str, Any] = {"version": client.serverVersion(), "accounts": hello["managedAccounts"][0][0].split(",")}

    client.reqContractDetails(101, contract("MTUM", primary="BATS"))
    details = client.until("contractDetailsEnd")["contractDetails"][0][1]
    fund = details.contract
    told["contract"] = {
        "con_id": fund.conId,
        "exchanges": [fund.exchange, fund.primaryExchange],
        "has_moc": "MOC" in details.orderTypes.split(","),
        "hours": details.liquidHours.split(";")[0],
        "zone": details.timeZoneId,
        "stock_type": details.stockType,
        "tick": details.minTick,
        "name": details.longName,
        "secids": [[one.tag, one.value] for one in details.secIdList],
    }
    client.reqContractDetails(102, contract("NOPE"))
    told["unknown_contract"] = client.until("error", where=lambda one, *_: one == 102)["error"][-1][1]

    def ask(asked: Contract, span: str, size: str, end: str = "") -> dict[str, list[Any]]:
        client.reqHistoricalData(103, asked, end, span, size, "TRADES", 1, 2, False, [])
        return client.until("historicalDataEnd", "error", where=lambda one, *_: one == 103)

    def history(asked: Contract, span: str, size: str) -> list[list[Any]]:
        bars = [bar for _, bar in ask(asked, span, size)["historicalData"]]
        return [[bar.date, bar.open, bar.high, bar.low, bar.close, bar.volume] for bar in bars]

    told["daily"] = history(fund, "3 D", "1 day")
    told["vix"] = history(contract("VIX", "IND", "CBOE"), "3 D", "1 day")
    minutes = history(fund, "1 D", "5 mins")
    told["minutes"] = [len(minutes), sum(bar[5] for bar in minutes)]
    told["no_data"] = ask(fund, "1 D", "1 day", "20100105 16:00:00 US/Eastern")["error"][-1][1]

    client.reqMarketDataType(1)
    client.reqMktData(104, fund, "", True, False, [])
    ticks = client.until("tickSnapshotEnd")
    prices = {kind: price for _, kind, price, _ in ticks["tickPrice"]}
    sizes = {kind: size for _, kind, size in ticks["tickSize"]}
    told["quote"] = [prices[1], prices[2], prices[4], sizes[8], prices[9]]

    client.placeOrder(order_id, fund, moc(19, "", what_if=True))
    state = client.until("openOrder")["openOrder"][-1][3]
    told["what_if"] = [float(state.initMarginChange), state.commission, state.commissionCurrency]

    first = order_id
    client.placeOrder(first, fund, moc(19, "first"))
    heard = client.until("orderStatus")
    told["accepted"] = [heard["orderStatus"][-1][1], heard["orderStatus"][-1][3]]
    perm_id = heard["orderStatus"][-1][5]
    client.reqAllOpenOrders()
    told["open"] = [[row[2].orderRef, row[2].totalQuantity] for row in client.until("openOrderEnd")["openOrder"]]
    client.reqCurrentTime()  # the test moves the clock past the close
    heard = client.until("commissionReport")
    told["filled"] = [*heard["orderStatus"][-1][1:3], heard["orderStatus"][-1][4]]
    client.reqExecutions(105, ExecutionFilter())
    heard = client.until("execDetailsEnd")
    told["fills"] = [
        [
            execution.orderRef,
            execution.side,
            execution.shares,
            execution.price,
            execution.execId.rpartition(".")[2],
            utc(execution.time),
            report.commission,
        ]
        for (_, _, execution), (report,) in zip(heard["execDetails"], heard["commissionReport"], strict=True)
    ]
    client.reqCompletedOrders(False)
    done = client.until("completedOrdersEnd")["completedOrder"]
    told["completed"] = [
        [order.orderRef, state.status, order.filledQuantity, order.totalQuantity] for _, order, state in done
    ]
    told["same_perm_id"] = [order.permId for _, order, _ in done] == [perm_id]
    client.reqPositions()
    told["positions"] = [
        [held.symbol, shares, round(cost, 4)] for _, held, shares, cost in client.until("positionEnd")["position"]
    ]
    client.reqAccountSummary(106, "All", "AvailableFunds,$LEDGER:ALL")
    rows = client.until("accountSummaryEnd")["accountSummary"]
    told["cash"] = {
        f"{tag} {currency}": value for _, _, tag, value, currency in rows if tag in ("CashBalance", "AvailableFunds")
    }

    client.placeOrder(first + 1, fund, moc(3, "second"))  # after the close: held for the next session
    client.until("orderStatus")
    client.cancelOrder(first + 1)
    heard = client.until("error", where=lambda _, code, *_words: code == 202)
    told["cancelled"] = list(heard["orderStatus"][-1][1:3])
    client.placeOrder(first + 2, fund, moc(100_000, "third"))  # more than the account can pay for
    client.until("error", where=lambda _, code, *_words: code == 201)
    told["rejected"] = client.until("orderStatus")["orderStatus"][-1][1] == "Inactive"
    client.placeOrder(first, fund, moc(1, "again"))
    client.until("error", where=lambda _, code, *_words: code == 103)
    told["errors"] = sorted(set(client.errors) & {103, 162, 200, 201, 202, 399, 2104})
    client.disconnect()
    return told


def utc(text: str) -> str:
    """An execution's time with its zone, in UTC."""
    day, wall, zone = text.split()
    at = datetime.strptime(f"{day} {wall}", "%Y%m%d %H:%M:%S").replace(tzinfo=ZoneInfo(zone))
    return f"{at.astimezone(ZoneInfo('UTC')):%Y-%m-%d %H:%M:%S%z}"


print(json.dumps(main(int(sys.argv[1]))))
