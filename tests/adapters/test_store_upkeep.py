"""Upgrade, backup, restore and check of the database, and the schema's two descriptions held together."""

import shutil
import sqlite3
import stat
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from book_by_hand import BOOK, at, day, fill, recording, write_book

from mtum_eod.adapters.store import SqlStore, connect, open_reader, open_store, opening, schema, upkeep
from mtum_eod.core.trading import Act, CashFlow, CashKind, Halt, OwnerAct, Side, Split, Step
from mtum_eod.errors import StoreError

NEXT_REVISION = """
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.execute("ALTER TABLE run ADD COLUMN host TEXT")
    {then}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "book.db"


@pytest.fixture
def written(path: Path) -> Path:
    store = open_store(path)
    write_book(store)
    store.close()
    return path


@pytest.fixture
def next_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The program one schema revision later."""

    def become(then: str = "") -> None:
        folder = tmp_path / "migrations"
        shutil.copytree(upkeep.migrations_dir(), folder)
        (folder / "versions" / "0004_host.py").write_text(NEXT_REVISION.format(then=then))
        monkeypatch.setattr(upkeep, "migrations_dir", lambda: folder)
        for module in (connect, opening, upkeep):
            monkeypatch.setattr(module, "HEAD", "0005")

    return become


def sql(path: Path, statement: str) -> list[tuple[Any, ...]]:
    db = sqlite3.connect(path)
    try:
        with db:
            return db.execute(statement).fetchall()
    finally:
        db.close()


def fills_in(path: Path) -> int:
    reader = open_reader(path)
    try:
        return len(reader.fills())
    finally:
        reader.close()


# -- the schema -------------------------------------------------------------------------------------------------------


def test_the_revision_the_program_expects_is_the_newest_migration():
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(upkeep.migrations_dir()))
    config.set_main_option("path_separator", "os")

    assert schema.HEAD == ScriptDirectory.from_config(config).get_current_head()


def test_the_migrations_make_the_tables_the_program_describes(path: Path):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    upkeep.upgrade(path)
    engine = connect.write_engine(path)
    with engine.connect() as db:
        differences = compare_metadata(MigrationContext.configure(db), schema.metadata)
    engine.dispose()

    assert [] == differences


def test_a_new_database_is_at_the_newest_revision_and_upgrading_again_changes_nothing(path: Path):
    assert (None, "0004") == (upkeep.upgrade(path), upkeep.upgrade(path))


@pytest.mark.parametrize(
    ("inputs", "is_beside_mismatch"),
    [
        ('{"mismatch": "", "findings": []}', 0),
        ('{"mismatch": "the book holds 20 shares, the broker 25", "findings": []}', 1),
        ('{"mismatch": "", "findings": [{"kind": "zero_volume"}, {"kind": "ratio"}]}', 1),
    ],
)
def test_an_order_from_before_keeps_what_its_decision_knew_of_a_mismatch(
    written: Path, inputs: str, is_beside_mismatch: int
):
    for column in ("is_beside_mismatch", "filled_shares"):
        sql(written, f"ALTER TABLE order_intent DROP COLUMN {column}")
    sql(written, "UPDATE alembic_version SET version_num = '0002'")
    sql(written, f"UPDATE signal SET inputs = '{inputs}' WHERE session = '2024-01-03'")  # noqa: S608 (the test's own)
    upkeep.upgrade(written)

    assert [("2024-01-03", is_beside_mismatch), ("2024-01-08", 0)] == sql(
        written, "SELECT session, is_beside_mismatch FROM order_intent WHERE session < '2024-01-09' ORDER BY session"
    )


def test_an_older_database_is_upgraded_behind_a_backup(written: Path, next_version: Any):
    next_version()
    with pytest.raises(StoreError, match="schema revision 0004, this program reads 0005") as refused:
        open_reader(written)
    store = open_store(written)
    store.start_run(Step.SETTLE, None, at("01-17"))
    fills = len(store.fills())
    store.close()

    (kept,) = (written.parent / "backups").iterdir()
    assert ("mtum-eod db upgrade" in refused.value.hint, 6) == (True, fills)
    assert ([("0004",)], [("0005",)], 0o600) == (
        sql(kept, "SELECT version_num FROM alembic_version"),
        sql(written, "SELECT version_num FROM alembic_version"),
        stat.S_IMODE(kept.stat().st_mode),
    )


