"""Loads models that only predict, off the thread that learns, within a limit of bytes."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from weakref import WeakValueDictionary

from everloop_models import ArtifactCorrupt, ArtifactUnavailable, Model
from everloop_models.artifact import verify
from everloop_models.formats import check, load
from everloop_schemas.training import StoredModel

FIRST_WAIT_S = 2.0
"""How long learning waits for a model; after that its line waits alone, and catches up."""
RETRY_AFTER_S = 5.0


class ModelLoader:
    """Loads models by their sha256; one that some line still has is not loaded again.

    `read(stored)` returns an artifact's bytes, in a thread; it raises ArtifactUnavailable and ArtifactCorrupt.
    """

    def __init__(
        self,
        read: Callable[[StoredModel], bytes],
        max_bytes: int,
        first_wait_s: float = FIRST_WAIT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read, self._max_bytes, self._first_wait_s, self._clock = read, max_bytes, first_wait_s, clock
        self._models: WeakValueDictionary[str, Model] = WeakValueDictionary()
        self._sizes: dict[str, int] = {}
        self._loading: dict[str, Future[Model]] = {}
        self._failed: dict[str, tuple[float, ArtifactUnavailable]] = {}
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="models")

    def load(self, stored: StoredModel) -> Model:
        """A model, once it is loaded; waits a moment for one that was not asked for before.

        Raises ArtifactUnavailable, also while it is being loaded, and ArtifactCorrupt.
        """
        if (model := self._models.get(stored.sha256)) is not None:
            return model
        wait_s = 0.0
        if stored.sha256 not in self._loading:
            self._raise_recent_failure(stored.sha256)
            self._require_room(stored)
            wait_s = 0.0 if stored.sha256 in self._failed else self._first_wait_s
            self._loading[stored.sha256] = self._threads.submit(self._load, stored)
        if not wait([self._loading[stored.sha256]], wait_s).done:
            raise ArtifactUnavailable(f"{stored.uri} is being loaded")
        try:
            model = self._loading.pop(stored.sha256).result()
        except ArtifactUnavailable as e:
            self._failed[stored.sha256] = self._clock(), e
            raise
        self._failed.pop(stored.sha256, None)
        self._models[stored.sha256], self._sizes[stored.sha256] = model, stored.size
        return model

    def _load(self, stored: StoredModel) -> Model:
        data = self._read(stored)
        verify(stored, data)
        try:
            check(data, stored.format)
            return load(data, stored.format)
        except ArtifactCorrupt:
            raise
        except Exception as e:  # made elsewhere, it may make its library raise anything
            raise ArtifactCorrupt(f"{e!r:.300}") from e

    def _raise_recent_failure(self, sha256: str) -> None:
        failed_at, error = self._failed.get(sha256, (0.0, None))
        if error is not None and self._clock() - failed_at < RETRY_AFTER_S:
            raise error

    def _require_room(self, stored: StoredModel) -> None:
        self._sizes = {sha256: size for sha256, size in self._sizes.items() if sha256 in self._models}
        held = sum(self._sizes.values())
        if held + stored.size > self._max_bytes:
            raise ArtifactUnavailable(
                f"its {stored.size:,} bytes wait for room: the models of this worker have {held:,} bytes, "
                f"at most {self._max_bytes:,}"
            )
