"""How many predictions each version made in each role, and when."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create the table; it counts from the next prediction on."""
    op.create_table(
        "version_predictions",
        sa.Column("seq", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("loop", sa.String(63), nullable=False),
        sa.Column("version", sa.String(200), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("n", sa.BigInteger, nullable=False, comment="records"),
        sa.Column("first_time", sa.String(32), nullable=False),
        sa.Column("last_time", sa.String(32), nullable=False),
        sa.UniqueConstraint("loop", "version", "role"),
    )
    op.create_index("version_predictions_by_loop", "version_predictions", ["loop", "seq"])


def downgrade() -> None:
    """Drop it; it fills again after the next upgrade."""
    op.drop_index("version_predictions_by_loop", "version_predictions")
    op.drop_table("version_predictions")
