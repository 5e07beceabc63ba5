"""The step that can spend money: at most one order a session, never a short sale, whatever happens on the way."""

import sqlite3
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest
from fakes import BOOK, KEY, SESSION, Bench, ScriptedBroker, calendar

from mtum_eod.core.checks import Check
from mtum_eod.core.market import VIX, DailyBars
from mtum_eod.core.parameters import LateExit, Parameters, RiskParameters
from mtum_eod.core.trading import Halt, OrderIntent, OrderStatus, OrderType
from mtum_eod.errors import BrokerUnavailable, MarketDataError
from mtum_eod.jobs.decide import preview
from mtum_eod.jobs.session import decide_step, settle_all
from mtum_eod.jobs.settle import settle_session
from mtum_eod.ports import BrokerOrder
from mtum_eod.views import text

BUY_KEY, NEXT = f"{KEY}/2024-11-05/BUY", date(2024, 11, 6)
SELL_KEY = f"{KEY}/2024-11-06/SELL"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "book.db")


def references(bench: Bench) -> list[str]:
    return [intent.reference for intent in bench.broker.received]


def rows(bench: Bench) -> list[tuple[str, str]]:
    return bench.sql("SELECT session, status FROM sessions")


def spike(bench: Bench, session: date = NEXT) -> None:
    """The VIX closes at 31: every long position is sold."""
    bench.data.edit(VIX, session, close=31.0)


# -- one decision, one order ------------------------------------------------------------------------------------------


def test_an_entry_is_sized_recorded_sent_and_told(bench: Bench):
    """5,000 USD / (148.00 x 1.01 x 1.001) = 33.4 shares."""
    document = bench.decide().document

    expected = {"key": BUY_KEY, "side": "BUY", "type": "MOC", "shares": 33, "status": "working"}
    assert expected == document["order"]
    assert [BUY_KEY] == references(bench)
    assert [("2024-11-05", "decided")] == rows(bench)
    assert ["daily_summary", "order_sent"] == [event for (event,) in bench.sql("SELECT event FROM notice ORDER BY id")]


def test_the_intent_is_durable_before_the_order_leaves(bench: Bench):
    seen = []

    def look(intent: OrderIntent) -> BrokerOrder:
        seen.extend(bench.sql("SELECT reference, status FROM order_intent"))
        return replace_submit(intent)

    replace_submit, bench.broker.submit = bench.broker.submit, look  # type: ignore[method-assign]
    bench.decide()

    assert [(BUY_KEY, "intent")] == seen


def test_a_second_run_answers_with_the_record_and_sends_nothing(bench: Bench):
    first = bench.decide().document
    bench.data.edit(VIX, SESSION, close=40.0)  # whatever the market has become since
    second = bench.decide(before_close=18)

    assert first | {"blocked_by": "already_decided"} == second.document
    assert (0, [BUY_KEY]) == (second.exit_code, references(bench))


def test_a_session_of_no_order_is_decided_once_too(bench: Bench):
    bench.data.edit(VIX, SESSION, close=26.0)
    first = bench.decide().document
    bench.data.edit(VIX, SESSION, close=15.0)
    second = bench.decide(before_close=18).document

    assert ("HOLD", None) == (first["action"], first["blocked_by"])
    assert ("HOLD", "already_decided", []) == (second["action"], second["blocked_by"], references(bench))


def test_too_early_is_told_and_recorded_nowhere(bench: Bench):
    outcome = bench.decide(before_close=21)

    assert ("BUY", "outside_window", 0) == (
        outcome.document["action"],
        outcome.document["blocked_by"],
        outcome.exit_code,
    )
    assert ([], [], [], []) == (
        rows(bench),
        references(bench),
        bench.sql("SELECT * FROM signal"),
        bench.sql("SELECT * FROM notice"),
    )


def test_a_preview_writes_nothing_and_says_what_a_run_would(bench: Bench):
    bench.at(SESSION, 20)
    before = bench.sql("SELECT (SELECT count(*) FROM run), (SELECT count(*) FROM bar), (SELECT count(*) FROM signal)")
    shown = preview(bench.desk, SESSION).document
    after = bench.sql("SELECT (SELECT count(*) FROM run), (SELECT count(*) FROM bar), (SELECT count(*) FROM signal)")
    run = bench.decide().document

    assert before == after
    assert run == shown | {"dry_run": False, "order": run["order"]}


# -- doubt ------------------------------------------------------------------------------------------------------------


def test_an_order_that_arrived_though_its_answer_was_lost_is_adopted(bench: Bench):
    bench.broker.on_submit = "drop"
    document = bench.decide().document
    again = bench.decide(before_close=18).document

    assert ("working", "working") == (document["order"]["status"], again["order"]["status"])
    assert [BUY_KEY] == references(bench)
    assert [(1, 901)] == bench.sql("SELECT order_id, perm_id FROM order_intent")


