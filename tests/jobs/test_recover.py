"""An order in doubt: its intent is committed, and the run that was to send it has died. What the next run does."""

from contextlib import suppress
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest
from fakes import KEY, SESSION, Bench, Killed, calendar

from mtum_eod.adapters.notices import OwnerNotices
from mtum_eod.core.events import Event
from mtum_eod.core.market import VIX
from mtum_eod.core.parameters import LateExit, Parameters, RiskParameters
from mtum_eod.core.trading import Halt, OrderIntent, OrderStatus, OrderType, Step
from mtum_eod.errors import BrokerUnavailable
from mtum_eod.jobs.due import do_due
from mtum_eod.jobs.inquiry import look
from mtum_eod.jobs.order import recover
from mtum_eod.jobs.session import decide_step, settle_all
from mtum_eod.ports import BrokerOrder, Notice, Unknown

BUY_KEY, NEXT, THIRD = f"{KEY}/2024-11-05/BUY", date(2024, 11, 6), date(2024, 11, 7)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "book.db")


def kill_before_the_wire(bench: Bench, session: date = SESSION, before_close: float = 20) -> None:
    """The intent is committed and the run is killed before it sends."""
    with bench.killed("before the wire"):
        bench.decide(session, before_close)


def kill_behind_the_wire(bench: Bench, session: date = SESSION) -> None:
    """The order is at the broker and the run is killed before it writes that down."""
    with bench.killed("behind the wire"):
        bench.decide(session)


def state(bench: Bench) -> list[tuple[str, int]]:
    return bench.sql("SELECT status, order_id FROM order_intent")


def received(bench: Bench) -> list[tuple[str, int]]:
    return [(intent.reference, intent.order_id) for intent in bench.broker.received]


def test_a_crash_behind_the_wire_adds_no_second_order(bench: Bench):
    kill_behind_the_wire(bench)
    document = bench.decide(before_close=18).document

    assert ([(BUY_KEY, 1)], [("working", 1)]) == (received(bench), state(bench))
    assert ("already_decided", "working") == (document["blocked_by"], document["order"]["status"])


def test_a_crash_before_the_wire_is_made_good_in_time_under_the_same_id(bench: Bench):
    kill_before_the_wire(bench)
    before = state(bench)
    outcome = bench.decide(before_close=18)

    assert [("intent", 1)] == before
    assert ([(BUY_KEY, 1)], [("working", 1)]) == (received(bench), state(bench))
    assert ([timedelta(seconds=5)], 0) == (bench.clock.slept, outcome.exit_code)
    assert 1 == len(bench.notices("order_sent"))


@pytest.mark.parametrize(
    ("before_close", "why"),
    [
        (15, "past the hard stop for market-on-close orders"),
        (10, "past the hard stop for market-on-close orders"),
        (1, "the market is closing or closed"),
    ],
)
def test_past_the_hard_stop_it_is_not_sent_any_more_and_the_owner_is_told(bench: Bench, before_close: float, why: str):
    kill_before_the_wire(bench)
    bench.decide(before_close=before_close)

    assert ([], [("not_sent", 1)]) == (received(bench), state(bench))
    assert (f"Order BUY 33 MTUM MOC for {SESSION}: not_sent ({why})", 1) in bench.notices("run_failed")


def test_the_pause_itself_can_pass_the_hard_stop(bench: Bench):
    """The looks begin 2 s before the hard stop and end 3 s after it: a market-on-close order would come too late."""
    kill_before_the_wire(bench)
    bench.decide(before_close=15 + 2 / 60)

    assert ([], [("not_sent", 1)]) == (received(bench), state(bench))


@pytest.mark.parametrize(
    ("action", "sent", "status"), [("BUY", [], "not_sent"), ("SELL", [(OrderType.MKT, 33)], "working")]
)
def test_an_order_keeps_its_cut_off_when_the_settings_change_its_type(
    bench: Bench, action: str, sent: list[tuple[OrderType, int]], status: str
):
    """Decided as market-on-close; `ib.order_type` is "MKT" since, whose orders may leave until 2 minutes to the close.

    The entry is given up; the exit goes to the market, as after any missed auction.
    """
    session = SESSION
    if action == "SELL":
        bench.buy(SESSION)
        session = NEXT
        bench.data.edit(VIX, NEXT, close=31.2)
    before = len(bench.broker.received)
    kill_before_the_wire(bench, session)
    bench.parameters = replace(bench.parameters, order_type=OrderType.MKT)
    with suppress(BrokerUnavailable):
        bench.decide(session, before_close=2.5)

    assert sent == [(intent.order_type, intent.shares) for intent in bench.broker.received[before:]]
    assert status == bench.sql("SELECT status FROM order_intent ORDER BY id DESC")[0][0]


