"""Turns the records of one source into events and labels, as its mapping says; compiled once per revision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from everloop_features.expectations import errors_of, name_of, refused_by
from everloop_features.labels import CheckedLabel, check_label
from everloop_features.observation import DEFAULT_ENTITY, check_fields
from everloop_features.times import DEFAULT_TIME_LIMITS, TimeLimits
from everloop_ingest.domain.sealed_size import size_limit
from everloop_ingest.domain.sources.cloudevents import decode_cloudevent
from everloop_ingest.domain.sources.debezium import decode_debezium
from everloop_ingest.domain.sources.paths import compile_path, has_path
from everloop_ingest.domain.sources.records import Content, Decode, SourceRecordRejected, decode_json, traceparent_of
from everloop_ingest.domain.sources.times import read_time
from everloop_schemas.envelope import Event, derived_id, utc_time
from everloop_schemas.ingest import EventReceived, EventReceivedData, LabelReceived, LabelReceivedData
from everloop_schemas.names import ID_RULE, is_id
from everloop_schemas.registry import LoopState
from everloop_schemas.sources import (
    EVENT_OPERATIONS,
    LABEL_OPERATIONS,
    EventMapping,
    LabelMapping,
    Operation,
    SourceFormat,
    SourceSpec,
    TimeMapping,
)
from everloop_shared.errors import FieldError
from everloop_shared.messaging.routes import Position, Record

DECODERS: dict[SourceFormat, Decode] = {
    "json": decode_json,
    "cloudevents": decode_cloudevent,
    "debezium": decode_debezium,
}
FIELD_PREFIXES: dict[SourceFormat, str] = {"json": "", "cloudevents": "data.", "debezium": "after."}
"""By format, where a field is that the mapping does not name."""
DEFAULT_PATHS: dict[SourceFormat, dict[str, str]] = {
    "json": {"labels.id": "id", "labels.label": "label"},
    "cloudevents": {
        "events.id": "id",
        "events.entity": "subject",
        "events.time": "time",
        "labels.id": "subject",
        "labels.label": "data.label",
        "labels.time": "time",
    },
    "debezium": {},
}
Find = Callable[[Content], Any]


@dataclass(frozen=True)
class SourceLimits:
    """The limits of every door: which times, and the bytes of a record and of an event."""

    times: TimeLimits = DEFAULT_TIME_LIMITS
    max_event_bytes: int = 1_000_000


@dataclass(frozen=True)
class _SourceOfLoop:
    """A source with the loop that it is of. `place` is its topic, with the cluster where that is another one."""

    state: LoopState
    spec: SourceSpec
    times: TimeLimits
    place: str


class SourceMapping:
    """What the records of a source are for a revision of its loop."""

    def __init__(self, state: LoopState, source: SourceSpec, limits: SourceLimits) -> None:
        self._decode = DECODERS[source.format]
        self._limits, self._spec = limits, state.data.spec
        place = source.topic if source.cluster is None else f"{source.cluster}/{source.topic}"
        parts = _SourceOfLoop(state, source, limits.times, place)
        self._parts: list[_EventReader | _LabelReader] = []
        if source.events is not None:
            self._parts.append(_EventReader(parts, source.events))
        if source.labels is not None:
            self._parts.append(_LabelReader(parts, source.labels))

    def read(self, record: Record, now: datetime) -> list[Event]:
        """The events of a record, none where it says nothing that the loop wants. Raises SourceRecordRejected."""
        if (size := len(record.value or b"")) > self._limits.max_event_bytes:
            allowed = f"the limit is {self._limits.max_event_bytes:,} (EVERLOOP_MAX_EVENT_BYTES)"
            raise SourceRecordRejected([FieldError("value", f"has {size:,} bytes, {allowed}; send smaller records")])
        content = self._decode(record)
        if content is None:
            return []
        content.traceparent = content.traceparent or traceparent_of(record)
        found = [event for part in self._parts if part.takes(content) for event in part.read(content, record.at, now)]
        limit = size_limit(self._spec, self._limits.max_event_bytes)
        for event in found:
            if len(event.encode()) > limit:
                entity = event.subject if isinstance(event, EventReceived) else None
                error = FieldError("data", f"is over {limit:,} bytes; send less in one record")
                raise SourceRecordRejected([error], entity=entity)
        return found

    @property
    def hides_values(self) -> bool:
        """Whether the records may have values that must not be quoted."""
        return bool(self._spec.personal_fields)


class _PartReader:
    """What the readers of events and labels have in common."""

    part: str

    def __init__(
        self,
        source: _SourceOfLoop,
        id: str | None,
        time: TimeMapping | None,
        types: Sequence[str] | None,
        operations: Sequence[Operation],
    ) -> None:
        self._source, self._spec, self._format = source, source.state.data.spec, source.spec.format
        self._time_path = time.path if time else self._default("time")
        self._time_format = time.format if time else None
        self._read_time = compile_path(self._time_path) if self._time_path else None
        self._optional_time = time is None
        self._id_path = id or self._default("id")
        self._read_id = compile_path(self._id_path) if self._id_path else None
        self._types = None if types is None else frozenset(types)
        self._operations = frozenset(operations)

    def takes(self, content: Content) -> bool:
        """Whether this record is meant for this part, by its operation or its type."""
        if content.operation is not None and content.operation not in self._operations:
            return False
        return self._types is None or content.type in self._types

    def _default(self, name: str) -> str | None:
        return DEFAULT_PATHS[self._format].get(f"{self.part}.{name}")

    def _time(self, content: Content, arrived: datetime, now: datetime) -> datetime | FieldError:
        """The time at the mapped path, else that of the arrival."""
        value = self._read_time(content.root) if self._read_time else None
        if self._time_path is None or (value is None and self._optional_time):
            time: datetime | FieldError = arrived
        else:
            form = self._time_format or content.time_formats.get(self._time_path)
            time = read_time(value, form, self._time_path)
        if isinstance(time, FieldError):
            return time
        violation = self._source.times.find_violation(time, now)
        return FieldError("time", violation) if violation else time

    def _id(self, content: Content) -> str | FieldError | None:
        """The id at the mapped path; None where none is mapped. A whole number is the text of its digits."""
        if self._read_id is None:
            return None
        value = self._read_id(content.root)
        return _as_id("id", value, self._id_path or "")


class _EventReader(_PartReader):
    part = "events"

    def __init__(self, source: _SourceOfLoop, mapping: EventMapping) -> None:
        super().__init__(source, mapping.id, mapping.time, mapping.types, mapping.operations or EVENT_OPERATIONS)
        only_deletes = self._operations == {"delete"}
        prefix = "before." if only_deletes and self._format == "debezium" else FIELD_PREFIXES[self._format]
        self._paths = {name: mapping.fields.get(name, prefix + name) for name in self._spec.fields}
        self._fields = [(name, compile_path(path)) for name, path in self._paths.items()]
        self._entity_path = mapping.entity or self._default("entity")
        self._read_entity = compile_path(self._entity_path) if self._entity_path else None

    def read(self, content: Content, at: Position, now: datetime) -> list[Event]:
        """The observation of a record; raises SourceRecordRejected with every error."""
        root, arrived = content.root, _arrival(content, now)
        fields = check_fields(self._spec, {name: read(root) for name, read in self._fields})
        broken = refused_by(self._spec, fields) if isinstance(fields, dict) else ()
        time, id = self._time(content, arrived, now), self._id(content)
        entity = self._entity(content)
        errors = [e for e in (id, entity, time) if isinstance(e, FieldError)]
        unexpected = [] if errors else [name_of(one) for one in broken]
        wrong = fields if isinstance(fields, list) else errors_of(broken)
        errors += [_with_path(e, self._paths, self._format) for e in wrong]
        if errors or isinstance(fields, list):
            raise SourceRecordRejected(errors, unexpected, entity if isinstance(entity, str) else None)
        assert isinstance(entity, str), "errors were raised"
        assert isinstance(time, datetime), "errors were raised"
        return [
            EventReceived(
                id=id if isinstance(id, str) else self._own_id(content, at),
                time=time,
                subject=entity,
                loop=self._source.state.loop,
                revision=self._source.state.revision,
                traceparent=content.traceparent,
                data=EventReceivedData(entity=entity, fields=fields, received=arrived),
            )
        ]

    def _entity(self, content: Content) -> str | FieldError:
        value = self._read_entity(content.root) if self._read_entity else None
        if value is None and (self._entity_path is None or self._format == "cloudevents"):
            return DEFAULT_ENTITY
        return _as_id("entity", value, self._entity_path or "")

    def _own_id(self, content: Content, at: Position) -> str:
        identity = content.identify().event
        place = (at.partition, at.offset, at.timestamp) if identity is None else (identity,)
        return derived_id(self._source.state.loop, EventReceived.type_name(), self._source.place, *place)


class _LabelReader(_PartReader):
    part = "labels"

    def __init__(self, source: _SourceOfLoop, mapping: LabelMapping) -> None:
        super().__init__(source, mapping.id, mapping.time, mapping.types, mapping.operations or LABEL_OPERATIONS)
        self._label_path = mapping.label or self._default("label") or "label"
        self._read_label = compile_path(self._label_path)
        self._required = source.spec.events is None or self._format == "debezium"

    def takes(self, content: Content) -> bool:
        """Whether this record is meant to have a label, and has one."""
        if not super().takes(content):
            return False
        return self._read_label(content.root) is not None or (
            self._required and not has_path(content.root, self._label_path)
        )

    def read(self, content: Content, at: Position, now: datetime) -> list[Event]:
        """The label in a record; raises SourceRecordRejected with every error."""
        arrived = _arrival(content, now)
        time, id = self._time(content, arrived, now), self._id(content)
        errors = [e for e in (id, time) if isinstance(e, FieldError)]
        label = check_label(self._spec, "label", {"id": id, "label": self._read_label(content.root)})
        if isinstance(label, list):
            paths = {"label": self._label_path}
            errors += [_with_path(e, paths, self._format) for e in label if e.field != "id"]
        if errors or isinstance(label, list):
            raise SourceRecordRejected(errors)
        assert isinstance(time, datetime), "errors were raised"
        identity = content.identify().label or f"{at.partition}/{at.offset}/{at.timestamp}"
        return [self._build(label, time, arrived, identity, content.traceparent)]

    def _build(
        self, label: CheckedLabel, time: datetime, arrived: datetime, identity: str, trace: str | None
    ) -> LabelReceived:
        loop = self._source.state.loop
        return LabelReceived(
            id=derived_id(loop, LabelReceived.type_name(), label.prediction_id, self._source.place, identity),
            time=time,
            subject=label.prediction_id,
            loop=loop,
            revision=self._source.state.revision,
            traceparent=trace,
            data=LabelReceivedData(
                prediction_id=label.prediction_id, kind="label", label=label.label, received=arrived
            ),
        )


def _arrival(content: Content, now: datetime) -> datetime:
    """When the record was written, the same whenever it is read; never in the future."""
    ms = content.arrived_ms
    return utc_time(ms / 1000) if 0 < ms < now.timestamp() * 1000 else now


def _as_id(field: str, value: Any, path: str) -> str | FieldError:
    if type(value) is int:
        return str(value)
    if is_id(value):
        return str(value)
    seen = "is missing" if value is None else f"must be {ID_RULE}, or a whole number"
    return FieldError(field, f"{seen} (read from {path})")


def _with_path(error: FieldError, paths: dict[str, str], form: SourceFormat) -> FieldError:
    """The error, with the place in the record that was looked at."""
    path = paths.get(error.field.removeprefix("data."), "")
    hint = ""
    if form == "debezium" and "number" in error.error and ("is text" in error.error or "an object" in error.error):
        hint = "; a decimal column needs decimal.handling.mode=double in the connector"
    return FieldError(error.field, f"{error.error} (read from {path}){hint}")