def test_an_order_that_surely_never_arrived_goes_out_once_more(bench: Bench):
    """The connection drops before it; two whole looks without it, and it is sent under its own id."""
    bench.broker.on_submit = "lose"
    submit = bench.broker.submit

    def lose_once(intent: OrderIntent) -> BrokerOrder:
        try:
            return submit(intent)
        finally:
            bench.broker.on_submit = "accept"

    bench.broker.submit = lose_once  # type: ignore[method-assign]
    document = bench.decide().document

    assert "working" == document["order"]["status"]
    assert [BUY_KEY] == references(bench)
    assert [(1, "working")] == bench.sql("SELECT order_id, status FROM order_intent")


def test_an_order_that_never_arrives_is_given_up_and_told(bench: Bench):
    """Lost twice, looked for twice after each time, 5 s apart: nothing is at the broker, and the owner knows."""
    bench.broker.on_submit = "lose"
    outcome = bench.decide()

    assert ("not_sent", 4) == (outcome.document["order"]["status"], outcome.exit_code)
    assert [timedelta(seconds=5)] * 2 == bench.clock.slept
    assert [
        (f"Order BUY 33 MTUM MOC for {SESSION}: not_sent (never reached the broker; the connection dropped)", 1)
    ] == bench.notices("run_failed")


@pytest.mark.parametrize("silent", ["orders", "executions", "shares_held"])
def test_a_broker_that_does_not_answer_leaves_the_session_unknown(bench: Bench, silent: str):
    """The connection drops at the order, and one list does not come to its end."""
    bench.broker.on_submit = "drop"
    submit = bench.broker.submit

    def silence(intent: OrderIntent) -> BrokerOrder:
        bench.broker.silent.add(silent)
        return submit(intent)

    bench.broker.submit = silence  # type: ignore[method-assign]
    outcome = bench.decide()
    again = bench.decide(before_close=18)

    assert ("unknown", 5) == (outcome.document["order"]["status"], outcome.exit_code)
    assert ("unknown", 5) == (again.document["order"]["status"], again.exit_code)
    assert [BUY_KEY] == references(bench)
    assert [1] == [urgent for _, urgent in bench.notices("run_failed")]


def test_unknown_resolves_itself_when_the_broker_answers_again(bench: Bench):
    bench.broker.on_submit = "fall silent"
    bench.decide()
    bench.broker.silent.clear()
    again = bench.decide(before_close=18)

    assert ("working", 0, [BUY_KEY]) == (again.document["order"]["status"], again.exit_code, references(bench))


def test_while_an_order_is_unknown_nothing_new_is_bought_the_next_session(bench: Bench):
    bench.broker.on_submit = "fall silent"
    bench.decide()
    bench.data.edit("MTUM", NEXT, close=150.0)
    bench.data.know_volumes(NEXT, today=900_000.0, before=800_000.0)
    outcome = bench.decide(NEXT)

    assert ("BUY", "order_unknown", 5) == (
        outcome.document["action"],
        outcome.document["blocked_by"],
        outcome.exit_code,
    )
    assert [BUY_KEY] == references(bench)


def test_a_rejection_ends_the_session(bench: Bench):
    bench.broker.on_submit = "reject"
    outcome = bench.decide()
    bench.broker.on_submit = "accept"
    again = bench.decide(before_close=18)

    assert (5, 5, [BUY_KEY]) == (outcome.exit_code, again.exit_code, references(bench))
    assert [(f"Order BUY 33 MTUM MOC for {SESSION}: rejected (no trading permission)", 1)] == bench.notices(
        "order_rejected"
    )


def answers(bench: Bench, **word: object) -> None:
    """The broker takes the next orders, with this beside."""
    submit = bench.broker.submit
    bench.broker.submit = lambda intent: replace(submit(intent), **word)  # type: ignore[method-assign]


def test_an_order_refused_or_held_back_that_the_broker_lists_as_working_needs_a_person(bench: Bench):
    """It may trade all the same: booked as working, told as refused, exit code 5 at this run and at the next."""
    answers(bench, words="rejected (201: no margin)", needs_person=True)
    first, again = bench.decide(), bench.decide(before_close=18)
    [(said, urgent)] = bench.notices("order_rejected")

    assert [("working", 5)] * 2 == [(out.document["order"]["status"], out.exit_code) for out in (first, again)]
    assert f"Order BUY 33 MTUM MOC for {SESSION}: working (a person must look: rejected (201: no margin))" in said
    assert (1, []) == (urgent, bench.notices("order_sent"))


def test_what_the_broker_says_beside_a_taken_order_is_told_with_it(bench: Bench):
    answers(bench, words="404: shares are being located")
    outcome = bench.decide()
    [(said, urgent)] = bench.notices("order_sent")

    assert said.startswith(f"BUY 33 MTUM MOC for {SESSION}: working (404: shares are being located). ")
    assert (0, 0) == (urgent, outcome.exit_code)


def halt(bench: Bench, *, allow_exits: bool) -> None:
    bench.store.halt(Halt(halted_at=bench.clock.now(), why="stop", by="owner", allow_exits=allow_exits))


def test_a_halt_set_while_the_run_decides_keeps_the_order_back(bench: Bench):
    """The owner halts between the record and the wire."""
    bench.once_recorded(lambda: halt(bench, allow_exits=True))
    outcome = bench.decide()
    document = outcome.document

    assert ("BUY", "halted", "not_sent") == (document["action"], document["blocked_by"], document["order"]["status"])
    assert ([], 0) == (references(bench), outcome.exit_code)


