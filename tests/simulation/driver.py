"""Living a life: cron, the owner and the world take turns, and after every turn the invariants are asked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta

from mtum_eod.core.trading import CashKind
from simulation import invariants
from simulation.fake_store import FakeStore
from simulation.market import calendar
from simulation.plan import CALLS, OFF_HOURS, Life, Trouble, is_calm, stream
from simulation.stores import AnyStore
from simulation.world import MINUTE, World

SETTLE_ATTEMPTS = 4
STEPS_A_NIGHT = 3
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
OVER_MIDNIGHT = 0.1
"""How many nights cron is played in around midnight; an unfinished session meets it there."""


def live(life: Life, store: Callable[[], AnyStore] = FakeStore) -> World:
    """The world after that life. Raises Broken where an invariant does not hold; the world stands in `.world`."""
    world = World(life, store())
    try:
        lives = Driver(world)
        for number in range(life.first, life.sessions):
            lives.through(number)
        if is_calm(life.seed) and not life.troubles:
            world.check((invariants.the_whole_life_is_the_backtests,))
    except invariants.Broken as broken:
        broken.world, broken.session = world, world.number
        raise
    finally:
        world.close()
    return world


class Driver:
    """Cron on a home server, and everything that happens around it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.off_until: datetime | None = None
        self.armed: list[Trouble] = []  # came from outside, and nothing has been felt of it yet
        self.felt: set[tuple[str, str]] = set()
        self.troubles: dict[int, list[Trouble]] = defaultdict(list)
        for trouble in world.life.troubles:
            self.troubles[trouble.session].append(trouble)

    def through(self, number: int) -> None:
        """One session from its open to the night before the next."""
        session, troubles = self.world.market.lived[number], self.troubles[number]
        self.world.begin(number, troubles)
        self._play(session, troubles)
        self._pass_the_nights(session)
        self._count_felt()
        self.world.end()

    def _play(self, session: date, troubles: list[Trouble]) -> None:
        world = self.world
        close = calendar().close(session)
        outside = sorted(
            (close - t.minute * MINUTE, n, t) for n, t in enumerate(troubles) if t.place not in (*CALLS, "night")
        )
        if any(trouble.what == "split_unseen" for trouble in troubles):
            self.off_until = max(close + 20 * HOUR, self.off_until or close)
        is_wanted = True
        is_left_alone = all(trouble.place != "owner" for trouble in troubles)
        confirms = world.parameters.risk.require_confirmation
        for at, begins_a_step in _cron(session, decides_at=60 if confirms else 20):
            while outside and outside[0][0] <= at:
                when, _, trouble = outside.pop(0)
                world.clock.set(max(when, world.clock.now()))
                self._befall(session, trouble)
                world.check(invariants.AFTER_EVENTS)
                is_wanted = True
            is_wanted = is_wanted or begins_a_step
            if self.off_until and at < self.off_until:
                world.is_untroubled = False
                self.felt.add(("server", "off"))
                continue
            if confirms and is_left_alone and at == close - 40 * MINUTE and at >= world.clock.now():
                world.clock.set(at)
                world.approve()
            if not is_wanted or at < world.clock.now():
                continue
            world.clock.set(at)
            ended = world.run()
            is_unfinished = ended.exit_code != 0 or (ended.step == "settle" and world.store.unsettled_rows())
            is_wanted = bool(troubles or is_unfinished) and ended.step != ""

    def _pass_the_nights(self, session: date) -> None:
        """Every evening up to the next session's, and now and then the hours around midnight."""
        world = self.world
        for at in _nights(world.life.seed, session):
            if self.off_until and at < self.off_until:
                world.is_untroubled = False
                self.felt.add(("server", "off"))
            elif at > world.clock.now():
                world.clock.set(at)
                for _ in range(STEPS_A_NIGHT):  # cron comes every minute while something is due
                    if not world.run().step:
                        break
                    world.clock.set(world.clock.now() + MINUTE)

    def _befall(self, session: date, trouble: Trouble) -> None:
        world, size, now = self.world, trouble.size, self.world.clock.now()
        self._count_felt()  # what is felt from now on is this trouble's
        self.armed.append(trouble)
        world.arm(trouble)
        match trouble.place, trouble.what:
            case "auction", "partial":
                world.broker.differs["partial"] = size
            case "auction", what:
                world.broker.differs[what] = 700 * size
            case "broker", "rejects":
                world.broker.rejects = True
            case "broker", "restarts":
                world.broker.restart()
            case "broker", "silent":
                world.broker.silent_until = now + 200 * HOUR * size
            case "post", "away":
                world.post.away_until = now + 100 * HOUR * size
            case "broker", "away":
                world.broker.away_until = now + 4 * HOUR * size
            case "market", "halts_trading":
                world.market.halted[session] = now
            case "market", "no_volume":
                world.market.no_volume_until = now + 400 * HOUR * size
            case "market", what:
                world.market.faults[session] = what
            case "server", "off":
                self.off_until = now + OFF_HOURS * HOUR * size**2
            case "server", "clock_wrong":
                world.broker.clock_off = 10 * HOUR * (size - 0.5)
                world.broker.clock_off_until = now + 30 * HOUR
            case "owner", what:
                if self._act(trouble):
                    self.felt.add(("owner", what))

    def _act(self, trouble: Trouble) -> bool:
        """What the owner does; whether anything came of it."""
        world, size = self.world, trouble.size
        acts = len(world.store.acts())
        match trouble.what:
            case "halts" | "halts_entries":
                world.halt(allow_exits=trouble.what == "halts_entries")
                return bool(world.halted)
            case "cancels" | "halts_and_cancels":
                if trouble.what == "cancels":
                    world.cancel()
                else:
                    world.halt(allow_exits=False, cancel=True)
                return len(world.store.acts()) > acts and world.store.order(world.today) is not None
            case "flattens" | "approves" | "refuses" | "resumes":
                {
                    "flattens": world.flatten,
                    "approves": world.approve,
                    "refuses": world.refuse,
                    "resumes": world.resume,
                }[trouble.what]()
                return len(world.store.acts()) > acts
            case "restores":
                is_kept = trouble in world.backups
                world.restore(trouble)
                return is_kept
            case "runs_again":
                return bool(world.run().step)
            case "changes_settings":
                before = world.parameters
                world.change_settings(trouble)
                return world.parameters != before
            case "looks":
                world.look()
            case "deposits":
                return self._moves(CashKind.DEPOSIT, 1000 * size)
            case "withdraws":
                return self._moves(CashKind.WITHDRAWAL, 1000 * size)
            case "gets_dividend":
                return self._moves(CashKind.DIVIDEND, 20 * size)
            case "pays_fee":
                return self._moves(CashKind.FEE, 20 * size)
            case "trades_elsewhere":
                return world.trade_elsewhere(500 * size)
            case "buys":
                world.trade_by_hand(1 + int(3 * size))
            case "sells":
                world.trade_by_hand(-1 - int(3 * size))
        return True

    def _moves(self, kind: CashKind, usd: float) -> bool:
        has_moved = self.world.move_cash(kind, usd)
        self.world.tell_deposits()
        return has_moved

    def _count_felt(self) -> None:
        """Trouble from outside counts as reached where it has had an effect."""
        world = self.world
        felt = self.felt | world.broker.felt | world.market.felt
        if world.post.tries_in_vain:
            felt.add(("post", "away"))
        for trouble in [trouble for trouble in self.armed if (trouble.place, trouble.what) in felt]:
            self.armed.remove(trouble)
            world.reached[trouble.place, trouble.what] += 1
        self.felt.clear()
        world.broker.felt.clear()
        world.market.felt.clear()
        world.post.tries_in_vain = 0


