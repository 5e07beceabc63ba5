"""The conversation as ib_insync, or its successor ib_async, holds it: `talk_insync.py LIBRARY PORT`.

It prints one JSON document of what the library decoded. It asks for the server's time where the test moves the clock.
"""

import asyncio
import importlib
import json
import sys
from typing import Any

library: Any = importlib.import_module(sys.argv[1])


async def main(port: int) -> dict[str, Any]:
    ib, errors = library.IB(), []
    ib.errorEvent += lambda _id, code, _words, _contract: errors.append(code)
    await ib.connectAsync("127.0.0.1", port, clientId=7, timeout=10)
    ib.RaiseRequestErrors = True
    told: dict[str, Any] = {"version": ib.client.serverVersion(), "accounts": ib.managedAccounts()}

    fund = library.Stock("MTUM", "SMART", "USD", primaryExchange="BATS")
    (details,) = await ib.reqContractDetailsAsync(fund)
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
    told["unknown_contract"] = await refused(ib.reqContractDetailsAsync(library.Stock("NOPE", "SMART", "USD")))
    vix = library.Index("VIX", "CBOE", "USD")

    async def history(contract: Any, span: str, size: str) -> list[list[Any]]:
        bars = await ib.reqHistoricalDataAsync(contract, "", span, size, "TRADES", True, formatDate=2)
        return [[f"{bar.date:%Y%m%d}", bar.open, bar.high, bar.low, bar.close, bar.volume] for bar in bars]

    told["daily"] = await history(fund, "3 D", "1 day")
    told["vix"] = await history(vix, "3 D", "1 day")
    minutes = await history(fund, "1 D", "5 mins")
    told["minutes"] = [len(minutes), sum(bar[5] for bar in minutes)]
    told["no_data"] = await refused(
        ib.reqHistoricalDataAsync(fund, "20100105 16:00:00 US/Eastern", "1 D", "1 day", "TRADES", True)
    )

    ib.reqMarketDataType(1)
    (quote,) = await ib.reqTickersAsync(fund)
    told["quote"] = [quote.bid, quote.ask, quote.last, quote.volume, quote.close]

    def order(shares: int, reference: str) -> Any:
        return library.Order(action="BUY", totalQuantity=shares, orderType="MOC", tif="DAY", orderRef=reference)

    state = await ib.whatIfOrderAsync(fund, order(19, ""))
    told["what_if"] = [float(state.initMarginChange), float(state.commission), state.commissionCurrency]

    first = ib.placeOrder(fund, order(19, "first"))
    told["accepted"] = [await status(first), first.orderStatus.remaining]
    told["open"] = [[trade.order.orderRef, trade.order.totalQuantity] for trade in await ib.reqAllOpenOrdersAsync()]
    await ib.reqCurrentTimeAsync()  # the test moves the clock past the close
    told["filled"] = [await status(first, "Filled"), first.orderStatus.filled, first.orderStatus.avgFillPrice]
    await ib.reqExecutionsAsync()
    told["fills"] = [
        [
            fill.execution.orderRef,
            fill.execution.side,
            fill.execution.shares,
            fill.execution.price,
            fill.execution.execId.rpartition(".")[2],
            f"{fill.execution.time:%Y-%m-%d %H:%M:%S%z}",
            fill.commissionReport.commission,
        ]
        for fill in ib.fills()
    ]
    done = await ib.reqCompletedOrdersAsync(False)
    told["completed"] = [
        [trade.order.orderRef, trade.orderStatus.status, trade.order.filledQuantity, trade.order.totalQuantity]
        for trade in done
    ]
    told["same_perm_id"] = [trade.order.permId for trade in done] == [first.order.permId]
    told["positions"] = [
        [held.contract.symbol, held.position, round(held.avgCost, 4)] for held in await ib.reqPositionsAsync()
    ]
    summary = await ib.accountSummaryAsync()
    told["cash"] = {
        f"{row.tag} {row.currency}": row.value for row in summary if row.tag in ("CashBalance", "AvailableFunds")
    }

    second = ib.placeOrder(fund, order(3, "second"))  # after the close: held for the next session
    await status(second)
    ib.cancelOrder(second.order)
    told["cancelled"] = [await status(second, "Cancelled"), second.orderStatus.filled]
    third = ib.placeOrder(fund, order(100_000, "third"))  # more than the account can pay for
    await wait_for(lambda: 201 in errors)
    told["rejected"] = third.orderStatus.status in ("Inactive", "Cancelled")
    again = order(1, "again")
    again.orderId = first.order.orderId
    ib.client.placeOrder(again.orderId, fund, again)
    await wait_for(lambda: 103 in errors)
    told["errors"] = sorted(set(errors) & {103, 162, 200, 201, 202, 399, 2104})
    ib.disconnect()
    await asyncio.sleep(0)
    return told


async def refused(request: Any) -> int:
    """The code of the error that answers a request."""
    try:
        await request
    except Exception as error:
        return int(getattr(error, "code", -1))
    return 0


async def status(trade: Any, wanted: str = "") -> str:
    """The order's status once it is no longer the library's own guess, or is the one wanted."""
    await wait_for(lambda: trade.orderStatus.status == wanted if wanted else trade.orderStatus.permId)
    return str(trade.orderStatus.status)


async def wait_for(happened: Any) -> None:
    async with asyncio.timeout(10):
        while not happened():
            await asyncio.sleep(0.01)


print(json.dumps(asyncio.run(main(int(sys.argv[2])))))
