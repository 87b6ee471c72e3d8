"""The projections as tables; all of them can be built again from the topics."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from everloop_shared.outbox import add_kernel_tables

metadata = MetaData()
add_kernel_tables(metadata)

seen = Table(
    "seen",
    metadata,
    Column("key", LargeBinary(16), primary_key=True, comment="BLAKE2b-128 of loop, kind and id"),
    sqlite_with_rowid=False,
)

totals = Table(
    "totals",
    metadata,
    Column("loop", String(63), primary_key=True),
    Column("kind", String(32), primary_key=True),
    Column("n", BigInteger, nullable=False, comment="distinct ids"),
)

works = Table(
    "works",
    metadata,
    Column("loop", String(63), primary_key=True),
    Column("state", Text, nullable=False, comment="scores, baselines and detectors after the last outcome, as JSON"),
)

watches = Table(
    "watches",
    metadata,
    Column("loop", String(63), primary_key=True),
    Column("kind", String(32), primary_key=True),
    Column("state", Text, nullable=False, comment="of one kind of watch after the last record, as JSON"),
)

outcomes = Table(
    "outcomes",
    metadata,
    Column("key", LargeBinary(16), primary_key=True, comment="BLAKE2b-128 of loop and prediction id"),
    Column("known", Text, nullable=False, comment="offset, label, correction and what the baselines said, as JSON"),
    sqlite_with_rowid=False,
)

lines = Table(
    "lines",
    metadata,
    Column("loop", String(63), primary_key=True),
    Column("line", String(200), primary_key=True),
    Column("version", String(200), nullable=False, comment="the latest of the line that predicted"),
    Column("predicted", BigInteger, nullable=False),
    Column("error", Text, nullable=False, comment="exact sum over all it predicted, in whole 2**-200"),
    Column("served", BigInteger, nullable=False),
    Column("served_error", Text, nullable=False, comment="exact sum, as error"),
    Column("rolling", Float, comment="mean error of its last 500"),
    Column("first_time", String(32), nullable=False),
    Column("last_time", String(32), nullable=False),
)

happenings = Table(
    "happenings",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("id", String(256), nullable=False, unique=True),
    Column("loop", String(63), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("time", String(32), nullable=False, comment="RFC 3339 in UTC with microseconds, so that text order is time"),
    Column("what", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("data", JSON, nullable=False),
    Index("happenings_by_loop", "loop", "time"),
)

open_alerts = Table(
    "open_alerts",
    metadata,
    Column("loop", String(63), primary_key=True),
    Column("alert", String(160), primary_key=True),
    Column("state", Text, nullable=False, comment="the alert as JSON"),
)

alert_queue = Table(
    "alert_queue",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("loop", String(63), nullable=False),
    Column("event", Text, nullable=False, comment="alert_raised as receivers are told it, in its wire form"),
    sqlite_autoincrement=True,  # a number is never used again: receivers' positions refer to it
)

receivers = Table(
    "receivers",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("position", BigInteger, nullable=False, comment="number of the last entry of the queue that was delivered"),
)

silences = Table(
    "silences",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("loop", String(63), nullable=False),
    Column("kind", String(32)),
    Column("alert", String(160)),
    Column("until", String(32), nullable=False, comment="RFC 3339 in UTC with microseconds"),
    Column("reason", Text, nullable=False),
    Column("actor", String(200), nullable=False),
)

points = Table(
    "points",
    metadata,
    Column("loop", String(63), primary_key=True),
    Column("outcomes", BigInteger, primary_key=True),
    Column("served", Float, nullable=False),
    Column("no_change", Float, nullable=False),
    Column("majority", Float, nullable=False),
    Column("version", String(200), nullable=False, comment="served on that outcome"),
    Column("champion", String(200), nullable=False),
    Column("time", String(32), nullable=False),
    Column("metric", String(32), comment="by which the scores are"),
)

NUMBER = BigInteger().with_variant(Integer, "sqlite")

latest_predictions = Table(
    "latest_predictions",
    metadata,
    Column("seq", NUMBER, primary_key=True, autoincrement=True),
    Column("loop", String(63), nullable=False),
    Column("key", LargeBinary(16), nullable=False, unique=True, comment="as in outcomes"),
    Column("prediction", Text, nullable=False, comment="as it is shown, as JSON"),
    Index("latest_predictions_by_loop", "loop", "seq"),
)

version_predictions = Table(
    "version_predictions",
    metadata,
    Column("seq", NUMBER, primary_key=True, autoincrement=True),
    Column("loop", String(63), nullable=False),
    Column("version", String(200), nullable=False),
    Column("role", String(16), nullable=False),
    Column("n", BigInteger, nullable=False, comment="records"),
    Column("first_time", String(32), nullable=False),
    Column("last_time", String(32), nullable=False),
    UniqueConstraint("loop", "version", "role"),
    Index("version_predictions_by_loop", "loop", "seq"),
)

importances = Table(
    "importances",
    metadata,
    Column("seq", NUMBER, primary_key=True, autoincrement=True),
    Column("loop", String(63), nullable=False),
    Column("version", String(200), nullable=False),
    Column("importance", Text, nullable=False, comment="by feature, as JSON"),
    UniqueConstraint("loop", "version"),
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("seq", NUMBER, primary_key=True, autoincrement=True),
    Column("id", String(256), nullable=False, unique=True),
    Column("loop", String(63), nullable=False, comment="empty where the record names none"),
    Column("service", String(32), nullable=False),
    Column("time", String(32), nullable=False),
    Column("letter", JSON, nullable=False, comment="the rest of the list's entry, without the record"),
    Index("dead_letters_by_loop", "loop", "seq"),
)

sent_letters = Table(
    "sent_letters",
    metadata,
    Column("seq", NUMBER, primary_key=True, autoincrement=True),
    Column("id", String(256), nullable=False, unique=True),
    Column("letter", String(256), nullable=False),
    Column("event", Text, nullable=False, comment="that says so, as JSON"),
    Index("sent_letters_by_letter", "letter"),
)
