"""The server's world in the terminal's fields."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any

from mtum_eod.ports import Calendar
from tws_server.exchange import Exchange, local
from tws_server.market import Bar
from tws_server.messages import Reply
from tws_server.world import Contract, Execution, Order, Position, Rules


def reply(name: str, **values: Any) -> Reply:
    """A reply with its values."""
    return Reply(name, values)


def error(request_id: int, code: int, words: str) -> Reply:
    """An error, warning or notice; -1 where it is about no request."""
    return reply("error", reqId=request_id, code=code, text=words)


def wall_time(instant: datetime, rules: Rules) -> str:
    """An instant as the terminal writes it, with its zone's name."""
    return f"{local(instant):%Y%m%d %H:%M:%S} {rules.zone}"


# -- contracts --------------------------------------------------------------------------------------------------------


def contract_details(request_id: int, contract: Contract, calendar: Calendar, now: datetime) -> Reply:
    """All there is to say of a contract; its hours cover a week."""
    secids = ["ISIN", contract.isin] if contract.isin else []
    late = "1615" if contract.sec_type == "IND" else "2000"
    return reply(
        "contractDetails",
        reqId=request_id,
        symbol=contract.symbol,
        secType=contract.sec_type,
        exchange=contract.exchange,
        currency=contract.currency,
        localSymbol=contract.symbol,
        marketName="NMS" if contract.sec_type == "STK" else contract.symbol,
        tradingClass="NMS" if contract.sec_type == "STK" else contract.symbol,
        conId=contract.con_id,
        minTick=contract.min_tick,
        orderTypes=contract.order_types,
        validExchanges=contract.valid_exchanges,
        longName=contract.long_name,
        primaryExchange=contract.primary_exchange,
        timeZoneId="US/Eastern",
        tradingHours=_hours(calendar, now, "0400", late),
        liquidHours=_hours(calendar, now, "0930", "1615" if contract.sec_type == "IND" else None),
        nSecIds=len(secids) // 2,
        secIds=secids,
        stockType=contract.stock_type,
    )


def _hours(calendar: Calendar, now: datetime, opens: str, closes: str | None) -> str:
    """The hours of the week from today on; `closes` None means the exchange's own close."""
    today = calendar.local_date(now)
    parts = []
    for day in (today + timedelta(days=count) for count in range(7)):
        if calendar.is_session(day):
            end = closes or f"{local(calendar.close(day)):%H%M}"
            parts.append(f"{day:%Y%m%d}:{opens}-{day:%Y%m%d}:{end}")
        else:
            parts.append(f"{day:%Y%m%d}:CLOSED")
    return ";".join(parts)


def _contract(contract: Contract, exchange: str) -> dict[str, Any]:
    return {
        "conId": contract.con_id,
        "symbol": contract.symbol,
        "secType": contract.sec_type,
        "exchange": exchange,
        "currency": contract.currency,
        "localSymbol": contract.symbol,
        "tradingClass": "NMS" if contract.sec_type == "STK" else contract.symbol,
    }


# -- orders -----------------------------------------------------------------------------------------------------------


def _order(order: Order) -> dict[str, Any]:
    return _contract(order.contract, order.exchange) | {
        "action": order.action,
        "totalQuantity": order.quantity,
        "orderType": order.order_type,
        "lmtPrice": order.lmt_price,
        "tif": order.tif,
        "account": order.account,
        "orderRef": order.reference,
        "permId": order.perm_id,
        "status": order.status,
    }


def open_order(order: Order, **more: Any) -> Reply:
    """The order as it stands."""
    allocation = f"{order.perm_id}.0/{order.account}/100"
    values = {"orderId": order.order_id, "clientId": order.client_id, "sharesAllocation": allocation}
    return Reply("openOrder", _order(order) | values | more)


def order_status(order: Order) -> Reply:
    """The order's status."""
    return reply(
        "orderStatus",
        orderId=order.order_id,
        status=order.status,
        filled=order.filled,
        remaining=order.remaining,
        avgFillPrice=order.avg_price,
        permId=order.perm_id,
        lastFillPrice=order.last_price,
        clientId=order.client_id,
    )


