"""The format of a spool file: records of length, checksum and encoded events, one after the other."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from zlib import crc32

from everloop_schemas.catalogue import CLASSES
from everloop_shared.messaging.routes import EncodedEvent

HEADER = struct.Struct(">II")
"""The length and the checksum of what follows: a mark, then the events."""
MARK = b"\x01"
"""Distinguishes a record from those of releases that stored wire forms only, whose first character is a brace."""
EVENT_HEADER = struct.Struct(">HHI")
"""The lengths of an event's topic, key and wire form, which follow."""
SUFFIX = ".spool"


def pack(events: Sequence[EncodedEvent]) -> bytes:
    """Encoded events as one record: it is read back whole or not at all."""
    parts = [MARK]
    for topic, key, value in events:
        parts += (EVENT_HEADER.pack(len(topic), len(key), len(value)), topic.encode(), key, value)
    payload = b"".join(parts)
    return HEADER.pack(len(payload), crc32(payload)) + payload


def unpack(payload: bytes) -> list[EncodedEvent]:
    """The events of a record, as they are sent; raises ValueError where it is none of Everloop."""
    if not payload.startswith(MARK):
        return _unpack_wire_forms(payload)
    events, start, end = list[EncodedEvent](), len(MARK), len(payload)
    while start < end:
        topic_bytes, key_bytes, value_bytes = EVENT_HEADER.unpack_from(payload, start)
        key = start + EVENT_HEADER.size + topic_bytes
        value = key + key_bytes
        topic = payload[start + EVENT_HEADER.size : key].decode()
        start = value + value_bytes
        events.append((topic, payload[key:value], payload[value:start]))
    return events


def _unpack_wire_forms(payload: bytes) -> list[EncodedEvent]:
    """The events of a record of earlier releases, which stored their wire forms only, separated by line ends."""
    events = []
    for line in payload.split(b"\n"):
        kind = json.loads(line).get("type")
        if kind not in CLASSES:
            raise ValueError(f"no event: {kind!r}")
        cls = CLASSES[kind]
        events.append((cls.topic.name, cls.decode(line).key(), line))
    return events


def records(data: bytes, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """Each whole record's end and payload, up to the first that is incomplete or damaged."""
    while start + HEADER.size <= len(data):
        length, checksum = HEADER.unpack_from(data, start)
        end = start + HEADER.size + length
        payload = data[start + HEADER.size : end]
        if end > len(data) or not length or crc32(payload) != checksum:
            return
        yield end, payload
        start = end


def whole_length(data: bytes) -> int:
    """How many bytes of a file are whole records."""
    end = 0
    for end, _ in records(data):  # noqa: B007 (only the last one is needed)
        pass
    return end


def segment_path(folder: Path, number: int) -> Path:
    """The file of the `number`-th segment."""
    return folder / f"{number:012d}{SUFFIX}"


def segment_numbers(folder: Path) -> list[int]:
    """The numbers of the segments on disk, oldest first."""
    return sorted(int(path.stem) for path in folder.glob(f"*{SUFFIX}") if path.stem.isdigit())
