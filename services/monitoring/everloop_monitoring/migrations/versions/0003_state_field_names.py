"""Fields of the stored evaluation state get the names that the code uses."""

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

WORKS = sa.table("works", sa.column("loop"), sa.column("state"))
STATE = {"watch": "drift_detector", "reference": "error_threshold"}
CONTRADICTIONS = {"unheard": "over_share", "told": "alert_raised", "by": "by_source"}


def upgrade() -> None:
    """Rename the fields."""
    _rename_fields(STATE, CONTRADICTIONS)


def downgrade() -> None:
    """Rename them back."""
    _rename_fields({new: old for old, new in STATE.items()}, {new: old for old, new in CONTRADICTIONS.items()})


def _rename_fields(of_state: Mapping[str, str], of_contradictions: Mapping[str, str]) -> None:
    connection = op.get_bind()
    for row in connection.execute(sa.select(WORKS)).all():
        state = _renamed(json.loads(row.state), of_state)
        if "contradictions" in state:
            state["contradictions"] = _renamed(state["contradictions"], of_contradictions)
        connection.execute(sa.update(WORKS).where(WORKS.c.loop == row.loop).values(state=json.dumps(state)))


def _renamed(fields: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in fields.items()}
