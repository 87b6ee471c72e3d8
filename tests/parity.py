"""Recomputes the features of predictions from the log, with the pure code: what every record has to equal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from everloop_features import FeaturePlan, State, compile_features
from everloop_schemas.envelope import Fields
from everloop_schemas.feature import FeaturesComputed
from everloop_schemas.ingest import EventReceived
from everloop_schemas.loop import LoopSpec
from everloop_schemas.serving import ObservationReceived, PredictionMade, WindowsUsed

Observed = EventReceived | ObservationReceived


@dataclass
class EntityLog:
    """What the log has of one entity; `rest` in the order of its partition."""

    stream: dict[str, EventReceived] = field(default_factory=dict)
    rest: dict[str, ObservationReceived] = field(default_factory=dict)
    vectors: dict[str, FeaturesComputed] = field(default_factory=dict)
    predictions: dict[str, PredictionMade] = field(default_factory=dict)

    def in_order(self) -> list[Observed]:
        """The observations in the order in which feature applied them.

        A vector says which number its observation had; between those, REST observations keep their own order.
        """
        by_number = {vector.data.applied: self.stream[vector.data.prediction_id] for vector in self.vectors.values()}
        rest = iter(self.rest.values())
        return [by_number.get(n) or next(rest) for n in range(1, len(by_number) + len(self.rest) + 1)]


def by_entity(
    events: Iterable[EventReceived | ObservationReceived | FeaturesComputed | PredictionMade],
) -> dict[str, EntityLog]:
    """The events of one loop, by entity; those of a topic partition come in its order. Repeated ids count once."""
    logs: dict[str, EntityLog] = defaultdict(EntityLog)
    for event in events:
        log = logs[event.data.entity]
        match event:
            case EventReceived():
                log.stream.setdefault(event.id, event)
            case ObservationReceived():
                log.rest.setdefault(event.id, event)
            case FeaturesComputed():
                log.vectors.setdefault(event.id, event)
            case PredictionMade():
                log.predictions.setdefault(event.subject, event)
    return logs


def find_disparities(spec: LoopSpec, logs: dict[str, EntityLog]) -> Iterator[str]:
    """Every prediction whose features are not those of the state that it names; of a loop without `lag: label`."""
    plan = compile_features(spec)
    for entity, log in logs.items():
        states = _states(plan, log.in_order())
        own: dict[str, tuple[State, Fields]] = {}
        for prediction in log.predictions.values():
            expected = _features(plan, log, states, own, prediction)
            if prediction.data.features != expected:
                found = prediction.data.features
                yield f"{entity} {prediction.subject} {prediction.data.windows}: {found} instead of {expected}"


def _states(plan: FeaturePlan, observed: Iterable[Observed]) -> list[tuple[State, Fields]]:
    """The state after each number of observations, and the features at that observation."""
    states: list[tuple[State, Fields]] = [(plan.empty(), {})]
    for observation in observed:
        states.append(_apply(plan, states[-1][0], observation))
    return states


def _apply(plan: FeaturePlan, state: State, observation: Observed) -> tuple[State, Fields]:
    return plan.apply(state, observation.data.fields, observation.time, observation.data.received)


def _features(
    plan: FeaturePlan,
    log: EntityLog,
    states: list[tuple[State, Fields]],
    own: dict[str, tuple[State, Fields]],
    prediction: PredictionMade,
) -> Fields:
    """What the record's features should be; `own` has the states after REST observations so far, by prediction id.

    The predictions of an entity lie on several partitions, so that one of a chain may come before its predecessor.
    """
    if _windows(prediction).source == "stream":
        return states[_windows(prediction).applied + 1][1]
    chain = [prediction]
    while (previous := _windows(chain[-1]).previous) and previous not in own:
        chain.append(log.predictions[previous])
    for each in reversed(chain):
        windows = _windows(each)
        before = own[windows.previous] if windows.previous else states[windows.applied]
        own[each.subject] = _apply(plan, before[0], log.rest[each.subject])
    return own[prediction.subject][1]


def _windows(prediction: PredictionMade) -> WindowsUsed:
    windows = prediction.data.windows
    assert windows is not None, f"{prediction.subject} does not name the state that it was computed from"
    return windows