def completed_order(order: Order, rules: Rules) -> Reply:
    """A finished order: no price, no order id, and no quantity once it is filled."""
    words = f"Filled Size: {order.filled:g}" if order.status == "Filled" else order.why or "Cancelled by Trader"
    ended = order.completed_at or order.placed_at
    values = {
        "totalQuantity": 0 if order.status == "Filled" else order.quantity,
        "filledQuantity": order.filled,
        "completedTime": wall_time(ended, rules),
        "completedStatus": words,
    }
    return Reply("completedOrder", _order(order) | values)


def what_if(order: Order, exchange: Exchange, price: float, now: datetime) -> Reply:
    """What an order would do to the margin, and cost."""
    figures = exchange.figures(now)
    margin, equity = figures["InitMarginReq"], figures["EquityWithLoanValue"]
    signed = order.quantity if order.action == "BUY" else -order.quantity
    change = exchange.account.in_base(signed * price) * exchange.account.initial_margin_ratio
    commission = max(exchange.rules.commission_minimum, exchange.rules.commission_per_share * order.quantity)
    moved = {"Before": margin, "Change": change, "After": margin + change}
    values = {f"{kind}Margin{when}": number for kind in ("init", "maint") for when, number in moved.items()}
    return open_order(
        order,
        **values,
        equityBefore=equity,
        equityChange=-commission,
        equityAfter=equity - commission,
        commission=commission,
        commissionCurrency="USD",
        whatIf=1,
    )


# -- executions -------------------------------------------------------------------------------------------------------


def execution_details(request_id: int, execution: Execution, rules: Rules) -> Reply:
    """One print; request id -1 where nobody asked."""
    order = execution.order
    told = wall_time(execution.at, rules) if rules.execution_time is None else rules.execution_time
    venue = order.contract.primary_exchange or order.contract.exchange
    return Reply(
        "execDetails",
        _contract(order.contract, venue)
        | {
            "reqId": request_id,
            "orderId": order.order_id,
            "execId": execution.exec_id,
            "time": told,
            "account": order.account,
            "venue": venue,
            "side": execution.side,
            "shares": execution.shares,
            "price": execution.price,
            "permId": order.perm_id,
            "clientId": order.client_id,
            "cumQty": execution.cum_shares,
            "avgPrice": execution.avg_price,
            "orderRef": order.reference,
        },
    )


def commission_report(execution: Execution) -> Reply:
    """What a print cost, and what it realised."""
    values: dict[str, Any] = {"execId": execution.exec_id, "commission": execution.commission, "currency": "USD"}
    return Reply(
        "commissionReport", values if execution.realized is None else values | {"realizedPNL": execution.realized}
    )


# -- account ----------------------------------------------------------------------------------------------------------


def position(held: Position, account: str) -> Reply:
    """What is held, zero included."""
    contract = held.contract
    exchange = contract.primary_exchange or contract.exchange
    values = {"account": account, "position": held.shares, "avgCost": held.avg_cost}
    return Reply("position", _contract(contract, exchange) | values)


def portfolio(held: Position, account: str, price: float) -> Reply:
    """What is held and what it is worth."""
    values = _contract(held.contract, "")
    del values["exchange"]
    value = held.shares * price
    return Reply(
        "updatePortfolio",
        values
        | {
            "primaryExchange": held.contract.primary_exchange,
            "position": held.shares,
            "marketPrice": price,
            "marketValue": value,
            "avgCost": held.avg_cost,
            "unrealizedPNL": value - held.shares * held.avg_cost,
            "realizedPNL": 0,
            "account": account,
        },
    )


def account_rows(exchange: Exchange, now: datetime) -> Iterator[tuple[str, str, str]]:
    """Tag, value and currency of the account's totals, all in base currency."""
    account = exchange.account
    yield "AccountType", account.kind, ""
    for tag, number in exchange.figures(now).items():
        yield tag, f"{number:.2f}", account.base_currency


