"""In which order the topics of a batch are handled, once it was begun: the same until it is whole (decision 0012)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping

from everloop_shared.errors import Unavailable

TopicOrder = list[tuple[str, int]]
"""The topics of a batch of one partition as they were handled, each with its last offset."""


class BatchOrder:
    """Per partition the batch that was begun and is not whole yet: what is left of its order.

    A batch is begun when its outputs may have left. Whatever cuts it off then, a crash or a broker that is away, its
    records have their turn in the same order again; else the outputs would say something else.
    """

    def __init__(self) -> None:
        self._begun: dict[int, TopicOrder] = {}

    def restore(self, orders: Mapping[int, TopicOrder]) -> None:
        """What the changelog says of the last batches; those that were finished are passed over by `next_topic`."""
        self._begun = {partition: list(order) for partition, order in orders.items() if order}

    def next_topic(self, partition: int, position: Callable[[str], int]) -> tuple[str, int] | None:
        """Which topic has its turn, and up to which offset; None where any may go.

        `position` says from which offset on a topic is still to be handled.
        """
        order = self._begun.get(partition, [])
        while order and position(order[0][0]) > order[0][1]:
            order.pop(0)
        return order[0] if order else None

    def skip_next(self, partition: int) -> None:
        """Wait no longer for whose turn it is."""
        del self._begun[partition][0]

    def orders(self, after: Mapping[tuple[str, int], int]) -> dict[int, TopicOrder]:
        """What is left of the order of each partition in a batch, given the offset after its last record by topic.

        Raises Unavailable where a batch was begun and this is not how it goes on: let the others go first.
        """
        orders = {p: list(self._begun[p]) if self._begun.get(p) else list(_of(after, p)) for _, p in after}
        for partition, order in orders.items():
            rest = list(order)
            for topic, upto in _of(after, partition):
                if not rest or rest[0][0] != topic or rest[0][1] < upto:
                    raise Unavailable(f"{topic}/{partition} waits for the rest of a batch: {order}")
                if rest[0][1] == upto:
                    rest.pop(0)
        return orders

    def begin(self, orders: Mapping[int, TopicOrder]) -> None:
        """The outputs of a batch are about to leave."""
        self._begun |= orders

    def finish(self, after: Mapping[tuple[str, int], int]) -> None:
        """A batch, or a part of it, is finished: its state is safe."""
        for partition in {p for _, p in after}:
            reached = defaultdict(int, {t: offset for (t, p), offset in after.items() if p == partition})
            self.next_topic(partition, reached.__getitem__)


def _of(after: Mapping[tuple[str, int], int], partition: int) -> Iterator[tuple[str, int]]:
    return ((topic, offset - 1) for (topic, p), offset in after.items() if p == partition)
