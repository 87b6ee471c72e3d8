"""Rules for the slices of a loop."""

from __future__ import annotations

from collections.abc import Iterator

from everloop_schemas.loop import LoopSpec
from everloop_shared.errors import FieldError

MAX_SLICES = 5
"""Each outcome is counted for each of them."""


def check_slices(spec: LoopSpec) -> Iterator[FieldError]:
    """What is wrong with `monitor.slices`."""
    slices = spec.monitor.slices
    if len(slices) > MAX_SLICES:
        yield FieldError("monitor.slices", f"has {len(slices)} fields; at most {MAX_SLICES}")
        return
    for i, name in enumerate(slices):
        if name not in spec.feature_names:
            fix = "name a feature, or add it to features"
            yield FieldError(f"monitor.slices.{i}", f"names {name!r:.40}, which is no feature of the loop; {fix}")
        elif name in slices[:i]:
            yield FieldError(f"monitor.slices.{i}", f"names {name!r:.40} twice; name it once")
