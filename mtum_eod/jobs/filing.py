"""Every run of a step is filed: when it began, how it ended, and what the owner must hear of its failure."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from mtum_eod.core.events import Event
from mtum_eod.core.trading import Step
from mtum_eod.errors import MtumEodError
from mtum_eod.jobs.desk import TradingDesk
from mtum_eod.ports import Notice

LOG = logging.getLogger(__name__)

_current: ContextVar[int | None] = ContextVar("run", default=None)


def run_id() -> int | None:
    """The run under way, for the log; None between runs."""
    return _current.get()


@dataclass(slots=True, kw_only=True)
class Filing:
    """A run in progress; what is set here is filed at its end."""

    run_id: int
    outcome: str = "done"
    exit_code: int = 0
    document: dict[str, Any] | None = field(default=None)


@contextmanager
def filed(desk: TradingDesk, step: Step, session: date | None) -> Iterator[Filing]:
    """File the `with` block as a run of `step`. A failure is filed, told and raised again."""
    run = Filing(run_id=desk.store.start_run(step, session, desk.wall_clock.now()))
    token = _current.set(run.run_id)
    repeated = desk.broker.retries
    LOG.info("%s of %s begins", step, session)
    try:
        yield run
    except BaseException as error:
        exit_code = error.exit_code if isinstance(error, MtumEodError) else 1
        said = f"{step} {session or ''}: {error or type(error).__name__}"
        LOG.error("%s", said, exc_info=not isinstance(error, MtumEodError))
        with suppress(MtumEodError):  # the failure itself is what must come out, not that it could not be filed
            words, retries = str(error) or repr(error), desk.broker.retries - repeated
            desk.store.end_run(run.run_id, desk.wall_clock.now(), "failed", exit_code, words, retries)
            desk.notifier.tell(Notice(event=Event.RUN_FAILED, words=said, is_urgent=True))
        raise
    else:
        LOG.info("%s of %s ends: %s, exit code %d", step, session, run.outcome, run.exit_code)
        retries = desk.broker.retries - repeated
        desk.store.end_run(
            run.run_id, desk.wall_clock.now(), run.outcome, run.exit_code, retries=retries, document=run.document
        )
    finally:
        _current.reset(token)
