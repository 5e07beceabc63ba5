"""Hands on the wheel in paper and live mode, over a real socket to the tests' own TWS server."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import date, timedelta
from pathlib import Path

import gateway
import pytest
from gateway import PaperPerson

from mtum_eod import cli
from mtum_eod.adapters.lock import DatabaseLock
from tws_server import Auction, Server

BUY_KEY = "mtum-eod/paper/DU1234567/MTUM/2024-11-05/BUY"


@pytest.fixture
def tws() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tws: Server) -> PaperPerson:
    return gateway.paper_person(tmp_path, monkeypatch, tws)


def test_an_order_is_withdrawn_on_the_wire(person: PaperPerson, tws: Server):
    person.types("run")
    typed = person.at("2024-11-05", 16).types("cancel")
    person.at("2024-11-05", -20).types("settle")

    assert (0, f"withdrawn: {BUY_KEY}\n") == (typed.exit_code, typed.out)
    assert (["Cancelled"], [("cancelled",)]) == (
        [order.status for order in tws.orders], person.sql("SELECT status FROM order_intent"),
    )  # fmt: skip


def test_an_order_that_a_restored_book_has_forgotten_is_withdrawn_on_the_wire(person: PaperPerson, tws: Server):
    """The lists of the broker alone know of it."""
    person.types("resume")  # makes the book
    made = person.types("db backup --json").document["backup"]
    person.types("run")
    person.types(f"db restore {made}")
    typed = person.at("2024-11-05", 16).types("cancel")

    assert (0, f"withdrawn: {BUY_KEY}\n") == (typed.exit_code, typed.out)
    assert (["Cancelled"], [("cancelled",)]) == (
        [order.status for order in tws.orders], person.sql("SELECT status FROM order_intent"),
    )  # fmt: skip


def test_a_paper_book_is_one_before_its_account_has_a_name(person: PaperPerson):
    """A halt is its first write: no other mode gets in, and the account is bound by the first decision."""
    person.types("halt --why 'not yet'")
    unnamed = person.sql("SELECT mode, account FROM book")
    person.environment["MTUM_EOD_DATABASE__URL"] = str(person.database)
    with_other_mode = person.environment | {"MTUM_EOD_MODE": "simulated"}
    mine, person.environment = person.environment, with_other_mode
    other = person.types("halt --why x --json")
    person.environment = mine
    unbooked = person.types("cash add deposit 100 --json")
    person.types("run")

    assert (2, True) == (other.exit_code, "belongs to paper / an account still to be" in other.error["message"])
    assert (2, True) == (unbooked.exit_code, "there is no book yet" in unbooked.error["message"])
    assert ([("paper", "")], [("paper", "DU1234567")]) == (unnamed, person.sql("SELECT mode, account FROM book"))


def test_past_the_hard_stop_no_cancellation_is_on_the_wire(person: PaperPerson, tws: Server):
    person.types("run")
    typed = person.at("2024-11-05", 15).types("cancel")

    assert (5, []) == (typed.exit_code, tws.asked("cancelOrder"))


def test_a_cancel_waits_for_the_run_that_has_the_client_id(
    person: PaperPerson, tws: Server, monkeypatch: pytest.MonkeyPatch
):
    """The run ends in the second after it was asked for; only then is the broker spoken with."""
    person.types("run")
    person.at("2024-11-05", 16)
    run, sleep = ExitStack(), person.clock.sleep
    run.enter_context(DatabaseLock(person.database, person.clock).hold())
    asked = []

    def run_ends(duration: timedelta) -> None:
        asked.append(len(tws.asked("cancelOrder")))
        run.close()
        sleep(duration)

    monkeypatch.setattr(person.clock, "sleep", run_ends)
    typed = person.types("cancel")

    assert (0, f"withdrawn: {BUY_KEY}\n", 0) == (typed.exit_code, typed.out, asked[0])
    assert typed.err.startswith("waiting up to 20 s: another run holds the lock")


@pytest.mark.parametrize("command", ["cancel", "halt --why 'it hangs' --cancel"])
def test_an_order_is_withdrawn_beside_a_run_that_hangs(person: PaperPerson, tws: Server, command: str):
    """That run has the lock and the client id, and gives back neither."""
    person.types("run")
    person.at("2024-11-05", 17)
    with DatabaseLock(person.database, person.clock).hold(), gateway.line(tws) as hung:
        _ = hung.account
        typed = person.types(command)

    assert (0, f"withdrawn: {BUY_KEY}") == (typed.exit_code, typed.out.splitlines()[-1])
    assert (["Cancelled"], [("cancelled",)]) == (
        [order.status for order in tws.orders], person.sql("SELECT status FROM order_intent"),
    )  # fmt: skip


def test_two_looks_at_once_have_a_client_id_each(person: PaperPerson, tws: Server):
    person.types("run")
    with gateway.line(tws, client_id=2) as looking:
        _ = looking.account
        typed = person.types("reconcile")

    assert (0, ["1", "2", "2", "3"]) == (typed.exit_code, sorted(r.values["clientId"] for r in tws.asked("startApi")))


def test_an_entry_is_approved_over_the_wire(person: PaperPerson, tws: Server):
    person.environment["MTUM_EOD_RISK__REQUIRE_CONFIRMATION"] = "true"
    waiting = person.at("2024-11-05", 60).types("run --if-due --json").document["result"]
    before = len(tws.orders)
    approved = person.at("2024-11-05", 50).types("approve --json").document

    assert ("awaiting_approval", 0) == (waiting["blocked_by"], before)
    assert (BUY_KEY, "working", 1) == (approved["order"]["key"], approved["order"]["status"], len(tws.orders))


def test_everything_is_sold_over_the_wire(person: PaperPerson, tws: Server):
    person.types("run")
    person.at("2024-11-05", -20).types("settle")
    typed = person.at("2024-11-06", 200).types("flatten --yes --why 'the money is needed'")
    person.at("2024-11-06", -20).types("settle")

    assert (0, ["BUY", "SELL"]) == (typed.exit_code, [order.action for order in tws.orders])
    assert [("flatten", 23)] == person.sql("SELECT exit_reason, shares FROM trades")


def test_shares_bought_beside_the_book_are_named_and_left_to_their_owner(person: PaperPerson, tws: Server):
    """23 are the book's, 5 were bought by hand at the same terminal: no order of ours, no execution of ours."""
    person.types("run")
    person.at("2024-11-05", -20).types("settle")
    tws.trade_by_hand("BUY", "MTUM", 5, 200.0)
    differs = person.types("reconcile --json")
    left = person.types("reconcile --leave 5")
    agrees = person.types("reconcile --json")

    assert (5, ["position"]) == (differs.exit_code, [x["what"] for x in differs.document["lines"] if not x["agrees"]])
    assert (0, 0, True) == (left.exit_code, agrees.exit_code, agrees.document["agree"])


