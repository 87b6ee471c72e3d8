"""What the learners need from outside: the clock, the artifact store, and a limit of memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from everloop_models import Model, OnlineModel
from everloop_schemas.training import StoredModel
from everloop_training.worker.learners.learning_line import SavedVersion

RECENT_BYTES = 4_000_000


@dataclass(frozen=True)
class LearnerDependencies:
    """Functions that the learners of a process share.

    `store_version(loop, version, model)` raises ArtifactUnavailable and ModelBroken, `load_version(saved)` raises
    ArtifactUnavailable and ArtifactCorrupt. `load_model(stored)` loads a model that a line only predicts with; it
    raises ArtifactMissing, ArtifactUnavailable, also while the model is being loaded, and ArtifactCorrupt.
    `copy_version(loop, version, stored)` stores its bytes under the name of a version, and raises the same.
    `seal(uri, sha256)` is the seal of an artifact that was stored, None where this installation makes none.
    `mark_in_progress(partition, offset)` is called before a line learns an outcome. `recent_bytes()` is how many bytes
    of recent outcomes one learner may hold in memory.
    """

    now: Callable[[], datetime]
    store_version: Callable[[str, str, OnlineModel], SavedVersion]
    load_version: Callable[[SavedVersion], OnlineModel]
    load_model: Callable[[StoredModel], Model]
    copy_version: Callable[[str, str, StoredModel], SavedVersion]
    seal: Callable[[str, str], str | None] = lambda uri, sha256: None
    mark_in_progress: Callable[[int, int], None] = lambda partition, offset: None
    recent_bytes: Callable[[], int] = lambda: RECENT_BYTES
