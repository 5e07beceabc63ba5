"""A backtest decided again, many times, on prices as they might have stood 20 minutes before the close."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from mtum_eod.core.backtest import BacktestResult, backtest
from mtum_eod.core.decision_noise import SEED, EarlyView, decision_noise
from mtum_eod.jobs.backtest import Backtest, read_history
from mtum_eod.jobs.desk import Desk
from mtum_eod.jobs.history import Progress


def with_decision_noise(
    desk: Desk, done: Backtest, trials: int, progress: Progress, *, slippage_pct: float = 0.0
) -> Backtest:
    """The same backtest with the band that deciding early makes plausible; slippage_pct as it was run with."""
    history, start = read_history(desk, done.result.sessions[0], done.result.sessions[-1])
    p = desk.parameters
    tape = history.tape(p.strategy, start, progress)
    view = EarlyView(tape, history.columns, p.strategy, start)
    drawn = np.random.default_rng(SEED)

    def decided() -> Iterator[BacktestResult]:
        for trial in range(1, trials + 1):
            seen = view.seen(drawn.standard_normal(len(tape.sessions)) * view.deviation)
            yield backtest(
                tape, p, desk.capital, start=start, fill=done.fill, slippage_pct=slippage_pct, decided_on=seen
            )
            progress("", trial, trials)

    return replace(done, noise=decision_noise(done.result, decided(), desk.capital, view.sensitivity))