def _cron(session: date, decides_at: int) -> Iterator[tuple[datetime, bool]]:
    """The minutes at which cron's call can matter, and whether a step may begin then."""
    opened, close = calendar().open(session), calendar().close(session)
    yield opened + 5 * MINUTE, False
    for minutes in range(120, decides_at, -15):
        if close - minutes * MINUTE > opened:
            yield close - minutes * MINUTE, minutes == 120
    for minutes in range(decides_at, 0, -1):
        yield close - minutes * MINUTE, minutes in (decides_at, 20)
    for attempt in range(SETTLE_ATTEMPTS):
        yield close + (20 + 15 * attempt) * MINUTE, attempt == 0


def _nights(seed: int, session: date) -> Iterator[datetime]:
    """When cron's call can matter between two sessions: the evenings, midnight, the hours in which clocks change."""
    following, chance = calendar().nearest(session)[1], stream(seed, f"nights {session}")
    for day in (session + n * DAY for n in range((following - session).days)):
        midnight = calendar().at(day + DAY, "00:00")
        changes = midnight - calendar().at(day, "00:00") != DAY
        if changes:  # at two in the morning, and three hours on both sides of it
            yield from (calendar().at(day, "00:00") + hours * HOUR + 30 * MINUTE for hours in range(4))
        yield calendar().at(day, "18:00")
        if changes or chance.random() < OVER_MIDNIGHT:
            yield midnight - MINUTE
            yield midnight + MINUTE
