"""A book brought back from a backup knows nothing of what it did since: the broker is asked before it decides."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import date
from pathlib import Path
from shutil import copyfile

import pytest
from fakes import KEY, SESSION, Bench, ScriptedBroker

from mtum_eod.adapters.store import upkeep
from mtum_eod.core.market import VIX
from mtum_eod.core.parameters import Parameters, RiskParameters
from mtum_eod.core.trading import Act, OrderStatus, OwnerAct
from mtum_eod.errors import AlreadyRunning, BrokerUnavailable, SettingsError
from mtum_eod.jobs import reconcile
from mtum_eod.jobs.due import do_due
from mtum_eod.jobs.flatten import flatten
from mtum_eod.jobs.wheel import Handled, Turn, cancel, halt, refuse

BUY_KEY, NEXT, THIRD = f"{KEY}/{SESSION}/BUY", date(2024, 11, 6), date(2024, 11, 7)
SUNDAY = date(2024, 11, 3)
NOT_SENT = "no order yet; what 2024-11-05 may still decide is not sent"
UNTOLD = "whether the broker has had an order of 2024-11-05 is not known ({why})"


def backed_up(tmp_path: Path) -> tuple[Bench, Path]:
    """A book with nothing in it yet, and a backup of it."""
    book, backup = tmp_path / "book.db", tmp_path / "backup.db"
    Bench(book).store.close()
    copyfile(book, backup)
    return Bench(book), backup


@pytest.fixture
def forgotten(tmp_path: Path) -> Bench:
    """This morning's book is back; the order of the session, decided since, rests at the broker."""
    bench, backup = backed_up(tmp_path)
    bench.decide()
    return Bench(backup, data=bench.data, broker=bench.broker)


def take_back(bench: Bench, turn: Turn = nullcontext, before_close: float = 18, session: date = SESSION) -> Handled:
    bench.at(session, before_close)
    return cancel(bench.desk, why="doubt", by="owner", turn=turn)


def orders(bench: Bench) -> list[tuple[str, int, str]]:
    """The book's orders: side, shares and status."""
    return bench.sql("SELECT side, shares, status FROM order_intent")


def test_an_order_that_the_restored_book_has_forgotten_is_adopted(forgotten: Bench) -> None:
    """The run decides again: one order, and it is ours."""
    outcome = forgotten.decide(before_close=18)

    assert [BUY_KEY] == [intent.reference for intent in forgotten.broker.received]
    assert ([("BUY", 33, "working")], "already_decided") == (orders(forgotten), outcome.document["blocked_by"])


def test_it_is_adopted_where_nothing_would_be_bought_now(forgotten: Bench) -> None:
    """VIX has risen since: the decision is HOLD, and the order counts all the same. The owner is told."""
    forgotten.data.edit(VIX, SESSION, close=26.0)
    outcome = forgotten.decide(before_close=18)

    assert ("HOLD", [("BUY", 33, "working")]) == (outcome.document["action"], orders(forgotten))
    assert [
        (
            f"{SESSION}: the broker has had {BUY_KEY}, 33 shares, that this book did not know of; it is working and "
            "counts as the session's one order now",
            1,
        )
    ] == forgotten.notices("mismatch")


@pytest.mark.parametrize("executed", [33, 20])
def test_it_is_known_by_its_executions_where_no_list_of_orders_names_it(forgotten: Bench, executed: int) -> None:
    """A list read too early lacks it. Sent again, the order would buy twice."""
    forgotten.broker.execute(BUY_KEY, executed, 148.0, 1.0)
    forgotten.broker.forgets = True
    forgotten.decide(before_close=18)
    settlement = forgotten.settle()

    assert [BUY_KEY] == [intent.reference for intent in forgotten.broker.received]
    assert (True, executed, [("BUY", executed, "filled")]) == (
        settlement.is_settled,
        forgotten.desk.shares(),
        orders(forgotten),
    )


