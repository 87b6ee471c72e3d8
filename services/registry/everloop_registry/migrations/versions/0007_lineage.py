"""What a lineage backend was told of a loop is longer than a name on an MLflow server."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


NAME, TOLD = "what it is called on the server", "what it is called there, or what was told of it"


def upgrade() -> None:
    """Make room for it."""
    _alter(sa.String(1_000), NAME, sa.Text(), TOLD)


def downgrade() -> None:
    """Back to names; what was told of loops goes where it is longer."""
    op.execute("DELETE FROM mirrored WHERE length(named) > 1000")
    _alter(sa.Text(), TOLD, sa.String(1_000), NAME)


def _alter(before: sa.String, comment_before: str, after: sa.String, comment: str) -> None:
    with op.batch_alter_table("mirrored") as mirrored:
        mirrored.alter_column(
            "named",
            type_=after,
            comment=comment,
            existing_type=before,
            existing_nullable=False,
            existing_comment=comment_before,
        )
