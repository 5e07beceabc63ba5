"""The server's books: orders, executions, positions and money, and what happens to them as time passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta

from tws_server.market import NEW_YORK, Market
from tws_server.messages import Request
from tws_server.world import MTUM, SAP, SPY, VIX, Account, Auction, Contract, Execution, Order, Position, Rules


class Refused(Exception):
    """The terminal refuses a request, with a code and perhaps words of its own for it."""

    def __init__(self, code: int, words: str | None = None) -> None:
        super().__init__(code, words)
        self.code = code
        self.words = words


class Exchange:
    """Everything that survives a connection. `told` is called with each thing that happens to an order."""

    def __init__(self, market: Market, account: Account, told: Callable[[str, Order, Execution | None], None]) -> None:
        self.market = market
        self.account = account
        self.rules = Rules()
        self.contracts = [MTUM, VIX, SPY, SAP]
        self.positions: dict[str, Position] = {}
        self.orders: list[Order] = []
        self.executions: list[Execution] = []
        self.auctions: dict[date, Auction] = {}
        self.next_ids: dict[int, int] = {}  # by client id
        self.first_id = 1
        self._used: dict[tuple[int, int], Order] = {}
        self._next_perm_id = 1_042_100_001
        self._told = told

    # -- what is asked for ------------------------------------------------------------------------------------------

    def contract(self, asked: Request) -> list[Contract]:
        """The contracts that fit a request. Raises Refused where none does."""
        values = asked.values

        def fits(contract: Contract) -> bool:
            if values["conId"] not in ("", "0"):
                return values["conId"] == str(contract.con_id)
            wanted = {
                "symbol": contract.symbol,
                "secType": contract.sec_type,
                "currency": contract.currency,
                "primaryExchange": contract.primary_exchange,
            }
            routes = {contract.exchange, *contract.valid_exchanges.split(",")}
            return (not values["exchange"] or values["exchange"] in routes) and all(
                values[key] in ("", value) for key, value in wanted.items()
            )

        found = [contract for contract in self.contracts if fits(contract)]
        if not found:
            raise Refused(200)
        return found

    def next_id(self, client_id: int) -> int:
        """The next order id the terminal expects of a client."""
        return self.next_ids.get(client_id, self.first_id)

    def reissue_ids(self, first_id: int) -> None:
        """Count order ids from `first_id` again: ids used before are free again, their orders stay."""
        self.first_id = first_id
        self.next_ids.clear()
        self._used.clear()

    # -- orders -----------------------------------------------------------------------------------------------------

    def place(self, asked: Request, now: datetime) -> None:
        """Take an order, or change the working one of the same id. Raises Refused."""
        order_id = int(asked.values["orderId"])
        if self.rules.read_only:
            raise Refused(321)
        contract = self.contract(asked)[0]
        known = self._used.get((asked.client_id, order_id))
        if known is not None and known.is_live:
            self._modify(known, asked)
            return
        if known is not None or order_id < self.next_id(asked.client_id):
            raise Refused(103)
        order = self._order(asked, contract, now, self._perm_id())
        self.next_ids[asked.client_id] = order_id + 1
        self._used[asked.client_id, order_id] = order
        self.orders.append(order)
        refusal = self._refusal(order, now)
        if refusal:
            self.end(order, "Inactive", now, refusal)
            return
        if order.session != self.market.calendar.local_date(now):
            self._told("held", order, None)
        self._told("accepted", order, None)
        if order.order_type == "MKT" and self._is_open(now):
            price = self.market.last(contract.symbol, now)
            if price is not None:
                self.fill(order, order.remaining, price, now)

    def imagined(self, asked: Request, now: datetime) -> Order:
        """The order that a what-if asks about. Raises Refused as placing it would."""
        if self.rules.read_only:
            raise Refused(321)
        order = self._order(asked, self.contract(asked)[0], now, 0)
        refusal = self._refusal(order, now)
        if refusal:
            raise Refused(201, refusal)
        return order

    def cancel(self, asked: Request, now: datetime) -> None:
        """Withdraw a working order of this client. Raises Refused, which is only words: the order is as it was."""
        order_id = int(asked.values["orderId"])
        order = self._used.get((asked.client_id, order_id))
        if order is None:
            raise Refused(10147, f"OrderId {order_id} that needs to be cancelled is not found.")
        if not order.is_live:
            words = f"OrderId {order_id} that needs to be cancelled cannot be cancelled, state: {order.status}."
            raise Refused(10148, words)
        if order.order_type == "MOC" and self._is_frozen(order, now):
            raise Refused(161)
        self.end(order, "Cancelled", now)

    def end(self, order: Order, status: str, now: datetime, words: str = "") -> None:
        """Be done with an order: Cancelled, or Inactive, which is how a rejected one is shown."""
        order.status, order.why, order.completed_at = status, words, now
        self._told("rejected" if status == "Inactive" else "cancelled", order, None)

    def fill(self, order: Order, shares: float, price: float, at: datetime) -> Execution:
        """One print: books, position and money change together."""
        value = shares * price
        order.avg_price = (order.avg_price * order.filled + value) / (order.filled + shares)
        order.filled += shares
        order.last_price = price
        if order.remaining <= 0:
            order.status, order.completed_at = "Filled", at
        commission = max(self.rules.commission_minimum, self.rules.commission_per_share * shares)
        signed = shares if order.action == "BUY" else -shares
        realized = self._move(order.contract, signed, price, commission)
        self.account.cash["USD"] = self.account.cash.get("USD", 0.0) - signed * price - commission
        if signed < 0:
            settles = self.market.calendar.nearest(self.market.calendar.local_date(at))[1]
            self.account.unsettled.append((settles, value - commission))
        execution = Execution(
            exec_id=f"0000e0d5.{order.perm_id:08x}.{len(self.executions) + 1:02d}.01",
            order=order,
            at=at,
            side="BOT" if signed > 0 else "SLD",
            shares=shares,
            price=price,
            cum_shares=order.filled,
            avg_price=order.avg_price,
            commission=commission,
            realized=realized,
        )
        self.executions.append(execution)
        self._told("filled", order, execution)
        return execution

    def trade_by_hand(self, action: str, symbol: str, shares: float, price: float, now: datetime) -> Execution:
        """A trade that no client asked for."""
        contract = next(contract for contract in self.contracts if contract.symbol == symbol)
        order = Order(
            client_id=0,
            order_id=0,
            perm_id=self._perm_id(),
            contract=contract,
            action=action,
            quantity=shares,
            order_type="MKT",
            tif="DAY",
            reference="",
            account=self.account.id,
            exchange="SMART",
            session=self._session_of(now),
            placed_at=now,
        )
        self.orders.append(order)
        return self.fill(order, shares, price, now)

    def correct(self, execution: Execution, price: float) -> Execution:
        """The same print at another price: the digits after the last dot of its id count corrections."""
        print_id, _, number = execution.exec_id.rpartition(".")
        corrected = replace(execution, exec_id=f"{print_id}.{int(number) + 1:02d}", price=price, avg_price=price)
        self.executions.append(corrected)
        difference = (price - execution.price) * execution.shares
        paid = difference if execution.side == "BOT" else -difference
        self.account.cash["USD"] = self.account.cash.get("USD", 0.0) - paid
        self._told("filled", execution.order, corrected)
        return corrected

    # -- time -------------------------------------------------------------------------------------------------------

    def due(self, since: datetime, until: datetime) -> list[datetime]:
        """The opens and closes that a move from `since` to `until` passes."""
        calendar = self.market.calendar
        first, last = calendar.local_date(since), calendar.local_date(until)
        sessions = calendar.sessions(first, last) if first <= last else []
        moments = [moment for day in sessions for moment in (calendar.open(day), calendar.close(day))]
        return [moment for moment in moments if since < moment <= until]

    def pass_by(self, moment: datetime) -> None:
        """Let an open or a close happen: splits, waiting market orders, the closing auction."""
        calendar = self.market.calendar
        session = calendar.local_date(moment)
        working = [order for order in self.orders if order.is_live and order.session <= session]
        if moment == calendar.open(session):
            self._split(session)
            for order in working:
                if order.order_type == "MKT":
                    self.fill(order, order.remaining, self.market.daily_open(order.contract.symbol, session), moment)
            return
        for order in working:
            if order.order_type == "MOC":
                self._auction(order, self.auctions.get(session, Auction()), moment)
            elif order.tif == "DAY":
                self.end(order, "Cancelled", moment, "Order Canceled - reason:End of day")

    def _auction(self, order: Order, auction: Auction, at: datetime) -> None:
        if auction.cancels:
            self.end(order, "Cancelled", at, auction.cancels)
            return
        price = auction.price or self.market.close(order.contract.symbol, order.session)
        if price is None:
            self.end(order, "Cancelled", at, "Order Canceled - reason:No closing auction")
            return
        shares = order.remaining if auction.shares is None else min(auction.shares, order.remaining)
        for part, at_price in auction.parts or ((shares, price),):
            if part > 0:
                self.fill(order, part, at_price, at + timedelta(seconds=5))
        if order.remaining > 0:
            self.end(order, "Cancelled", at + timedelta(seconds=6), "Order Canceled - reason:Cancelled by System")

    def _split(self, session: date) -> None:
        for symbol, (day, ratio) in self.market.splits.items():
            if day != session:
                continue
            self.market.scales[symbol] = ratio
            held = self.positions.get(symbol)
            if held is not None:
                held.shares *= ratio
                held.avg_cost /= ratio

    # -- money ------------------------------------------------------------------------------------------------------

    def settled_usd(self, today: date) -> float:
        """US dollars that have arrived: the day after a sale."""
        if self.account.settled_cash is not None:
            return self.account.settled_cash
        waiting = sum(usd for day, usd in self.account.unsettled if day > today)
        return self.account.cash.get("USD", 0.0) - waiting

    def stock_value_usd(self, now: datetime) -> float:
        """What the positions in US dollars are worth."""
        held = [position for position in self.positions.values() if position.contract.currency == "USD"]
        return sum(position.shares * self.price(position, now) for position in held)

    def price(self, position: Position, now: datetime) -> float:
        """The last price of what is held; its cost where the source has none."""
        known = self.market.last(position.contract.symbol, now)
        return position.avg_cost if known is None else known

    def price_of(self, contract: Contract, now: datetime) -> float:
        """The last price of a contract; 0 where the source has none."""
        return self.market.last(contract.symbol, now) or 0.0

    def figures(self, now: datetime) -> dict[str, float]:
        """The account's totals by the terminal's tags, in base currency."""
        account = self.account
        cash = sum(amount * account.rates[currency] for currency, amount in account.cash.items())
        stocks = account.in_base(self.stock_value_usd(now))
        margin = stocks * account.initial_margin_ratio
        available = cash + stocks - margin if account.available_funds is None else account.available_funds
        waiting = account.cash.get("USD", 0.0) - self.settled_usd(self.market.calendar.local_date(now))
        return {
            "NetLiquidation": cash + stocks,
            "TotalCashValue": cash,
            "SettledCash": cash - account.in_base(waiting),
            "AccruedCash": 0.0,
            "BuyingPower": available / account.initial_margin_ratio,
            "EquityWithLoanValue": cash + stocks,
            "PreviousDayEquityWithLoanValue": cash + stocks,
            "GrossPositionValue": stocks,
            "InitMarginReq": margin,
            "MaintMarginReq": margin,
            "AvailableFunds": available,
            "ExcessLiquidity": available,
            "FullInitMarginReq": margin,
            "FullMaintMarginReq": margin,
            "FullAvailableFunds": available,
            "FullExcessLiquidity": available,
        }

    # -- inside -----------------------------------------------------------------------------------------------------

    def _perm_id(self) -> int:
        self._next_perm_id += 1
        return self._next_perm_id

    def _is_open(self, now: datetime) -> bool:
        calendar = self.market.calendar
        today = calendar.local_date(now)
        return calendar.is_session(today) and calendar.open(today) <= now < calendar.close(today)

    def _session_of(self, now: datetime) -> date:
        """The session an order placed now belongs to."""
        calendar = self.market.calendar
        today = calendar.local_date(now)
        if calendar.is_session(today) and now < calendar.close(today):
            return today
        return calendar.nearest(today)[1]

    def _is_frozen(self, order: Order, now: datetime) -> bool:
        """Whether the exchange takes no more entries and cancellations for the order's auction."""
        cutoff = timedelta(minutes=self.rules.moc_cutoff_minutes)
        return now > self.market.calendar.close(order.session) - cutoff

    def _refusal(self, order: Order, now: datetime) -> str:
        """Why an order is rejected, in the terminal's words; empty where it is taken."""
        today = self.market.calendar.local_date(now)
        if self.rules.rejects:
            return self.rules.rejects
        if order.order_type == "MOC" and order.order_type not in order.contract.order_types.split(","):
            return (
                "Order rejected - reason:The order type MOC is invalid for this combination of exchange and contract."
            )
        is_over = order.session != today
        is_late = order.order_type == "MOC" and not is_over and self._is_frozen(order, now)
        if is_late or (is_over and self.rules.after_close == "reject"):
            return "Order rejected - reason:Exchange is closed."
        price = self.market.last(order.contract.symbol, now)
        if self.rules.checks_funds and order.action == "BUY" and price is not None:
            need = self.account.in_base(order.quantity * price * self.account.initial_margin_ratio)
            have = self.figures(now)["EquityWithLoanValue"]
            if need > self.figures(now)["AvailableFunds"]:
                base = self.account.base_currency
                return (
                    "Order rejected - reason:YOUR ORDER IS NOT ACCEPTED. IN ORDER TO OBTAIN THE DESIRED POSITION YOUR"
                    f" EQUITY WITH LOAN VALUE [{have:.2f} {base}] MUST EXCEED THE INITIAL MARGIN [{need:.2f} {base}]"
                )
        return ""

    def _order(self, asked: Request, contract: Contract, now: datetime, perm_id: int) -> Order:
        """The order a request describes. Raises Refused where it can never be one."""
        values, quantity = asked.values, float(asked.values["totalQuantity"])
        if not quantity.is_integer():
            raise Refused(10243)
        if values["orderType"] in ("MOC", "LOC") and values["tif"] not in ("", "DAY"):
            raise Refused(113)
        return Order(
            client_id=asked.client_id,
            order_id=int(values["orderId"]),
            perm_id=perm_id,
            contract=contract,
            action=values["action"],
            quantity=quantity,
            order_type=values["orderType"],
            tif=values["tif"] or "DAY",
            reference=values["orderRef"],
            account=values["account"] or self.account.id,
            exchange=values["exchange"] or "SMART",
            lmt_price=float(values["lmtPrice"] or 0),
            session=self._session_of(now),
            placed_at=now,
        )

    def _modify(self, order: Order, asked: Request) -> None:
        if asked.values["orderType"] != order.order_type or asked.values["action"] != order.action:
            raise Refused(105)
        order.quantity = float(asked.values["totalQuantity"])
        self._told("accepted", order, None)

    def _move(self, contract: Contract, shares: float, price: float, commission: float) -> float | None:
        """The realised profit of the part that closes something, after costs; None where nothing is closed."""
        held = self.positions.setdefault(contract.symbol, Position(contract, 0.0, 0.0))
        before, closes = held.shares, held.shares * shares < 0
        held.shares += shares
        if closes:
            closed = min(abs(before), abs(shares))
            return (price - held.avg_cost) * closed * (1 if before > 0 else -1) - commission
        held.avg_cost = (held.avg_cost * abs(before) + price * abs(shares) + commission) / abs(held.shares)
        return None


def local(instant: datetime) -> datetime:
    """An instant on the exchange's wall clock."""
    return instant.astimezone(NEW_YORK)


def today_only(executions: list[Execution], today: date) -> Iterator[Execution]:
    """The executions a terminal still knows: those since midnight."""
    return (execution for execution in executions if local(execution.at).date() == today)
