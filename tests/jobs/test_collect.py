"""What becomes of an order that was sent: full, in part, not at all, or gone from every list the broker has."""

from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest
from fakes import KEY, SESSION, Bench, calendar
from hypothesis import given, settings
from hypothesis import strategies as st

from mtum_eod.adapters.store import upkeep
from mtum_eod.core.market import VIX
from mtum_eod.core.trading import Fill, OrderStatus
from mtum_eod.errors import MarketDataError, OrderStateUnknown
from mtum_eod.jobs import reconcile
from mtum_eod.jobs.flatten import flatten
from mtum_eod.jobs.session import settle_all

NEXT, THIRD = date(2024, 11, 6), date(2024, 11, 7)
BUY_KEY, SELL_KEY = f"{KEY}/{SESSION}/BUY", f"{KEY}/{NEXT}/SELL"

CLOSE = 148.0
"""The bars' close at SESSION, from which every estimate is worked out by hand: 33 shares, 4,884.00 USD."""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "book.db")


def state(bench: Bench) -> list[tuple[str]]:
    return bench.sql("SELECT status FROM order_intent ORDER BY session")


def fills(bench: Bench) -> list[tuple[int, float, float | None, int]]:
    """Quantity, price, commission and whether estimated."""
    return [
        (shares, round(price, 6), commission if commission is None else round(commission, 6), estimated)
        for shares, price, commission, estimated in bench.sql(
            "SELECT quantity, price, commission, estimated FROM fills ORDER BY executed_at, execution_id"
        )
    ]


def midnight(bench: Bench) -> None:
    """The broker's lists start anew; what it holds it still holds."""
    bench.broker.executed.clear()
    bench.broker.at_broker.clear()


def test_the_bars_by_hand(bench: Bench):
    assert CLOSE == bench.data.frames["MTUM"].loc["2024-11-05", "close"]


# -- the same day -----------------------------------------------------------------------------------------------------


def test_part_of_an_order_filled_and_the_rest_cancelled_is_partly_filled(bench: Bench):
    bench.decide()
    bench.broker.execute(BUY_KEY, 20, 150.0, 1.0)
    bench.broker.end(BUY_KEY, OrderStatus.CANCELLED)
    settlement = bench.settle()

    assert (True, [("partly_filled",)], [(20, 150.0, 1.0, 0)]) == (settlement.is_settled, state(bench), fills(bench))


def test_a_cancellation_by_the_broker_is_final_and_told(bench: Bench):
    bench.decide()
    bench.broker.end(BUY_KEY, OrderStatus.CANCELLED)
    settlement = bench.settle()

    assert (True, [("cancelled",)], 1) == (settlement.is_settled, state(bench), len(bench.notices("order_rejected")))


def test_a_status_that_claims_more_than_its_executions_is_told_once_and_exits_5(bench: Bench):
    """33 are said to be filled, the executions of 13 of them have not come."""
    bench.decide()
    bench.broker.execute(BUY_KEY, 20, 150.0, 1.0)
    bench.broker.at_broker[BUY_KEY] = replace(
        bench.broker.at_broker[BUY_KEY], status=OrderStatus.FILLED, filled_shares=33
    )
    first, second = bench.settle(), bench.settle(after_close=35)
    bench.broker.execute(BUY_KEY, 13, 150.0, 0.5, number=2)
    after = bench.settle(after_close=50)

    words = "the broker counts 33 shares executed, its executions add up to 20"
    assert [(False, 5), (False, 5), (True, 0)] == [(s.is_settled, s.exit_code) for s in (first, second, after)]
    assert f"order {BUY_KEY} is working: {words}" == first.why
    assert [1] == [words in told for told, _ in bench.notices("mismatch")]
    assert ([("filled",)], [(20, 150.0, 1.0, 0), (13, 150.0, 0.5, 0)]) == (state(bench), fills(bench))


