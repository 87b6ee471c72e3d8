"""Events as the services publish them, with defaults for everything that a test does not name.

Further keywords of each builder are fields of the event's data, or of its envelope (`loop`, `revision`, `time` ...).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from pydantic import BaseModel
from tests.builders.loops import LOOP, NOW

from everloop_schemas.dead_letter import DEAD_LETTERS
from everloop_schemas.envelope import DataEvent, Event, Scalar
from everloop_schemas.feature import EntityState, FeaturesComputed, OutcomeObserved, OutcomeObservedData
from everloop_schemas.ingest import EventReceived, LabelReceived
from everloop_schemas.loop_parts import ModelSpec
from everloop_schemas.monitoring import DriftDetected, EvaluationUpdated
from everloop_schemas.registry import BASELINE, ModelPromoted, ModelRolledBack
from everloop_schemas.search import SearchFinished, SearchRequested, TrialFinished
from everloop_schemas.serving import ObservationReceived, PredictionMade, VersionState
from everloop_schemas.training import ChallengeUpdated, LineFailed, ModelTrained, RunFinished, RunRequested

E = TypeVar("E", bound=Event)
T = TypeVar("T")
ENTITY = "default"
MODEL = ModelSpec(preset="logistic")
DATA_SET = {"loop": LOOP, "start": 0, "end": 99, "revision": 1}


def event(kind: type[E], id: str, data: Mapping[str, Any], /, **changes: Any) -> E:
    """An event of any kind; each of `changes` replaces a field of the envelope, else of the data.

    `source` and `signature` are the data's: an event's own source follows from its kind, and `sign_event` signs it.
    """
    envelope = {"id": id, "time": NOW, "subject": ENTITY, "loop": LOOP, "revision": 1}
    fields = kind.__struct_fields__ if issubclass(kind, DataEvent) else kind.model_fields  # type: ignore[attr-defined]
    names = set(fields) - {"data", "source", "signature"}
    envelope |= {name: value for name, value in changes.items() if name in names}
    of_data = {name: value for name, value in changes.items() if name not in names}
    return _build(kind, {**envelope, "data": {**data, **of_data}})


def observation(
    id: str, /, fields: Mapping[str, Any] | None = None, entity: str = ENTITY, **changes: Any
) -> EventReceived:
    """An observation as ingest publishes it."""
    return event(EventReceived, id, _observed(fields, entity, changes), **{"subject": entity, **changes})


def rest_observation(
    id: str, /, fields: Mapping[str, Any] | None = None, entity: str = ENTITY, **changes: Any
) -> ObservationReceived:
    """An observation as serving publishes it, from a prediction by REST."""
    return event(ObservationReceived, id, _observed(fields, entity, changes), **{"subject": entity, **changes})


def features_computed(
    prediction_id: str, /, features: Mapping[str, Any] | None = None, entity: str = ENTITY, **changes: Any
) -> FeaturesComputed:
    """The feature vector of an observation."""
    data = {
        "prediction_id": prediction_id,
        "entity": entity,
        "features": {"price": 1.0} if features is None else features,
        "received": changes.get("time", NOW),
    }
    return event(FeaturesComputed, f"features-{prediction_id}", data, **{"subject": entity, **changes})


def entity_state(entity: str, applied: int, state: Mapping[str, Any], **changes: Any) -> EntityState:
    """The windows of an entity."""
    data = {"entity": entity, "applied": applied, "state": state}
    return event(EntityState, f"{entity}-{applied}", data, **{"subject": entity, **changes})


def prediction_made(prediction_id: str, /, prediction: Scalar = True, **changes: Any) -> PredictionMade:
    """The prediction for an observation from the stream, by version 0."""
    data = {
        "entity": ENTITY,
        "features": {"price": 1.0},
        "prediction": prediction,
        "version": BASELINE,
        "role": "baseline",
        "propensity": 1.0,
        "latency_ms": 0.5,
        "observed": NOW,
        "door": "stream",
    }
    return event(PredictionMade, f"prediction-{prediction_id}", data, **{"subject": prediction_id, **changes})


def label_received(prediction_id: str, /, label: Scalar | None = True, **changes: Any) -> LabelReceived:
    """A label, or with `kind="feedback"` feedback, as ingest publishes it."""
    data = {"prediction_id": prediction_id, "kind": "label", "label": label, "received": changes.get("time", NOW)}
    return event(LabelReceived, f"label-{prediction_id}", data, **{"subject": prediction_id, **changes})


def outcome_data(prediction_id: str, /, label: Scalar | None = True, **fields: Any) -> OutcomeObservedData:
    """A prediction of version 0 with its label."""
    defaults = {
        "prediction_id": prediction_id,
        "entity": ENTITY,
        "label": label,
        "labelled": NOW,
        "predicted": NOW,
        "features": {"price": 1.0},
        "prediction": True,
        "version": BASELINE,
        "role": "baseline",
        "propensity": 1.0,
    }
    return _build(OutcomeObservedData, {**defaults, **fields})


def outcome_observed(prediction_id: str, /, label: Scalar | None = True, **changes: Any) -> OutcomeObserved:
    """An outcome, or with `correction` a correction of one."""
    id = f"outcome-{prediction_id}-{changes.get('correction', 0)}"
    data = msgspec.structs.asdict(outcome_data(prediction_id, label))
    return event(OutcomeObserved, id, data, **{"subject": prediction_id, **changes})


def drift_detected(
    offset: int, change_point: int, kind: str = "concept", of: str = "served_error", **changes: Any
) -> DriftDetected:
    """A drift of kind `kind` with subject `of`."""
    data = {
        "kind": kind,
        "subject": of,
        "detector": "hddm_w",
        "offset": offset,
        "change_point": change_point,
        "outcomes": offset + 1,
        "outcomes_since_change": offset - change_point,
        "error_before": 0.1,
        "error_after": 0.6,
        "version": BASELINE,
    }
    return event(DriftDetected, f"drift-{offset}", data, **{"subject": BASELINE, **changes})


def evaluation_updated(start: int, losses: Mapping[str, Sequence[float | None]], **changes: Any) -> EvaluationUpdated:
    """Losses of versions on consecutive outcomes from offset `start`; the first version was served."""
    n = len(next(iter(losses.values())))
    scores = {"metric": "accuracy", "served": 0.8, "rolling": 0.8, "no_change": 0.5, "majority": 0.5}
    data = {
        "offsets": range(start, start + n),
        "served": (next(iter(losses)),) * n,
        "losses": losses,
        "outcomes": start + n,
        "scores": scores,
    }
    return event(EvaluationUpdated, f"evaluation-{start}-{n}", data, **changes)


def line(name: str, /, **fields: Any) -> dict[str, Any]:
    """A line, with the run that started it."""
    defaults = {"line": name, "model": MODEL, "run": f"run-{name}", "start_offset": 0, "requested_offset": 0}
    return {**defaults, **fields}


def challenge_updated(start: int, losses: Mapping[str, Sequence[float | None]], **changes: Any) -> ChallengeUpdated:
    """Losses of lines on consecutive outcomes from offset `start`."""
    n = len(next(iter(losses.values())))
    lines = [line(name) for name in losses if name != BASELINE]
    data = {"offsets": range(start, start + n), "losses": losses, "lines": lines}
    return event(ChallengeUpdated, f"challenge-{start}-{n}", data, **changes)


def run_requested(name: str, /, **changes: Any) -> RunRequested:
    """The run that starts line `name`, because of a drift."""
    data = {**line(name), "key": name, "trigger": "drift", "reason": "drift"}
    return event(RunRequested, f"requested-{name}", data, **{"subject": name, **changes})


def run_finished(name: str, /, **changes: Any) -> RunFinished:
    """The end of the run that started line `name`."""
    data = {"run": f"run-{name}", "line": name, "state": "trained", "offset": 9, "outcomes": 10}
    return event(RunFinished, f"finished-{name}", data, **{"subject": name, **changes})


def search_requested(name: str, /, **changes: Any) -> SearchRequested:
    """A search of the loop's first model."""
    known = {"search": name, "key": f"search/0/{name}", "reason": "100 outcomes", "index": 0, "model": MODEL}
    data = {**known, "data_set": DATA_SET, "metric": "accuracy", "trials": 20, "budget_s": 60.0, "seed": 1}
    return event(SearchRequested, f"requested-{name}", data, **{"subject": name, **changes})


