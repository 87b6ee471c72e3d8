"""The composition root of the worker: settings become its dispatcher."""

from __future__ import annotations

from everloop_models import ModelBroken, OnlineModel, save, verify_and_load
from everloop_models.artifact import verify
from everloop_models.seals import Seals
from everloop_models.store import ArtifactStore, name_in
from everloop_schemas.training import StoredModel
from everloop_shared.clock import system_clock
from everloop_shared.personal import Vault
from everloop_shared.signing import signer_of, trust_of
from everloop_training.settings import TrainingSettings
from everloop_training.worker.dispatcher import ALL_RECENT_BYTES, WorkerDispatcher
from everloop_training.worker.learners.dependencies import LearnerDependencies
from everloop_training.worker.learners.learning_line import SavedVersion
from everloop_training.worker.model_loader import ModelLoader
from everloop_training.worker.protocol.progress import OutcomeInProgress
from everloop_training.worker.snapshots import Snapshots


def build(settings: TrainingSettings) -> WorkerDispatcher:
    """A dispatcher with the artifact store, the snapshots and the file of the outcome in progress."""
    store, in_progress = (
        ArtifactStore(settings.artifact_url, settings.max_artifact_bytes),
        OutcomeInProgress(settings.in_progress_file()),
    )
    seals = Seals.of(settings)

    def store_version(loop: str, version: str, model: OnlineModel) -> SavedVersion:
        try:
            artifact = save(model)
        except Exception as e:
            raise ModelBroken(f"cannot be pickled: {e!r}") from e
        uri = store.put(store.name(loop, version, artifact.sha256, model.format), artifact.data)
        return SavedVersion(version, uri, artifact.sha256, artifact.size, model.format)

    def load_version(saved: SavedVersion) -> OnlineModel:
        return verify_and_load(store.get(name_in(saved.uri), saved.size), saved.sha256, saved.format)

    def read_model(stored: StoredModel) -> bytes:
        name = name_in(stored.uri)
        seals.check(name, stored)
        return store.get(name, stored.size)

    def seal(uri: str, sha256: str) -> str | None:
        return seals.make(name_in(uri), sha256)

    def copy_version(loop: str, version: str, stored: StoredModel) -> SavedVersion:
        data = read_model(stored)
        verify(stored, data)
        uri = store.put(store.name(loop, version, stored.sha256, stored.format), data)
        return SavedVersion(version, uri, stored.sha256, stored.size, stored.format)

    models = ModelLoader(read_model, settings.part(settings.model_bytes))
    dependencies = LearnerDependencies(
        system_clock, store_version, load_version, models.load, copy_version, seal, in_progress.mark
    )
    vault = Vault(settings.personal_keys_url, settings.personal_master_key)
    signer, trust = signer_of(settings), trust_of(settings)
    snapshots = Snapshots(settings.snapshot_folder(), signer, trust, vault=vault)
    return WorkerDispatcher(
        dependencies,
        snapshots,
        settings.snapshot_outcomes,
        settings.snapshot_seconds,
        in_progress=in_progress,
        recent_bytes=settings.part(ALL_RECENT_BYTES),
    )
