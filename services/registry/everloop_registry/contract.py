"""The checks before a version is accepted: that it is what it says, and can be served."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from hashlib import sha256

from everloop_features import compile_features
from everloop_models import (
    ArtifactCorrupt,
    ArtifactStore,
    ArtifactUnavailable,
    ModelBroken,
    verify_and_load,
)
from everloop_registry.building import sample
from everloop_registry.metrics import CHECKS
from everloop_schemas.envelope import Fields, at
from everloop_schemas.loop import LoopSpec
from everloop_schemas.training import ModelTrainedData


class StoredArtifacts:
    """Fetches a version's artifact and tries it in a thread; at most one artifact is in memory.

    A refresh over `light_bytes` is not unpickled again: its line was loaded before, and serving falls back.
    """

    def __init__(self, url: str, max_bytes: int, light_bytes: int) -> None:
        self._url, self._max, self._light = url, max_bytes, light_bytes
        self._one = asyncio.Lock()

    async def refusal(self, model: ModelTrainedData, specs: Sequence[LoopSpec]) -> str | None:
        """Why it cannot be served, None where it can; raises Unavailable while the store is away."""
        if model.size > self._max:
            return f"{model.size:,} bytes; at most {self._max:,} are accepted"
        known = {name for spec in specs for name in compile_features(spec).names}
        if strange := sorted(set(model.signature) - known):
            return f"it needs features that no revision of the loop has: {', '.join(strange[:5])}"
        loads = model.reason != "refresh" or model.size <= self._light
        async with self._one:
            with CHECKS.time():
                return await asyncio.to_thread(_try, self._url, model, specs[-1], loads)


def _try(url: str, model: ModelTrainedData, spec: LoopSpec, loads: bool) -> str | None:
    try:
        data = ArtifactStore(url).get(model.uri)
    except ArtifactUnavailable as e:
        if isinstance(e.__cause__, FileNotFoundError):
            return f"no artifact at {model.uri}"
        raise
    except (ValueError, ImportError) as e:
        return f"cannot read {model.uri}: {e}"
    if len(data) != model.size or sha256(data).hexdigest() != model.sha256:
        return f"the artifact has {len(data):,} bytes and another sha256 than it should"
    if not loads:
        return None
    try:
        verify_and_load(data, model.sha256).predict(_sample(spec))
    except (ArtifactCorrupt, ModelBroken) as e:
        return e.detail
    return None


def _sample(spec: LoopSpec) -> Fields:
    """The vector of one made-up observation."""
    plan = compile_features(spec)
    return plan.apply(plan.empty(), {name: sample(of) for name, of in spec.fields.items()}, at(0))[1]