def test_an_upgrade_that_fails_half_way_leaves_the_older_database_whole(written: Path, next_version: Any):
    next_version(then='op.execute("ALTER TABLE nowhere ADD COLUMN x TEXT")')
    with pytest.raises(StoreError, match="no such table: nowhere"):
        open_store(written)

    assert ([("0004",)], []) == (
        sql(written, "SELECT version_num FROM alembic_version"),
        sql(written, "SELECT name FROM pragma_table_info('run') WHERE name = 'host'"),
    )


# -- backup -----------------------------------------------------------------------------------------------------------


def test_a_backup_of_a_database_in_use_is_one_private_file_with_every_commit(written: Path, tmp_path: Path):
    store = open_store(written)
    store.add_fills([fill("01-17", Side.SELL, 10, 108.0, 1.08)])
    made = upkeep.backup(written, tmp_path / "kept")
    store.close()

    assert ([made], 0o600, 7, "-0004.db") == (
        list((tmp_path / "kept").iterdir()),
        stat.S_IMODE(made.stat().st_mode),
        fills_in(made),
        made.name[-8:],
    )


def test_only_the_newest_backups_of_this_database_are_kept(written: Path, tmp_path: Path):
    folder = tmp_path / "kept"
    foreign = upkeep.backup(written, folder).rename(folder / "other-20240101T000000000000Z-0004.db")
    made = [upkeep.backup(written, folder, keep=2) for _ in range(4)]

    assert (made[2:], {foreign, *made[2:]}) == (upkeep.backups(written, folder), set(folder.iterdir()))


def test_nothing_that_is_not_whole_becomes_a_backup(written: Path, tmp_path: Path):
    damage(written)
    with pytest.raises(StoreError):
        upkeep.backup(written, tmp_path / "kept")
    with pytest.raises(StoreError, match="nothing to back up"):
        upkeep.backup(tmp_path / "absent.db", tmp_path / "kept")

    assert [] == list((tmp_path / "kept").iterdir())


def damage(path: Path) -> None:
    """Overwrite pages in the middle, the header stays."""
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xa5" * (path.stat().st_size - 12288))


# -- restore ----------------------------------------------------------------------------------------------------------


def test_a_restored_database_is_the_backup_and_the_present_one_stays_beside(written: Path, tmp_path: Path):
    made = upkeep.backup(written, tmp_path / "kept")
    store = open_store(written)
    store.add_fills([fill("01-17", Side.SELL, 10, 108.0, 1.08)])
    store.close()
    beside = upkeep.restore(made, written).kept

    assert beside is not None
    assert (6, 7, 0o600) == (fills_in(written), fills_in(beside), stat.S_IMODE(written.stat().st_mode))
    assert f"{written.name}.before-restore-" == beside.name[: len(written.name) + 16]


def crash(written: Path, write: Callable[[SqlStore], object]) -> Path:
    """A copy of the database as a power cut after that write leaves it, its last commit in the log beside it only."""
    folder = written.parent / "crashed"
    folder.mkdir()
    with closing(open_store(written)) as store:
        write(store)
        for ending in ("", "-wal", "-shm"):
            shutil.copy(f"{written}{ending}", folder / f"{written.name}{ending}")
    return folder / written.name


def test_a_wal_left_by_a_crash_goes_with_the_old_file_and_not_into_the_restored_one(written: Path, tmp_path: Path):
    made = upkeep.backup(written, tmp_path / "kept")
    crashed = crash(written, lambda store: store.add_fills([fill("01-17", Side.SELL, 10, 108.0, 1.08)]))
    beside = upkeep.restore(made, crashed).kept

    assert beside is not None
    assert (6, 7) == (fills_in(crashed), fills_in(beside))


