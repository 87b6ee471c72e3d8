"""What Faust polls of our topics goes to buffers by the batch; offsets are committed as far as they are handled."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from everloop_shared.errors import Unavailable
from everloop_shared.messaging.faust import changelogs
from everloop_shared.messaging.faust.buffer import RecordBuffer
from everloop_shared.messaging.faust.delivery import BatchDelivery
from everloop_shared.messaging.kafka.poller import records_of
from everloop_shared.messaging.processing.gathering import BatchGathering
from everloop_shared.messaging.routes import Position, Record

SOURCE, OTHER, CHANGELOG, UNKNOWN = TP("p.in", 0), TP("p.in", 1), TP("p.changelog", 0), TP("p.unknown", 0)
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
    active: set[TP] = field(default_factory=lambda: {SOURCE, OTHER, CHANGELOG, UNKNOWN})
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


@dataclass
class Recovery:
    """As much of Faust's recovery as the delivery touches: of one partition of a changelog, up to `last`."""

    last: int = -1
    active_tps: set[TP] = field(default_factory=lambda: {CHANGELOG})
    active_highwaters: Counter[TP] = field(default_factory=Counter)
    active_offsets: Counter[TP] = field(default_factory=lambda: Counter({CHANGELOG: -1}))
    signal_recovery_end: asyncio.Event = field(default_factory=asyncio.Event)
    _active_events_received_at: dict[TP, float] = field(default_factory=dict)
    in_recovery: bool = True

    def need_recovery(self) -> bool:
        return self.active_remaining_total() > 0

    def active_remaining_total(self) -> int:
        return self.last - self.active_offsets[CHANGELOG]


def delivering(
    *answers: dict[TP, list[Any]], recovery: Recovery | None = None, gather_ms: float = 0, batch_size: int = BATCH
) -> tuple[Consumer, BatchDelivery, RecordBuffer]:
    """A consumer that polls these answers, with the topic `in` delivered to an open buffer."""
    consumer, buffer = Consumer(list(answers)), RecordBuffer(BATCH)
    app = SimpleNamespace(consumer=consumer, tables=SimpleNamespace(recovery=recovery or Recovery()))
    delivery = BatchDelivery(app, partial(BatchGathering, gather_ms, batch_size))
    delivery.deliver("p.in", "in", buffer)
    delivery.install()
    buffer.open()
    return consumer, delivery, buffer


def offsets(buffer: RecordBuffer) -> dict[TP, list[int]]:
    """The offsets of the next batch."""
    return {tp: [record.at.offset for record in records] for tp, records in buffer.take().items()}


async def test_records_of_our_topics_are_delivered_and_faust_gets_the_rest() -> None:
    unknown = polled(UNKNOWN, 7)
    consumer, _, buffer = delivering({SOURCE: polled(SOURCE, 3, 4), UNKNOWN: unknown})

    rest = await consumer.poll()

    assert rest == {UNKNOWN: unknown}
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


def restoring(delivery: BatchDelivery) -> list[tuple[int, list[int]]]:
    """The batches of changelog records that are restored from now on: partition and offsets."""
    restored: list[tuple[int, list[int]]] = []
    delivery.changelogs.add(CHANGELOG.topic, lambda p, records, _: restored.append((p, [r.offset for r in records])))
    return restored


async def test_records_of_a_changelog_are_restored_by_the_batch_but_those_that_the_state_has() -> None:
    recovery = Recovery(last=9, active_offsets=Counter({CHANGELOG: 4}))
    consumer, delivery, _ = delivering({CHANGELOG: polled(CHANGELOG, 4, 5, 8)}, recovery=recovery)
    restored = restoring(delivery)

    assert await consumer.poll() == {}

    assert restored == [(0, [5, 8])]
    assert recovery.active_offsets[CHANGELOG] == 8
    assert consumer.asked == [{SOURCE, OTHER, CHANGELOG, UNKNOWN}]


