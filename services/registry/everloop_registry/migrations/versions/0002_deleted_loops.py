"""Loops can be deleted, and their fold knows the latest versions, whose artifacts are kept."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

KEPT = 20
JUDGED = ("registry.version_registered.v1", "registry.gate_decided.v1")


def upgrade() -> None:
    """Add the column, and bring each fold to what folding its decisions again would give."""
    op.add_column("loops", sa.Column("deleted", sa.Boolean, nullable=False, server_default=sa.false()))
    connection = op.get_bind()
    for loop, state in connection.execute(sa.text("SELECT loop, state FROM loops")).all():
        registered, judged = _versions(connection, loop)
        fold = json.dumps({**json.loads(state), "registered": registered[-KEPT:], "judged": judged})
        put = sa.text("UPDATE loops SET state = :state WHERE loop = :loop")
        connection.execute(put, {"state": fold, "loop": loop})


def _versions(connection: sa.Connection, loop: str) -> tuple[list[str], int]:
    query = sa.text("SELECT type, subject FROM decisions WHERE loop = :loop ORDER BY sequence")
    rows = [row for row in connection.execute(query, {"loop": loop}) if row.type in JUDGED]
    offsets = [int(end) for _, subject in rows if "@" in subject and (end := subject.rpartition("@")[2]).isdecimal()]
    return [subject for kind, subject in rows if kind == JUDGED[0]], max(offsets, default=-1)


def downgrade() -> None:
    """Take the column away; the fold of the release before leaves out what it does not know."""
    op.drop_column("loops", "deleted")
