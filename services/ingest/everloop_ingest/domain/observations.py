"""What becomes of an entry at the events door: an observation that fits the loop's schema, or what is wrong."""

from __future__ import annotations

from everloop_features.observation import Observation, check_observation
from everloop_ingest.domain.documents import Entry
from everloop_schemas.loop import LoopSpec
from everloop_shared.errors import FieldError


def observation(spec: LoopSpec, entry: Entry) -> Observation | list[FieldError]:
    """The observation in an entry. A CloudEvent's `data` holds the fields, its `subject` is the entity."""
    if entry.wrong:
        return list(entry.wrong)
    if not entry.cloudevent:
        return check_observation(spec, entry.value)
    event = entry.value
    body = {k: event[k] for k in ("id", "time", "data") if k in event}
    return check_observation(spec, body | ({"entity": event["subject"]} if "subject" in event else {}))
