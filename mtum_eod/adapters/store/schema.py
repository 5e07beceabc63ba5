"""The tables as SQLAlchemy Core sees them. The migrations make them; a test holds the two together."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any, TypeVar

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    text,
)

from mtum_eod.core.events import Event
from mtum_eod.core.trading import Act, CashKind, Mode, OrderKind, OrderStatus, OrderType, SessionStatus, Side, Step

HEAD = "0004"
"""The newest revision in migrations/, told without importing Alembic. Four digits, ascending."""


class Session(TypeDecorator[date]):
    """A session as TEXT `YYYY-MM-DD`."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: date | None, dialect: Dialect) -> str | None:  # noqa: ARG002 (its signature)
        return None if value is None else value.isoformat()

    def process_result_value(self, value: Any | None, dialect: Dialect) -> date | None:  # noqa: ARG002
        return None if value is None else date.fromisoformat(value)


class Instant(TypeDecorator[datetime]):
    """An aware instant as TEXT in UTC, always with microseconds: one width, so text order is time order."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        if value is None:
            return None
        return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return None if value is None else datetime.fromisoformat(value)


class Json(TypeDecorator[dict[str, Any]]):
    """A document as JSON text."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: dict[str, Any] | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        return None if value is None else json.dumps(value, ensure_ascii=False)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> Any:  # noqa: ARG002
        return None if value is None else json.loads(value)


Member = TypeVar("Member", bound=StrEnum)