def test_a_run_slower_than_the_hard_stop_sends_nothing(bench: Bench):
    """The data came in time, but the database was busy until the close order was too late."""
    bench.once_recorded(lambda: bench.clock.sleep(timedelta(minutes=6)))
    outcome = bench.decide()
    document = outcome.document
    said = f"Order BUY 33 MTUM MOC for {SESSION}: not_sent (past the hard stop for market-on-close orders)"

    assert ("outside_window", "not_sent", [], 0) == (
        document["blocked_by"],
        document["order"]["status"],
        references(bench),
        outcome.exit_code,
    )
    assert [(said, 1)] == bench.notices("run_failed")


def test_an_exit_lost_on_the_wire_before_the_hard_stop_goes_as_a_market_order_after_it(bench: Bench):
    """Sent at 15:44:57 and lost; the two looks that prove it absent end at 15:45:02."""
    bench.buy(SESSION)
    spike(bench)
    submit = bench.broker.submit

    def lose(intent: OrderIntent) -> BrokerOrder:  # noqa: ARG001
        bench.broker.submit = submit  # type: ignore[method-assign]
        raise BrokerUnavailable("the connection dropped")

    bench.broker.submit = lose  # type: ignore[method-assign]
    document = bench.decide(NEXT, before_close=15 + 3 / 60).document
    [said] = [words for words, _ in bench.notices("order_sent") if "SELL" in words]

    assert ("SELL", None, "MKT", "working") == (
        document["action"],
        document["blocked_by"],
        document["order"]["type"],
        document["order"]["status"],
    )
    assert [(SELL_KEY, "MKT")] == [(i.reference, i.order_type) for i in bench.broker.received[1:]]
    assert said.startswith(f"SELL 33 MTUM MKT for {NEXT}: working. ")


@pytest.mark.parametrize(("allow_exits", "sent"), [(True, [SELL_KEY]), (False, [])])
def test_a_late_halt_lets_exits_pass_where_it_says_so(bench: Bench, allow_exits: bool, sent: list[str]):
    bench.buy(SESSION)
    spike(bench)
    bench.once_recorded(lambda: halt(bench, allow_exits=allow_exits))
    bench.decide(NEXT)

    assert sent == references(bench)[1:]


def test_a_store_that_refuses_stops_the_step_before_the_wire(bench: Bench):
    def refuse(recording: object) -> None:  # noqa: ARG001
        raise MarketDataError("disk full", hint="")

    bench.store.record = refuse  # type: ignore[method-assign]
    with pytest.raises(MarketDataError):
        bench.decide()

    assert [] == references(bench)
    assert [("failed", 3)] == bench.sql("SELECT outcome, exit_code FROM runs")


def test_no_order_id_no_order(bench: Bench):
    bench.broker.silent.add("order_id")
    with pytest.raises(BrokerUnavailable):
        bench.decide()

    assert ([], []) == (references(bench), bench.sql("SELECT * FROM order_intent"))
    assert [("failed", 4)] == bench.sql("SELECT outcome, exit_code FROM runs")


def test_an_entry_that_gets_no_order_id_is_summed_up_once(bench: Bench):
    """The price moves from minute to minute, and the words with it; a summary each would bury the failure."""
    bench.broker.silent.add("order_id")
    for before_close in (20, 19, 18):
        bench.data.edit("MTUM", SESSION, close=149.0 - before_close / 100)
        with pytest.raises(BrokerUnavailable):
            bench.decide(before_close=before_close)

    assert 1 == len(bench.notices("daily_summary"))


# -- never short, never stranded --------------------------------------------------------------------------------------


def test_a_contract_that_is_not_as_expected_keeps_an_entry_back_and_no_exit(bench: Bench):
    """Refused by its order types at 15:40, told once, mended by 15:42; the next day they are wrong again."""
    wrong = Check(name="order type", passed=False, words="MTUM does not take MOC orders", exit_code=2)
    bench.broker.checks = (wrong,)
    blocked, again = bench.decide(), bench.decide(before_close=19)
    told = bench.notices("run_failed")
    bench.broker.checks = ()
    bought = bench.decide(before_close=18)
    bench.broker.execute(BUY_KEY, 33, 148.0, 1.0)
    bench.settle()
    bench.broker.checks = (wrong,)
    spike(bench)
    sold = bench.decide(NEXT)

    assert [("BUY", "data", 3)] * 2 == [
        (out.document["action"], out.document["blocked_by"], out.exit_code) for out in (blocked, again)
    ]
    assert [True] == ["order type: MTUM does not take MOC orders" in words for words, _ in told]
    assert [BUY_KEY, SELL_KEY] == references(bench)
    assert (None, None) == (bought.document["blocked_by"], sold.document["blocked_by"])


def test_where_no_rule_buys_the_contract_is_not_asked_about(bench: Bench):
    bench.broker.checks = (Check(name="hours", passed=False, words="closed"),)
    bench.data.edit(VIX, SESSION, close=26.0)
    document = bench.decide().document

    assert ("HOLD", None) == (document["action"], document["blocked_by"])


