"""Decodes records of the log into events, or says why a record cannot be decoded."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from everloop_schemas.catalogue import decode
from everloop_schemas.dead_letter import DeadLetter
from everloop_schemas.envelope import Event
from everloop_schemas.names import LOOP_NAME_RULE, is_loop_name
from everloop_shared import strict_json
from everloop_shared.errors import InputRejected
from everloop_shared.messaging.routes import Partition, Position, Record

log = logging.getLogger(__name__)
WRITTEN_BY_APPLICATIONS = "ingest."
"""Applications may write these topics themselves, without an endpoint that checks what they write."""
MAX_VALID_NAMES = 10_000
_valid_names: set[str] = set()
"""Loop names that were checked before, because every record has one and the check is slow."""


@dataclass(slots=True)
class DecodedRecord:
    """A record with its event, or with the reason why it has none; neither for a tombstone of a compacted topic.

    `dead_letter` is set once one was made for a rejected record.
    """

    record: Record
    event: Event | None = None
    rejection: InputRejected | None = None
    dead_letter: Event | None = None

    @property
    def loop(self) -> str:
        """The loop of the event; empty where there is none."""
        return self.event.loop if self.event else ""


DecodedBatches = Mapping[Partition, Sequence[DecodedRecord]]


def decode_events(records: Sequence[Record]) -> list[tuple[Position, Event]]:
    """The events of some records; tombstones and records that do not decode are left out."""
    found = []
    for record in records:
        if record.value is None:
            continue
        try:
            found.append((record.at, decode(record.at.topic, record.value)))
        except (ValueError, RecursionError):
            log.info(
                "a record in the history does not decode", extra={"topic": record.at.topic, "offset": record.at.offset}
            )
    return found


def decode_record(record: Record) -> DecodedRecord:
    """The event in a record of one of our topics, or why there is none."""
    topic = record.at.topic
    if record.value is None:
        return DecodedRecord(record)
    try:
        event = decode(topic, record.value)
        if topic.startswith(WRITTEN_BY_APPLICATIONS) and event.encode() != record.value:  # not as we would write it
            strict_json.read(record.value)  # a repeated key would silently lose one of its values
    except Exception as e:
        return DecodedRecord(record, rejection=InputRejected(f"not an event of {topic}: {e}"))
    if not isinstance(event, DeadLetter) and not _is_valid_loop_name(event.loop):
        return DecodedRecord(record, rejection=_invalid_loop_name(event.loop))
    if record.key != event.key():  # a wrong key means another partition: out of order, and apart from the key's state
        reason = f"its key is {record.key!r}, but its content requires {event.key()!r}; publish it with that key"
        return DecodedRecord(record, rejection=InputRejected(reason))
    return DecodedRecord(record, event)


def _is_valid_loop_name(name: str) -> bool:
    if name in _valid_names:
        return True
    if not is_loop_name(name):
        return False
    if len(_valid_names) >= MAX_VALID_NAMES:
        _valid_names.clear()
    _valid_names.add(name)
    return True


def _invalid_loop_name(name: str) -> InputRejected:
    return InputRejected(f"loop: {name[:80]!r} is not a valid loop name: {LOOP_NAME_RULE}")


def split_in_half(batches: DecodedBatches) -> Iterator[DecodedBatches]:
    """The first half of the records, then the second, in the same order."""
    left = sum(map(len, batches.values())) // 2
    first, second = dict[Partition, Sequence[DecodedRecord]](), dict[Partition, Sequence[DecodedRecord]]()
    for partition, records in batches.items():
        if records[:left]:
            first[partition] = records[:left]
        if records[left:]:
            second[partition] = records[left:]
        left = max(0, left - len(records))
    yield first
    yield second
