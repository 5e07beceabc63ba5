"""Every rule of a decision beside its threshold."""

from dataclasses import replace
from math import isnan, nan

import pytest
from evidence_by_hand import HELD, flat, long, numbers, parameters

from mtum_eod.core.decision import decide
from mtum_eod.core.explanation import RuleLine, entry_lines, exit_lines
from mtum_eod.core.parameters import Parameters

DEFAULTS = Parameters()


def row(line: RuleLine) -> tuple[str, str, float, str, str, float, bool | None]:
    return line.rule, line.measured, line.value, line.relation, line.threshold_name, line.threshold, line.holds


def test_the_four_entry_rules_with_their_numbers():
    evidence = flat(numbers(rsi=45.0))

    assert [
        ("trend_bullish", "close", 200.0, ">", "MA50", 190.0, True),
        ("vix_stable", "VIX", 18.0, "<", "", 25.0, True),
        ("rsi_bullish", "RSI", 45.0, ">", "", 50.0, False),
        ("volume_confirm", "volume", 1_200_000.0, ">", "mean of 20", 1_000_000.0, True),
    ] == [row(line) for line in entry_lines(evidence, decide(evidence, DEFAULTS), DEFAULTS.strategy)]


def test_the_exit_rules_with_their_numbers():
    """Bought at 195.00 with an ATR of 4.00."""
    evidence = long(numbers(vix=31.0))

    assert [
        ("trend", "close", 200.0, "<", "MA50", 190.0, False),
        ("vix", "VIX", 31.0, ">", "", 30.0, True),
        ("rsi", "RSI", 60.0, "<", "", 30.0, False),
        ("atr_profit", "close", 200.0, ">=", "target", 211.0, False),
    ] == [row(line) for line in exit_lines(evidence, decide(evidence, DEFAULTS), HELD, DEFAULTS.strategy)]


def test_the_stop_loss_is_explained_where_it_is_enabled():
    """195.00 less 10 %."""
    p, evidence = parameters(stop_loss_enabled=True), long()
    last = exit_lines(evidence, decide(evidence, p), HELD, p.strategy)[-1]

    assert ("stop_loss", "close", 200.0, "<=", "stop", 175.5, False) == row(last)


def test_a_rule_that_cannot_be_judged_is_neither_true_nor_false():
    p, position = parameters(stop_loss_enabled=True), replace(HELD, entry_atr=nan)
    evidence = long(numbers(vix=nan, ma_50=nan), position=position)
    decision = decide(evidence, p)
    exits = [line.holds for line in exit_lines(evidence, decision, position, p.strategy)]
    entries = [line.holds for line in entry_lines(evidence, decision, p.strategy)]

    assert ([None, None, False, None, False], [None, None, True, True]) == (exits, entries)


@pytest.mark.parametrize(
    ("value", "threshold", "expected"),
    [(200.0, 190.0, 5.2632), (180.5, 190.0, -5.0), (25.0, 25.0, 0.0), (18.0, 30.0, -40.0)],
)
def test_the_distance_is_percent_of_the_threshold(value, threshold, expected):
    """Positive above it."""
    assert expected == pytest.approx(line(value, threshold).distance_pct, abs=1e-4)


@pytest.mark.parametrize(("value", "threshold"), [(nan, 25.0), (18.0, nan), (1e6, 0.0)])
def test_without_two_numbers_there_is_no_distance(value, threshold):
    """A mean volume of nothing is no measure either."""
    assert isnan(line(value, threshold).distance_pct)


def line(value: float, threshold: float) -> RuleLine:
    return RuleLine(
        rule="vix", measured="VIX", value=value, relation=">", threshold_name="", threshold=threshold, holds=None
    )
