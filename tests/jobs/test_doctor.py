"""The doctor looks at every link, names what will not do with its cure, and touches nothing."""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from fakes import KEY, SESSION, Bench

from mtum_eod.adapters.store.rehearsal import rehearse
from mtum_eod.core.checks import Check
from mtum_eod.core.events import Event
from mtum_eod.core.trading import OrderIntent, OrderStatus
from mtum_eod.jobs import doctor
from mtum_eod.ports import Known, Notice, Unknown, WhatIf

NEXT = date(2024, 11, 6)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "book.db")


def failures(checks: Iterable[Check]) -> dict[str, tuple[str, int]]:
    """What will not do, with its words and its exit code; none of it without a cure."""
    failed = [check for check in checks if not check.passed]
    assert [] == [check.name for check in failed if not check.cure]
    return {check.name: (check.words, check.exit_code) for check in failed}


def test_a_sound_chain_passes(bench: Bench):
    bench.buy(SESSION)
    bench.at(NEXT, 100)
    with rehearse(bench.path) as restored:
        checks = [*doctor.examine(bench.desk, NEXT), *doctor.examine_fully(bench.desk, restored)]

    assert {} == failures(checks)
    assert "a backup was made and restored, and 2024-11-05 replayed from it: BUY again, on the same indicators" == (
        checks[-1].words
    )


def test_the_broker_s_own_findings_come_with_their_cure(bench: Bench):
    bench.broker.checks = (Check(name="read-only", passed=False, words="the API is read-only", cure="untick it"),)
    bench.at(NEXT, 100)
    checks = list(doctor.examine(bench.desk, NEXT))

    assert {"read-only": ("the API is read-only", 3)} == failures(checks)
    assert "untick it" in {check.cure for check in checks}


def test_an_order_nobody_can_tell_the_state_of_is_found(bench: Bench):
    bench.decide()
    bench.store.update_order(f"{KEY}/{SESSION}/BUY", OrderStatus.UNKNOWN, bench.clock.now())
    [found] = failures(doctor.examine(bench.desk, NEXT)).values()

    assert (f"{KEY}/{SESSION}/BUY is unknown", 5) == found


def test_a_message_that_never_left_is_found(bench: Bench):
    bench.at(NEXT, 100)
    bench.store.add_notice(
        Notice(event=Event.RUN_FAILED, words="no answer", is_urgent=True), bench.clock.now(), None, is_to_send=True
    )

    assert {"messages": ("1 wait to be sent, the oldest says: no answer", 5)} == failures(
        doctor.examine(bench.desk, NEXT)
    )


def test_an_execution_the_book_has_otherwise_is_found(bench: Bench):
    shares = bench.buy(SESSION, price=148.0)
    bench.broker.executed[0] = replace(bench.broker.executed[0], price_usd=147.5)
    bench.at(NEXT, 100)
    found = failures(doctor.examine_fully(bench.desk, None))

    assert {
        "executions": (
            "1 of 1 are not in the book as the broker has them, the first is "
            f"BUY {shares} at 147.5 ({KEY}/{SESSION}/BUY.1)",
            5,
        )
    } == found


def test_a_silent_list_of_executions_is_no_empty_one(bench: Bench):
    bench.broker.silent = {"executions"}
    bench.at(NEXT, 100)

    assert {"executions": ("the list of executions never ended", 4)} == failures(doctor.examine_fully(bench.desk, None))


def test_a_backup_that_decides_otherwise_is_found(bench: Bench):
    """The settings of that day are damaged in the book: the entry threshold of the RSI is 99 now."""
    bench.buy(SESSION)
    with closing(sqlite3.connect(bench.path)) as db, db:
        db.execute("UPDATE settings_version SET settings = json_set(settings, '$.strategy.rsi_entry_threshold', 99)")
    bench.at(NEXT, 100)
    with rehearse(bench.path) as restored:
        [(words, code)] = failures(doctor.examine_fully(bench.desk, restored)).values()

    assert (True, 7) == ("action BUY became HOLD" in words, code)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Known(WhatIf(is_accepted=True, words="commission 1.00 USD")), (True, 5, "commission 1.00 USD")),
        (Known(WhatIf(is_accepted=False, words="no KID")), (False, 5, "no KID")),
        (Unknown("no answer"), (False, 4, "no answer")),
    ],
)
def test_a_test_order_is_asked_for_and_never_placed(bench: Bench, answer: object, expected: tuple[bool, int, str]):
    bench.broker.thinks = answer  # type: ignore[assignment]
    bench.at(NEXT, 20)
    check = doctor.examine_order(bench.desk, NEXT)
    placed: list[OrderIntent] = bench.broker.received

    assert ([], *expected[:2]) == (placed, check.passed, check.exit_code)
    assert check.passed == (not check.cure)
    assert check.words.endswith(expected[2])


def test_a_book_without_history_has_proven_nothing(bench: Bench):
    checks = list(doctor.proven_on_paper(bench.store, "MTUM"))

    assert [
        "MOC accepted",
        "fill and commission",
        "today's partial bar",
        "volume in shares",
        "VIX entitlement",
        "Gateway on a second day",
        "cash after an exit",
    ] == [check.name for check in checks if check.words == "not seen yet" and check.cure]


def test_a_bought_and_a_sold_position_prove_all_of_it(bench: Bench):
    """On bars from Interactive Brokers."""
    bench.data.name = "ib"
    shares = bench.buy(SESSION)
    bench.data.edit("VIX", NEXT, close=31.0)
    bench.decide(NEXT)
    bench.broker.execute(f"{KEY}/{NEXT}/SELL", shares, 149.0, 1.0, number=2)
    bench.settle(NEXT)
    bench.decide(date(2024, 11, 7))
    seen = {check.name: check.words for check in doctor.proven_on_paper(bench.store, "MTUM")}

    assert {
        "MOC accepted": f"last seen {NEXT}",
        "fill and commission": f"last seen {NEXT}",
        "today's partial bar": "last seen 2024-11-07",
        "volume in shares": f"last seen {SESSION}",
        "VIX entitlement": "last seen 2024-11-07",
        "Gateway on a second day": "last seen 2024-11-07",
        "cash after an exit": "last seen 2024-11-07",
    } == seen


def proven(bench: Bench) -> set[str]:
    return {check.name for check in doctor.proven_on_paper(bench.store, "MTUM") if check.passed}


@pytest.mark.parametrize(("on_submit", "is_taken"), [("accept", True), ("reject", False)])
def test_an_order_that_was_refused_proves_nothing(bench: Bench, on_submit: str, is_taken: bool):
    bench.broker.on_submit = on_submit
    bench.decide()

    assert is_taken == ("MOC accepted" in proven(bench))


def test_bars_from_elsewhere_prove_nothing_of_the_broker_s(bench: Bench):
    """Neither its partial bar, nor its volumes, nor that it sells us the VIX."""
    bench.decide()

    assert {"MOC accepted"} == proven(bench)


@pytest.mark.parametrize(("mean", "is_shares"), [(800_000.0, True), (20_000.0, False), (8_000.0, False)])
def test_volumes_as_small_as_lots_are_not_taken_for_shares(bench: Bench, mean: float, is_shares: bool):
    """In lots of 40 or of 100 from the first run on, so that nothing stored contradicts them."""
    bench.data.name = "ib"
    bench.data.know_volumes(SESSION, today=mean * 1.1, before=mean)
    bench.data.frames["MTUM"]["volume"] = mean * 1.2
    bench.decide()

    assert is_shares == ("volume in shares" in proven(bench))
