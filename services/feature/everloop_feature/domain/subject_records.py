"""Which records of which topics are about one person, and what an export says of each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import msgspec

from everloop_schemas.dead_letter import DEAD_LETTERS
from everloop_schemas.envelope import Topic, utc_time
from everloop_schemas.erasure import EntityErased, EntityErasureDone
from everloop_schemas.feature import EntityState, FeaturesComputed, LabelJoined, OutcomeObserved
from everloop_schemas.ingest import EventReceived, LabelReceived
from everloop_schemas.serving import ObservationReceived, PredictionMade
from everloop_shared.messaging.routes import Record

MAX_PREDICTIONS = 100_000
"""Predictions of one entity whose labels are looked for, at most."""
Found = Literal["entity", "prediction", "loop"]
"""By what the records of a topic are found: their key names the entity, or a prediction; or they are the loop's."""


@dataclass(frozen=True)
class Source:
    """A topic of which an export has the records about an entity, and what it calls them."""

    kind: str
    topic: Topic
    by: Found


SOURCES = (
    Source("observation", EventReceived.topic, "entity"),
    Source("observation", ObservationReceived.topic, "entity"),
    Source("features", FeaturesComputed.topic, "entity"),
    Source("windows", EntityState.topic, "entity"),
    Source("joined_label", LabelJoined.topic, "entity"),
    Source("erasure", EntityErased.topic, "entity"),
    Source("erased", EntityErasureDone.topic, "entity"),
    Source("prediction", PredictionMade.topic, "prediction"),
    Source("label", LabelReceived.topic, "prediction"),
    Source("outcome", OutcomeObserved.topic, "loop"),
    *(Source("dead_letter", DEAD_LETTERS[name].topic, "prediction") for name in ("ingest", "feature", "serving")),
)
"""In the order in which they are read: predictions before what names them."""
OUTCOMES = tuple(source for source in SOURCES if source.kind == "outcome")


@dataclass
class Subject:
    """One entity of a loop, and the ids of its predictions as far as they were read."""

    loop: str
    entity: str
    predictions: set[str] = field(default_factory=set)

    @cached_property
    def key(self) -> bytes:
        """The key of records that are the entity's own."""
        return f"{self.loop}/{self.entity}".encode()

    def concerns(self, source: Source, record: Record) -> bool:
        """Whether a record is about the entity. Most are not, and are told by their bytes, without being decoded."""
        if record.value is None:
            return False
        if source.by == "entity":
            return record.key == self.key
        if source.kind in ("prediction", "outcome"):
            return self._written_name in record.value and self._is_of_entity(record.value)
        loop, _, subject = (record.key or b"").decode(errors="replace").partition("/")
        return loop == self.loop and (subject in self.predictions or subject == self.entity)

    @cached_property
    def _written_name(self) -> bytes:
        return msgspec.json.encode(self.entity)

    def _is_of_entity(self, value: bytes) -> bool:
        try:
            head = _heads.decode(value)
        except msgspec.DecodeError:
            return False
        if head.loop != self.loop or head.data.entity != self.entity:
            return False
        if len(self.predictions) < MAX_PREDICTIONS:
            self.predictions.add(head.subject)
        return True


class _HeadData(msgspec.Struct, frozen=True):
    entity: str


class _Head(msgspec.Struct, frozen=True):
    loop: str
    subject: str
    data: _HeadData


_heads = msgspec.json.Decoder(_Head)


def describe_record(source: Source, record: Record, event: Mapping[str, Any], sealed: str | None) -> bytes:
    """A line of an export. `sealed` says of a record with sealed values whether they could be opened."""
    at = record.at
    line: dict[str, Any] = {
        "kind": source.kind,
        "topic": at.topic,
        "partition": at.partition,
        "offset": at.offset,
        "recorded": utc_time(at.timestamp / 1000).isoformat() if at.timestamp else None,
        "personal": sealed,
        "record": event,
    }
    return json.dumps(line, ensure_ascii=False).encode() + b"\n"
