"""The new predictions of one request, collected until their record is stored: before that, nothing else changes."""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec.structs import replace

from everloop_features import State
from everloop_features.errors import IdTaken
from everloop_schemas.envelope import Event
from everloop_schemas.serving import ObservationReceived, PredictionMade, WindowsUsed

MAX_ROWS = 1_000
"""Observations of one request, at most. Nothing else is answered while they are predicted, together or not at all."""


@dataclass
class EntityChange:
    """The state of an entity after its rows so far and its name, their number, and the bytes of their observations.

    `sealed` is the token that stands for the state once the request is predicted, in loops with personal fields.
    """

    state: State
    windows: WindowsUsed
    observations: int = 0
    size: int = 0
    sealed: str | None = None


@dataclass
class NewPredictions:
    """Predictions, the events to store in order, and the changes of each entity, where the loop has windows."""

    predictions: list[PredictionMade] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    changes: dict[str, EntityChange] = field(default_factory=dict)
    _by_id: dict[str, PredictionMade] = field(default_factory=dict)

    def add(self, prediction: PredictionMade, observation: ObservationReceived, state: State) -> None:
        """Add a prediction, its observation, and the state of the entity after it."""
        self.predictions.append(prediction)
        self._by_id[prediction.subject] = prediction
        self.events += [prediction, observation]
        used = prediction.data.windows
        if used is None:
            return
        windows = replace(used, previous=prediction.subject)
        change = self.changes.get(observation.subject)
        if change is None:
            change = self.changes[observation.subject] = EntityChange(state, windows)
        change.state, change.windows = state, windows
        change.observations += 1
        change.size += len(observation.encode())

    def find(self, prediction_id: str | None, fingerprint: str) -> PredictionMade | None:
        """The prediction of an earlier row under the same id; raises IdTaken where that was another observation."""
        found = None if prediction_id is None else self._by_id.get(prediction_id)
        if found is not None and found.data.fingerprint != fingerprint:
            raise id_taken(found.subject)
        return found


def id_taken(prediction_id: str, version: str | None = None) -> IdTaken:
    """The refusal of another observation under an id that was predicted, or of another version than predicted it."""
    if version is not None:
        return IdTaken(f"id: {prediction_id!r} was predicted before by {version}; ask for it without a version")
    return IdTaken(
        f"id: {prediction_id!r} was predicted before from other data (entity, fields or time); "
        "give each observation its own id"
    )
