"""Hands on the wheel: halt with a word on working orders, withdraw one in time, tell of money that moved."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from fakes import KEY, SESSION, Bench
from sqlalchemy import Connection

from mtum_eod.adapters.notices import OwnerNotices
from mtum_eod.adapters.store import open_store
from mtum_eod.errors import SettingsError
from mtum_eod.jobs.desk import TradingDesk
from mtum_eod.jobs.wheel import add_cash, cancel, halt

BUY_KEY = f"{KEY}/2024-11-05/BUY"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "book.db")


def stop(bench: Bench, *, allow_exits: bool = False, cancel: bool = False) -> list[str]:
    halted = halt(bench.desk, why="away", by="owner", allow_exits=allow_exits, cancel=cancel, turn=nullcontext)
    return list(halted.words)


@pytest.mark.parametrize(("allow_exits", "words"), [(True, "no entries, exits pass"), (False, "no orders at all")])
def test_a_halt_stands_and_is_told(bench: Bench, allow_exits: bool, words: str):
    said = stop(bench, allow_exits=allow_exits)

    assert [f"halted: {words}"] == said
    assert [(f"Halted by owner, {words}: away", 0)] == bench.notices("halt")
    assert [allow_exits] == [standing.allow_exits for standing in bench.store.halts()]


def test_a_halt_blocks_the_sessions_entry(bench: Bench):
    stop(bench)
    document = bench.decide().document

    assert ("BUY", "halted", []) == (document["action"], document["blocked_by"], bench.broker.received)


def test_a_working_order_is_named_and_left(bench: Bench):
    bench.decide()
    said = stop(bench)

    assert f"still working: {BUY_KEY} (working)" == said[1]
    assert "working" == bench.broker.at_broker[BUY_KEY].status


def test_a_working_order_is_withdrawn_in_time(bench: Bench):
    bench.decide()
    bench.at(SESSION, 15.1)
    said = stop(bench, cancel=True)

    assert f"withdrawn: {BUY_KEY}" == said[1]
    assert [("cancelled",)] == bench.sql("SELECT status FROM order_intent")


@contextmanager
def at_the_very_moment(bench: Bench) -> Iterator[TradingDesk]:
    """The owner's desk: a run of another process decides in the last moment before it writes for the first time."""
    bench.at(SESSION, 20)
    with closing(open_store(bench.path)) as store:
        write = store.writing

        def decide_first() -> AbstractContextManager[Connection]:
            store.writing = write  # type: ignore[method-assign]
            bench.decide()
            return write()

        store.writing = decide_first  # type: ignore[method-assign]
        yield replace(bench.desk, store=store, notifier=OwnerNotices(store=store, clock=bench.clock))


def test_an_order_of_the_very_moment_is_withdrawn_with_the_halt(bench: Bench):
    """Unseen, it would be neither withdrawn nor told of, and the command would end with 0."""
    with at_the_very_moment(bench) as desk:
        halted = halt(desk, why="away", by="owner", allow_exits=False, cancel=True, turn=nullcontext)

    assert (("halted: no orders at all", f"withdrawn: {BUY_KEY}"), 0) == (halted.words, halted.exit_code)
    assert [("cancelled",)] == bench.sql("SELECT status FROM order_intent")


def test_an_order_of_the_very_moment_that_cannot_be_withdrawn_is_told(bench: Bench):
    bench.broker.silent.add("cancel")
    with at_the_very_moment(bench) as desk:
        halted = halt(desk, why="away", by="owner", allow_exits=False, cancel=True, turn=nullcontext)

    assert (f"{BUY_KEY} could not be withdrawn: no answer to the cancellation", 5) == (
        halted.words[1],
        halted.exit_code,
    )


def test_a_cancel_sees_an_order_of_the_very_moment(bench: Bench):
    """It must not say that there is none, and that none is sent."""
    bench.broker.silent.add("cancel")
    with at_the_very_moment(bench) as desk:
        handled = cancel(desk, why="doubt", by="owner", turn=nullcontext)

    assert ((f"{BUY_KEY} could not be withdrawn: no answer to the cancellation",), 5) == (
        handled.words,
        handled.exit_code,
    )


