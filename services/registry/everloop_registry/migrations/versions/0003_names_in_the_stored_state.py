"""The fields of fold and working state get the names that the code uses now."""

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

FOLD = {"reigns": "previous_champions"}
WORKING = {
    "evaluated": "evaluated_offset",
    "learned": "learned_outcomes",
    "judged": "compared_outcomes",
    "waiting": "waiting_refreshes",
    "ready": "ready_instances",
    "unserved": "substitutes",
}
GATE = {"last": "last_offset", "start": "start_offset", "alarm": "alarm_offset"}
CHALLENGER = {"last": "last_offset", "tries": "lost_rollouts"}
REFRESH = {"learned": "learned_outcomes"}
SUBSTITUTE = {"of": "champion"}


def upgrade() -> None:
    """Rename the fields in every stored state."""
    _rewrite("loops", lambda state: _renamed(state, FOLD))
    _rewrite("working", _working_upgraded)


def downgrade() -> None:
    """Give the fields their earlier names."""
    _rewrite("loops", lambda state: _renamed(state, _reverse(FOLD)))
    _rewrite("working", _working_downgraded)


def _rewrite(table: str, change: Any) -> None:
    connection = op.get_bind()
    for loop, state in connection.execute(sa.text(f"SELECT loop, state FROM {table}")).all():
        put = sa.text(f"UPDATE {table} SET state = :state WHERE loop = :loop")
        connection.execute(put, {"state": json.dumps(change(json.loads(state))), "loop": loop})


def _working_upgraded(state: dict[str, Any]) -> dict[str, Any]:
    working = _renamed(state, WORKING)
    gate = _renamed(working.get("gate", {}), GATE)
    gate["challengers"] = {line: _renamed(one, CHALLENGER) for line, one in gate.get("challengers", {}).items()}
    refreshes = [_renamed(one, REFRESH) for one in working.get("waiting_refreshes", [])]
    substitutes = {i: _renamed(one, SUBSTITUTE) for i, one in working.get("substitutes", {}).items()}
    return {**working, "gate": gate, "waiting_refreshes": refreshes, "substitutes": substitutes}


def _working_downgraded(state: dict[str, Any]) -> dict[str, Any]:
    gate = _renamed(state.get("gate", {}), _reverse(GATE))
    gate["challengers"] = {line: _renamed(one, _reverse(CHALLENGER)) for line, one in gate["challengers"].items()}
    refreshes = [_renamed(one, _reverse(REFRESH)) for one in state.get("waiting_refreshes", [])]
    substitutes = {i: _renamed(one, _reverse(SUBSTITUTE)) for i, one in state.get("substitutes", {}).items()}
    changed = {**state, "gate": gate, "waiting_refreshes": refreshes, "substitutes": substitutes}
    return _renamed(changed, _reverse(WORKING))


def _renamed(fields: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in fields.items()}


def _reverse(names: Mapping[str, str]) -> dict[str, str]:
    return {new: old for old, new in names.items()}