def test_a_late_exit_may_still_go_out_late(bench: Bench):
    """A market order has no auction to miss; 2 min before the close it has."""
    bench.buy(SESSION)
    bench.data.edit(VIX, NEXT, close=31.0)
    kill_before_the_wire(bench, NEXT, before_close=12)
    bench.decide(NEXT, before_close=8)

    assert [("BUY", "MOC"), ("SELL", "MKT")] == [(i.side, i.order_type) for i in bench.broker.received]


@pytest.mark.parametrize("before_close", [15 + 2 / 60, 13])
@pytest.mark.parametrize(
    ("late_exit", "sent", "end"),
    [(LateExit.MARKET, ["MKT"], ("MKT", "working")), (LateExit.SKIP, [], ("MOC", "not_sent"))],
)
def test_an_exit_that_was_not_sent_before_the_hard_stop_goes_as_the_settings_say(
    bench: Bench, before_close: float, late_exit: LateExit, sent: list[str], end: tuple[str, str]
):
    """Killed before the wire at 15:40; the next run's two looks end past 15:45, or begin there."""
    bench.parameters = Parameters(risk=RiskParameters(late_exit=late_exit))
    bench.buy(SESSION)
    bench.data.edit(VIX, NEXT, close=31.0)
    kill_before_the_wire(bench, NEXT)
    bench.decide(NEXT, before_close=before_close)

    assert sent == [str(i.order_type) for i in bench.broker.received if i.side == "SELL"]
    assert [end] == bench.sql("SELECT order_type, status FROM order_intent WHERE side = 'SELL'")


def test_the_market_order_is_committed_before_it_leaves(bench: Bench):
    """Killed again just before it: the book says what was about to go out, and the run after that sends it."""
    bench.buy(SESSION)
    bench.data.edit(VIX, NEXT, close=31.0)
    kill_before_the_wire(bench, NEXT)
    kill_before_the_wire(bench, NEXT, before_close=13)
    committed = bench.sql("SELECT order_type, status FROM order_intent WHERE side = 'SELL'")
    bench.decide(NEXT, before_close=12)

    assert [("MKT", "intent")] == committed
    assert [("SELL", "MKT")] == [(i.side, i.order_type) for i in bench.broker.received[1:]]


@pytest.mark.parametrize("allow_exits", [True, False])
def test_a_halt_since_keeps_an_entry_from_being_sent(bench: Bench, allow_exits: bool):
    kill_before_the_wire(bench)
    bench.store.halt(Halt(halted_at=bench.clock.now(), why="stop", by="owner", allow_exits=allow_exits))
    outcome = bench.decide(before_close=18)

    assert ([], [("not_sent", 1)], 0) == (received(bench), state(bench), outcome.exit_code)


@pytest.mark.parametrize(("allow_exits", "orders"), [(True, 2), (False, 1)])
def test_a_halt_since_keeps_an_exit_back_only_where_it_says_so(bench: Bench, allow_exits: bool, orders: int):
    bench.buy(SESSION)
    bench.data.edit(VIX, NEXT, close=31.0)
    kill_before_the_wire(bench, NEXT)
    bench.store.halt(Halt(halted_at=bench.clock.now(), why="stop", by="owner", allow_exits=allow_exits))
    bench.decide(NEXT, before_close=18)

    assert orders == len(bench.broker.received)


@pytest.mark.parametrize("silent", ["orders", "executions", "shares_held"])
def test_where_one_list_is_silent_nothing_is_sent(bench: Bench, silent: str):
    kill_before_the_wire(bench)
    bench.broker.silent.add(silent)
    outcome = bench.decide(before_close=18)

    assert ([], [("unknown", 1)], 5) == (received(bench), state(bench), outcome.exit_code)
    assert [1] == [urgent for words, urgent in bench.notices("run_failed") if "unknown" in words]


def test_where_the_second_look_is_silent_nothing_is_sent(bench: Bench):
    kill_before_the_wire(bench)
    sleep = bench.clock.sleep

    def sleep_and_lose(duration: timedelta) -> None:
        sleep(duration)
        bench.broker.silent.add("orders")

    bench.clock.sleep = sleep_and_lose  # type: ignore[method-assign]
    bench.decide(before_close=18)

    assert ([], [("unknown", 1)]) == (received(bench), state(bench))


