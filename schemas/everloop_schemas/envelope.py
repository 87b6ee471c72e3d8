"""The CloudEvents 1.0 envelope that every event on every topic travels in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache
from hashlib import sha1
from math import isfinite
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, TypeVar, cast
from uuid import UUID

import msgspec
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer

NAMESPACE = UUID("6f8f3c5e-0a54-5d4b-9c0e-2b8f6e1d7a10")
VARIANT_DIGITS = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
"""The digit of a uuid that holds its variant (RFC 9562), by the digit of the hash in its place."""
DAY_MS = 24 * 3600 * 1000
FOREVER = -1
ALL_SERVICES = "all services"
"""The owner of a topic that every service writes."""

Scalar = bool | int | float | str
"""A label, a prediction or a class: any JSON value but null, arrays and objects."""
Fields = dict[str, Scalar | None]
"""Named values of an observation, raw (`fields`) or computed (`features`); None is a missing value."""
Timestamp = Annotated[datetime, msgspec.Meta(tz=True)]
"""A time with its offset from UTC, in a data event."""
ControlTimestamp = Annotated[AwareDatetime, PlainSerializer(lambda t: t.isoformat(), return_type=str, when_used="json")]
"""The same in a control event."""
T = TypeVar("T")


@dataclass(frozen=True)
class Topic:
    """The topic of one family of events, which `owner` alone writes: a service, or ALL_SERVICES.

    `keyed_by` is `loop`, or `loop/subject` where order matters per entity or per prediction.
    `retention_ms` is FOREVER where the log itself is the record; `compacted` topics keep the last value of a key.
    """

    name: str
    owner: str
    keyed_by: Literal["loop", "loop/subject"]
    retention_ms: int = 7 * DAY_MS
    compacted: bool = False


class Event:
    """A CloudEvent; each concrete class is one type on one topic and fixes `type`, `source`, `data` and `topic`.

    Events of the data path, one or more for each observation, are `DataEvent`s; all others are `ControlEvent`s.

    `id` is deterministic where the event follows from another (see `derived_id`), so that after a crash the
    same event is published again. `causationid` names the event that led to this one, `correlationid` the
    training run it belongs to. `revision` is that of the loop's spec.
    """

    topic: ClassVar[Topic]
    keeps_wire: ClassVar[bool] = False
    """Whether a decoded event is encoded to the bytes that it was read from, however another release wrote them."""

    begins_trace: ClassVar[bool] = False  # whether its trace is always recorded from here on: rare, and much follows
    if TYPE_CHECKING:
        id: str
        source: str
        time: datetime
        subject: str
        loop: str
        revision: int
        causationid: str | None
        correlationid: str | None
        traceparent: str | None
        data: Any

        @property
        def type(self) -> str: ...

    def key(self) -> bytes:
        """The Kafka key, which decides the partition and thereby the order."""
        return (self.loop if self.topic.keyed_by == "loop" else f"{self.loop}/{self.subject}").encode()

    def span_attributes(self) -> dict[str, Any]:
        """What the spans of a trace say of it beside its loop: no id of an entity, and no value of an observation."""
        return {}

    def encode(self) -> bytes:
        """The wire form: structured-mode JSON in UTF-8. Raises ValueError for NaN and infinity."""
        wire: bytes | None = self.__dict__.get("_wire")
        if wire is None:  # encoded once for the outbox, the spool and the topic
            wire = self.__dict__["_wire"] = self._encode()
        return wire

    def _encode(self) -> bytes:
        raise NotImplementedError

    def remember_wire(self, raw: bytes) -> None:
        """Make `raw` the wire form: the bytes that the event was read from."""
        self.__dict__["_wire"] = raw

    def copy_with(self, **changes: Any) -> Self:
        """A copy with other values of these fields, which are not validated."""
        raise NotImplementedError

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """The event of this class in the wire form; raises ValueError where there is none."""
        raise NotImplementedError

    @classmethod
    def type_name(cls) -> str:
        """The CloudEvents type this class stands for; empty for a class of several types."""
        raise NotImplementedError


class Data(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The payload of a data event: frozen, tolerant of fields that newer writers add.

    None is left out on the wire. It holds values only, so that no garbage collection has to visit it.
    """


def written(value: T) -> T:
    """A default that is written on the wire, unlike None; msgspec leaves out plain defaults."""
    return msgspec.field(default_factory=lambda: value)