def test_an_order_gone_from_every_list_is_judged_by_its_executions(bench: Bench):
    bench.decide()
    bench.broker.execute(BUY_KEY, 20, 150.0, 1.0)
    bench.broker.forgets = True
    settlement = bench.settle()

    assert (True, [("partly_filled",)], [(20, 150.0, 1.0, 0)]) == (settlement.is_settled, state(bench), fills(bench))


def test_an_order_gone_from_every_list_before_the_close_is_alive(bench: Bench):
    """A list read too early lacks an order that the auction will fill."""
    bench.decide()
    bench.broker.forgets = True
    bench.decide(before_close=16)
    during = state(bench)
    bench.broker.forgets = False
    bench.broker.execute(BUY_KEY, 33, 150.0, 1.0)
    bench.settle()

    assert ([("working",)], [("filled",)]) == (during, state(bench))


def test_an_order_gone_with_nothing_executed_and_nothing_moved_was_cancelled(bench: Bench):
    bench.decide()
    bench.broker.forgets = True
    settlement = bench.settle()

    assert (True, [("cancelled",)], [timedelta(seconds=5)]) == (
        settlement.is_settled,
        state(bench),
        bench.clock.slept,
    )


def test_executions_that_come_after_an_order_was_given_up_are_booked(bench: Bench):
    """No list had it and nothing had moved: cancelled. Then 5 shares of it are printed after all."""
    bench.decide()
    bench.broker.forgets = True
    bench.settle()
    bench.broker.execute(BUY_KEY, 5, 150.0, 0.5)
    during = state(bench)
    bench.settle(after_close=50)

    assert ([("cancelled",)], [("partly_filled",)], [(5, 150.0, 0.5, 0)]) == (during, state(bench), fills(bench))


def test_a_position_that_moved_without_executions_waits_for_them_until_midnight(bench: Bench):
    bench.decide()
    bench.broker.forgets = True
    bench.broker.shares = 33.0
    settlement = bench.settle()

    assert (False, 5, [("working",)], []) == (settlement.is_settled, settlement.exit_code, state(bench), fills(bench))


@pytest.mark.parametrize("silent", ["orders", "executions", "shares_held"])
def test_where_a_list_is_silent_a_vanished_order_is_not_judged(bench: Bench, silent: str):
    """Unknown is not empty."""
    bench.decide()
    bench.broker.forgets = True
    bench.broker.silent.add(silent)
    settlement = bench.settle()

    assert (False, 4, [("working",)]) == (settlement.is_settled, settlement.exit_code, state(bench))


@pytest.mark.parametrize(
    ("claims_fill", "exit_code", "words"),
    [
        (False, 4, "the broker does not tell what became of it: the list of executions never ended"),
        (True, 5, "the broker counts 33 shares executed, and does not tell how: the list of executions never ended"),
    ],
)
def test_a_broker_that_does_not_tell_of_an_order_after_the_close_is_an_alarm_told_once(
    bench: Bench, claims_fill: bool, exit_code: int, words: str
):
    """Asked at 15:50 too, when it rests and there is nothing to tell."""
    bench.decide()
    bench.broker.silent.add("executions")
    if claims_fill:
        bench.broker.execute(BUY_KEY, 33, 150.0, 1.0)
    early = bench.settle(after_close=-10)
    quiet = bench.notices("mismatch")
    first, second = bench.settle(), bench.settle(after_close=35)
    bench.broker.silent.clear()
    if not claims_fill:
        bench.broker.execute(BUY_KEY, 33, 150.0, 1.0)
    after = bench.settle(after_close=50)

    assert (0, []) == (early.exit_code, quiet)
    assert [(False, exit_code), (False, exit_code), (True, 0)] == [
        (s.is_settled, s.exit_code) for s in (first, second, after)
    ]
    assert f"order {BUY_KEY} is working: {words}" == second.why
    assert [(True, 1)] == [(words in told, urgent) for told, urgent in bench.notices("mismatch")]


