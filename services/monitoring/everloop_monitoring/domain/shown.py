"""What is kept only to be shown: the latest predictions, and what the models of versions depend on."""

from __future__ import annotations

from collections import defaultdict, deque
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from everloop_schemas.loop import LoopSpec
from everloop_schemas.serving import PredictionMade

MAX_PREDICTIONS = 200
"""Of a loop that are kept."""
PREDICTIONS_PER_BATCH = 20
"""Of a loop that one transaction keeps, so that a busy loop pays for 20 rows and not for thousands."""
MAX_COUNTED = 2_000
"""Of a loop: pairs of version and role whose predictions are counted, the newest."""
MAX_IMPORTANCES = 50
"""Versions of a loop whose importance is kept."""
MAX_ROW_CHARACTERS = 16_000
"""Of one prediction or importance, as JSON."""
MAX_FEATURES = 200
"""Of an importance: those on which the model depends most."""
_encoder = msgspec.json.Encoder()


class Made(NamedTuple):
    """How many predictions there were, when the first one and the last one was made."""

    n: int
    first: datetime
    last: datetime


class ShownRecords:
    """Of the records of one transaction, by loop: the latest predictions, how many each version made, importances."""

    def __init__(self) -> None:
        self.predictions = defaultdict[str, deque[PredictionMade]](lambda: deque(maxlen=PREDICTIONS_PER_BATCH))
        self.made: dict[tuple[str, str, str], Made] = {}
        self.importances = defaultdict[str, deque[tuple[str, dict[str, float]]]](lambda: deque(maxlen=MAX_IMPORTANCES))

    def add_prediction(self, event: PredictionMade) -> None:
        """Keep a prediction, where the oldest of its loop gives way, and count it by version and role."""
        self.predictions[event.loop].append(event)
        key, time = (event.loop, event.data.version, event.data.role), event.time
        known = self.made.get(key)
        self.made[key] = (
            Made(known.n + 1, min(known.first, time), max(known.last, time)) if known else Made(1, time, time)
        )

    def add_importance(self, loop: str, version: str, importance: dict[str, float] | None) -> None:
        """Keep how much a version depends on each feature, where that is known."""
        if importance is not None:
            self.importances[loop].append((version, importance))


def render_prediction(event: PredictionMade) -> str:
    """A prediction as JSON; features, probabilities and explanation are left out where they are too long to keep."""
    data = event.data
    row: dict[str, Any] = {
        "id": event.subject,
        "time": event.time.isoformat(),
        "entity": data.entity,
        "features": data.features,
        "prediction": data.prediction,
        "probabilities": data.probabilities,
        "version": data.version,
        "role": data.role,
        "anomaly": data.anomaly,
        "explanation": data.explanation,
    }
    text = _encoder.encode(row)
    if len(text) > MAX_ROW_CHARACTERS:
        text = _encoder.encode({**row, "features": {}, "probabilities": None, "explanation": None})
    return text.decode()


def render_importance(importance: dict[str, float]) -> str | None:
    """The features on which a version depends most, as JSON, the largest first; None where they are too long."""
    found = sorted(importance.items(), key=lambda item: (-item[1], item[0]))
    text = _encoder.encode(dict(found[:MAX_FEATURES])).decode()
    return text if len(text) <= MAX_ROW_CHARACTERS else None


def labelled(row: dict[str, Any], label: Any, spec: LoopSpec) -> dict[str, Any]:
    """A prediction with its label, and for classes whether it was correct; None where that is not known.

    `personal` names features that are sealed, and therefore not among those of the row.
    """
    is_class = spec.task != "regression" and label is not None
    return {
        **row,
        "personal": sorted(spec.personal_features - row["features"].keys()),
        "label": label,
        "correct": label == row["prediction"] if is_class else None,
    }
