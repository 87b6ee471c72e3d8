"""Fetches a version's artifact, tries it in a child process, and keeps a local copy of a remote one."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from everloop_features import FeaturePlan
from everloop_models import ArtifactCorrupt, Model, ModelPrediction, load
from everloop_models.explain import explain
from everloop_models.formats import EXTENSIONS, extension_of
from everloop_models.seals import UNSEALED, Seals
from everloop_models.store import ArtifactStore, write_atomically
from everloop_schemas.envelope import Fields, Scalar
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import LiveVersion
from everloop_schemas.serving import Explanation
from everloop_serving.errors import Superseded

TryArtifact = Callable[[bytes, str, Fields, str], Awaitable[None]]
"""Verifies and loads an artifact (its bytes, SHA-256, features, format) in isolation, and predicts once; may raise."""


class LoadedVersion:
    """A version in memory."""

    def __init__(self, version: str, model: Model) -> None:
        self.version = version
        self._model = model

    def predict(self, features: Fields) -> ModelPrediction:
        """The model's prediction; raises ModelBroken."""
        return self._model.predict(features)

    def explain(self, features: Fields, prediction: ModelPrediction, seed: str, seconds: float) -> Explanation | None:
        """What each feature contributed to the model's prediction; None where that takes too long."""
        return explain(self._model, features, prediction, seed, seconds=seconds)


class ArtifactLoader:
    """Loads versions, one at a time, each after a trial in another process.

    Copies of artifacts from a remote store stay in `folder` while they are live, so that a restart does not depend on
    the store. A local store needs no copies.
    """

    def __init__(self, store: ArtifactStore, folder: Path, try_artifact: TryArtifact, seals: Seals = UNSEALED) -> None:
        self._store, self._folder, self._try_artifact, self._seals = store, folder, try_artifact, seals
        self._one_at_a_time = asyncio.Lock()

    async def load(
        self, version: LiveVersion, spec: LoopSpec, plan: FeaturePlan, is_wanted: Callable[[], bool]
    ) -> LoadedVersion:
        """The version, loaded here only after another process has loaded the same bytes and predicted with them.

        Raises ArtifactUnavailable where a retry may help; ArtifactUntrusted, ArtifactCorrupt, ModelBroken or
        LimitExceeded where it will not; Superseded where the version is not wanted any more when its turn comes.
        """
        if version.uri is None or version.sha256 is None:
            raise ArtifactCorrupt(f"{version.version} has no artifact")
        name = self._store.named(version.uri, spec.loop, version.version, version.sha256, version.format)
        self._seals.check(name, version)
        async with self._one_at_a_time:
            if not is_wanted():
                raise Superseded(f"{version.version} is not live any more")
            copy = self._folder / f"{version.sha256}.{extension_of(version.format)}"
            data = await asyncio.to_thread(self._read, name, copy, version.sha256, version.size)
            await self._try_artifact(data, version.sha256, _sample(spec, plan), version.format)
            return LoadedVersion(version.version, await asyncio.to_thread(_load_uncollected, data, version.format))

    def delete_copies_except(self, sha256s: set[str]) -> None:
        """Delete the local copies of all other artifacts; blocks."""
        for path in self._folder.glob("*.*"):
            if path.suffix[1:] in EXTENSIONS.values() and path.stem not in sha256s:
                path.unlink(missing_ok=True)

    def _read(self, name: str, copy: Path, expected: str, size: int) -> bytes:
        with suppress(OSError):
            data = copy.read_bytes()
            if sha256(data).hexdigest() == expected:
                return data  # a damaged copy is read from the store again
        data = self._store.get(name, size)
        if not self._store.local:
            with suppress(OSError):  # without a copy only a restart needs the store
                write_atomically(copy, data)
        return data


def _load_uncollected(data: bytes, format_name: str) -> Model:
    """Load a model without garbage collections, and exempt it from all later ones; blocks.

    Each collection would walk the objects loaded so far, while nothing else runs. Models hold no cycles to collect.
    """
    gc.disable()
    try:
        return load(data, format_name)
    finally:
        gc.freeze()
        gc.enable()


def _sample(spec: LoopSpec, plan: FeaturePlan) -> Fields:
    zeros: dict[str, Scalar] = {"string": "", "boolean": False, "integer": 0}
    return {n: zeros.get(spec.fields[n].type, 0.0) if n in spec.fields else 0.0 for n in plan.names}
