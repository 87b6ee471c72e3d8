"""Every event class and every topic, collected: topic creation, schemas and decoding all start here."""

from __future__ import annotations

import json
import re
from collections import defaultdict

from everloop_schemas import (
    approvals,
    audit,
    erasure,
    feature,
    ingest,
    monitoring,
    registry,
    search,
    serving,
    tracking,
    training,
)
from everloop_schemas.dead_letter import DEAD_LETTERS
from everloop_schemas.envelope import Event, Topic, event_classes

MODULES = (ingest, feature, serving, monitoring, training, search, registry, approvals, erasure, tracking, audit)
CLASSES: dict[str, type[Event]] = {c.type_name(): c for c in event_classes()}
TOPICS: dict[str, Topic] = {c.topic.name: c.topic for c in CLASSES.values()}
_CHANGELOG = re.compile(r"feature\.\w+\.changelog$")
_by_topic: dict[str, dict[str, type[Event]]] = defaultdict(dict)
for _name, _cls in CLASSES.items():
    _by_topic[_cls.topic.name][_name] = _cls


def decode(topic: str, raw: bytes) -> Event:
    """The event in a record of `topic` (its name without prefix).

    Raises ValueError (pydantic's ValidationError included) where the bytes are no event of that topic.
    """
    classes = _by_topic[topic]
    if len(classes) == 1:
        event = next(iter(classes.values())).decode(raw)
    else:
        body = json.loads(raw)
        kind = body.get("type") if isinstance(body, dict) else None
        if kind not in classes:
            raise ValueError(f"type: {kind!r} is not an event of {topic}")
        event = classes[kind].decode(raw)
    if event.keeps_wire:
        event.remember_wire(raw)
    return event


def is_internal_topic(topic: str) -> bool:
    """Whether a topic, by its whole name, belongs to an Everloop installation of any prefix, or to Kafka."""
    if topic.startswith("__") or topic in (".", ".."):
        return True
    return topic.endswith(tuple(TOPICS)) or _CHANGELOG.search(topic) is not None


__all__ = ["CLASSES", "DEAD_LETTERS", "MODULES", "TOPICS", "decode", "is_internal_topic"]