def trial_finished(search: str, number: int, /, **changes: Any) -> TrialFinished:
    """The end of a trial of a search."""
    data = {"search": search, "trial": number, "state": "complete", "parameters": {}, "seconds": 0.5}
    name = f"{search}/{number}"
    return event(TrialFinished, f"trial-{name}", data, **{"subject": name, **changes})


def search_finished(name: str, /, **changes: Any) -> SearchFinished:
    """The end of a search whose third trial is better."""
    found = {
        "best": 3,
        "model": ModelSpec(preset="logistic", l2=0.1),
        "score": 0.9,
        "base_score": 0.8,
        "run": f"run-{name}",
    }
    data = {"search": name, "state": "improved", "metric": "accuracy", "trials": 20, **found}
    return event(SearchFinished, f"finished-{name}", data, **{"subject": name, **changes})


def line_failed(name: str, /, **changes: Any) -> LineFailed:
    """A line that failed on an outcome and was restarted."""
    data = {"run": f"run-{name}", "line": name, "state": "restarted", "offset": 9, "reason": "not finite"}
    return event(LineFailed, f"failed-{name}", data, **{"subject": name, **changes})


def model_trained(name: str, /, offset: int, reason: str = "refresh", **changes: Any) -> ModelTrained:
    """The version of line `name` at an offset, with an artifact that does not exist."""
    manifest = {
        "loop_revision": 1,
        "model": MODEL,
        "topic": OutcomeObserved.topic.name,
        "partition": 0,
        "start_offset": 0,
        "end_offset": offset,
        "outcomes": offset,
        "seed": 1,
        "libraries": {},
    }
    version = f"{name}@{offset}"
    data = {
        "version": version,
        "line": name,
        "offset": offset,
        "run": f"run-{name}",
        "reason": reason,
        "uri": f"file:///nowhere/{version}",
        "sha256": "0" * 64,
        "size": 10,
        "signature": ("price",),
        "manifest": manifest,
    }
    return event(ModelTrained, f"trained-{version}-{reason}", data, **{"subject": version, **changes})