def test_a_file_kept_with_its_wal_is_restored_with_it(written: Path, tmp_path: Path):
    """What a restore had put aside is brought back: its last commits are in the log beside it still."""
    made = upkeep.backup(written, tmp_path / "kept")
    crashed = crash(written, lambda store: store.add_fills([fill("01-17", Side.SELL, 10, 108.0, 1.08)]))
    beside = upkeep.restore(made, crashed).kept
    assert beside is not None
    upkeep.restore(beside, crashed)

    assert (7, 7) == (fills_in(crashed), fills_in(beside))
    assert [] == [p.name for p in crashed.parent.iterdir() if ".part" in p.name]


def test_a_restore_needs_no_database_to_be_there(written: Path, tmp_path: Path):
    made = upkeep.backup(written, tmp_path / "kept")

    restored = upkeep.restore(made, tmp_path / "new" / "book.db")

    assert (None, 6) == (restored.kept, fills_in(tmp_path / "new" / "book.db"))
    assert (upkeep.NOTHING_IN_PLACE,) == restored.notes


@pytest.mark.parametrize("source", ["absent", "damaged", "text", "newer"])
def test_a_backup_that_cannot_be_trusted_moves_nothing(written: Path, tmp_path: Path, source: str):
    made = upkeep.backup(written, tmp_path / "kept")
    if source == "absent":
        made.unlink()
    elif source == "damaged":
        damage(made)
    elif source == "text":
        made.write_text("not a database")
    else:
        sql(made, "UPDATE alembic_version SET version_num = '9999'")
    before = written.read_bytes()

    with pytest.raises(StoreError):
        upkeep.restore(made, written)

    assert (before, {"book.db", "kept"}) == (written.read_bytes(), {file.name for file in tmp_path.iterdir()})


# -- restore: what the owner has said since ---------------------------------------------------------------------------

STOP = Halt(halted_at=at("01-17"), why="away", by="owner", allow_exits=False)
LATCH = Halt(halted_at=at("01-18"), why="-600 USD", by="mtum-eod", allow_exits=True, is_daily_loss=True)
EASED = Halt(halted_at=at("01-19"), why="back", by="owner", allow_exits=True)


def said(act: Act, month_day: str, session: date | None = None, words: str = "") -> OwnerAct:
    return OwnerAct(act=act, session=session, at=at(month_day), by="owner", words=words)


def brought_back(written: Path, since: Callable[[SqlStore], None], before: Sequence[Halt] = ()) -> tuple[str, ...]:
    """A book backed up with these halts, worked on since, and restored; the notes of that."""
    with closing(open_store(written)) as store:
        for halt in before:
            store.halt(halt)
    made = upkeep.backup(written, written.parent / "kept")
    with closing(open_store(written)) as store:
        since(store)
    return upkeep.restore(made, written).notes


def halts_in(path: Path) -> list[Halt]:
    with closing(open_reader(path)) as reader:
        return reader.halts()


@pytest.mark.parametrize(
    ("before", "since", "standing"),
    [
        ([], [STOP], [STOP]),
        ([], [STOP, LATCH], [STOP, LATCH]),
        ([STOP], [], [STOP]),
        ([STOP], [EASED], [EASED]),
        ([LATCH], [STOP], [STOP, LATCH]),
    ],
    ids=["manual", "both", "known to the backup", "another since", "one of each"],
)
def test_every_halt_that_stands_still_stands(
    written: Path, before: list[Halt], since: list[Halt], standing: list[Halt]
):
    """Typed after the backup, it is not lifted by restoring it: the next run would send an order against it."""

    def stop(store: SqlStore) -> None:
        for halt in since:
            store.halt(halt)

    notes = brought_back(written, stop, before)

    assert standing == halts_in(written)
    assert [halt.why in note for halt, note in zip(standing, notes, strict=True)] == [True] * len(standing)


def test_a_halt_lifted_since_the_backup_stands_again_and_is_told(written: Path):
    notes = brought_back(written, lambda store: store.resume(at("01-18"), "owner") and None, [STOP])

    assert [STOP] == halts_in(written)
    assert ("halted by owner, no orders at all: away; `mtum-eod resume` lifts it",) == notes


