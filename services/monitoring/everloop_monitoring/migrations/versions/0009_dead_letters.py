"""Dead letters have a list, and those that were sent again are remembered."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create the tables; the list begins with the next dead letter."""
    op.create_table(
        "dead_letters",
        sa.Column("seq", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(256), nullable=False, unique=True),
        sa.Column("loop", sa.String(63), nullable=False, comment="empty where the record names none"),
        sa.Column("service", sa.String(32), nullable=False),
        sa.Column("time", sa.String(32), nullable=False),
        sa.Column("letter", sa.JSON, nullable=False, comment="the rest of the list's entry, without the record"),
        sa.Index("dead_letters_by_loop", "loop", "seq"),
    )
    op.create_table(
        "sent_letters",
        sa.Column("seq", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(256), nullable=False, unique=True),
        sa.Column("letter", sa.String(256), nullable=False),
        sa.Column("event", sa.Text, nullable=False, comment="that says so, as JSON"),
        sa.Index("sent_letters_by_letter", "letter"),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("sent_letters")
    op.drop_table("dead_letters")
