"""Versions have numbers, and there are tables of experiments, runs, logged models and notes."""

import json
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

LOOP, KEY, ID = sa.String(63), sa.String(250), sa.String(256)
REGISTERED, DELETED = "registry.version_registered.v1", "registry.loop_deleted.v1"


def upgrade() -> None:
    """Number the versions that there are, and make the tables, with an experiment for each loop."""
    _make_tracking()
    _number_versions()
    _make_runs()
    _make_models()
    _add_experiments(op.get_bind())
    _rewrite_working(op.get_bind(), lambda state: {**state, "submitted": [], "scores": {}})


def _number_versions() -> None:
    number, time = "counts the registrations of this loop, from 1", "when it was registered"
    past = "whether the loop was deleted since"
    added = (
        sa.Column("number", sa.Integer, nullable=False, server_default="0", comment=number),
        sa.Column("time_us", sa.BigInteger, nullable=False, server_default="0", comment=time),
        sa.Column("run", ID, nullable=False, server_default=""),
        sa.Column("past", sa.Boolean, nullable=False, server_default=sa.false(), comment=past),
    )
    for column in added:
        op.add_column("versions", column)
    _fill_versions(op.get_bind())
    with op.batch_alter_table("versions") as batch:
        for column in added:
            batch.alter_column(column.name, server_default=None)
    op.create_index("versions_by_number", "versions", ["loop", "number"], unique=True)
    op.create_index("versions_by_run", "versions", ["run"])


def _fill_versions(connection: sa.Connection) -> None:
    put = sa.text(
        "UPDATE versions SET number = :number, time_us = :time, run = :run, past = :past"
        " WHERE loop = :loop AND version = :version"
    )
    for row in list(_registered(connection)):
        connection.execute(put, row)
    tag = sa.text("INSERT INTO note_tags (loop, number, key, value) VALUES (:loop, :number, :key, :value)")
    for loop, number, stored in connection.execute(sa.text("SELECT loop, number, model FROM versions")).all():
        model = json.loads(stored)
        texts = {name: str(model[name]) for name in ("version", "line", "offset", "reason")}
        texts["format"] = model["manifest"].get("format", "river")
        for key, value in texts.items():
            connection.execute(tag, {"loop": loop, "number": number, "key": f"everloop.{key}", "value": value})


def _registered(connection: sa.Connection) -> Iterator[dict[str, object]]:
    models = {(r.loop, r.version): json.loads(r.model) for r in connection.execute(sa.text("SELECT * FROM versions"))}
    query = sa.text("SELECT loop, subject, time_us, sequence FROM decisions WHERE type = :type ORDER BY loop, sequence")
    ended: dict[str, int] = {r.loop: r.sequence for r in connection.execute(query, {"type": DELETED})}
    counts: dict[str, int] = {}
    for loop, version, time, sequence in connection.execute(query, {"type": REGISTERED}):
        counts[loop] = counts.get(loop, 0) + 1
        run = models[loop, version]["run"]
        past = sequence < ended.get(loop, -1)
        yield {"loop": loop, "version": version, "number": counts[loop], "time": time, "run": run, "past": past}


