"""The rules on plain numbers: tables with expected rules, the strictness of each threshold, and what is unknown."""

from math import inf, isnan, nan, nextafter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtum_eod.core.indicators import sma
from mtum_eod.core.parameters import StrategyParameters
from mtum_eod.core.strategy import (
    EntryRule,
    ExitReason,
    entry_rules_fired,
    exit_rules_fired,
    exit_rules_unknown,
    stop_price,
    target_price,
)

DEFAULTS = StrategyParameters()
WITH_STOP = StrategyParameters(stop_loss_enabled=True)

TREND, VIX, RSI, VOLUME = EntryRule


def a_hair_above(number: float) -> float:
    return nextafter(number, inf)


def a_hair_below(number: float) -> float:
    return nextafter(number, -inf)


# -- entry ------------------------------------------------------------------------------------------------------------

ENTRY = {"close": 200.0, "ma": 190.0, "rsi": 60.0, "volume": 1.2e6, "volume_ma": 1e6, "vix": 18.0}


@pytest.mark.parametrize(
    ("changes", "missing_rule"),
    [
        ({}, None),
        ({"close": 189.0}, TREND),
        ({"close": 190.0}, TREND),
        ({"close": a_hair_above(190.0)}, TREND),  # the noise of a mean
        ({"close": 190.000001}, None),
        ({"vix": 26.0}, VIX),
        ({"vix": 25.0}, VIX),  # VIX has closed at exactly 25.00
        ({"vix": a_hair_below(25.0)}, None),
        ({"rsi": 40.0}, RSI),
        ({"rsi": 50.0}, RSI),
        ({"rsi": a_hair_above(50.0)}, None),
        ({"volume": 9e5}, VOLUME),
        ({"volume": 1e6}, VOLUME),
        ({"volume": a_hair_above(1e6)}, VOLUME),
        ({"volume": 1_000_001.0}, None),
        ({"close": nan}, TREND),
        ({"ma": nan}, TREND),
        ({"vix": nan}, VIX),
        ({"rsi": nan}, RSI),
        ({"volume": nan}, VOLUME),
        ({"volume_ma": nan}, VOLUME),
    ],
)
def test_an_entry_rule_holds_strictly_beyond_its_threshold(changes, missing_rule):
    """Each row: what differs from a day on which all four hold, and the one that then does not."""
    expected = tuple(rule for rule in EntryRule if rule is not missing_rule)

    assert expected == entry_rules_fired(**(ENTRY | changes), p=DEFAULTS)


def test_no_entry_rule_holds_on_a_day_against_all_of_them():
    """Below the average, nervous, falling, quiet."""
    assert () == entry_rules_fired(180.0, 190.0, 45.0, 9e5, 1e6, 27.0, DEFAULTS)


@pytest.mark.parametrize(
    ("setting", "value", "rule"),
    [("vix_entry_threshold", 18.0, VIX), ("rsi_entry_threshold", 60.0, RSI)],
)
def test_entry_thresholds_are_the_owners(setting, value, rule):
    """The threshold moved onto the day's own number: strict means it no longer holds."""
    p = StrategyParameters(**{setting: value})

    assert rule not in entry_rules_fired(**ENTRY, p=p)


def test_a_close_that_is_its_mean_to_the_cent_is_neither_above_nor_below_it():
    """However long the window that TA-Lib's mean has run over; the cents are added up as whole numbers here."""
    cents = 10_000 + np.random.RandomState(1).randint(-30, 31, 40_000)
    close = cents / 100
    ties = [day for day in range(500, 40_000) if 5 * cents[day] == cents[day - 4 : day + 1].sum()]
    means = [(sma(close[: day + 1], 5)[-1], sma(close[day - 399 : day + 1], 5)[-1]) for day in ties[:100]]
    fired = [
        (TREND in entry_rules_fired(close[day], ma, 60.0, 2.0, 1.0, 18.0, DEFAULTS))
        or ExitReason.TREND in exit_rules_fired(close[day], ma, 60.0, 18.0, 200.0, 9.0, DEFAULTS)
        for day, both in zip(ties, means, strict=False)
        for ma in both
    ]

    assert any(long != short for long, short in means)
    assert [False] * 200 == fired


# -- exit -------------------------------------------------------------------------------------------------------------

# Bought at 245.80 with an ATR of 4.00: profit is taken at 261.80, a loss of 10 % is cut at 221.22.
EXIT = {"close": 250.0, "ma": 240.0, "rsi": 60.0, "vix": 18.0, "entry_price": 245.8, "entry_atr": 4.0}


def test_profit_is_taken_at_entry_price_plus_four_atr():
    """245.80 + 4 x 4.00."""
    assert 261.8 == pytest.approx(target_price(245.8, 4.0, DEFAULTS), abs=1e-12)


def test_the_multiple_of_the_atr_is_the_owners():
    """100 + 2.5 x 3."""
    assert 107.5 == target_price(100.0, 3.0, StrategyParameters(atr_multiplier=2.5))


