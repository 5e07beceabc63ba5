"""One look at one link of the chain that a session hangs on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from mtum_eod.errors import MtumEodError


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What was looked at, whether it will do, and the cure where it will not."""

    name: str
    passed: bool
    words: str
    cure: str = ""
    exit_code: int = 3  # of the command, where this failed


def failed(name: str, error: MtumEodError) -> Check:
    """A link that could not even be looked at."""
    return Check(name=name, passed=False, words=error.message, cure=error.hint, exit_code=error.exit_code)


SAME_REASON = "for the same reason as"


def told_once(checks: Iterable[Check], told: dict[str, str]) -> Iterator[Check]:
    """The checks, each as soon as it is made; one that fails with the words of another names that one instead.

    told: the names of failed checks by their words, as far as they are known; more are added.
    """
    for check in checks:
        if not check.passed and check.words in told:
            yield replace(check, words=f"{SAME_REASON} {told[check.words]}", cure="")
            continue
        if not check.passed and not check.words.startswith(SAME_REASON):
            told[check.words] = check.name
        yield check
