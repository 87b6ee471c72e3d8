"""Loop specs and loop states, with defaults for everything that a test does not name."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import BASELINE, LiveVersion, LoopState, LoopStateData

LOOP = "market"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def loop_spec(**fields: Any) -> LoopSpec:
    """A binary loop with one number; `fields` are those of a loop file and replace the defaults."""
    defaults = {"loop": LOOP, "task": "binary", "schema": {"price": {"type": "number"}}}
    return LoopSpec.model_validate({**defaults, **fields})


def live_version(version: str = BASELINE, **fields: Any) -> LiveVersion:
    """A version that serves or is in rollout; version 0 has no artifact."""
    return LiveVersion.model_validate({"version": version, "since": NOW, **fields})


def loop_state(
    spec: LoopSpec | None = None,
    *,
    champion: LiveVersion | str = BASELINE,
    revision: int = 1,
    sequence: int = 1,
    **data: Any,
) -> LoopState:
    """A loop's state as registry publishes it."""
    spec = spec or loop_spec()
    champion = live_version(champion) if isinstance(champion, str) else champion
    return LoopState(
        id=f"state-{spec.loop}-{revision}-{sequence}",
        time=NOW,
        subject=champion.version,
        loop=spec.loop,
        revision=revision,
        data=LoopStateData(spec=spec, champion=champion, sequence=sequence, **data),
    )