def test_where_the_position_moves_between_the_looks_nothing_is_sent(bench: Bench):
    """Something trades that no list shows: to send would be to guess."""
    kill_before_the_wire(bench)
    bench.broker.on_look = {bench.broker.looks + 2: 33.0}
    bench.decide(before_close=18)

    assert ([], [("unknown", 1)]) == (received(bench), state(bench))
    assert [("the shares held moved by +33 between two looks",)] == bench.sql("SELECT words FROM order_intent")


def test_an_order_known_by_its_executions_alone_is_alive(bench: Bench):
    """It filled and fell out of the lists; settlement books what it did."""
    kill_behind_the_wire(bench)
    bench.broker.execute(BUY_KEY, 33, 148.0, 1.0)
    bench.broker.forgets = True
    bench.at(SESSION, -1)
    recover(bench.desk, bench.broker.received[0], "found open", may_send=False)

    assert [("working", 1)] == state(bench)


def test_an_order_absent_at_first_and_there_at_the_second_look_is_adopted(bench: Bench):
    kill_behind_the_wire(bench)
    bench.broker.forgets = True
    sleep = bench.clock.sleep

    def sleep_and_remember(duration: timedelta) -> None:
        sleep(duration)
        bench.broker.forgets = False

    bench.clock.sleep = sleep_and_remember  # type: ignore[method-assign]
    bench.decide(before_close=18)

    assert ([(BUY_KEY, 1)], [("working", 1)]) == (received(bench), state(bench))


def test_nothing_slow_comes_between_the_last_look_and_a_second_try(bench: Bench):
    """The first try is on the wire still, and arrives while the broker takes minutes to give an id."""
    kill_behind_the_wire(bench)
    bench.broker.forgets = True
    give = bench.broker.next_order_id

    def give_late() -> int:
        bench.clock.sleep(timedelta(minutes=2))
        bench.broker.forgets = False
        return give()

    bench.broker.next_order_id = give_late  # type: ignore[method-assign]
    bench.decide(before_close=18)

    assert ([(BUY_KEY, 1)], [("working", 1)]) == (received(bench), state(bench))


def test_a_second_dropped_line_asks_again_and_sends_no_third_time(bench: Bench):
    kill_before_the_wire(bench)
    bench.broker.on_submit = "drop"
    bench.decide(before_close=18)

    assert ([(BUY_KEY, 1)], [("working", 1)]) == (received(bench), state(bench))


def test_an_order_of_a_dead_run_that_cannot_reach_the_broker_either_is_the_brokers_failure(bench: Bench):
    """Exit code 4 for the run that gave it up; another run of the session has nothing left to do."""
    kill_before_the_wire(bench)
    bench.broker.on_submit = "lose"
    with pytest.raises(BrokerUnavailable, match=f"order {BUY_KEY} never reached the broker"):
        bench.decide(before_close=18)

    assert ([], [("not_sent", 1)]) == (received(bench), state(bench))
    assert 0 == bench.decide(before_close=17).exit_code


def test_a_rejection_of_the_resent_order_is_adopted_and_told(bench: Bench):
    kill_before_the_wire(bench)
    bench.broker.on_submit = "reject"
    outcome = bench.decide(before_close=18)

    assert ([("rejected", 1)], 5) == (state(bench), outcome.exit_code)
    assert 1 == len(bench.notices("order_rejected"))


def test_a_rejection_that_comes_after_the_acknowledgement_is_told(bench: Bench):
    bench.decide()
    bench.broker.end(BUY_KEY, OrderStatus.REJECTED)
    settlement = bench.settle()

    assert ([("rejected", 1)], 5) == (state(bench), settlement.exit_code)
    assert [(f"Order BUY 33 MTUM MOC for {SESSION}: rejected", 1)] == bench.notices("order_rejected")


def test_settlement_finds_what_became_of_an_order_nobody_acknowledged(bench: Bench):
    kill_behind_the_wire(bench)
    bench.broker.execute(BUY_KEY, 33, 148.0, 1.0)
    settlement = bench.settle()

    assert (True, [("filled", 1)]) == (settlement.is_settled, state(bench))
    assert [(33, 148.0)] == bench.sql("SELECT quantity, price FROM fills")


