"""Is a backtest honest? The future is cut off at every session, and the past is shortened: nothing may change.

Each cut is what a source would have given then: checked, cleaned and measured again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np

from mtum_eod.core.backtest import BacktestResult, Tape, backtest
from mtum_eod.core.market import DailyBars
from mtum_eod.core.parameters import Parameters
from mtum_eod.jobs.backtest import History, history_of, read_history
from mtum_eod.jobs.desk import Desk
from mtum_eod.jobs.history import Progress

SHORTEST_LEFT = 100
"""How many sessions of its past a history loses at most."""

INDICATORS = ("ma_50", "rsi", "atr", "volume_ma_20")


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What was tried, and where a decision changed."""

    cuts: int  # sessions at which the future was cut off
    looked_ahead: tuple[date, ...]  # sessions whose decision or value changed by that
    shortenings: int  # pasts that were tried
    needs_its_start: tuple[date, ...]  # sessions whose decision changed when the past was shorter
    largest_move: float  # of any indicator when the past was shorter, relative

    @property
    def passed(self) -> bool:
        """Whether nothing changed."""
        return not self.looked_ahead and not self.needs_its_start

    @property
    def document(self) -> dict[str, Any]:
        """The same as one document."""
        return {
            "passed": self.passed,
            "cuts": self.cuts,
            "looked_ahead": [day.isoformat() for day in self.looked_ahead],
            "shortenings": self.shortenings,
            "needs_its_start": [day.isoformat() for day in self.needs_its_start],
            "largest_move": self.largest_move,
        }


def audit(desk: Desk, first: date | None, last: date | None, progress: Progress) -> Audit:
    """Run the backtest of that range again on every cut of its history. Arguments and errors as in `run_backtest`."""
    history, start = read_history(desk, first, last)
    return audit_history(history, start, desk.parameters, desk.capital, progress)


def audit_history(history: History, start: int, p: Parameters, capital: float, progress: Progress) -> Audit:
    """The audit of one history from index `start` on."""
    count = len(history.sessions)
    whole_tape = history.tape(p.strategy, start, _silent)
    whole = backtest(whole_tape, p, capital, start=start)
    looked_ahead = []
    for end in range(start + 1, count + 1):
        cut = _run(cut_to(history, 0, end), start, p, capital)
        if _known_then(cut) != _known_then(whole, end - start):
            looked_ahead.append(history.sessions[end - 1])
        progress(history.sessions[end - 1], end - start, count - start)

    begin = min(start + SHORTEST_LEFT, count - 1)
    later = backtest(whole_tape, p, capital, start=begin)
    changed: set[date] = set()
    moves = [0.0]
    lost = sorted({1, (begin - start) // 2, begin - start} - {0})
    for left in lost:
        shorter = cut_to(history, left, count)
        tape = shorter.tape(p.strategy, begin - left, _silent)
        result = backtest(tape, p, capital, start=begin - left)
        held = zip(result.sessions, result.shares, later.shares, strict=True)
        changed |= {session for session, now, before in held if now != before}
        moves.append(_largest_move(tape, begin - left, whole_tape, begin))
    return Audit(
        cuts=count - start,
        looked_ahead=tuple(looked_ahead),
        shortenings=len(lost),
        needs_its_start=tuple(sorted(changed)),
        largest_move=max(moves),
    )


def cut_to(history: History, begin: int, end: int) -> History:
    """The history from index `begin` to before `end`, checked as if the source had given no more."""
    sessions = history.sessions[begin:end]
    prices, vix = (_between(bars, sessions[0], sessions[-1]) for bars in (history.prices, history.vix))
    return history_of(prices, vix, sessions)


def _between(bars: DailyBars, first: date, last: date) -> DailyBars:
    wanted = (bars.days >= np.datetime64(first)) & (bars.days <= np.datetime64(last))
    return replace(bars, days=bars.days[wanted], values=bars.values[wanted], adjusted=None)


def _run(history: History, start: int, p: Parameters, capital: float) -> BacktestResult:
    return backtest(history.tape(p.strategy, start, _silent), p, capital, start=start)


def _known_then(result: BacktestResult, sessions: int | None = None) -> tuple[list[int], list[float]]:
    """Shares and value after each of the first `sessions` sessions."""
    return result.shares[:sessions], result.equity[:sessions]


def _largest_move(one: Tape, one_start: int, other: Tape, other_start: int) -> float:
    return max(
        float(np.nanmax(np.abs(getattr(one, name)[one_start:] / getattr(other, name)[other_start:] - 1)))
        for name in INDICATORS
    )


def _silent(session: object, done: int, of: int) -> None:
    """The progress of a part too short to show."""
