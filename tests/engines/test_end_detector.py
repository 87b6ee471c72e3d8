"""When a partition is read to its end: by the position, or by two answers that has_records nothing."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from aiokafka.structs import TopicPartition  # type: ignore[import-untyped]

from everloop_shared.messaging.kafka.follower import EndDetector

TP = TopicPartition("t", 0)


@dataclass
class Poll:
    """A consumer after a poll: whether that returned records, the next offset, the time of the last answer."""

    has_records: bool
    next_offset: int
    answered_ms: int | None


class ScriptedConsumer:
    """A consumer that answers by the poll that the test has set."""

    poll = Poll(False, 0, None)

    async def position(self, tp: TopicPartition) -> int:
        return self.poll.next_offset

    def last_poll_timestamp(self, tp: TopicPartition) -> int | None:
        return self.poll.answered_ms


@pytest.mark.parametrize(
    ("polls", "reached"),
    [
        pytest.param([Poll(True, 10, 1)], True, id="the position is at the end"),
        pytest.param([Poll(True, 5, 1), Poll(False, 5, 2)], False, id="one answer may lie in the buffer"),
        pytest.param([Poll(True, 5, 1), Poll(False, 5, 2), Poll(True, 8, 2)], False, id="it did"),
        pytest.param([Poll(True, 5, 1), Poll(False, 5, 2), Poll(False, 5, 2)], False, id="no answer, no end"),
        pytest.param([Poll(True, 5, 1), Poll(False, 5, 2), Poll(False, 5, 3)], True, id="two answers, nothing came"),
        pytest.param([Poll(False, 0, None), Poll(False, 0, 1), Poll(False, 0, 2)], True, id="all of it is gone"),
        pytest.param(
            [Poll(True, 5, 1), Poll(False, 5, 2), Poll(True, 5, 3), Poll(False, 5, 4)], False, id="tried and put back"
        ),
    ],
)
async def test_the_end_of_a_partition_is_detected(polls: list[Poll], reached: bool) -> None:
    consumer, answers = ScriptedConsumer(), list[bool]()
    detector = EndDetector(consumer, {TP: 10})
    for poll in polls:
        consumer.poll = poll
        answers.append(await detector.has_reached_end({TP} if poll.has_records else ()))

    assert answers == [False] * (len(polls) - 1) + [reached]


async def test_records_of_other_partitions_do_not_delay_this_one() -> None:
    consumer = ScriptedConsumer()
    detector = EndDetector(consumer, {TP: 10})
    for answered_ms in (1, 2, 3):
        consumer.poll = Poll(True, 5, answered_ms)
        reached = await detector.has_reached_end({TopicPartition("t", 1)})

    assert reached
