"""The book: its tables, and the seven views people query.

Sessions are TEXT `YYYY-MM-DD`; instants TEXT UTC `YYYY-MM-DDTHH:MM:SS.ffffffZ`, one width so that they sort.
Views drop a fraction of zero. Money is USD, prices USD a share, quantities whole shares.
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = (
    """
    CREATE TABLE book (
        id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
        mode TEXT NOT NULL,
        account TEXT NOT NULL,
        symbol TEXT NOT NULL,
        is_synthetic BOOLEAN NOT NULL,
        capital_usd FLOAT NOT NULL CHECK (capital_usd > 0),
        bound_at TEXT NOT NULL
    )""",
    """
    CREATE TABLE bar (
        revision INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        symbol TEXT NOT NULL,
        session TEXT NOT NULL,
        open FLOAT,
        high FLOAT,
        low FLOAT,
        close FLOAT,
        volume FLOAT,
        status TEXT NOT NULL,
        source TEXT NOT NULL,
        as_of TEXT NOT NULL
    )""",
    "CREATE INDEX bar_by_session ON bar (symbol, session, revision)",
    """
    CREATE TABLE run (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        step TEXT NOT NULL,
        session TEXT,
        started_at TEXT NOT NULL,
        ended_at TEXT,
        outcome TEXT NOT NULL,
        exit_code INTEGER,
        error TEXT NOT NULL,
        retries INTEGER NOT NULL,
        document TEXT
    )""",
    "CREATE INDEX run_by_session ON run (session, step)",
    """
    CREATE TABLE settings_version (
        id INTEGER NOT NULL PRIMARY KEY,
        sha256 TEXT NOT NULL UNIQUE,
        settings TEXT NOT NULL CHECK (json_valid(settings)),
        first_used_at TEXT NOT NULL
    )""",
    """
    CREATE TABLE signal (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        session TEXT NOT NULL,
        run_id INTEGER NOT NULL REFERENCES run (id),
        settings_id INTEGER NOT NULL REFERENCES settings_version (id),
        document TEXT NOT NULL CHECK (json_valid(document)),
        inputs TEXT NOT NULL,
        bars_revision INTEGER NOT NULL,
        recorded_at TEXT NOT NULL,
        drift_action TEXT
    )""",
    "CREATE INDEX signal_by_session ON signal (session)",
    """
    CREATE TABLE session (
        session TEXT NOT NULL PRIMARY KEY,
        status TEXT NOT NULL,
        why TEXT NOT NULL,
        is_settled BOOLEAN NOT NULL,
        written_at TEXT NOT NULL
    )""",
    "CREATE INDEX session_unsettled ON session (session) WHERE is_settled = 0",
    """
    CREATE TABLE order_intent (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        reference TEXT NOT NULL UNIQUE,
        session TEXT NOT NULL UNIQUE,
        kind TEXT NOT NULL,
        side TEXT NOT NULL CHECK (side IN ('BUY', 'SELL')),
        order_type TEXT NOT NULL,
        shares INTEGER NOT NULL CHECK (shares > 0),
        order_id INTEGER NOT NULL,
        decision_price_usd FLOAT NOT NULL,
        status TEXT NOT NULL,
        intended_at TEXT NOT NULL,
        updated_at TEXT NOT NULL,
        perm_id INTEGER,
        words TEXT NOT NULL,
        run_id INTEGER NOT NULL REFERENCES run (id),
        signal_id INTEGER REFERENCES signal (id)
    )""",
    """
    CREATE TABLE execution (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        execution_id TEXT NOT NULL UNIQUE,
        reference TEXT NOT NULL,
        session TEXT NOT NULL,
        executed_at TEXT NOT NULL,
        side TEXT NOT NULL CHECK (side IN ('BUY', 'SELL')),
        shares INTEGER NOT NULL CHECK (shares > 0),
        price_usd FLOAT NOT NULL CHECK (price_usd > 0),
        commission_usd FLOAT,
        is_estimated BOOLEAN NOT NULL
    )""",
    "CREATE INDEX execution_by_reference ON execution (reference)",
    """
    CREATE TABLE cash_flow (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        kind TEXT NOT NULL CHECK (kind IN ('deposit', 'withdrawal', 'dividend', 'fee')),
        amount_usd FLOAT NOT NULL CHECK (amount_usd > 0),
        session TEXT NOT NULL,
        note TEXT NOT NULL,
        recorded_at TEXT NOT NULL
    )""",
    """
    CREATE TABLE halt (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        halted_at TEXT NOT NULL,
        why TEXT NOT NULL,
        halted_by TEXT NOT NULL,
        allow_exits BOOLEAN NOT NULL,
        is_daily_loss BOOLEAN NOT NULL,
        lifted_at TEXT,
        lifted_by TEXT
    )""",
    "CREATE UNIQUE INDEX halt_standing ON halt (is_daily_loss) WHERE lifted_at IS NULL",
    """
    CREATE TABLE notice (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        run_id INTEGER REFERENCES run (id),
        event TEXT NOT NULL,
        words TEXT NOT NULL,
        is_urgent BOOLEAN NOT NULL,
        told_at TEXT NOT NULL
    )""",
    """
    CREATE TABLE equity_mark (
        session TEXT NOT NULL PRIMARY KEY,
        cash FLOAT NOT NULL,
        position_value FLOAT NOT NULL,
        value FLOAT NOT NULL,
        realised FLOAT NOT NULL,
        unrealised FLOAT NOT NULL,
        is_final BOOLEAN NOT NULL,
        written_at TEXT NOT NULL
    )""",
    "CREATE INDEX equity_mark_provisional ON equity_mark (session) WHERE is_final = 0",
    """
    CREATE TABLE simulated_order (
        reference TEXT NOT NULL PRIMARY KEY,
        order_id INTEGER NOT NULL,
        session TEXT NOT NULL,
        side TEXT NOT NULL CHECK (side IN ('BUY', 'SELL')),
        order_type TEXT NOT NULL,
        shares INTEGER NOT NULL CHECK (shares > 0),
        is_cancelled BOOLEAN NOT NULL,
        accepted_at TEXT NOT NULL
    )""",
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
            json_extract(signal.document, '$.atr') AS entry_atr,
            json_extract(settings_version.settings, '$.strategy.atr_multiplier') AS atr_multiplier
        FROM trip
        LEFT JOIN order_intent ON order_intent.session = trip.entry_session AND order_intent.side = 'BUY'
        LEFT JOIN signal ON signal.id = order_intent.signal_id
        LEFT JOIN settings_version ON settings_version.id = signal.settings_id
    )"""

