"""The memory bus has a limit, and returns all records in the order of their arrival."""

from __future__ import annotations

import pytest
from tests.builders import events

from everloop.memory_bus.broker import BoundedBroker
from everloop.memory_bus.errors import MemoryBusFull
from everloop_schemas.envelope import Event, utc_time
from everloop_schemas.feature import LabelJoined, LabelJoinedData
from everloop_schemas.ingest import EventReceived

ROOM_FOR_TWO = 1_200


def _received(name: str) -> Event:
    return events.observation(name, {}, name, loop="l", revision=0, time=utc_time(0))


def _joined(name: str) -> Event:
    data = LabelJoinedData(prediction_id=name, entity=name, label=True)
    return LabelJoined(id=name, loop="l", subject=name, time=utc_time(0), data=data)


async def test_a_full_bus_takes_nothing_from_outside_and_lets_what_follows_through() -> None:
    broker = BoundedBroker(partitions=1, max_log_bytes=ROOM_FOR_TWO)
    engine = broker.engine("anybody")
    await engine.publish([_received("a"), _received("b")])

    with pytest.raises(MemoryBusFull, match="everloop up") as refused:
        await engine.publish([_received("c")])
    await engine.publish([_joined("a")])

    assert (refused.value.http_status, refused.value.retry_after) == (507, None)
    assert broker.counts == {EventReceived.topic.name: 2, LabelJoined.topic.name: 1}


async def test_records_are_read_over_topics_and_partitions_in_the_order_they_came() -> None:
    broker = BoundedBroker(partitions=4, max_log_bytes=1_000_000)
    events = [kind(name) for name in "abcdefgh" for kind in (_received, _joined)]
    await broker.engine("anybody").publish(events)

    both, after = broker.read_on({EventReceived.topic.name, LabelJoined.topic.name}, since=0)
    one, _ = broker.read_on({LabelJoined.topic.name}, since=4)

    assert [r.value for r in both] == [e.encode() for e in events]
    assert [r.value for r in one] == [_joined(name).encode() for name in "cdefgh"]
    assert after == broker.end == len(events)
    assert broker.read_on({LabelJoined.topic.name}, after) == ([], after)