@pytest.mark.parametrize(("at_broker", "sold"), [(33.0, 33), (20.0, 20), (20.9, 20), (50.0, 33)])
def test_an_exit_sells_the_smaller_of_the_book_and_the_broker(bench: Bench, at_broker: float, sold: int):
    bench.buy(SESSION)
    bench.broker.shares = at_broker
    spike(bench)
    bench.decide(NEXT)

    assert [("SELL", sold)] == [(intent.side, intent.shares) for intent in bench.broker.received[1:]]


@pytest.mark.parametrize("at_broker", [0.0, 0.5, -33.0])
def test_nothing_is_sold_that_the_broker_does_not_hold(bench: Bench, at_broker: float):
    bench.buy(SESSION)
    bench.broker.shares = at_broker
    spike(bench)
    outcome = bench.decide(NEXT)

    assert ("reconcile_mismatch", 5, [BUY_KEY]) == (
        outcome.document["blocked_by"],
        outcome.exit_code,
        references(bench),
    )


def test_an_unknown_position_holds_an_exit_back_until_it_is_known(bench: Bench):
    bench.buy(SESSION)
    spike(bench)
    bench.broker.silent.add("shares_held")
    held_back = bench.decide(NEXT)
    bench.broker.silent.clear()
    sent = bench.decide(NEXT, before_close=18)

    assert ("reconcile_mismatch", 5) == (held_back.document["blocked_by"], held_back.exit_code)
    assert ([SELL_KEY], 0) == (references(bench)[1:], sent.exit_code)


def test_a_mismatch_blocks_an_entry_and_alarms(bench: Bench):
    bench.broker.shares = 7.0
    outcome = bench.decide()

    assert ("BUY", "reconcile_mismatch", 5) == (
        outcome.document["action"],
        outcome.document["blocked_by"],
        outcome.exit_code,
    )
    assert [("the book holds 0 shares, the broker 7", 1)] == bench.notices("mismatch")


def test_no_word_on_cash_no_entry(bench: Bench):
    bench.broker.silent.add("cash")
    outcome = bench.decide()

    assert ("BUY", "cash", []) == (outcome.document["action"], outcome.document["blocked_by"], references(bench))


def test_a_partly_filled_exit_goes_on_the_next_session(bench: Bench):
    """12 of 33 shares are sold and the broker gives up the rest; the day after nothing else would sell."""
    bench.buy(SESSION)
    spike(bench)
    bench.decide(NEXT)
    bench.broker.execute(SELL_KEY, 12, 146.0, 0.5)
    bench.broker.end(SELL_KEY, OrderStatus.CANCELLED)
    bench.settle(NEXT)
    third = bench.decide(date(2024, 11, 7)).document

    assert [("partly_filled",)] == bench.sql("SELECT status FROM order_intent WHERE session = '2024-11-06'")
    assert (["exit_pending"], 21) == (third["exit_reasons"], third["shares"])
    assert third["reason"].startswith("Exit pending since 2024-11-06 (VIX spike (31.0 > 30)")


def test_an_exit_halted_one_day_is_due_the_next(bench: Bench):
    bench.buy(SESSION)
    spike(bench)
    bench.at(NEXT, 60)
    bench.store.halt(Halt(halted_at=bench.clock.now(), why="away", by="owner", allow_exits=False))
    halted = bench.decide(NEXT).document
    bench.store.resume(bench.clock.now(), "owner")
    after = bench.decide(date(2024, 11, 7)).document

    assert ("SELL", "halted", 0) == (halted["action"], halted["blocked_by"], halted["shares"])
    assert (["exit_pending"], 33) == (after["exit_reasons"], after["shares"])


def test_a_pending_exit_ends_with_the_last_share(bench: Bench):
    bench.buy(SESSION)
    spike(bench)
    bench.decide(NEXT)
    bench.broker.execute(SELL_KEY, 33, 146.0, 1.0)
    bench.settle(NEXT)
    third = bench.decide(date(2024, 11, 7)).document

    assert ([], None) == (third["exit_reasons"], third["position"])


# -- late -------------------------------------------------------------------------------------------------------------


def test_past_the_hard_stop_an_entry_is_left_and_an_exit_goes_as_a_market_order(bench: Bench):
    entry = bench.decide(before_close=15)
    bench.data.edit("MTUM", NEXT, close=150.0)
    bench.data.know_volumes(NEXT, today=900_000.0, before=800_000.0)
    bench.buy(NEXT)
    third = date(2024, 11, 7)
    spike(bench, third)
    exit_ = bench.decide(third, before_close=15).document

    assert ("BUY", "outside_window", 0) == (
        entry.document["action"],
        entry.document["blocked_by"],
        entry.document["shares"],
    )
    assert ("MKT", "SELL", 32) == (exit_["order"]["type"], exit_["action"], exit_["shares"])
    assert [("decision",), ("late_exit",)] == bench.sql("SELECT kind FROM order_intent ORDER BY session")


