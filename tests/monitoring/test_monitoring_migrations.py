"""The migrations create the tables that the code declares, and drop them again."""

from __future__ import annotations

import json
from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, text
from tests.databases import database_url

from everloop_monitoring.adapters.row_names import STATE
from everloop_monitoring.app import MIGRATIONS
from everloop_monitoring.domain.contradictions import Contradictions
from everloop_monitoring.tables import metadata
from everloop_shared.arithmetic import mean
from everloop_shared.database import Database


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


async def test_the_migrations_create_the_tables_of_the_code(tmp_path: Path, databases: object) -> None:
    async with (
        Database(database_url(tmp_path), MIGRATIONS, schema="monitoring") as database,
        database.engine.begin() as connection,
    ):
        differences = await connection.run_sync(lambda c: compare_metadata(MigrationContext.configure(c), metadata))

    assert differences == []


async def test_a_downgrade_drops_every_table_and_an_upgrade_creates_it_again(tmp_path: Path, databases: object) -> None:
    def step(connection: Connection, target: str) -> list[str]:
        config = _config(connection)
        (command.downgrade if target == "base" else command.upgrade)(config, target)
        return inspect(connection).get_table_names()

    async with Database(database_url(tmp_path), MIGRATIONS, schema="monitoring") as database:
        async with database.engine.begin() as connection:
            gone = await connection.run_sync(step, "base")
        async with database.engine.begin() as connection:
            back = await connection.run_sync(step, "head")

    assert gone == ["alembic_version"]
    assert set(metadata.tables) <= set(back)


async def test_sums_of_the_previous_revision_become_exact_and_can_be_downgraded(
    tmp_path: Path, databases: object
) -> None:
    state = '{"outcomes": 4, "sums": [1.5, 2.0, 0.25], "baselines": {"n": 4, "total": 10.0}}'
    row = "INSERT INTO versions VALUES ('l', 'm@1', 4, 1.5, 4, 0.5, NULL, '', '')"

    def step(connection: Connection, way: str, target: str) -> tuple[float, float, str]:
        getattr(command, way)(_config(connection), target)
        error, served = connection.execute(text("SELECT error, served_error FROM versions")).one()
        return error, served, connection.execute(text("SELECT state FROM works")).scalar_one()

    async with Database(database_url(tmp_path), MIGRATIONS, schema="monitoring") as database:
        async with database.engine.begin() as connection:
            await connection.run_sync(lambda c: command.downgrade(_config(c), "0001"))
            await connection.execute(text(row))
            await connection.execute(text("INSERT INTO works VALUES ('l', :state)"), {"state": state})
        async with database.engine.begin() as connection:
            error, served, work = await connection.run_sync(step, "upgrade", "0002")
        async with database.engine.begin() as connection:
            back = await connection.run_sync(step, "downgrade", "0001")

    assert (mean(int(error)), mean(int(served))) == (1.5, 0.5)
    assert [mean(n) for n in json.loads(work)["sums"]] == [1.5, 2.0, 0.25]
    assert back[:2] == (1.5, 0.5)


async def test_the_stored_state_keeps_its_values_under_the_names_of_the_code(tmp_path: Path, databases: object) -> None:
    drift = {"seen": 7, "errors": [1, 0]}
    contradictions = {"changed": 2, "unheard": 3, "told": True, "by": {"labels": 2}}
    state = {"outcomes": 9, "watch": drift, "reference": {"usual": 0.5}, "contradictions": contradictions}

    def step(connection: Connection, way: str, target: str) -> str:
        getattr(command, way)(_config(connection), target)
        return str(connection.execute(text("SELECT state FROM works")).scalar_one())

    async with Database(database_url(tmp_path), MIGRATIONS, schema="monitoring") as database:
        async with database.engine.begin() as connection:
            await connection.run_sync(lambda c: command.downgrade(_config(c), "0002"))
            await connection.execute(text("INSERT INTO works VALUES ('l', :state)"), {"state": json.dumps(state)})
        async with database.engine.begin() as connection:
            upgraded = STATE.validate_json(await connection.run_sync(step, "upgrade", "0003"))
        async with database.engine.begin() as connection:
            downgraded = await connection.run_sync(step, "downgrade", "0002")

    assert (upgraded.drift_detector.seen, upgraded.error_threshold.usual) == (7, 0.5)
    assert upgraded.contradictions == Contradictions(
        changed=2, over_share=3, alert_raised=True, by_source={"labels": 2}
    )
    assert json.loads(downgraded) == state


async def test_the_rows_of_versions_become_those_of_lines(tmp_path: Path, databases: object) -> None:
    state = {"outcomes": 4, "by_version": {"m@9": [3, [1.0, 0.0]], "m@10": [4, [0.0]], "0": [4, [1.0]]}}
    rows = [
        ("m@10", 2, "20", 1, "5", 0.25, "2026-01-02", "2026-01-03"),
        ("m@9", 3, "30", 3, "30", 0.75, "2026-01-01", "2026-01-02"),
        ("0", 1, "8", 0, "0", None, "2026-01-01", "2026-01-01"),
    ]
    names = ("version", "predicted", "error", "served", "served_error", "rolling", "first_time", "last_time")
    insert = f"INSERT INTO versions (loop, {', '.join(names)}) VALUES ('l', :{', :'.join(names)})"

    async with Database(database_url(tmp_path), MIGRATIONS, schema="monitoring") as database:
        async with database.engine.begin() as connection:
            await connection.run_sync(lambda c: command.downgrade(_config(c), "0003"))
            await connection.execute(text(insert), [dict(zip(names, row, strict=True)) for row in rows])
            await connection.execute(text("INSERT INTO works VALUES ('l', :state)"), {"state": json.dumps(state)})
        async with database.engine.begin() as connection:
            await connection.run_sync(lambda c: command.upgrade(_config(c), "0004"))
            found = (await connection.execute(text("SELECT * FROM lines ORDER BY line"))).mappings().all()
            work = STATE.validate_json((await connection.execute(text("SELECT state FROM works"))).scalar_one())
        async with database.engine.begin() as connection:
            await connection.run_sync(lambda c: command.downgrade(_config(c), "0003"))
            back = (await connection.execute(text("SELECT version, error FROM versions ORDER BY version"))).all()
            old = json.loads((await connection.execute(text("SELECT state FROM works"))).scalar_one())

    line = {"loop": "l", "line": "m", "version": "m@10", "predicted": 5, "error": "50", "served": 4}
    assert [row["line"] for row in found] == ["0", "m"]
    assert dict(found[1]) == line | {
        "served_error": "35", "rolling": 0.25, "first_time": "2026-01-01", "last_time": "2026-01-03"
    }  # fmt: skip
    assert work.by_line == {"m": (4, [1.0, 0.0, 0.0]), "0": (4, [1.0])}
    assert [tuple(row) for row in back] == [("0", "8"), ("m@10", "50")]
    assert old["by_version"] == {}