def test_an_order_that_the_broker_holds_back_after_the_close_is_an_alarm_told_once(bench: Bench):
    bench.decide()
    held = replace(bench.broker.at_broker[BUY_KEY], words="it is Inactive", needs_person=True)
    bench.broker.at_broker[BUY_KEY] = held
    first, second = bench.settle(), bench.settle(after_close=35)

    assert [(False, 5)] * 2 == [(s.is_settled, s.exit_code) for s in (first, second)]
    assert [(True, 1)] == [("it is Inactive" in told, urgent) for told, urgent in bench.notices("mismatch")]


def test_an_order_whose_reference_a_list_has_lost_is_known_by_its_permanent_id(bench: Bench):
    bench.decide()
    bench.broker.execute(BUY_KEY, 33, 150.0, 1.0)
    listed = bench.broker.at_broker.pop(BUY_KEY)
    bench.broker.at_broker[""] = replace(listed, reference="", order_id=None, status=OrderStatus.CANCELLED)
    bench.broker.executed[0] = replace(bench.broker.executed[0], shares=20)
    bench.broker.at_broker[""] = replace(bench.broker.at_broker[""], filled_shares=20)
    settlement = bench.settle()

    assert (True, [("partly_filled",)]) == (settlement.is_settled, state(bench))


def test_a_late_commission_settles_the_session_and_corrects_every_mark_since(bench: Bench):
    """2.00 USD come a day late: cash of both sessions is 2.00 lower than it was marked."""
    bench.decide()
    bench.broker.execute(BUY_KEY, 33, 150.0, None)
    first = bench.settle()
    bench.decide(NEXT)
    bench.settle(NEXT)
    before = bench.sql("SELECT session, cash FROM equity")
    bench.broker.report_commission(0, 2.0)
    bench.at(NEXT, -60)
    [after] = settle_all(bench.desk)

    assert ("a commission is not reported yet", True) == (first.why, after.is_settled)
    assert [("2024-11-05", 50.0), ("2024-11-06", 50.0)] == before
    assert [("2024-11-05", 48.0), ("2024-11-06", 48.0)] == bench.sql("SELECT session, cash FROM equity")
    assert [] == upkeep.check(bench.path)


def test_a_correction_reaches_a_final_mark_while_the_vix_is_silent(bench: Bench):
    """33 at 150.00 were 33 at 140.00: the mark at 148.00 was final already, and follows."""
    bench.decide()
    bench.broker.execute(BUY_KEY, 33, 150.0, 1.0)
    bench.settle()
    bench.settle(NEXT)
    bench.broker.executed[0] = replace(bench.broker.executed[0], price_usd=140.0, revision=1)
    bench.data.down = {VIX}
    bench.settle(NEXT, after_close=35)

    assert [(5263.0, 1)] == bench.sql("SELECT value, is_final FROM equity_mark WHERE session = '2024-11-05'")


def test_a_correction_takes_its_predecessors_place(bench: Bench):
    bench.decide()
    bench.broker.execute(BUY_KEY, 33, 150.0, 1.0)
    bench.broker.executed.append(replace(bench.broker.executed[0], price_usd=149.5, revision=1))
    bench.settle()

    assert [(33, 149.5, 1.0, 0)] == fills(bench)


# -- after the session was settled ------------------------------------------------------------------------------------


def round_trip(bench: Bench) -> None:
    """33 bought at 150.00, sold at 140.00 the session after, 1.00 each side: -332.00, both sessions settled."""
    bench.buy(SESSION, price=150.0)
    bench.data.edit(VIX, NEXT, close=31.0)
    bench.decide(NEXT)
    bench.broker.execute(SELL_KEY, 33, 140.0, 1.0)
    bench.settle(NEXT)


def results(bench: Bench) -> list[float]:
    return [round(result, 2) for (result,) in bench.sql("SELECT net_pnl FROM trades")]