@pytest.mark.parametrize(
    ("before_close", "late_exit"), [(2, LateExit.MARKET), (15, LateExit.SKIP), (0, LateExit.MARKET)]
)
def test_an_exit_too_late_or_not_wanted_late_is_due_the_next_session(
    bench: Bench, before_close: float, late_exit: LateExit
):
    bench.buy(SESSION)
    bench.parameters = Parameters(risk=RiskParameters(late_exit=late_exit))
    spike(bench)
    late = bench.decide(NEXT, before_close).document
    after = bench.decide(date(2024, 11, 7)).document

    assert ("SELL", "outside_window", None) == (late["action"], late["blocked_by"], late["order"])
    assert (["exit_pending"], 33) == (after["exit_reasons"], after["shares"])


def test_on_a_half_day_everything_comes_three_hours_early(bench: Bench):
    """2024-11-29 closes at 13:00: 12:40 in New York is 17:40 UTC."""
    half = date(2024, 11, 29)
    assert 18 == calendar().close(half).hour
    early = bench.decide(half, before_close=20.1)
    document = bench.decide(half).document

    assert ("outside_window", "2024-11-29T17:40:00Z") == (early.document["blocked_by"], document["as_of"])
    assert [("2024-11-29", "decided")] == rows(bench)


# -- the day's record -------------------------------------------------------------------------------------------------


def test_a_session_without_its_bar_is_skipped_and_decided_when_the_bar_comes(bench: Bench):
    frames = bench.data.frames["MTUM"].copy()
    bench.data.drop("MTUM", SESSION)
    skipped = bench.decide()
    before = rows(bench)
    bench.data.frames["MTUM"] = frames
    bench.decide(before_close=17)

    assert ("HOLD", "data", 3) == (skipped.document["action"], skipped.document["blocked_by"], skipped.exit_code)
    assert ([("2024-11-05", "skipped")], [("2024-11-05", "decided")]) == (before, rows(bench))
    assert [BUY_KEY] == references(bench)


def test_an_entry_that_cannot_be_judged_is_told_with_what_is_missing(bench: Bench):
    """Nothing is held, so nothing is at stake today; that the source is broken the owner hears all the same."""
    bench.data.drop("VIX", date(2024, 11, 5))
    bench.decide()
    [(said, urgent)] = bench.notices("run_failed")

    assert ("2024-11-05 is not decided", 1) == (said[:25], urgent)
    assert said.endswith("VIX 2024-11-05: no bar; the newest is of 2024-11-04")
    assert [] == bench.notices("daily_summary")


def test_a_session_whose_data_never_came_stays_skipped(bench: Bench):
    """Its last run is past the hard stop; that nothing could have been sent then does not make it decided."""
    bench.data.drop("MTUM", SESSION)
    bench.decide()
    bench.decide(before_close=10)

    assert [("2024-11-05", "skipped")] == rows(bench)
    assert [] == bench.sql("SELECT * FROM signal")


def test_an_entry_kept_back_by_an_old_vix_goes_out_on_a_fresh_one(bench: Bench):
    bench.data.ages[VIX] = timedelta(minutes=31)
    blocked = bench.decide().document
    bench.data.ages.clear()
    bench.decide(before_close=17)

    assert ("BUY", "data") == (blocked["action"], blocked["blocked_by"])
    assert [BUY_KEY] == references(bench)


def read_slowly(bench: Bench, times: int) -> None:
    """The price is 4 minutes old when it is read; so many reads of the VIX after it take 2 minutes each."""
    bench.data.ages["MTUM"] = timedelta(minutes=4)
    read, slow = bench.data.daily, [timedelta(minutes=2)] * times

    def daily(symbol: str, first: date, last: date, as_of: datetime) -> DailyBars:
        if symbol == VIX and slow:
            bench.clock.set(bench.clock.now() + slow.pop())
        return read(symbol, first, last, as_of)

    bench.data.daily = daily  # type: ignore[method-assign]


def test_a_price_that_aged_while_the_rest_was_asked_for_is_asked_for_again(bench: Bench):
    """At 15:42 the price of 15:36 would be bought on; the second look decides."""
    read_slowly(bench, times=1)
    document = bench.decide().document

    assert ("2024-11-05T20:42:00Z", "working") == (document["as_of"], document["order"]["status"])


def test_a_price_that_ages_each_time_buys_nothing_until_a_look_is_quicker(bench: Bench):
    read_slowly(bench, times=2)
    waits = bench.decide().document
    sent = bench.decide(before_close=15.5).document

    assert ("BUY", "data", 0, None) == (waits["action"], waits["blocked_by"], waits["shares"], waits["order"])
    assert ["MTUM: last known 6 min ago, 5 allowed"] == waits["warnings"]
    assert (33, "working", [BUY_KEY]) == (sent["shares"], sent["order"]["status"], references(bench))


def test_a_price_that_aged_meanwhile_sells_all_the_same(bench: Bench):
    bench.buy(SESSION)
    spike(bench)
    read_slowly(bench, times=1)
    document = bench.decide(NEXT).document

    assert ("2024-11-06T20:40:00Z", "working") == (document["as_of"], document["order"]["status"])