VIEWS = (
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
    """
    CREATE VIEW fills AS
    SELECT
        execution.execution_id,
        replace(execution.executed_at, '.000000Z', 'Z') AS executed_at,
        execution.session,
        execution.side AS action,
        (SELECT symbol FROM book) AS symbol,
        execution.shares AS quantity,
        execution.price_usd AS price,
        execution.shares * execution.price_usd AS value,
        execution.commission_usd AS commission,
        execution.is_estimated AS estimated,
        coalesce(json_extract(signal.document, '$.reason'), order_intent.kind) AS reason,
        order_intent.signal_id
    FROM execution
    LEFT JOIN order_intent ON order_intent.reference = execution.reference
    LEFT JOIN signal ON signal.id = order_intent.signal_id
    ORDER BY execution.executed_at, execution.id""",
    # A session decided again (after a skip, or on approval) shows its latest word; order_status is the present one.
    """
    CREATE VIEW signals AS
    SELECT
        signal.id,
        signal.session,
        json_extract(document, '$.mode') AS mode,
        json_extract(document, '$.source') AS source,
        json_extract(document, '$.synthetic') AS synthetic,
        json_extract(document, '$.dry_run') AS dry_run,
        json_extract(document, '$.as_of') AS as_of,
        json_extract(document, '$.close') AS close,
        json_extract(document, '$.ma_50') AS ma_50,
        json_extract(document, '$.rsi') AS rsi,
        json_extract(document, '$.atr') AS atr,
        json_extract(document, '$.volume') AS volume,
        json_extract(document, '$.volume_ma_20') AS volume_ma_20,
        json_extract(document, '$.volume_basis') AS volume_basis,
        json_extract(document, '$.vix') AS vix,
        json_extract(document, '$.trend_bullish') AS trend_bullish,
        json_extract(document, '$.vix_stable') AS vix_stable,
        json_extract(document, '$.rsi_bullish') AS rsi_bullish,
        json_extract(document, '$.volume_confirm') AS volume_confirm,
        json_extract(document, '$.entry_confluence') AS entry_confluence,
        json_extract(document, '$.exit_reasons') AS exit_reasons,
        json_extract(document, '$.exit_confluence') AS exit_confluence,
        json_extract(document, '$.action') AS action,
        json_extract(document, '$.shares') AS shares,
        json_extract(document, '$.blocked_by') AS blocked_by,
        json_extract(document, '$.reason') AS reason,
        order_intent.reference AS order_key,
        order_intent.side AS order_side,
        order_intent.order_type AS order_type,
        order_intent.shares AS order_shares,
        order_intent.status AS order_status,
        json_extract(document, '$.position.shares') AS position_shares,
        json_extract(document, '$.position.entry_price') AS position_entry_price,
        json_extract(document, '$.position.entry_session') AS position_entry_session,
        json_extract(document, '$.position.entry_atr') AS position_entry_atr,
        json_extract(document, '$.position.target') AS position_target,
        json_extract(document, '$.warnings') AS warnings,
        drift_action
    FROM signal
    LEFT JOIN order_intent ON order_intent.signal_id = signal.id
    WHERE NOT EXISTS (SELECT 1 FROM signal AS later WHERE later.session = signal.session AND later.id > signal.id)
    ORDER BY signal.session""",
    """
    CREATE VIEW equity AS
    SELECT session, cash, position_value, value, realised, unrealised FROM equity_mark ORDER BY session""",
    """
    CREATE VIEW runs AS
    SELECT
        id,
        step,
        session,
        replace(started_at, '.000000Z', 'Z') AS started_at,
        replace(ended_at, '.000000Z', 'Z') AS ended_at,
        outcome,
        exit_code,
        error,
        retries
    FROM run
    ORDER BY id""",
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
    """
    CREATE VIEW sessions AS
    SELECT session, status, why, is_settled AS settled FROM session ORDER BY session""",
)


def upgrade() -> None:
    for statement in (*TABLES, *VIEWS):
        op.execute(statement)
