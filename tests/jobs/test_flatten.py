"""Selling by the owner's own hand: one order of the session, by the same path as a decision's."""

from contextlib import nullcontext
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fakes import KEY, SESSION, Bench

from mtum_eod.core.market import VIX
from mtum_eod.core.parameters import LateExit, Parameters, RiskParameters
from mtum_eod.core.trading import OrderStatus, OrderType
from mtum_eod.errors import BrokerUnavailable, OrderStateUnknown, SettingsError
from mtum_eod.jobs.flatten import flatten
from mtum_eod.jobs.outcome import Handled
from mtum_eod.jobs.session import settle_all
from mtum_eod.jobs.wheel import cancel, halt

NEXT = date(2024, 11, 6)
AFTER = date(2024, 11, 7)
SELL_KEY = f"{KEY}/2024-11-06/SELL"
SOLD = "Flattened by owner: the money is needed"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """33 shares bought at 148.00 on 2024-11-05."""
    bench = Bench(tmp_path / "book.db")
    bench.buy(SESSION)
    return bench


def sell(bench: Bench, before_close: float, session: date = NEXT) -> Handled:
    bench.at(session, before_close)
    return flatten(bench.desk, why="the money is needed", by="owner")


def sales(bench: Bench) -> list[tuple[str, int, str]]:
    return [(i.reference, i.shares, str(i.order_type)) for i in bench.broker.received if i.reference.endswith("SELL")]


@pytest.mark.parametrize("before_close", [389, 200, 20, 15.1])
def test_all_shares_are_sold_on_the_close_of_the_session(bench: Bench, before_close: float):
    """From the open to the hard stop; the owner need not wait for the decision time."""
    handled = sell(bench, before_close)

    assert (("SELL 33 MTUM MOC for 2024-11-06: working",), 0) == (handled.words, handled.exit_code)
    assert [(SELL_KEY, 33, "MOC")] == sales(bench)
    assert [("flatten", "2024-11-06", "owner", "the money is needed")] == bench.sql(
        "SELECT act, session, acted_by, words FROM owner_act"
    )


def test_the_trade_says_who_ended_it(bench: Bench):
    """33 x (150 - 148) - 1.00 - 1.00 = 64.00."""
    sell(bench, 200)
    bench.broker.execute(SELL_KEY, 33, 150.0, 1.0)
    bench.settle(NEXT)

    assert [("2024-11-06", "flatten", '["flatten"]', 64.0)] == bench.sql(
        "SELECT exit_session, exit_reason, exit_reasons, net_pnl FROM trades"
    )
    assert [("decided", SOLD)] == bench.sql("SELECT status, why FROM sessions WHERE session = '2024-11-06'")
    assert [("flatten",)] == bench.sql("SELECT reason FROM fills WHERE action = 'SELL'")


def test_the_sessions_decision_is_made_by_it(bench: Bench):
    sell(bench, 200)
    document = bench.decide(NEXT).document

    assert ("HOLD", "already_decided", SOLD) == (document["action"], document["blocked_by"], document["reason"])
    assert (SELL_KEY, "working") == (document["order"]["key"], document["order"]["status"])
    assert 1 == len(sales(bench))


def test_a_session_that_held_can_still_be_flattened(bench: Bench):
    """The decision stands as it was recorded; the order is the owner's, not its own."""
    bench.decide(NEXT)
    sell(bench, 17)

    assert [("HOLD", None)] == bench.sql("SELECT action, order_key FROM signals WHERE session = '2024-11-06'")
    assert [(SELL_KEY, 33, "MOC")] == sales(bench)


def test_past_the_hard_stop_it_goes_to_the_market(bench: Bench):
    handled = sell(bench, 10)

    assert ([(SELL_KEY, 33, "MKT")], 0) == (sales(bench), handled.exit_code)


def test_where_late_exits_are_skipped_it_says_when_it_can_sell(bench: Bench):
    bench.parameters = Parameters(risk=RiskParameters(late_exit=LateExit.SKIP))
    with pytest.raises(SettingsError, match="past the hard stop") as refused:
        sell(bench, 10)

    assert "`mtum-eod flatten` can sell on 2024-11-07, 09:30 New York to 15:45 New York" == refused.value.hint


