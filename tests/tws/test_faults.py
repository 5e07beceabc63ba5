"""Each fault is one line, and does to the wire what it says."""

import os
import socket
import threading
from collections.abc import Iterator

import pytest
from plain import MTUM, VIX, Plain

from tws_server import CODES, Reply, Request, Server


@pytest.fixture
def tws() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def client(tws: Server) -> Iterator[Plain]:
    with Plain(tws.port) as plain:
        yield plain


@pytest.fixture
def three(tws: Server, client: Plain) -> Plain:
    """A client with three working orders."""
    for order_id in (1, 2, 3):
        client.place(order_id, shares=1)
    client.names()
    assert 3 == len(tws.orders)
    return client


def test_a_drop_before_a_request_leaves_nothing_done(tws: Server, client: Plain) -> None:
    tws.faults.drop(before="placeOrder")
    client.place(1)

    assert (["closed"], []) == (client.names(), tws.orders)


def test_a_drop_after_a_request_leaves_it_done_and_unanswered(tws: Server, client: Plain) -> None:
    """The order is in the books, the client never heard of it."""
    tws.faults.drop(after="placeOrder")
    client.place(1)

    assert (["closed"], ["PreSubmitted"]) == (client.names(), [order.status for order in tws.orders])


def test_a_drop_happens_once_unless_told_otherwise(tws: Server) -> None:
    tws.faults.drop(before="reqPositions")
    heard = []
    for _ in range(2):
        with Plain(tws.port) as client:
            client.send(61, 1)
            heard.append(client.names())

    assert [["closed"], ["positionEnd"]] == heard


@pytest.mark.parametrize(
    ("fault", "heard"),
    [
        ({"before": "orderStatus"}, ["openOrder", "closed"]),
        ({"after": "orderStatus"}, ["openOrder", "orderStatus", "closed"]),
    ],
)
def test_a_drop_at_a_reply_cuts_the_conversation_there(
    tws: Server, client: Plain, fault: dict[str, str], heard: list[str]
) -> None:
    tws.faults.drop(**fault)
    client.place(1)

    assert heard == client.names()


def test_a_hanging_request_is_worked_on_and_never_answered(tws: Server, client: Plain) -> None:
    """The order rests and fills; later news of it do arrive."""
    tws.faults.hang("placeOrder")
    client.place(1)
    unanswered = client.names()
    tws.clock.advance(minutes=30)

    assert ([], ["execDetails", "openOrder", "orderStatus", "commissionReport"]) == (unanswered, client.names())


def test_a_hanging_history_can_be_cancelled_and_an_answered_one_is_not_found(tws: Server, client: Plain) -> None:
    """162 and 366, as a client hears them that gave up waiting."""
    client.history(MTUM, "1 D")
    client.send(25, 1, 50)
    tws.faults.hang("reqHistoricalData")
    client.send(20, 51, *MTUM, 0, "", "1 day", "1 D", 1, "TRADES", 1, 0, "")
    client.send(25, 1, 51)

    assert [("50", "366"), ("51", "162")] == [(row[2], row[3]) for _, row in client.rest()]


def test_a_hanging_end_mark_leaves_a_list_open(tws: Server, three: Plain) -> None:
    tws.faults.hang("openOrderEnd")
    three.send(16, 1)

    assert 3 * ["openOrder", "orderStatus"] == three.names()


def test_a_hanging_handshake_accepts_the_connection_and_says_nothing(tws: Server) -> None:
    """As a forwarded port does while the Gateway behind it is down."""
    tws.faults.hang("serverVersion")

    with pytest.raises(TimeoutError), Plain(tws.port, wait=0.2):
        pass


def test_a_lost_request_never_arrives(tws: Server, client: Plain) -> None:
    tws.faults.lose("placeOrder", times=1)
    client.place(1)
    nothing = client.names()
    client.place(1)

    assert ([], ["openOrder", "orderStatus"], 1) == (nothing, client.names(), len(tws.orders))


def test_a_list_can_end_half_way(tws: Server, three: Plain) -> None:
    """One order of three, and no end mark; the next answer is whole."""
    tws.faults.cut("openOrder", after=1)
    three.send(16, 1)
    half = three.names()
    three.send(16, 1)

    assert (["openOrder", "orderStatus"], 7) == (half, len(three.names()))


def test_a_late_reply_is_overtaken(tws: Server, client: Plain) -> None:
    tws.faults.late("openOrder", 0.5)
    client.place(1)
    at_once = client.names()

    assert (["orderStatus"], "openOrder") == (at_once, client.read()[0])


