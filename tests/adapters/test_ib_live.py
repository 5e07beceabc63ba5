"""Mode live against a terminal on the wire: real money, in the one account that the settings name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gateway
import pytest
from gateway import PaperPerson

from mtum_eod.adapters.store import open_store
from mtum_eod.core.trading import Act, OwnerAct
from tws_server import Server

ACCOUNT = "U1234567"


@pytest.fixture
def tws() -> Iterator[Server]:
    with Server(account=ACCOUNT) as server:
        yield server


@pytest.fixture
def owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tws: Server) -> PaperPerson:
    """Someone who has agreed to trade 5,000 USD in that account."""
    person = gateway.paper_person(tmp_path, monkeypatch, tws)
    live = {"MODE": "live", "IB__LIVE_ACCOUNT": ACCOUNT, "IB__LIVE_PORT": str(tws.port), "IB__PAPER_PORT": "1"}
    person.environment |= {f"MTUM_EOD_{key}": value for key, value in live.items()}
    store = open_store(person.folder / "mtum-eod-live.db", backup_dir=person.folder / "backups")
    words = f"account {ACCOUNT} with 5000.00 USD"
    store.add_act(OwnerAct(act=Act.GO_LIVE, session=None, at=tws.clock.now(), by="owner", words=words))
    store.close()
    return person


def test_the_named_account_is_traded_among_others_of_the_login(owner: PaperPerson, tws: Server) -> None:
    tws.managed_accounts[:] = ["U7654321", ACCOUNT]
    decided = owner.types("run --json")

    assert (0, "working") == (decided.exit_code, decided.document["order"]["status"])
    assert [(ACCOUNT, f"mtum-eod/live/{ACCOUNT}/MTUM/2024-11-05/BUY")] == [
        (order.account, order.reference) for order in tws.orders
    ]


@pytest.mark.parametrize("managed", [["U7654321"], ["DU1234567"]])
def test_no_other_account_is_traded(owner: PaperPerson, tws: Server, managed: list[str]) -> None:
    """Exit code 2, with both accounts named."""
    tws.managed_accounts[:] = managed
    refused = owner.types("run --json")

    assert (2, []) == (refused.exit_code, tws.asked("placeOrder"))
    assert f"logged in to {managed[0]}, this book trades {ACCOUNT}" in refused.error["message"]


def test_an_account_that_was_mistyped_once_does_not_hold_the_database(owner: PaperPerson) -> None:
    """What the first run writes binds mode, symbol and data; the account only once something is decided on it."""
    owner.environment["MTUM_EOD_IB__LIVE_ACCOUNT"] = "U7654321"
    mistyped = owner.types("run --json").exit_code
    owner.environment["MTUM_EOD_IB__LIVE_ACCOUNT"] = ACCOUNT
    decided = owner.types("run --json").exit_code
    owner.environment["MTUM_EOD_IB__LIVE_ACCOUNT"] = "U7654321"
    other = owner.types("run --json")

    assert (2, 0, 2) == (mistyped, decided, other.exit_code)
    assert f"belongs to live / {ACCOUNT} / MTUM" in other.error["message"]


def test_a_test_order_is_asked_about_and_not_placed(owner: PaperPerson, tws: Server) -> None:
    """What-if is set on the wire; the terminal's books stay empty."""
    looked = owner.types("doctor --place-test-order --json")
    [sent] = tws.asked("placeOrder")

    assert (0, "1", []) == (looked.exit_code, sent.values["whatIf"], tws.orders)