def test_nothing_is_sent_while_the_broker_does_not_tell_its_executions(forgotten: Bench) -> None:
    """The list of orders is empty, which alone says nothing of an order that is done: the position has moved."""
    forgotten.broker.execute(BUY_KEY, 33, 148.0, 1.0)
    forgotten.broker.forgets = True
    forgotten.broker.silent.add("executions")
    forgotten.decide(before_close=18)

    assert ([BUY_KEY], []) == ([intent.reference for intent in forgotten.broker.received], orders(forgotten))


def test_its_executions_are_booked_by_settlement(forgotten: Bench) -> None:
    forgotten.data.edit(VIX, SESSION, close=26.0)
    forgotten.decide(before_close=18)
    forgotten.broker.execute(BUY_KEY, 33, 148.0, 1.0)
    settlement = forgotten.settle()

    assert (True, 33, [("BUY", 33, "filled")]) == (settlement.is_settled, forgotten.desk.shares(), orders(forgotten))


def test_a_book_restored_after_the_close_finds_it_when_settling(forgotten: Bench) -> None:
    """No decision is on record, yet the position has its ATR: the target hangs on it, and the next session decides."""
    forgotten.broker.execute(BUY_KEY, 33, 148.0, 1.0)
    settlement = forgotten.settle()
    held = forgotten.decide(NEXT).document["position"]

    assert (True, 33) == (settlement.is_settled, held["shares"])
    assert held["entry_atr"] == pytest.approx(forgotten.sql("SELECT atr FROM entry_basis")[0][0])
    assert held["target"] == pytest.approx(148.0 + 4 * held["entry_atr"])


def test_the_atr_that_a_gap_in_the_bars_hid_is_learnt_when_they_are_whole_again(forgotten: Bench) -> None:
    """Its target hangs on it, and no command could give it."""
    whole = forgotten.data.frames["MTUM"].copy()
    forgotten.data.drop("MTUM", date(2024, 6, 11))
    forgotten.broker.execute(BUY_KEY, 33, 148.0, 1.0)
    forgotten.settle()
    before = forgotten.sql("SELECT entry_atr FROM position")
    forgotten.data.frames["MTUM"] = whole
    forgotten.decide(NEXT)
    forgotten.settle(NEXT)

    assert [(None,)] == before
    assert forgotten.decide(THIRD).document["position"]["target"] > 148.0


def test_a_settlement_that_cannot_ask_for_it_stays_open(forgotten: Bench) -> None:
    forgotten.broker.execute(BUY_KEY, 33, 148.0, 1.0)
    forgotten.broker.silent.add("orders")
    silent = forgotten.settle()
    forgotten.broker.silent.clear()
    after = forgotten.settle(after_close=35)

    assert (False, True) == (silent.is_settled, after.is_settled)
    assert "whether the broker has had an order" in silent.why


def test_it_is_taken_back_where_the_owner_wanted_that_before_it_was_found(forgotten: Bench) -> None:
    forgotten.at(SESSION, 19)
    act = OwnerAct(act=Act.CANCEL, session=SESSION, at=forgotten.clock.now(), by="owner", words="")
    forgotten.store.add_act(act)
    forgotten.decide(before_close=18)

    assert [("BUY", 33, "cancelled")] == orders(forgotten)
    assert OrderStatus.CANCELLED is forgotten.broker.at_broker[BUY_KEY].status


def test_a_cancel_withdraws_it_at_once(forgotten: Bench) -> None:
    """The book has no order; the broker is asked before anybody says that there is none."""
    handled = take_back(forgotten)

    assert ((f"withdrawn: {BUY_KEY}",), 0) == (handled.words, handled.exit_code)
    assert [("BUY", 33, "cancelled")] == orders(forgotten)
    assert OrderStatus.CANCELLED is forgotten.broker.at_broker[BUY_KEY].status
    assert ["cancel: " + BUY_KEY] == [run.outcome for run in forgotten.store.runs(1)]