def model_promoted(version: str, /, previous: str = BASELINE, **changes: Any) -> ModelPromoted:
    """A promotion, as registry publishes it."""
    data = {"version": version, "previous": previous, "reason": "evidence"}
    chain = {"sequence": 1, "prevhash": "", "subject": version}
    return event(ModelPromoted, f"promoted-{version}", data, **{**chain, **changes})


def model_rolled_back(rolled_back: str, /, by: str = "guardrail", **changes: Any) -> ModelRolledBack:
    """A rollback to version 0."""
    data = {"version": BASELINE, "rolled_back": rolled_back, "by": by, "reason": "worse", "pinned": by == "person"}
    chain = {"sequence": 1, "prevhash": "", "subject": rolled_back}
    return event(ModelRolledBack, f"rolled-back-{rolled_back}-{by}", data, **{**chain, **changes})


def version_state(version: str, /, state: str = "ready", instance: str = "serving-1", **changes: Any) -> VersionState:
    """The state of a version on an instance of serving."""
    data = {"version": version, "instance": instance, "state": state, "reason": "test"}
    return event(VersionState, f"{state}-{version}-{instance}", data, **{"subject": version, **changes})


def dead_letter(number: int, /, service: str = "feature", **changes: Any) -> Event:
    """A record that a service could not process; `number` is its offset."""
    record = {"topic": "t", "partition": 0, "offset": number, "key": None, "value": None}
    data = {**record, "error": "InputRejected", "reason": "bad"}
    return event(DEAD_LETTERS[service], f"dead-{service}-{number}", data, **{"subject": f"t/0/{number}", **changes})


def _observed(fields: Mapping[str, Any] | None, entity: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    fields = {"price": 1.0} if fields is None else fields
    return {"entity": entity, "fields": fields, "received": changes.get("time", NOW)}


def _build(kind: type[T], content: Mapping[str, Any]) -> T:
    """Validated, as a record is when it is decoded."""
    if issubclass(kind, msgspec.Struct):
        return msgspec.convert(content, kind)
    assert issubclass(kind, BaseModel)
    return kind.model_validate(content)
