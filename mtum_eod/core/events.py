"""What an owner can be told."""

from __future__ import annotations

import re
from enum import StrEnum


class Beat(StrEnum):
    """What a watchman outside hears of a step; a failure needs no word of its own there, silence is one too."""

    START = "start"
    SUCCESS = "success"
    FAIL = "fail"


class Event(StrEnum):
    """The occasions of a notice; the names stand in `notifications.events`."""

    ORDER_SENT = "order_sent"
    ORDER_FILLED = "order_filled"
    ORDER_REJECTED = "order_rejected"
    APPROVAL = "approval"
    RUN_FAILED = "run_failed"
    RUN_MISSED = "run_missed"
    MISMATCH = "mismatch"
    HALT = "halt"
    POSITION_UNATTENDED = "position_unattended"
    DAILY_LOSS = "daily_loss"
    DAILY_SUMMARY = "daily_summary"


def in_kind(words: str) -> str:
    """The words without their numbers: what makes a failure the same one as before, a minute or a share later."""
    return re.sub(r"\d+", "#", words)
