"""Rules for how long a loop keeps what is personal."""

from __future__ import annotations

from collections.abc import Iterator

from everloop_schemas.loop import LoopSpec
from everloop_schemas.quantities import parse_duration_s
from everloop_shared.errors import FieldError

SHORTEST_S = 86_400.0
"""The store of keys knows the day on which a key was used last."""


def check_retention(spec: LoopSpec) -> Iterator[FieldError]:
    """What `retention` cannot be."""
    if (kept := spec.retention.personal) is None:
        return
    if not spec.personal_fields:
        yield FieldError("retention.personal", "there is nothing to forget: mark a field of schema with personal: true")
    if parse_duration_s(kept) < SHORTEST_S:
        yield FieldError("retention.personal", "must be at least 1d: keys are known by the day of their last use")
    elif parse_duration_s(kept) < spec.label.within_s:
        yield FieldError("retention.personal", "must not be shorter than label.within: labels would find nobody")
