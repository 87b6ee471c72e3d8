"""The versions in memory: loaded off the event loop, verified, warmed, then swapped in by one assignment."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from everloop_features import FeaturePlan, compile_features
from everloop_learning.loops import KnownLoops
from everloop_learning.version import line_of
from everloop_models import ArtifactUnavailable
from everloop_schemas.envelope import derived_id
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import BASELINE, LiveVersion, LoopState
from everloop_schemas.serving import VersionState, VersionStateData
from everloop_serving.domain.labels import LabelBook, VersionZero
from everloop_serving.domain.predict import Live, Predictor
from everloop_serving.errors import Superseded
from everloop_shared.backoff import Backoff
from everloop_shared.clock import Clock
from everloop_shared.errors import ServiceError

log = logging.getLogger(__name__)
LONGEST_RETRY_S = 10.0
Key = tuple[str, str]
"""A loop and a version."""


class Loader(Protocol):
    """Turns a live version into one in memory; raises as `Artifacts` does. `retain` blocks."""

    async def load(
        self, live: LiveVersion, spec: LoopSpec, plan: FeaturePlan, wanted: Callable[[], bool]
    ) -> Predictor: ...
    def retain(self, sha256s: set[str]) -> None: ...


class LoadMeter(Protocol):
    """Counts loads."""

    def loaded(self, loop: str, seconds: float) -> None: ...
    def load_failed(self, loop: str) -> None: ...


@dataclass(frozen=True)
class Retries:
    """How often, and after how many seconds, an unreachable artifact is tried again."""

    attempts: int
    first_s: float


class LoadedModels:
    """What answers for each loop. A version that cannot be loaded is reported, and the old one keeps serving."""

    def __init__(
        self,
        loader: Loader,
        labels: LabelBook,
        report: Callable[[VersionState], None],
        meter: LoadMeter,
        *,
        instance: str,
        clock: Clock,
        retries: Retries,
    ) -> None:
        self._loader, self._labels, self._report, self._meter = loader, labels, report, meter
        self._instance, self._clock, self._retries = instance, clock, retries
        self.known = KnownLoops()
        self._live: dict[str, Live] = {}
        self._loaded: dict[Key, Predictor] = {}
        self._failed: set[Key] = set()
        self._fallen: set[Key] = set()
        self._loading: dict[Key, asyncio.Task[None]] = {}

    def live(self, loop: str) -> Live | None:
        """What answers for a loop right now."""
        return self._live.get(loop)

    def want(self, state: LoopState) -> None:
        """Take a loop's state in; older ones than the latest known change nothing."""
        before = self.known.get(state.loop)
        if not self.known.apply(state):
            return
        if before is not None and (state.data.deleted or state.data.life != before.data.life):
            self._unload(state.loop)
        if state.data.deleted:
            self._labels.drop(state.loop)
            return
        self._load_missing(state)
        self._renew(state.loop)

    def deleted(self, loop: str) -> bool:
        """Whether a loop was there and is gone."""
        return self.known.is_deleted(loop)

    async def try_again(self, every_s: float) -> None:
        """Give versions that could not be loaded another chance, for ever: stores come back."""
        while True:
            await asyncio.sleep(every_s)
            for loop in {key[0] for key in self._failed}:
                if state := self.known.get(loop):
                    self._load_missing(state)

    async def settled(self, loop: str, timeout_s: float) -> None:
        """Wait until nothing of this loop is being loaded, or the time is over."""
        if tasks := [task for key, task in self._loading.items() if key[0] == loop]:
            await asyncio.wait(tasks, timeout=timeout_s)

    def fell(self, live: Live, version: str, reason: str) -> None:
        """Report a version that failed at a prediction: once, however often it does."""
        if (live.loop, version) in self._fallen:
            return
        self._fallen.add((live.loop, version))
        log.error("fell back", extra={"loop": live.loop, "version": version, "reason": reason})
        self._say(live.loop, live.revision, version, "fell_back", reason)

    async def close(self) -> None:
        """Give up what is being loaded."""
        tasks = list(self._loading.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _unload(self, loop: str) -> None:
        """Let go of everything of a loop whose life has ended."""
        self._live.pop(loop, None)
        for key in [key for key in (*self._loaded, *self._loading) if key[0] == loop]:
            self._loaded.pop(key, None)
            if task := self._loading.pop(key, None):
                task.cancel()
        self._failed = {key for key in self._failed if key[0] != loop}
        self._fallen = {key for key in self._fallen if key[0] != loop}

    def _load_missing(self, state: LoopState) -> None:
        for version in _wanted(state):
            key = (state.loop, version.version)
            if version.version != BASELINE and key not in self._loaded and key not in self._loading:
                self._failed.discard(key)
                self._loading[key] = asyncio.create_task(self._load(state, version))

    async def _load(self, state: LoopState, version: LiveVersion) -> None:
        key = (state.loop, version.version)
        started = asyncio.get_running_loop().time()
        try:
            self._loaded[key] = await self._persistently(state, version)
        except Superseded:
            log.info("version not loaded, a later one is wanted", extra={"loop": key[0], "version": key[1]})
        except Exception as e:  # whatever an artifact does to us, the old version keeps serving
            self._failed.add(key)
            self._meter.load_failed(state.loop)
            reason = e.detail if isinstance(e, ServiceError) else repr(e)
            log.error("version not loaded", extra={"loop": key[0], "version": key[1], "reason": reason})
            self._renew(state.loop)  # first, so that what answers from now on is told
            self._say(state.loop, state.revision, version.version, "failed", reason[:500])
        else:
            gc.freeze()  # a forest under the collector's feet stalls every answer; models hold no cycles to collect
            seconds = asyncio.get_running_loop().time() - started
            self._meter.loaded(state.loop, seconds)
            log.info("version ready", extra={"loop": key[0], "version": key[1], "seconds": round(seconds, 3)})
        finally:
            self._loading.pop(key, None)
            self._renew(state.loop)
        if key in self._loaded:
            self._say(state.loop, state.revision, version.version, "ready", None)
        await asyncio.to_thread(self._loader.retain, self._artifacts_wanted())

    async def _persistently(self, state: LoopState, version: LiveVersion) -> Predictor:
        spec, pauses = state.data.spec, Backoff(self._retries.first_s, LONGEST_RETRY_S, jitter=0.0).pauses()
        plan, wanted = compile_features(spec), lambda: self._wants(state.loop, version.version)
        for _ in range(self._retries.attempts - 1):
            try:
                return await self._loader.load(version, spec, plan, wanted)
            except ArtifactUnavailable as e:
                log.warning("artifact away", extra={"loop": state.loop, "version": version.version, "reason": e.detail})
            await asyncio.sleep(next(pauses))
        return await self._loader.load(version, spec, plan, wanted)

    def _wants(self, loop: str, version: str) -> bool:
        state = self.known.get(loop)
        return state is not None and any(v.version == version for v in _wanted(state))

    def _renew(self, loop: str) -> None:
        """Put together what answers from now on, of what is here, and let go of what nobody names any more."""
        state = self.known.get(loop)
        if state is None:
            return
        before = self._live.get(loop)
        same = before is not None and before.spec == state.data.spec
        labels = self._labels.live(loop, state.data.life)
        baseline = before.baseline if before and same else VersionZero(state.data.spec, labels)
        champion, loading = self._champion(state, baseline, before)
        candidate = self._candidate(state, before)
        if candidate is not None and candidate.version == champion.version:
            candidate = None
        self._live[loop] = Live(
            loop=loop,
            revision=state.revision,
            spec=state.data.spec,
            plan=before.plan if before and same else compile_features(state.data.spec),
            baseline=baseline,
            champion=champion,
            candidate=candidate,
            share=state.data.share if candidate else 0.0,
            loading=loading,
            life=state.data.life,
        )
        self._let_go(state, self._live[loop])

    def _champion(self, state: LoopState, baseline: Predictor, before: Live | None) -> tuple[Predictor, bool]:
        """Who serves, and whether the stream had better wait for whom the state names."""
        version = state.data.champion.version
        if version == BASELINE:
            return baseline, False
        if found := self._loaded.get((state.loop, version)):
            return found, False
        if before and before.champion.version != BASELINE:
            return before.champion, False
        nobody_yet = before is None or before.loading
        return baseline, nobody_yet and (state.loop, version) not in self._failed

    def _candidate(self, state: LoopState, before: Live | None) -> Predictor | None:
        """The candidate if it is here; until a refresh of it is, the one before, of the same line."""
        wanted = state.data.candidate
        if wanted is None:
            return None
        if found := self._loaded.get((state.loop, wanted.version)):
            return found
        old = before.candidate if before else None
        return old if old and line_of(old.version) == line_of(wanted.version) else None

    def _let_go(self, state: LoopState, live: Live) -> None:
        keep = {v.version for v in _wanted(state)} | {live.champion.version}
        keep |= {live.candidate.version} if live.candidate else set()
        gone = {k for k in (*self._loaded, *self._failed, *self._fallen) if k[0] == state.loop and k[1] not in keep}
        for key in gone:
            self._loaded.pop(key, None)
        self._failed -= gone
        self._fallen -= gone

    def _artifacts_wanted(self) -> set[str]:
        return {v.sha256 for state in self.known.all() for v in _wanted(state) if v.sha256}

    def _say(
        self, loop: str, revision: int, version: str, state: Literal["ready", "failed", "fell_back"], reason: str | None
    ) -> None:
        kind, live = VersionState.type_name(), self._live.get(loop)
        instead = live.champion.version if live and state == "failed" else None
        self._report(
            VersionState(
                id=derived_id(loop, kind, version, self._instance, state),
                time=self._clock(),
                subject=version,
                loop=loop,
                revision=revision,
                data=VersionStateData(
                    version=version, instance=self._instance, state=state, reason=reason, serving=instead
                ),
            )
        )


def _wanted(state: LoopState) -> list[LiveVersion]:
    return [state.data.champion, *([state.data.candidate] if state.data.candidate else [])]
