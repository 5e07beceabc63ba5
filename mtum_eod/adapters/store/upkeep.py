"""Keeping the database: schema upgrade, backup, restore, check. Alembic is imported only where a schema changes."""

from __future__ import annotations

import os
import shlex
import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from math import prod
from pathlib import Path

from sqlalchemy import Engine, text

import mtum_eod
from mtum_eod.adapters.store.connect import (
    copy_consistently,
    create_private,
    read_only,
    refusals,
    refuse_folder,
    refuse_newer,
    revision_of,
    together,
    write_engine,
)
from mtum_eod.adapters.store.reading import SqlReader
from mtum_eod.adapters.store.schema import HEAD
from mtum_eod.adapters.store.sql_store import SqlStore
from mtum_eod.adapters.store.statements import Statement
from mtum_eod.core.trading import Act, Halt
from mtum_eod.errors import StoreError
from mtum_eod.ports import BookReader, Store

CARRIED = (Act.APPROVE, Act.DECLINE, Act.CANCEL, Act.FLATTEN, Act.GO_LIVE, Act.LEAVE)
"""What the owner can say that holds whatever else a restored book has forgotten."""

REDONE = (Act.ADOPT, Act.SOLD, Act.FILL, Act.RESOLVE)
"""What the owner can put right: done again once a restored book is compared with the broker, if it is still amiss."""

NOTHING_IN_PLACE = "no database was in place: what you told the book after this backup, such as a halt, is not in it"

INTEGRITY = Statement(text("PRAGMA integrity_check"))

IN_DOUBT = "restored over a database that could not be read, in which a halt may have stood"

# Each finds what may not be; its rows are told in the words beside it.
CROSS_CHECKS = (
    (
        "more than one order in session {0}",
        "SELECT session FROM order_intent GROUP BY session HAVING count(*) > 1",
    ),
    (
        "execution {0} sells more than was held, which leaves {1}",
        """
        SELECT execution_id, held FROM (
            SELECT execution_id, sum(CASE side WHEN 'BUY' THEN shares ELSE -shares END)
                OVER (ORDER BY executed_at, id) AS held
            FROM execution
        ) WHERE held < 0
        """,
    ),
    (
        "order {0} is {1}, but its executions add up to {2}",
        """
        SELECT order_intent.reference, status, sum(execution.shares)
        FROM order_intent JOIN execution ON execution.reference = order_intent.reference
        WHERE status IN ('rejected', 'cancelled', 'not_sent')
        GROUP BY order_intent.reference
        """,
    ),
    (
        "order {0} is {1}, but no execution of it is there",
        """
        SELECT reference, status FROM order_intent
        WHERE status IN ('filled', 'partly_filled') AND reference NOT IN (SELECT reference FROM execution)
        """,
    ),
    (
        "execution {0} belongs to no order, and no `reconcile` of the owner's took its shares in or out",
        """
        SELECT execution_id FROM execution
        WHERE reference NOT IN (SELECT reference FROM order_intent)
            AND session NOT IN (SELECT session FROM owner_act WHERE act IN ('adopt', 'sold'))
        """,
    ),
    (
        "the position view says {0}, the executions add up to {1}",
        """
        SELECT viewed, executed FROM (
            SELECT
                (SELECT coalesce(sum(shares), 0) FROM position) AS viewed,
                (SELECT coalesce(sum(CASE side WHEN 'BUY' THEN shares ELSE -shares END), 0) FROM execution) AS executed
        ) WHERE viewed <> executed
        """,
    ),
    (
        "equity of {0}: cash is {1:.2f} USD, capital, cash flows and executions give {2:.2f}",
        """
        WITH money AS (
            SELECT session, CASE WHEN kind IN ('deposit', 'dividend') THEN amount_usd ELSE -amount_usd END AS amount
            FROM cash_flow
            UNION ALL
            SELECT session,
                CASE side WHEN 'BUY' THEN -1 ELSE 1 END * shares * price_usd - coalesce(commission_usd, 0)
            FROM execution
        ), expected AS (
            SELECT mark.session, mark.cash,
                (SELECT capital_usd FROM book)
                    + coalesce((SELECT sum(amount) FROM money WHERE money.session <= mark.session), 0) AS cash_expected
            FROM equity_mark AS mark
        )
        SELECT session, cash, cash_expected FROM expected WHERE abs(cash - cash_expected) >= 0.005 ORDER BY session
        """,
    ),
    (
        "equity of {0}: value is {1:.2f} USD, cash and position give {2:.2f}",
        """
        SELECT session, value, cash + position_value FROM equity_mark
        WHERE abs(value - cash - position_value) >= 0.005 ORDER BY session
        """,
    ),
    (
        "equity of {0}: value is {1:.2f} USD, capital, cash flows, realised and unrealised give {2:.2f}",
        """
        WITH expected AS (
            SELECT session, value, realised + unrealised + (SELECT capital_usd FROM book) + coalesce((
                SELECT sum(CASE WHEN kind IN ('deposit', 'dividend') THEN amount_usd ELSE -amount_usd END)
                FROM cash_flow WHERE cash_flow.session <= mark.session
            ), 0) AS value_expected
            FROM equity_mark AS mark
        )
        SELECT session, value, value_expected FROM expected
        WHERE abs(value - value_expected) >= 0.005 ORDER BY session
        """,
    ),
)