def test_settlement_never_sends(bench: Bench):
    kill_before_the_wire(bench)
    bench.at(SESSION, -20)
    [settlement] = settle_all(bench.desk)

    assert ([], [("not_sent", 1)], True) == (received(bench), state(bench), settlement.is_settled)


def test_an_intent_of_an_earlier_session_is_never_sent(bench: Bench):
    kill_before_the_wire(bench)
    bench.data.edit(VIX, NEXT, close=26.0)
    bench.decide(NEXT)

    assert ([], [("not_sent", 1)]) == (received(bench), state(bench))


def test_an_unknown_order_stays_unknown_until_all_lists_speak(bench: Bench):
    kill_behind_the_wire(bench)
    bench.broker.silent.add("shares_held")
    settlement = bench.settle()
    bench.broker.silent.clear()
    bench.broker.execute(BUY_KEY, 33, 148.0, 1.0)
    after = bench.settle(after_close=35)

    assert (False, 5) == (settlement.is_settled, settlement.exit_code)
    assert (True, 0, [("filled", 1)]) == (after.is_settled, after.exit_code, state(bench))


def test_a_look_says_which_list_was_silent(bench: Bench):
    kill_behind_the_wire(bench)
    bench.broker.silent.add("executions")

    assert Unknown("the list of executions never ended") == look(bench.desk, bench.broker.received[0])


def test_an_order_waiting_for_nothing_is_left_alone(bench: Bench):
    """Nothing was decided that needs an order, and the books close without one."""
    bench.data.edit(VIX, SESSION, close=26.0)
    bench.decide()
    settlement = bench.settle()

    assert (True, None, []) == (settlement.is_settled, settlement.order, state(bench))
    assert calendar().close(SESSION) < bench.clock.now()


def test_confirmation_blocks_and_sends_nothing(bench: Bench):
    """An hour before the close the owner is asked; there is no `approve` yet."""
    bench.parameters = Parameters(risk=RiskParameters(require_confirmation=True))
    document = bench.decide(before_close=60).document

    assert ("BUY", "awaiting_approval", []) == (document["action"], document["blocked_by"], received(bench))


def test_a_refusal_to_give_an_order_id_is_the_brokers(bench: Bench):
    bench.broker.silent.add("order_id")
    with pytest.raises(BrokerUnavailable) as refused:
        bench.decide()

    assert (4, "look at the Gateway") == (refused.value.exit_code, refused.value.hint)


# -- ids given out anew, and positions that tell ----------------------------------------------------------------------


def reissue(bench: Bench, number: int) -> None:
    """The Gateway counts its order ids from `number` on."""
    bench.broker.next_order_id = lambda: number  # type: ignore[method-assign]


@pytest.mark.parametrize(("number", "used"), [(7, 7), (8, 8), (9, 9), (10, 9), (12, 9)])
def test_ids_given_out_anew_get_a_new_one_and_no_other_does(bench: Bench, number: int, used: int):
    """The intent has id 9. A broker that would give 7 now has begun anew; one that would give 12 knows a 9."""
    reissue(bench, 9)
    kill_before_the_wire(bench)
    reissue(bench, number)
    bench.decide(before_close=18)

    assert ([(BUY_KEY, used)], [("working", used)]) == (received(bench), state(bench))


def test_an_id_given_since_the_broker_began_anew_is_kept_for_the_second_try(bench: Bench):
    """Yesterday's order had id 40; today's intent was given 5 by a Gateway that began anew, and now it would give 6.

    Under 5 the broker refuses a second order, should the first still be on its way; 6 would let both through.
    """
    reissue(bench, 40)
    bench.buy(SESSION)
    bench.data.edit(VIX, NEXT, close=31.0)
    reissue(bench, 5)
    kill_before_the_wire(bench, NEXT)
    reissue(bench, 6)
    bench.decide(NEXT, before_close=18)

    assert [40, 5] == [intent.order_id for intent in bench.broker.received]


def test_the_new_id_is_committed_before_the_order_leaves(bench: Bench):
    reissue(bench, 9)
    kill_before_the_wire(bench)
    reissue(bench, 3)
    kill_before_the_wire(bench, before_close=18)

    assert [("intent", 3)] == state(bench)


def test_without_a_next_id_nothing_is_sent_and_the_next_minute_tries_again(bench: Bench):
    kill_before_the_wire(bench)
    bench.broker.silent.add("order_id")
    with pytest.raises(BrokerUnavailable):
        bench.decide(before_close=18)
    during = state(bench)
    bench.broker.silent.clear()
    bench.decide(before_close=17)

    assert ([("intent", 1)], [("working", 1)]) == (during, state(bench))


