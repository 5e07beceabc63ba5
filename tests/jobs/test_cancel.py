"""Taking today's order back: in time, too late, without an answer, and while another run is about to send it."""

from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path

import pytest
from fakes import KEY, SESSION, Bench, Killed

from mtum_eod.core.market import VIX
from mtum_eod.core.trading import OrderIntent, OrderStatus, OrderType, Step
from mtum_eod.errors import AlreadyRunning, SettingsError
from mtum_eod.jobs.due import do_due
from mtum_eod.jobs.wheel import Handled, Turn, cancel, halt
from mtum_eod.ports import Answer, BrokerOrder

BUY_KEY = f"{KEY}/2024-11-05/BUY"
NEXT = date(2024, 11, 6)
AFTER = date(2024, 11, 7)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "book.db")


def take_back(bench: Bench, before_close: float, session: date = SESSION, turn: Turn = nullcontext) -> Handled:
    bench.at(session, before_close)
    return cancel(bench.desk, why="doubt", by="owner", turn=turn)


def statuses(bench: Bench) -> list[str]:
    return [status for (status,) in bench.sql("SELECT status FROM order_intent ORDER BY id")]


def test_a_working_order_is_withdrawn_before_the_hard_stop(bench: Bench):
    bench.decide()
    handled = take_back(bench, 15.1)

    assert ((f"withdrawn: {BUY_KEY}",), 0) == (handled.words, handled.exit_code)
    assert (["cancelled"], "cancelled") == (statuses(bench), bench.broker.at_broker[BUY_KEY].status)
    assert [("cancel", "2024-11-05", "owner", "doubt")] == bench.sql(
        "SELECT act, session, acted_by, words FROM owner_act"
    )


def test_a_withdrawn_order_is_no_alarm_at_the_settlement(bench: Bench):
    bench.decide()
    take_back(bench, 16)
    settlement = bench.settle()

    assert (True, 0, []) == (settlement.is_settled, settlement.exit_code, bench.notices("order_rejected", "run_failed"))


@pytest.mark.parametrize("before_close", [15, 1])
def test_past_the_hard_stop_the_broker_is_not_asked_and_a_person_is_needed(bench: Bench, before_close: float):
    """It will be executed: exit code 5."""
    bench.decide()
    handled = take_back(bench, before_close)

    assert ((f"too late to withdraw {BUY_KEY}: past the hard stop",), 5) == (handled.words, handled.exit_code)
    assert "working" == bench.broker.at_broker[BUY_KEY].status


def test_an_order_for_the_auction_keeps_its_hard_stop_when_the_settings_change_its_type(bench: Bench):
    """As a plain market order it could be withdrawn until 2 minutes to the close; this one is none."""
    bench.decide()
    bench.parameters = replace(bench.parameters, order_type=OrderType.MKT)
    handled = take_back(bench, 5)

    assert ((f"too late to withdraw {BUY_KEY}: past the hard stop",), 5) == (handled.words, handled.exit_code)
    assert "working" == bench.broker.at_broker[BUY_KEY].status


def test_a_cancel_without_an_answer_stays_open_and_is_told(bench: Bench):
    """Withdrawn at the broker after all, the settlement finds it so."""
    bench.decide()
    bench.broker.silent.add("cancel")
    handled = take_back(bench, 16)
    after = statuses(bench)
    bench.broker.end(BUY_KEY, OrderStatus.CANCELLED)
    bench.settle()

    said = f"{BUY_KEY} could not be withdrawn: no answer to the cancellation"
    assert ((said,), 5, ["working"]) == (handled.words, handled.exit_code, after)
    assert [(f"{said}; it may be executed at the close", 1)] == bench.notices("run_failed")
    assert (["cancelled"], []) == (statuses(bench), bench.notices("order_rejected"))


def test_a_refused_cancel_is_told(bench: Bench):
    bench.decide()
    bench.broker.on_cancel = "refuse"
    handled = take_back(bench, 16)

    assert ((f"{BUY_KEY} is working",), 5) == (handled.words, handled.exit_code)


