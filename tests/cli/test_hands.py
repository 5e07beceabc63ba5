"""Hands on the wheel as they are typed, over SSH and from a phone, against the simulated broker."""

import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from fakes import BOOK, Bench, calendar
from terminal import Person

from mtum_eod import bootstrap, cli, settings
from mtum_eod.core.trading import Mode
from mtum_eod.errors import SettingsError
from mtum_eod.jobs import consent, preflight
from mtum_eod.jobs.desk import TradingDesk
from mtum_eod.jobs.session import decide_step

BUY_KEY = "mtum-eod/simulated/SIMULATED/MTUM/2024-11-05/BUY"
SELL_KEY = "mtum-eod/simulated/SIMULATED/MTUM/2024-11-06/SELL"


@pytest.fixture
def asked(person: Person) -> Person:
    """Someone who wants to be asked, and was, an hour before the close of 2024-11-05."""
    person.environment["MTUM_EOD_RISK__REQUIRE_CONFIRMATION"] = "true"
    typed = person.at("2024-11-05", 60).types("run --if-due --json")
    assert "awaiting_approval" == typed.document["result"]["blocked_by"], typed.out
    return person


@pytest.fixture
def long(person: Person) -> Person:
    """Someone who bought on 2024-11-05 and stands in the afternoon of the next session."""
    person.types("run --date 2024-11-05")
    person.types("settle")
    return person.at("2024-11-06", 100)


def cron(person: Person, session: str, *before_close: int) -> list[str]:
    """Type what cron types, so many minutes before the close; the steps done."""
    done = []
    for minutes in before_close:
        document = person.at(session, minutes).types("run --if-due --json").document
        done += [f"{minutes} {document['step']}"] if document.get("step") else []
    return done


# -- approve ----------------------------------------------------------------------------------------------------------


def test_an_entry_is_approved_by_one_word(asked: Person):
    waited = cron(asked, "2024-11-05", 59, 51)
    typed = asked.at("2024-11-05", 50).types("approve")
    after = cron(asked, "2024-11-05", 49, 20, 15, 14)

    assert ([], 0, []) == (waited, typed.exit_code, after)
    assert "market-on-close" in typed.out
    assert [(BUY_KEY, "working")] == asked.sql("SELECT reference, status FROM order_intent")
    assert [("decided",)] == asked.sql("SELECT status FROM sessions")


def test_an_entry_is_declined_by_two(asked: Person):
    typed = asked.at("2024-11-05", 50).types("approve --no --json")
    again = asked.types("approve --json")

    assert (0, ["declined: nothing is bought in the session 2024-11-05"]) == (
        typed.exit_code, typed.document["words"],
    )  # fmt: skip
    assert (2, True) == (again.exit_code, "declined by" in again.error["message"])
    assert [] == asked.sql("SELECT * FROM order_intent")


def test_an_entry_nobody_answers_lapses_and_the_day_settles(asked: Person):
    done = cron(asked, "2024-11-05", 59, 20, 16, 15, 14, 0, -20, -21)

    assert ["15 decide", "-20 settle"] == done
    assert [("decided", 1)] == asked.sql("SELECT status, settled FROM sessions")
    assert 2 == len(asked.sql("SELECT * FROM notice WHERE event = 'approval'"))


def test_status_says_what_waits_and_the_lines_to_type(asked: Person):
    before = asked.types("status").out
    asked.at("2024-11-05", 50).types("approve --why fine")
    after = asked.types("status").out

    assert "until 2024-11-05 15:45 New York: `mtum-eod approve` or `mtum-eod approve --no`" in before
    assert "awaiting" not in after
    assert "by hand       approve by " in after
    assert "2024-11-05 15:10 New York: BUY " in after
    assert after.count(": fine") + after.count(". fine") == 1


def test_an_answer_without_a_question_is_refused_in_words(person: Person):
    typed = person.at("2024-11-05", 100).types("approve --json")

    assert (2, "nothing waits for approval: 2024-11-05 is not decided yet") == (
        typed.exit_code, typed.error["message"],
    )  # fmt: skip


# -- cancel -----------------------------------------------------------------------------------------------------------


def test_an_order_is_withdrawn_by_one_word(person: Person):
    person.at("2024-11-05", 20).types("run")
    typed = person.at("2024-11-05", 16).types("cancel")
    person.at("2024-11-06", 200).types("settle")

    assert (0, f"withdrawn: {BUY_KEY}\n") == (typed.exit_code, typed.out)
    assert ([("cancelled",)], []) == (
        person.sql("SELECT status FROM order_intent"), person.sql("SELECT * FROM position"),
    )  # fmt: skip


def test_too_late_to_withdraw_needs_a_person(person: Person):
    person.at("2024-11-05", 20).types("run")
    typed = person.at("2024-11-05", 15).types("cancel --json")

    assert (5, [f"too late to withdraw {BUY_KEY}: past the hard stop"], "working") == (
        typed.exit_code, typed.document["words"], typed.document["order"]["status"],
    )  # fmt: skip