@pytest.mark.parametrize(
    ("before_close", "why", "when"),
    [
        (391, "the session has not opened yet", "2024-11-06"),
        (2, "the market is closing or closed", "2024-11-07"),
        (-30, "the market is closing or closed", "2024-11-07"),
    ],
)
def test_while_nothing_can_be_sold_it_says_when(bench: Bench, before_close: float, why: str, when: str):
    with pytest.raises(SettingsError, match=why) as refused:
        sell(bench, before_close)

    assert f"`mtum-eod flatten` can sell on {when}, 09:30 New York to 15:45 New York" == refused.value.hint
    assert ([], []) == (sales(bench), bench.notices("run_failed"))


def test_a_broker_without_moc_gets_a_market_order(bench: Bench):
    bench.parameters = replace(Parameters(), order_type=OrderType.MKT)
    sell(bench, 100)

    assert [(SELL_KEY, 33, "MKT")] == sales(bench)


# -- what does not stop it --------------------------------------------------------------------------------------------


def test_it_passes_every_halt(bench: Bench):
    halt(bench.desk, why="away", by="owner", allow_exits=False, cancel=False, turn=nullcontext)
    sell(bench, 100)

    assert [(SELL_KEY, 33, "MOC")] == sales(bench)


def test_it_needs_no_price(bench: Bench):
    """No source answers; what was paid stands in the record."""
    bench.data.down = {"MTUM", VIX}
    bench.at(NEXT, 100)
    sell(bench, 100)

    assert [(148.0,)] == bench.sql("SELECT decision_price_usd FROM order_intent WHERE side = 'SELL'")


def test_the_owners_last_word_counts(bench: Bench):
    """A cancel before there was an order, then a sale after all."""
    bench.at(NEXT, 200)
    cancel(bench.desk, why="", by="owner", turn=nullcontext)
    handled = sell(bench, 100)

    assert ([(SELL_KEY, 33, "MOC")], 0) == (sales(bench), handled.exit_code)


def test_it_sells_no_more_than_the_broker_holds(bench: Bench):
    bench.broker.shares = 20.5
    sell(bench, 100)

    assert [(SELL_KEY, 20, "MOC")] == sales(bench)


def test_it_leaves_the_shares_that_are_the_owners_own(bench: Bench):
    """The broker holds 30, ten of them were left to the owner: 20 of the book's 33 can be sold."""
    bench.broker.shares = 30.0
    bench.store.leave(10, bench.clock.now())
    sell(bench, 100)

    assert [(SELL_KEY, 20, "MOC")] == sales(bench)


# -- what does --------------------------------------------------------------------------------------------------------


def test_an_entry_that_was_given_up_and_arrived_after_all_is_to_be_taken_back(tmp_path: Path):
    """Flat, the book had nothing to sell; the entry would have bought at the close."""
    bench = Bench(tmp_path / "lost.db")
    bench.give_up(arrives=True)
    bench.broker.silent.add("orders")
    with pytest.raises(BrokerUnavailable, match="whether it did after all is not known"):
        sell(bench, 16, SESSION)
    bench.broker.silent.clear()
    with pytest.raises(SettingsError, match="has had its one order: BUY 33, working") as refused:
        sell(bench, 16, SESSION)

    assert "take this one back with `mtum-eod cancel`" in refused.value.hint


def test_an_entry_that_was_given_up_and_never_arrived_leaves_nothing_to_sell(tmp_path: Path):
    bench = Bench(tmp_path / "lost.db")
    bench.give_up(arrives=False)
    handled = sell(bench, 16, SESSION)

    assert ((f"flat: there is nothing to sell, and {KEY}/{SESSION}/BUY is not sent",), 0) == (
        handled.words,
        handled.exit_code,
    )


def test_a_flat_book_has_nothing_to_sell(tmp_path: Path):
    handled = sell(Bench(tmp_path / "flat.db"), 100)

    assert (("flat: there is nothing to sell",), 0) == (handled.words, handled.exit_code)


