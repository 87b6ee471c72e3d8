"""Deletes artifacts that no version needs any more, on the registry's word."""

from __future__ import annotations

import asyncio
import logging

from everloop_learning.loops import KnownLoops
from everloop_models import ArtifactUnavailable
from everloop_models.store import ArtifactStore
from everloop_training.domain.collecting import Stored, needless
from everloop_training.metrics import ARTIFACT_BYTES, COLLECTED

log = logging.getLogger(__name__)


class Collector:
    """Looks through the store now and then. Two at work at once are harmless, and so is a store that is away.

    The files of a loop that was never heard of are left alone: the store may be another house's too.
    """

    def __init__(self, store: ArtifactStore, loops: KnownLoops, after_s: float) -> None:
        self._store, self._loops, self._after_s = store, loops, after_s

    async def run(self, every_s: float) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(every_s)
            try:
                await asyncio.to_thread(self.collect)
            except ArtifactUnavailable as e:
                log.warning("artifacts not looked through", extra={"reason": e.detail})

    def collect(self) -> int:
        """Look once; returns how many bytes were deleted. Blocks; raises ArtifactUnavailable."""
        left = gone = 0
        for loop in self._store.loops():
            state = self._loops.get(loop)
            files = [Stored(*file) for file in self._store.files(loop)]
            left += sum(file.size for file in files)
            if state is None and not self._loops.is_deleted(loop):
                continue
            for file in needless(files, state.data if state else None, self._after_s):
                self._store.delete(file.name)
                gone += file.size
                COLLECTED.inc(file.size)
                log.info("artifact collected", extra={"loop": loop, "file": file.name, "bytes": file.size})
        ARTIFACT_BYTES.set(left - gone)
        return gone
