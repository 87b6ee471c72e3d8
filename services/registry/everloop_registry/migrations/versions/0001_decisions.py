"""Decisions, their fold, the working state, the stored offsets and the outbox."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

LOOP = sa.String(63)


def upgrade() -> None:
    """Make every table."""
    op.create_table(
        "decisions",
        sa.Column("loop", LOOP, primary_key=True),
        sa.Column("sequence", sa.Integer, primary_key=True),
        sa.Column("type", sa.String(64), nullable=False),
        sa.Column("subject", sa.String(256), nullable=False),
        sa.Column("time_us", sa.BigInteger, nullable=False, comment="microseconds since the epoch"),
        sa.Column("wire", sa.LargeBinary, nullable=False, comment="the record's bytes, which the next prevhash hashes"),
    )
    op.create_index("decisions_by_subject", "decisions", ["loop", "subject"])
    op.create_index("decisions_by_time", "decisions", ["loop", "time_us"])
    op.create_table(
        "loops",
        sa.Column("loop", LOOP, primary_key=True),
        sa.Column("head", sa.String(64), nullable=False, comment="sha256 of the last decision"),
        sa.Column("state", sa.Text, nullable=False, comment="the fold, as JSON"),
    )
    op.create_table(
        "versions",
        sa.Column("loop", LOOP, primary_key=True),
        sa.Column("version", sa.String(256), primary_key=True),
        sa.Column("model", sa.Text, nullable=False, comment="its description by training, as JSON"),
    )
    op.create_table(
        "working",
        sa.Column("loop", LOOP, primary_key=True),
        sa.Column("state", sa.Text, nullable=False, comment="evidence and counters, as JSON; no decision"),
    )
    _kernel()


def _kernel() -> None:
    op.create_table(
        "stored_offsets",
        sa.Column("topic", sa.String(249), primary_key=True),
        sa.Column("partition", sa.Integer, primary_key=True),
        sa.Column("next_offset", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("topic", sa.String(249), nullable=False),
        sa.Column("value", sa.LargeBinary, nullable=False),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    """Drop every table; the topics hold what is needed to fill them again."""
    for name in ("outbox", "stored_offsets", "working", "versions", "loops", "decisions"):
        op.drop_table(name)
