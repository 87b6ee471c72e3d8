"""Keys of loops that were deleted or began a new lifetime, whose state is deleted step by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from everloop_feature.ports import KeyedState


@dataclass
class Cleanup:
    """Walks through the keys of such loops, in each partition that was taken from; begins again after a start."""

    state: KeyedState
    may_have_remains: Callable[[str], bool]
    _reached: dict[int, dict[str, str]] = field(default_factory=dict, init=False)

    def clear(self) -> None:
        """The partitions may have changed: look at all of their loops again."""
        self._reached.clear()

    def schedule(self, loop: str) -> None:
        """A lifetime of the loop has ended: walk through its keys."""
        for reached in self._reached.values():
            reached[loop] = ""

    def take(self, partition: int, most: int) -> list[str]:
        """The next keys of a partition to check."""
        if partition not in self._reached:
            loops = filter(self.may_have_remains, self.state.prefixes(partition))
            self._reached[partition] = dict.fromkeys(loops, "")
        reached, taken = self._reached[partition], list[str]()
        for loop in list(reached):
            keys = self.state.keys(partition, f"{loop}/", reached[loop], most - len(taken))
            taken += keys
            if len(taken) >= most:
                reached[loop] = keys[-1]
                break
            del reached[loop]
        return taken
