"""Decodes records of the log into events, or says why a record cannot be decoded."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from everloop_schemas.catalogue import decode
from everloop_schemas.dead_letter import DeadLetter
from everloop_schemas.envelope import Event
from everloop_schemas.names import LOOP_NAME_RULE, is_loop_name
from everloop_shared import strict_json
from everloop_shared.errors import InputRejected
from everloop_shared.messaging.routes import Partition, Position, Record
from everloop_shared.signing.errors import SignatureRefused

if TYPE_CHECKING:
    from everloop_shared.signing.trust import TrustStore

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


def decode_events(records: Sequence[Record], trust: TrustStore | None = None) -> list[tuple[Position, Event]]:
    """The events of some records; left out are tombstones, what does not decode, and what `trust` does not admit."""
    found = []
    for record in records:
        if record.value is None:
            continue
        where = {"topic": record.at.topic, "partition": record.at.partition, "offset": record.at.offset}
        try:
            event = decode(record.at.topic, record.value)
            if trust is None or _is_admitted(event, record.value, trust):
                found.append((record.at, event))
        except SignatureRefused as e:
            log.error("a record in the history is left out", extra=where | {"reason": e.detail})
        except (ValueError, RecursionError):
            log.info("a record in the history does not decode", extra=where)
    return found


def _is_admitted(event: Event, wire: bytes, trust: TrustStore) -> bool:
    from everloop_shared.signing.events import is_admitted  # its library is not loaded where nothing is trusted

    return is_admitted(event, wire, trust)


def decode_record(record: Record, trust: TrustStore | None = None) -> DecodedRecord:
    """The event in a record of one of our topics, or why there is none.

    Where `trust` is given, an event that must be signed and is not by a trusted key is rejected.
    """
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
    try:
        is_admitted = trust is None or _is_admitted(event, record.value, trust)
    except SignatureRefused as e:
        return DecodedRecord(record, rejection=e)
    return DecodedRecord(record, event if is_admitted else None)


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