def _make_tracking() -> None:
    op.create_table(
        "tracking_keys",
        sa.Column("key", LOOP, primary_key=True, comment="the key of RunLogged: a loop, or an experiment's id"),
        sa.Column("sequence", sa.Integer, nullable=False, comment="of the last event that these tables hold"),
    )
    op.create_table(
        "tracking_positions",
        sa.Column("partition", sa.Integer, primary_key=True),
        sa.Column("next_offset", sa.BigInteger, nullable=False, comment="these tables hold all before it"),
    )
    op.create_table(
        "experiments",
        sa.Column("id", ID, primary_key=True),
        sa.Column("key", LOOP, nullable=False),
        sa.Column("name", sa.String(500), nullable=False),
        sa.Column("stage", sa.String(10), nullable=False),
        sa.Column("artifact_location", sa.Text, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("updated_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("experiments_by_name", "experiments", ["name"])
    op.create_table(
        "notes",
        sa.Column("loop", LOOP, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, comment="of a version; 0 is the registered model itself"),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("updated_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "note_tags",
        sa.Column("loop", LOOP, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        *_text_columns(),
    )


def _make_runs() -> None:
    op.create_table(
        "runs",
        sa.Column("id", ID, primary_key=True),
        sa.Column("experiment", ID, nullable=False),
        sa.Column("name", sa.String(500), nullable=False),
        sa.Column("user", sa.String(256), nullable=False),
        sa.Column("status", sa.String(10), nullable=False),
        sa.Column("stage", sa.String(10), nullable=False),
        sa.Column("started_ms", sa.BigInteger, nullable=False),
        sa.Column("ended_ms", sa.BigInteger),
        sa.Column("logged", sa.Integer, nullable=False, comment="values of metrics that were sent"),
    )
    op.create_index("runs_by_start", "runs", ["experiment", "started_ms", "id"])
    op.create_table(
        "metrics",
        sa.Column("run", ID, primary_key=True),
        sa.Column("key", KEY, primary_key=True),
        sa.Column("step", sa.BigInteger, primary_key=True),
        sa.Column("time_ms", sa.BigInteger, primary_key=True),
        sa.Column("value", sa.Double, primary_key=True),
        sa.Column("nan", sa.Boolean, primary_key=True),
        sa.Column("model", ID, nullable=False, server_default="", comment="the logged model, empty for none"),
        sa.Column("data_set", sa.String(500)),
        sa.Column("digest", sa.String(64)),
    )
    op.create_index("metrics_by_model", "metrics", ["model", "key"])
    op.create_table(
        "latest_metrics",
        sa.Column("run", ID, primary_key=True),
        sa.Column("key", KEY, primary_key=True),
        sa.Column("step", sa.BigInteger, nullable=False),
        sa.Column("time_ms", sa.BigInteger, nullable=False),
        sa.Column("value", sa.Double, nullable=False),
        sa.Column("nan", sa.Boolean, nullable=False),
        comment="of each metric the value with the highest step, then time, then value",
    )
    op.create_table(
        "run_inputs",
        sa.Column("run", ID, primary_key=True),
        sa.Column("name", sa.String(500), primary_key=True),
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("context", sa.String(500), nullable=False, comment="what it was used for"),
        sa.Column("data_set", sa.Text, nullable=False, comment="DataSetInput as JSON"),
    )
    op.create_table(
        "run_models",
        sa.Column("run", ID, primary_key=True),
        sa.Column("model", ID, primary_key=True),
        sa.Column("direction", sa.String(6), primary_key=True),
        sa.Column("step", sa.BigInteger, nullable=False),
    )


def _make_models() -> None:
    op.create_table(
        "logged_models",
        sa.Column("id", ID, primary_key=True),
        sa.Column("experiment", ID, nullable=False),
        sa.Column("name", sa.String(500), nullable=False),
        sa.Column("run", ID),
        sa.Column("kind", sa.String(500), nullable=False),
        sa.Column("status", sa.String(40), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("stage", sa.String(10), nullable=False),
        sa.Column("artifact_location", sa.Text, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("updated_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("logged_models_by_time", "logged_models", ["experiment", "created_ms", "id"])
    op.create_index("logged_models_by_run", "logged_models", ["run"])
    for name, owner in TEXTS.items():
        op.create_table(name, sa.Column(owner, ID, primary_key=True), *_text_columns())


TEXTS = {
    "experiment_tags": "experiment",
    "run_tags": "run",
    "parameters": "run",
    "logged_model_tags": "model",
    "logged_model_parameters": "model",
}


def _text_columns() -> tuple[sa.Column[str], sa.Column[str]]:
    return sa.Column("key", KEY, primary_key=True), sa.Column("value", sa.Text, nullable=False)


def _add_experiments(connection: sa.Connection) -> None:
    put = sa.text(
        "INSERT INTO experiments (id, key, name, stage, artifact_location, created_ms, updated_ms)"
        " VALUES (:id, :loop, :loop, :stage, :location, :created, :created)"
    )
    first = sa.text("SELECT min(time_us) FROM decisions WHERE loop = :loop")
    for loop, deleted in connection.execute(sa.text("SELECT loop, deleted FROM loops")).all():
        number = str(int.from_bytes(sha256(loop.encode()).digest()[:7]) + 1)
        created = (connection.scalar(first, {"loop": loop}) or 0) // 1000
        row = {"id": number, "loop": loop, "stage": "deleted" if deleted else "active", "created": created}
        connection.execute(put, {**row, "location": f"mlflow-artifacts:/experiments/{number}"})


def _rewrite_working(connection: sa.Connection, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    put = sa.text("UPDATE working SET state = :state WHERE loop = :loop")
    for loop, state in connection.execute(sa.text("SELECT loop, state FROM working")).all():
        connection.execute(put, {"state": json.dumps(change(json.loads(state))), "loop": loop})


def downgrade() -> None:
    """Drop them; the topics hold what is needed to fill them again."""
    _rewrite_working(op.get_bind(), lambda state: {k: v for k, v in state.items() if k not in ("submitted", "scores")})
    made = ("tracking_keys", "tracking_positions", "experiments", "notes", "note_tags", "runs", "metrics")
    for name in (*made, "latest_metrics", "run_inputs", "run_models", "logged_models", *TEXTS):
        op.drop_table(name)
    for index in ("versions_by_number", "versions_by_run"):
        op.drop_index(index, "versions")
    for column in ("past", "run", "time_us", "number"):
        op.drop_column("versions", column)
