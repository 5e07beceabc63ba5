"""What the server does with orders: resting, filling, refusing, cancelling, and what it still knows of them later."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from plain import MTUM, Plain

from tws_server import CODES, NEW_YORK, Auction, Server

BUY = "mtum-eod/paper/DU1/MTUM/2024-11-05/BUY"


@pytest.fixture
def tws() -> Iterator[Server]:
    """The sample at 15:40 on 2024-11-05, where it closes at 207.74."""
    with Server() as server:
        yield server


@pytest.fixture
def client(tws: Server) -> Iterator[Plain]:
    with Plain(tws.port, offers="v157..157") as plain:
        yield plain


def told(client: Plain) -> list[tuple[str, ...]]:
    """What a client heard about its orders, shortened to what a reader of it looks at."""
    cut = {
        "openOrder": lambda row: (row[23], row[94]),  # reference, status
        "orderStatus": lambda row: (row[2], row[3], row[4]),  # status, filled, remaining
        "execDetails": lambda row: (row[19], row[20], row[26]),  # shares, price, reference
        "commissionReport": lambda row: (row[3],),
        "error": lambda row: (row[3],),
        "completedOrder": lambda row: (row[22], row[77]),
    }
    return [(name, *cut[name](row)) if name in cut else (name,) for name, row in client.rest()]


def test_a_market_on_close_order_rests(tws: Server, client: Plain) -> None:
    """Accepted is `PreSubmitted` until the auction."""
    client.place(1, reference=BUY)

    assert [("openOrder", BUY, "PreSubmitted"), ("orderStatus", "PreSubmitted", "0", "19")] == told(client)
    assert [(BUY, "MTUM", 19, "PreSubmitted")] == [
        (order.reference, order.contract.symbol, order.quantity, order.status) for order in tws.orders
    ]


def test_passing_the_close_fills_it_at_the_bars_close(tws: Server, client: Plain) -> None:
    """Execution, status and commission arrive, and the books have moved."""
    client.place(1, reference=BUY)
    told(client)
    tws.clock.advance(minutes=30)

    assert [
        ("execDetails", "19", "207.74", BUY),
        ("openOrder", BUY, "Filled"),
        ("orderStatus", "Filled", "19", "0"),
        ("commissionReport", "1"),
    ] == told(client)
    assert (19, 10_000 - 19 * 207.74 - 1) == (tws.positions["MTUM"].shares, tws.account.cash["USD"])


def test_the_status_can_come_before_the_execution(tws: Server, client: Plain) -> None:
    """Both orders are seen live."""
    tws.exchange.rules.status_before_execution = True
    client.place(1)
    told(client)
    tws.clock.advance(minutes=30)

    assert ["openOrder", "orderStatus", "execDetails", "commissionReport"] == client.names()


def test_an_auction_can_fill_in_parts_and_cancel_the_rest(tws: Server, client: Plain) -> None:
    """Each part has its own execution; the system cancels what is left."""
    tws.exchange.auctions[tws.calendar.local_date(tws.clock.now())] = Auction(parts=((5, 207.0), (7, 208.0)))
    client.place(1)
    told(client)
    tws.clock.advance(minutes=30)

    heard = told(client)
    assert [("5", "207"), ("7", "208")] == [row[1:3] for row in heard if row[0] == "execDetails"]
    assert [("orderStatus", "Cancelled", "12", "7"), ("error", "202")] == heard[-2:]
    assert pytest.approx((5 * 207 + 7 * 208) / 12) == tws.orders[0].avg_price


def test_an_auction_can_fill_fewer_shares_or_none(tws: Server, client: Plain) -> None:
    session = tws.calendar.local_date(tws.clock.now())
    tws.exchange.auctions[session] = Auction(price=200.0, shares=3)
    client.place(1)
    tws.wait_for("placeOrder")
    told(client)
    tws.clock.advance(minutes=30)
    tws.exchange.auctions[tws.calendar.nearest(session)[1]] = Auction(cancels="Order Canceled - reason:Halted")
    client.place(2)
    told(client)
    tws.clock.advance(days=1)

    assert [(3, 200.0, "Cancelled"), (0, 0.0, "Cancelled")] == [
        (order.filled, order.avg_price, order.status) for order in tws.orders
    ]


def test_a_market_order_fills_at_once(tws: Server, client: Plain) -> None:
    """At the last price of the moment."""
    last = tws.market.last("MTUM", tws.clock.now())
    client.place(1, kind="MKT", shares=2)

    assert ["openOrder", "orderStatus", "execDetails", "openOrder", "orderStatus", "commissionReport"] == client.names()
    assert [(2, last)] == [(execution.shares, execution.price) for execution in tws.executions]


def test_a_market_order_at_night_waits_for_the_open(tws: Server, client: Plain) -> None:
    """399 says until when."""
    tws.clock.set(datetime(2024, 11, 5, 20, 0, tzinfo=NEW_YORK))
    client.place(1, kind="MKT")
    (held, *_) = client.rest()
    tws.clock.set(datetime(2024, 11, 6, 9, 31, tzinfo=NEW_YORK))

    assert "placed at the exchange until 2024-11-06 09:30:00 US/Eastern" in held[1][4].replace("\n", " ")
    assert [datetime(2024, 11, 6, 9, 30, tzinfo=NEW_YORK)] == [execution.at for execution in tws.executions]


def test_an_order_after_the_close_is_taken_for_the_next_session(tws: Server, client: Plain) -> None:
    """The broker is no guard against a late one."""
    tws.clock.set(datetime(2024, 11, 5, 16, 5, tzinfo=NEW_YORK))
    client.place(1)

    assert [("error", "399"), ("openOrder", "", "PreSubmitted"), ("orderStatus", "PreSubmitted", "0", "19")] == told(
        client
    )
    assert "2024-11-06" == str(tws.orders[0].session)


@pytest.mark.parametrize(
    ("change", "order", "code"),
    [
        pytest.param({"moc_cutoff_minutes": 25.0}, {}, "201", id="past the exchange's cut-off"),
        pytest.param({}, {"shares": 10_000}, "201", id="more than the account can pay for"),
        pytest.param({"read_only": True}, {}, "321", id="read-only API"),
        pytest.param({"rejects": CODES[201]}, {}, "201", id="as the test wants it"),
        pytest.param({}, {"tif": "GTC"}, "113", id="a market-on-close order good till cancelled"),
        pytest.param({}, {"account": "U999"}, "321", id="an account that is not managed here"),
        pytest.param({}, {"shares": "1.5"}, "10243", id="a fraction of a share"),
    ],
)
def test_an_order_is_refused_with_its_code(
    tws: Server, client: Plain, change: dict[str, object], order: dict[str, str], code: str
) -> None:
    """Nothing of it rests, and nothing of it trades."""
    for name, value in change.items():
        setattr(tws.exchange.rules, name, value)
    client.place(1, **order)

    assert ("error", code) == told(client)[0]
    assert [] == [order for order in tws.orders if order.is_live]


def test_a_listing_without_the_order_type_refuses_it(tws: Server, client: Plain) -> None:
    fund = tws.exchange.contracts[0]
    tws.exchange.contracts[0] = type(fund)(con_id=1, symbol="MTUM", primary_exchange="BATS", order_types="LMT,MKT")
    client.place(1)

    assert ("error", "201") == told(client)[0]


def test_an_unknown_contract_cannot_be_traded(client: Plain) -> None:
    """200, as for its details."""
    fields = ["3", "1", "0", "NOPE", *MTUM[2:], "", "", "BUY", "1", "MKT", "", ""]
    client.send(*fields, *[""] * (110 - len(fields)))

    assert [("error", "200")] == told(client)


def test_the_same_id_changes_a_working_order_and_is_used_up_by_a_done_one(tws: Server, client: Plain) -> None:
    """Sending again under the same id never makes a second order."""
    client.place(1)
    client.place(1, shares=12)
    told(client)
    changed = [order.quantity for order in tws.orders]
    tws.clock.advance(minutes=30)
    told(client)
    client.place(1)

    assert ([12], [("error", "103")], 12) == (changed, told(client), tws.positions["MTUM"].shares)


def test_another_kind_of_order_under_the_same_id_is_a_mismatch(tws: Server, client: Plain) -> None:
    client.place(1)
    told(client)
    client.place(1, "SELL")

    assert ([("error", "105")], "BUY") == (told(client), tws.orders[0].action)


def test_ids_issued_again_let_an_old_id_make_a_new_order(tws: Server) -> None:
    """The danger after a Gateway lost its sequence: the old order still works."""
    with Plain(tws.port) as before:
        before.place(1)
        tws.wait_for("placeOrder")
        before.names()
    tws.restart(first_id=1)
    with Plain(tws.port) as after:
        after.place(1)
        after.names()

        assert 2 == len({order.perm_id for order in tws.orders if order.is_live})


def test_a_restart_keeps_orders_and_the_count_of_ids(tws: Server, client: Plain) -> None:
    client.place(1)
    told(client)
    tws.restart()
    with Plain(tws.port) as again:
        again.send(16, 1)

        assert ([["9", "1", "2"]], ["openOrder", "orderStatus", "openOrderEnd"]) == (
            [fields for name, fields in again.said if name == "nextValidId"],
            again.names(),
        )


def test_cancelling_says_cancelled_and_then_202(client: Plain) -> None:
    client.place(1)
    told(client)
    client.send(4, 1, 1)

    assert [("orderStatus", "Cancelled", "0", "19"), ("error", "202")] == told(client)


def test_what_cannot_be_cancelled_says_why(client: Plain) -> None:
    """10147 for an id it never saw, 10148 for an order that is done."""
    client.place(1, kind="MKT")
    told(client)
    client.send(4, 1, 1)
    client.send(4, 1, 9)

    assert ["OrderId 1 that needs to be cancelled cannot be cancelled, state: Filled.",
            "OrderId 9 that needs to be cancelled is not found."] == [row[4] for _, row in client.rest()]  # fmt: skip


def test_past_the_cut_off_nothing_is_cancelled(tws: Server, client: Plain) -> None:
    """161, and the order takes part in the auction."""
    client.place(1)
    told(client)
    tws.clock.advance(minutes=19, seconds=30)
    client.send(4, 1, 1)

    assert ([("error", "161")], True) == (told(client), tws.orders[0].is_live)


def test_lists_can_forget(tws: Server, client: Plain) -> None:
    """Empty and with their end mark, though the shares are there."""
    tws.exchange.rules.shows_executions = tws.exchange.rules.shows_completed = False
    client.place(1, kind="MKT")
    told(client)
    client.send(99, 0)
    client.send(7, 3, 9, 0, "", "", "", "", "", "")
    client.send(61, 1)

    assert ["completedOrdersEnd", "execDetailsEnd", "position", "positionEnd"] == client.names()


def test_a_what_if_order_is_answered_and_not_placed(tws: Server, client: Plain) -> None:
    """Margin and commission; the id stays free."""
    client.place(1, what_if="1")
    ((name, row),) = client.rest()
    last = tws.market.last("MTUM", tws.clock.now()) or 0.0

    assert ("openOrder", "1", f"{19 * last / 4:g}", "1", "USD") == (
        name,
        row[93],
        f"{float(row[98]):g}",
        row[104],
        row[107],
    )
    assert ([], 1) == (tws.orders, tws.exchange.next_id(1))


def test_a_rejected_what_if_order_says_why(client: Plain) -> None:
    client.place(1, what_if="1", shares=10_000)

    assert [("error", "201")] == told(client)


def test_each_client_sees_its_own_open_orders_and_all_of_them_on_demand(tws: Server, client: Plain) -> None:
    """Order ids count for each client by itself."""
    with Plain(tws.port, client_id=2) as other:
        client.place(1, reference="mine")
        other.place(1, reference="theirs")
        told(client), other.names()
        client.send(5, 1)
        own = [row[1] for row in told(client) if row[0] == "openOrder"]
        client.send(16, 1)

        assert (["mine"], ["mine", "theirs"]) == (own, [row[1] for row in told(client) if row[0] == "openOrder"])


def test_a_completed_order_has_neither_price_nor_order_id_nor_quantity(tws: Server, client: Plain) -> None:
    """What a filled one does have: reference, permanent id, filled quantity and its words."""
    client.place(1, reference=BUY)
    told(client)
    tws.clock.advance(minutes=30)
    told(client)
    client.send(99, 0)
    row = client.rest()[0][1]

    assert (BUY, "0", str(tws.orders[0].perm_id), "19", "Filled Size: 19") == (
        row[22],
        row[13],
        row[23],
        row[87],
        row[95],
    )


def test_completed_orders_and_executions_are_forgotten_at_midnight(tws: Server, client: Plain) -> None:
    client.place(1)
    told(client)
    tws.clock.set(datetime(2024, 11, 5, 23, 59, tzinfo=NEW_YORK))
    told(client)

    def known() -> list[str]:
        client.send(99, 0)
        client.send(7, 3, 9, 0, "", "", "", "", "", "")
        return client.names()

    before = known()
    tws.clock.advance(minutes=2)

    assert (
        ["completedOrder", "completedOrdersEnd", "execDetails", "commissionReport", "execDetailsEnd"],
        ["completedOrdersEnd", "execDetailsEnd"],
    ) == (before, known())


def test_executions_carry_their_request_and_the_exchanges_wall_clock(tws: Server, client: Plain) -> None:
    client.place(1)
    told(client)
    tws.clock.advance(minutes=30)
    told(client)
    client.send(7, 3, 44, 0, "", "", "MTUM", "STK", "", "BUY")
    row = client.rest()[0][1]

    assert ("44", "20241105 16:00:05 US/Eastern", "DU1234567", "BATS", "BOT") == (row[1], *row[15:19])


@pytest.mark.parametrize("written", ["", "20241105 16:00:05 Eastern Standard Time", "20241105-21:00:05"])
def test_an_executions_time_can_be_one_that_clients_cannot_read(tws: Server, client: Plain, written: str) -> None:
    """Clients lose such a print with a line in their log."""
    tws.exchange.rules.execution_time = written
    client.place(1, kind="MKT")

    assert [written] == [row[15] for name, row in client.rest() if name == "execDetails"]


def test_a_correction_is_the_same_print_under_the_next_number(tws: Server, client: Plain) -> None:
    """The books follow the corrected price."""
    client.place(1, kind="MKT", shares=10)
    told(client)
    cash = tws.account.cash["USD"]
    tws.correct(tws.executions[0], price=tws.executions[0].price - 1)
    ids = [execution.exec_id for execution in tws.executions]

    assert [ids[0][:-1] + "2"] == [row[14] for name, row in client.rest() if name == "execDetails"]
    assert cash + 10 == tws.account.cash["USD"]


def test_commissions_can_stay_out(tws: Server, client: Plain) -> None:
    tws.exchange.rules.sends_commissions = False
    client.place(1, kind="MKT")

    assert "commissionReport" not in client.names()


def test_a_sale_reports_what_it_realised(tws: Server, client: Plain) -> None:
    """After both commissions; the shares are gone."""
    tws.hold("MTUM", 19, 200.0)
    client.place(1, "SELL")
    told(client)
    tws.clock.advance(minutes=30)
    reports = [row for name, row in client.rest() if name == "commissionReport"]

    assert ([f"{19 * 7.74 - 1:g}"], 0) == ([f"{float(row[5]):g}" for row in reports], tws.positions["MTUM"].shares)


def test_more_sold_than_held_is_a_short_position(tws: Server, client: Plain) -> None:
    """A margin account takes it: the server does not protect the program from itself."""
    client.place(1, "SELL", 5, "MKT")
    told(client)

    assert -5 == tws.positions["MTUM"].shares


def test_a_test_can_reject_cancel_suspend_and_fill(tws: Server, client: Plain) -> None:
    """As the exchange and the terminal's own people do."""
    for order_id in (1, 2, 3, 4):
        client.place(order_id, shares=2)
    told(client)
    tws.reject(tws.orders[0])
    tws.cancel(tws.orders[1])
    tws.suspend(tws.orders[2])
    tws.fill(tws.orders[3], 1, 199.5)

    assert [
        ("error", "201"),
        ("openOrder", "", "Inactive"),
        ("orderStatus", "Inactive", "0", "2"),
        ("orderStatus", "Cancelled", "0", "2"),
        ("error", "202"),
        ("openOrder", "", "Inactive"),
        ("orderStatus", "Inactive", "0", "2"),
        ("execDetails", "1", "199.5", ""),
        ("openOrder", "", "PreSubmitted"),
        ("orderStatus", "PreSubmitted", "1", "1"),
        ("commissionReport", "1"),
    ] == told(client)
    assert [False, False, True, True] == [order.is_live for order in tws.orders]


def test_a_trade_by_hand_belongs_to_nobody(tws: Server, client: Plain) -> None:
    """Client 0, order 0, no reference: every client finds it among the executions."""
    tws.trade_by_hand("BUY", "MTUM", 5, 205.0)
    client.send(7, 3, 9, 0, "", "", "", "", "", "")
    row = client.rest()[0][1]

    assert ("0", "0", "", "5") == (row[2], row[22], row[26], row[19])


def test_time_passes_through_every_close_on_the_way(tws: Server, client: Plain) -> None:
    """Three days at once: each order has its own auction."""
    client.place(1, shares=1)
    told(client)
    tws.clock.advance(timedelta(days=3))

    assert [datetime(2024, 11, 5, 16, 0, 5, tzinfo=NEW_YORK)] == [execution.at for execution in tws.executions]
