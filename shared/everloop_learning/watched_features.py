"""Which features of a loop are watched for drift: what monitoring does, and a diff says."""

from __future__ import annotations

from everloop_schemas.loop import LoopSpec

MAX_FEATURES = 200
"""Of one loop that are watched: memory and time are bounded, whatever the spec says."""


def watched_features(spec: LoopSpec) -> tuple[str, ...]:
    """The features that a spec asks to watch, at most `MAX_FEATURES`; their records lack personal ones."""
    asked = spec.monitor.drift
    names = asked if isinstance(asked, tuple) else spec.feature_names if asked == "all" else ()
    return tuple(name for name in names if name not in spec.personal_features)[:MAX_FEATURES]
