"""The CloudEvents 1.0 envelope that every event on every topic travels in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from hashlib import sha1
from typing import Annotated, Any, ClassVar, Literal, Self
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer

NAMESPACE = UUID("6f8f3c5e-0a54-5d4b-9c0e-2b8f6e1d7a10")
DAY_MS = 24 * 3600 * 1000
FOREVER = -1

Scalar = bool | int | float | str
"""A label, a prediction or a class: any JSON value but null, arrays and objects."""
Fields = dict[str, Scalar | None]
"""Named values of an observation, raw (`fields`) or computed (`features`); None is a missing value."""
Timestamp = Annotated[AwareDatetime, PlainSerializer(lambda t: t.isoformat(), return_type=str, when_used="json")]


@dataclass(frozen=True)
class Topic:
    """The topic of one family of events.

    `keyed_by` is `loop`, or `loop/subject` where order matters per entity or per prediction.
    `retention_ms` is FOREVER where the log itself is the record; `compacted` topics keep the last value of a key.
    """

    name: str
    owner: str
    keyed_by: Literal["loop", "loop/subject"]
    retention_ms: int = 7 * DAY_MS
    compacted: bool = False


class Data(BaseModel):
    """The payload of an event: frozen, tolerant of fields that newer writers add, never NaN or infinite."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Event(BaseModel):
    """A CloudEvent; each subclass is one type on one topic and fixes `type`, `source`, `data` and `topic`.

    `id` is deterministic where the event follows from another (see `derived_id`), so that after a crash the
    same event is published again. `causationid` names the event that led to this one, `correlationid` the
    training run it belongs to. `revision` is that of the loop's spec.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)
    topic: ClassVar[Topic]
    keeps_wire: ClassVar[bool] = False
    """Whether a decoded event is encoded to the bytes that it was read from, however another release wrote them."""

    specversion: Literal["1.0"] = "1.0"
    id: str = Field(min_length=1, max_length=256)
    source: str
    type: str
    time: Timestamp
    subject: str
    datacontenttype: Literal["application/json"] = "application/json"
    loop: str
    revision: int = 0
    causationid: str | None = None
    correlationid: str | None = None
    traceparent: str | None = None
    data: Any

    def key(self) -> bytes:
        """The Kafka key, which decides the partition and thereby the order."""
        return (self.loop if self.topic.keyed_by == "loop" else f"{self.loop}/{self.subject}").encode()

    def encode(self) -> bytes:
        """The wire form: structured-mode JSON in UTF-8."""
        return self._wire

    @cached_property
    def _wire(self) -> bytes:  # encoded once for the outbox, the spool and the topic
        return self.model_dump_json(exclude_none=True, by_alias=True).encode()

    def remember_wire(self, raw: bytes) -> None:
        """Make `raw` the wire form: the bytes that the event was read from."""
        self.__dict__["_wire"] = raw

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy, without the cached wire form of the original."""
        copy = super().model_copy(update=update, deep=deep)
        copy.__dict__.pop("_wire", None)
        return copy

    @classmethod
    def type_name(cls) -> str:
        """The CloudEvents type this class stands for."""
        return str(cls.model_fields["type"].default)


def derived_id(loop: str, type_name: str, *cause: str | int) -> str:
    """The id of an event that follows from others: uuid5 (RFC 9562) of its loop, its type and what it follows from."""
    name = "/".join([loop, type_name, *map(str, cause)])
    digest = bytearray(sha1(NAMESPACE.bytes + name.encode(), usedforsecurity=False).digest()[:16])
    digest[6], digest[8] = digest[6] & 0x0F | 0x50, digest[8] & 0x3F | 0x80  # version 5, and the variant of the RFC
    text = digest.hex()  # `uuid.uuid5` takes twice as long, and every event that follows from another needs one
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def event_classes(base: type[Event] = Event) -> Iterator[type[Event]]:
    """Every concrete event class below `base`."""
    for cls in base.__subclasses__():
        if "topic" in cls.__dict__ and cls.type_name():
            yield cls
        yield from event_classes(cls)


def utc_time(seconds: float) -> datetime:
    """The time so many seconds after the epoch, in UTC."""
    return datetime.fromtimestamp(seconds, UTC)
