"""The owner's end of the line: who takes messages, and when nobody does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from mtum_eod.adapters.notices import OwnerNotices
from mtum_eod.ports import Clock, Notice


@dataclass
class VirtualPost:
    """The owner's addresses: what was sent, and when nobody takes anything."""

    clock: Clock
    sent: list[tuple[datetime, str]] = field(default_factory=list)  # line by line
    away_until: datetime | None = None
    tries_in_vain: int = 0
    past_the_book: list[Notice] = field(default_factory=list)  # what no book could keep, taken or not

    @property
    def is_away(self) -> bool:
        return self.away_until is not None and self.clock.now() < self.away_until

    def send(self, lines: Sequence[str], gravest: Notice) -> bool:  # noqa: ARG002
        if self.is_away:
            self.tries_in_vain += 1
            return False
        self.sent += [(self.clock.now(), line) for line in lines]
        return True


class WorldNotices(OwnerNotices):
    """The program's own, but for what no book could keep: the files that remember it are the real machine's."""

    _post: VirtualPost

    def send(self) -> None:
        while self._unkept:
            notice = self._unkept.pop(0)
            self._post.past_the_book.append(notice)
            self._post.send([notice.words], notice)
        super().send()