def test_a_late_request_is_worked_on_later(tws: Server, client: Plain) -> None:
    tws.faults.late("placeOrder", 0.5)
    client.place(1)
    at_once = (client.names(), list(tws.orders))

    assert (([], []), ["openOrder", "orderStatus"]) == (at_once, [client.read()[0], client.read()[0]])


def test_a_reply_can_come_twice(tws: Server, client: Plain) -> None:
    tws.faults.twice("execDetails")
    client.place(1, kind="MKT")
    names = client.names()

    assert (2, 1) == (names.count("execDetails"), len(tws.executions))


def test_replies_of_one_event_can_change_places(tws: Server, client: Plain) -> None:
    """The commission before its execution."""
    tws.faults.reorder("commissionReport", "execDetails")
    client.place(1)
    client.names()
    tws.clock.advance(minutes=30)

    assert ["commissionReport", "openOrder", "orderStatus", "execDetails"] == client.names()


@pytest.mark.parametrize("code", [code for code in CODES if code not in (502, 504)])
def test_every_code_is_said_in_its_own_words(tws: Server, client: Plain, code: int) -> None:
    """In place of the answer, or beside it where it is only advice."""
    tws.faults.error("reqContractDetails", code)
    client.send(9, 8, 77, *MTUM, 0, "", "", "")
    (name, fields), *rest = client.rest()

    assert ("error", ["4", "2", "77", str(code), CODES[code], ""]) == (name, fields)
    is_advice = code in (399, 404, 1100, 1101, 1102, 10167, 10349) or 2100 <= code < 2200
    assert (["contractDetails", "contractDetailsEnd"] if is_advice else []) == [name for name, _ in rest]


def test_an_order_whose_time_in_force_was_preset_stays_live(tws: Server, client: Plain) -> None:
    """10349 makes client libraries call it cancelled."""
    tws.faults.error("placeOrder", 10349)
    client.place(1)

    assert (["error", "openOrder", "orderStatus"], [True]) == (client.names(), [order.is_live for order in tws.orders])


def test_an_error_can_have_words_of_its_own_and_pass_first_messages(tws: Server, client: Plain) -> None:
    tws.faults.error("reqPositions", 321, "no", skip=1, times=1)
    heard = []
    for _ in range(3):
        client.send(61, 1)
        heard += [fields[4] if name == "error" else name for name, fields in client.rest()]

    assert ["positionEnd", "no", "positionEnd"] == heard


def test_all_is_well_after_clear(tws: Server, client: Plain) -> None:
    tws.faults.hang("positionEnd")
    tws.faults.clear()
    client.send(61, 1)

    assert ["positionEnd"] == client.names()


def test_a_message_nobody_has_is_named_as_a_mistake(tws: Server) -> None:
    """A fault that can never happen would make a test prove nothing."""
    with pytest.raises(ValueError, match="no message is called placeOrders"):
        tws.faults.drop(before="placeOrders")


def test_connections_can_be_refused_and_taken_again_on_the_same_port(tws: Server) -> None:
    tws.refuse()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", tws.port), timeout=1)
    tws.accept()
    with Plain(tws.port) as client:
        assert [] == client.names()


def test_a_forked_worker_keeps_no_connection_and_no_port_open(tws: Server, client: Plain) -> None:
    """It has copies of every socket: hanging up must not wait for it to end."""
    reader, writer = os.pipe()
    worker = os.fork()
    if worker == 0:
        os.close(writer)
        os.read(reader, 1)  # until the parent has seen what it wants to see
        os._exit(0)
    try:
        tws.refuse()
        closed = client.names()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", tws.port), timeout=1)
        tws.accept()
        with Plain(tws.port) as again:
            served = again.names()
    finally:
        os.close(writer)
        os.close(reader)
        os.waitpid(worker, 0)

    assert (["closed"], []) == (closed, served)


def test_everybody_hears_what_the_server_says(tws: Server, client: Plain) -> None:
    """The link to the broker is lost, and comes back."""
    tws.say(1100)
    tws.say(1102)

    assert [["-1", "1100"], ["-1", "1102"]] == [fields[2:4] for _, fields in client.rest()]


def test_read_only_refuses_orders_and_lists_of_orders(tws: Server, client: Plain) -> None:
    """321, which is also how a what-if order finds out."""
    tws.exchange.rules.read_only = True
    client.place(1, what_if="1")
    client.send(16, 1)
    client.send(99, 0)
    client.send(61, 1)

    assert ["321", "321", "321", "positionEnd"] == [row[3] if name == "error" else name for name, row in client.rest()]


