"""Tells which labels of a log whose beginning was deleted certainly count, whatever the deleted records were."""

from __future__ import annotations

from hashlib import blake2b

from everloop_schemas.feature import OutcomeObserved

PREDICTIONS_REMEMBERED = 20_000


class KnownPast:
    """The predictions whose first record, a label, is still on the log.

    Whether feedback counts depends on all labels and feedback before it, and whether a correction is the first label
    that counts on the first record of its prediction.
    """

    def __init__(self) -> None:
        self._labelled: dict[bytes, None] = {}  # a set that knows its oldest member

    def decides(self, event: OutcomeObserved) -> bool:
        """Whether the records since the beginning of the log tell if this one, the next, is learned."""
        data = event.data
        if data.label is None:
            return True
        prediction = blake2b(data.prediction_id.encode(), digest_size=8).digest()
        if data.correction:
            return prediction in self._labelled
        if data.kind == "feedback":
            return False
        self._labelled[prediction] = None
        if len(self._labelled) > PREDICTIONS_REMEMBERED:
            del self._labelled[next(iter(self._labelled))]
        return True
