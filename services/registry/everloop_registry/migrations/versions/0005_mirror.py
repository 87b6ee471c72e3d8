"""How far the mirror on another MLflow server has come, and what things are called there."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

SERVER = sa.String(500)


def upgrade() -> None:
    """Make both tables."""
    op.create_table(
        "mirror_positions",
        sa.Column("server", SERVER, primary_key=True, comment="the URL of the MLflow server"),
        sa.Column("topic", sa.String(249), primary_key=True),
        sa.Column("partition", sa.Integer, primary_key=True),
        sa.Column("next_offset", sa.BigInteger, nullable=False, comment="all before it is on the server"),
    )
    op.create_table(
        "mirrored",
        sa.Column("server", SERVER, primary_key=True),
        sa.Column("kind", sa.String(20), primary_key=True),
        sa.Column("key", sa.String(256), primary_key=True),
        sa.Column("named", sa.String(1_000), nullable=False, comment="what it is called on the server"),
    )


def downgrade() -> None:
    """Drop them; the mirror begins anew and finds what is there."""
    op.drop_table("mirrored")
    op.drop_table("mirror_positions")
