"""Keeps a reader for each source of each loop, as the specs say now."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from functools import partial

from everloop_ingest.adapters.sources.clusters import Clusters, SourceRefused
from everloop_ingest.adapters.sources.conversion import RecordConverter
from everloop_ingest.adapters.sources.reader import SourceReader
from everloop_ingest.domain.sources.mapping import SourceLimits, SourceMapping
from everloop_ingest.domain.sources.status import SourceStatus
from everloop_ingest.metrics import SOURCE_METRICS, SOURCE_PUBLISHED, SOURCE_UP
from everloop_ingest.ports import Seals, SourcesFactory
from everloop_ingest.settings import IngestSettings
from everloop_learning.loops import KnownLoops
from everloop_schemas.catalogue import is_internal_topic
from everloop_schemas.registry import LoopState
from everloop_schemas.sources import SourceSpec
from everloop_shared.clock import Clock
from everloop_shared.messaging.routes import Publisher

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SourceKey:
    """A source of one lifetime of a loop: a loop that is deleted and applied again begins anew."""

    loop: str
    life: int
    name: str


@dataclass
class _Source:
    spec: SourceSpec
    revision: int
    status: SourceStatus
    reader: SourceReader | None


class KafkaSources:
    """Implements `ports.Sources` on Kafka: the sources of all known loops."""

    def __init__(
        self,
        settings: IngestSettings,
        clusters: Clusters,
        loops: KnownLoops,
        seals: Seals,
        publisher: Publisher,
        limits: SourceLimits,
        clock: Clock,
    ) -> None:
        self._settings, self._clusters, self._loops = settings, clusters, loops
        self._seals, self._publisher, self._limits, self._clock = seals, publisher, limits, clock
        self._sources: dict[SourceKey, _Source] = {}
        self._changed = asyncio.Event()

    def loops_changed(self) -> None:
        """A loop has a new state."""
        self._changed.set()

    def statuses(self, loop: str) -> list[SourceStatus]:
        """Those of a loop, in the order of its spec."""
        state = self._loops.get(loop)
        names = [source.name for source in state.data.spec.sources] if state else []
        found = {key.name: source.status for key, source in self._sources.items() if key.loop == loop}
        return [found[name] for name in names if name in found]

    def problems(self) -> list[str]:
        """What people should know, a sentence for each source that is not read as it should be."""
        return [problem for source in self._sources.values() if (problem := source.status.problem())]

    async def run(self) -> None:
        """Follow the specs until cancelled; then every reader finishes its batch."""
        try:
            while True:
                self._changed.clear()
                await self._reconcile()
                await self._changed.wait()
        finally:
            await self._stop(list(self._sources))

    async def _reconcile(self) -> None:
        wanted = {
            SourceKey(state.loop, state.data.life, source.name): (state, source)
            for state in self._loops.all()
            for source in state.data.spec.sources
        }
        await self._stop([key for key, had in self._sources.items() if not _goes_on(had, wanted.get(key))])
        for key, (state, source) in wanted.items():
            if key not in self._sources:
                self._sources[key] = self._start(key, state, source)
            elif self._sources[key].revision != state.revision:
                self._adapt(self._sources[key], state, source)

    async def _stop(self, keys: list[SourceKey]) -> None:
        readers = [reader for key in keys if (reader := self._sources[key].reader)]
        await asyncio.gather(*(reader.stop() for reader in readers))
        for key in keys:
            del self._sources[key]
            for metric in SOURCE_METRICS:
                metric.remove(key.loop, key.name)
            for kind in ("event", "label"):
                SOURCE_PUBLISHED.remove(key.loop, key.name, kind)

    def _start(self, key: SourceKey, state: LoopState, source: SourceSpec) -> _Source:
        status = SourceStatus(key.loop, source.name, source.topic)
        SOURCE_UP.labels(key.loop, key.name).set(0)
        reader = None
        try:
            reader = self._build_reader(key, state, source, status)
            reader.start()
            log.info("a source is read", extra={"loop": key.loop, "source": key.name, "topic": source.topic})
        except SourceRefused as e:
            status.set("refused", str(e))
        return _Source(source, state.revision, status, reader)

    def _build_reader(self, key: SourceKey, state: LoopState, source: SourceSpec, status: SourceStatus) -> SourceReader:
        settings = self._clusters.settings_of(source.cluster)
        if is_internal_topic(source.topic):
            raise SourceRefused(f"{source.topic} is a topic of Everloop or of Kafka itself")
        if len(self._sources) >= self._settings.max_sources:
            limit = f"the limit is {self._settings.max_sources} (EVERLOOP_INGEST_MAX_SOURCES)"
            raise SourceRefused(f"this process reads {len(self._sources)} sources, {limit}")
        group = f"{self._settings.topic_prefix}ingest.source.{key.loop}.{key.life}.{key.name}"
        converter = RecordConverter(SourceMapping(state, source, self._limits), status)
        return SourceReader(source, group, settings, self._seals, self._publisher, converter, status, self._clock)

    def _adapt(self, had: _Source, state: LoopState, source: SourceSpec) -> None:
        """Another mapping, or another schema: records that are read from now on are read by it."""
        had.spec, had.revision = source, state.revision
        if had.reader is not None:
            had.reader.converter.mapping = SourceMapping(state, source, self._limits)


def kafka_sources(settings: IngestSettings) -> SourcesFactory:
    """Makes the sources of a service; reads the operator's file of clusters now, to fail early with Misconfigured."""
    clusters = Clusters(settings)
    return partial(KafkaSources, settings, clusters)


def _goes_on(had: _Source, wanted: tuple[LoopState, SourceSpec] | None) -> bool:
    """Whether a reader stays: what it reads, and where it began, are the same."""
    if wanted is None or had.reader is None:
        return False
    old, new = had.spec, wanted[1]
    return (old.topic, old.cluster, old.start) == (new.topic, new.cluster, new.start)
