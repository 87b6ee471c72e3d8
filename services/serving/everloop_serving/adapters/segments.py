"""The format of a spool file: records of length, checksum and events, one after the other."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from zlib import crc32

from everloop_schemas.catalogue import CLASSES
from everloop_schemas.envelope import Event

HEADER = struct.Struct(">II")
SUFFIX = ".spool"


def pack(events: Sequence[bytes]) -> bytes:
    """Encoded events as one record: it is read back whole or not at all."""
    payload = b"\n".join(events)
    return HEADER.pack(len(payload), crc32(payload)) + payload


def unpack(payload: bytes) -> list[Event]:
    """The events of a record; raises ValueError for anything that is no event of Everloop."""
    events = []
    for line in payload.split(b"\n"):
        kind = json.loads(line).get("type")
        if kind not in CLASSES:
            raise ValueError(f"no event: {kind!r}")
        events.append(CLASSES[kind].decode(line))
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