def test_sessions_nobody_ran_are_missed_and_told_in_one_message(bench: Bench):
    """Decided on Tuesday the 5th; the machine is off until Monday the 11th."""
    bench.data.edit(VIX, SESSION, close=26.0)
    bench.decide()
    bench.decide(date(2024, 11, 11))

    missed = [(f"2024-11-0{day}", "missed") for day in (6, 7, 8)]
    assert [("2024-11-05", "decided"), *missed, ("2024-11-11", "decided")] == rows(bench)
    assert [("Missed: 3 sessions, 2024-11-06 to 2024-11-08: no run started", 1)] == bench.notices("run_missed")


def test_one_missed_session_is_named(bench: Bench):
    bench.data.edit(VIX, SESSION, close=26.0)
    bench.decide()
    bench.decide(date(2024, 11, 7))

    assert [("Missed: 2024-11-06: no run started", 1)] == bench.notices("run_missed")


def test_a_later_look_at_the_last_session_loses_no_missed_one(bench: Bench):
    """On the evening of the 6th the owner types the 5th again: that run is not the one the 5th was lived by."""
    bench.data.edit(VIX, SESSION, close=26.0)
    bench.decide()
    bench.at(date(2024, 11, 6), -120)
    decide_step(bench.desk, SESSION)
    bench.decide(date(2024, 11, 11))

    assert [("Missed: 3 sessions, 2024-11-06 to 2024-11-08: no run started", 1)] == bench.notices("run_missed")


def test_a_session_cannot_be_decided_once_it_is_missed(bench: Bench):
    bench.data.edit(VIX, SESSION, close=26.0)
    bench.decide()
    bench.at(date(2024, 11, 7), 300)
    settle_all(bench.desk)

    assert ("2024-11-06", "missed") in rows(bench)


# -- what the broker says later ---------------------------------------------------------------------------------------


def test_fills_that_come_in_parts_add_up_and_are_told_once(bench: Bench):
    bench.decide()
    bench.broker.execute(BUY_KEY, 20, 148.0, 0.6, number=1)
    first = bench.settle()
    bench.broker.execute(BUY_KEY, 13, 148.1, 0.4, number=2)
    second = bench.settle(after_close=35)
    bench.settle(after_close=50)

    assert (False, True) == (first.is_settled, second.is_settled)
    assert [(20, 148.0), (13, 148.1)] == bench.sql("SELECT quantity, price FROM fills")
    assert [(f"BUY 33 MTUM at 148.04, commission 1.00 USD, {SESSION}", 0)] == bench.notices("order_filled")


def test_a_commission_reported_late_is_collected(bench: Bench):
    bench.decide()
    bench.broker.execute(BUY_KEY, 33, 148.0, None)
    first = bench.settle()
    bench.broker.report_commission(0, 1.0)
    second = bench.settle(after_close=35)

    assert ("a commission is not reported yet", True) == (first.why, second.is_settled)
    assert [(33, 1.0)] == bench.sql("SELECT quantity, commission FROM fills")
    assert 1 == len(bench.notices("order_filled"))


def test_a_status_that_claims_more_than_the_executions_is_not_believed(bench: Bench):
    bench.decide()
    bench.broker.at_broker[BUY_KEY] = replace(
        bench.broker.at_broker[BUY_KEY], status=OrderStatus.FILLED, filled_shares=33
    )
    settlement = bench.settle()

    assert (False, OrderStatus.WORKING) == (settlement.is_settled, settlement.order and settlement.order.status)
    assert [] == bench.sql("SELECT * FROM fills")


def test_a_silent_broker_leaves_the_session_open(bench: Bench):
    bench.decide()
    bench.broker.execute(BUY_KEY, 33, 148.0, 1.0)
    bench.broker.silent.add("executions")
    silent = bench.settle()
    bench.broker.silent = {"orders"}
    half = bench.settle(after_close=35)
    bench.broker.silent.clear()
    known = bench.settle(after_close=50)

    assert [(False, 5), (False, 4), (True, 0)] == [(s.is_settled, s.exit_code) for s in (silent, half, known)]
    assert [(33,)] == bench.sql("SELECT quantity FROM fills")


def test_an_order_cancelled_at_the_broker_ends_without_a_fill(bench: Bench):
    bench.decide()
    bench.broker.end(BUY_KEY, OrderStatus.CANCELLED)
    settlement = bench.settle()

    assert (True, OrderStatus.CANCELLED) == (settlement.is_settled, settlement.order and settlement.order.status)


def test_an_order_acknowledged_as_filled_still_brings_its_executions(bench: Bench):
    """A market order can be done before its acknowledgement is read."""
    submit = bench.broker.submit

    def fill_at_once(intent: OrderIntent) -> BrokerOrder:
        submit(intent)
        bench.broker.execute(intent.reference, intent.shares, 148.0, 1.0)
        return bench.broker.at_broker[intent.reference]

    bench.broker.submit = fill_at_once  # type: ignore[method-assign]
    bench.decide()
    bench.settle()

    assert [(33, 148.0)] == bench.sql("SELECT quantity, price FROM fills")