class Word(TypeDecorator[Member]):
    """A member of a closed set, as its own text."""

    impl = Text
    cache_ok = True

    def __init__(self, kind: type[Member]) -> None:
        super().__init__()
        self.kind = kind

    def process_bind_param(self, value: Member | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        return value

    def process_result_value(self, value: Any | None, dialect: Dialect) -> Member | None:  # noqa: ARG002
        return None if value is None else self.kind(value)


metadata = MetaData()


def _required(name: str, kind: Any, *more: Any, **options: Any) -> Column[Any]:
    return Column(name, kind, *more, nullable=False, **options)


book = Table(
    "book",
    metadata,
    _required("id", Integer, CheckConstraint("id = 1"), primary_key=True),
    _required("mode", Word(Mode)),
    _required("account", Text),
    _required("symbol", Text),
    _required("is_synthetic", Boolean),
    _required("capital_usd", Float),
    _required("bound_at", Instant),
)

bar = Table(
    "bar",
    metadata,
    _required("revision", Integer, primary_key=True),
    _required("symbol", Text),
    _required("session", Session),
    Column("open", Float),
    Column("high", Float),
    Column("low", Float),
    Column("close", Float),
    Column("volume", Float),
    _required("status", Text),
    _required("source", Text),
    _required("as_of", Instant),
    Index("bar_by_session", "symbol", "session", "revision"),
    sqlite_autoincrement=True,
)

run = Table(
    "run",
    metadata,
    _required("id", Integer, primary_key=True),
    _required("step", Word(Step)),
    Column("session", Session),
    _required("started_at", Instant),
    Column("ended_at", Instant),
    _required("outcome", Text),
    Column("exit_code", Integer),
    _required("error", Text),
    _required("retries", Integer),
    Column("document", Json),
    Index("run_by_session", "session", "step"),
    sqlite_autoincrement=True,
)

settings_version = Table(
    "settings_version",
    metadata,
    _required("id", Integer, primary_key=True),
    _required("sha256", Text, unique=True),
    _required("settings", Json),
    _required("first_used_at", Instant),
)

signal = Table(
    "signal",
    metadata,
    _required("id", Integer, primary_key=True),
    _required("session", Session),
    _required("run_id", Integer, ForeignKey("run.id")),
    _required("settings_id", Integer, ForeignKey("settings_version.id")),
    _required("document", Json),
    _required("inputs", Json),
    _required("bars_revision", Integer),
    _required("recorded_at", Instant),
    Column("drift_action", Text),
    Index("signal_by_session", "session"),
    sqlite_autoincrement=True,
)

session = Table(
    "session",
    metadata,
    _required("session", Session, primary_key=True),
    _required("status", Word(SessionStatus)),
    _required("why", Text),
    _required("is_settled", Boolean),
    _required("written_at", Instant),
    Index("session_unsettled", "session", sqlite_where=text("is_settled = 0")),
)

order_intent = Table(
    "order_intent",
    metadata,
    _required("id", Integer, primary_key=True),
    _required("reference", Text, unique=True),
    _required("session", Session, unique=True),
    _required("kind", Word(OrderKind)),
    _required("side", Word(Side)),
    _required("order_type", Word(OrderType)),
    _required("shares", Integer),
    _required("order_id", Integer),
    _required("decision_price_usd", Float),
    _required("status", Word(OrderStatus)),
    _required("intended_at", Instant),
    _required("updated_at", Instant),
    Column("perm_id", Integer),
    _required("words", Text),
    _required("run_id", Integer, ForeignKey("run.id")),
    Column("signal_id", Integer, ForeignKey("signal.id")),
    _required("is_beside_mismatch", Boolean, server_default=text("0")),
    Column("filled_shares", Integer),
    sqlite_autoincrement=True,
)

execution = Table(
    "execution",
    metadata,
    _required("id", Integer, primary_key=True),
    _required("execution_id", Text, unique=True),
    _required("reference", Text),
    _required("session", Session),
    _required("executed_at", Instant),
    _required("side", Word(Side)),
    _required("shares", Integer),
    _required("price_usd", Float),
    Column("commission_usd", Float),
    _required("is_estimated", Boolean),
    _required("revision", Integer, server_default=text("0")),
    Index("execution_by_reference", "reference"),
    sqlite_autoincrement=True,
)

split = Table(
    "split",
    metadata,
    _required("session", Session, primary_key=True),
    _required("ratio", Float),
    _required("recorded_at", Instant),
)

entry_basis = Table(
    "entry_basis",
    metadata,
    _required("entry_session", Session, primary_key=True),
    _required("atr", Float),
    _required("atr_multiplier", Float),
    _required("recorded_at", Instant),
)

left_shares = Table(
    "left_shares",
    metadata,
    _required("id", Integer, primary_key=True),
    _required("shares", Float),
    _required("recorded_at", Instant),
    sqlite_autoincrement=True,
)

owner_act = Table(
    "owner_act",
    metadata,
    _required("id", Integer, primary_key=True),
    _required("act", Word(Act)),
    Column("session", Session),
    _required("acted_at", Instant),
    _required("acted_by", Text),
    _required("words", Text),
    Index("owner_act_by_session", "session"),
    sqlite_autoincrement=True,
)

cash_flow = Table(
    "cash_flow",
    metadata,
    _required("id", Integer, primary_key=True),
    _required("kind", Word(CashKind)),
    _required("amount_usd", Float),
    _required("session", Session),
    _required("note", Text),
    _required("recorded_at", Instant),
    sqlite_autoincrement=True,
)

halt = Table(
    "halt",
    metadata,
    _required("id", Integer, primary_key=True),
    _required("halted_at", Instant),
    _required("why", Text),
    _required("halted_by", Text),
    _required("allow_exits", Boolean),
    _required("is_daily_loss", Boolean),
    Column("lifted_at", Instant),
    Column("lifted_by", Text),
    Index("halt_standing", "is_daily_loss", unique=True, sqlite_where=text("lifted_at IS NULL")),
    sqlite_autoincrement=True,
)

notice = Table(
    "notice",
    metadata,
    _required("id", Integer, primary_key=True),
    Column("run_id", Integer, ForeignKey("run.id")),
    _required("event", Word(Event)),
    _required("words", Text),
    _required("is_urgent", Boolean),
    _required("told_at", Instant),
    _required("is_to_send", Boolean, server_default=text("0")),
    _required("times_told", Integer, server_default=text("1")),
    _required("attempts", Integer, server_default=text("0")),
    Column("last_tried_at", Instant),
    Column("sent_at", Instant),
    Index("notice_unsent", "id", sqlite_where=text("is_to_send = 1 AND sent_at IS NULL")),
    sqlite_autoincrement=True,
)

equity_mark = Table(
    "equity_mark",
    metadata,
    _required("session", Session, primary_key=True),
    _required("cash", Float),
    _required("position_value", Float),
    _required("value", Float),
    _required("realised", Float),
    _required("unrealised", Float),
    _required("is_final", Boolean),
    _required("written_at", Instant),
    Index("equity_mark_provisional", "session", sqlite_where=text("is_final = 0")),
)

simulated_order = Table(
    "simulated_order",
    metadata,
    _required("reference", Text, primary_key=True),
    _required("order_id", Integer),
    _required("session", Session),
    _required("side", Word(Side)),
    _required("order_type", Word(OrderType)),
    _required("shares", Integer),
    _required("is_cancelled", Boolean),
    _required("accepted_at", Instant),
)
