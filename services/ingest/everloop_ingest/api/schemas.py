"""What requests and answers look like, for the OpenAPI document; entries are read and checked by the domain."""

from __future__ import annotations

from typing import Any

from pydantic import Base64Bytes, BaseModel, ConfigDict, Field

from everloop_shared.http.openapi import FieldProblem
from everloop_shared.http.schemas import Value
from everloop_shared.messaging.routes import Position, Record

_KEY = "makes it the same event however often it is sent; without one, only a repetition of the latest changes nothing"


class Label(BaseModel):
    """What was right, for the prediction of this id."""

    model_config = ConfigDict(extra="forbid")

    id: str
    label: Value
    time: str = Field("", description="when it was known, RFC 3339 with an offset; without one, now")
    key: str = Field("", description=_KEY)


class Feedback(BaseModel):
    """What a user says about the prediction of this id: whether it was correct, or what is."""

    model_config = ConfigDict(extra="forbid")

    id: str
    correct: bool = Field(True, description="whether the prediction was right; or give `label` instead")
    label: Value = Field("", description="what is right; or give `correct` instead")
    time: str = Field("", description="when it was given, RFC 3339 with an offset; without one, now")
    comment: str = ""
    source: str = Field("", description="who gave it, for the limit on the share of one source")
    key: str = Field("", description=_KEY)


class CloudEventEntry(BaseModel):
    """An entry as a CloudEvent 1.0; `id` is the entry's, `subject` an observation's entity, `data` the fields."""

    model_config = ConfigDict(extra="allow")

    specversion: str
    id: str
    source: str
    type: str
    subject: str = ""
    time: str = ""
    datacontenttype: str = ""
    data: Any = None


class Accepted(BaseModel):
    """All entries were accepted; `ids` are theirs, in the order they were sent."""

    accepted: int
    ids: list[str]


class RejectedEntry(BaseModel):
    """An entry that was not accepted, by its index in the request, and why."""

    index: int
    id: str | None
    errors: list[FieldProblem]


class PartlyAccepted(BaseModel):
    """The entries that were accepted, and those that were not."""

    accepted: int
    ids: list[str]
    rejected: list[RejectedEntry]


class SourceState(BaseModel):
    """A Kafka source as this process reads it; the counts begin with the process."""

    source: str
    topic: str
    state: str
    detail: str = ""
    partitions: int
    lag: int
    records: int
    events: int
    labels: int
    rejected: int
    lost: int
    rejection: str = ""


class SourceList(BaseModel):
    """The Kafka sources of a loop."""

    loop: str
    sources: list[SourceState]


class SourceRecord(BaseModel):
    """A record of a source with its place, from which its ids follow; `timestamp` in ms since 1970, bytes in base64."""

    model_config = ConfigDict(extra="forbid")

    topic: str = Field(max_length=256)
    partition: int = Field(ge=0)
    offset: int = Field(ge=0)
    timestamp: int = Field(ge=0)
    key: Base64Bytes | None = None
    value: Base64Bytes
    headers: list[tuple[str, Base64Bytes]] = []

    def as_record(self) -> Record:
        """The record as it lay on the topic."""
        at = Position(self.topic, self.partition, self.offset, self.timestamp, len(self.value))
        return Record(at, self.key, self.value, self.headers)
