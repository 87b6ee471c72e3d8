"""Reads an entry of the endpoints for labels and feedback."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

from everloop_features.labels import CheckedLabel, LabelKind, check_label
from everloop_ingest.domain.documents import Entry
from everloop_schemas.loop import LoopSpec
from everloop_shared.errors import FieldError


def read_label(spec: LoopSpec, kind: LabelKind, entry: Entry) -> CheckedLabel | list[FieldError]:
    """The label or feedback of an entry, or all its errors."""
    if entry.errors:
        return list(entry.errors)
    return check_label(spec, kind, _unwrapped(entry.value) if entry.cloudevent else entry.value)


def _unwrapped(event: dict[str, Any]) -> Any:
    """A CloudEvent about a prediction: `subject` is the prediction id; source and id are the key."""
    data = event.get("data")
    if not isinstance(data, dict):
        return data
    key = blake2b(f"{event['source']}\n{event['id']}".encode(errors="surrogatepass"), digest_size=16).hexdigest()
    outer = {"id": event["subject"]} if "subject" in event else {}
    return {"key": key} | ({"time": event["time"]} if "time" in event else {}) | outer | data
