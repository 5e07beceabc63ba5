"""What the broker, and the owner's own hands, can do to a book: corrections, splits, shares taken over or left, acts.

A position taken over, or rescaled by a split, has its ATR at entry in `entry_basis`; the views read it from there
first. Messages carry what became of sending them.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLES = (
    "ALTER TABLE execution ADD COLUMN revision INTEGER NOT NULL DEFAULT 0",
    """
    CREATE TABLE split (
        session TEXT NOT NULL PRIMARY KEY,
        ratio FLOAT NOT NULL CHECK (ratio > 0),
        recorded_at TEXT NOT NULL
    )""",
    """
    CREATE TABLE entry_basis (
        entry_session TEXT NOT NULL PRIMARY KEY,
        atr FLOAT NOT NULL CHECK (atr > 0),
        atr_multiplier FLOAT NOT NULL CHECK (atr_multiplier > 0),
        recorded_at TEXT NOT NULL
    )""",
    """
    CREATE TABLE left_shares (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        shares FLOAT NOT NULL CHECK (shares >= 0),
        recorded_at TEXT NOT NULL
    )""",
    """
    CREATE TABLE owner_act (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        act TEXT NOT NULL,
        session TEXT,
        acted_at TEXT NOT NULL,
        acted_by TEXT NOT NULL,
        words TEXT NOT NULL
    )""",
    "CREATE INDEX owner_act_by_session ON owner_act (session)",
    "ALTER TABLE notice ADD COLUMN is_to_send BOOLEAN NOT NULL DEFAULT 0",
    "ALTER TABLE notice ADD COLUMN times_told INTEGER NOT NULL DEFAULT 1",
    "ALTER TABLE notice ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE notice ADD COLUMN last_tried_at TEXT",
    "ALTER TABLE notice ADD COLUMN sent_at TEXT",
    "CREATE INDEX notice_unsent ON notice (id) WHERE is_to_send = 1 AND sent_at IS NULL",
)

# One row a round trip, open ones included: executions between two moments at which no share is held.
ROUND_TRIPS = """
    WITH change AS (
        SELECT *, CASE side WHEN 'BUY' THEN shares ELSE -shares END AS bought FROM execution
    ), running AS (
        SELECT *, sum(bought) OVER (ORDER BY executed_at, id) AS held FROM change
    ), numbered AS (
        SELECT *, sum(held = 0) OVER (ORDER BY executed_at, id) - (held = 0) AS trip FROM running
    ), trip AS (
        SELECT
            min(session) FILTER (WHERE side = 'BUY') AS entry_session,
            sum(price_usd * shares) FILTER (WHERE side = 'BUY')
                / sum(shares) FILTER (WHERE side = 'BUY') AS entry_price,
            sum(shares) FILTER (WHERE side = 'BUY') AS bought_shares,
            max(session) FILTER (WHERE side = 'SELL') AS exit_session,
            sum(price_usd * shares) FILTER (WHERE side = 'SELL')
                / sum(shares) FILTER (WHERE side = 'SELL') AS exit_price,
            -sum(bought * price_usd) AS gross_pnl,
            coalesce(sum(commission_usd), 0.0) AS costs,
            max(is_estimated) AS estimated,
            sum(bought) AS held_shares,
            min(reference) FILTER (WHERE side = 'SELL') AS exit_reference
        FROM numbered
        GROUP BY trip
    ), entered AS (
        SELECT
            trip.*,
            coalesce(entry_basis.atr, json_extract(signal.document, '$.atr')) AS entry_atr,
            coalesce(
                entry_basis.atr_multiplier, json_extract(settings_version.settings, '$.strategy.atr_multiplier')
            ) AS atr_multiplier
        FROM trip
        LEFT JOIN entry_basis ON entry_basis.entry_session = trip.entry_session
        LEFT JOIN order_intent ON order_intent.session = trip.entry_session AND order_intent.side = 'BUY'
        LEFT JOIN signal ON signal.id = order_intent.signal_id
        LEFT JOIN settings_version ON settings_version.id = signal.settings_id
    )"""

VIEWS = (
    "DROP VIEW trades",
    "DROP VIEW position",
    # The first recorded SELL after the entry is the exit decision; a sale by hand has none and names its order's kind.
    f"""
    CREATE VIEW trades AS {ROUND_TRIPS}, decided AS (
        SELECT
            entered.*,
            (
                SELECT json_extract(signal.document, '$.exit_reasons')
                FROM signal
                WHERE signal.session > entry_session AND signal.session <= exit_session
                    AND json_extract(signal.document, '$.action') = 'SELL'
                ORDER BY signal.session, signal.id
                LIMIT 1
            ) AS reasons,
            (SELECT json_array(kind) FROM order_intent WHERE order_intent.reference = exit_reference) AS order_kind
        FROM entered
        WHERE held_shares = 0
    )
    SELECT
        entry_session,
        entry_price,
        bought_shares AS shares,
        entry_atr,
        exit_session,
        exit_price,
        json_extract(coalesce(reasons, order_kind), '$[0]') AS exit_reason,
        coalesce(reasons, order_kind) AS exit_reasons,
        gross_pnl,
        costs,
        gross_pnl - costs AS net_pnl,
        CAST(julianday(exit_session) - julianday(entry_session) AS INTEGER) AS days,
        (
            SELECT count(*) FROM session
            WHERE session.session > entry_session AND session.session <= exit_session
        ) AS sessions,
        estimated
    FROM decided
    ORDER BY entry_session""",  # noqa: S608 (constant text)
    f"""
    CREATE VIEW position AS {ROUND_TRIPS}
    SELECT
        held_shares AS shares,
        entry_price,
        entry_session,
        entry_atr,
        entry_price + atr_multiplier * entry_atr AS target
    FROM entered
    WHERE held_shares > 0""",  # noqa: S608 (constant text)
)


def upgrade() -> None:
    for statement in (*TABLES, *VIEWS):
        op.execute(statement)
