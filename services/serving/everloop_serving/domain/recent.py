"""The latest predictions by loop and prediction id, so that a repeated request is answered as before."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from everloop_schemas.serving import PredictionMade
from everloop_shared.bounded import Bounded


class RememberedPrediction(NamedTuple):
    """A prediction made before; `durable` says that it is on the topic, or in the spool on its way there."""

    event: PredictionMade
    durable: bool


class RecentPredictions:
    """The last `limit` predictions, within `limit_bytes`; the oldest is evicted first.

    They are stored encoded: a tenth of the memory of objects, and nothing for the garbage collector to visit.
    """

    def __init__(self, limit: int, limit_bytes: int = 32_000_000) -> None:
        self._predictions = Bounded[tuple[str, str], tuple[bytes, bool]](limit, limit_bytes)

    def __len__(self) -> int:
        return len(self._predictions)

    @property
    def bytes(self) -> int:
        """The bytes of all of them."""
        return self._predictions.bytes

    def get(self, loop: str, prediction_id: str, life: int = 1) -> RememberedPrediction | None:
        """The prediction of this id in the loop's present lifetime; None where it is not remembered."""
        found = self._predictions.get((loop, prediction_id))
        if found is None:
            return None
        event = PredictionMade.decode(found[0])
        return None if 0 < event.revision < life else RememberedPrediction(event, found[1])

    def drop_loop(self, loop: str) -> None:
        """Drop the predictions of a loop whose lifetime has ended."""
        for key in [key for key in self._predictions if key[0] == loop]:
            self._predictions.discard(key)

    def add(self, event: PredictionMade, *, durable: bool) -> None:
        """Remember a prediction that was just made."""
        encoded = event.encode()
        self._predictions.put((event.loop, event.subject), (encoded, durable), len(encoded))

    def add_published(self, events: Iterable[PredictionMade]) -> None:
        """Remember predictions read from the topic, where the first one of a prediction id counts.

        They are older than those made since the start, so they are evicted before them.
        """
        for event in reversed(list(events)):
            encoded = event.encode()
            self._predictions.put_first((event.loop, event.subject), (encoded, True), len(encoded))
