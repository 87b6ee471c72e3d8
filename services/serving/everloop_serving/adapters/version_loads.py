"""Loads versions into memory in the background, off the event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from everloop_features import FeaturePlan, compile_features
from everloop_models import ArtifactUnavailable
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import LiveVersion, LoopState
from everloop_serving.adapters.dismantling import dismantle
from everloop_serving.domain.served_loop import Predictor, VersionsInMemory
from everloop_serving.errors import Superseded
from everloop_shared.backoff import Backoff
from everloop_shared.errors import ServiceError

log = logging.getLogger(__name__)
MAX_RETRY_PAUSE_S = 10.0
VersionKey = tuple[str, str]
"""A loop and a version."""
LoadEnded = Callable[[LoopState, LiveVersion, str | None], Awaitable[None]]
"""Awaited when a version is in memory, or could not be loaded for the reason given."""


class VersionLoader(Protocol):
    """Loads a live version; raises as `ArtifactLoader` does. `delete_copies_except` blocks."""

    async def load(
        self, version: LiveVersion, spec: LoopSpec, plan: FeaturePlan, is_wanted: Callable[[], bool]
    ) -> Predictor: ...
    def delete_copies_except(self, sha256s: set[str]) -> None: ...


class LoadMetrics(Protocol):
    """Counts loads."""

    def observe_load(self, loop: str, seconds: float) -> None: ...
    def count_load_failure(self, loop: str) -> None: ...


@dataclass(frozen=True)
class LoadRetries:
    """How often an artifact that cannot be reached is fetched, and the first pause in seconds, which doubles."""

    attempts: int
    first_pause_s: float


class VersionLoads:
    """The versions in memory, and those being loaded."""

    def __init__(self, loader: VersionLoader, metrics: LoadMetrics, retries: LoadRetries) -> None:
        self._loader, self._metrics, self._retries = loader, metrics, retries
        self._loaded: dict[VersionKey, Predictor] = {}
        self._failed: set[VersionKey] = set()
        self._loading: dict[VersionKey, asyncio.Task[None]] = {}

    def of(self, loop: str) -> VersionsInMemory:
        """What is in memory of a loop."""
        return VersionsInMemory(
            find=lambda version: self._loaded.get((loop, version)),
            has_failed=lambda version: (loop, version) in self._failed,
        )

    def failed_loops(self) -> set[str]:
        """The loops that have a version which could not be loaded."""
        return {loop for loop, _ in self._failed}

    def start(self, state: LoopState, version: LiveVersion, is_wanted: Callable[[], bool], ended: LoadEnded) -> None:
        """Load a version, unless it is in memory or being loaded."""
        key = (state.loop, version.version)
        if key not in self._loaded and key not in self._loading:
            self._failed.discard(key)
            self._loading[key] = asyncio.create_task(self._load(state, version, is_wanted, ended))

    async def wait(self, loop: str, timeout_s: float) -> None:
        """Wait until no version of the loop is being loaded, `timeout_s` at most."""
        if tasks := [task for key, task in self._loading.items() if key[0] == loop]:
            await asyncio.wait(tasks, timeout=timeout_s)

    def drop_loop(self, loop: str) -> None:
        """Drop every version of a loop, and stop loading any."""
        self._drop([key for key in self._loaded if key[0] == loop])
        for key in [key for key in self._loading if key[0] == loop]:
            if task := self._loading.pop(key, None):
                task.cancel()
        self._failed = {key for key in self._failed if key[0] != loop}

    def drop_others(self, loop: str, versions: Collection[str]) -> None:
        """Drop the versions of a loop that are not among `versions`."""
        self._drop([k for k in self._loaded if k[0] == loop and k[1] not in versions])
        self._failed = {k for k in self._failed if k[0] != loop or k[1] in versions}

    def _drop(self, keys: Sequence[VersionKey]) -> None:
        if keys:
            dropped: list[object] = [self._loaded.pop(key) for key in keys]
            asyncio.get_running_loop().run_in_executor(None, dismantle, dropped)

    async def delete_copies_except(self, sha256s: set[str]) -> None:
        """Delete local copies of artifacts that are not live any more."""
        await asyncio.to_thread(self._loader.delete_copies_except, sha256s)

    async def close(self) -> None:
        """Stop loading."""
        tasks = list(self._loading.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _load(
        self, state: LoopState, version: LiveVersion, is_wanted: Callable[[], bool], ended: LoadEnded
    ) -> None:
        key, clock = (state.loop, version.version), asyncio.get_running_loop().time
        about, started, reason = {"loop": state.loop, "version": version.version}, clock(), None
        try:
            self._loaded[key] = await self._load_with_retries(state, version, is_wanted)
        except Superseded:
            log.info("version not loaded, a later one is live", extra=about)
            return
        except Exception as e:  # whatever an artifact raises, the version before keeps serving
            reason = e.detail if isinstance(e, ServiceError) else repr(e)
            self._failed.add(key)
            self._metrics.count_load_failure(state.loop)
            log.error("version not loaded", extra=about | {"reason": reason})
        else:
            self._metrics.observe_load(state.loop, clock() - started)
            log.info("version ready", extra=about | {"seconds": round(clock() - started, 3)})
        finally:
            if self._loading.get(key) is asyncio.current_task():
                del self._loading[key]
        await ended(state, version, reason)

    async def _load_with_retries(
        self, state: LoopState, version: LiveVersion, is_wanted: Callable[[], bool]
    ) -> Predictor:
        spec = state.data.spec
        pauses = Backoff(self._retries.first_pause_s, MAX_RETRY_PAUSE_S, jitter=0.0).pauses()
        plan = compile_features(spec)
        for _ in range(self._retries.attempts - 1):
            try:
                return await self._loader.load(version, spec, plan, is_wanted)
            except ArtifactUnavailable as e:
                about = {"loop": state.loop, "version": version.version, "reason": e.detail}
                log.warning("artifact not reachable, trying again", extra=about)
            await asyncio.sleep(next(pauses))
        return await self._loader.load(version, spec, plan, is_wanted)
