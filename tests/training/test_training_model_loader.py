"""The worker loads models off the thread that learns, within a limit of bytes, and tries again."""

from __future__ import annotations

import threading

import pytest
from tests.training.predicting_lines import fitted

from everloop_models import Artifact, ArtifactCorrupt, ArtifactUnavailable, Model
from everloop_schemas.training import StoredModel
from everloop_training.worker.model_loader import RETRY_AFTER_S, ModelLoader


class Store:
    """An artifact store that may be slow, or away."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.reads, self.away, self.answers = 0, False, threading.Event()
        self.answers.set()

    def put(self, data: bytes) -> StoredModel:
        """A file in it."""
        artifact = Artifact.of(data)
        self.files[artifact.sha256] = data
        return StoredModel(uri=f"memory://{artifact.sha256}", sha256=artifact.sha256, size=len(data), format="onnx")

    def read(self, stored: StoredModel) -> bytes:
        """The bytes of a file."""
        self.reads += 1
        self.answers.wait(30)
        if self.away:
            raise ArtifactUnavailable("the store is away")
        return self.files[stored.sha256]


@pytest.fixture
def store() -> Store:
    return Store()


def test_a_model_that_a_line_has_is_not_read_again_and_one_that_none_has_is(store: Store) -> None:
    loader, stored = ModelLoader(store.read, 1_000_000), store.put(fitted())

    held = [loader.load(stored), loader.load(stored)]
    reads = store.reads
    same = held[0] is held[1]
    held.clear()
    loader.load(stored)

    assert (same, reads, store.reads) == (True, 1, 2)


def test_a_store_that_hangs_holds_learning_up_once_and_for_a_moment(store: Store) -> None:
    loader, stored = ModelLoader(store.read, 1_000_000, first_wait_s=0.05), store.put(fitted())
    store.answers.clear()

    for _ in range(3):
        with pytest.raises(ArtifactUnavailable, match="is being loaded"):
            loader.load(stored)
    store.answers.set()
    model = next(m for m in iter(lambda: _try(loader, stored), object()) if m is not None)

    assert model.signature == ("a", "b")
    assert store.reads == 1


def _try(loader: ModelLoader, stored: StoredModel) -> Model | None:
    try:
        return loader.load(stored)
    except ArtifactUnavailable:
        return None


def test_a_store_that_is_away_is_asked_again_after_a_pause(store: Store) -> None:
    now = [100.0]
    loader, stored = ModelLoader(store.read, 1_000_000, clock=lambda: now[0]), store.put(fitted())
    store.away = True

    for _ in range(3):
        with pytest.raises(ArtifactUnavailable, match="the store is away"):
            loader.load(stored)
    reads, store.away = store.reads, False
    now[0] += RETRY_AFTER_S

    assert reads == 1
    model = next(m for m in iter(lambda: _try(loader, stored), object()) if m is not None)
    assert model.signature == ("a", "b")


def test_models_beyond_the_limit_of_bytes_wait_for_room(store: Store) -> None:
    first, second = store.put(fitted(seen=100)), store.put(fitted(seen=200))
    loader = ModelLoader(store.read, first.size + second.size - 1)
    held = [loader.load(first)]

    with pytest.raises(ArtifactUnavailable, match="wait for room"):
        loader.load(second)
    held.clear()

    assert loader.load(second).signature == ("a", "b")


def test_bytes_that_are_not_the_announced_ones_or_no_model_are_corrupt(store: Store) -> None:
    loader, stored, text = ModelLoader(store.read, 1_000_000), store.put(fitted()), store.put(b"no model")
    store.files[stored.sha256] = b"other"

    for wrong in (stored, text):
        with pytest.raises(ArtifactCorrupt):
            loader.load(wrong)
