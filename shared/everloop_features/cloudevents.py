"""What a CloudEvent says as an observation, a label or feedback: the body that the other formats send; pure."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

from everloop_features.observation import parse_time
from everloop_schemas.names import ID_RULE, is_id
from everloop_shared.cloudevents import CloudEvent
from everloop_shared.errors import FieldError


def observation_body(event: CloudEvent) -> dict[str, Any] | list[FieldError]:
    """The body for `check_observation`, or the attributes that are wrong: its subject is the entity."""
    errors = _id_errors(event, "id", event.id) + _id_errors(event, "subject", event.subject) + _time_errors(event)
    return errors or {"id": event.id, "entity": event.subject, "time": event.time, "data": event.data}


def label_body(event: CloudEvent) -> dict[str, Any] | list[FieldError]:
    """The body for `check_label`, or the attributes that are wrong.

    Its subject is the prediction id. Source and id together are the key, so that the same event is the same label.
    """
    data = event.data
    if not isinstance(data, dict):
        return [FieldError("data", "must be an object with label (or correct)")]
    errors = _id_errors(event, "subject", event.subject) + _time_errors(event)
    subject = f"{event.prefix}subject"
    if event.subject is None and "id" not in data:
        errors.append(FieldError(subject, "is missing; it is the id of the prediction"))
    elif not errors and event.subject is not None and data.get("id", event.subject) != event.subject:
        errors.append(FieldError(subject, "is another id than that in data; leave out one of them"))
    if errors:
        return errors
    key = blake2b(f"{event.source}\n{event.id}".encode(errors="surrogatepass"), digest_size=16).hexdigest()
    body = {"key": key}
    if event.time is not None:
        body["time"] = event.time
    if event.subject is not None:
        body["id"] = event.subject
    return body | data


def _id_errors(event: CloudEvent, attribute: str, value: str | None) -> list[FieldError]:
    return [] if value is None or is_id(value) else [FieldError(event.prefix + attribute, f"must be {ID_RULE}")]


def _time_errors(event: CloudEvent) -> list[FieldError]:
    time = parse_time(f"{event.prefix}time", event.time)
    return [time] if isinstance(time, FieldError) else []