@pytest.mark.parametrize("step", ["decide", "settle", "settle by hand"])
def test_a_correction_of_a_settled_session_is_booked_and_told_with_what_it_changes(bench: Bench, step: str):
    """The purchase was at 149.50, says the broker two days later: 16.50 USD better, in a trip that is closed."""
    round_trip(bench)
    before = results(bench)
    bench.broker.executed.append(replace(bench.broker.executed[0], price_usd=149.5, revision=1))
    bench.data.edit(VIX, THIRD, close=26.0)
    if step == "settle by hand":
        bench.at(NEXT, -60)
        settle_all(bench.desk)
    else:
        bench.decide(THIRD)
        if step == "settle":
            bench.settle(THIRD)

    assert ([-332.0], [-315.5]) == (before, results(bench))
    assert [
        (
            f"BUY 33 MTUM at 149.50, commission 1.00 USD, {SESSION}: so it is at the broker now, the session had been "
            "settled otherwise; the result of closed round trips changes by +16.50 USD",
            1,
        )
    ] == [notice for notice in bench.notices("order_filled") if "otherwise" in notice[0]]
    assert [] == upkeep.check(bench.path)


def test_the_same_executions_again_are_no_news(bench: Bench):
    round_trip(bench)
    before = bench.notices("order_filled", "mismatch")
    bench.data.edit(VIX, THIRD, close=26.0)
    bench.decide(THIRD)
    bench.settle(THIRD)

    assert before == bench.notices("order_filled", "mismatch")


def test_an_execution_of_a_settled_session_is_booked_by_the_next_run(bench: Bench):
    """20 of 33 were settled; the other 13 are shown a day later, at 151.00."""
    bench.decide()
    bench.broker.execute(BUY_KEY, 20, 150.0, 1.0)
    bench.broker.end(BUY_KEY, OrderStatus.CANCELLED)
    bench.settle()
    settled = state(bench)
    bench.broker.execute(BUY_KEY, 13, 151.0, 0.5, number=2)
    bench.data.edit(VIX, NEXT, close=26.0)
    bench.decide(NEXT)

    assert ([("partly_filled",)], [("filled",)], 33) == (settled, state(bench), bench.desk.shares())
    # 5,000 - 20 x 150 - 1 - 13 x 151 - 0.50
    assert [("2024-11-05", 35.5)] == bench.sql("SELECT session, cash FROM equity")


def test_what_would_make_the_book_short_is_told_and_not_booked(bench: Bench):
    """A correction says that 30 were bought, not 33, after 33 were sold."""
    round_trip(bench)
    bench.broker.executed.append(replace(bench.broker.executed[0], shares=30, revision=1))
    bench.data.edit(VIX, THIRD, close=26.0)
    outcome = bench.decide(THIRD)

    assert ("HOLD", [-332.0]) == (outcome.document["action"], results(bench))
    assert [True] == ["cannot be booked" in words and urgent == 1 for words, urgent in bench.notices("mismatch")]


def estimated_past_midnight(bench: Bench) -> Fill:
    """33 were bought, and nobody asked before the next run estimated them; the execution that it never saw."""
    bench.decide()
    bench.broker.execute(BUY_KEY, 33, 150.0, 1.0)
    [kept] = bench.broker.executed
    midnight(bench)
    bench.data.edit(VIX, NEXT, close=26.0)
    bench.decide(NEXT)
    return kept


def test_an_estimate_gives_way_to_the_executions_it_stands_for(bench: Bench):
    """They had vanished at midnight; a terminal that keeps a week of them shows them again."""
    kept = estimated_past_midnight(bench)
    estimated = fills(bench)
    bench.broker.executed.append(kept)
    bench.settle(NEXT)

    assert ([(33, 148.0, 4.884, 1)], [(33, 150.0, 1.0, 0)]) == (estimated, fills(bench))


@pytest.mark.parametrize("shares", [20, 34])
def test_an_estimate_does_not_give_way_to_other_executions(bench: Bench, shares: int):
    """The position said 33: a list that adds up to something else lacks some, or has one of another order."""
    kept = estimated_past_midnight(bench)
    bench.broker.executed.append(replace(kept, shares=shares))
    bench.settle(NEXT)

    assert [(33, 148.0, 4.884, 1)] == fills(bench)