def test_a_halt_in_a_wal_left_by_a_crash_still_stands(written: Path, tmp_path: Path):
    made = upkeep.backup(written, tmp_path / "kept")
    crashed = crash(written, lambda store: store.halt(STOP))
    upkeep.restore(made, crashed)

    assert [STOP] == halts_in(crashed)


def test_the_restored_database_is_one_whole_private_file(written: Path):
    """What was carried over is in the file itself: its log would stay behind."""
    brought_back(written, lambda store: store.halt(STOP))
    with closing(open_reader(written)) as reader:
        reader.halts()

    assert ["book.db", "kept"] == sorted(p.name for p in written.parent.iterdir() if "before-restore" not in p.name)
    assert ([], 0o600) == (upkeep.check(written), stat.S_IMODE(written.stat().st_mode))


def test_a_word_on_an_order_and_shares_left_are_carried_over(written: Path):
    """A cancel of today's order keeps it from going out; shares left are still the owner's own."""
    cancelled, own = said(Act.CANCEL, "01-17", day("01-17")), said(Act.LEAVE, "01-17")

    def say(store: SqlStore) -> None:
        store.add_act(cancelled)
        store.leave(7.0, own.at)
        store.add_act(own)

    notes = brought_back(written, say)
    with closing(open_reader(written)) as reader:
        found = reader.acts()[-2:], reader.shares_left()

    assert (([cancelled, own], 7.0), ()) == (found, notes)


def test_shares_left_are_carried_over_on_the_scale_of_the_restored_book(written: Path):
    """5 left became 10 by a split that the backup has not followed: it will make 10 of them again."""

    def say(store: SqlStore) -> None:
        store.leave(5.0, at("01-17"))
        store.add_act(said(Act.LEAVE, "01-17"))
        store.split(Split(session=day("01-18"), ratio=2.0), at("01-18"))
        store.leave(10.0, at("01-18"))

    brought_back(written, say)
    with closing(open_reader(written)) as reader:
        assert 5.0 == reader.shares_left()


def test_what_is_gone_is_named_with_the_line_that_brings_it_back(written: Path):
    """The same deposit twice, one of them known to the backup: one is gone."""
    gift = CashFlow(kind=CashKind.DEPOSIT, amount_usd=1234567.89, session=day("01-17"), note="a gift")
    with closing(open_store(written)) as store:
        store.add_cash_flow(gift, at("01-17"))

    def say(store: SqlStore) -> None:
        store.add_cash_flow(gift, at("01-18"))
        store.add_act(said(Act.RESOLVE, "01-18", day("01-16"), "nothing was executed of it"))

    assert (
        "gone, look with `mtum-eod reconcile`: resolve (2024-01-16): nothing was executed of it",
        "gone, type it again: `mtum-eod cash add deposit 1234567.89 --date 2024-01-17 --note 'a gift'`",
    ) == brought_back(written, say)


def test_of_another_book_only_the_halts_are_carried_over(written: Path, tmp_path: Path):
    other = tmp_path / "other.db"
    with closing(open_store(other)) as store:
        run_id = store.start_run(Step.DECIDE, day("01-17"), at("01-17"))
        book = replace(BOOK, account="another")
        store.record(recording(run_id, "01-17", book=book))
        store.halt(STOP)
        store.add_act(said(Act.CANCEL, "01-17", day("01-17")))
    before, notes = acts_in(written), upkeep.restore(upkeep.backup(written, tmp_path / "kept"), other).notes

    assert ([STOP], before) == (halts_in(other), acts_in(other))
    assert "was of another book, simulated / another / MTUM on real data" in notes[0]


def acts_in(path: Path) -> list[OwnerAct]:
    with closing(open_reader(path)) as reader:
        return reader.acts()


