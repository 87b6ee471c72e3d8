"""Reads an entry of the endpoint for observations."""

from __future__ import annotations

from everloop_features.observation import Observation, check_observation
from everloop_ingest.domain.documents import Entry
from everloop_schemas.loop import LoopSpec
from everloop_shared.errors import FieldError


def read_observation(spec: LoopSpec, entry: Entry) -> Observation | list[FieldError]:
    """The observation of an entry, or all its errors. Of a CloudEvent, `subject` is the entity."""
    if entry.errors:
        return list(entry.errors)
    if not entry.cloudevent:
        return check_observation(spec, entry.value)
    event = entry.value
    body = {k: event[k] for k in ("id", "time", "data") if k in event}
    return check_observation(spec, body | ({"entity": event["subject"]} if "subject" in event else {}))
