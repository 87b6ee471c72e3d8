"""The first load of an artifact, for a child process with limits: everything that bytes could do, they do there."""

from __future__ import annotations

from everloop_models.errors import ModelBroken
from everloop_models.pickling import Artifact, check, load, verify
from everloop_schemas.envelope import Fields

PRELOAD = ("everloop_models.trial", "everloop_models.first_load")
MEMORY_BYTES = 1_500_000_000
SECONDS = 60.0


def tried(data: bytes, sha256: str, features: Fields, loads: bool = True) -> None:
    """Verify and check an artifact and, with `loads`, load it and predict once.

    Raises ArtifactCorrupt, or ModelBroken where the prediction fails or is not finite.
    """
    verify(Artifact(b"", sha256, len(data)), data)
    check(data)
    if loads:
        model = load(data)
        try:
            model.predict(features)
        except ModelBroken as e:
            raise ModelBroken(e.detail[:500]) from e
