"""What the broker counted as executed of an order, kept with it: past midnight its executions are gone."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE order_intent ADD COLUMN filled_shares INTEGER")