def test_what_the_owner_took_from_the_statement_stands(bench: Bench):
    kept = estimated_past_midnight(bench)
    reconcile.fill(bench.desk, SESSION, 150.1, 1.1, by="owner")
    bench.broker.executed.append(kept)
    bench.settle(NEXT)

    assert [(33, 150.1, 1.1, 0)] == fills(bench)


def test_executions_that_cannot_be_read_delay_no_decision(bench: Bench):
    """The position is the book's: no forgotten order has moved it."""
    bench.broker.silent.add("executions")
    document = bench.decide().document

    assert ("BUY", "working") == (document["action"], document["order"]["status"])


def test_executions_that_cannot_be_read_delay_no_order_in_the_book(bench: Bench):
    """What the session decided stands, whatever the broker does not tell; only a new order waits for that."""
    bench.decide()
    bench.broker.silent.add("executions")
    document = bench.decide(before_close=18).document

    assert ("BUY", "working") == (document["action"], document["order"]["status"])


# -- past midnight ----------------------------------------------------------------------------------------------------


def test_past_midnight_the_position_tells_the_quantity_and_the_price_is_estimated(bench: Bench):
    """33 shares at the final close of 148.00, commission 0.001 of 4,884.00 USD."""
    bench.decide()
    bench.broker.shares = 33.0
    midnight(bench)
    bench.at(NEXT, 60)
    [settlement] = settle_all(bench.desk)

    assert (True, 0, [("filled",)]) == (settlement.is_settled, settlement.exit_code, state(bench))
    assert [(33, CLOSE, 4.884, 1)] == fills(bench)
    [(words, urgent)] = bench.notices("order_filled")
    assert ("ESTIMATED" in words, f"reconcile --fill {SESSION} PRICE COMMISSION" in words, 1) == (True, True, urgent)
    assert [] == upkeep.check(bench.path)


@pytest.mark.parametrize(("moved", "ends"), [(33.0, "filled"), (20.0, "not_sent")])
def test_an_order_given_up_that_moved_the_position_all_the_same_is_estimated(bench: Bench, moved: float, ends: str):
    """It arrived after every look, and nobody asked before midnight; part of it may be anybody's."""
    bench.broker.on_submit, bench.broker.forgets = "drop", True
    bench.decide()
    bench.broker.forgets = False
    was = state(bench)
    bench.broker.shares = moved
    midnight(bench)
    bench.at(NEXT, 60)
    [settlement] = settle_all(bench.desk)

    assert (("not_sent",), (ends,), True) == (*was, *state(bench), settlement.is_settled)
    assert [(33, CLOSE, 4.884, 1)] * (ends == "filled") == fills(bench)
    assert ["ESTIMATED" in words for words, _ in bench.notices("order_filled")] == [True] * (ends == "filled")


def test_an_order_that_was_never_sent_has_moved_nothing(bench: Bench):
    """The owner bought as many shares that day."""
    bench.once_recorded(lambda: bench.clock.sleep(timedelta(minutes=6)))
    bench.decide()
    bench.broker.shares = 33.0
    midnight(bench)
    bench.at(NEXT, 60)
    settle_all(bench.desk)

    assert ([("not_sent",)], []) == (state(bench), fills(bench))


def test_what_was_booked_in_time_is_not_estimated_again(bench: Bench):
    """20 executions were read on the evening, the other 13 shares are known by the position alone."""
    bench.decide()
    bench.broker.execute(BUY_KEY, 20, 150.0, 1.0)
    bench.settle()
    bench.broker.shares = 33.0
    midnight(bench)
    bench.at(NEXT, 60)
    settle_all(bench.desk)

    assert [(13, CLOSE, 1.924, 1), (20, 150.0, 1.0, 0)] == fills(bench)


def test_an_estimate_for_a_part_leaves_the_order_partly_filled(bench: Bench):
    bench.decide()
    bench.broker.shares = 20.0
    midnight(bench)
    bench.decide(NEXT)

    assert ([("partly_filled",)], [(20, CLOSE, 2.96, 1)]) == (state(bench), fills(bench))


