"""Reads an entry of the endpoint for observations."""

from __future__ import annotations

from everloop_features.cloudevents import observation_body
from everloop_features.observation import Observation, check_observation
from everloop_ingest.domain.documents import Entry
from everloop_schemas.loop import LoopSpec
from everloop_shared.cloudevents import CloudEvent
from everloop_shared.errors import FieldError


def read_observation(spec: LoopSpec, entry: Entry) -> Observation | list[FieldError]:
    """The observation of an entry, or its errors."""
    if entry.errors:
        return list(entry.errors)
    if isinstance(entry.value, Observation):
        return entry.value
    if not isinstance(entry.value, CloudEvent):
        return check_observation(spec, entry.value)
    body = observation_body(entry.value)
    return body if isinstance(body, list) else check_observation(spec, body)