@pytest.mark.parametrize("before_close", [15, 1, -20])
def test_past_the_hard_stop_nothing_is_withdrawn(bench: Bench, before_close: float):
    """The broker might take the cancellation for the next session's order."""
    bench.decide()
    bench.at(SESSION, before_close)
    said = stop(bench, cancel=True)

    assert f"too late to withdraw {BUY_KEY}: past the hard stop" == said[1]
    assert ("working", [("working",)]) == (
        bench.broker.at_broker[BUY_KEY].status,
        bench.sql("SELECT status FROM order_intent"),
    )


def test_a_cancellation_without_an_answer_is_told_as_such(bench: Bench):
    bench.decide()
    bench.broker.silent.add("cancel")
    said = stop(bench, cancel=True)

    assert f"{BUY_KEY} could not be withdrawn: no answer to the cancellation" == said[1]
    assert [("working",)] == bench.sql("SELECT status FROM order_intent")


def test_a_refused_cancellation_is_told_as_such(bench: Bench):
    bench.decide()
    bench.broker.on_cancel = "refuse"

    assert f"{BUY_KEY} is working" == stop(bench, cancel=True)[1]


def test_a_withdrawn_order_that_was_partly_filled_keeps_its_shares(bench: Bench):
    bench.decide()
    bench.broker.execute(BUY_KEY, 12, 148.0, 0.5)
    stop(bench, cancel=True)
    bench.settle()

    assert [("partly_filled",)] == bench.sql("SELECT status FROM order_intent")
    assert [(12,)] == bench.sql("SELECT shares FROM position")


def test_the_halt_stands_even_where_the_broker_then_fails(bench: Bench):
    """It is durable before anything else is asked."""
    bench.decide()

    def fail(reference: str) -> None:
        raise ConnectionError(reference)

    bench.broker.cancel = fail  # type: ignore[method-assign,assignment]
    with pytest.raises(ConnectionError):
        stop(bench, cancel=True)

    assert ["away"] == [standing.why for standing in bench.store.halts()]


# -- money ------------------------------------------------------------------------------------------------------------


def test_money_paid_in_and_out_changes_what_is_sized_on(bench: Bench):
    bench.decide()
    paid_in = add_cash(bench.desk, "deposit", 1000.0, None, "gift")
    paid_out = add_cash(bench.desk, "withdrawal", 300.0, date(2024, 11, 5), "")

    assert {"kind": "deposit", "amount": 1000.0, "sizing_equity": 6000.0, "cash": 6000.0} == paid_in
    assert (5700.0, 5700.0) == (paid_out["sizing_equity"], paid_out["cash"])
    assert [("deposit", 1000.0, "2024-11-05", "gift"), ("withdrawal", 300.0, "2024-11-05", "")] == bench.sql(
        "SELECT kind, amount_usd, session, note FROM cash_flow"
    )


def test_a_book_that_does_not_exist_takes_no_money(bench: Bench):
    with pytest.raises(SettingsError, match="no book yet") as refused:
        add_cash(bench.desk, "deposit", 1000.0, None, "")

    assert "capital" in refused.value.hint


def test_no_more_is_paid_out_than_is_there(bench: Bench):
    """33 shares at 148.00 and 1 USD of commission leave 115 of 5,000 USD."""
    bench.buy(SESSION)
    with pytest.raises(SettingsError, match=r"115\.01 USD is more than the 115\.00 USD in cash"):
        add_cash(bench.desk, "withdrawal", 115.01, None, "")

    assert 0.0 == add_cash(bench.desk, "fee", 115.0, None, "")["cash"]


def test_money_of_the_future_is_refused(bench: Bench):
    """It would be counted, and traded on, at once."""
    bench.decide()
    with pytest.raises(SettingsError, match="2024-11-06 lies in the future, today is 2024-11-05"):
        add_cash(bench.desk, "deposit", 100.0, date(2024, 11, 6), "")

    assert [] == bench.store.cash_flows()
