"""What watches a loop is given each record once, knows what a correction changes, and survives a restart."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import ClassVar, Self

from tests.builders.events import prediction_made
from tests.builders.loops import LOOP
from tests.databases import database_url
from tests.monitoring.monitoring_service import outcome, state

from everloop_monitoring.adapters.unit_of_work import BatchUnitOfWork
from everloop_monitoring.app import MIGRATIONS
from everloop_monitoring.domain.watch import Watch, WatchedOutcome
from everloop_schemas.envelope import Event, Scalar
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.loop import LoopSpec
from everloop_schemas.serving import PredictionMade
from everloop_shared.database import Database
from everloop_shared.messaging.routes import Position


@dataclass
class LabelWatch:
    """Counts predictions, and the labels that count."""

    kind: ClassVar[str] = "labels"
    predictions: int = 0
    labels: dict[str, int] = field(default_factory=dict)

    @classmethod
    def is_on(cls, spec: LoopSpec) -> bool:
        return spec.metric == "accuracy"

    def follow(self, spec: LoopSpec) -> Self:
        return self

    def add_prediction(self, event: PredictionMade, now: datetime) -> Sequence[Event]:
        self.predictions += 1
        return ()

    def add_outcome(self, outcome: WatchedOutcome, now: datetime) -> Sequence[Event]:
        if outcome.before:
            self._count(outcome.before.label, -1)
        self._count(outcome.now.label, 1)
        return ()

    def _count(self, label: Scalar | None, sign: int) -> None:
        if label is not None:
            self.labels[str(label)] = self.labels.get(str(label), 0) + sign


@asynccontextmanager
async def unit_of_work(folder: Path) -> AsyncIterator[BatchUnitOfWork]:
    async with Database(database_url(folder), MIGRATIONS, schema="monitoring") as database:
        unit = BatchUnitOfWork(database)
        watches: tuple[type[Watch], ...] = (LabelWatch,)
        unit.handlers.watches = watches
        yield unit


async def handle(unit: BatchUnitOfWork, *events: Event, fails: bool = False) -> None:
    async with unit:
        for offset, event in enumerate(events):
            await unit.handlers.on_loop_state(state(), Position("", 0, 0))
            if isinstance(event, PredictionMade):
                await unit.handlers.on_prediction_made(event, Position("", 0, offset))
            elif isinstance(event, OutcomeObserved):
                await unit.handlers.on_outcome_observed(event, Position("", 0, offset))
        await unit.record([], {})
        if fails:
            raise RuntimeError("rolled back")


async def watched(unit: BatchUnitOfWork) -> LabelWatch:
    async with unit:
        [watch] = await unit.handlers.projections.load_watches(LOOP, (LabelWatch,), state().data.spec)
    assert isinstance(watch, LabelWatch)
    return watch


async def test_a_correction_takes_away_what_the_label_before_added(tmp_path: Path, databases: object) -> None:
    async with unit_of_work(tmp_path) as unit:
        await handle(unit, prediction_made("a"), prediction_made("b"), outcome("a", True), outcome("b", True))
        await handle(unit, outcome("a", True), outcome("b", False, correction=1), outcome("b", False, correction=1))

        assert await watched(unit) == LabelWatch(2, {"True": 1, "False": 1})


async def test_the_state_is_that_of_the_last_commit_also_after_a_restart(tmp_path: Path, databases: object) -> None:
    async with unit_of_work(tmp_path) as unit:
        await handle(unit, prediction_made("a"), outcome("a", True))
        try:
            await handle(unit, prediction_made("b"), outcome("b", True), fails=True)
        except RuntimeError:
            rolled_back = await watched(unit)
    async with unit_of_work(tmp_path) as unit:
        restarted = await watched(unit)

    assert rolled_back == restarted == LabelWatch(1, {"True": 1})
