"""Deletes artifacts that no version needs any more, as the registry's loop states say."""

from __future__ import annotations

import asyncio
import logging

from everloop_learning.loops import KnownLoops
from everloop_models import ArtifactUnavailable
from everloop_models.store import ArtifactStore
from everloop_training.domain.artifact_retention import StoredFile, files_of_runs, unneeded_files
from everloop_training.metrics import ARTIFACT_BYTES, COLLECTED
from everloop_training.ports import RunLog

log = logging.getLogger(__name__)


class ArtifactCollector:
    """Searches the artifact store from time to time. Two at once are harmless, and so is a store that is unavailable.

    The files of an unknown loop stay: another installation may use the same store.
    """

    def __init__(self, store: ArtifactStore, loops: KnownLoops, min_age_s: float, runs: RunLog) -> None:
        self._store, self._loops, self._min_age_s, self._runs = store, loops, min_age_s, runs

    async def run(self, every_s: float) -> None:
        """Collect every so many seconds, for ever."""
        while True:
            await asyncio.sleep(every_s)
            try:
                await asyncio.to_thread(self.collect)
            except ArtifactUnavailable as e:
                log.warning("artifacts not collected", extra={"reason": e.detail})

    def collect(self) -> int:
        """Collect once; returns how many bytes were deleted. Blocks; raises ArtifactUnavailable."""
        found = deleted = 0
        for loop in self._store.loops():
            state = self._loops.get(loop)
            files = [StoredFile(*file) for file in self._store.files(loop)]
            found += sum(file.size for file in files)
            if state is None and not self._loops.is_deleted(loop):
                continue
            needed = files_of_runs(self._runs.of(loop), state.data) if state else frozenset[str]()
            for file in unneeded_files(files, state.data if state else None, self._min_age_s, needed):
                self._store.delete(file.name)
                deleted += file.size
                COLLECTED.inc(file.size)
                log.info("artifact deleted", extra={"loop": loop, "file": file.name, "bytes": file.size})
        ARTIFACT_BYTES.set(found - deleted)
        return deleted