def test_an_unknown_position_blocks_it(bench: Bench):
    bench.broker.silent.add("shares_held")
    with pytest.raises(BrokerUnavailable, match="position is not known"):
        sell(bench, 100)

    assert ([], []) == (sales(bench), bench.sql("SELECT * FROM owner_act"))


@pytest.mark.parametrize("held", [0.0, 0.7, -33.0])
def test_without_a_whole_share_at_the_broker_there_is_nothing_to_sell(bench: Bench, held: float):
    bench.broker.shares = held
    with pytest.raises(OrderStateUnknown, match="there is no whole share to sell"):
        sell(bench, 100)

    assert [] == sales(bench)


def test_a_sale_beside_a_mismatch_that_was_surely_not_sent_stays_so(bench: Bench):
    """The owner took it back before it left. Looked for now, the mismatch would make its fate unknown, for days."""
    bench.broker.shares = 20
    bench.data.edit(VIX, NEXT, close=35.0)
    bench.at(NEXT, 200)
    cancel(bench.desk, why="wait", by="owner", turn=nullcontext)
    bench.decide(NEXT)
    with pytest.raises(OrderStateUnknown, match="it cannot be tried again"):
        sell(bench, 18)

    assert ([("not_sent",)], []) == (bench.sql("SELECT status FROM order_intent WHERE side = 'SELL'"), sales(bench))


def test_an_order_in_an_unknown_state_blocks_it(bench: Bench):
    bench.data.edit("MTUM", NEXT, close=140.0)
    bench.broker.on_submit = "fall silent"
    bench.decide(NEXT)
    with pytest.raises(OrderStateUnknown, match="unknown state"):
        sell(bench, 17)

    assert 1 == len(sales(bench))


def test_an_entry_that_died_before_the_wire_is_given_up_and_not_bought_first(tmp_path: Path):
    """The owner wants out, and the run that was to buy was killed: nothing is sent, now or by the next run."""
    bench = Bench(tmp_path / "fresh.db")
    with bench.killed("before the wire"):
        bench.decide()
    bench.at(SESSION, 18)
    handled = flatten(bench.desk, why="out", by="owner")
    bench.decide(before_close=17)

    assert ([], [("not_sent",)]) == (bench.broker.received, bench.sql("SELECT status FROM order_intent"))
    said = f"flat: there is nothing to sell, and {KEY}/{SESSION}/BUY is not sent"
    assert ((said,), 0) == (handled.words, handled.exit_code)


def test_an_entry_that_got_out_unacknowledged_is_found_by_a_sale(tmp_path: Path):
    bench = Bench(tmp_path / "fresh.db")
    with bench.killed("behind the wire"):
        bench.decide()
    bench.at(SESSION, 18)
    with pytest.raises(SettingsError, match="has had its one order: BUY 33, working"):
        flatten(bench.desk, why="out", by="owner")

    assert 1 == len(bench.broker.received)


def test_a_session_that_sells_already_sells_once(bench: Bench):
    sell(bench, 100)
    again = sell(bench, 99)

    assert ((f"{SELL_KEY} sells 33 already: working",), 0) == (again.words, again.exit_code)
    assert 1 == len(sales(bench))


def test_a_session_that_bought_has_had_its_order(tmp_path: Path):
    bench = Bench(tmp_path / "fresh.db")
    bench.decide()
    with pytest.raises(SettingsError, match="2024-11-05 has had its one order: BUY 33, working") as refused:
        sell(bench, 17, SESSION)

    assert "the next session can sell; take this one back with `mtum-eod cancel`" == refused.value.hint


@pytest.mark.parametrize(("before_close", "order_type"), [(17, "MOC"), (10, "MKT")])
def test_a_sale_that_never_reached_the_broker_can_be_sold_by_hand(bench: Bench, before_close: float, order_type: str):
    """Lost twice at 15:40, surely absent: the session's order has yet to be had, and goes out under its own id."""
    bench.data.edit("MTUM", NEXT, close=140.0)
    bench.broker.on_submit = "lose"
    lost = bench.decide(NEXT).document["order"]["status"]
    bench.broker.on_submit = "accept"
    handled = sell(bench, before_close)

    assert ("not_sent", 0) == (lost, handled.exit_code)
    assert (f"SELL 33 MTUM {order_type} for 2024-11-06: working",) == handled.words
    assert [(SELL_KEY, 33, order_type)] == sales(bench)
    assert [("flatten", order_type, 2, "working")] == bench.sql(
        "SELECT kind, order_type, order_id, status FROM order_intent WHERE side = 'SELL'"
    )


