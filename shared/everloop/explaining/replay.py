"""Loads a version from its artifact in a limited process, and compares what it predicts with what was recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from everloop.local.discovery import Installation
from everloop.local.personal import with_keys_of
from everloop.local.stores import store_settings
from everloop_schemas.envelope import Scalar
from everloop_schemas.registry import BASELINE
from everloop_schemas.serving import PredictionMade
from everloop_shared.errors import Misconfigured, ServiceError
from everloop_shared.personal import Vault
from everloop_shared.settings import StoreSettings


@dataclass(frozen=True)
class Replay:
    """What the version predicts for the recorded features.

    `identical` is None where it could not be asked here, for the reason in `detail`. `trusted` says that
    EVERLOOP_TRUSTED_KEYS vouches for the artifact; None where it is not set.
    """

    identical: bool | None
    detail: str
    prediction: Scalar | None = None
    probabilities: dict[str, float] | None = None
    trusted: bool | None = None


NO_ARTIFACT = Replay(
    None,
    f"version {BASELINE} is no model and has no artifact: it answers with the most frequent label, or the mean, of "
    "those that serving had counted until then",
)


async def replay(installation: Installation, event: PredictionMade, registered: Mapping[str, Any]) -> Replay:
    """Predict again; the artifact's seal, its size and SHA-256 are checked before anything of it is loaded.

    Raises Misconfigured where EVERLOOP_TRUSTED_KEYS cannot be read.
    """
    from everloop_models.errors import ArtifactCorrupt, ArtifactUnavailable, FormatUnavailable
    from everloop_models.first_load import LOAD_MEMORY_BYTES, LOAD_TIMEOUT_S, load_and_predict
    from everloop_models.formats import FORMATS
    from everloop_shared.limited import Limited
    from everloop_shared.signing import trust_of

    settings = with_keys_of(installation.folder, store_settings(installation))
    opened = await asyncio.to_thread(_opened, settings, event)
    if isinstance(opened, Replay):
        return opened
    event = opened
    trusted = True if trust_of(settings) else None
    try:
        data = _fetch(settings, event.loop, registered)
        form = registered["manifest"]["format"]
        needed = (FORMATS[form], "everloop_models.first_load")
        async with Limited(preload=needed, memory_bytes=LOAD_MEMORY_BYTES, seconds=LOAD_TIMEOUT_S) as child:
            found = await child.run(load_and_predict, data, registered["sha256"], event.data.features, form)
    except (ArtifactUnavailable, FormatUnavailable, Misconfigured) as e:
        return Replay(None, f"its artifact cannot be loaded on this machine: {e.detail}")
    except ArtifactCorrupt as e:
        return Replay(False, f"its artifact was refused: {e.detail}")
    except ServiceError as e:
        return Replay(False, f"it does not predict for the recorded features: {e.detail}", trusted=trusted)
    return _compared(event, registered, found["prediction"], found["probabilities"], trusted)


def _opened(settings: StoreSettings, event: PredictionMade) -> PredictionMade | Replay:
    """The record with its personal features, or why there are none."""
    vault = Vault(settings.personal_keys_url, settings.personal_master_key)
    try:
        found = vault.open_event_now(event)
    except ServiceError as e:
        return Replay(None, f"its personal features cannot be opened here: {e.detail}")
    finally:
        vault.close()
    return found or Replay(None, "its person was erased: what it was made from cannot be read any more")


def _fetch(settings: StoreSettings, loop: str, registered: Mapping[str, Any]) -> bytes:
    from everloop_models.seals import Seals
    from everloop_models.store import ArtifactStore
    from everloop_schemas.training import StoredModel
    from everloop_shared.signing import trust_of

    store = ArtifactStore(settings.artifact_url, settings.max_artifact_bytes)
    stored = StoredModel.model_validate({**registered, "format": registered["manifest"]["format"]})
    name = store.named(stored.uri, loop, registered["version"], stored.sha256, stored.format)
    Seals(trust=trust_of(settings)).check(name, stored)
    return store.get(name, stored.size)


def _compared(
    event: PredictionMade,
    registered: Mapping[str, Any],
    prediction: Scalar,
    probabilities: dict[str, float] | None,
    trusted: bool | None,
) -> Replay:
    made = event.data
    identical = same(prediction, made.prediction) and probabilities == made.probabilities
    detail = f"its artifact, of SHA-256 {registered['sha256']}, predicts the same for the recorded features"
    if not identical:
        why = "; ".join(_differences(registered)) or "its libraries are the same, so one of the two was changed"
        detail = f"it predicts {prediction!r} {probabilities or ''} for the recorded features: {why}"
    return Replay(identical, detail, prediction, probabilities, trusted)


def same(a: Scalar, b: Scalar) -> bool:
    """Whether two values are the same, of the same type: 1, 1.0 and true are three."""
    return type(a) is type(b) and a == b


def _differences(registered: Mapping[str, Any]) -> list[str]:
    from everloop_models.formats import versions_of

    then = registered["manifest"]["libraries"]
    here = versions_of(name for name in then if name not in ("python", "everloop"))
    return [f"{n} was {v}, here it is {here[n]}" for n, v in then.items() if n != "everloop" and here.get(n) != v]