def test_who_typed_is_on_record_with_machine_and_origin(person: Person, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SSH_CONNECTION", "203.0.113.7 50022 192.0.2.1 22")
    person.at("2024-11-05", 30).types("cancel --why 'news at noon'")
    person.types("halt --why away")
    person.types("resume")
    [(by, why), resumed] = person.sql("SELECT acted_by, words FROM owner_act")

    assert (f"@{os.uname().nodename} from 203.0.113.7", "news at noon") == (by[by.index("@") :], why)
    assert (by, "") == resumed
    assert [(by, by)] == person.sql("SELECT halted_by, lifted_by FROM halt")


# -- while a run hangs ------------------------------------------------------------------------------------------------


@pytest.fixture
def hanging(person: Person) -> Iterator[Person]:
    """A person whose database another process holds: a run that hangs."""
    person.at("2024-11-05", 20).types("run")
    code = (
        "import sys; from pathlib import Path; from mtum_eod.adapters.lock import DatabaseLock;"
        "from mtum_eod.adapters.clock import SystemClock;"
        "lock = DatabaseLock(Path(sys.argv[1]), SystemClock()).hold(); lock.__enter__();"
        "print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(person.database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        yield person
        holder.communicate("")


@pytest.mark.parametrize("command", ["cancel", "halt --why fire --cancel"])
def test_an_order_is_withdrawn_while_a_run_hangs(hanging: Person, command: str):
    """The embedded broker's line is not shared: nothing is waited for."""
    typed = hanging.at("2024-11-05", 16).types(command)

    assert (0, True) == (typed.exit_code, f"withdrawn: {BUY_KEY}" in typed.out)


@pytest.mark.parametrize("command", ["approve", "approve --no", "flatten --yes"])
def test_what_decides_or_sells_waits_for_the_run_and_says_so(hanging: Person, command: str):
    typed = hanging.at("2024-11-05", 16).types(command)

    assert 6 == typed.exit_code
    assert typed.err.startswith("waiting up to 90 s: another run holds the lock")


def test_a_real_brokers_line_is_waited_for(hanging: Person):
    """IB lets a client id in once; in paper mode the lock is what says that it is free."""
    hanging.environment |= {"MTUM_EOD_MODE": "paper", "MTUM_EOD_DATA__SOURCE": "ib"}
    place = _workplace(hanging, MTUM_EOD_DATABASE__URL=str(hanging.database))
    said: list[str] = []
    with pytest.raises(Exception, match="another run holds the lock"), place.turn(said.append):
        pass

    assert 1 == len(said)


def _workplace(person: Person, **environment: str) -> bootstrap.Workplace:
    return bootstrap.workplace(settings.load(None, person.environment | environment))


# -- flatten ----------------------------------------------------------------------------------------------------------


def test_everything_is_sold_and_the_trade_says_why(long: Person):
    typed = long.types("flatten --yes --why 'the money is needed'")
    shown = long.types("run").out
    later = long.at("2024-11-06", 20).types("run --json").document
    long.at("2024-11-06", -20).types("settle")

    assert (0, True) == (typed.exit_code, typed.out.startswith("SELL "))
    assert ("already_decided", SELL_KEY) == (later["blocked_by"], later["order"]["key"])
    assert "  HOLD, by hand SELL 23 MTUM market-on-close, working  blocked by already_decided\n  Flattened by " in shown
    assert ([("flatten",)], []) == (long.sql("SELECT exit_reason FROM trades"), long.sql("SELECT * FROM position"))


def test_without_a_terminal_flatten_wants_a_yes(long: Person):
    typed = long.types("flatten --json")

    assert (2, True) == (typed.exit_code, "`flatten --yes`" in typed.error["message"])
    assert 1 == len(long.sql("SELECT * FROM order_intent"))


@pytest.mark.parametrize(("answer", "orders"), [("y\n", 2), ("n\n", 1)])
def test_at_a_terminal_flatten_asks_back(long: Person, monkeypatch: pytest.MonkeyPatch, answer: str, orders: int):
    monkeypatch.setattr(cli, "_is_terminal", lambda: True)
    typed = long.types("flatten", answer)

    assert (0, True) == (typed.exit_code, "with a market-on-close order of the session 2024-11-06?" in typed.err)
    assert orders == len(long.sql("SELECT * FROM order_intent"))


def test_flatten_on_a_holiday_asks_nothing(long: Person):
    long.clock.set(calendar().close(date(2024, 11, 29)))
    long.clock.set(long.clock.now().replace(day=28))
    typed = long.types("flatten --json")

    assert (2, "Thursday 2024-11-28 is no session, so there is nothing to act on") == (
        typed.exit_code, typed.error["message"],
    )  # fmt: skip


# -- real money -------------------------------------------------------------------------------------------------------


@pytest.fixture
def live(tmp_path: Path) -> Callable[..., TradingDesk]:
    """A desk with real money behind it: 5,000 USD in account U7654321."""
    bench = Bench(tmp_path / "live.db")
    book = replace(BOOK, mode=Mode.LIVE, account="U7654321")
    bench.broker.account = "U7654321"
    bench.at(date(2024, 11, 5), 20)
    return lambda capital=5000.0: replace(bench.desk, book=replace(book, capital_usd=capital))


def test_real_money_is_not_traded_before_the_owner_said_so(live: Callable[..., TradingDesk]):
    desk = live()
    with pytest.raises(SettingsError, match=r"nobody has agreed yet to trade account U7654321 with 5000\.00 USD") as no:
        decide_step(desk, date(2024, 11, 5))

    assert "type `mtum-eod run` at a terminal once: it asks for the account and the amount" == no.value.hint
    assert ([], []) == (desk.broker.received, desk.store.ledger())


def test_once_agreed_it_is_traded_and_nobody_is_asked_again(live: Callable[..., TradingDesk]):
    desk = live()
    consent.give(desk, account="U7654321", amount_usd=5000.0, by="owner")
    outcome = decide_step(desk, date(2024, 11, 5))

    assert ("working", False) == (outcome.document["order"]["status"], consent.is_needed(desk))
    assert ["account U7654321 with 5000.00 USD"] == [act.words for act in desk.store.acts()]


def test_the_preflight_tells_hours_before_that_nobody_agreed(live: Callable[..., TradingDesk]):
    desk = live()
    [before] = [check for check in preflight.checks(desk, date(2024, 11, 5)) if check.name == "real money"]
    consent.give(desk, account="U7654321", amount_usd=5000.0, by="owner")
    [after] = [check for check in preflight.checks(desk, date(2024, 11, 5)) if check.name == "real money"]

    assert ((False, 2), (True, "agreed to trade account U7654321 with 5000.00 USD")) == (
        (before.passed, before.exit_code), (after.passed, after.words),
    )  # fmt: skip


def test_another_amount_is_agreed_to_anew(live: Callable[..., TradingDesk]):
    consent.give(live(), account="U7654321", amount_usd=5000.0, by="owner")

    assert consent.is_needed(live(9000.0))


@pytest.mark.parametrize(("account", "amount"), [("U7654320", 5000.0), ("U7654321", 500.0)])
def test_what_is_typed_must_be_what_the_settings_say(live: Callable[..., TradingDesk], account: str, amount: float):
    with pytest.raises(SettingsError, match="nothing is traded"):
        consent.give(live(), account=account, amount_usd=amount, by="owner")

    assert consent.is_needed(live())


@pytest.fixture
def live_person(person: Person) -> Person:
    person.environment |= {
        "MTUM_EOD_MODE": "live",
        "MTUM_EOD_DATA__SOURCE": "ib",
        "MTUM_EOD_IB__LIVE_ACCOUNT": "U7654321",
        "MTUM_EOD_IB__LIVE_PORT": "1",
        "MTUM_EOD_IB__MAX_RETRIES": "0",
    }
    return person.at("2024-11-05", 20)


def test_a_first_live_run_without_a_terminal_says_what_to_type(live_person: Person):
    typed = live_person.types("run --json")

    assert (2, True) == (typed.exit_code, "nobody has agreed yet" in typed.error["message"])


def test_a_first_live_run_at_a_terminal_asks_for_account_and_amount(
    live_person: Person, monkeypatch: pytest.MonkeyPatch
):
    """Agreed, it goes on to the broker, which is not there."""
    monkeypatch.setattr(cli, "_is_terminal", lambda: True)
    typed = live_person.types("run --json", "U7654321\n5000\n")

    assert ["account U7654321 with 5000.00 USD"] == [act.words for act in _workplace(live_person).reader().acts()]
    assert (4, True) == (typed.exit_code, "will spend real money" in typed.err)


def test_paper_and_simulated_runs_never_ask(person: Person):
    assert not consent.is_needed(_workplace(person).desk())


def test_a_real_terminal_is_told_from_a_pipe(tmp_path: Path):
    """The question of flatten on a terminal of its own; `n` and nothing is sold."""
    main, terminal = pty.openpty()
    code = "from mtum_eod.cli import _is_terminal; print(_is_terminal())"
    at_pty = subprocess.run(
        [sys.executable, "-c", code], stdin=terminal, capture_output=True, text=True, cwd=tmp_path, check=True
    )
    at_pipe = subprocess.run(
        [sys.executable, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=tmp_path, check=True
    )
    os.close(main)
    os.close(terminal)

    assert ("True\n", "False\n") == (at_pty.stdout, at_pipe.stdout)