def test_a_sale_held_back_by_a_halt_can_be_sold_by_hand(bench: Bench):
    bench.data.edit("MTUM", NEXT, close=140.0)
    bench.broker.on_submit = "lose"
    bench.decide(NEXT)
    halt(bench.desk, why="away", by="owner", allow_exits=False, cancel=False, turn=nullcontext)
    bench.broker.on_submit = "accept"
    sell(bench, 17)

    assert [(SELL_KEY, 33, "MOC")] == sales(bench)


def test_a_sale_that_reached_the_broker_after_all_is_not_sent_again(bench: Bench):
    """No list had it for minutes; by now one has."""
    bench.data.edit("MTUM", NEXT, close=140.0)
    bench.broker.on_submit, bench.broker.forgets = "drop", True
    lost = bench.decide(NEXT).document["order"]["status"]
    bench.broker.on_submit, bench.broker.forgets = "accept", False
    handled = sell(bench, 17)

    assert ("not_sent", 0) == (lost, handled.exit_code)
    assert ["working"] == [status for (status,) in bench.sql("SELECT status FROM order_intent WHERE side = 'SELL'")]
    assert 2 == len(sales(bench))  # both of the one run that lost it


def test_a_sale_taken_back_is_not_sold_again_in_its_session(bench: Bench):
    sell(bench, 100)
    cancel(bench.desk, why="", by="owner", turn=nullcontext)
    with pytest.raises(SettingsError, match="has had its one order: SELL 33, cancelled"):
        sell(bench, 50)
    bench.settle(NEXT)
    document = bench.decide(AFTER).document

    assert ("HOLD", None) == (document["action"], document["blocked_by"])


# -- what may go wrong on the way -------------------------------------------------------------------------------------


def test_a_rejected_sale_needs_a_person(bench: Bench):
    bench.broker.on_submit = "reject"
    handled = sell(bench, 100)

    assert (("SELL 33 MTUM MOC for 2024-11-06: rejected (no trading permission)",), 5) == (
        handled.words, handled.exit_code,
    )  # fmt: skip
    assert 1 == len(bench.notices("order_rejected"))


def test_a_sale_held_back_by_the_broker_needs_a_person(bench: Bench):
    submit = bench.broker.submit
    bench.broker.submit = lambda i: replace(submit(i), words="it is Inactive", needs_person=True)  # type: ignore[method-assign]
    handled = sell(bench, 100)

    assert (("SELL 33 MTUM MOC for 2024-11-06: working (a person must look: it is Inactive)",), 5) == (
        handled.words, handled.exit_code,
    )  # fmt: skip
    assert 1 == len(bench.notices("order_rejected"))


def test_a_sale_whose_acknowledgement_is_lost_is_found_at_the_broker(bench: Bench):
    bench.broker.on_submit = "drop"
    handled = sell(bench, 100)

    assert (0, 1) == (handled.exit_code, len(sales(bench)))


def test_a_sale_of_unknown_fate_needs_a_person(bench: Bench):
    bench.broker.on_submit = "fall silent"
    handled = sell(bench, 100)

    assert (5, "unknown") == (handled.exit_code, handled.order and str(handled.order.status))


def test_a_sale_that_died_before_the_wire_is_sent_by_the_next_run(bench: Bench):
    """The intent is durable; the decide step of the session finds it absent at the broker and sends it, once."""
    with bench.killed("before the wire"):
        sell(bench, 200)
    bench.decide(NEXT)
    bench.decide(NEXT, before_close=19)

    assert [(SELL_KEY, 33, "MOC")] == sales(bench)


