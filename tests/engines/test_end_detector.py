"""When a partition is read to its end: by the position, or by two answers that brought nothing."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from aiokafka.structs import TopicPartition  # type: ignore[import-untyped]

from everloop_shared.messaging.kafka.follower import EndDetector

TP = TopicPartition("t", 0)


@dataclass
class Look:
    """What the consumer says after a poll: whether it brought something, the next offset, the last answer's time."""

    brought: bool
    next_offset: int
    answered_ms: int | None


class ScriptedConsumer:
    """A consumer that answers by the look that the test has set."""

    look = Look(False, 0, None)

    async def position(self, tp: TopicPartition) -> int:
        return self.look.next_offset

    def last_poll_timestamp(self, tp: TopicPartition) -> int | None:
        return self.look.answered_ms


@pytest.mark.parametrize(
    ("looks", "reached"),
    [
        pytest.param([Look(True, 10, 1)], True, id="the position is at the end"),
        pytest.param([Look(True, 5, 1), Look(False, 5, 2)], False, id="one answer may lie in the buffer"),
        pytest.param([Look(True, 5, 1), Look(False, 5, 2), Look(True, 8, 2)], False, id="it did"),
        pytest.param([Look(True, 5, 1), Look(False, 5, 2), Look(False, 5, 2)], False, id="silence says nothing"),
        pytest.param([Look(True, 5, 1), Look(False, 5, 2), Look(False, 5, 3)], True, id="two answers, nothing came"),
        pytest.param([Look(False, 0, None), Look(False, 0, 1), Look(False, 0, 2)], True, id="all of it is gone"),
        pytest.param(
            [Look(True, 5, 1), Look(False, 5, 2), Look(True, 5, 3), Look(False, 5, 4)], False, id="tried and put back"
        ),
    ],
)
async def test_a_tail_is_read(looks: list[Look], reached: bool) -> None:
    consumer, answers = ScriptedConsumer(), list[bool]()
    detector = EndDetector(consumer, {TP: 10})
    for look in looks:
        consumer.look = look
        answers.append(await detector.has_reached_end({TP} if look.brought else ()))

    assert answers == [False] * (len(looks) - 1) + [reached]


async def test_what_other_partitions_bring_does_not_hold_up_this_one() -> None:
    consumer = ScriptedConsumer()
    detector = EndDetector(consumer, {TP: 10})
    for answered_ms in (1, 2, 3):
        consumer.look = Look(True, 5, answered_ms)
        reached = await detector.has_reached_end({TopicPartition("t", 1)})

    assert reached