def test_shares_sold_by_hand_are_taken_out_as_the_comparison_says(person: PaperPerson, tws: Server):
    """All 23 went at the same terminal; their close of the next session is what was got for them."""
    person.types("run")
    person.at("2024-11-05", -20).types("settle")
    tws.trade_by_hand("SELL", "MTUM", 23, 205.0)
    person.at("2024-11-06", -20)
    differs = person.types("reconcile")
    taken_out = person.types("reconcile --sold 23@205 --exit-date 2024-11-06")
    agrees = person.types("reconcile")

    assert (5, True) == (differs.exit_code, "--sold 23@PRICE --exit-date SESSION" in differs.out)
    assert (0, 0) == (taken_out.exit_code, agrees.exit_code), (taken_out.err, agrees.out)
    assert "23 shares taken out, sold at 205.00 on 2024-11-06" in taken_out.out
    assert [(23, 205.0)] == person.sql("SELECT shares, exit_price FROM trades")


def test_shares_bought_by_hand_are_adopted_and_sold_by_the_rules(person: PaperPerson, tws: Server):
    """The sale takes all 7 of them, at the price the book was told they cost."""
    person.environment["MTUM_EOD_STRATEGY__VIX_ENTRY_THRESHOLD"] = "1"
    person.types("run")
    person.at("2024-11-05", -20).types("settle")
    tws.hold("MTUM", 7, 200.0)
    adopted = person.types("reconcile --adopt 7@200 --entry-date 2024-11-05")
    agrees = person.types("reconcile")
    person.environment["MTUM_EOD_STRATEGY__VIX_EXIT_THRESHOLD"] = "1"
    person.at("2024-11-06", 20).types("run")
    person.at("2024-11-06", -20).types("settle")
    [sold] = tws.executions

    assert (0, 0, 0.0) == (adopted.exit_code, agrees.exit_code, tws.positions["MTUM"].shares)
    assert [(7, 200.0, round(7 * (sold.price - 200.0) - sold.commission, 6))] == [
        (shares, price, round(net, 6))
        for shares, price, net in person.sql("SELECT shares, entry_price, net_pnl FROM trades")
    ]