def test_an_order_filled_by_then_is_told_as_such(bench: Bench):
    """A sale in haste is filled at once, and will not be executed at any close."""
    bench.decide()
    bench.broker.on_cancel = "refuse"
    bench.broker.execute(BUY_KEY, 33, 148.0, 1.0)
    handled = take_back(bench, 16)

    assert ((f"{BUY_KEY} is filled",), 5) == (handled.words, handled.exit_code)
    assert [(f"too late to withdraw: {BUY_KEY} is filled", 1)] == bench.notices("run_failed")


def test_cancelling_twice_is_harmless(bench: Bench):
    bench.decide()
    take_back(bench, 17)
    again = take_back(bench, 16)

    assert ((f"nothing to withdraw: {BUY_KEY} is cancelled",), 0) == (again.words, again.exit_code)


def test_shares_filled_before_the_cancel_are_kept(bench: Bench):
    bench.decide()
    bench.broker.execute(BUY_KEY, 12, 148.0, 0.5)
    take_back(bench, 16)
    bench.settle()

    assert (["partly_filled"], [(12,)]) == (statuses(bench), bench.sql("SELECT shares FROM position"))


def test_a_cancelled_exit_is_due_at_the_next_session(bench: Bench):
    shares = bench.buy(SESSION)
    bench.data.edit(VIX, NEXT, close=31.2)
    bench.decide(NEXT)
    take_back(bench, 16, NEXT)
    bench.settle(NEXT)
    document = bench.decide(AFTER).document

    assert ("SELL", ["exit_pending"]) == (document["action"], document["exit_reasons"])
    assert (f"{KEY}/{AFTER}/SELL", shares) == (bench.broker.received[-1].reference, bench.broker.received[-1].shares)


# -- not sent yet -----------------------------------------------------------------------------------------------------


def test_a_cancel_before_the_decision_keeps_its_order_from_going_out(bench: Bench):
    handled = take_back(bench, 30)
    document = bench.decide().document

    assert (("no order yet; what 2024-11-05 may still decide is not sent",), 0) == (handled.words, handled.exit_code)
    assert ("BUY", "halted", []) == (document["action"], document["blocked_by"], bench.broker.received)
    assert [("Order BUY 33 MTUM MOC for 2024-11-05: not_sent (withdrawn by owner), as you asked", 0)] == (
        bench.notices("halt")
    )


def test_a_cancel_of_yesterday_says_nothing_of_today(bench: Bench):
    take_back(bench, 30)
    bench.data.edit(VIX, SESSION, close=26.0)
    bench.decide()
    bench.data.edit("MTUM", NEXT, close=149.0)
    bench.data.know_volumes(NEXT, today=900_000.0, before=800_000.0)

    assert "working" == bench.decide(NEXT).document["order"]["status"]


def test_a_cancel_while_a_run_decides_stops_its_order(bench: Bench):
    """The owner's word comes after the intent is durable, before the order is sent."""
    ask_id = bench.broker.next_order_id

    def cancel_meanwhile() -> int:
        cancel(bench.desk, why="", by="owner", turn=nullcontext)
        return ask_id()

    bench.broker.next_order_id = cancel_meanwhile  # type: ignore[method-assign]
    bench.decide()

    assert ([], ["not_sent"]) == (bench.broker.received, statuses(bench))


@pytest.mark.parametrize("on_submit", ["accept", "drop"])
def test_a_cancel_while_the_order_is_on_its_way_is_carried_out_by_the_run(bench: Bench, on_submit: str):
    """The command itself finds nothing at the broker yet; the run looks once more when it has its acknowledgement."""
    submit = bench.broker.submit
    bench.broker.on_submit = on_submit
    said: list[Handled] = []

    def cancel_meanwhile(intent: OrderIntent) -> BrokerOrder:
        bench.broker.silent.add("cancel")
        said.append(cancel(bench.desk, why="", by="owner", turn=nullcontext))
        bench.broker.silent.discard("cancel")
        return submit(intent)

    bench.broker.submit = cancel_meanwhile  # type: ignore[method-assign]
    bench.decide()

    assert (5, ["cancelled"]) == (said[0].exit_code, statuses(bench))
    assert "cancelled" == bench.broker.at_broker[BUY_KEY].status