def test_an_order_type_of_the_settings_is_used(bench: Bench):
    bench.parameters = replace(bench.parameters, order_type=OrderType.MKT)
    early = bench.decide(before_close=4)
    document = bench.decide(before_close=3).document

    assert ("outside_window", "MKT") == (early.document["blocked_by"], document["order"]["type"])
    assert BOOK.account == document["order"]["key"].split("/")[2]


# -- a bad day --------------------------------------------------------------------------------------------------------


def test_a_daily_loss_alarms_blocks_the_next_entry_and_never_an_exit(bench: Bench):
    """33 shares fall from 148 to 130: 594 USD, where 500 are the limit; three days later all entry rules hold again."""
    bench.buy(SESSION)
    bench.data.edit("MTUM", NEXT, close=130.0)
    sold = bench.decide(NEXT).document
    bench.broker.execute(SELL_KEY, 33, 130.0, 1.0)
    bench.settle(NEXT)
    later = date(2024, 11, 8)
    bench.data.edit("MTUM", later, close=150.0)
    bench.data.know_volumes(later, today=900_000.0, before=800_000.0)
    blocked = bench.decide(later).document

    assert ("SELL", 33) == (sold["action"], sold["shares"])
    assert [1] == [urgent for words, urgent in bench.notices("daily_loss") if "equity fell 594.00 USD" in words]
    assert ("BUY", "daily_loss", None) == (blocked["action"], blocked["blocked_by"], blocked["order"])


def test_a_daily_loss_at_the_close_alone_is_found_by_settlement(bench: Bench):
    """At the decision 33 shares are 59.40 USD down; at the close 600 and more."""
    bench.buy(SESSION)
    bench.decide(NEXT)
    before = bench.notices("daily_loss")
    bench.data.edit("MTUM", NEXT, close=129.0)
    bench.settle(NEXT)
    bench.settle(NEXT, after_close=35)

    assert ([], 1) == (before, len(bench.notices("daily_loss")))
    assert [True] == [halt.is_daily_loss for halt in bench.store.halts()]


def test_a_daily_loss_sells_where_the_owner_wants_it(bench: Bench):
    bench.buy(SESSION)
    bench.parameters = Parameters(risk=RiskParameters(max_daily_loss=50.0, daily_loss_exit=True))
    document = bench.decide(NEXT).document

    assert (["daily_loss"], 33) == (document["exit_reasons"], document["shares"])
    assert "Daily loss (59.40 USD >= 50)" == document["reason"]


def test_a_session_that_cannot_be_settled_holds_no_decision_up(bench: Bench):
    """MTUM's source is down the next day: yesterday's books stay open, and the position is told to be unattended."""
    bench.decide()
    bench.broker.execute(BUY_KEY, 33, 148.0, 1.0)
    bench.data.down = {"MTUM"}
    outcome = bench.decide(NEXT)

    assert [f"session {SESSION} is still not settled: MTUM: no answer"] == list(outcome.notes)
    assert ("HOLD", "data", 3) == (outcome.document["action"], outcome.document["blocked_by"], outcome.exit_code)
    assert 1 == len(bench.notices("position_unattended"))


def test_without_any_bar_a_position_is_told_to_be_unattended(bench: Bench):
    """The source is down and the store has no bars left to serve."""
    bench.buy(SESSION)
    bench.store.close()

    with sqlite3.connect(bench.path) as db:
        db.execute("DELETE FROM bar")
    db.close()
    bench.data.down = {"MTUM"}
    with pytest.raises(MarketDataError):
        bench.decide(NEXT)

    assert [("MTUM 2024-11-06: no price to decide on: MTUM: no answer", 1)] == bench.notices("position_unattended")


class GoneBroker(ScriptedBroker):
    """Nothing takes connections where it should be."""

    @property
    def account(self) -> str:  # type: ignore[override]
        raise BrokerUnavailable("nothing takes connections", hint="start the Gateway")

    @account.setter
    def account(self, _: str) -> None: ...


def test_a_session_whose_runs_cannot_reach_the_broker_is_no_missed_one(bench: Bench):
    """Its row says why nothing was decided, and the owner hears whose shares nobody watched."""
    bench.buy(SESSION)
    there = bench.broker
    bench.broker = GoneBroker()
    with pytest.raises(BrokerUnavailable):
        bench.decide(NEXT)
    bench.broker = there
    bench.data.edit(VIX, date(2024, 11, 7), close=26.0)
    bench.decide(date(2024, 11, 7))

    assert [("2024-11-06", "skipped", "nothing takes connections")] == bench.sql(
        "SELECT session, status, why FROM sessions WHERE session = '2024-11-06'"
    )
    assert [("MTUM 2024-11-06: not decided: nothing takes connections", 1)] == bench.notices("position_unattended")
    assert [] == bench.notices("run_missed")


def test_a_session_without_a_close_stays_open(bench: Bench):
    bench.data.edit(VIX, SESSION, close=26.0)
    bench.decide()
    bench.data.drop("MTUM", SESSION)
    settlement = bench.settle()

    assert (False, None, "the session's close is not known yet") == (
        settlement.is_settled,
        settlement.mark,
        settlement.why,
    )


