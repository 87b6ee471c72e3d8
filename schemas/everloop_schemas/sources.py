"""The sources of a loop spec: topics of the user's that ingest reads, and what their records mean."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from everloop_schemas.loop_parts import Name, SpecPart
from everloop_schemas.names import LOOP_NAME

SourceFormat = Literal["json", "cloudevents", "debezium"]
Operation = Literal["create", "update", "delete", "snapshot"]
TimeFormat = Literal["rfc3339", "s", "ms", "us", "ns", "days"]
TOPIC_NAME = r"^[A-Za-z0-9._-]{1,249}$"
FIELD_PATH = r"^[^.\s][^.]*(\.[^.]+)*$"
FieldPath = Annotated[str, Field(pattern=FIELD_PATH, max_length=250)]
"""Where a value is in a record: the names of objects and of the field, separated by dots, such as `after.amount`."""
MAX_SOURCES = 10
EVENT_OPERATIONS: tuple[Operation, ...] = ("create", "snapshot")
LABEL_OPERATIONS: tuple[Operation, ...] = ("create", "update", "snapshot")


class TimeMapping(SpecPart):
    """Where a time is in a record, and how it is written: RFC 3339, or a number of seconds, ms, us, ns or days.

    Without `format` it is RFC 3339, or what the schema of a Debezium record says.
    """

    path: FieldPath
    format: TimeFormat | None = None


class MappingPart(SpecPart):
    """What events and labels have in common. `operations` are for Debezium, `types` for CloudEvents."""

    id: FieldPath | None = None
    time: TimeMapping | None = None
    operations: Annotated[tuple[Operation, ...], Field(min_length=1)] | None = None
    types: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=256)], ...], Field(min_length=1)] | None = None

    @field_validator("time", mode="before", json_schema_input_type=FieldPath | TimeMapping | None)
    @classmethod
    def _read_path(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value


class EventMapping(MappingPart):
    """How a record becomes an observation. A field of the schema that is not named has the same name in the record."""

    entity: FieldPath | None = None
    fields: dict[Name, FieldPath] = Field(default_factory=dict)


class LabelMapping(MappingPart):
    """How a record becomes the label of a prediction; where the label is null, the record has none."""

    label: FieldPath | None = None


class SourceSpec(SpecPart):
    """A topic that ingest reads for a loop. Without `events` and `labels`, its records are events.

    `cluster` is a cluster that the operator has named; without it, the topic is on Everloop's own. `start` is where the
    first reading begins.
    """

    name: Annotated[str, Field(pattern=LOOP_NAME)]
    topic: Annotated[str, Field(pattern=TOPIC_NAME)]
    format: SourceFormat = "json"
    cluster: Annotated[str, Field(pattern=LOOP_NAME)] | None = None
    start: Literal["earliest", "latest"] = "earliest"
    events: EventMapping | None = None
    labels: LabelMapping | None = None

    @model_validator(mode="before")
    @classmethod
    def _have_events_by_default(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("events") is None and data.get("labels") is None:
            return {**data, "events": {}}
        return data

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        if self.format == "debezium" and self.labels is not None:
            for part in ("id", "label"):
                if getattr(self.labels, part) is None:
                    raise ValueError(f"labels needs {part}, such as {part}: after.{part}; a row has no default for it")
        return self
