"""`mtum-eod` as a process that kills itself, as the power would, at one durable step of the session it runs.

    python dies_at.py before|after STEP mtum-eod-arguments...

STEP is a method of the store or of the simulated broker's order book. The first call of it is the last thing the
process does: `before` kills with everything it would write still unwritten, `after` with it on the disk.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from mtum_eod.adapters.simulated_broker import SimulatedBroker
from mtum_eod.adapters.store import SqlStore
from mtum_eod.cli import main


def die(*_: Any) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("SIGKILL came back")


def die_around(moment: str, owner: type, step: str) -> None:
    """Let the first call of `step` kill the process."""
    living = getattr(owner, step)

    def dying(self: Any, *args: Any, **values: Any) -> None:
        if moment == "after":
            living(self, *args, **values)
        die()

    @contextmanager
    def dying_transaction(self: SqlStore) -> Iterator[None]:
        with living(self):
            yield
            if moment == "before":  # written, but not yet committed
                die()
        die()

    setattr(owner, step, dying_transaction if step == "transaction" else dying)


if __name__ == "__main__":
    moment, step, *sys.argv[1:] = sys.argv[1:]
    die_around(moment, SimulatedBroker if step == "submit" else SqlStore, step)
    main()
