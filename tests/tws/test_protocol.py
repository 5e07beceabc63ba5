"""The wire itself: what is sent has the fields a terminal's messages have, no more and no fewer."""

import socket
import struct

import pytest
from plain import MTUM, Plain

from tws_server import Reply, Server
from tws_server.messages import REPLIES, encode
from tws_server.wire import frame, text

# Counted in the vendor's decoders and in recorded frames: at 157, and at the versions that add to it.
COUNTS = {
    "managedAccounts": {157: 3},
    "nextValidId": {157: 3},
    "currentTime": {157: 3},
    "error": {157: 5, 166: 6},
    "contractDetails": {157: 39, 163: 40, 164: 40},
    "contractDetailsEnd": {157: 3},
    "historicalData": {157: 5},
    "marketDataType": {157: 4},
    "tickPrice": {157: 7},
    "tickSize": {157: 5},
    "tickGeneric": {157: 5},
    "tickString": {157: 5},
    "tickReqParams": {157: 5},
    "tickSnapshotEnd": {157: 3},
    "position": {157: 16},
    "positionEnd": {157: 2},
    "updateAccountValue": {157: 6},
    "updatePortfolio": {157: 20},
    "updateAccountTime": {157: 3},
    "accountDownloadEnd": {157: 3},
    "accountUpdateMulti": {157: 8},
    "accountUpdateMultiEnd": {157: 3},
    "accountSummary": {157: 7},
    "accountSummaryEnd": {157: 3},
    "orderStatus": {157: 12},
    "openOrder": {157: 128, 159: 129, 160: 130, 162: 131, 164: 131, 170: 136, 177: 135},
    "openOrderEnd": {157: 2},
    "execDetails": {157: 31, 176: 31},
    "execDetailsEnd": {157: 3},
    "commissionReport": {157: 8},
    "completedOrder": {157: 96, 164: 96, 170: 101, 177: 100},
    "completedOrdersEnd": {157: 1},
}


class Anything(dict[str, object]):
    """A value for every field: an empty list where one is spliced in."""

    def __init__(self, name: str) -> None:
        words = [word for word in REPLIES[name].split() if not word[0].isdigit() and "=" not in word]
        names = [word.split("@")[0].split("<")[0] for word in words]
        super().__init__({key.lstrip("*"): [] if key.startswith("*") else "1" for key in names})


@pytest.mark.parametrize(("name", "version", "count"), [(n, v, c) for n, row in COUNTS.items() for v, c in row.items()])
def test_a_message_has_exactly_the_fields_of_its_version(name: str, version: int, count: int) -> None:
    """The official client drops a message of another length without a word."""
    assert count == len(encode(Reply(name, Anything(name)), version))


def test_a_value_nobody_asked_for_is_refused() -> None:
    """A typing error in a name must not become an empty field."""
    with pytest.raises(KeyError, match="orderID"):
        encode(Reply("nextValidId", {"orderID": 1}), 157)


@pytest.mark.parametrize(
    ("value", "expected"), [(5.0, "5"), (206.25, "206.25"), (0.1 + 0.2, "0.30000000000000004"), (True, "1"), (None, "")]
)
def test_numbers_are_written_as_the_official_client_can_read_them(value: float | None, expected: str) -> None:
    """It reads sizes as integers and ends its loop on a `5.0`."""
    assert expected == text(value)


@pytest.mark.parametrize(
    ("own", "offers", "agreed"),
    [(176, "v157..176", 176), (176, "v157..178", 176), (176, "v100..157", 157), (157, "v157..176", 157)],
)
def test_the_highest_version_both_sides_speak_is_agreed_on(own: int, offers: str, agreed: int) -> None:
    with Server(version=own) as tws, Plain(tws.port, offers=offers) as client:
        assert agreed == client.version


def test_a_client_hears_accounts_then_its_order_id_then_the_farms() -> None:
    with Server(account="DU7") as tws, Plain(tws.port) as client:
        assert [
            ("managedAccounts", ["15", "1", "DU7"]),
            ("nextValidId", ["9", "1", "1"]),
            ("error", "2104"),
            ("error", "2106"),
            ("error", "2158"),
        ] == [(name, fields[3] if name == "error" else fields) for name, fields in client.said]


def test_nothing_follows_the_version_until_the_client_has_started() -> None:
    """The official client throws away what comes together with it."""
    with Server() as tws, socket.create_connection(("127.0.0.1", tws.port), timeout=0.2) as client:
        client.sendall(b"API\0" + struct.pack(">I", 9) + b"v157..176")
        (size,) = struct.unpack(">I", client.recv(4))
        client.recv(size)

        with pytest.raises(TimeoutError):
            client.recv(1)


def test_no_read_of_the_official_client_ends_on_a_multiple_of_its_buffer() -> None:
    """It would lose everything it has read; the last byte comes by itself."""
    size = 2 * 4096 - len(frame(["4", "2", "-1", "2104", "", ""]))
    with Server() as tws, Plain(tws.port) as client:
        tws.say(2104, "x" * size)
        first = client._socket.recv(65536)

        assert (8191, 1) == (len(first), len(client._socket.recv(65536)))


def test_every_request_is_kept_by_name_with_what_it_said() -> None:
    with Server() as tws, Plain(tws.port, client_id=7) as client:
        client.place(1, "SELL", 5, reference="mine", tif="GTC")
        request = tws.wait_for("placeOrder")

        wanted = ("orderId", "symbol", "primaryExchange", "action", "totalQuantity", "orderType", "tif", "orderRef")
        assert (7, ["1", "MTUM", "BATS", "SELL", "5", "MOC", "GTC", "mine"]) == (
            request.client_id,
            [request.values[name] for name in wanted],
        )


def test_a_client_id_in_use_is_refused_and_the_first_client_stays() -> None:
    """326, and the connection is closed."""
    with Server() as tws, Plain(tws.port, client_id=3) as first:
        with pytest.raises(ConnectionError):
            Plain(tws.port, client_id=3)

        assert [] == first.names()


def test_a_client_id_is_free_again_once_its_client_has_gone() -> None:
    with Server() as tws:
        with Plain(tws.port, client_id=3) as first:
            tws.disconnect()
            assert ["closed"] == first.names()
        with Plain(tws.port, client_id=3) as again:
            assert [] == again.names()


def test_a_request_nobody_knows_is_kept_and_not_answered() -> None:
    """As a terminal does with what its version does not have."""
    with Server() as tws, Plain(tws.port) as client:
        client.send(98, 1, *MTUM)

        assert ([], ["request98"]) == (client.names(), [request.name for request in tws.received[1:2]])