def test_a_session_is_settled_without_the_vix_and_made_final_once_it_answers(bench: Bench):
    """The books need the close alone; the VIX's final bar, and the drift it decides, come a session later."""
    bench.decide()
    bench.broker.execute(BUY_KEY, 33, 148.0, 1.0)
    bench.data.down = {VIX}
    bench.data.edit("MTUM", SESSION, close=147.0)
    settled = bench.settle()
    bench.at(NEXT, -300)
    again = settle_session(bench.desk, SESSION)  # final prices, and still no VIX
    marks = "SELECT session, is_final, round(value, 2) FROM equity_mark ORDER BY session"
    drift = "SELECT session, drift_action FROM signal ORDER BY session"
    without = bench.sql(marks), bench.sql(drift)
    bench.data.down.clear()
    bench.data.edit(VIX, SESSION, close=26.0)
    bench.settle(NEXT)

    told = "VIX: not known (VIX: no answer); the books are closed without it, a later settlement reads it"
    assert (True, 0, [told]) == (settled.is_settled, settled.exit_code, settled.document["warnings"])
    assert told in text.settlements([settled])
    assert ([told], [], [(1,)]) == (
        list(again.warnings),
        bench.notices("run_failed", "mismatch"),
        bench.sql("SELECT is_settled FROM session WHERE session = '2024-11-05'"),
    )
    assert ([("2024-11-05", 0, 4966.0)], [("2024-11-05", None)]) == without
    assert [("2024-11-05", 1, 4966.0), ("2024-11-06", 0, 4939.6)] == bench.sql(marks)
    assert [("2024-11-05", "HOLD")] == bench.sql(drift)
    assert [(26.0, "final")] == bench.sql(
        "SELECT close, status FROM bar WHERE symbol = 'VIX' AND session = '2024-11-05' ORDER BY revision DESC LIMIT 1"
    )


def test_a_final_bar_that_settlement_finds_changed_is_told_once(bench: Bench):
    """Both are kept; the next decision finds the book as the source has it."""
    bench.data.edit(VIX, SESSION, close=26.0)
    bench.decide()
    bench.data.edit("MTUM", date(2024, 11, 1), volume=2e6)
    bench.data.edit(VIX, date(2024, 11, 4), open=15.0, high=15.0, low=15.0, close=15.5)
    first, again = bench.settle(), bench.settle(after_close=35)
    later = bench.decide(NEXT)

    told = [
        "MTUM 2024-11-01: revised at arrays, volume 1000000 and 2000000",
        "VIX 2024-11-04: revised at arrays, close 15 and 15.5",
    ]
    assert (told, [], []) == (first.document["warnings"], again.document["warnings"], later.document["warnings"])
    assert all(words in text.settlements([first]) for words in told)
    assert [(f"Bars have changed at their source: {'; '.join(told)}", 0)] == bench.notices("mismatch")


def test_of_many_changed_bars_the_message_names_five(bench: Bench):
    """They keep no mark from becoming final."""
    bench.data.edit(VIX, SESSION, close=26.0)
    bench.decide()
    bench.settle()
    for session in calendar().window(date(2024, 11, 4), 7):
        bench.data.edit("MTUM", session, volume=2e6)
    settlement = bench.settle(NEXT)
    [(words, _)] = bench.notices("mismatch")

    assert (7, 5) == (len(settlement.warnings), words.count("revised at"))
    assert words.endswith("; and 2 more")
    assert [(1,), (0,)] == bench.sql("SELECT is_final FROM equity_mark ORDER BY session")


def test_without_the_vix_a_daily_loss_at_the_close_is_found_too(bench: Bench):
    bench.buy(SESSION)
    bench.decide(NEXT)
    bench.data.edit("MTUM", NEXT, close=129.0)
    bench.data.down = {VIX}
    bench.settle(NEXT)

    assert [True] == [halt.is_daily_loss for halt in bench.store.halts()]


def test_an_exit_that_gets_no_order_id_is_kept_and_tried_again(bench: Bench):
    """The broker is silent when the order's id is asked for: what was decided is on record before the run fails."""
    bench.buy(SESSION)
    spike(bench)
    bench.broker.silent.add("order_id")
    with pytest.raises(BrokerUnavailable):
        bench.decide(NEXT)
    kept = bench.sql("SELECT status, action FROM sessions JOIN signals USING (session) WHERE session = '2024-11-06'")
    said = bench.notices("daily_summary")[-1][0]
    bench.broker.silent.clear()
    bench.decide(NEXT, before_close=18)

    assert [("skipped", "SELL")] == kept
    assert "SELL 33 MTUM, not sent: VIX spike" in said
    assert "no order id came" in said
    assert [SELL_KEY] == references(bench)[1:]


def test_a_session_without_any_bar_has_its_row(bench: Bench):
    """Nothing could be decided, but the run did start: the ledger must not call the session missed."""
    bench.data.down = {"MTUM"}
    with pytest.raises(MarketDataError):
        bench.decide()

    assert [("skipped", "MTUM: no answer")] == bench.sql("SELECT status, why FROM sessions")