def test_on_a_day_without_a_session_nothing_can_be_sold(bench: Bench):
    bench.clock.set(datetime.fromisoformat("2024-11-09T18:00:00+00:00"))
    with pytest.raises(SettingsError, match="Saturday 2024-11-09 is no session"):
        flatten(bench.desk, why="", by="owner")


def test_a_fill_of_yesterday_that_is_not_booked_yet_is_sold_too(tmp_path: Path):
    """The server was off since the entry: what was bought is booked first."""
    bench = Bench(tmp_path / "slept.db")
    bench.decide()
    bench.broker.execute(f"{KEY}/2024-11-05/BUY", 33, 148.0, 1.0)
    sell(bench, 100)

    assert [(SELL_KEY, 33, "MOC")] == sales(bench)
    assert OrderStatus.WORKING == status_of(bench)


def status_of(bench: Bench) -> Any:
    order = bench.store.order(NEXT)
    return order and order.status


def test_a_sale_by_hand_that_is_withdrawn_leaves_shares_nobody_watches(bench: Bench):
    """The session has had its order: no rule is asked before the next one, and the owner knows."""
    sell(bench, 100)
    cancel(bench.desk, why="second thoughts", by="owner", turn=nullcontext)

    assert [
        (
            "MTUM 2024-11-06: the sale by hand was withdrawn: 33 shares kept, and no rule is asked today",
            1,
        )
    ] == bench.notices("position_unattended")


@pytest.mark.parametrize(
    ("on_submit", "how"), [("reject", "was rejected"), ("lose", "did not get out, `mtum-eod flatten` tries again")]
)
def test_a_sale_by_hand_that_comes_to_nothing_leaves_shares_nobody_watches(bench: Bench, on_submit: str, how: str):
    """In the afternoon the VIX says sell, and the session has had its decision by hand."""
    bench.broker.on_submit = on_submit
    handled = sell(bench, 300)
    bench.data.edit(VIX, NEXT, close=35.0)
    blocked_by = bench.decide(NEXT).document["blocked_by"]

    assert (5, "already_decided") == (handled.exit_code, blocked_by)
    assert [
        (f"MTUM 2024-11-06: the sale by hand {how}: 33 shares kept, and no rule is asked today", 1)
    ] == bench.notices("position_unattended")


@pytest.mark.parametrize("is_source_down", [False, True])
def test_a_sale_by_hand_follows_an_overnight_split_first(bench: Bench, is_source_down: bool):
    """Two shares for one since yesterday: all 66 are sold, and not the 33 of the day before with 33 left to nobody.

    Where the source does not answer the owner need not wait for it: 33 are what the book knows of.
    """
    frame = bench.data.frames["MTUM"]
    frame[["open", "high", "low", "close"]] /= 2
    frame["volume"] *= 2
    bench.broker.shares = 66.0
    bench.data.down = {"MTUM"} if is_source_down else set()
    sell(bench, 200)

    assert [(SELL_KEY, 33 if is_source_down else 66, "MOC")] == sales(bench)


@pytest.mark.parametrize("by_hand", [5, -5])
def test_beside_a_mismatch_no_position_tells_what_a_sale_by_hand_did(bench: Bench, by_hand: int):
    """The owner had traded 5 shares; the sale was executed, and its executions were gone before they were read.

    The position would say 28 sold, or 38: both wrong, and the shares left over would be the owner's.
    """
    bench.broker.shares += by_hand
    sell(bench, 360)
    sold = bench.broker.received[-1].shares
    bench.broker.execute(SELL_KEY, sold, 150.0, 1.0)
    bench.broker.executed.clear()
    bench.broker.at_broker.clear()
    bench.at(AFTER, 300)
    settle_all(bench.desk)

    assert (33, OrderStatus.UNKNOWN) == (bench.desk.shares(), status_of(bench))
    assert [words for words, _ in bench.notices("mismatch") if f"--resolve {NEXT}" in words]


def test_by_a_clock_that_the_broker_contradicts_nothing_is_sold(bench: Bench):
    """Hours off it may take the evening for the morning: the order would be one for another session."""
    bench.broker.behind_us = timedelta(hours=-5)
    with pytest.raises(SettingsError, match="nothing is recorded by it"):
        sell(bench, 20)

    assert [] == sales(bench)
