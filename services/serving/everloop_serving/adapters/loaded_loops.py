"""Which versions serve each loop: loaded as the loop's state names them, then swapped in by one assignment."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from everloop_learning.loops import KnownLoops
from everloop_schemas.registry import BASELINE, LiveVersion, LoopState
from everloop_schemas.serving import VersionState
from everloop_serving.adapters.version_loads import VersionKey, VersionLoads
from everloop_serving.domain.events import VersionStatus, build_version_state_event
from everloop_serving.domain.label_counts import BaselineVersion, LabelCountsByLoop
from everloop_serving.domain.predict import REASON_LENGTH
from everloop_serving.domain.served_loop import ServedLoop, choose_versions, live_versions
from everloop_shared.clock import Clock
from everloop_shared.tracing import current_traceparent

log = logging.getLogger(__name__)


class ChampionMetrics(Protocol):
    """Shows whether the champion answers."""

    def show_champion(self, loop: str, missing: bool) -> None: ...
    def forget_champion(self, loop: str) -> None: ...


class LoadedLoops:
    """The loops with their versions in memory. A version that cannot be loaded is reported; the one before serves."""

    def __init__(
        self,
        loads: VersionLoads,
        labels: LabelCountsByLoop,
        report: Callable[[VersionState], None],
        metrics: ChampionMetrics,
        *,
        instance: str,
        clock: Clock,
    ) -> None:
        self._loads, self._labels, self._report = loads, labels, report
        self._metrics, self._instance, self._clock = metrics, instance, clock
        self.known = KnownLoops()
        self._served: dict[str, ServedLoop] = {}
        self._reported_failures: set[VersionKey] = set()

    def get(self, loop: str) -> ServedLoop | None:
        """The loop as it is served now; None where it is unknown."""
        return self._served.get(loop)

    def is_deleted(self, loop: str) -> bool:
        """Whether the loop existed and was deleted."""
        return self.known.is_deleted(loop)

    def apply(self, state: LoopState) -> None:
        """Apply a loop's state; one that is older than the state known changes nothing."""
        before = self.known.get(state.loop)
        if not self.known.apply(state):
            return
        if before is not None and (state.data.deleted or state.data.life != before.data.life):
            self._drop(state.loop)
        if state.data.deleted:
            self._labels.drop_loop(state.loop)
            return
        self._start_loads(state)
        self._swap_in(state)

    async def wait_loaded(self, loop: str, timeout_s: float) -> None:
        """Wait until no version of the loop is being loaded, `timeout_s` at most."""
        await self._loads.wait(loop, timeout_s)

    def report_failure(self, loop: ServedLoop, version: str, reason: str) -> None:
        """Report a version that failed at a prediction, once, however often it fails."""
        key = (loop.loop, version)
        if key not in self._reported_failures:
            self._reported_failures.add(key)
            log.error("fell back", extra={"loop": loop.loop, "version": version, "reason": reason})
            self._report_version(loop.loop, loop.revision, version, "fell_back", reason)

    async def retry_failed(self, every_s: float) -> None:
        """Load versions that could not be loaded again and again, for ever: a store may come back."""
        while True:
            await asyncio.sleep(every_s)
            for loop in self._loads.failed_loops():
                if state := self.known.get(loop):
                    self._start_loads(state)

    async def close(self) -> None:
        """Stop loading."""
        await self._loads.close()

    def _drop(self, loop: str) -> None:
        """Drop everything of a lifetime that has ended."""
        if self._served.pop(loop, None) is not None:
            self._metrics.forget_champion(loop)
        self._loads.drop_loop(loop)
        self._reported_failures = {key for key in self._reported_failures if key[0] != loop}

    def _start_loads(self, state: LoopState) -> None:
        for version in live_versions(state):
            if version.version != BASELINE:
                self._loads.start(state, version, self._is_live(state.loop, version.version), self._on_load_ended)

    def _is_live(self, loop: str, version: str) -> Callable[[], bool]:
        def is_live() -> bool:
            state = self.known.get(loop)
            return state is not None and any(v.version == version for v in live_versions(state))

        return is_live

    async def _on_load_ended(self, state: LoopState, version: LiveVersion, failure: str | None) -> None:
        latest = self.known.get(state.loop)
        if latest is not None:
            self._swap_in(latest)
        if failure is None:
            self._report_version(state.loop, state.revision, version.version, "ready")
        else:
            self._report_version(state.loop, state.revision, version.version, "failed", failure[:REASON_LENGTH])
        live = {v.sha256 for known in self.known.all() for v in live_versions(known) if v.sha256}
        await self._loads.delete_copies_except(live)

    def _swap_in(self, state: LoopState) -> None:
        """Serve the loop by the versions in memory from now on, and drop those that no state names any more."""
        loop, before = state.loop, self._served.get(state.loop)
        labels = self._labels.in_lifetime(loop, state.data.life)
        same_spec = before is not None and before.spec == state.data.spec
        baseline = before.baseline if before and same_spec else BaselineVersion(state.data.spec, labels)
        served = choose_versions(state, self._loads.of(loop), baseline, before)
        self._served[loop] = served
        self._metrics.show_champion(loop, served.champion.version != state.data.champion.version)
        needed = {v.version for v in live_versions(state)} | {served.champion.version}
        needed |= {served.candidate.version} if served.candidate else set()
        self._loads.drop_others(loop, needed)
        self._reported_failures = {k for k in self._reported_failures if k[0] != loop or k[1] in needed}

    def _report_version(
        self, loop: str, revision: int, version: str, status: VersionStatus, reason: str | None = None
    ) -> None:
        served = self._served.get(loop)
        event = build_version_state_event(
            loop,
            revision,
            version,
            status,
            self._clock(),
            instance=self._instance,
            reason=reason,
            serving=served.champion.version if served and status == "failed" else None,
            traceparent=current_traceparent() if status == "ready" else None,
        )
        self._report(event)