@pytest.mark.parametrize("lost", ["damaged", "text", "empty"])
def test_over_a_database_that_cannot_be_read_entries_are_halted(written: Path, tmp_path: Path, lost: str):
    """A halt may have stood in it. Exits pass: a position is not left unattended on a guess."""
    made = upkeep.backup(written, tmp_path / "kept")
    if lost == "damaged":
        damage(written)
    else:
        written.write_text("not a database" * (lost == "text"))
    notes = upkeep.restore(made, written).notes

    assert [(upkeep.IN_DOUBT, True, False)] == [
        (halt.why, halt.allow_exits, halt.is_daily_loss) for halt in halts_in(written)
    ]
    assert "what you told it since this backup, such as a halt, may be lost" in notes[0]
    assert f"no entries, exits pass: {upkeep.IN_DOUBT}; `mtum-eod resume` lifts it" in notes[1]


def test_a_halt_of_the_backup_is_not_eased_by_the_doubt(written: Path, tmp_path: Path):
    with closing(open_store(written)) as store:
        store.halt(STOP)
    made = upkeep.backup(written, tmp_path / "kept")
    damage(written)
    upkeep.restore(made, written)

    assert [STOP] == halts_in(written)


def test_a_backup_of_an_older_version_takes_over_the_halts_too(written: Path, tmp_path: Path, next_version: Any):
    """It is brought up to date before it takes the database's place; the backup itself stays what it is."""
    made = upkeep.backup(written, tmp_path / "kept")
    next_version()
    with closing(open_store(written)) as store:
        store.halt(STOP)
    upkeep.restore(made, written)

    assert [STOP] == halts_in(written)
    assert ([("0005",)], [("0004",)]) == tuple(
        sql(p, "SELECT version_num FROM alembic_version") for p in (written, made)
    )


# -- check ------------------------------------------------------------------------------------------------------------


def test_a_sound_book_has_no_findings_and_is_not_touched(written: Path):
    before = written.stat().st_mtime_ns

    assert ([], before) == (upkeep.check(written), written.stat().st_mtime_ns)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (
            "UPDATE execution SET shares = 30 WHERE session = '2024-01-10'",
            ["execution 01-10.1 sells more than was held, which leaves -9"],
        ),
        (
            "UPDATE equity_mark SET cash = cash + 0.01, position_value = position_value - 0.01 "
            "WHERE session = '2024-01-08'",
            ["equity of 2024-01-08: cash is 5203.80 USD, capital, cash flows and executions give 5203.79"],
        ),
        (
            "UPDATE equity_mark SET position_value = 1071 WHERE session = '2024-01-16'",
            ["equity of 2024-01-16: value is 6136.32 USD, cash and position give 6137.32"],
        ),
        (
            "UPDATE equity_mark SET realised = 0 WHERE session = '2024-01-10'",
            ["equity of 2024-01-10: value is 5136.32 USD, capital, cash flows, realised and unrealised give 5000.00"],
        ),
        ("DELETE FROM settings_version", [f"signal row {n} refers to a row of settings_version that does not exist"
                                          for n in range(1, 9)]),
        (
            "UPDATE order_intent SET status = 'cancelled' WHERE session = '2024-01-10'",
            ["order mtum-eod/simulated/SIM/MTUM/2024-01-10/SELL is cancelled, but its executions add up to 21"],
        ),
        (
            "UPDATE execution SET reference = 'another' WHERE session = '2024-01-16'",
            [
                "order mtum-eod/simulated/SIM/MTUM/2024-01-16/BUY is filled, but no execution of it is there",
                "execution 01-16.1 belongs to no order, and no `reconcile` of the owner's took its shares in or out",
            ],
        ),
        ("UPDATE alembic_version SET version_num = '9999'", ["schema revision is 9999, this program's is 0004"]),
    ],
    ids=["short", "cash", "value", "realised", "reference", "not executed", "no order", "revision"],
)  # fmt: skip
def test_what_does_not_agree_is_found(written: Path, change: str, found: list[str]):
    sql(written, change)

    assert found == upkeep.check(written)[: len(found)]


def test_a_damaged_file_is_a_finding_and_an_absent_one_an_error(written: Path, tmp_path: Path):
    damage(written)

    assert [] != upkeep.check(written)
    with pytest.raises(StoreError, match="no such database"):
        upkeep.check(tmp_path / "absent.db")