def test_a_position_that_is_not_the_books_keeps_a_lost_order_from_being_sent(bench: Bench):
    """Nothing lists the order, but 33 shares are there: it may have been executed."""
    kill_before_the_wire(bench)
    bench.broker.shares = 33.0
    outcome = bench.decide(before_close=18)

    assert ([], [("unknown", 1)], 5) == (received(bench), state(bench), outcome.exit_code)


def test_shares_left_to_the_owner_are_no_reason_not_to_send(bench: Bench):
    bench.broker.shares = 5.5
    bench.store.leave(5.5, bench.clock.now())
    kill_before_the_wire(bench)
    bench.decide(before_close=18)

    assert [(BUY_KEY, 1)] == received(bench)


def unknown_past_midnight(bench: Bench, shares: float) -> None:
    """Sent, never acknowledged; the lists were silent all evening and are empty the next day."""
    kill_behind_the_wire(bench)
    bench.broker.silent.add("orders")
    bench.settle()
    bench.broker.silent.clear()
    bench.broker.at_broker.clear()
    bench.broker.shares = shares
    bench.data.edit(VIX, NEXT, close=26.0)


@pytest.mark.parametrize(
    ("shares", "status", "fills"),
    [
        (0.0, "not_sent", []),
        (33.0, "filled", [(33, 148.0, 4.884, 1)]),
        (12.0, "unknown", []),
        (-33.0, "unknown", []),
        (33.5, "unknown", []),
    ],
)
def test_an_unknown_order_resolves_itself_by_the_before_or_the_after_state_only(
    bench: Bench, shares: float, status: str, fills: list[tuple[float, ...]]
):
    """The final close was 148.00; 0.001 of 33 x 148.00 is 4.884."""
    unknown_past_midnight(bench, shares)
    before = state(bench)
    outcome = bench.decide(NEXT)

    assert ([("unknown", 1)], [(status, 1)]) == (before, state(bench))
    assert fills == bench.sql("SELECT quantity, price, round(commission, 6), estimated FROM fills")
    assert (5 if status == "unknown" else 0) == outcome.exit_code


def test_beside_a_mismatch_no_move_of_the_position_resolves_an_order(bench: Bench):
    """The owner has one share more; all 33 of the book's go, and a move of 33 might be half of it the owner's."""
    bench.buy(SESSION)
    bench.broker.shares = 34.0
    bench.data.edit(VIX, NEXT, close=31.0)
    kill_behind_the_wire(bench, NEXT)
    bench.broker.at_broker.clear()
    bench.broker.shares = 0.0
    later = [bench.decide(THIRD, minutes).exit_code for minutes in (20, 19)]

    assert ([5, 5], "unknown") == (later, bench.sql("SELECT status FROM order_intent")[-1][0])
    assert [1] == [sum("was not surely the book's before" in words for words, _ in bench.notices("run_failed"))]


def test_what_stays_unknown_tells_what_to_look_at(bench: Bench):
    unknown_past_midnight(bench, 12.0)

    assert any(
        "order list and position" in words and f"reconcile --resolve {SESSION} none|filled|SHARES" in words and urgent
        for words, urgent in bench.notices("run_failed")
    )


@pytest.mark.parametrize("silent", ["orders", "executions", "shares_held"])
def test_an_unknown_order_of_yesterday_waits_for_every_list(bench: Bench, silent: str):
    unknown_past_midnight(bench, 33.0)
    bench.broker.silent.add(silent)
    bench.decide(NEXT)

    assert [("unknown", 1)] == state(bench)


def test_a_crash_after_each_write_of_a_resolution_ends_in_the_same_book(bench: Bench):
    """Killed once it is known as executed, before the estimate is booked; the next run books it once."""
    unknown_past_midnight(bench, 33.0)
    bench.at(NEXT, 60)
    recover(bench.desk, bench.broker.received[0], "found open", may_send=False)
    during = state(bench)
    bench.decide(NEXT)
    bench.decide(NEXT, before_close=18)

    assert ([("working", 1)], [("filled", 1)], [(1,)]) == (
        during,
        state(bench),
        bench.sql("SELECT count(*) FROM fills"),
    )


