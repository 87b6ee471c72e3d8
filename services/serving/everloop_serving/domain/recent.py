"""What was said lately, by loop and prediction id, so that the same question gets the same answer."""

from __future__ import annotations

from dataclasses import dataclass

from everloop_schemas.serving import PredictionMade
from everloop_shared.bounded import Bounded


@dataclass(frozen=True)
class Known:
    """A prediction that was made; `kept` says that it is on the topic, or in the spool on its way there."""

    event: PredictionMade
    kept: bool


class Recent:
    """The last `limit` predictions, within `limit_bytes`, oldest forgotten first.

    They are held as the bytes they travel as: a tenth of the memory of objects, and nothing for the garbage
    collector to walk over.
    """

    def __init__(self, limit: int, limit_bytes: int = 32_000_000) -> None:
        self._said = Bounded[tuple[str, str], tuple[bytes, bool]](limit, limit_bytes)

    def __len__(self) -> int:
        return len(self._said)

    @property
    def bytes(self) -> int:
        """What they take, in bytes."""
        return self._said.bytes

    def get(self, loop: str, prediction_id: str, life: int = 1) -> Known | None:
        """What was said about this prediction id in the loop's present life, None where it is not remembered."""
        found = self._said.get((loop, prediction_id))
        known = Known(PredictionMade.model_validate_json(found[0]), found[1]) if found else None
        return None if known is None or 0 < known.event.revision < life else known

    def forget(self, loop: str) -> None:
        """The loop's life has ended."""
        for key in [key for key in self._said if key[0] == loop]:
            self._said.discard(key)

    def put(self, event: PredictionMade, *, kept: bool) -> None:
        """Remember a prediction just made."""
        encoded = event.encode()
        self._said.put((event.loop, event.subject), (encoded, kept), len(encoded))

    def found(self, events: list[PredictionMade]) -> None:
        """Take in what lies on the topic: the first word on a prediction id counts, and it is kept there.

        It is older than what this process says, so it goes in front, to be forgotten first.
        """
        for event in reversed(events):
            encoded = event.encode()
            self._said.put_first((event.loop, event.subject), (encoded, True), len(encoded))
