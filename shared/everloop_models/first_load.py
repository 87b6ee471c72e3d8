"""The first load of an artifact, in a child process with limits, so that hostile bytes harm nothing else."""

from __future__ import annotations

from everloop_models.artifact import Artifact, verify
from everloop_models.errors import ModelBroken
from everloop_models.formats import DEFAULT_FORMAT, FORMATS, check, load
from everloop_schemas.envelope import Fields

PRELOADED_MODULES = (*FORMATS.values(), "everloop_models.trial", "everloop_models.first_load")
LOAD_MEMORY_BYTES = 1_500_000_000
LOAD_TIMEOUT_S = 60.0


def try_artifact(
    data: bytes, sha256: str, features: Fields, format_name: str = DEFAULT_FORMAT, loads: bool = True
) -> None:
    """Verify and check an artifact and, with `loads`, load it and predict once.

    Raises ArtifactCorrupt, or ModelBroken where the prediction fails or is not finite.
    """
    verify(Artifact(b"", sha256, len(data)), data)
    check(data, format_name)
    if loads:
        model = load(data, format_name)
        try:
            model.predict(features)
        except ModelBroken as e:
            raise ModelBroken(e.detail[:500]) from e
