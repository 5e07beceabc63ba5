"""What a life is made of: one integer seed, a number of sessions, and the troubles that befall it.

Troubles are drawn before the life is lived and are plain values. So one of them can be left out without moving any
other: a failing life is shrunk by leaving out, and what is left prints as a test.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from mtum_eod.core.trading import OrderIntent, OrderKind, OrderType, Side
from mtum_eod.ports import BookReader, Broker, Clock, Lock, MarketData, Store

CRASHES = ("dies_before", "dies_after")
"""The process is killed just before the call has its effect, or just after it."""

READS = (*CRASHES, "unknown", "slow")
CHECKS = (*CRASHES, "fails", "silent", "slow")
LOOKS = ("dies_before", "refused")
WRITES = (*CRASHES, "refused", "unsure")
TORN = "torn"
"""The power fails, and the disk has kept part only of what it said was written; on a store with files."""

PORTS: dict[str, type] = {"broker": Broker, "clock": Clock, "lock": Lock, "prices": MarketData, "store": Store}
"""The ports of a process that trouble comes between, under the names that places begin with.

The calendar is none: it is computed. Nor is the notifier: it is the program's own, between the store and the post.
"""

UNTROUBLED = {
    "broker.finish_by": "sets a deadline of the process's own",
    "broker.reread_pause": "a setting",
    "broker.retries": "the process's own count",
    "clock.now": "cannot fail",
    "prices.is_synthetic": "a setting",
    "prices.name": "a setting",
    "store.bar_as_of": "asked only where a source falls silent between two looks of one session: too seldom",
    "store.leave": "no owner here leaves shares at the broker for good, so no life writes it",
    "store.view": "for the owner's own questions; no step reads it",
}
"""What no trouble comes to, and why."""


def members(port: type) -> list[str]:
    """The methods and properties of a port."""
    return [name for name in dir(port) if not name.startswith("_")]


BOOK_READS = {f"store.{name}": LOOKS for name in members(BookReader) if f"store.{name}" not in UNTROUBLED}
"""All reading of the book."""

TORN_WRITES = ("store.record", "store.update_order", "store.transaction")
BOOK_WRITES = {
    f"store.{name}": (*WRITES, TORN) if f"store.{name}" in TORN_WRITES else WRITES
    for name in members(Store)
    if f"store.{name}" not in (*UNTROUBLED, *BOOK_READS)
}
OUTSIDE = {
    "broker.submit": (*CRASHES, "lost", "unanswered", "late", "twice", "meanwhile", "restarted"),
    "broker.next_order_id": (*CRASHES, "unknown", "slow", "meanwhile", "halted_meanwhile"),
    "broker.account": READS,
    "broker.clock_ahead": READS,
    "broker.orders": READS,
    "broker.executions": READS,
    "broker.shares_held": READS,
    "broker.cash": READS,
    "broker.cancel": (*READS, "unanswered"),
    "broker.inspect": CHECKS,
    "broker.contract": CHECKS,
    "broker.what_if": (*READS, "refused"),
    "clock.sleep": ("dies_before", "meanwhile"),
    "lock.hold": LOOKS,
    "post.send": (*CRASHES, "raises", "hangs", "unanswered"),
    "prices.daily": (*CRASHES, "unknown", "slow", "no_bar", "nan", "old"),
    "prices.volume_until": (*CRASHES, "unknown", "absent"),
}
CALLS: dict[str, tuple[str, ...]] = {**OUTSIDE, **BOOK_WRITES, **BOOK_READS}
"""The calls of the ports, and what can go wrong at each. `meanwhile` starts a second run in the midst of the first.

`unanswered` had its effect, and no answer came.
"""

SPLITS = ("split", "split_unseen", "split_booked_late", "split_odd")
"""The nights after which shares and closes are on another scale."""

WORLD: dict[str, tuple[str, ...]] = {
    "auction": ("partial", "nothing", "late_report", "late_commission"),
    "broker": ("rejects", "restarts", "away", "silent"),
    "market": ("no_bar", "nan", "halts_trading", "no_volume"),
    "night": (*SPLITS, "closure", "closure_known_late", "revision", "jump"),
    "server": (*("off",) * 5, "clock_wrong"),  # a session's first run comes late on few days only
    "owner": (
        *("halts", "halts_and_cancels", "halts_entries", "resumes", "runs_again", "deposits", "buys", "sells"),
        *("withdraws", "gets_dividend", "pays_fee", "trades_elsewhere"),
        *("cancels", "flattens", "approves", "refuses", "restores", "changes_settings", "looks"),
        *("cancels", "cancels", "halts_and_cancels"),  # there is an order to take back on few days only
        *("approves", "approves", "refuses", "refuses"),  # and a question to answer on fewer still
        *("flattens", "flattens", "flattens", "resumes"),
    ),
    "post": ("away",),
}
"""What can befall a session from outside; `Trouble.minute` says when, where that matters."""

OFF_HOURS = 80
"""How long the server is off at most."""

TAKEN_BACK = ("cancels", "halts_and_cancels")
"""The owner's acts that withdraw an order that is out."""

ANSWERS = ("approves", "refuses")
"""The owner's answers to the question whether to buy."""

AIMED = 0.06
"""In how many sessions of a troubled life two things that are rare alone are made to meet."""