@pytest.mark.parametrize("is_silent", [False, True])
@pytest.mark.parametrize("held", [25.0, 0.0])
def test_what_the_broker_counted_on_the_evening_outlasts_its_lists(bench: Bench, held: float, is_silent: bool):
    """20 of 33 by its count, and no execution; by morning the owner has bought 5, or sold all: no matter."""
    bench.decide()
    bench.broker.execute(BUY_KEY, 20, 150.0, 1.0)
    bench.broker.at_broker[BUY_KEY] = replace(bench.broker.at_broker[BUY_KEY], status=OrderStatus.PARTLY_FILLED)
    bench.broker.executed.clear()
    bench.broker.silent.update({"executions"} if is_silent else ())
    bench.settle()
    counted = bench.sql("SELECT status, filled_shares FROM order_intent")
    midnight(bench)
    bench.broker.silent.clear()
    bench.broker.shares = held
    bench.at(NEXT, 60)
    [settlement] = settle_all(bench.desk)

    assert ([("working", 20)], [("partly_filled",)]) == (counted, state(bench))
    assert ([(20, CLOSE, 2.96, 1)], True) == (fills(bench), settlement.is_settled)
    assert ["ESTIMATED" in words for words, _ in bench.notices("order_filled")] == [True]


def test_a_count_before_the_order_has_ended_is_not_kept(bench: Bench):
    """20 of 33 by a list of minutes after the close; by morning all 33 are there."""
    bench.decide()
    bench.broker.execute(BUY_KEY, 20, 150.0, 1.0)
    bench.broker.executed.clear()
    bench.settle()
    counted = bench.sql("SELECT filled_shares FROM order_intent")
    midnight(bench)
    bench.broker.shares = 33.0
    bench.at(NEXT, 60)
    settle_all(bench.desk)

    assert ([(None,)], [(33, CLOSE, 4.884, 1)]) == (counted, fills(bench))


def test_no_count_sells_shares_that_the_book_does_not_hold(bench: Bench):
    """33 on sale and 40 counted as executed, of which 7 cannot be its own; then of a purchase put right to 20."""
    bench.buy(SESSION)
    bench.data.edit(VIX, NEXT, close=31.0)
    bench.decide(NEXT)
    bench.store.update_order(SELL_KEY, OrderStatus.WORKING, bench.clock.now(), filled_shares=40)
    [bought] = bench.store.fills()
    bench.store.add_fills([replace(bought, shares=20, revision=1)])
    midnight(bench)
    bench.broker.shares = 0.0
    bench.at(date(2024, 11, 7), 60)
    settle_all(bench.desk)

    assert [("BUY", 20), ("SELL", 20)] == bench.sql("SELECT side, shares FROM execution ORDER BY executed_at")


def test_an_order_past_midnight_with_nothing_moved_bought_nothing(bench: Bench):
    bench.decide()
    midnight(bench)
    bench.decide(NEXT)

    assert ("cancelled",) == state(bench)[0]


def test_a_move_that_is_not_the_orders_leaves_it_unknown_and_blocks(bench: Bench):
    """40 shares more, 33 were ordered."""
    bench.decide()
    bench.broker.shares = 40.0
    midnight(bench)
    outcome = bench.decide(NEXT)

    assert ([("unknown",)], [], "order_unknown", 5) == (
        state(bench),
        fills(bench),
        outcome.document["blocked_by"],
        outcome.exit_code,
    )
    [(words, urgent)] = bench.notices("mismatch")[:1]
    assert ("moved its way by 40 shares" in words, f"--resolve {SESSION} none|filled|SHARES" in words, 1) == (
        True,
        True,
        urgent,
    )


def test_it_resolves_itself_once_the_position_agrees(bench: Bench):
    """The owner sells the 7 shares that were not the order's."""
    bench.decide()
    bench.broker.shares = 40.0
    midnight(bench)
    bench.decide(NEXT)
    bench.broker.shares = 33.0
    bench.decide(NEXT, before_close=18)

    assert ([("filled",)], [(33, CLOSE, 4.884, 1)]) == (state(bench), fills(bench))