def test_a_loss_is_cut_at_its_percentage_under_the_entry_price():
    """200 less 10 %, and less 25 %."""
    assert [180.0, 150.0] == [stop_price(200.0, DEFAULTS), stop_price(200.0, StrategyParameters(stop_loss_pct=25.0))]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"close": 239.99}, ["trend"]),
        ({"close": 240.0}, []),  # close == MA: neither entry nor exit
        ({"close": a_hair_below(240.0)}, []),
        ({"close": 239.999999}, ["trend"]),
        ({"vix": 31.2}, ["vix"]),
        ({"vix": 30.0}, []),
        ({"vix": a_hair_above(30.0)}, ["vix"]),
        ({"rsi": 28.4}, ["rsi"]),
        ({"rsi": 30.0}, []),
        ({"rsi": a_hair_below(30.0)}, ["rsi"]),
        ({"close": 262.1}, ["atr_profit"]),
        ({"close": 261.79}, []),
        ({"close": 215.0}, ["trend"]),  # no stop loss unless enabled
        ({"close": 239.0, "vix": 31.0, "rsi": 29.0}, ["trend", "vix", "rsi"]),
        ({"close": 262.0, "ma": 263.0, "vix": 35.0, "rsi": 20.0}, ["trend", "vix", "rsi", "atr_profit"]),
        ({"close": nan, "vix": 31.0}, ["vix"]),
        ({"ma": nan, "vix": nan, "rsi": nan, "entry_atr": nan}, []),
        ({"entry_atr": nan, "close": 300.0, "rsi": 29.0}, ["rsi"]),
    ],
)
def test_each_exit_rule_fires_beyond_its_threshold_and_all_are_told_in_order(changes, expected):
    """Each row: what differs from a quiet day, and the rules that then sell, the primary one first."""
    assert expected == list(exit_rules_fired(**(EXIT | changes), p=DEFAULTS))


def test_a_close_at_the_target_takes_the_profit():
    """100 + 4 x 2.50 is exactly 110 in binary too; a hair under it is not there yet."""
    at_target, just_under = (
        exit_rules_fired(close, 100.0, 60.0, 18.0, 100.0, 2.5, DEFAULTS) for close in (110.0, a_hair_below(110.0))
    )

    assert ((ExitReason.ATR_PROFIT,), ()) == (at_target, just_under)


def test_a_close_at_the_stop_cuts_the_loss():
    """200 less 10 % is exactly 180; a hair above it holds on."""
    at_stop, just_above = (
        exit_rules_fired(close, 170.0, 60.0, 18.0, 200.0, 5.0, WITH_STOP) for close in (180.0, a_hair_above(180.0))
    )

    assert ((ExitReason.STOP_LOSS,), ()) == (at_stop, just_above)


def test_the_stop_loss_is_off_unless_enabled():
    """Half the money gone, above the average nevertheless."""
    assert () == exit_rules_fired(100.0, 90.0, 60.0, 18.0, 200.0, 5.0, DEFAULTS)


def test_the_stop_loss_comes_last_of_the_rules():
    """A contrived position whose target and stop are both its entry price."""
    p = StrategyParameters(stop_loss_enabled=True, stop_loss_pct=0.0)
    fired = exit_rules_fired(100.0, 101.0, 29.0, 31.0, 100.0, 0.0, p)

    assert ["trend", "vix", "rsi", "atr_profit", "stop_loss"] == list(fired)


@pytest.mark.parametrize(
    ("setting", "value", "rule"),
    [("vix_exit_threshold", 17.9, ExitReason.VIX), ("rsi_exit_threshold", 60.1, ExitReason.RSI)],
)
def test_exit_thresholds_are_the_owners(setting, value, rule):
    """The threshold moved just past the day's own number."""
    assert (rule,) == exit_rules_fired(**EXIT, p=StrategyParameters(**{setting: value}))


# -- unknown ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ([], []),
        (["close"], ["trend", "atr_profit", "stop_loss"]),
        (["ma"], ["trend"]),
        (["vix"], ["vix"]),
        (["rsi"], ["rsi"]),
        (["entry_price"], ["atr_profit", "stop_loss"]),
        (["entry_atr"], ["atr_profit"]),
        (["vix", "ma"], ["trend", "vix"]),
        (list(EXIT), ["trend", "vix", "rsi", "atr_profit", "stop_loss"]),
    ],
)
def test_an_exit_rule_is_unknown_where_an_input_is_missing(missing, expected):
    """Each row: the numbers that are missing, the rules nobody can judge; the stop loss only where it is enabled."""
    inputs = EXIT | dict.fromkeys(missing, nan)
    without_stop = [rule for rule in expected if rule != "stop_loss"]

    assert (expected, without_stop) == (
        list(exit_rules_unknown(**inputs, p=WITH_STOP)),
        list(exit_rules_unknown(**inputs, p=DEFAULTS)),
    )


ANY = st.floats(min_value=0, max_value=1000) | st.just(nan)


@given(ANY, ANY, ANY, ANY, ANY, ANY)
def test_a_rule_is_never_both_fired_and_unknown(close, ma, rsi, vix, entry_price, entry_atr):
    """Whatever is missing: what fired was judged on numbers that are there."""
    inputs = (close, ma, rsi, vix, entry_price, entry_atr)

    assert set() == {*exit_rules_fired(*inputs, WITH_STOP)} & {*exit_rules_unknown(*inputs, WITH_STOP)}


@given(ANY, ANY, ANY, ANY, ANY, ANY)
def test_an_entry_needs_every_input(close, ma, rsi, volume, volume_ma, vix):
    """All four never hold while one number is missing."""
    inputs = (close, ma, rsi, volume, volume_ma, vix)
    all_hold = tuple(EntryRule) == entry_rules_fired(*inputs, DEFAULTS)

    assert not (all_hold and any(map(isnan, inputs)))


@given(ANY, ANY, ANY, ANY, ANY, ANY)
def test_what_holds_the_trend_up_never_breaks_it(close, ma, rsi, volume, volume_ma, vix):
    """The entry's and the exit's trend and VIX rules are never true together."""
    entry = entry_rules_fired(close, ma, rsi, volume, volume_ma, vix, DEFAULTS)
    exits = exit_rules_fired(close, ma, rsi, vix, nan, nan, DEFAULTS)

    assert not (TREND in entry and ExitReason.TREND in exits)
    assert not (VIX in entry and ExitReason.VIX in exits)
    assert not (RSI in entry and ExitReason.RSI in exits)
