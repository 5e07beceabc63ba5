"""What IB sends and nobody can read: an answer with a row less, or with a number that is none, is no answer.

The conversations are the recorded ones of the fuzzing corpus, with one field changed.
"""

from typing import Any

import pytest
from fuzz.inputs import inputs
from fuzz.wire import QUESTIONS, Script, talk

from mtum_eod.errors import BrokerUnavailable, MarketDataError
from mtum_eod.ports import Known, Unknown


def told(name: str, before: str = "", after: str = "") -> Any:
    """The adapter's answer in a recorded conversation that says `after` for `before`."""
    recorded = inputs("ib")[name]
    assert before.encode() in recorded
    script = Script(recorded.replace(before.encode(), after.encode()))
    with talk(script) as (broker, bars):
        return QUESTIONS[script.question](broker, bars)


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("positions", "|19|", "|nineteen|"),
        ("executions", "20241105 16:00:05 US/Eastern", "tomorrow"),
        ("executions", "|BOT|20|", "|BOT|twenty|"),
        ("executions", "US/Eastern", "Mars/North"),
        ("orders-working", "|BUY|20|", "|BUY|twenty|"),
    ],
)
def test_a_row_that_the_library_cannot_read_makes_the_answer_unknown(name: str, before: str, after: str) -> None:
    """It logs the row and ends the list without it: nothing held, no execution, no order, though there is one."""
    answer = told(name, before, after)

    assert isinstance(answer, Unknown)
    assert "cannot be read" in answer.why


@pytest.mark.parametrize(
    ("name", "before", "after", "words"),
    [
        ("positions", "|19|", "|nan|", "nan is no amount"),
        ("positions", "|19|", "|1.7976931348623157E308|", "is no amount"),
        ("executions", "|BOT|20|", "|BOT|nan|", "nan is no amount"),
        ("executions", "|BOT|20|", "|BOT|0|", "0 shares at 207.74"),
        ("executions", "|BOT|", "|SSHORT|", "SSHORT"),
        ("executions", "20|207.74|", "20|-1|", "20 shares at -1"),
        ("executions", "/2024-11-05/", "/today/", "today"),
        ("executions", ".01.01|1|USD", ".01.01|1.7976931348623157E308|USD", "is no amount"),
        ("orders-working", "PreSubmitted|0|20", "PreSubmitted|nan|20", "nan is no amount"),
        ("cash", "AvailableFunds|10000.00", "AvailableFunds|inf", "inf is no amount"),
    ],
)
def test_a_number_that_is_none_makes_the_answer_unknown(name: str, before: str, after: str, words: str) -> None:
    answer = told(name, before, after)

    assert isinstance(answer, Unknown)
    assert words in answer.why


def test_an_acknowledgement_that_cannot_be_read_is_none() -> None:
    """The next run asks the broker before anything is repeated."""
    with pytest.raises(BrokerUnavailable, match="nan is no amount"):
        told("submit", "PreSubmitted|0|20", "PreSubmitted|nan|20")


def test_bars_that_cannot_be_read_are_bars_that_did_not_come() -> None:
    with pytest.raises(MarketDataError, match="cannot be read"):
        told("daily", "|20241104|", "|10120514|")


def test_hours_that_cannot_be_read_are_told_as_such() -> None:
    checks = told("inspect", "20241105:0930", "2024l105:0930")

    assert ["IB's hours cannot be read"] == [check.words[:25] for check in checks if check.name == "hours"]


@pytest.mark.parametrize("message", ["999|1|2", "5|7|an order of another program|of a kind nobody knows"])
def test_what_concerns_no_question_of_ours_stands_in_no_ones_way(message: str) -> None:
    assert Known(19.0) == told("positions", "positions\n", f"positions\n{message}\n")
