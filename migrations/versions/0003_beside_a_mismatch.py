"""An order that was committed while book and broker differed says so: no position tells what became of it.

It was told from the recorded decision before, which a sale by hand does not have.
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

STATEMENTS = (
    "ALTER TABLE order_intent ADD COLUMN is_beside_mismatch BOOLEAN NOT NULL DEFAULT 0",
    """
    UPDATE order_intent SET is_beside_mismatch = 1
    WHERE EXISTS (
        SELECT 1 FROM signal
        WHERE signal.id = order_intent.signal_id AND (
            coalesce(json_extract(signal.inputs, '$.mismatch'), '') <> ''
            OR EXISTS (
                SELECT 1 FROM json_each(signal.inputs, '$.findings') AS finding
                WHERE json_extract(finding.value, '$.kind') = 'ratio'
            )
        )
    )""",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
