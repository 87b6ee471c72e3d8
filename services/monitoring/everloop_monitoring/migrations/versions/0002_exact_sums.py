"""Sums of errors become exact: whole numbers of 2**-200, as text, where floats were."""

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

LARGEST, UNITS = 1e150, 2.0**200
VERSIONS = sa.table("versions", sa.column("loop"), sa.column("version"), sa.column("error"), sa.column("served_error"))
WORKS = sa.table("works", sa.column("loop"), sa.column("state"))


def upgrade() -> None:
    """Turn the columns into text, and every sum into an exact one."""
    _columns(sa.Text(), "exact sum over all it predicted, in whole 2**-200", "exact sum, as error")
    connection = op.get_bind()
    for row in connection.execute(sa.select(VERSIONS)).all():
        sums = {"error": str(_exact(row.error)), "served_error": str(_exact(row.served_error))}
        _change(VERSIONS, (VERSIONS.c.loop == row.loop) & (VERSIONS.c.version == row.version), sums)
    for row in connection.execute(sa.select(WORKS)).all():
        state = json.loads(row.state)
        state["sums"] = [_exact(value) for value in state["sums"]]
        state["baselines"]["total"] = _exact(state["baselines"]["total"])
        _change(WORKS, WORKS.c.loop == row.loop, {"state": json.dumps(state)})


def downgrade() -> None:
    """Back to floats; only as exact as those are."""
    connection = op.get_bind()
    for row in connection.execute(sa.select(VERSIONS)).all():
        sums = {"error": _float(row.error), "served_error": _float(row.served_error)}
        _change(VERSIONS, (VERSIONS.c.loop == row.loop) & (VERSIONS.c.version == row.version), sums)
    for row in connection.execute(sa.select(WORKS)).all():
        state = json.loads(row.state)
        state["sums"] = [_float(value) for value in state["sums"]]
        state["baselines"]["total"] = _float(state["baselines"]["total"])
        _change(WORKS, WORKS.c.loop == row.loop, {"state": json.dumps(state)})
    _columns(sa.Float(), "sum over all it predicted", None)


def _columns(kind: sa.Text | sa.Float[float], *comments: str | None) -> None:
    using = "double precision" if isinstance(kind, sa.Float) else "text"
    with op.batch_alter_table("versions") as table:
        for name, comment in zip(("error", "served_error"), comments, strict=True):
            table.alter_column(name, type_=kind, nullable=False, comment=comment, postgresql_using=f"{name}::{using}")


def _change(table: sa.TableClause, where: sa.ColumnElement[bool], values: dict[str, Any]) -> None:
    op.get_bind().execute(sa.update(table).where(where).values(**values))


def _exact(value: float | str) -> int:
    return int(max(-LARGEST, min(LARGEST, float(value))) * UNITS)


def _float(value: str | int) -> str:
    return repr(int(value) / 2**200)