def test_a_cancel_that_takes_it_up_files_the_sessions_before_it(tmp_path: Path) -> None:
    """With a row of today the ledger goes on from there: what the backup has not got would stay a hole."""
    bench = Bench(tmp_path / "book.db")
    bench.data.edit(VIX, SESSION, close=26.0)
    bench.decide()
    made = upkeep.backup(bench.path, tmp_path / "backups")
    for day in (NEXT, THIRD):
        bench.data.edit("MTUM", day, close=149.0)
        bench.data.know_volumes(day, today=900_000.0, before=800_000.0)
    bench.decide(THIRD)
    bench.store.close()
    upkeep.restore(made, bench.path)
    restored = Bench(bench.path, data=bench.data, broker=bench.broker)
    handled = take_back(restored, session=THIRD)

    assert ((f"withdrawn: {KEY}/{THIRD}/BUY",), 0) == (handled.words, handled.exit_code)
    assert [(SESSION, "decided"), (NEXT, "missed"), (THIRD, "skipped")] == [
        (row.session, str(row.status)) for row in restored.store.ledger()
    ]


@pytest.mark.parametrize("silent", ["orders", "executions"])
def test_a_cancel_says_where_the_broker_did_not_tell_of_it(forgotten: Bench, silent: str) -> None:
    """It may be executed: exit code 5. The next run finds it, and withdraws it."""
    forgotten.broker.execute(BUY_KEY, 1, 148.0, 1.0)
    forgotten.broker.forgets = silent == "executions"
    forgotten.broker.silent.add(silent)
    handled = take_back(forgotten)
    forgotten.broker.silent.clear()
    forgotten.broker.forgets = False
    forgotten.decide(before_close=17)

    said = UNTOLD.format(why=f"the list of {silent} never ended")
    assert ((NOT_SENT, said), 5) == (handled.words, handled.exit_code)
    assert OrderStatus.CANCELLED is forgotten.broker.at_broker[BUY_KEY].status


