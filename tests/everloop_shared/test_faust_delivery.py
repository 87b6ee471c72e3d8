"""What Faust polls of our topics goes to buffers by the batch; offsets are committed as far as they are handled."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from faust.types import TP

from everloop_shared.messaging.faust.buffer import RecordBuffer
from everloop_shared.messaging.faust.delivery import BatchDelivery
from everloop_shared.messaging.processing.gathering import BatchGathering
from everloop_shared.messaging.routes import Position, Record

SOURCE, OTHER, CHANGELOG = TP("p.in", 0), TP("p.in", 1), TP("p.changelog", 0)
BATCH = 2


def polled(tp: TP, *offsets: int) -> list[Any]:
    """Records as aiokafka has them."""
    return [
        SimpleNamespace(partition=tp.partition, offset=o, timestamp=1, key=b"k", value=b"v", headers=())
        for o in offsets
    ]


@dataclass
class Consumer:
    """As much of Faust's consumer as the delivery touches."""

    answers: list[dict[TP, list[Any]]] = field(default_factory=list)
    asked: list[set[TP]] = field(default_factory=list)
    flow_active: bool = True
    active: set[TP] = field(default_factory=lambda: {SOURCE, OTHER, CHANGELOG})
    _read_offset: dict[TP, int | None] = field(default_factory=lambda: defaultdict(lambda: None))
    committed: dict[TP, int | None] = field(default_factory=lambda: defaultdict(lambda: None))

    async def _getmany(self, active_partitions: set[TP], timeout: float) -> Mapping[TP, Sequence[Any]]:
        self.asked.append(active_partitions)
        return self.answers.pop(0) if self.answers else {}

    def _get_active_partitions(self) -> set[TP]:
        return self.active

    def _should_commit(self, tp: TP, offset: int) -> bool:
        committed = self.committed[tp]
        return committed is None or offset > committed

    async def poll(self) -> Mapping[TP, Sequence[Any]]:
        """One poll, as Faust does it."""
        return await self._getmany(active_partitions=self.active, timeout=1.0)

    def committable(self) -> dict[TP, int]:
        """What Faust would commit now."""
        waiting = self._filter_tps_with_pending_acks()  # type: ignore[attr-defined]
        found: dict[TP, int] = self._filter_committable_offsets(waiting)  # type: ignore[attr-defined]
        return found


def delivering(*answers: dict[TP, list[Any]]) -> tuple[Consumer, BatchDelivery, RecordBuffer]:
    """A consumer that polls these answers, with the topic `in` delivered to an open buffer."""
    consumer, buffer = Consumer(list(answers)), RecordBuffer(BATCH)
    delivery = BatchDelivery(SimpleNamespace(consumer=consumer), BatchGathering(0, BATCH))
    delivery.deliver("p.in", "in", buffer)
    delivery.install()
    buffer.open()
    return consumer, delivery, buffer


def offsets(buffer: RecordBuffer) -> dict[TP, list[int]]:
    """The offsets of the next batch."""
    return {tp: [record.at.offset for record in records] for tp, records in buffer.take().items()}


async def test_records_of_our_topics_are_delivered_and_faust_gets_the_rest() -> None:
    changes = polled(CHANGELOG, 7)
    consumer, _, buffer = delivering({SOURCE: polled(SOURCE, 3, 4), CHANGELOG: changes})

    rest = await consumer.poll()

    assert rest == {CHANGELOG: changes}
    assert buffer.take() == {SOURCE: [Record(Position("in", 0, o, 1, 1), b"k", b"v") for o in (3, 4)]}


async def test_what_was_delivered_before_is_not_delivered_again() -> None:
    consumer, _, buffer = delivering({SOURCE: polled(SOURCE, 0)}, {SOURCE: polled(SOURCE, 0, 1)})

    await consumer.poll()
    await consumer.poll()

    assert offsets(buffer) == {SOURCE: [0, 1]}


async def test_what_arrives_for_a_partition_that_was_paused_meanwhile_is_dropped_and_can_be_read_again() -> None:
    consumer, _, buffer = delivering({SOURCE: polled(SOURCE, 0)}, {SOURCE: polled(SOURCE, 0)})
    consumer.active = {OTHER}
    await consumer.poll()
    consumer.active = {SOURCE, OTHER}

    await consumer.poll()

    assert offsets(buffer) == {SOURCE: [0]}


async def test_without_flow_nothing_is_delivered_because_faust_seeks_back() -> None:
    answer = {SOURCE: polled(SOURCE, 0)}
    consumer, _, buffer = delivering(answer)
    consumer.flow_active = False

    rest = await consumer.poll()

    assert rest == answer
    assert offsets(buffer) == {}


async def test_a_poll_leaves_out_partitions_whose_buffer_is_full() -> None:
    consumer, _, buffer = delivering({SOURCE: polled(SOURCE, *range(2 * BATCH))})
    await consumer.poll()
    await consumer.poll()
    buffer.done(SOURCE, BATCH, backoff_s=0)

    await consumer.poll()

    assert consumer.asked == [{SOURCE, OTHER, CHANGELOG}, {OTHER, CHANGELOG}, {SOURCE, OTHER, CHANGELOG}]


async def test_no_poll_asks_for_no_partition_which_aiokafka_would_take_for_all() -> None:
    consumer, _, _ = delivering()
    consumer.active = set()

    assert await consumer.poll() == {}
    assert consumer.asked == []


async def test_what_is_handled_is_committed_until_the_partitions_are_revoked() -> None:
    consumer, delivery, _ = delivering()
    consumer.committed[OTHER] = 2
    delivery.handled(SOURCE, 5)
    delivery.handled(OTHER, 2)

    assert consumer.committable() == {SOURCE: 5}

    delivery.release()
    assert consumer.committable() == {}


def test_a_closed_buffer_drops_what_arrives() -> None:
    buffer = RecordBuffer(BATCH)
    buffer.open()
    buffer.close()

    assert not buffer.add(SOURCE, [Record(Position("in", 0, 0), b"k", b"v")])
    assert buffer.take() == {}


async def test_waiting_ends_with_the_backoff_of_the_only_partition_that_has_records() -> None:
    buffer = RecordBuffer(BATCH)
    buffer.open()
    buffer.add(SOURCE, [Record(Position("in", 0, 0), b"k", b"v")])
    buffer.done(SOURCE, 0, backoff_s=0.01)
    assert buffer.take() == {}

    await asyncio.wait_for(buffer.wait(), 5)

    assert offsets(buffer) == {SOURCE: [0]}
