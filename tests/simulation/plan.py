"""What a life is made of: one integer seed, a number of sessions, and the troubles that befall it.

Troubles are drawn before the life is lived and are plain values. So one of them can be left out without moving any
other: a failing life is shrunk by leaving out, and what is left prints as a test.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

CRASHES = ("dies_before", "dies_after")
"""The process is killed just before the call has its effect, or just after it."""

READS = (*CRASHES, "unknown", "slow")
WRITES = (*CRASHES, "refused", "unsure")
TORN = "torn"
"""The power fails, and the disk has kept part only of what it said was written; on a store with files."""

CALLS: dict[str, tuple[str, ...]] = {
    "broker.submit": (*CRASHES, "lost", "unanswered", "late", "twice", "meanwhile", "restarted"),
    "broker.next_order_id": (*CRASHES, "unknown", "slow", "meanwhile", "halted_meanwhile"),
    "broker.clock_ahead": READS,
    "broker.orders": READS,
    "broker.executions": READS,
    "broker.shares_held": READS,
    "broker.cash": READS,
    "broker.cancel": READS,
    "clock.sleep": ("dies_before", "meanwhile"),
    "prices.daily": (*CRASHES, "unknown", "slow", "no_bar", "nan", "old"),
    "prices.volume_until": (*CRASHES, "unknown", "absent"),
    "store.start_run": WRITES,
    "store.end_run": WRITES,
    "store.record": (*WRITES, TORN),
    "store.update_order": (*WRITES, TORN),
    "store.add_fills": WRITES,
    "store.transaction": (*WRITES, TORN),
    "store.settle": WRITES,
    "store.add_rows": WRITES,
    "store.add_bars": WRITES,
    "store.halt": WRITES,
    "store.add_act": WRITES,
    "store.add_notice": WRITES,
    "store.order": ("dies_before", "refused"),
    "store.since_flat": ("dies_before", "refused"),
    "store.signal": ("dies_before", "refused"),
    "store.ledger": ("dies_before", "refused"),
    "store.halts": ("dies_before", "refused"),
}
"""The calls of the ports, and what can go wrong at each. `meanwhile` starts a second run in the midst of the first."""

WORLD: dict[str, tuple[str, ...]] = {
    "auction": ("partial", "nothing", "late_report", "late_commission"),
    "broker": ("rejects", "restarts", "away", "silent"),
    "market": ("no_bar", "nan", "halts_trading", "no_volume"),
    "night": ("split", "split_unseen", "split_booked_late", "closure", "closure_known_late"),
    "server": ("off",),
    "owner": (
        *("halts", "halts_and_cancels", "halts_entries", "resumes", "runs_again", "deposits", "buys", "sells"),
        *("cancels", "flattens", "approves", "refuses", "restores", "changes_settings"),
        *("cancels", "cancels", "halts_and_cancels"),  # there is an order to take back on few days only
    ),
    "post": ("away",),
}
"""What can befall a session from outside; `Trouble.minute` says when, where that matters."""

TAKEN_BACK = ("cancels", "halts_and_cancels")
"""The owner's acts that withdraw an order that is out."""

POINTS = list(
    dict.fromkeys((place, what) for table in (CALLS, WORLD) for place, kinds in table.items() for what in kinds)
)
"""Every point at which trouble can come; a long enough run reaches all of them."""


@dataclass(frozen=True, slots=True, order=True)
class Trouble:
    """One thing that goes wrong, or that the owner does."""

    session: int  # counted from the life's first
    place: str
    what: str
    nth: int = 1  # at which call of that place, counted from that session on
    minute: int = 0  # before the close, for what comes from outside
    size: float = 0.5  # 0 to 1, for what can be smaller or larger


@dataclass(frozen=True, slots=True)
class Life:
    """Everything a life follows from."""

    seed: int
    sessions: int
    troubles: tuple[Trouble, ...] = ()
    first: int = 0  # the session it begins with; those before are only history


def stream(seed: int, name: str) -> Random:
    """Random numbers of their own for each purpose, so that drawing more of one moves no other."""
    return Random(f"{seed}/{name}")  # noqa: S311 (no secret is made of it)


def is_calm(seed: int) -> bool:
    """Whether nothing befalls the life of that seed."""
    return seed % 8 == 0


def drawn(seed: int, sessions: int) -> Life:
    """The life of a seed. One in eight is calm; the others have troubles in one session of two to ten."""
    chance = stream(seed, "troubles")
    share = 0.0 if is_calm(seed) else chance.uniform(0.1, 0.5)
    troubles = []
    for session in range(sessions):
        if chance.random() < share:
            troubles.append(_trouble(session, chance))
            while chance.random() < 0.45:  # trouble comes in company
                troubles.append(_trouble(session, chance))
    return Life(seed, sessions, tuple(troubles))


def _trouble(session: int, chance: Random) -> Trouble:
    table = WORLD if chance.random() < 0.35 else CALLS  # as often as they matter, not as many as they are
    place, what = chance.choice([(place, what) for place, kinds in table.items() for what in kinds])
    minute = chance.choice((chance.randint(-60, 60), chance.randint(-30, 24), chance.randint(14, 20)))
    if what in TAKEN_BACK:  # between the order and the hard stop, where the broker is asked
        minute = 15 + abs(minute) % 5
    return Trouble(
        session=session,
        place=place,
        what=what,
        nth=1 + int(chance.expovariate(1.2)) if place in CALLS else 1,
        minute=minute,
        size=round(chance.random(), 3),
    )
