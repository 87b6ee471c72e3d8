"""Reads the times of records: RFC 3339, and numbers since the epoch as databases and Debezium write them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from everloop_features.observation import parse_time
from everloop_features.times import EPOCH
from everloop_schemas.sources import TimeFormat
from everloop_shared.errors import FieldError

MICROS: dict[str, float] = {"s": 1e6, "ms": 1e3, "us": 1, "days": 86_400e6}
"""Microseconds in one unit; `ns` divides instead."""
SCHEMA_FORMATS: dict[str, TimeFormat] = {
    "io.debezium.time.Timestamp": "ms",
    "io.debezium.time.MicroTimestamp": "us",
    "io.debezium.time.NanoTimestamp": "ns",
    "io.debezium.time.ZonedTimestamp": "rfc3339",
    "io.debezium.time.IsoTimestamp": "rfc3339",
    "io.debezium.time.Date": "days",
    "org.apache.kafka.connect.data.Timestamp": "ms",
    "org.apache.kafka.connect.data.Date": "days",
}
"""The format of a time by the name of its type in the schema of a Kafka Connect record."""


def read_time(value: Any, form: TimeFormat | None, path: str) -> datetime | FieldError:
    """The time at `path`, in UTC. A number needs its format: without one, seconds could not be told from days."""
    if value is None:
        return FieldError("time", f"is missing in the record at {path}; map a time that every record has, or none")
    if isinstance(value, str) and form in (None, "rfc3339"):
        parsed = parse_time("time", value)
        assert parsed is not None, "there is a value"
        return FieldError("time", f"{parsed.error} (read from {path})") if isinstance(parsed, FieldError) else parsed
    if type(value) not in (int, float):
        return FieldError("time", f"must be {_expected(form)} (read from {path})")
    if form is None or form == "rfc3339":
        fix = f"name its unit in the source, time: {{path: {path}, format: ms}}, or s, us, ns, days"
        return FieldError("time", f"is a number; {fix}")
    try:
        micros = value // 1000 if form == "ns" else value * MICROS[form]
        return EPOCH + timedelta(microseconds=int(micros))
    except (OverflowError, ValueError):
        return FieldError("time", f"is out of range as {form} since 1970 (read from {path})")


def _expected(form: TimeFormat | None) -> str:
    return "an RFC 3339 time" if form in (None, "rfc3339") else f"a number, {form} since 1970"