def upgrade(path: Path, backup_dir: Path | None = None) -> str | None:
    """Bring the schema to this program's revision; returns the one it had, None where the database was new.

    An older database is backed up first, into `backup_dir` or a folder `backups` beside it.
    Raises StoreError where the database is newer, or cannot be changed; nothing half-done remains.
    """
    refuse_folder(path)
    with refusals(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            create_private(path)
        engine = write_engine(path)
        try:
            with engine.connect() as db:
                found = revision_of(db, path)
            if found == HEAD:
                return found
            if found is not None:
                refuse_newer(path, found)
                backup(path, backup_dir or path.parent / "backups")
            _migrate(engine)
        finally:
            engine.dispose()
    return found


def _migrate(engine: Engine) -> None:
    # Begun, or Alembic would begin and commit by itself; what that means in SQLite is `together`'s.
    with engine.connect() as db, db.begin(), together(db):
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(migrations_dir()).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = db
        command.upgrade(config, "head")


def migrations_dir() -> Path:
    """Where the migrations are: inside the package in a wheel, at the repository's root in a checkout."""
    package = Path(mtum_eod.__file__).parent
    shipped = package / "migrations"
    return shipped if shipped.is_dir() else package.parent / "migrations"


def backup(path: Path, folder: Path, keep: int | None = None) -> Path:
    """A whole, checked copy of the database in `folder`, also while it is in use; returns its path.

    Named `<database>-<UTC instant>-<revision>.db`, mode 0600, there only once it is complete.
    keep: how many of this database's backups stay, the newest ones; None keeps all.
    """
    refuse_folder(path)
    with refusals(path):
        if not path.exists():
            raise FileNotFoundError("there is nothing to back up")
        folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f".{path.stem}-{_timestamp()}.part"
    with refusals(folder / path.name):
        try:
            create_private(unfinished)
            with refusals(path), closing(_open(path)) as source, closing(_open(unfinished)) as copy:
                source.backup(copy)
                # One self-contained file: a backup must not need a WAL of its own to be read.
                copy.execute("PRAGMA journal_mode = DELETE").fetchone()
            revision = _verified_revision(unfinished)
            done = folder / f"{path.stem}-{_timestamp()}-{revision}.db"
            _sync(unfinished)
            unfinished.replace(done)
            _sync(folder)
        finally:
            unfinished.unlink(missing_ok=True)
        if keep is not None:
            for old in backups(path, folder)[:-keep]:
                old.unlink()
    return done


def backups(path: Path, folder: Path) -> list[Path]:
    """The backups of this database in `folder`, oldest first."""
    return sorted(folder.glob(f"{path.stem}-[0-9]*T[0-9]*Z-[0-9]*.db"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What came of bringing a backup back."""

    kept: Path | None  # where the database that was in place is now; None where there was none
    notes: tuple[str, ...]  # the halts that stand, and what the owner had said since the backup, in words


def restore(source: Path, path: Path) -> Restored:
    """Put a backup in the database's place, with what the owner has said to that one since (`carry_over`).

    The backup is verified before anything moves. The present file stays beside as `.before-restore-<UTC instant>`
    with its WAL, so that nothing in it is lost. Where it cannot be read, entries are halted in the restored one.
    No other program may have the database open meanwhile.
    """
    refuse_folder(path)
    with refusals(source):
        if not source.is_file():
            raise FileNotFoundError("there is no such backup")
    now = _timestamp()
    wal, shm = (path.with_name(path.name + ending) for ending in ("-wal", "-shm"))
    unfinished = path.with_name(f".{path.name}-{now}.part")
    kept = path.with_name(f"{path.name}.before-restore-{now}")
    with refusals(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            create_private(unfinished)
            with refusals(source):
                copy_consistently(source, unfinished)  # what an earlier restore kept may have a WAL beside it
                with closing(_open(unfinished)) as copy:
                    copy.execute("PRAGMA journal_mode = DELETE").fetchone()
                revision = _verified_revision(unfinished, source)
                refuse_newer(source, revision)
            existed = path.exists()
            notes = _succeed(path, unfinished, revision) if existed else [NOTHING_IN_PLACE]
            _sync(unfinished)
            if existed:
                try:
                    os.link(path, kept)  # so that there is a database at every moment
                except OSError:  # a disk without hard links
                    path.rename(kept)
                if wal.exists():
                    wal.rename(kept.with_name(f"{kept.name}-wal"))
            # Left beside the restored file they would be played into it.
            wal.unlink(missing_ok=True)
            shm.unlink(missing_ok=True)
            unfinished.replace(path)
            _sync(path.parent)
        finally:
            for ending in ("", "-wal", "-shm"):
                unfinished.with_name(unfinished.name + ending).unlink(missing_ok=True)
    return Restored(kept=kept if existed else None, notes=tuple(notes))


def _succeed(path: Path, unfinished: Path, revision: str) -> list[str]:
    """Bring over into the restored file, not in its place yet, what the one in place knows of its owner's word."""
    engine = write_engine(unfinished)
    with closing(SqlStore(unfinished, engine)) as restored:
        if revision != HEAD:  # the backup itself stays as it is
            _migrate(engine)
        notes: list[str] = []
        try:
            with refusals(path), closing(SqlReader(path, read_only(path))) as before:
                notes += carry_over(before, restored)
                damage = before.rows(INTEGRITY)
                if damage != [("ok",)]:
                    raise StoreError(f"database {path} is damaged ({damage[0][0]})", hint="")
        except StoreError as error:
            notes.append(f"{error.message}: what you told it since this backup, such as a halt, may be lost")
            if all(halt.is_daily_loss for halt in restored.halts()):
                restored.halt(
                    Halt(halted_at=datetime.now(UTC), why=IN_DOUBT, by="mtum-eod db restore", allow_exits=True)
                )
        for halt in restored.halts():
            reach = "no entries, exits pass" if halt.allow_exits or halt.is_daily_loss else "no orders at all"
            notes.append(f"halted by {halt.by}, {reach}: {halt.why}; `mtum-eod resume` lifts it")
    with closing(_open(unfinished)) as db:
        db.execute("PRAGMA journal_mode = DELETE").fetchone()  # one file, as a backup is: it is to be moved alone
    return notes


def carry_over(before: BookReader, restored: Store) -> list[str]:
    """Tell a restored book what the owner has told the one it replaces; returns in words what is gone.

    Every halt that stood still stands. Of the same book, so do the owner's words on an order, and shares left; money
    and what was put right by hand changed other records too, and is named, to be done again.
    Raises StoreError where `before` cannot be read; what could be is carried over then.
    """
    for halt in before.halts():
        if halt not in restored.halts():
            restored.halt(halt)
    theirs, ours = before.book(), restored.book()
    if theirs and ours and theirs.name != ours.name:
        return [f"the database in place was of another book, {theirs.name}: nothing but its halts is carried over"]
    gone, known = [], restored.acts()
    for act in [act for act in before.acts() if act not in known]:
        if act.act in CARRIED:
            restored.add_act(act)
        elif act.act in REDONE:
            gone.append(f"gone, look with `mtum-eod reconcile`: {act.act} ({act.session}): {act.words}")
        if act.act is Act.LEAVE:
            # Splits that the restored book has not followed yet will make new shares of these too.
            unfollowed = prod(s.ratio for s in before.splits() if s not in restored.splits())
            restored.leave(before.shares_left() / unfollowed, act.at)
    for flow in (Counter(before.cash_flows()) - Counter(restored.cash_flows())).elements():
        note = f" --note {shlex.quote(flow.note)}" if flow.note else ""
        line = f"mtum-eod cash add {flow.kind} {flow.amount_usd:.12g} --date {flow.session}{note}"
        gone.append(f"gone, type it again: `{line}`")
    return gone


def check(path: Path) -> list[str]:
    """What is wrong with the database, in words; empty where all is well. Changes nothing.

    Asks SQLite about the file's integrity and its references, then the book about itself: one order a session,
    never short, and cash, positions and equity that agree with the executions to the cent.
    Raises StoreError where there is no database to look at.
    """
    refuse_folder(path)
    with refusals(path):
        if not path.exists():
            raise FileNotFoundError("there is no such database")
    try:
        with refusals(path), closing(read_only(path)) as reading:
            db = reading.db
            found = [row[0] for row in db.exec_driver_sql("PRAGMA integrity_check").all() if row[0] != "ok"]
            if found:
                return found
            revision = revision_of(db, path)
            if revision != HEAD:
                return [f"schema revision is {revision or 'none'}, this program's is {HEAD}"]
            references = db.exec_driver_sql("PRAGMA foreign_key_check").all()
            found = [f"{row[0]} row {row[1]} refers to a row of {row[2]} that does not exist" for row in references]
            for words, query in CROSS_CHECKS:
                found += [words.format(*row) for row in db.exec_driver_sql(query).all()]
            return found
    except StoreError as error:
        return [error.message]


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None)


def _verified_revision(path: Path, source: Path | None = None) -> str:
    """The revision of a backup file whose integrity holds. Raises StoreError otherwise, about `source` if given."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as db:
        findings: Sequence[tuple[str]] = db.execute("PRAGMA integrity_check").fetchall()
        if findings != [("ok",)]:
            raise StoreError(
                f"{source or path} is damaged: {findings[0][0]}",
                hint="take an older backup, or look at the disk; see `mtum-eod db check`",
            )
        revision = db.execute("SELECT version_num FROM alembic_version").fetchone()
    return str(revision[0])


def _sync(path: Path) -> None:
    """Have the disk write it down, so that a rename never points at what is not there yet."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _timestamp() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}"