async def test_a_recovery_ends_with_the_poll_that_brings_the_last_record_and_not_before() -> None:
    recovery = Recovery(last=8)
    consumer, delivery, _ = delivering(
        {CHANGELOG: polled(CHANGELOG, 5)}, {CHANGELOG: polled(CHANGELOG, 8)}, recovery=recovery
    )
    restoring(delivery)
    ended = asyncio.ensure_future(recovery.signal_recovery_end.wait())
    await consumer.poll()
    await asyncio.sleep(0)
    assert not ended.done()

    await consumer.poll()

    await asyncio.wait_for(ended, 1)
    assert not recovery.signal_recovery_end.is_set(), "it would end the next recovery before its time"


async def test_when_a_rebalance_comes_while_changelogs_are_restored_the_rest_is_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(changelogs, "CHUNK", 2)
    recovery = Recovery(last=9)
    consumer, delivery, _ = delivering({CHANGELOG: polled(CHANGELOG, 0, 1, 2, 3)}, recovery=recovery)
    restored: list[int] = []

    def restore_and_be_revoked(partition: int, records: Sequence[Any], left: int) -> None:
        restored.extend(r.offset for r in records)
        asyncio.get_running_loop().call_soon(recovery.active_offsets.__setitem__, CHANGELOG, -1)

    delivery.changelogs.add(CHANGELOG.topic, restore_and_be_revoked)
    await consumer.poll()

    assert restored == [0, 1]
    assert recovery.active_offsets[CHANGELOG] == -1


async def test_a_change_that_cannot_be_restored_does_not_count_as_read() -> None:
    recovery = Recovery(last=9)
    consumer, delivery, _ = delivering({CHANGELOG: polled(CHANGELOG, 0)}, recovery=recovery)

    def fail(partition: int, records: Sequence[Any], left: int) -> None:
        raise Unavailable("the disk is full")

    delivery.changelogs.add(CHANGELOG.topic, fail)
    with pytest.raises(Unavailable):
        await consumer.poll()

    assert recovery.active_offsets[CHANGELOG] == -1


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

    everything = {SOURCE, OTHER, CHANGELOG, UNKNOWN}
    assert consumer.asked == [everything, everything - {SOURCE}, everything]


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


async def test_records_that_are_only_stored_gather_until_another_comes() -> None:
    buffer = RecordBuffer(BATCH)
    buffer.open()
    buffer.add(SOURCE, records_of("in", polled(SOURCE, 0)))
    gathering = asyncio.ensure_future(buffer.gather({SOURCE.topic}, within_s=60))
    await asyncio.sleep(0)
    buffer.add(SOURCE, records_of("in", polled(SOURCE, 1)))
    await asyncio.sleep(0)
    assert not gathering.done()

    buffer.add(CHANGELOG, records_of("other", polled(CHANGELOG, 0)))

    await asyncio.wait_for(gathering, 1)


async def test_records_that_are_only_stored_wait_no_longer_than_that_and_not_beyond_a_full_buffer() -> None:
    buffer = RecordBuffer(BATCH)
    buffer.open()
    buffer.add(SOURCE, records_of("in", polled(SOURCE, 0)))

    await asyncio.wait_for(buffer.gather({SOURCE.topic}, within_s=0.01), 1)
    buffer.add(SOURCE, records_of("in", polled(SOURCE, *range(1, 2 * BATCH))))
    await asyncio.wait_for(buffer.gather({SOURCE.topic}, within_s=60), 1)


@pytest.mark.parametrize(("second", "waits"), [(SOURCE, True), (UNKNOWN, False)])
async def test_a_poll_waits_for_more_where_records_of_one_topic_came_fast_not_where_two_topics_had_one_each(
    second: TP, waits: bool
) -> None:
    consumer, _, _ = delivering(
        {SOURCE: polled(SOURCE, 0)}, {second: polled(second, 1)}, gather_ms=1_000, batch_size=100
    )
    await consumer.poll()
    await consumer.poll()

    third = asyncio.ensure_future(consumer.poll())
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert third.done() is not waits
    third.cancel()
