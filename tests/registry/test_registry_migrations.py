"""The migrations make the tables that the code declares, keep what is stored, and take the tables down again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from tests.databases import database_url

from everloop_registry.domain.loop import Loop
from everloop_registry.domain.working_state import WorkingState
from everloop_registry.tables import MIGRATIONS, metadata
from everloop_shared.database import Database

LIVE = {"version": "a-0@10", "since": "2026-01-01T00:00:00Z"}
FOLD_0002: dict[str, Any] = {
    "loop": "market",
    "revision": 1,
    "applied": "2026-01-01T00:00:00Z",
    "spec": {"loop": "market", "task": "binary", "schema": {"x": {"type": "number"}}},
    "sequence": 3,
    "time": "2026-01-01T00:00:00Z",
    "champion": {**LIVE, "version": "b-0@20"},
    "reigns": [{**LIVE, "version": "0"}, LIVE],
}
WORKING_0002: dict[str, Any] = {
    "gate": {
        "epoch": 2,
        "last": 30,
        "start": 25,
        "alarm": 24,
        "challengers": {"c-0": {"bet": {"sums": [0.5] * 7, "outcomes": 5}, "last": 30, "tries": 1}},
        "pending": {"31": {"c-0": 0.5}},
    },
    "guard": {"sums": [0.25] * 7, "outcomes": 3},
    "recent": {"b-0": {"line": {"30": 0.5}, "served": {"30": 0.25}}},
    "runs": {"c-0": "run-c-0"},
    "outcomes": 31,
    "evaluated": 29,
    "learned": 28,
    "judged": 7,
    "served": {"29": 1.0},
    "waiting": [{"version": "b-0@28", "line": "b-0", "offset": 28, "learned": 27}],
    "ready": ["serving-1"],
    "ready_at": 22,
    "instances": {"serving-1": 30},
    "unserved": {"serving-2": {"of": "b-0@20", "version": "0", "reason": "no memory"}},
}


def config(connection: sql.Connection) -> Config:
    """Alembic's, on a connection."""
    made = Config()
    made.set_main_option("script_location", str(MIGRATIONS))
    made.attributes["connection"] = connection
    return made


async def test_up_gives_the_declared_tables_and_down_leaves_nothing(tmp_path: Path, databases: object) -> None:
    def differences(connection: sql.Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    def down(connection: sql.Connection) -> list[str]:
        command.downgrade(config(connection), "base")
        return [t for t in sql.inspect(connection).get_table_names() if t != "alembic_version"]

    async with Database(database_url(tmp_path), MIGRATIONS, schema="registry") as database:
        async with database.engine.begin() as connection:
            different = await connection.run_sync(differences)
            left = await connection.run_sync(down)

    assert different == []
    assert left == ["sqlite_sequence"] or left == []


async def test_fold_and_working_state_of_the_release_before_are_kept_by_up_and_by_down(
    tmp_path: Path, databases: object
) -> None:
    def stored(connection: sql.Connection) -> list[dict[str, Any]]:
        tables = ("loops", "working")
        return [json.loads(connection.execute(sql.text(f"SELECT state FROM {t}")).scalar_one()) for t in tables]

    def migrate(connection: sql.Connection) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        command.downgrade(config(connection), "0002")
        put_loop = sql.text("INSERT INTO loops (loop, head, state, deleted) VALUES ('market', 'h', :state, false)")
        put_working = sql.text("INSERT INTO working (loop, state) VALUES ('market', :state)")
        connection.execute(put_loop, {"state": json.dumps(FOLD_0002)})
        connection.execute(put_working, {"state": json.dumps(WORKING_0002)})
        command.upgrade(config(connection), "head")
        up = stored(connection)
        command.downgrade(config(connection), "0002")
        return up, stored(connection)

    async with Database(database_url(tmp_path), MIGRATIONS, schema="registry") as database:
        async with database.engine.begin() as connection:
            (fold, working), down = await connection.run_sync(migrate)

    loop, state = Loop.model_validate(fold), WorkingState.model_validate(working)
    gate, challenger = state.gate, state.gate.challengers["c-0"]
    assert [v.version for v in loop.previous_champions] == ["0", "a-0@10"]
    assert (gate.epoch, gate.last_offset, gate.start_offset, gate.alarm_offset) == (2, 30, 25, 24)
    assert (challenger.last_offset, challenger.lost_rollouts, challenger.bet.outcomes) == (30, 1, 5)
    assert (state.evaluated_offset, state.learned_outcomes, state.compared_outcomes) == (29, 28, 7)
    assert [(w.version, w.learned_outcomes) for w in state.waiting_refreshes] == [("b-0@28", 27)]
    assert (state.ready_instances, state.ready_at) == (["serving-1"], 22)
    assert state.substitutes["serving-2"].champion == "b-0@20"
    assert set(working) == set(WorkingState.model_fields)
    assert down == [FOLD_0002, WORKING_0002]
