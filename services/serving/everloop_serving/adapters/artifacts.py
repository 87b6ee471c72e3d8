"""Fetches a version's artifact, tries it in a child process, and keeps a copy of what comes from afar."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from everloop_features import FeaturePlan
from everloop_models import ArtifactCorrupt, Model, Prediction, load
from everloop_models.store import ArtifactStore, write_atomically
from everloop_schemas.envelope import Fields, Scalar
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import LiveVersion
from everloop_serving.errors import Superseded

Trial = Callable[[bytes, str, Fields, str], Awaitable[None]]
"""Verifies, checks and loads an artifact, and predicts once, where it can do no harm; raises what is wrong with it."""


class LoadedVersion:
    """A version in memory."""

    def __init__(self, version: str, model: Model) -> None:
        self.version = version
        self._model = model

    def predict(self, features: Fields) -> Prediction:
        """What the model says; raises ModelBroken."""
        return self._model.predict(features)


class Artifacts:
    """Loads versions, each tried before; one is tried at a time.

    Copies of artifacts from a remote store stay in `folder` while they are live, so that a restart does not
    depend on the store. A local store is as close as the copy would be.
    """

    def __init__(self, store: ArtifactStore, folder: Path, trial: Trial) -> None:
        self._store, self._folder, self._trial = store, folder, trial
        self._turn = asyncio.Lock()

    async def load(
        self, live: LiveVersion, spec: LoopSpec, plan: FeaturePlan, wanted: Callable[[], bool]
    ) -> LoadedVersion:
        """The version, loaded here only after another process has loaded the same bytes and predicted with them.

        Raises ArtifactUnavailable where trying again may help; ArtifactCorrupt, ModelBroken or LimitExceeded where it
        will not; Superseded where nobody wants it any more when its turn comes.
        """
        if live.uri is None or live.sha256 is None:
            raise ArtifactCorrupt(f"{live.version} has no artifact")
        name = self._store.named(live.uri, spec.loop, live.version, live.sha256)
        async with self._turn:
            if not wanted():
                raise Superseded(f"{live.version} is not live any more")
            data = await asyncio.to_thread(self._bytes, name, live.sha256, live.size)
            await self._trial(data, live.sha256, _sample(spec, plan), live.format)
            return LoadedVersion(live.version, await asyncio.to_thread(load, data, live.format))

    def retain(self, sha256s: set[str]) -> None:
        """Delete the copies of all other artifacts."""
        for path in self._folder.glob("*.pkl"):
            if path.stem not in sha256s:
                path.unlink(missing_ok=True)

    def _bytes(self, name: str, expected: str, size: int) -> bytes:
        copy = self._folder / f"{expected}.pkl"
        with suppress(OSError):
            data = copy.read_bytes()
            if sha256(data).hexdigest() == expected:
                return data  # else damaged here: the store has the original
        data = self._store.get(name, size)
        if not self._store.local:
            with suppress(OSError):  # a copy is a comfort: without it a restart needs the store
                write_atomically(copy, data)
        return data


def _sample(spec: LoopSpec, plan: FeaturePlan) -> Fields:
    zeros: dict[str, Scalar] = {"string": "", "boolean": False, "integer": 0}
    return {n: zeros.get(spec.fields[n].type, 0.0) if n in spec.fields else 0.0 for n in plan.names}
