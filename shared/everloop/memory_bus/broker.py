"""A memory broker with a limit, whose records can be read over all topics in the order of their arrival."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import TYPE_CHECKING

from prometheus_client import Gauge

from everloop.memory_bus.errors import MemoryBusFull
from everloop_schemas.ingest import EventReceived, LabelReceived
from everloop_schemas.serving import ObservationReceived
from everloop_shared.messaging.memory import MemoryBroker
from everloop_shared.messaging.routes import Record

if TYPE_CHECKING:
    from everloop_shared.signing.trust import TrustStore

LOG_BYTES = Gauge("everloop_memory_bus_log_bytes", "Bytes on all topics; limit: MAX_LOG_BYTES.")
RECORD_BYTES = 500
"""Memory that Python needs for a record beside its key and value."""
FROM_OUTSIDE = frozenset(c.topic.name for c in (EventReceived, LabelReceived, ObservationReceived))
ANSWER_RECORDS, ANSWER_BYTES = 1_000, 8_000_000


class BoundedBroker(MemoryBroker):
    """Refuses events from outside once it is full; events that follow from accepted ones are still accepted.

    So no observation is processed half-way, and the excess over the limit is bounded by what was in flight. No
    record is removed: training reads a loop's outcomes from the first on.
    """

    def __init__(self, partitions: int, max_log_bytes: int, trust: TrustStore | None = None) -> None:
        super().__init__(partitions, trust)
        self.max_log_bytes, self.bytes = max_log_bytes, 0
        self.counts: Counter[str] = Counter()
        self._records: list[Record] = []
        LOG_BYTES.set_function(lambda: self.bytes)

    def store(self, record: Record) -> None:
        """Put a record at the end of its partition. Raises MemoryBusFull."""
        topic = record.at.topic
        if self.bytes >= self.max_log_bytes and topic in FROM_OUTSIDE:
            raise MemoryBusFull(
                f"the memory bus holds {self.max_log_bytes / 1e6:,.1f} MB, its limit (EVERLOOP_MEMORY_MAX_LOG_BYTES), "
                "and removes nothing; restart it, or start an installation with Kafka: everloop up"
            )
        super().store(record)
        self._records.append(record)
        self.counts[topic] += 1
        self.bytes += RECORD_BYTES + len(record.key or b"") + len(record.value or b"")

    @property
    def end(self) -> int:
        """The number that the next record gets."""
        return len(self._records)

    def read_on(self, topics: Collection[str], since: int) -> tuple[list[Record], int]:
        """Records of these topics from number `since` on, in the order they came, and the number to go on from."""
        found, size = list[Record](), 0
        for number in range(since, self.end):
            record = self._records[number]
            if record.at.topic in topics and record.value is not None:
                found.append(record)
                size += len(record.value)
                if size >= ANSWER_BYTES or len(found) >= ANSWER_RECORDS:
                    return found, number + 1
        return found, max(since, self.end)
