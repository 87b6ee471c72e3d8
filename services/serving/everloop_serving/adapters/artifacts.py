"""Fetches a version's artifact, verified and tried, and keeps a copy of what comes from afar."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from everloop_features import FeaturePlan
from everloop_models import ArtifactCorrupt, ArtifactStore, Model, Prediction, verify_and_load
from everloop_models.store import write_atomically
from everloop_schemas.envelope import Fields, Scalar
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import LiveVersion


class LoadedVersion:
    """A version in memory."""

    def __init__(self, version: str, model: Model) -> None:
        self.version = version
        self._model = model

    def predict(self, features: Fields) -> Prediction:
        """What the model says; raises ModelBroken."""
        return self._model.predict(features)


class Artifacts:
    """Loads versions. Blocks: keep it off the event loop.

    Copies of artifacts from a remote store stay in `folder` while they are live, so that a restart does not
    depend on the store. A local store is as close as the copy would be.
    """

    def __init__(self, store: ArtifactStore, folder: Path) -> None:
        self._store, self._folder = store, folder

    def load(self, live: LiveVersion, spec: LoopSpec, plan: FeaturePlan) -> LoadedVersion:
        """The version, its sha256 checked before it is unpickled, warmed by one prediction.

        Raises ArtifactUnavailable where trying again may help; ArtifactCorrupt or ModelBroken where it will not.
        """
        if live.uri is None or live.sha256 is None:
            raise ArtifactCorrupt(f"{live.version} has no artifact")
        model = self._copy(live.sha256)
        if model is None:
            data = self._store.get(live.uri)
            model = verify_and_load(data, live.sha256)
            if not live.uri.startswith("file:"):
                with suppress(OSError):  # a copy is a comfort: without it a restart needs the store
                    write_atomically(self._path(live.sha256), data)
        model.predict(_sample(spec, plan))
        return LoadedVersion(live.version, model)

    def retain(self, sha256s: set[str]) -> None:
        """Delete the copies of all other artifacts."""
        for path in self._folder.glob("*.pkl"):
            if path.stem not in sha256s:
                path.unlink(missing_ok=True)

    def _copy(self, sha256: str) -> Model | None:
        try:
            return verify_and_load(self._path(sha256).read_bytes(), sha256)
        except (OSError, ArtifactCorrupt):
            return None  # none, or damaged here: the store has the original

    def _path(self, sha256: str) -> Path:
        return self._folder / f"{sha256}.pkl"


def _sample(spec: LoopSpec, plan: FeaturePlan) -> Fields:
    zeros: dict[str, Scalar] = {"string": "", "boolean": False, "integer": 0}
    return {n: zeros.get(spec.fields[n].type, 0.0) if n in spec.fields else 0.0 for n in plan.names}
