"""Checks a version before it is registered: that its artifact matches its description, and can be served."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from everloop_features import compile_features
from everloop_features.samples import sample_vectors
from everloop_learning.version import Version
from everloop_models import ArtifactCorrupt, ArtifactMissing, ModelBroken
from everloop_models.first_load import try_artifact
from everloop_models.seals import UNSEALED, Seals
from everloop_models.store import ArtifactStore
from everloop_registry.metrics import CHECK_SECONDS
from everloop_schemas.loop import LoopSpec
from everloop_schemas.training import ModelTrainedData
from everloop_shared.limited import ChildFailed, Limited, LimitExceeded


class ChildProcessArtifactChecks:
    """Fetches a version's artifact and tries it in a child process; at most one artifact is in memory.

    Nothing of one that `seals` does not vouch for is read. A refresh over `light_bytes` is verified but not loaded: its
    line was loaded before, and serving falls back.
    """

    def __init__(self, store: ArtifactStore, child: Limited, light_bytes: int, seals: Seals = UNSEALED) -> None:
        self._store, self._child, self._light_bytes, self._seals = store, child, light_bytes, seals
        self._one_at_a_time = asyncio.Lock()

    async def refusal(self, model: ModelTrainedData, specs: Sequence[LoopSpec]) -> str | None:
        """Why it cannot be served, None where it can; raises Unavailable while the store is away."""
        if model.offset < 0 or model.version != str(Version(model.line, model.offset)) or model.size < 1:
            return f"it says that it is {model.line!r:.80} at {_shorten(model.offset)}, of {_shorten(model.size)} bytes"
        known = {name for spec in specs for name in compile_features(spec).names}
        if unknown := set(model.signature) - known:
            return _needs(unknown)
        is_loaded = model.reason != "refresh" or model.size <= self._light_bytes
        async with self._one_at_a_time:
            with CHECK_SECONDS.time():
                return await self._try_artifact(model, specs[-1], is_loaded, known)

    async def _try_artifact(
        self, model: ModelTrainedData, spec: LoopSpec, is_loaded: bool, known: set[str]
    ) -> str | None:
        try:
            name = self._store.named(model.uri, spec.loop, model.version, model.sha256, model.manifest.format)
            self._seals.check(name, model)
            data = await asyncio.to_thread(self._store.get, name, model.size)
            fed = await self._child.run(
                try_artifact,
                data,
                model.sha256,
                sample_vectors(spec, compile_features(spec), 1)[0],
                model.manifest.format,
                is_loaded,
            )
        except ArtifactMissing:
            return f"no artifact {name} in the store"
        except (ArtifactCorrupt, ModelBroken, LimitExceeded) as e:
            return e.detail
        except ChildFailed as e:
            return f"it cannot be tried: {str(e)[-300:]}"
        unknown = {*fed} - known  # the file may say otherwise than the event
        return _needs(unknown) if unknown else None


def _needs(unknown: set[str]) -> str:
    return f"it needs features that no revision of the loop has: {', '.join(sorted(unknown)[:5])}"


def _shorten(number: int) -> str:
    return str(number) if abs(number) < 10**20 else "very much"
