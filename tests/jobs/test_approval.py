"""The owner's word on an entry: asked once an hour before the close, answered, declined, or lapsed at the hard stop.

At 2024-11-05 the rules buy at 148.00: 5,000 / (148 x 1.01 x 1.001 = 149.63) = 33.4, 33 shares.
"""

from contextlib import nullcontext
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fakes import KEY, SESSION, Bench, calendar

from mtum_eod.core.market import VIX
from mtum_eod.core.parameters import Parameters, RiskParameters
from mtum_eod.core.trading import Act, OwnerAct
from mtum_eod.errors import MtumEodError, SettingsError
from mtum_eod.jobs import wheel
from mtum_eod.jobs.due import agenda, do_due
from mtum_eod.jobs.outcome import Outcome
from mtum_eod.jobs.status import status_of

BUY_KEY = f"{KEY}/2024-11-05/BUY"
NEXT = date(2024, 11, 6)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "book.db", parameters=Parameters(risk=RiskParameters(require_confirmation=True)))


def approve(bench: Bench, before_close: float = 50) -> Outcome:
    bench.at(SESSION, before_close)
    return wheel.approve(bench.desk, why="", by="owner")


def refuse(bench: Bench, before_close: float = 50) -> wheel.Handled:
    bench.at(SESSION, before_close)
    return wheel.refuse(bench.desk, why="too dear", by="owner")


def row(bench: Bench) -> tuple[Any, ...]:
    """Status and words of the session's row."""
    return bench.sql("SELECT status, why FROM sessions WHERE session = '2024-11-05'")[0]


def told(bench: Bench) -> list[str]:
    return [words for words, _ in bench.notices("approval")]


def sent(bench: Bench) -> list[tuple[str, int]]:
    return [(intent.reference, intent.shares) for intent in bench.broker.received]


def live_through(bench: Bench, from_minute: int, to_minute: int) -> list[str]:
    """Call what cron calls, every minute before the close; the steps done."""
    done = []
    for minute in range(from_minute, to_minute - 1, -1):
        bench.at(SESSION, minute)
        try:
            step = do_due(bench.desk).step
        except MtumEodError as error:
            done.append(f"{minute} {type(error).__name__}")
        else:
            done += [f"{minute} {step}"] if step else []
    return done


# -- the question -----------------------------------------------------------------------------------------------------


def test_the_question_says_how_much_why_and_what_to_type(bench: Bench):
    bench.decide(before_close=60)

    [(words, urgent)] = bench.notices("approval")
    assert 1 == urgent
    assert words.startswith("BUY 33 MTUM at about 148.00, 4,884.00 USD? Entry: close 148.00 > MA50 ")
    assert words.endswith("Type `mtum-eod approve` or `mtum-eod approve --no` by 15:45 New York, 45 minutes from now")


def test_a_session_that_waits_is_skipped_so_far_and_its_signal_is_there(bench: Bench):
    bench.decide(before_close=60)

    status, why = row(bench)
    assert ("skipped", True) == (status, why.endswith(". Blocked: waiting for the owner's approval"))
    assert [("BUY", "awaiting_approval", 0)] == bench.sql("SELECT action, blocked_by, shares FROM signals")
    assert [] == sent(bench)


def test_a_session_that_waits_is_not_decided_every_minute(bench: Bench):
    """Cron asks from an hour before the close on; the question is put once."""
    done = live_through(bench, 61, 16)

    assert ["60 decide"] == [step for step in done if "preflight" not in step]
    assert (1, [("BUY", "awaiting_approval")]) == (
        len(told(bench)), bench.sql("SELECT action, blocked_by FROM signals"),
    )  # fmt: skip


def test_run_typed_by_hand_shows_the_question_again(bench: Bench):
    bench.decide(before_close=60)
    outcome = bench.decide(before_close=40)

    assert ("BUY", "awaiting_approval", 0) == (
        outcome.document["action"], outcome.document["blocked_by"], outcome.exit_code,
    )  # fmt: skip
    assert ("nothing is decided again until `mtum-eod approve` or `mtum-eod approve --no`",) == outcome.notes
    assert 1 == len(told(bench))


def test_exits_go_out_without_asking(bench: Bench):
    bench.parameters = Parameters()
    shares = bench.buy(SESSION)
    bench.parameters = Parameters(risk=RiskParameters(require_confirmation=True))
    bench.data.edit(VIX, NEXT, close=31.2)
    bench.decide(NEXT, before_close=60)

    assert (f"{KEY}/2024-11-06/SELL", shares) == sent(bench)[-1]
    assert [] == told(bench)