def test_a_competing_login_takes_quotes_and_history(tws: Server, client: Plain) -> None:
    tws.exchange.rules.competing_session = True
    client.send(1, 11, 60, *MTUM, 0, "", 1, 0, "")

    assert "10197" == client.rest()[0][1][3]
    assert "162" == client.history(MTUM, "5 D")[1][3]


@pytest.mark.parametrize(
    ("feed", "asked_for", "heard"),
    [
        ("live", 1, ["tickReqParams", "1"]),
        ("delayed", 1, ["10089"]),
        ("delayed", 3, ["10167", "tickReqParams", "3"]),
        ("none", 3, ["354"]),
    ],
)
def test_quotes_follow_what_the_account_is_entitled_to(
    tws: Server, client: Plain, feed: str, asked_for: int, heard: list[str]
) -> None:
    """Message 58 says which kind it is."""
    tws.exchange.rules.feeds["MTUM"] = feed  # type: ignore[assignment]
    client.send(59, 1, asked_for)
    client.send(1, 11, 60, *MTUM, 0, "", 1, 0, "")
    said = [(row[3] if name in ("error", "marketDataType") else name) for name, row in client.rest()]

    assert heard == [
        word for word in said if not word.startswith("tickP") and word not in ("tickSize", "tickSnapshotEnd")
    ]


def test_history_needs_live_data(tws: Server, client: Plain) -> None:
    """There is no delayed history."""
    tws.exchange.rules.feeds["VIX"] = "delayed"

    assert (
        "Historical Market Data Service error message:No market data permissions for CBOE IND"
        == client.history(VIX, "5 D")[1][4]
    )


def test_a_hook_holds_the_conversation_at_its_message(tws: Server, client: Plain) -> None:
    """Before: nothing is done yet. After: it is done, and not answered. Other clients are served meanwhile."""
    at_hook, go_on = threading.Event(), threading.Event()
    seen: list[tuple[str, int]] = []

    def hold(message: Request | Reply) -> None:
        seen.append((message.name, len(tws.orders)))
        at_hook.set()
        assert go_on.wait(5)

    tws.on("placeOrder", hold, when="before")
    tws.on("placeOrder", lambda message: seen.append((message.name, len(tws.orders))), when="after")
    tws.on("orderStatus", lambda message: seen.append((message.name, len(tws.orders))))
    client.place(1)
    assert at_hook.wait(5)
    with Plain(tws.port, client_id=2) as other:
        other.send(61, 1)
        assert ["positionEnd"] == other.names()
    go_on.set()

    assert ["openOrder", "orderStatus"] == client.names()
    assert [("placeOrder", 0), ("placeOrder", 1), ("orderStatus", 1)] == seen


def test_a_hook_can_move_the_clock(tws: Server, client: Plain) -> None:
    """The order fills between the client's question and the answer."""
    client.place(1)
    client.names()
    tws.on("reqAllOpenOrders", lambda _: tws.clock.advance(minutes=30))
    client.send(16, 1)

    assert "openOrderEnd" == client.names()[-1]
    assert ["Filled"] == [order.status for order in tws.orders]


def test_what_happens_while_an_answer_is_held_is_told_behind_it(tws: Server, client: Plain) -> None:
    """The order fills while its acknowledgement is held back: first the acknowledgement, then the fill."""
    tws.on("placeOrder", lambda _: tws.clock.advance(minutes=30), when="after")
    client.place(1)

    fill = ["execDetails", "openOrder", "orderStatus", "commissionReport"]
    assert ["openOrder", "orderStatus", *fill] == client.names()


def test_a_defect_of_the_server_reaches_the_test() -> None:
    """A hook that fails must not pass for a silent broker."""

    def fail(message: Request | Reply) -> None:
        raise RuntimeError(message.name)

    tws = Server()
    tws.on("reqPositions", fail)
    tws.__enter__()
    with Plain(tws.port) as client:
        client.send(61, 1)
        client.names()

    with pytest.raises(RuntimeError, match="reqPositions"):
        tws.__exit__()


def test_waiting_for_a_request_that_never_comes_says_so(tws: Server) -> None:
    with pytest.raises(TimeoutError, match=r"0 x placeOrder in 0\.05 s, 1 expected"):
        tws.wait_for("placeOrder", timeout=0.05)
