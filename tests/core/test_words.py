"""A decision in words, with its numbers: the exact sentences, and none that a missing number could spoil."""

from dataclasses import replace
from datetime import date
from math import nan

import pytest
from evidence_by_hand import FUNDS_FLAT, FUNDS_LONG, HALT, HELD, HOLE, NUMBERS, flat, long, numbers, parameters
from hypothesis import given
from hypothesis import strategies as st

from mtum_eod.core import words
from mtum_eod.core.decision import decide
from mtum_eod.core.evidence import Evidence, PendingExit, Window
from mtum_eod.core.market import FindingKind
from mtum_eod.core.parameters import LateExit, Parameters, StrategyParameters
from mtum_eod.core.strategy import EntryRule

DEFAULTS = Parameters()

# Bought at 245.80 with an ATR of 4.00: the target is 261.80.
TO_261_80 = replace(HELD, entry_price=245.8, entry_atr=4.0)


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        (long(numbers(close=204.1, ma_50=205.32)), "Trend breakdown (204.10 < MA50 205.32)"),
        (long(numbers(vix=31.2)), "VIX spike (31.2 > 30)"),
        (long(numbers(rsi=28.4)), "RSI collapse (28.4 < 30)"),
        (long(numbers(close=262.1), position=TO_261_80), "ATR 4x profit taking (262.10 >= 261.80)"),
        (
            long(numbers(close=189.0, vix=31.2, rsi=28.4)),
            "Trend breakdown (189.00 < MA50 190.00); VIX spike (31.2 > 30); RSI collapse (28.4 < 30)",
        ),
    ],
)
def test_each_exit_reason_reads_as_documented(evidence, expected):
    """SPEC section 1 prints the four; several are told in order."""
    assert expected == decide(evidence, DEFAULTS).reason


PENDING = PendingExit(since=date(2024, 11, 4), words="VIX spike (31.2 > 30)")


@pytest.mark.parametrize(
    ("evidence", "settings", "expected"),
    [
        (
            long(numbers(close=175.0, ma_50=170.0)),
            {"stop_loss_enabled": True},
            "Stop loss (175.00 <= 175.50)",
        ),
        (
            long(numbers(close=180.0, ma_50=170.0), funds=replace(FUNDS_LONG, last_final_equity=5300.0)),
            {"daily_loss_exit": True},
            "Daily loss (603.90 USD >= 500)",
        ),
        (long(pending_exit=PENDING), {}, "Exit pending since 2024-11-04 (VIX spike (31.2 > 30))"),
        (
            long(numbers(close=203.0, rsi=34.5)),
            {"atr_multiplier": 2.0, "rsi_exit_threshold": 35.5},
            "RSI collapse (34.5 < 35.5); ATR 2x profit taking (203.00 >= 203.00)",
        ),
        (long(numbers(close=189.0)), {"ma_period": 40}, "Trend breakdown (189.00 < MA40 190.00)"),
    ],
)
def test_the_other_exit_reasons_and_the_owners_thresholds(evidence, settings, expected):
    assert expected == decide(evidence, parameters(**settings)).reason


def test_an_entry_tells_all_four_rules():
    assert (
        "Entry: close 200.00 > MA50 190.00, VIX 18.0 < 25, RSI 60.0 > 50, volume 1,200,000 > 1,000,000"
        == decide(flat(), DEFAULTS).reason
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"close": 189.0}, "No entry: close 189.00 not above MA50 190.00"),
        ({"vix": 25.0}, "No entry: VIX 25.0 not below 25"),
        ({"rsi": 41.26}, "No entry: RSI 41.3 not above 50"),
        ({"volume": 9.5e5}, "No entry: volume 950,000 not above average 1,000,000"),
        ({"volume_ma_20": nan}, "No entry: volume unknown"),
        ({"close": nan, "vix": nan}, "No entry: close unknown, VIX unknown"),
        ({"rsi": nan, "vix": 26.0}, "No entry: VIX 26.0 not below 25, RSI unknown"),
    ],
)
def test_no_entry_tells_the_rules_that_do_not_hold(changes, expected):
    """Those that hold are not in the way."""
    assert expected == decide(flat(numbers(**changes)), DEFAULTS).reason


@pytest.mark.parametrize(
    ("evidence", "settings", "expected"),
    [
        (flat(halt=HALT), {}, "Blocked: halted: on holiday"),
        (flat(funds=replace(FUNDS_FLAT, cash=150.0)), {},
         "Blocked: 150.00 USD in cash, one share needs 202.20; convert first"),
        (flat(funds=replace(FUNDS_FLAT, cash=nan, cash_unknown="silence")), {},
         "Blocked: the broker did not say how much USD there is (silence), one share needs 202.20"),
        (flat(), {"max_position_size": 150.0}, "Blocked: the position may be 150.00 USD, one share needs 202.20"),
        (flat(), {"max_position_pct": 2.0}, "Blocked: the position may be 100.00 USD, one share needs 202.20"),
        (flat(numbers(previous_close=160.0)), {},
         "Blocked: close moved 25.0 % since the last one, more than 15 %"),
        (flat(daily_loss_latched=True), {}, "Blocked: daily loss limit reached; `mtum-eod resume` lifts it"),
        (flat(), {"require_confirmation": True}, "Blocked: waiting for the owner's approval"),
    ],
)  # fmt: skip
def test_what_blocked_an_entry_follows_its_reason(evidence, settings, expected):
    """First what the rules say, then why nothing was sent."""
    entry = "Entry: close 200.00 > MA50 190.00, VIX 18.0 < 25, RSI 60.0 > 50, volume 1,200,000 > 1,000,000"

    assert f"{entry}. {expected}" == decide(evidence, parameters(**settings)).reason