def test_an_order_lost_on_its_way_is_not_sent_again_after_a_cancel(bench: Bench):
    """The run died between intent and wire; the owner cancels; the next run finds nothing at the broker."""
    with bench.killed("before the wire"):
        bench.decide()
    bench.broker.silent.add("cancel")
    take_back(bench, 19)
    bench.decide(before_close=18)

    assert ([], ["not_sent"]) == (bench.broker.received, statuses(bench))


def test_an_order_that_was_given_up_and_arrived_after_all_is_withdrawn(bench: Bench):
    bench.give_up(arrives=True)
    given_up = statuses(bench)
    handled = take_back(bench, 16)

    assert (["not_sent"], (f"withdrawn: {BUY_KEY}",), 0) == (given_up, handled.words, handled.exit_code)
    assert (["cancelled"], "cancelled") == (statuses(bench), bench.broker.at_broker[BUY_KEY].status)


def test_a_halt_that_cancels_withdraws_it_too(bench: Bench):
    bench.give_up(arrives=True)
    bench.at(SESSION, 16)
    handled = halt(bench.desk, why="", by="owner", allow_exits=False, cancel=True, turn=nullcontext)

    assert (("halted: no orders at all", f"withdrawn: {BUY_KEY}"), 0) == (handled.words, handled.exit_code)
    assert "cancelled" == bench.broker.at_broker[BUY_KEY].status


def test_an_order_that_was_given_up_and_never_arrived_needs_no_withdrawal(bench: Bench):
    bench.give_up(arrives=False)
    handled = take_back(bench, 16)

    assert ((f"nothing to withdraw: {BUY_KEY} is not_sent",), 0) == (handled.words, handled.exit_code)


def test_an_order_that_was_given_up_and_refused_on_its_arrival_is_told_as_that(bench: Bench):
    bench.give_up(arrives=True)
    bench.broker.end(BUY_KEY, OrderStatus.REJECTED)
    handled = take_back(bench, 16)

    assert ((f"nothing to withdraw: {BUY_KEY} is rejected",), ["rejected"]) == (handled.words, statuses(bench))


def test_whether_an_order_that_was_given_up_arrived_is_not_known_while_the_broker_is_silent(bench: Bench):
    """It may be executed: exit code 5, and the owner is told."""
    bench.give_up(arrives=True)
    bench.broker.silent.add("orders")
    handled = take_back(bench, 16)

    words = (
        f"{BUY_KEY} never reached the broker; the connection dropped; whether it did after all is not known: "
        "the list of orders never ended"
    )
    assert ((words,), 5) == (handled.words, handled.exit_code)
    assert [(f"{words}; it may be executed at the close",)] == [
        (said,) for said, _ in bench.notices("run_failed") if "may be executed" in said
    ]


def test_an_order_of_a_dead_run_is_withdrawn_once_it_is_found(bench: Bench):
    """The run died unacknowledged, and the owner's cancel had no answer; the next run finds the order and asks anew."""
    with bench.killed("behind the wire"):
        bench.decide()
    bench.broker.silent.add("cancel")
    take_back(bench, 19)
    bench.broker.silent.clear()
    bench.decide(before_close=18)

    assert (["cancelled"], "cancelled") == (statuses(bench), bench.broker.at_broker[BUY_KEY].status)


