"""Calls to a vendor's code that may never come back: made in threads that hold up neither the caller nor the end."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


def within(seconds: float, calls: Sequence[Callable[[], T]], late: T) -> list[T]:
    """What the calls return, all made at once; `late` in the place of each that does not return in time.

    A name server that is gone answers to no time-out of ours, and a vendor's own may leave out half of its requests.
    The threads are daemons, since an executor would wait for them at the process's end. The calls raise nothing.
    """
    answers = [late] * len(calls)

    def make(place: int) -> None:
        answers[place] = calls[place]()

    threads = [threading.Thread(target=make, args=(place,), daemon=True) for place in range(len(calls))]
    end = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return list(answers)


@contextmanager
def heard(logger: str, level: int) -> Iterator[list[str]]:
    """What a vendor says meanwhile in its log and in this thread, one line each."""
    handler = _Heard(level)
    logging.getLogger(logger).addHandler(handler)
    try:
        yield handler.words
    finally:
        logging.getLogger(logger).removeHandler(handler)


class _Heard(logging.Handler):
    def __init__(self, level: int) -> None:
        super().__init__(level)
        self._thread = threading.get_ident()
        self.words: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.words.append(" ".join(record.getMessage().split()))
