"""Reads an entry of the endpoints for labels and feedback."""

from __future__ import annotations

from everloop_features.cloudevents import label_body
from everloop_features.labels import CheckedLabel, LabelKind, check_label
from everloop_ingest.domain.documents import Entry
from everloop_schemas.loop import LoopSpec
from everloop_shared.cloudevents import CloudEvent
from everloop_shared.errors import FieldError


def read_label(spec: LoopSpec, kind: LabelKind, entry: Entry) -> CheckedLabel | list[FieldError]:
    """The label or feedback of an entry, or its errors."""
    if entry.errors:
        return list(entry.errors)
    if not isinstance(entry.value, CloudEvent):
        return check_label(spec, kind, entry.value)
    body = label_body(entry.value)
    return body if isinstance(body, list) else check_label(spec, kind, body)
