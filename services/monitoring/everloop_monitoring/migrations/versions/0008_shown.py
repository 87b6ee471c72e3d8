"""The latest predictions, and the importance of features by version, have rows of their own."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "latest_predictions",
        sa.Column("seq", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("loop", sa.String(63), nullable=False),
        sa.Column("key", sa.LargeBinary(16), nullable=False, unique=True, comment="as in outcomes"),
        sa.Column("prediction", sa.Text, nullable=False, comment="as it is shown, as JSON"),
    )
    op.create_index("latest_predictions_by_loop", "latest_predictions", ["loop", "seq"])
    op.create_table(
        "importances",
        sa.Column("seq", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("loop", sa.String(63), nullable=False),
        sa.Column("version", sa.String(200), nullable=False),
        sa.Column("importance", sa.Text, nullable=False, comment="by feature, as JSON"),
        sa.UniqueConstraint("loop", "version"),
    )


def downgrade() -> None:
    """Drop them; they fill again after the next upgrade."""
    op.drop_table("importances")
    op.drop_index("latest_predictions_by_loop", "latest_predictions")
    op.drop_table("latest_predictions")