def test_a_half_sold_exit_stays_due_over_midnight_and_sells_the_rest(bench: Bench):
    bench.buy(SESSION)
    bench.data.edit(VIX, NEXT, close=31.0)
    bench.decide(NEXT)
    bench.broker.shares = 20.0
    midnight(bench)
    document = bench.decide(THIRD).document

    assert ("SELL", 20, ["exit_pending"]) == (document["action"], document["shares"], document["exit_reasons"])
    assert [("filled",), ("partly_filled",), ("working",)] == state(bench)


def test_an_order_still_working_after_midnight_blocks_all_and_is_told_once(bench: Bench):
    """Taken for the next session by the broker: another exit beside it would sell twice."""
    bench.buy(SESSION)
    bench.data.edit(VIX, NEXT, close=31.0)
    bench.decide(NEXT)
    first, second = bench.decide(THIRD), bench.decide(THIRD, before_close=18)

    assert [("SELL", "order_unknown", 5)] * 2 == [
        (o.document["action"], o.document["blocked_by"], o.exit_code) for o in (first, second)
    ]
    assert (2, 1) == (
        len(bench.broker.received),
        sum("still working at the broker" in words for words, _ in bench.notices("mismatch")),
    )


def test_a_sale_by_hand_waits_too_while_yesterdays_order_still_works(bench: Bench):
    bench.buy(SESSION)
    bench.data.edit(VIX, NEXT, close=31.0)
    bench.decide(NEXT)
    bench.at(THIRD, 60)
    with pytest.raises(OrderStateUnknown, match="is still working: a sale could sell too much"):
        flatten(bench.desk, why="", by="owner")

    assert 2 == len(bench.broker.received)


def test_without_a_close_nothing_is_estimated_and_an_exit_of_today_goes_on(bench: Bench):
    """The order bought 20 of 33 before midnight's end; its close cannot be had."""
    bench.decide()
    bench.broker.shares = 33.0
    midnight(bench)
    bench.data.drop("MTUM", SESSION)
    outcome = bench.decide(NEXT)

    assert ([("working",)], [], 5) == (state(bench), fills(bench), outcome.exit_code)
    assert any("is still working" in note for note in outcome.notes)


def test_a_stored_bar_that_was_partial_prices_nothing(bench: Bench):
    """The decision kept the bar of 15:40, at 148.00; the session closed at 160.00, which the source tells later."""
    bench.decide()
    bench.broker.shares = 33.0
    midnight(bench)
    bench.data.edit("MTUM", SESSION, close=160.0)
    bench.data.down = {"MTUM"}
    bench.at(NEXT, 120)
    with pytest.raises(MarketDataError, match="no close of 2024-11-05 at arrays, 33 executed shares"):
        settle_all(bench.desk)
    unpriced = fills(bench)
    bench.data.down.clear()
    bench.at(NEXT, 60)
    settle_all(bench.desk)

    assert ([], [(33, 160.0, 5.28, 1)]) == (unpriced, fills(bench))


def test_a_bar_stored_after_the_close_prices_an_execution_where_the_source_is_silent(bench: Bench):
    """The evening's settlement read 148.00."""
    bench.decide()
    bench.broker.silent = {"executions"}
    bench.settle()
    bench.broker.silent.clear()
    bench.broker.shares = 33.0
    midnight(bench)
    bench.data.down = {"MTUM"}
    bench.at(NEXT, 60)
    with pytest.raises(MarketDataError):  # the rest of the settlement wants the source itself
        settle_all(bench.desk)

    assert [(33, CLOSE, 4.884, 1)] == fills(bench)


def test_a_commission_that_never_came_is_estimated_past_midnight(bench: Bench):
    """0.001 of 33 x 150.00; the price stays the broker's."""
    bench.decide()
    bench.broker.execute(BUY_KEY, 33, 150.0, None)
    bench.settle()
    midnight(bench)
    bench.at(NEXT, 60)
    [settlement] = settle_all(bench.desk)

    assert (True, [(33, 150.0, 4.95, 1)]) == (settlement.is_settled, fills(bench))


