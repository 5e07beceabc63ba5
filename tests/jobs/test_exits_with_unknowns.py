"""A long position on a bad day: which exits still happen, which wait, and who is told.

33 shares were bought on 2024-11-05 at 145.00. The ATR that day was (13 x 2 + 3) / 14 = 2.0714, so profit is taken from
145 + 4 x 2.0714 = 153.29 on. On 2024-11-06 the mean of 50 closes is near 144.2.
"""

import sqlite3
import sys
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from shutil import copyfile

import pandas as pd
import pytest
from fakes import KEY, SESSION, ArrayData, Bench, ScriptedBroker, calendar

from mtum_eod.core.market import VIX
from mtum_eod.core.parameters import Parameters, RiskParameters, StrategyParameters, VolumeChoice
from mtum_eod.jobs.replay import replay_recorded

DAY = date(2024, 11, 6)
BELOW_MA, BETWEEN, ABOVE_TARGET = 142.0, 146.2, 154.0
MINUTES = timedelta(minutes=1)


@pytest.fixture(scope="module")
def bought(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A book with the position, closed."""
    bench = Bench(tmp_path_factory.mktemp("bought") / "book.db")
    bench.buy(SESSION, price=145.0)
    bench.store.close()
    return bench.path


@pytest.fixture
def bench(bought: Path, tmp_path: Path) -> Bench:
    copyfile(bought, tmp_path / "book.db")
    return Bench(tmp_path / "book.db", broker=ScriptedBroker(shares=33))


# -- what can be missing ----------------------------------------------------------------------------------------------


def all_there(data: ArrayData) -> None:
    pass


def vix_missing(data: ArrayData) -> None:
    data.drop(VIX, DAY)


def vix_not_a_number(data: ArrayData) -> None:
    data.edit(VIX, DAY, close=float("nan"))


def vix_not_set(data: ArrayData) -> None:
    """1.797e308: how Interactive Brokers writes a number it does not have."""
    data.edit(VIX, DAY, **dict.fromkeys(("open", "high", "low", "close"), sys.float_info.max))


def vix_high(data: ArrayData) -> None:
    data.edit(VIX, DAY, close=31.0)


def vix_old(data: ArrayData) -> None:
    data.ages[VIX] = 31 * MINUTES


def history_short(data: ArrayData) -> None:
    data.begin("MTUM", calendar().window(DAY, 299)[0])


def history_short_vix_high(data: ArrayData) -> None:
    history_short(data)
    vix_high(data)


def a_session_missing(data: ArrayData) -> None:
    data.drop("MTUM", date(2024, 6, 3))


def volume_absent(data: ArrayData) -> None:
    data.volumes = {}


def volume_zero(data: ArrayData) -> None:
    data.edit("MTUM", DAY, volume=0.0)


def bar_missing(data: ArrayData) -> None:
    data.drop("MTUM", DAY)


def bar_missing_vix_high(data: ArrayData) -> None:
    bar_missing(data)
    vix_high(data)


def close_zero(data: ArrayData) -> None:
    data.edit("MTUM", DAY, close=0.0)


def high_below_low(data: ArrayData) -> None:
    data.edit("MTUM", DAY, high=100.0, low=200.0)


def two_rows_that_differ(data: ArrayData) -> None:
    frame = data.frames["MTUM"]
    again = frame.loc[[pd.Timestamp(DAY)]] + 1.0
    data.frames["MTUM"] = pd.concat([frame, again]).sort_index(kind="stable")


def price_aging(data: ArrayData) -> None:
    data.ages["MTUM"] = 20 * MINUTES


def price_too_old(data: ArrayData) -> None:
    data.ages["MTUM"] = 31 * MINUTES


def price_too_old_vix_high(data: ArrayData) -> None:
    price_too_old(data)
    vix_high(data)


# For each input, at a close below the mean, between mean and target, above the target:
# the rules that sell; `keep` where none is true; `wait` where none is true and one unknown;
# `stuck` where a rule sells, but no price can be trusted.
TABLE: list[tuple[Callable[[ArrayData], None], str, str, str]] = [
    (all_there, "trend", "keep", "atr_profit"),
    (vix_missing, "trend", "wait", "atr_profit"),
    (vix_not_a_number, "trend", "wait", "atr_profit"),
    (vix_not_set, "trend", "wait", "atr_profit"),
    (vix_high, "trend vix", "vix", "vix atr_profit"),
    (vix_old, "trend", "keep", "atr_profit"),
    (history_short, "wait", "wait", "atr_profit"),
    (history_short_vix_high, "vix", "vix", "vix atr_profit"),
    (a_session_missing, "wait", "wait", "atr_profit"),
    (volume_absent, "trend", "keep", "atr_profit"),
    (volume_zero, "trend", "keep", "atr_profit"),
    (bar_missing, "wait", "wait", "wait"),
    (bar_missing_vix_high, "stuck", "stuck", "stuck"),
    (close_zero, "wait", "wait", "wait"),
    (high_below_low, "wait", "wait", "wait"),
    (two_rows_that_differ, "wait", "wait", "wait"),
    (price_aging, "trend", "keep", "atr_profit"),
    (price_too_old, "wait", "wait", "wait"),
    (price_too_old_vix_high, "stuck", "stuck", "stuck"),
]
CASES = [
    pytest.param(spoil, close, expected, id=f"{spoil.__name__}-{close:g}")
    for spoil, *row in TABLE
    for close, expected in zip((BELOW_MA, BETWEEN, ABOVE_TARGET), row, strict=True)
]


@pytest.mark.parametrize(("spoil", "close", "expected"), CASES)
def test_one_true_rule_sells_whatever_else_is_missing_and_else_the_owner_is_told(
    bench: Bench, spoil: Callable[[ArrayData], None], close: float, expected: str
):
    bench.data.edit("MTUM", DAY, close=close)
    spoil(bench.data)
    outcome = bench.decide(DAY)
    document, sent = outcome.document, [(intent.side, intent.shares) for intent in bench.broker.received]
    said = (document["action"], document["blocked_by"], outcome.exit_code, sent)
    urgent = [told for _, told in bench.notices("position_unattended")]

    match expected:
        case "keep":
            assert (("HOLD", None, 0, []), []) == (said, urgent)
        case "wait":
            assert (("HOLD", "data", 3, []), [1]) == (said, urgent)
        case "stuck":
            assert (("SELL", "data", 3, []), ["vix"], [1]) == (said, document["exit_reasons"], urgent)
        case rules:
            assert (("SELL", None, 0, [("SELL", 33)]), []) == (said, urgent)
            assert rules.split() == document["exit_reasons"]


def test_a_volume_without_end_in_the_last_twenty_keeps_no_exit_back(bench: Bench):
    """Its mean would be infinite too, which the book cannot keep: for twenty sessions no decision could be recorded."""
    bench.parameters = Parameters(strategy=StrategyParameters(volume_basis=VolumeChoice.SESSION))
    bench.data.edit("MTUM", SESSION, volume=float("inf"))
    bench.data.edit("MTUM", DAY, close=BELOW_MA)
    document = bench.decide(DAY).document

    assert ("SELL", 33, None, None) == tuple(document[key] for key in ("action", "shares", "volume", "volume_ma_20"))
    assert "MTUM 2024-11-05: volume missing" in document["warnings"]


@pytest.mark.parametrize(
    ("spoil", "named"), [(vix_missing, "cannot judge vix"), (history_short, "cannot judge trend, rsi")]
)
def test_the_owner_reads_what_is_held_what_cannot_be_judged_and_why(
    bench: Bench, spoil: Callable[[ArrayData], None], named: str
):
    spoil(bench.data)
    bench.decide(DAY)
    [(words, _)] = bench.notices("position_unattended")

    assert f"MTUM 2024-11-06: Position unattended: {named}. " in words
    assert ("VIX 2024-11-06: no bar" if spoil is vix_missing else "299 sessions") in words


def test_a_wait_is_a_skipped_session_that_is_tried_again(bench: Bench):
    """The VIX is missing at 15:40 and there at 15:42, at 31: the position is sold."""
    vix = bench.data.frames[VIX].copy()
    vix_missing(bench.data)
    bench.decide(DAY)
    waiting = bench.sql("SELECT status FROM sessions WHERE session = '2024-11-06'")
    bench.data.frames[VIX] = vix
    vix_high(bench.data)
    outcome = bench.decide(DAY, before_close=18)

    assert ([("skipped",)], "SELL", ["vix"]) == (waiting, outcome.document["action"], outcome.document["exit_reasons"])
    assert [f"{KEY}/2024-11-06/SELL"] == [intent.reference for intent in bench.broker.received]


def test_an_exit_stuck_for_want_of_a_price_goes_out_once_there_is_one(bench: Bench):
    """The VIX jumps while MTUM's price hangs for half an hour; a minute later the price is back."""
    price_too_old_vix_high(bench.data)
    bench.decide(DAY)
    bench.data.ages.clear()
    outcome = bench.decide(DAY, before_close=19)

    assert ("SELL", 33) == (outcome.document["action"], outcome.document["shares"])
    assert 1 == len(bench.broker.received)


def test_an_exit_stuck_to_the_end_is_due_the_next_session(bench: Bench):
    """Next day the VIX is calm again and nothing else would sell; the exit was decided all the same."""
    price_too_old_vix_high(bench.data)
    bench.decide(DAY)
    bench.data.ages.clear()
    outcome = bench.decide(date(2024, 11, 7))

    assert ["exit_pending"] == outcome.document["exit_reasons"]
    assert 33 == outcome.document["shares"]


def test_a_decision_on_a_price_too_old_replays_as_it_was_made(bench: Bench):
    price_too_old_vix_high(bench.data)
    bench.decide(DAY)
    recorded = bench.store.signal(DAY)
    assert recorded is not None
    again = replay_recorded(recorded, bench.store, calendar(), bench.desk.book).document
    keys = ("close", "action", "shares", "blocked_by", "exit_reasons", "reason")

    assert {key: recorded.document[key] for key in keys} == {key: again[key] for key in keys}


@pytest.mark.parametrize(("before_close", "sold"), [(47, 33), (48, 0)])
def test_an_exit_goes_out_on_stored_prices_of_half_an_hour_and_replays_so(bench: Bench, before_close: float, sold: int):
    """The broker did not tell its position, so exit and bars were kept; at close - 17 no source answers."""
    bench.parameters = Parameters(risk=RiskParameters(require_confirmation=True))
    vix_high(bench.data)
    bench.broker.silent = {"shares_held"}
    bench.decide(DAY, before_close)
    bench.broker.silent.clear()
    bench.data.down = {"MTUM", VIX}
    outcome = bench.decide(DAY, before_close=17)
    recorded = bench.store.signal(DAY)
    assert recorded is not None
    again = replay_recorded(recorded, bench.store, calendar(), bench.desk.book)
    keys = ("close", "action", "blocked_by", "exit_reasons", "reason", "warnings")

    assert ("SELL", sold) == (outcome.document["action"], sum(intent.shares for intent in bench.broker.received))
    assert any(f"MTUM: last known {before_close - 17} min ago" in warning for warning in outcome.document["warnings"])
    assert {key: outcome.document[key] for key in keys} == {key: again.document[key] for key in keys}


def test_the_owner_is_told_once_however_often_the_wait_is_repeated(bench: Bench):
    """Cron tries again every minute; twenty urgent messages of one thing would be switched off."""
    vix_missing(bench.data)
    for before_close in range(20, 15, -1):
        bench.decide(DAY, before_close)

    assert 1 == len(bench.notices("position_unattended"))


def test_an_unknown_atr_at_entry_leaves_the_other_rules_to_sell(bench: Bench):
    """The entry's own record is gone: no target, so the position is unattended until another rule is true."""
    bench.store.close()
    with sqlite3.connect(bench.path) as db:
        db.execute("UPDATE signal SET document = json_set(document, '$.atr', NULL)")
    db.close()
    bench = Bench(bench.path, broker=ScriptedBroker(shares=33))
    waiting = bench.decide(DAY)
    vix_high(bench.data)
    sold = bench.decide(DAY, before_close=19)

    assert ("HOLD", "data", 3) == (waiting.document["action"], waiting.document["blocked_by"], waiting.exit_code)
    assert ("SELL", 33) == (sold.document["action"], sold.document["shares"])


# -- due, and held up -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before_close", [1.5, -30])
def test_an_exit_that_comes_too_late_is_told_at_once(bench: Bench, before_close: float):
    """The machine comes back after the last minute a sale could go out; the summary alone may be switched off."""
    vix_high(bench.data)
    late = bench.decide(DAY, before_close).document
    bench.decide(DAY, before_close - 1)
    told = [urgent for words, urgent in bench.notices("position_unattended") if "blocked by outside_window" in words]

    assert ("SELL", "outside_window", [1]) == (late["action"], late["blocked_by"], told)


# -- what comes up while the session waits ----------------------------------------------------------------------------


@pytest.fixture
def waiting(bench: Bench) -> Bench:
    """At the decision time no VIX: nothing can be decided, and the same words say so every minute."""
    bench.parameters = Parameters(risk=RiskParameters(max_daily_loss=60.0))
    bench.data.drop(VIX, DAY)
    bench.data.edit("MTUM", DAY, close=147.0)
    bench.decide(DAY)
    return bench


def test_a_loss_that_comes_up_while_the_session_waits_is_latched_and_told_once(waiting: Bench):
    waiting.data.edit("MTUM", DAY, close=144.5)
    for before_close in (19, 18):
        waiting.decide(DAY, before_close)

    assert [True] == [halt.is_daily_loss for halt in waiting.store.halts()]
    assert 1 == len(waiting.notices("daily_loss"))
    assert 1 == len(waiting.notices("position_unattended"))


def test_a_mismatch_that_comes_up_while_the_session_waits_is_told_once(waiting: Bench):
    waiting.broker.shares = 20
    for before_close in (19, 18):
        waiting.decide(DAY, before_close)

    assert [("the book holds 33 shares, the broker 20", 1)] == waiting.notices("mismatch")