def ledger_rows(exchange: Exchange, now: datetime, only: str = "ALL") -> Iterator[tuple[str, str, str]]:
    """Tag, value and currency of the money by currency; BASE is all of it in base currency."""
    account, figures = exchange.account, exchange.figures(now)
    for currency in ["BASE", *account.cash]:
        if only not in ("ALL", currency):
            continue
        is_base = currency == "BASE"
        cash = figures["TotalCashValue"] if is_base else account.cash[currency]
        usd = exchange.stock_value_usd(now)
        stocks = figures["GrossPositionValue"] if is_base else usd if currency == "USD" else 0.0
        rate = 1.0 if is_base else account.rates[currency]
        yield "Currency", currency, currency
        for tag, number in {
            "CashBalance": cash,
            "TotalCashBalance": cash,
            "StockMarketValue": stocks,
            "NetLiquidationByCurrency": cash + stocks,
        }.items():
            yield tag, f"{number:.4f}", currency
        yield "ExchangeRate", f"{rate:.7f}", currency


# -- market data ------------------------------------------------------------------------------------------------------


def historical_data(
    request_id: int, bars: list[Bar], span: tuple[datetime, datetime], rules: Rules, *, as_seconds: bool
) -> Reply:
    """All bars in one message."""
    fields: list[Any] = []
    for bar in bars:
        volume = bar.volume // 100 if rules.lots else bar.volume
        average = (bar.high + bar.low + bar.close) / 3 if volume else 0.0
        stamp = _stamp(bar.start, rules, as_seconds=as_seconds)
        fields += [stamp, bar.open, bar.high, bar.low, bar.close, int(volume), round(average, 4), int(volume) // 100]
    start, end = (wall_time(instant, rules) for instant in span)
    return reply("historicalData", reqId=request_id, start=start, end=end, nBars=len(bars), bars=fields)


def _stamp(start: datetime | date, rules: Rules, *, as_seconds: bool) -> str:
    if not isinstance(start, datetime):
        return f"{start:%Y%m%d}"
    return str(int(start.timestamp())) if as_seconds else wall_time(start, rules)


def schedule(request_id: int, sessions: list[date], calendar: Calendar) -> Reply:
    """The sessions of a span with their hours."""
    rows: list[str] = []
    for day in sessions:
        opened, closed = local(calendar.open(day)), local(calendar.close(day))
        rows += [f"{opened:%Y%m%d-%H:%M:%S}", f"{closed:%Y%m%d-%H:%M:%S}", f"{day:%Y%m%d}"]
    start, end = (rows[0], rows[-2]) if rows else ("", "")
    return reply(
        "historicalSchedule",
        reqId=request_id,
        start=start,
        end=end,
        zone="US/Eastern",
        nSessions=len(sessions),
        sessions=rows,
    )


LIVE_TICKS = {"bid": 1, "ask": 2, "last": 4, "high": 6, "low": 7, "close": 9, "open": 14}
DELAYED_TICKS = {"bid": 66, "ask": 67, "last": 68, "high": 72, "low": 73, "close": 75, "open": 76}


def quote(
    request_id: int, contract: Contract, today: Bar, before: float, rules: Rules, *, is_delayed: bool
) -> Iterator[Reply]:
    """The prices of the moment as ticks."""
    kinds = DELAYED_TICKS if is_delayed else LIVE_TICKS
    prices = {"last": today.close, "high": today.high, "low": today.low, "close": before, "open": today.open}
    if contract.sec_type == "STK":
        prices = {"bid": today.close - 0.01, "ask": today.close + 0.01} | prices
    for name, price in prices.items():
        size = 100 if name in ("bid", "ask", "last") and contract.sec_type == "STK" else 0
        yield reply("tickPrice", reqId=request_id, tickType=kinds[name], price=round(price, 2), size=size)
    if contract.sec_type == "STK":
        volume = int(today.volume) // (100 if rules.lots else 1)
        yield reply("tickSize", reqId=request_id, tickType=74 if is_delayed else 8, size=volume)