@pytest.mark.parametrize(
    ("silent", "words", "exit_code"),
    [
        (set(), f"withdrawn: {BUY_KEY}", 0),
        (
            {"cancel"},
            f"{BUY_KEY} could not be withdrawn: no answer to the cancellation; another run holds the lock: pid 7, and "
            "withdraws it if it comes to it",
            6,
        ),
    ],
)
def test_a_cancel_goes_past_a_run_that_does_not_end(bench: Bench, silent: set[str], words: str, exit_code: int):
    """The act stands before anything is waited for."""
    bench.decide()
    bench.broker.silent = silent

    def busy() -> AbstractContextManager[None]:
        assert [("cancel",)] == bench.sql("SELECT act FROM owner_act")
        raise AlreadyRunning("another run holds the lock: pid 7", hint="")

    handled = take_back(bench, 16, turn=busy)

    assert ((words,), exit_code) == (handled.words, handled.exit_code)


# -- did not get through ----------------------------------------------------------------------------------------------


def dies(reference: str) -> Answer[BrokerOrder]:
    raise Killed(reference)


def take_back_in_vain(bench: Bench, before_close: float, how: str) -> None:
    """The owner's word is kept, the broker does not hear of it."""
    bench.at(SESSION, before_close)
    withdraw = bench.broker.cancel
    if how == "no answer":
        bench.broker.silent.add("cancel")
    else:
        bench.broker.cancel = dies  # type: ignore[method-assign]
    with suppress(Killed):
        if how == "killed halting":
            halt(bench.desk, why="", by="owner", allow_exits=False, cancel=True, turn=nullcontext)
        else:
            cancel(bench.desk, why="", by="owner", turn=nullcontext)
    bench.broker.cancel = withdraw  # type: ignore[method-assign]
    bench.broker.silent.clear()


@pytest.mark.parametrize("how", ["no answer", "killed", "killed halting"])
def test_a_cancel_that_did_not_get_through_is_carried_out_by_the_next_run(bench: Bench, how: str):
    """The order works at the broker; the command was cut off, or had no answer. Cron's next minute asks again."""
    bench.decide()
    take_back_in_vain(bench, 19, how)
    steps = []
    for before_close in (18, 17):
        bench.at(SESSION, before_close)
        steps.append(do_due(bench.desk).step)

    assert ([Step.DECIDE, None], ["cancelled"]) == (steps, statuses(bench))
    assert "cancelled" == bench.broker.at_broker[BUY_KEY].status


def test_a_cancel_that_never_gets_an_answer_is_asked_again_each_minute_and_told_once(bench: Bench):
    bench.decide()
    take_back_in_vain(bench, 19, "no answer")
    bench.broker.silent.add("cancel")
    for before_close in (18, 17, 16):
        bench.at(SESSION, before_close)
        do_due(bench.desk)

    said = f"{BUY_KEY} could not be withdrawn: no answer to the cancellation; it may be executed at the close"
    assert [(said, 1)] == bench.notices("run_failed")


def test_a_cancel_that_missed_the_hard_stop_is_told_once(bench: Bench):
    """The machine was away until then: the broker is not asked any more, and the owner looks."""
    bench.decide()
    take_back_in_vain(bench, 19, "killed")
    steps = []
    for before_close in (14, 13):
        bench.at(SESSION, before_close)
        steps.append(do_due(bench.desk).step)

    said = f"too late to withdraw {BUY_KEY}: past the hard stop; it may be executed at the close"
    assert ([Step.DECIDE, None], ["working"]) == (steps, statuses(bench))
    assert [(said, 1)] == bench.notices("run_failed")


# -- nothing there ----------------------------------------------------------------------------------------------------


def test_after_the_session_there_is_nothing_to_withdraw(bench: Bench):
    handled = take_back(bench, -30)

    said = "nothing to withdraw: 2024-11-05 has no order, and none can be sent any more"
    assert ((said,), 0, []) == (handled.words, handled.exit_code, bench.sql("SELECT * FROM owner_act"))


def test_on_a_day_without_a_session_there_is_nothing_to_withdraw(bench: Bench):
    bench.clock.set(datetime.fromisoformat("2024-11-09T18:00:00+00:00"))
    with pytest.raises(SettingsError, match="Saturday 2024-11-09 is no session"):
        cancel(bench.desk, why="", by="owner", turn=nullcontext)