class DataEvent(Event, msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, dict=True, tag_field="type"):
    """An event of the data path: it is validated when it is decoded, but not when it is built.

    Its class fixes the type as its `tag`.
    """

    specversion: Literal["1.0"] = written("1.0")
    id: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    source: str
    time: Timestamp
    subject: str
    datacontenttype: Literal["application/json"] = written("application/json")
    loop: str
    revision: int = written(0)
    causationid: str | None = None
    correlationid: str | None = None
    traceparent: str | None = None
    data: Any

    @property
    def type(self) -> str:
        """The CloudEvents type."""
        return self.type_name()

    def _encode(self) -> bytes:
        wire = _encoder.encode(self)
        if b"null" in wire:  # a missing value, or a number that JSON does not have
            _require_finite(self.data)
        return wire

    def copy_with(self, **changes: Any) -> Self:
        """A copy with other values of these fields."""
        return msgspec.structs.replace(self, **changes)

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """The event in the wire form."""
        try:
            return cast(Self, _decoder(cls).decode(raw))
        except msgspec.DecodeError as e:
            raise ValueError(str(e)) from e

    @classmethod
    def type_name(cls) -> str:
        """The tag."""
        return str(cls.__struct_config__.tag)


_encoder = msgspec.json.Encoder()


@cache
def _decoder(cls: type[DataEvent]) -> msgspec.json.Decoder[DataEvent]:
    return msgspec.json.Decoder(cls)


def _require_finite(value: Any) -> None:
    if isinstance(value, float):
        if not isfinite(value):
            raise ValueError(f"{value} is no number in JSON")
    elif isinstance(value, Mapping):
        for part in value.values():
            _require_finite(part)
    elif isinstance(value, list | tuple):
        for part in value:
            _require_finite(part)
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            _require_finite(getattr(value, name))


class ControlData(BaseModel):
    """The payload of a control event: frozen, tolerant of fields that newer writers add, never NaN or infinite."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class ControlEvent(Event, BaseModel):
    """An event that is rare, and validated when it is built as well as when it is decoded."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    specversion: Literal["1.0"] = "1.0"
    id: str = Field(min_length=1, max_length=256)
    source: str
    type: str
    time: ControlTimestamp
    subject: str
    datacontenttype: Literal["application/json"] = "application/json"
    loop: str
    revision: int = 0
    causationid: str | None = None
    correlationid: str | None = None
    traceparent: str | None = None
    data: Any

    def _encode(self) -> bytes:
        return self.model_dump_json(exclude_none=True, by_alias=True).encode()

    def copy_with(self, **changes: Any) -> Self:
        """A copy with other values of these fields, without the cached wire form of the original."""
        copy = self.model_copy(update=changes)
        copy.__dict__.pop("_wire", None)
        return copy

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """The event in the wire form."""
        return cls.model_validate_json(raw)

    @classmethod
    def type_name(cls) -> str:
        """The default of `type`."""
        return str(cls.model_fields["type"].default)


class SignedEvent(ControlEvent):
    """An event that its owner signs where it has a key: readers with trusted keys act on no other.

    `signature` is `<key id>.<Ed25519 signature>`, and on the wire the last member. It signs the bytes before it, closed
    by `}`, so what is signed is never encoded again (see `everloop_shared.signing.events`). `signed_for` is what a key
    must be trusted for.
    """

    signed_for: ClassVar[Literal["artifacts", "decisions"]]
    signature: str | None = None

    def copy_with(self, **changes: Any) -> Self:
        """A copy with other values of these fields, without the signature, which is not about them."""
        return super().copy_with(**{"signature": None, **changes})

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """The event in the wire form, which it keeps where it is signed."""
        event = super().decode(raw)
        if event.signature is not None:
            event.remember_wire(raw)
        return event


def derived_id(loop: str, type_name: str, *cause: str | int) -> str:
    """The id of an event that follows from others: uuid5 (RFC 9562) of its loop, its type and what it follows from."""
    digest = _digest_of(loop, type_name).copy()
    digest.update("".join([f"/{part}" for part in cause]).encode())
    return uuid_text(digest.hexdigest(), "5")  # `uuid.uuid5` takes three times as long, and every event needs an id


@lru_cache(1_000)
def _digest_of(loop: str, type_name: str) -> Any:
    digest = sha1(NAMESPACE.bytes, usedforsecurity=False)
    digest.update(f"{loop}/{type_name}".encode())
    return digest


def uuid_text(digits: str, version: str) -> str:
    """A UUID (RFC 9562) of this version from at least 32 hexadecimal digits, six bits of which are not used."""
    variant = VARIANT_DIGITS[digits[16]]
    return f"{digits[:8]}-{digits[8:12]}-{version}{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:32]}"


def event_classes(base: type[Event] = Event) -> Iterator[type[Event]]:
    """Every concrete event class below `base`."""
    for cls in base.__subclasses__():
        if "topic" in cls.__dict__ and cls.type_name():
            yield cls
        yield from event_classes(cls)


def utc_time(seconds: float) -> datetime:
    """The time so many seconds after the epoch, in UTC."""
    return datetime.fromtimestamp(seconds, UTC)