def test_a_hold_asks_nothing(bench: Bench):
    bench.data.edit(VIX, SESSION, close=26.0)
    bench.decide(before_close=60)

    assert ("decided", []) == (row(bench)[0], told(bench))


def test_the_question_and_its_words_are_durable_together(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """The power fails while the question is put: at the next run it is put as if for the first time."""

    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(bench.store, "add_notice", fail)
        with pytest.raises(KeyboardInterrupt):
            bench.decide(before_close=60)
    left = bench.sql("SELECT count(*) FROM session")
    bench.decide(before_close=59)

    assert ([(0,)], 1) == (left, len(told(bench)))


def test_status_shows_the_question_and_what_was_done_by_hand(bench: Bench):
    bench.decide(before_close=60)
    waiting = status_of(bench.desk).document["awaiting_approval"]
    approve(bench)
    after = status_of(bench.desk).document

    assert {
        "session": "2024-11-05", "shares": 33, "price": 148.0, "until": "2024-11-05T20:45:00Z", "approved_by": None,
    } == waiting  # fmt: skip
    assert after["awaiting_approval"] is None
    assert [
        {"act": "approve", "at": "2024-11-05T20:10:00Z", "by": "owner", "why": "BUY 33 MTUM at about 148.00"}
    ] == after["acts"]


# -- yes --------------------------------------------------------------------------------------------------------------


def test_an_approved_entry_is_decided_again_and_sent(bench: Bench):
    """149.00 by then: 5,000 / 150.64 = 33.2, the same 33 shares."""
    bench.decide(before_close=60)
    bench.data.edit("MTUM", SESSION, close=149.0)
    outcome = approve(bench)

    assert [(BUY_KEY, 33)] == sent(bench)
    assert ("BUY", None, "working", 149.0) == (
        outcome.document["action"],
        outcome.document["blocked_by"],
        outcome.document["order"]["status"],
        outcome.document["close"],
    )
    assert ("decided", 149.0, "working") == (
        row(bench)[0], *bench.sql("SELECT close, order_status FROM signals")[0],
    )  # fmt: skip


@pytest.mark.parametrize(("close", "shares"), [(153.0, 32), (146.0, 33), (145.4, 34)])
def test_a_share_more_or_fewer_than_approved_is_still_approved(bench: Bench, close: float, shares: int):
    bench.decide(before_close=60)
    bench.data.edit("MTUM", SESSION, close=close)
    approve(bench)

    assert [(BUY_KEY, shares)] == sent(bench)


def test_two_shares_fewer_are_asked_for_again_with_both_numbers(bench: Bench):
    """160.00: 5,000 / 161.76 = 30.9, 30 shares."""
    bench.decide(before_close=60)
    bench.data.edit("MTUM", SESSION, close=160.0)
    again = approve(bench)
    waiting = live_through(bench, 49, 41)
    approve(bench, before_close=40)

    assert ("awaiting_approval", 0) == (again.document["blocked_by"], again.exit_code)
    assert "again: 33 shares approved, now it would be 30" in told(bench)[1]
    assert [] == waiting
    assert [(BUY_KEY, 30)] == sent(bench)


def test_an_entry_that_no_longer_holds_is_not_sent_and_both_are_told(bench: Bench):
    bench.decide(before_close=60)
    bench.data.edit(VIX, SESSION, close=26.0)
    outcome = approve(bench)

    assert ("HOLD", []) == (outcome.document["action"], sent(bench))
    assert ("decided", True) == (row(bench)[0], row(bench)[1].endswith("Approved, and not bought: 33 shares"))
    assert [
        "You approved BUY 33 MTUM at about 148.00; now it is HOLD: "
        "No entry: VIX 26.0 not below 25. Approved, and not bought: 33 shares"
    ] == told(bench)[1:]


def test_approving_twice_sends_one_order(bench: Bench):
    bench.decide(before_close=60)
    approve(bench)
    again = approve(bench, before_close=49)

    assert ([(BUY_KEY, 33)], "already_decided", 0) == (sent(bench), again.document["blocked_by"], again.exit_code)
    assert "approved already by owner" == again.notes[0]


def test_an_approval_whose_run_died_is_carried_out_by_the_next_one(bench: Bench):
    """The line to the server broke between the act and the decision; cron's next minute goes on."""
    bench.decide(before_close=60)
    bench.at(SESSION, 50)
    bench.store.add_act(
        OwnerAct(act=Act.APPROVE, session=SESSION, at=bench.clock.now(), by="owner", words="BUY 33 MTUM")
    )
    due = agenda(bench.desk).due
    done = live_through(bench, 49, 40)

    assert ("decide", ["49 decide"]) == (due and str(due.step), done)
    assert [(BUY_KEY, 33)] == sent(bench)


def test_an_approval_waits_for_data_that_are_out_for_a_minute(bench: Bench):
    bench.decide(before_close=60)
    bench.data.drop("MTUM", date(2024, 6, 3))
    blocked = approve(bench)
    bench.data = type(bench.data)()
    bench.data.edit("MTUM", SESSION, close=148.0)
    bench.data.know_volumes(SESSION, today=900_000.0, before=800_000.0)
    done = live_through(bench, 49, 45)

    assert ("data", 3) == (blocked.document["blocked_by"], blocked.exit_code)
    assert (["49 decide"], [(BUY_KEY, 33)]) == (done, sent(bench))


def test_an_approval_waits_for_a_vix_younger_than_the_questions(bench: Bench):
    """Asked at close - 60, approved at close - 16 with no VIX but the question's own: 44 minutes old, 30 allowed."""
    bench.decide(before_close=60)
    bench.data.down = {VIX}
    blocked = approve(bench, before_close=16)
    bench.data.down.clear()
    done = live_through(bench, 16, 15)

    told = "VIX: last known 44 min ago, 30 allowed"
    assert ("BUY", "data", True) == (
        *map(blocked.document.get, ("action", "blocked_by")),
        told in blocked.document["warnings"],
    )
    assert (["16 decide"], [(BUY_KEY, 33)]) == (done, sent(bench))


def test_an_approval_does_not_pass_a_halt(bench: Bench):
    bench.decide(before_close=60)
    wheel.halt(bench.desk, why="away", by="owner", allow_exits=True, cancel=False, turn=nullcontext)
    outcome = approve(bench)

    assert ("halted", []) == (outcome.document["blocked_by"], sent(bench))


def test_an_approval_answers_only_the_question_before_it(bench: Bench):
    """An act of the morning, before anything was asked, approves nothing."""
    bench.at(SESSION, 300)
    bench.store.add_act(OwnerAct(act=Act.APPROVE, session=SESSION, at=bench.clock.now(), by="owner", words=""))
    bench.decide(before_close=60)

    assert (1, []) == (len(told(bench)), sent(bench))


# -- no, and nothing --------------------------------------------------------------------------------------------------


def test_a_declined_entry_stays_declined_for_the_session(bench: Bench):
    bench.decide(before_close=60)
    words = refuse(bench).words
    done = live_through(bench, 49, 1)
    with pytest.raises(SettingsError, match=r"nothing waits .*; declined by owner"):
        approve(bench)

    assert (("declined: nothing is bought in the session 2024-11-05",), [], []) == (words, done, sent(bench))
    assert ("decided", True) == (row(bench)[0], row(bench)[1].endswith("; declined by owner"))
    assert [("decline", "owner", "too dear")] == bench.sql("SELECT act, acted_by, words FROM owner_act")
    assert ("declined already by owner",) == refuse(bench).words


def test_a_lapse_is_told_once_and_stands_in_the_ledger(bench: Bench):
    bench.decide(before_close=60)
    done = live_through(bench, 59, 1)
    shown = bench.decide(before_close=1)

    assert ["15 decide"] == done
    assert ["MTUM was not bought in the session 2024-11-05: nobody approved it before the hard stop"] == told(bench)[1:]
    assert ("decided", True) == (row(bench)[0], row(bench)[1].endswith("nobody approved it before the hard stop"))
    assert (("nobody approved it before the hard stop",), []) == (shown.notes, sent(bench))


@pytest.mark.parametrize("wake_up", [-20, -600, -24 * 60 * 3])
def test_a_lapse_slept_through_is_told_once_by_the_next_start(bench: Bench, wake_up: float):
    """The server was off from the question on: until the settlement, past midnight, for three days."""
    bench.decide(before_close=60)
    bench.at(SESSION, wake_up)
    for _ in range(3):
        do_due(bench.desk)

    assert 2 == len(told(bench))
    assert [("decided", 1)] == bench.sql("SELECT status, settled FROM sessions WHERE session = '2024-11-05'")


def test_a_lapse_and_its_words_are_durable_together(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    bench.decide(before_close=60)

    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(bench.store, "add_notice", fail)
        with pytest.raises(KeyboardInterrupt):
            live_through(bench, 15, 15)
    left = row(bench)[0]
    live_through(bench, 14, 10)

    assert ("skipped", "decided", 2) == (left, row(bench)[0], len(told(bench)))


def test_approving_after_the_lapse_says_so(bench: Bench):
    """It closes the question itself where no run has done so."""
    bench.decide(before_close=60)
    with pytest.raises(SettingsError, match=r"nothing waits for approval.*nobody approved it before the hard stop"):
        approve(bench, before_close=15)

    assert ([], 2) == (sent(bench), len(told(bench)))


@pytest.mark.parametrize("answer", [approve, refuse])
def test_answering_without_a_question_says_when_one_may_come(bench: Bench, answer: Any):
    with pytest.raises(SettingsError, match="2024-11-05 is not decided yet") as refused:
        answer(bench, before_close=100)

    assert (2, True) == (refused.value.exit_code, "15:00 New York" in refused.value.hint)
    assert [] == bench.sql("SELECT * FROM owner_act")


def test_answering_an_undecided_session_after_its_hard_stop_promises_nothing(bench: Bench):
    with pytest.raises(SettingsError, match="2024-11-05 is not decided yet") as refused:
        approve(bench, before_close=10)

    assert "its hard stop is past, so nothing can be bought in it any more" == refused.value.hint


@pytest.mark.parametrize("answer", [wheel.approve, wheel.refuse])
def test_a_question_of_another_day_is_not_answered(bench: Bench, answer: Any):
    bench.decide(before_close=60)
    bench.at(NEXT, 120)
    with pytest.raises(SettingsError, match="2024-11-06 is not decided yet"):
        answer(bench.desk, why="", by="owner")

    assert [] == sent(bench)


@pytest.mark.parametrize("answer", [wheel.approve, wheel.refuse])
def test_on_a_day_without_a_session_there_is_nothing_to_answer(bench: Bench, answer: Any):
    bench.clock.set(datetime.fromisoformat("2024-11-09T18:00:00+00:00"))
    with pytest.raises(SettingsError, match="Saturday 2024-11-09 is no session") as refused:
        answer(bench.desk, why="", by="owner")

    assert "the next session is 2024-11-11" == refused.value.hint


def test_an_approved_entry_is_taken_back_by_cancel_not_declined(bench: Bench):
    bench.decide(before_close=60)
    approve(bench)
    with pytest.raises(SettingsError, match="was approved before") as refused:
        refuse(bench, before_close=45)

    assert "mtum-eod cancel" in refused.value.hint


def test_a_cancel_takes_an_approval_back_that_is_not_carried_out_yet(bench: Bench):
    bench.decide(before_close=60)
    bench.at(SESSION, 50)
    for act, after in ((Act.APPROVE, 0), (Act.CANCEL, 1)):
        at = bench.clock.now() + timedelta(seconds=after)
        bench.store.add_act(OwnerAct(act=act, session=SESSION, at=at, by="owner", words=""))

    assert ([], []) == (live_through(bench, 49, 16), sent(bench))


def test_a_cancel_counts_as_the_last_word_though_its_clock_was_behind(bench: Bench):
    """By a clock two hours slow it is older than the question; it was written after the approval."""
    bench.decide(before_close=60)
    bench.at(SESSION, 50)
    for act, hours in ((Act.APPROVE, 0), (Act.CANCEL, -2)):
        at = bench.clock.now() + timedelta(hours=hours)
        bench.store.add_act(OwnerAct(act=act, session=SESSION, at=at, by="owner", words=""))

    assert ([], []) == (live_through(bench, 49, 16), sent(bench))


def test_an_approval_that_comes_too_late_to_be_sent_is_told(bench: Bench):
    """Data were out from the yes until the hard stop."""
    bench.decide(before_close=60)
    bench.data.drop("MTUM", date(2024, 6, 3))
    approve(bench, before_close=16)
    live_through(bench, 15, 5)

    assert (
        "MTUM was not bought in the session 2024-11-05: approved by owner, but not sent before the hard stop"
        == (told(bench)[-1])
    )
    assert ("decided", []) == (row(bench)[0], sent(bench))


def test_a_run_over_history_asks_nobody_and_buys_nothing(bench: Bench):
    """Nobody was there to approve: the question is closed by the settlement of its own session."""
    bench.decide(before_close=60)
    bench.settle()

    assert [("decided", 1)] == bench.sql("SELECT status, settled FROM sessions")


def test_a_replay_of_the_approved_session_decides_alike(bench: Bench):
    """What the owner approved is an input like the others."""
    from mtum_eod.jobs.replay import replay_recorded

    bench.decide(before_close=60)
    approve(bench)
    recorded = bench.store.signal(SESSION)
    assert recorded is not None
    again = replay_recorded(recorded, bench.store, calendar(), replace(bench.desk.book))

    assert ("BUY", 33, None) == (
        again.document["action"], again.document["shares"], again.document["blocked_by"],
    )  # fmt: skip