def test_what_blocked_an_exit_follows_its_reason():
    evidence = long(numbers(vix=31.2), window=Window.LATE)

    assert (
        "VIX spike (31.2 > 30). Blocked: past the hard stop for market-on-close orders"
        == decide(evidence, parameters(late_exit=LateExit.SKIP)).reason
    )


STALE = replace(HOLE, kind=FindingKind.STALE_PRICE, words="MTUM: last known 6 min ago, 5 allowed")


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        (long(numbers(vix=nan, rsi=nan)), "Position unattended: cannot judge vix, rsi"),
        (long(findings=(STALE, HOLE)), "Position unattended: MTUM 2024-10-09: no bar inside the window"),
        (long(), "No exit: 5.3 % above MA50, 5.2 % below target, VIX 18.0"),  # 200 against 190 and 211
        (long(findings=(STALE,)), "No exit: 5.3 % above MA50, 5.2 % below target, VIX 18.0"),
    ],
)
def test_holding_on_tells_the_distances_or_what_cannot_be_judged(evidence, expected):
    assert expected == decide(evidence, DEFAULTS).reason


@pytest.mark.parametrize(
    ("indicators", "position", "expected"),
    [
        # 195.84 x 1.031 = 201.91; a target of 210.76 x 0.958 = 201.91: the line SPEC section 6 shows
        (numbers(close=201.91, ma_50=195.84, vix=17.9), replace(HELD, entry_price=194.76),
         "3.1 % above MA50, 4.2 % below target, VIX 17.9"),
        (numbers(close=180.5, vix=22.0), None, "5.0 % below MA50, VIX 22.0"),
        (numbers(close=190.0), None, "0.0 % above MA50, VIX 18.0"),
        (numbers(close=220.0), HELD, "15.8 % above MA50, 4.3 % above target, VIX 18.0"),
        (numbers(close=nan), HELD, "VIX 18.0"),
        (numbers(ma_50=nan), HELD, "5.2 % below target, VIX 18.0"),
        (NUMBERS, replace(HELD, entry_atr=nan), "5.3 % above MA50, VIX 18.0"),
        (numbers(vix=nan), None, "5.3 % above MA50, VIX unknown"),
    ],
)  # fmt: skip
def test_the_distances_of_the_daily_line(indicators, position, expected):
    """What is missing is left out, but for the VIX, which is missed."""
    assert expected == words.distances(indicators, position, StrategyParameters())


ODD = st.sampled_from([nan, 0.01, 100.0, 250.0])


@st.composite
def patchy_evidence(draw: st.DrawFn) -> Evidence:
    """Any of the numbers missing."""
    names = ("close", "ma_50", "rsi", "atr", "volume", "volume_ma_20", "vix", "previous_close")
    indicators = numbers(**{name: draw(ODD) for name in names})
    position = replace(HELD, entry_price=draw(st.sampled_from([50.0, 200.0])), entry_atr=draw(ODD))
    funds = replace(FUNDS_FLAT, cash=draw(ODD), settled_cash=draw(ODD), last_final_equity=draw(ODD))
    pending = draw(st.sampled_from([None, PENDING]))
    held = draw(st.sampled_from([None, position]))
    return flat(
        indicators, position=held, funds=funds, pending_exit=pending, broker_shares=draw(st.sampled_from([None, 20]))
    )


@given(patchy_evidence(), st.booleans())
def test_no_sentence_says_nan(evidence, enabled):
    """The reason and the daily line, whatever is missing."""
    p = parameters(stop_loss_enabled=enabled, daily_loss_exit=enabled)
    said = f"{decide(evidence, p).reason} {words.distances(evidence.indicators, evidence.position, p.strategy)}"

    assert "nan" not in said.lower()


@pytest.mark.parametrize(("vix", "said"), [(25.03, "VIX 25.03 not below 25"), (25.0, "VIX 25.0 not below 25")])
def test_a_value_is_told_apart_from_its_threshold(vix: float, said: str):
    """25.03 rounded to one digit would read 'VIX 25.0 not below 25', as an exact 25 does."""
    rules = dict.fromkeys(EntryRule, True) | {EntryRule.VIX_STABLE: False}

    assert f"No entry: {said}" == words.no_entry(numbers(vix=vix), rules, StrategyParameters())


@pytest.mark.parametrize(
    ("number", "noun", "said"),
    [
        (1, ("session",), "1 session"),
        (0, ("session",), "0 sessions"),
        (1204, ("session",), "1,204 sessions"),
        (1.0, ("share",), "1 share"),
        (20.5, ("share",), "20.5 shares"),
        (1, ("retry", "retries"), "1 retry"),
        (2, ("retry", "retries"), "2 retries"),
    ],
)
def test_a_number_and_its_noun_agree(number: float, noun: tuple[str, ...], said: str):
    assert said == words.counted(number, *noun)
