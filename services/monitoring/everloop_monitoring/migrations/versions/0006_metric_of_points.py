"""Points of the curves say by which metric they are."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; points of earlier releases are by accuracy or mae, and have none."""
    op.add_column("points", sa.Column("metric", sa.String(32), comment="by which the scores are"))


def downgrade() -> None:
    """Drop it, and the points that are by another metric."""
    op.execute("DELETE FROM points WHERE metric NOT IN ('accuracy', 'mae')")
    op.drop_column("points", "metric")
