"""Open alerts, what receivers are told and how far each has come, and silences."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "open_alerts",
        sa.Column("loop", sa.String(63), primary_key=True),
        sa.Column("alert", sa.String(160), primary_key=True),
        sa.Column("state", sa.Text, nullable=False, comment="the alert as JSON"),
    )
    op.create_table(
        "alert_queue",
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("loop", sa.String(63), nullable=False),
        sa.Column("event", sa.Text, nullable=False, comment="alert_raised as receivers are told it, in its wire form"),
        sqlite_autoincrement=True,
    )
    position = "number of the last entry of the queue that was delivered"
    op.create_table(
        "receivers",
        sa.Column("name", sa.String(63), primary_key=True),
        sa.Column("position", sa.BigInteger, nullable=False, comment=position),
    )
    op.create_table(
        "silences",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("loop", sa.String(63), nullable=False),
        sa.Column("kind", sa.String(32)),
        sa.Column("alert", sa.String(160)),
        sa.Column("until", sa.String(32), nullable=False, comment="RFC 3339 in UTC with microseconds"),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("actor", sa.String(200), nullable=False),
    )


def downgrade() -> None:
    """Drop them; alerts that are open are raised again by what follows."""
    for table in ("silences", "receivers", "alert_queue", "open_alerts"):
        op.drop_table(table)
