"""How large an event may be before its personal values are sealed."""

from __future__ import annotations

from everloop_schemas.loop import LoopSpec

SEALED_SHARE = 0.7
"""Sealed values take a third more, as they are written in base64, and a hundred bytes beside."""


def size_limit(spec: LoopSpec, max_event_bytes: int) -> int:
    """The bytes of an event of the loop, so that it has at most `max_event_bytes` on its topic."""
    return int(max_event_bytes * SEALED_SHARE) if spec.personal_fields else max_event_bytes
