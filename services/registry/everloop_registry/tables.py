"""The registry's tables: decisions as they were published, their fold, and the working state beside it."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import sqlalchemy as sql

from everloop_schemas.envelope import utc_time
from everloop_shared.outbox import add_kernel_tables

MIGRATIONS = Path(__file__).parent / "migrations"
LOOP = sql.String(63)

metadata = sql.MetaData()
stored_offsets, outbox = add_kernel_tables(metadata)

decisions = sql.Table(
    "decisions",
    metadata,
    sql.Column("loop", LOOP, primary_key=True),
    sql.Column("sequence", sql.Integer, primary_key=True),
    sql.Column("type", sql.String(64), nullable=False),
    sql.Column("subject", sql.String(256), nullable=False),
    sql.Column("time_us", sql.BigInteger, nullable=False, comment="microseconds since the epoch"),
    sql.Column("wire", sql.LargeBinary, nullable=False, comment="the record's bytes, which the next prevhash hashes"),
    sql.Index("decisions_by_subject", "loop", "subject"),
    sql.Index("decisions_by_time", "loop", "time_us"),
)
loops = sql.Table(
    "loops",
    metadata,
    sql.Column("loop", LOOP, primary_key=True),
    sql.Column("head", sql.String(64), nullable=False, comment="sha256 of the last decision"),
    sql.Column("state", sql.Text, nullable=False, comment="the fold, as JSON"),
    sql.Column("deleted", sql.Boolean, nullable=False, server_default=sql.false()),
    sql.Column("team", sql.String(100), nullable=False, server_default="", comment="it belongs to; empty for none"),
    sql.Column("feature_cost", sql.Double, nullable=False, server_default="0", comment="microseconds per event"),
    sql.Index("loops_by_team", "team"),
)
versions = sql.Table(
    "versions",
    metadata,
    sql.Column("loop", LOOP, primary_key=True),
    sql.Column("version", sql.String(256), primary_key=True),
    sql.Column("model", sql.Text, nullable=False, comment="its description by training, as JSON"),
    sql.Column("number", sql.Integer, nullable=False, comment="counts the registrations of this loop, from 1"),
    sql.Column("time_us", sql.BigInteger, nullable=False, comment="when it was registered"),
    sql.Column("run", sql.String(256), nullable=False),
    sql.Column("past", sql.Boolean, nullable=False, comment="whether the loop was deleted since"),
    sql.Index("versions_by_run", "run"),
    sql.Index("versions_by_number", "loop", "number", unique=True),
)
working = sql.Table(
    "working",
    metadata,
    sql.Column("loop", LOOP, primary_key=True),
    sql.Column("state", sql.Text, nullable=False, comment="evidence and counters, as JSON; no decision"),
)
KEY, TEXT_ID = sql.String(250), sql.String(256)
"""Keys of parameters, metrics and tags; ids of runs, experiments and logged models."""

tracking_keys = sql.Table(
    "tracking_keys",
    metadata,
    sql.Column("key", LOOP, primary_key=True, comment="the key of RunLogged: a loop, or an experiment's id"),
    sql.Column("sequence", sql.Integer, nullable=False, comment="of the last event that these tables hold"),
)
tracking_positions = sql.Table(
    "tracking_positions",
    metadata,
    sql.Column("partition", sql.Integer, primary_key=True),
    sql.Column("next_offset", sql.BigInteger, nullable=False, comment="these tables hold all before it"),
)
experiments = sql.Table(
    "experiments",
    metadata,
    sql.Column("id", TEXT_ID, primary_key=True),
    sql.Column("key", LOOP, nullable=False),
    sql.Column("name", sql.String(500), nullable=False),
    sql.Column("stage", sql.String(10), nullable=False),
    sql.Column("artifact_location", sql.Text, nullable=False),
    sql.Column("created_ms", sql.BigInteger, nullable=False),
    sql.Column("updated_ms", sql.BigInteger, nullable=False),
    sql.Index("experiments_by_name", "name"),
)
runs = sql.Table(
    "runs",
    metadata,
    sql.Column("id", TEXT_ID, primary_key=True),
    sql.Column("experiment", TEXT_ID, nullable=False),
    sql.Column("name", sql.String(500), nullable=False),
    sql.Column("user", sql.String(256), nullable=False),
    sql.Column("status", sql.String(10), nullable=False),
    sql.Column("stage", sql.String(10), nullable=False),
    sql.Column("started_ms", sql.BigInteger, nullable=False),
    sql.Column("ended_ms", sql.BigInteger),
    sql.Column("logged", sql.Integer, nullable=False, comment="values of metrics that were sent"),
    sql.Index("runs_by_start", "experiment", "started_ms", "id"),
)
metrics = sql.Table(
    "metrics",
    metadata,
    sql.Column("run", TEXT_ID, primary_key=True),
    sql.Column("key", KEY, primary_key=True),
    sql.Column("step", sql.BigInteger, primary_key=True),
    sql.Column("time_ms", sql.BigInteger, primary_key=True),
    sql.Column("value", sql.Double, primary_key=True),
    sql.Column("nan", sql.Boolean, primary_key=True),
    sql.Column("model", TEXT_ID, nullable=False, server_default="", comment="the logged model, empty for none"),
    sql.Column("data_set", sql.String(500)),
    sql.Column("digest", sql.String(64)),
    sql.Index("metrics_by_model", "model", "key"),
)
latest_metrics = sql.Table(
    "latest_metrics",
    metadata,
    sql.Column("run", TEXT_ID, primary_key=True),
    sql.Column("key", KEY, primary_key=True),
    sql.Column("step", sql.BigInteger, nullable=False),
    sql.Column("time_ms", sql.BigInteger, nullable=False),
    sql.Column("value", sql.Double, nullable=False),
    sql.Column("nan", sql.Boolean, nullable=False),
    comment="of each metric the value with the highest step, then time, then value",
)
run_inputs = sql.Table(
    "run_inputs",
    metadata,
    sql.Column("run", TEXT_ID, primary_key=True),
    sql.Column("name", sql.String(500), primary_key=True),
    sql.Column("digest", sql.String(64), primary_key=True),
    sql.Column("context", sql.String(500), nullable=False, comment="what it was used for"),
    sql.Column("data_set", sql.Text, nullable=False, comment="DataSetInput as JSON"),
)
run_models = sql.Table(
    "run_models",
    metadata,
    sql.Column("run", TEXT_ID, primary_key=True),
    sql.Column("model", TEXT_ID, primary_key=True),
    sql.Column("direction", sql.String(6), primary_key=True),
    sql.Column("step", sql.BigInteger, nullable=False),
)
logged_models = sql.Table(
    "logged_models",
    metadata,
    sql.Column("id", TEXT_ID, primary_key=True),
    sql.Column("experiment", TEXT_ID, nullable=False),
    sql.Column("name", sql.String(500), nullable=False),
    sql.Column("run", TEXT_ID),
    sql.Column("kind", sql.String(500), nullable=False),
    sql.Column("status", sql.String(40), nullable=False),
    sql.Column("message", sql.Text, nullable=False),
    sql.Column("stage", sql.String(10), nullable=False),
    sql.Column("artifact_location", sql.Text, nullable=False),
    sql.Column("created_ms", sql.BigInteger, nullable=False),
    sql.Column("updated_ms", sql.BigInteger, nullable=False),
    sql.Index("logged_models_by_time", "experiment", "created_ms", "id"),
    sql.Index("logged_models_by_run", "run"),
)
notes = sql.Table(
    "notes",
    metadata,
    sql.Column("loop", LOOP, primary_key=True),
    sql.Column("number", sql.Integer, primary_key=True, comment="of a version; 0 is the registered model itself"),
    sql.Column("description", sql.Text, nullable=False),
    sql.Column("updated_ms", sql.BigInteger, nullable=False),
)


def _texts(name: str, owner: str, *more: sql.Column[int], of: sql.types.TypeEngine[str] = TEXT_ID) -> sql.Table:
    """A table of texts by key, such as tags."""
    return sql.Table(
        name,
        metadata,
        sql.Column(owner, of, primary_key=True),
        *more,
        sql.Column("key", KEY, primary_key=True),
        sql.Column("value", sql.Text, nullable=False),
    )


experiment_tags = _texts("experiment_tags", "experiment")
run_tags = _texts("run_tags", "run")
parameters = _texts("parameters", "run")
logged_model_tags = _texts("logged_model_tags", "model")
logged_model_parameters = _texts("logged_model_parameters", "model")
note_tags = _texts("note_tags", "loop", sql.Column("number", sql.Integer, primary_key=True), of=LOOP)

mirror_positions = sql.Table(
    "mirror_positions",
    metadata,
    sql.Column("server", sql.String(500), primary_key=True, comment="the URL of the MLflow server"),
    sql.Column("topic", sql.String(249), primary_key=True),
    sql.Column("partition", sql.Integer, primary_key=True),
    sql.Column("next_offset", sql.BigInteger, nullable=False, comment="all before it is on the server"),
)
mirrored = sql.Table(
    "mirrored",
    metadata,
    sql.Column("server", sql.String(500), primary_key=True),
    sql.Column("kind", sql.String(20), primary_key=True),
    sql.Column("key", TEXT_ID, primary_key=True),
    sql.Column("named", sql.Text, nullable=False, comment="what it is called there, or what was told of it"),
)

TRACKING = (
    tracking_keys,
    tracking_positions,
    experiments,
    experiment_tags,
    runs,
    run_tags,
    parameters,
    metrics,
    latest_metrics,
    run_inputs,
    run_models,
    logged_models,
    logged_model_tags,
    logged_model_parameters,
    notes,
    note_tags,
)
"""The fold of `registry.run_logged`; each loop's experiment follows from its decisions."""
FOLD = (decisions, loops, versions, working, *TRACKING)
"""What a rebuild empties and fills again."""


def to_micros(time: datetime) -> int:
    """A column `time_us`: microseconds since the epoch, exact."""
    return (time - utc_time(0)) // timedelta(microseconds=1)
