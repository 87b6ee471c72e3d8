"""Predictions and the labels and feedback on them become outcomes, or dead letters with a reason."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from everloop_feature.domain.admission import admit_label
from everloop_feature.domain.events import build_dead_letter, build_label_dead_letter, build_outcome_events
from everloop_feature.domain.join import Join
from everloop_feature.domain.label_join import (
    JoinedOutcome,
    RejectedLabel,
    receive_label,
    receive_prediction,
    release_overdue,
)
from everloop_feature.domain.loops import ActiveLoop, ActiveLoops, loop_of
from everloop_feature.errors import LabelCrowdedOut, LabelTooLate, PredictionNeverCame, TimeOutOfBounds
from everloop_feature.handlers.join_table import JoinTable
from everloop_feature.ports import Metrics, PersonalKeys
from everloop_features.times import DEFAULT_TIME_LIMITS, LOG_TOLERANCE, TimeLimits
from everloop_schemas.envelope import Event
from everloop_schemas.ingest import LabelReceived
from everloop_schemas.serving import PredictionMade
from everloop_shared.clock import Clock, system_clock
from everloop_shared.messaging.routes import Position

KEYS_WITHOUT_PAUSE = 200
"""A sweep lets other tasks run after as many keys."""
UNJOINED_REASONS: dict[type[Exception], str] = {
    LabelTooLate: "late",
    PredictionNeverCame: "never_came",
    LabelCrowdedOut: "crowded_out",
}


@dataclass
class JoinHandlers:
    """Handles the topics keyed by loop/prediction_id.

    Each event goes one way: what the loop allows, the join as stored, the next join with what follows from the event,
    saved; then the events to publish.
    """

    loops: ActiveLoops
    table: JoinTable
    keys: PersonalKeys
    metrics: Metrics
    times: TimeLimits = DEFAULT_TIME_LIMITS
    clock: Clock = system_clock
    keys_per_sweep: int = 5_000

    async def on_prediction_made(self, event: PredictionMade, at: Position) -> list[Event]:
        """A prediction: outcomes for the labels that came before it."""
        key, loop = event.key().decode(), self.loops.require(event.loop, event.revision)
        join = self.table.load(key, at)
        if self.table.is_applied(key, at) or (join and join.prediction):
            return []
        step = receive_prediction(join or _new_join(loop, at), event, loop)
        await self._set_owners(step.results)
        self.table.save(key, step.join, at)
        return self._events(key, step.results)

    async def on_label_received(self, event: LabelReceived, at: Position) -> list[Event]:
        """A label or feedback: an outcome where its prediction is there; otherwise it waits for it."""
        key, loop = event.key().decode(), self.loops.require(event.loop, event.revision)
        if self.table.is_applied(key, at):
            return []
        label = admit_label(loop, event)
        if wrong := self.times.find_violation(label.time, self.clock(), LOG_TOLERANCE):
            return [build_dead_letter(label, at, TimeOutOfBounds(f"time {wrong}"))]
        step = receive_label(self.table.load(key, at) or _new_join(loop, at), label, at, loop)
        await self._set_owners(step.results)
        self.table.save(key, step.join, at)
        return self._events(key, step.results)

    async def sweep(self, at: Position) -> list[Event]:
        """Release overdue labels as dead letters, and expire what is due by `at.timestamp`."""
        events = list[Event]()
        if at.timestamp:
            self.table.start_evicting(at.partition)
        self.table.delete_ended(at, self.keys_per_sweep)
        for n, key in enumerate(self.table.overdue(at.partition, self.keys_per_sweep), 1):
            events += self._finish(key, at)
            if n % KEYS_WITHOUT_PAUSE == 0:
                await asyncio.sleep(0)
        self.table.expire(at, self.keys_per_sweep)
        self.table.report_size(at.partition)
        return events

    def restored(self) -> None:
        """The state was read back, and the partitions may be others."""
        self.table.restored()

    def on_loop_ended(self, loop: str) -> None:
        """A lifetime of the loop has ended: the next sweeps delete its joins."""
        self.table.cleanup.schedule(loop)

    async def _set_owners(self, results: Sequence[JoinedOutcome | RejectedLabel]) -> None:
        """Say of sealed comments whose they are, so that their keys are destroyed with the entity's."""
        for joined in results:
            if isinstance(joined, JoinedOutcome) and joined.label.data.personal is not None:
                prediction = joined.prediction
                about = prediction.loop, prediction.subject, prediction.data.entity
                await asyncio.to_thread(self.keys.set_owner, *about)

    def _finish(self, key: str, at: Position) -> list[Event]:
        """The dead letters of overdue labels of a key."""
        join = self.table.load(key, at)
        if join is None:
            return []
        step = release_overdue(join, key.partition("/")[2], at.timestamp)
        if join.prediction or join.waiting:
            self.table.save(key, step.join, at)
        else:
            self.table.delete(key, at)
        return self._events(key, step.results)

    def _events(self, key: str, results: Sequence[JoinedOutcome | RejectedLabel]) -> list[Event]:
        """Counts what follows from an event, and builds the events to publish."""
        name, events = loop_of(key), list[Event]()
        for result in results:
            if isinstance(result, JoinedOutcome):
                self.metrics.count_outcome(name, result.label.data.kind)
                events += build_outcome_events(result, label_feature=self.loops.require(name).plan.uses_label)
            else:
                if reason := UNJOINED_REASONS.get(type(result.error)):
                    self.metrics.count_unjoined(name, reason)
                events.append(build_label_dead_letter(key, result))
        return events


def _new_join(loop: ActiveLoop, at: Position) -> Join:
    return Join(at.timestamp + loop.label_within_ms)
