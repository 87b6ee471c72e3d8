"""Which team a loop belongs to, and what its features cost that team."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add both columns; no loop has a team yet."""
    team = sa.Column("team", sa.String(100), nullable=False, server_default="", comment="it belongs to; empty for none")
    cost = sa.Column("feature_cost", sa.Double, nullable=False, server_default="0", comment="microseconds per event")
    op.add_column("loops", team)
    op.add_column("loops", cost)
    op.create_index("loops_by_team", "loops", ["team"])


def downgrade() -> None:
    """Drop them; a rebuild finds both in the decisions again."""
    op.drop_index("loops_by_team", "loops")
    with op.batch_alter_table("loops") as loops:
        loops.drop_column("feature_cost")
        loops.drop_column("team")