IN_A_STORM: tuple[tuple[str, str], ...] = (
    *(("server", "off"), ("server", "off"), ("post", "away"), ("market", "no_bar"), ("market", "halts_trading")),
    *(("owner", what) for what in ("restores", "flattens", "cancels", "halts", "buys", "sells", "looks", "runs_again")),
    *(("owner", "restores"), ("owner", "flattens")),
    *(("auction", what) for what in ("partial", "late_report", "late_commission", "partial", "late_report")),
    *(("broker", what) for what in ("away", "silent", "rejects", "restarts")),
    *(("broker.submit", what) for what in ("unanswered", "lost", "late")),
    *(("night", what) for what in ("jump", "closure", "closure_known_late", "revision", "split")),
    *(("store.add_fills", "refused"), ("prices.daily", "unknown"), ("prices.daily", "old")),
)
"""What lives broke on that broke at all, most of them beside a split."""

POINTS = list(
    dict.fromkeys((place, what) for table in (CALLS, WORLD) for place, kinds in table.items() for what in kinds)
)
"""Every point at which trouble can come; a long enough run reaches all of them."""

ORDERS = ("buy", "sell", "sell in haste", "late exit", "flatten", "flatten in haste")
"""Every kind of order that can leave; a long enough run sends all of them."""


def kind_of(intent: OrderIntent) -> str:
    """Which of them it is; in haste goes what would miss the closing auction."""
    haste = " in haste" * (intent.order_type is OrderType.MKT)
    if intent.kind is OrderKind.LATE_EXIT:
        return "late exit"
    return f"flatten{haste}" if intent.kind is OrderKind.FLATTEN else f"{Side(intent.side).lower()}{haste}"


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
    troubles, apart = [], stream(seed, "aimed")
    for session in range(sessions):
        if chance.random() < share:
            troubles.append(_trouble(session, chance))
            while chance.random() < 0.45:  # trouble comes in company
                troubles.append(_trouble(session, chance))
        if share and apart.random() < AIMED:
            troubles += _aimed(session, apart)
    return Life(seed, sessions, tuple(troubles))


def drawn_torn(seed: int, sessions: int) -> Life:
    """The same where besides the power fails in every other session, and the disk keeps a part of the log."""
    life, chance = drawn(seed, sessions), stream(seed, "power")
    torn = [Trouble(n, chance.choice(TORN_WRITES), TORN, size=chance.random()) for n in range(1, sessions, 2)]
    return Life(seed, sessions, (*life.troubles, *torn))


def drawn_stormy(seed: int, sessions: int) -> Life:
    """The same where besides, every few weeks, much goes wrong within some days, most often around a split."""
    life, chance, storms = drawn(seed, sessions), stream(seed, "storms"), list[Trouble]()
    session = chance.randint(8, 40)
    while session < sessions - 6:
        met = [("night", chance.choice(SPLITS))] if chance.random() < 0.8 else []
        met += chance.choices(IN_A_STORM, k=chance.randint(2, 5))
        for place, what in met:
            day = session + (0 if what in SPLITS else chance.choice((-2, -1, 0, 0, 0, 1, 1, 2, 3)))
            storms.append(_of(day, place, what, chance))
        session += chance.randint(8, 40)
    return Life(seed, sessions, (*life.troubles, *storms))


def _aimed(session: int, chance: Random) -> list[Trouble]:
    """What decides something only where two rare things meet, which would seldom come by itself."""
    minute = chance.randint(21, 58)  # between the question or the decision, and the hard stop
    if chance.random() < 0.5:  # in a session whose entry waits for the owner
        return [Trouble(session, "owner", "refuses", minute=minute)]
    killed = Trouble(session, "store.add_notice", chance.choice(CRASHES), nth=chance.choice((1, 1, 2)))
    return [Trouble(session, "broker", "rejects", minute=minute), killed]  # between an order's end and its word


def _trouble(session: int, chance: Random) -> Trouble:
    kind = chance.random()  # as often as they matter, not as many as they are
    table = WORLD if kind < 0.35 else BOOK_READS if kind < 0.45 else {**OUTSIDE, **BOOK_WRITES}
    return _of(session, *chance.choice([(place, what) for place, kinds in table.items() for what in kinds]), chance)


def _of(session: int, place: str, what: str, chance: Random) -> Trouble:
    """One of that kind, at some time of the session."""
    minute = chance.choice((chance.randint(-60, 60), chance.randint(-30, 24), chance.randint(14, 20)))
    if what in TAKEN_BACK:  # between the order and the hard stop, where the broker is asked
        minute = 15 + abs(minute) % 5
    elif what in ANSWERS:  # between the question and the hard stop, or too late
        minute = 20 + minute % 39 if minute >= 0 else max(-30, 20 + minute)
    elif what == "flattens":  # while the exchange is open
        minute = 3 + abs(minute)
    nth, size = 1, round(chance.random(), 3)
    if what == "off" and size < 0.8:  # back between the hard stop and the last call
        minute, back = 21 + abs(minute), 3 + abs(minute) % 11
        size = round(((minute - back) / 60 / OFF_HOURS) ** 0.5, 4)
    if place in CALLS:  # a run reads its book many times
        nth += int(chance.expovariate(chance.choice((1.2, 0.1)) if place in BOOK_READS else 1.2))
    return Trouble(session=session, place=place, what=what, nth=nth, minute=minute, size=size)
