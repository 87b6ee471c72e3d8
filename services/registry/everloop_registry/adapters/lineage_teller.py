"""Tells a lineage backend of runs and decisions, each record in as many events as it has runs to move."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import sqlalchemy as sql

from everloop_registry.adapters.loop_specs import find_applied
from everloop_registry.adapters.mirror import Mirrored
from everloop_registry.adapters.mirror_state import MirrorState
from everloop_registry.domain.openlineage.decisions import DecisionTeller, versions_of
from everloop_registry.domain.openlineage.event import LineageSource, RunEvent
from everloop_registry.domain.openlineage.loop_runs import LoopRuns
from everloop_registry.domain.openlineage.trainings import begin_training, end_training
from everloop_registry.metrics import LINEAGE_FAILURES, LINEAGE_LAG, LINEAGE_REFUSED
from everloop_registry.tables import versions
from everloop_schemas.envelope import Event
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import Decided, VersionRegistered
from everloop_schemas.training import ModelTrainedData, RunFinished, RunRequested
from everloop_shared.database import Database
from everloop_shared.messaging.routes import Position

TOPICS = (RunRequested.topic, RunFinished.topic, Decided.topic)
LINEAGE = Mirrored("lineage backend", TOPICS, LINEAGE_LAG, LINEAGE_FAILURES, LINEAGE_REFUSED)
"""A run begins before it ends, and before its versions are decided upon."""
RUNS = "runs"
MAX_SPECS = 20
"""Of the last revisions that were told of, in memory."""


class Backend(Protocol):
    """Takes events."""

    async def send(self, event: RunEvent) -> None:
        """Deliver an event; raises MirrorAway or MirrorRefused."""


class Told(NamedTuple):
    """The events of a record, and the loop's open runs after it."""

    events: list[RunEvent]
    runs: LoopRuns


class LineageTeller:
    """The writer of a mirror. A record that is told again gives the same events, with the same ids of runs."""

    def __init__(
        self,
        source: LineageSource,
        backend: Backend,
        state: MirrorState,
        database: Database,
        partition_of: Callable[[str], int],
    ) -> None:
        self._source, self._backend, self._state, self._database = source, backend, state, database
        self._partition_of = partition_of
        self._specs: dict[tuple[str, int], LoopSpec] = {}

    async def apply(self, event: Event, at: Position) -> None:
        """Deliver the events of a record, in order; the loop's open runs are stored with the next position."""
        told = await self._told(event)
        for one in told.events:
            await self._backend.send(one)
        self._state.put(RUNS, event.loop, told.runs.model_dump_json())

    async def leave_out(self, event: Event) -> None:
        """The runs that it opened or ended count as such, so that later events have the right runs."""
        self._state.put(RUNS, event.loop, (await self._told(event)).runs.model_dump_json())

    async def _told(self, event: Event) -> Told:
        stored = await self._state.get(RUNS, event.loop)
        runs = LoopRuns.model_validate_json(stored) if stored else LoopRuns()
        partition = self._partition_of(event.loop)
        if isinstance(event, RunRequested):
            begun = begin_training(self._source, event, partition, await self._spec(event.loop, event.revision))
            return Told([begun], runs.with_training(event.data.run, event.revision))
        if isinstance(event, RunFinished):
            return Told([end_training(self._source, event, partition)], runs.without_training(event.data.run))
        assert isinstance(event, Decided), "these are the topics that are followed"
        models = await self._models(event.loop, versions_of(event, runs))
        needs_spec = isinstance(event, VersionRegistered)
        spec = await self._spec(event.loop, event.revision) if needs_spec else None
        teller = DecisionTeller(self._source, event, runs, models, spec)
        return Told(teller.tell(), teller.runs)

    async def _spec(self, loop: str, revision: int) -> LoopSpec | None:
        """The spec of a revision; a loop's file may be large, and have many."""
        if (known := self._specs.get((loop, revision))) is not None:
            return known
        async with self._database.reading() as reader:
            applied = await find_applied(reader, loop)
        for one in applied:
            if one.revision == revision:
                self._specs[loop, revision] = one.data.spec
        while len(self._specs) > MAX_SPECS:
            del self._specs[next(iter(self._specs))]
        return self._specs.get((loop, revision))

    async def _models(self, loop: str, names: set[str]) -> dict[str, ModelTrainedData]:
        query = sql.select(versions.c.model).where(versions.c.loop == loop, versions.c.version.in_(sorted(names)))
        async with self._database.reading() as reader:
            found = [ModelTrainedData.model_validate_json(text) for text in await reader.scalars(query)]
        return {model.version: model for model in found}
