"""What watches a loop beside its evaluation has rows of its own."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "watches",
        sa.Column("loop", sa.String(63), primary_key=True),
        sa.Column("kind", sa.String(32), primary_key=True),
        sa.Column("state", sa.Text, nullable=False, comment="of one kind of watch after the last record, as JSON"),
    )


def downgrade() -> None:
    """Drop it; watches begin anew after the next upgrade."""
    op.drop_table("watches")
