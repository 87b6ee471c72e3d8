"""Rows of versions become rows of lines, with the latest version of each."""

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

WORKS = sa.table("works", sa.column("loop"), sa.column("state"))


def upgrade() -> None:
    """Add up the rows of each line's versions."""
    merged: dict[tuple[str, str], dict[str, Any]] = {}
    for row in _rows("versions"):
        line, offset = _parse(row["version"])
        into = merged.setdefault((row["loop"], line), {**row, "line": line, "offset": offset})
        if into["version"] != row["version"]:
            _merge(into, row, offset)
    op.drop_table("versions")
    lines = _create_table("lines", sa.Column("line", sa.String(200), primary_key=True), version_is_key=False)
    _insert(lines, [{k: v for k, v in row.items() if k != "offset"} for row in merged.values()])
    _change_states(_upgraded)


def downgrade() -> None:
    """A row for the latest version of each line, with the sums of the line."""
    rows = [{k: v for k, v in row.items() if k != "line"} for row in _rows("lines")]
    op.drop_table("lines")
    _insert(_create_table("versions", version_is_key=True), rows)
    _change_states(_downgraded)


def _rows(table: str) -> list[dict[str, Any]]:
    return [dict(row) for row in op.get_bind().execute(sa.text(f"SELECT * FROM {table}")).mappings()]


def _parse(version: str) -> tuple[str, int]:
    line, _, offset = version.rpartition("@")
    return (line, int(offset)) if line and offset.isdecimal() else (version, -1)


def _merge(into: dict[str, Any], row: dict[str, Any], offset: int) -> None:
    for name in ("predicted", "served"):
        into[name] += row[name]
    for name in ("error", "served_error"):
        into[name] = str(int(into[name]) + int(row[name]))
    into["first_time"] = min(into["first_time"], row["first_time"])
    into["last_time"] = max(into["last_time"], row["last_time"])
    if offset > into["offset"]:
        into |= {"version": row["version"], "offset": offset, "rolling": row["rolling"]}


def _create_table(name: str, *key: sa.Column[Any], version_is_key: bool) -> sa.Table:
    comment = None if version_is_key else "the latest of the line that predicted"
    return op.create_table(
        name,
        sa.Column("loop", sa.String(63), primary_key=True),
        *key,
        sa.Column("version", sa.String(200), primary_key=version_is_key, nullable=False, comment=comment),
        sa.Column("predicted", sa.BigInteger, nullable=False),
        sa.Column("error", sa.Text, nullable=False, comment="exact sum over all it predicted, in whole 2**-200"),
        sa.Column("served", sa.BigInteger, nullable=False),
        sa.Column("served_error", sa.Text, nullable=False, comment="exact sum, as error"),
        sa.Column("rolling", sa.Float, comment="mean error of its last 500"),
        sa.Column("first_time", sa.String(32), nullable=False),
        sa.Column("last_time", sa.String(32), nullable=False),
    )


def _insert(table: sa.Table, rows: list[dict[str, Any]]) -> None:
    if rows:
        op.get_bind().execute(sa.insert(table), rows)


def _change_states(change: Any) -> None:
    connection = op.get_bind()
    for row in connection.execute(sa.select(WORKS)).all():
        state = json.dumps(change(json.loads(row.state)))
        connection.execute(sa.update(WORKS).where(WORKS.c.loop == row.loop).values(state=state))


def _upgraded(state: dict[str, Any]) -> dict[str, Any]:
    by_line: dict[str, Any] = {}
    for version, (last, errors) in sorted(state.pop("by_version", {}).items(), key=lambda item: item[1][0]):
        line = _parse(version)[0]
        by_line[line] = [last, [*by_line.get(line, (0, []))[1], *errors][-500:]]
    return {**state, "by_line": by_line}


def _downgraded(state: dict[str, Any]) -> dict[str, Any]:
    state.pop("by_line", None)  # rolling errors are collected again
    return {**state, "by_version": {}}
