"""Every input of the corpus, fed again: those made by hand or recorded, and those that once broke a reader."""

import pytest

from fuzz.inputs import FOLDER, inputs
from fuzz.targets import TARGETS
from fuzz.wire import QUESTIONS, Script, talk
from mtum_eod.ports import Known

CORPUS = [(target, name) for target in TARGETS for name in inputs(target)]


@pytest.mark.parametrize(("target", "name"), CORPUS, ids=lambda part: part)
def test_an_input_of_the_corpus_is_read_or_refused_in_words(target: str, name: str) -> None:
    TARGETS[target](inputs(target)[name])


def test_every_target_has_a_corpus() -> None:
    assert set(TARGETS) == {folder.name for folder in FOLDER.iterdir()}


@pytest.mark.parametrize("name", ["orders-working", "orders-filled", "executions", "positions", "cash"])
def test_the_recorded_conversations_are_still_understood(name: str) -> None:
    """Else the search would begin at answers that nobody gives."""
    script = Script(inputs("ib")[name])
    with talk(script) as (broker, bars):
        answer = QUESTIONS[script.question](broker, bars)

    assert isinstance(answer, Known)
    assert answer.value
