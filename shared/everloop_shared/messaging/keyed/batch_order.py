"""Keeps the order in which the topics of a batch are handled until all of the batch is handled (decision 0012)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping

from everloop_shared.errors import Unavailable
from everloop_shared.messaging.routes import Partition

TopicOrder = list[tuple[str, int]]
"""The topics of a batch of one partition as they were handled, each with its last offset."""


class BatchOrder:
    """The rest of the order of the batch in progress, per partition.

    A batch is in progress once its outputs may have been published. When it is interrupted, by a crash or because the
    broker is away, its records are handled in the same order again; another order could give other outputs.
    """

    def __init__(self) -> None:
        self._in_progress: dict[int, TopicOrder] = {}

    def restore(self, orders: Mapping[int, TopicOrder]) -> None:
        """Set the orders of the last batches from the changelog; `next_topic` skips what was finished."""
        self._in_progress = {partition: list(order) for partition, order in orders.items() if order}

    def next_topic(self, partition: int, position: Callable[[str], int]) -> tuple[str, int] | None:
        """The topic to handle next, and up to which offset; None where any order is allowed.

        `position` gives the next offset to handle of a topic.
        """
        order = self._in_progress.get(partition, [])
        while order and position(order[0][0]) > order[0][1]:
            order.pop(0)
        return order[0] if order else None

    def skip_next(self, partition: int) -> None:
        """Do not wait for the next topic any longer."""
        del self._in_progress[partition][0]

    def orders(self, after: Mapping[Partition, int]) -> dict[int, TopicOrder]:
        """The rest of the order of each partition in a batch, given the offset after its last record by topic.

        Raises Unavailable where a batch is in progress and these records are not next.
        """
        orders = {
            p: list(self._in_progress[p]) if self._in_progress.get(p) else list(_last_offsets(after, p))
            for _, p in after
        }
        for partition, order in orders.items():
            rest = list(order)
            for topic, upto in _last_offsets(after, partition):
                if not rest or rest[0][0] != topic or rest[0][1] < upto:
                    raise Unavailable(f"{topic}/{partition} waits for the rest of a batch: {order}")
                if rest[0][1] == upto:
                    rest.pop(0)
        return orders

    def begin(self, orders: Mapping[int, TopicOrder]) -> None:
        """Note that the outputs of a batch are about to be published."""
        self._in_progress |= orders

    def finish(self, after: Mapping[Partition, int]) -> None:
        """Note that a batch, or a part of it, is finished: its state is durable."""
        for partition in {p for _, p in after}:
            reached = defaultdict(int, {t: offset for (t, p), offset in after.items() if p == partition})
            self.next_topic(partition, reached.__getitem__)


def _last_offsets(after: Mapping[Partition, int], partition: int) -> Iterator[tuple[str, int]]:
    return ((topic, offset - 1) for (topic, p), offset in after.items() if p == partition)