@pytest.mark.parametrize(
    "error", [BrokerUnavailable("no Gateway", hint="start it"), SettingsError("another account", hint="look at both")]
)
def test_a_halt_that_cancels_stands_where_the_right_broker_cannot_be_reached(
    forgotten: Bench, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def away(_: ScriptedBroker) -> str:
        raise error

    monkeypatch.setattr(ScriptedBroker, "account", property(away))
    forgotten.at(SESSION, 18)
    handled = halt(forgotten.desk, why="", by="owner", allow_exits=False, cancel=True, turn=nullcontext)

    assert (("halted: no orders at all", UNTOLD.format(why=error)), 5) == (handled.words, handled.exit_code)
    assert 1 == len(forgotten.store.halts())


def test_a_cancel_that_is_not_answered_for_it_says_so(forgotten: Bench) -> None:
    forgotten.broker.silent.add("cancel")
    handled = take_back(forgotten)

    assert ((f"{BUY_KEY} could not be withdrawn: no answer to the cancellation",), 5) == (
        handled.words,
        handled.exit_code,
    )
    assert [("BUY", 33, "working")] == orders(forgotten)


def test_a_cancel_beside_a_run_leaves_it_to_that_run(forgotten: Bench) -> None:
    def turn() -> AbstractContextManager[None]:
        raise AlreadyRunning("a run is under way", hint="wait")

    handled = take_back(forgotten, turn)

    said = "a run is under way, and withdraws an order of 2024-11-05 if it finds one at the broker"
    assert (NOT_SENT, said) == handled.words
    assert (6, []) == (handled.exit_code, orders(forgotten))


def test_a_cancel_between_the_last_call_and_the_close_does_not_say_that_there_is_no_order(forgotten: Bench) -> None:
    """None can be sent any more; what was sent before the backup will be executed."""
    handled = take_back(forgotten, before_close=1)

    assert ((f"too late to withdraw {BUY_KEY}: past the hard stop",), 5) == (handled.words, handled.exit_code)
    assert [("BUY", 33, "working")] == orders(forgotten)


def test_a_cancel_tells_of_the_order_that_the_run_it_waited_for_has_made(tmp_path: Path) -> None:
    """That run heeds the word itself, and sends nothing."""
    bench = Bench(tmp_path / "book.db")

    def turn() -> AbstractContextManager[None]:
        bench.decide(before_close=18)
        return nullcontext()

    handled = take_back(bench, turn)

    assert (f"{BUY_KEY} is not_sent",) == handled.words
    assert (0, []) == (handled.exit_code, bench.broker.received)


def test_a_halt_that_cancels_withdraws_it_too(forgotten: Bench) -> None:
    """Its word stands: not answered for, the next run asks again."""
    forgotten.broker.silent.add("cancel")
    forgotten.at(SESSION, 18)
    handled = halt(forgotten.desk, why="", by="owner", allow_exits=False, cancel=True, turn=nullcontext)
    forgotten.broker.silent.clear()
    forgotten.decide(before_close=17)

    said = f"{BUY_KEY} could not be withdrawn: no answer to the cancellation"
    assert (("halted: no orders at all", said), 5) == (handled.words, handled.exit_code)
    assert [("BUY", 33, "cancelled")] == orders(forgotten)
    assert OrderStatus.CANCELLED is forgotten.broker.at_broker[BUY_KEY].status


@pytest.mark.parametrize(
    ("day", "silent", "exit_code"), [(SESSION, "", 0), (SESSION, "orders", 5), (SUNDAY, "orders", 0)]
)
def test_a_halt_that_cancels_without_an_order_takes_back_none(
    tmp_path: Path, day: date, silent: str, exit_code: int
) -> None:
    """It is no word on what the session may still decide once the halt is lifted."""
    bench = Bench(tmp_path / "book.db")
    bench.broker.silent.add(silent)
    bench.at(SESSION, 18 + (SESSION - day).days * 24 * 60)
    handled = halt(bench.desk, why="", by="owner", allow_exits=False, cancel=True, turn=nullcontext)

    words = ("halted: no orders at all", *[UNTOLD.format(why="the list of orders never ended")] * bool(exit_code))
    assert (words, exit_code) == (handled.words, handled.exit_code)
    assert [] == bench.store.acts(SESSION)


def test_before_the_open_nobody_can_have_sent_one_and_the_broker_is_not_asked(forgotten: Bench) -> None:
    forgotten.broker.silent.add("orders")
    handled = take_back(forgotten, before_close=8 * 60)

    assert ((NOT_SENT,), 0) == (handled.words, handled.exit_code)


def test_a_sale_by_hand_is_no_second_order(forgotten: Bench) -> None:
    forgotten.at(SESSION, 18)
    with pytest.raises(SettingsError, match="has had its one order: BUY 33, working"):
        flatten(forgotten.desk, why="", by="owner")

    assert [("BUY", 33, "working")] == orders(forgotten)


@pytest.mark.parametrize("hand", ["halt", "cancel"])
def test_what_the_owner_stopped_after_the_backup_is_not_sent_by_the_restored_book(tmp_path: Path, hand: str) -> None:
    """Last night's backup is back at noon; in the morning the owner had said that nothing is to be sent today."""
    bench = Bench(tmp_path / "book.db")
    made = upkeep.backup(bench.path, tmp_path / "backups")
    bench.at(SESSION, 300)
    if hand == "halt":
        halt(bench.desk, why="away", by="owner", allow_exits=False, cancel=False, turn=nullcontext)
    else:
        cancel(bench.desk, why="away", by="owner", turn=nullcontext)
    bench.store.close()
    upkeep.restore(made, bench.path)
    restored = Bench(bench.path, data=bench.data, broker=bench.broker)
    document = restored.decide().document

    assert ("BUY", "halted", []) == (document["action"], document["blocked_by"], restored.broker.received)


def test_a_no_after_the_backup_stays_one_though_the_backup_has_the_yes(tmp_path: Path) -> None:
    """The run of the approval died, a backup was made, then the owner said no, and brought the backup back."""
    asking = Parameters(risk=RiskParameters(require_confirmation=True))
    bench = Bench(tmp_path / "book.db", parameters=asking)
    bench.decide(before_close=60)
    bench.at(SESSION, 50)
    bench.store.add_act(OwnerAct(act=Act.APPROVE, session=SESSION, at=bench.clock.now(), by="owner", words=""))
    made = upkeep.backup(bench.path, tmp_path / "backups")
    refuse(bench.desk, why="after all not", by="owner")
    bench.store.close()
    upkeep.restore(made, bench.path)
    restored = Bench(bench.path, data=bench.data, broker=bench.broker, parameters=asking)
    restored.at(SESSION, 40)
    do_due(restored.desk)
    restored.decide(before_close=30)

    assert [] == restored.broker.received


@pytest.mark.parametrize(("shares", "filled", "booked"), [(33, 0, 33), (None, 12, 12), (None, 0, 1)])
def test_one_that_ended_is_adopted_even_where_its_size_is_no_longer_told(
    forgotten: Bench, shares: int | None, filled: int, booked: int
) -> None:
    """IB's list of finished orders may have no size: what was executed is known all the same."""
    forgotten.broker.at_broker[BUY_KEY] = replace(
        forgotten.broker.at_broker[BUY_KEY], shares=shares, filled_shares=filled, status=OrderStatus.CANCELLED
    )
    forgotten.decide(before_close=18)

    assert [("BUY", booked, "working" if filled else "cancelled")] == orders(forgotten)
    assert 1 == len(forgotten.broker.received)


def test_a_hold_needs_no_list_of_orders(tmp_path: Path) -> None:
    """Nothing is to be sent, so nothing can be doubled; settlement asks again."""
    bench = Bench(tmp_path / "book.db")
    bench.data.edit(VIX, SESSION, close=26.0)
    bench.broker.silent = {"orders"}
    document = bench.decide().document

    assert ("HOLD", None) == (document["action"], document["blocked_by"])


def test_nothing_is_sent_before_the_broker_has_said_what_it_had(tmp_path: Path) -> None:
    """The list of orders does not come: nothing is committed, and the next run, which gets the list, sends it once."""
    bench = Bench(tmp_path / "book.db")
    bench.broker.silent = {"orders"}
    with pytest.raises(BrokerUnavailable, match="whether the broker has had an order"):
        bench.decide()
    before = len(bench.broker.received)
    bench.broker.silent = set()
    bench.decide(before_close=18)

    assert (0, 1) == (before, len(bench.broker.received))


def test_a_sale_of_shares_that_the_restored_book_never_bought_is_told_and_not_booked(tmp_path: Path) -> None:
    """The backup is from before the entry. Booked, the sale would leave the book short, and stop every later step."""
    bench, backup = backed_up(tmp_path)
    shares = bench.buy(SESSION)
    bench.data.edit(VIX, NEXT, close=31.0)
    bench.decide(NEXT)
    restored = Bench(backup, data=bench.data, broker=bench.broker)
    restored.decide(NEXT, before_close=18)
    restored.broker.execute(f"{KEY}/{NEXT}/SELL", shares, 140.0, 1.0)
    evening = restored.settle(NEXT)
    told = [words for words, _ in restored.notices("mismatch") if "does not know to have bought" in words]
    restored.broker.at_broker.clear()
    restored.broker.executed.clear()
    tomorrow = restored.decide(THIRD)
    with pytest.raises(SettingsError) as refused:
        reconcile.resolve(restored.desk, NEXT, executed=None, by="me")
    reconcile.resolve(restored.desk, NEXT, executed=0, by="me")

    assert (False, 5, [], 1) == (evening.is_settled, evening.exit_code, restored.store.fills(), len(told))
    assert (5, "it holds 0", "say none" in refused.value.hint) == (
        tomorrow.exit_code,
        refused.value.message[-10:],
        True,
    )
    assert [("SELL", shares, "cancelled")] == orders(restored)
    assert all(line.agrees for line in reconcile.compare(restored.desk).lines)