def test_collecting_twice_equals_once_past_midnight(bench: Bench):
    bench.decide()
    bench.broker.shares = 33.0
    midnight(bench)
    for minutes in (60, 45, 30):
        bench.at(NEXT, minutes)
        settle_all(bench.desk)

    assert ([(33, CLOSE, 4.884, 1)], 1) == (fills(bench), len(bench.notices("order_filled")))


# -- whatever the order of events -------------------------------------------------------------------------------------

EVENTS = st.lists(
    st.sampled_from(["fill 5", "fill 28", "commission", "settle", "silent", "speaks", "forgets", "remembers"]),
    max_size=12,
)


@settings(max_examples=25, deadline=None)
@given(events=EVENTS)
def test_whatever_comes_in_whatever_order_the_book_ends_as_the_broker(tmp_path_factory, events: list[str]):
    """Part fills, late commissions, silent and empty lists in any order; at the end everything is said and settled."""
    bench = Bench(tmp_path_factory.mktemp("book") / "book.db")
    bench.decide()
    minutes, numbers = 20.0, iter(range(1, 20))
    for event in [*events, "speaks", "remembers", "end", "commission", "settle", "settle"]:
        done = sum(fill.shares for fill in bench.broker.executed)
        if event.startswith("fill") and done + int(event.split()[1]) <= 33:
            bench.broker.execute(BUY_KEY, int(event.split()[1]), 150.0, None, next(numbers))
        if event == "commission":
            for number in range(len(bench.broker.executed)):
                bench.broker.report_commission(number, 0.5)
        if event == "settle":
            minutes += 15
            bench.settle(after_close=minutes)
        if event in ("silent", "speaks"):
            bench.broker.silent = {"executions"} if event == "silent" else set()
        if event in ("forgets", "remembers"):
            bench.broker.forgets = event == "forgets"
        if event == "end" and done < 33:
            bench.broker.end(BUY_KEY, OrderStatus.CANCELLED)
    broker = [(fill.shares, 150.0, 0.5, 0) for fill in bench.broker.executed]

    assert (sorted(broker), 0) == (sorted(fills(bench)), len(bench.store.open_orders()))
    assert (int(bench.broker.shares), []) == (bench.desk.shares(), upkeep.check(bench.path))


def test_the_tests_clock_is_new_yorks(bench: Bench):
    """Midnight is the exchange's: 23:59 in New York is still the session's day."""
    bench.clock.set(datetime.fromisoformat("2024-11-06T04:59:00+00:00"))

    assert SESSION == calendar().local_date(bench.clock.now())


def test_an_order_refused_and_executed_all_the_same_is_booked_once_the_broker_speaks_again(bench: Bench):
    bench.broker.on_submit = "reject"
    bench.decide()
    bench.broker.execute(BUY_KEY, 33, 148.0, 1.0)
    bench.broker.silent = {"orders", "executions"}
    silent = bench.settle()
    bench.broker.silent = set()
    settled = [bench.settle(after_close=35).is_settled, bench.settle(after_close=50).is_settled]

    assert (False, 5) == (silent.is_settled, silent.exit_code)
    assert (True, 33) == (settled[-1], bench.desk.shares())


def test_an_order_executed_in_full_waits_for_nothing_more_from_a_silent_broker(bench: Bench):
    bench.buy(SESSION)
    bench.broker.silent = {"executions"}

    assert bench.settle(after_close=35).is_settled


def test_a_session_that_a_silent_broker_keeps_open_is_told_once(bench: Bench):
    """It has no order that the book knows of; the broker may have had one, and does not say."""
    bench.data.edit(VIX, SESSION, close=40.0)
    bench.decide()
    bench.broker.silent = {"orders"}
    codes = [bench.settle(after_close=20).exit_code, bench.settle(after_close=35).exit_code]
    told = [words for words, _ in bench.notices("run_failed") if words.startswith(f"{SESSION} is not settled: ")]

    assert ([4, 4], 1) == (codes, len(told))
