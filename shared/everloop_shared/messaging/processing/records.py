"""Records as they lie on the log, and the events in them, or what is wrong with them."""

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
from everloop_shared.messaging.routes import Decoder, Position, Record

log = logging.getLogger(__name__)
Partition = tuple[str, int]
WRITTEN_BY_APPLICATIONS = "ingest."
"""Topics that applications with a producer of their own write too, past every endpoint."""
MAX_VALID_NAMES = 10_000
_valid_names: set[str] = set()
"""Loop names that were checked before: every record has one."""


@dataclass(slots=True)
class DecodedRecord:
    """A record with the event in it, or with what is wrong with it; neither for a tombstone of a compacted topic.

    `letter` is the dead letter of one that is wrong, once it is written.
    """

    record: Record
    event: Event | None = None
    wrong: InputRejected | None = None
    letter: Event | None = None

    @property
    def loop(self) -> str:
        """The loop it is about, where that can be said."""
        return self.event.loop if self.event else ""


def decode_events(records: Sequence[Record]) -> list[tuple[Position, Event]]:
    """The events in some records; tombstones and what does not decode are left out."""
    found = []
    for record in records:
        if record.value is None:
            continue
        try:
            found.append((record.at, decode(record.at.topic, record.value)))
        except (ValueError, RecursionError):
            log.info("history holds what is no event", extra={"topic": record.at.topic, "offset": record.at.offset})
    return found


def decode_source_record(decode: Decoder, record: Record) -> DecodedRecord:
    """The event that a source's decoder makes of a record, or why it makes none."""
    try:
        event = decode(record)
    except InputRejected as e:
        return DecodedRecord(record, wrong=e)
    except Exception as e:
        return DecodedRecord(record, wrong=InputRejected(f"the decoder of {record.at.topic} refuses it: {e!r}"))
    if event is not None and not _is_known_or_valid(event.loop):
        return DecodedRecord(record, wrong=_no_loop_name(event.loop))
    return DecodedRecord(record, event)


def decode_record(record: Record) -> DecodedRecord:
    """The event in a record of one of our topics, or why there is none."""
    topic = record.at.topic
    if record.value is None:
        return DecodedRecord(record)
    try:
        event = decode(topic, record.value)
        if topic.startswith(WRITTEN_BY_APPLICATIONS):
            strict_json.read(record.value)  # of a key that is there twice one value would be lost in silence
    except Exception as e:
        return DecodedRecord(record, wrong=InputRejected(f"not an event of {topic}: {e}"))
    if not isinstance(event, DeadLetter) and not _is_known_or_valid(event.loop):
        return DecodedRecord(record, wrong=_no_loop_name(event.loop))
    if record.key != event.key():  # by it, it would lie out of order in another partition, beside the state of its own
        wrong = f"its key is {record.key!r}, but what it says belongs under {event.key()!r}; send it so"
        return DecodedRecord(record, wrong=InputRejected(wrong))
    return DecodedRecord(record, event)


def _is_known_or_valid(name: str) -> bool:
    if name in _valid_names:
        return True
    if not is_loop_name(name):
        return False
    if len(_valid_names) >= MAX_VALID_NAMES:
        _valid_names.clear()
    _valid_names.add(name)
    return True


def _no_loop_name(name: str) -> InputRejected:
    return InputRejected(f"loop: {name[:80]!r} is no name of a loop: {LOOP_NAME_RULE}")


def split_in_half(
    batches: Mapping[Partition, Sequence[DecodedRecord]],
) -> Iterator[dict[Partition, Sequence[DecodedRecord]]]:
    """The first half of the records, and the rest, in the same order."""
    room = sum(map(len, batches.values())) // 2
    first, rest = dict[Partition, Sequence[DecodedRecord]](), dict[Partition, Sequence[DecodedRecord]]()
    for partition, records in batches.items():
        if records[:room]:
            first[partition] = records[:room]
        if records[room:]:
            rest[partition] = records[room:]
        room = max(0, room - len(records))
    yield first
    yield rest
