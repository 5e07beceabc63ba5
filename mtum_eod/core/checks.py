"""One look at one link of the chain that a session hangs on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What was looked at, whether it will do, and the cure where it will not."""

    name: str
    passed: bool
    words: str
    cure: str = ""
    exit_code: int = 3  # of the command, where this failed