def test_an_order_that_arrives_after_it_was_given_up_is_booked(bench: Bench) -> None:
    """Both tries seem lost and two looks find nothing; a minute later it is there, and fills. Settlement sees it."""
    bench.broker.on_submit = "lose"
    sent = bench.decide()
    bench.broker.on_submit = "accept"
    order = bench.store.order(SESSION)
    assert sent.document["order"]["status"] == "not_sent"
    assert order
    bench.broker.submit(order.intent)
    bench.broker.execute(BUY_KEY, order.intent.shares, 150.0, 1.0)
    settlement = bench.settle()

    assert [order.intent.shares] == [fill.shares for fill in bench.store.fills()]
    assert settlement.order
    assert OrderStatus.FILLED is settlement.order.status


def test_ids_begun_anew_long_ago_are_kept_for_a_second_try(bench: Bench) -> None:
    """An older order had id 9, the Gateway counts from 5 now. The first try is lost, the second has its id: 5 again."""
    tried: list[int] = []
    send = bench.broker.submit

    def lose_the_first(intent: OrderIntent) -> BrokerOrder:
        tried.append(intent.order_id)
        if len(tried) == 1:
            raise BrokerUnavailable("the connection dropped", hint="look at the Gateway")
        return send(intent)

    bench.broker.next_order_id = lambda: 9  # type: ignore[method-assign]
    bench.buy(SESSION, price=100.0)
    bench.data.edit("MTUM", NEXT, close=50.0)
    bench.broker.next_order_id = lambda: 5 + len(tried)  # type: ignore[method-assign]
    bench.broker.submit = lose_the_first  # type: ignore[method-assign]
    bench.decide(NEXT)

    assert [5, 5] == tried


def test_an_unknown_order_is_asked_for_again_in_the_next_minute(bench: Bench):
    """The lists were silent once; a minute later they speak, in time for the auction."""
    kill_before_the_wire(bench)
    bench.broker.silent.add("orders")
    bench.decide(before_close=18)
    bench.broker.silent.clear()
    bench.at(SESSION, 17)
    done = do_due(bench.desk)

    assert (Step.DECIDE, [(BUY_KEY, 1)], [("working", 1)]) == (done.step, received(bench), state(bench))


@pytest.mark.parametrize("silent", [{"orders"}, {"executions"}, {"orders", "executions", "shares_held"}])
def test_an_order_given_up_that_arrives_is_booked_once_a_silent_broker_speaks_again(bench: Bench, silent: set[str]):
    """Two looks found nothing of it; it was on the wire still, and was filled while the broker did not answer."""
    bench.broker.on_submit = "lose"
    given_up = bench.decide().document["order"]["status"]
    intent = bench.store.order(SESSION).intent  # type: ignore[union-attr]
    bench.broker.on_submit = "accept"
    bench.broker.submit(intent)
    bench.broker.execute(BUY_KEY, 33, 148.0, 1.0)
    bench.broker.forgets = "orders" not in silent
    bench.broker.silent = silent
    first, second = bench.settle(), bench.settle(after_close=35)
    bench.broker.silent = set()
    last = bench.settle(after_close=50)

    assert ("not_sent", False, False, True) == (given_up, first.is_settled, second.is_settled, last.is_settled)
    assert (4, 33) == (second.exit_code, bench.desk.shares())
    told = [words for words, _ in bench.notices("run_failed") + bench.notices("mismatch") if "list of" in words]
    assert 1 == len(told)


@pytest.mark.parametrize("on_submit", ["accept", "reject", "lose"])
def test_what_became_of_an_order_is_durable_only_with_the_word_about_it(bench: Bench, on_submit: str):
    """Killed between the two: the next run finds the order open, asks the broker again, and tells."""

    class Dying(OwnerNotices):
        def tell(self, notice: Notice) -> None:
            if notice.event is not Event.DAILY_SUMMARY:
                raise Killed
            super().tell(notice)

    bench.broker.on_submit = on_submit
    bench.at(SESSION, 20)
    with pytest.raises(Killed):
        decide_step(replace(bench.desk, notifier=Dying(store=bench.store, clock=bench.clock)), SESSION)
    killed = state(bench)
    bench.broker.on_submit = "accept" if on_submit == "lose" else on_submit
    bench.decide(before_close=18)
    event, status = ("order_rejected", "rejected") if on_submit == "reject" else ("order_sent", "working")

    assert ([("intent", 1)], [(status, 1)]) == (killed, state(bench))
    assert ([(BUY_KEY, 1)], 1) == (received(bench), len(bench.notices(event)))