def test_an_estimate_is_replaced_by_what_the_statement_says(person: PaperPerson, tws: Server):
    """Nobody asked before midnight, when IB forgets executions."""
    person.types("run")
    person.at("2024-11-06", 400).types("settle")
    estimated = person.sql("SELECT quantity, estimated FROM fills")
    [printed] = tws.executions
    filled = person.types(f"reconcile --fill 2024-11-05 {printed.price} {printed.commission}")

    assert ([(23, 1)], 0) == (estimated, filled.exit_code)
    assert [(23, printed.price, printed.commission, 0)] == person.sql(
        "SELECT quantity, price, commission, estimated FROM fills"
    )


def test_an_order_in_doubt_is_what_its_owner_says(person: PaperPerson, tws: Server):
    """The Gateway died behind the order; 5 of 23 were executed, and the next day no list has any of it."""
    tws.on("placeOrder", lambda _: tws.refuse(), "after")
    person.types("run")
    tws.accept()
    tws.exchange.auctions[date(2024, 11, 5)] = Auction(parts=((5, 207.5),))
    person.at("2024-11-06", 300)
    doubtful = person.types("settle").exit_code, person.types("reconcile").exit_code
    resolved = person.types("reconcile --resolve 2024-11-05 5")
    agrees = person.types("reconcile")

    assert ((5, 5), 0, 0) == (doubtful, resolved.exit_code, agrees.exit_code), resolved
    assert [(5, 1)] == person.sql("SELECT quantity, estimated FROM fills")
    assert [("partly_filled",)] == person.sql("SELECT status FROM order_intent")


def test_the_first_live_run_asks_once_and_then_trades(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with Server(account="U7654321") as tws:
        person = gateway.paper_person(tmp_path, monkeypatch, tws)
        person.environment |= {
            "MTUM_EOD_MODE": "live",
            "MTUM_EOD_IB__LIVE_ACCOUNT": "U7654321",
            "MTUM_EOD_IB__LIVE_PORT": str(tws.port),
            "MTUM_EOD_DATABASE__URL": str(person.database),
        }
        unattended = person.types("run --if-due --json")
        with monkeypatch.context() as terminal:
            terminal.setattr(cli, "_is_terminal", lambda: True)
            mistyped = person.types("run --json", "U7654321\n500\n")
            agreed = person.types("run", "U7654321\n5000\n")
        sent = len(tws.orders)
        person.at("2024-11-06", 20)
        next_day = person.types("run --if-due --json")

    assert (2, True) == (unattended.exit_code, "type `mtum-eod run` at a terminal once" in unattended.error["hint"])
    assert (2, True) == (mistyped.exit_code, "nothing is traded" in mistyped.error["message"])
    assert (0, 1, 0) == (agreed.exit_code, sent, next_day.exit_code)


@pytest.mark.parametrize("typed", ["run --date 2024-11-05", "run --from 2024-11-05 --to 2024-11-05"])
def test_an_order_of_yesterday_never_leaves_today(person: PaperPerson, tws: Server, typed: str):
    """Lost before the broker had it, with the Gateway gone; the next day the session is asked for by its date."""
    tws.on("placeOrder", lambda _: tws.refuse(), "before")
    tws.faults.lose("placeOrder", times=1)
    lost = person.types("run")
    tws.accept()
    tws.faults.clear()
    asked = person.at("2024-11-06", 240).types(typed)

    assert (5, 2, []) == (lost.exit_code, asked.exit_code, tws.orders)
    assert "in simulated mode only, the settings say paper" in asked.err
    assert "mtum-eod run --date D --dry-run" in asked.err
