"""One method per incoming event notes it in the batch; closing the batch folds all of it at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from everloop_learning.loops import KnownLoops
from everloop_monitoring.domain import timeline
from everloop_monitoring.domain.loop import Fold
from everloop_monitoring.domain.reports import alert, drift_detected, evaluation_updated
from everloop_monitoring.domain.timeline import Happening
from everloop_monitoring.ports import Kind, Projections, Sighting
from everloop_schemas.dead_letter import DeadLetter
from everloop_schemas.envelope import Event
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.ingest import EventReceived
from everloop_schemas.names import is_loop_name
from everloop_schemas.registry import Decided, LoopState, ModelRolledBack, VersionRegistered
from everloop_schemas.serving import ObservationReceived, PredictionMade, VersionState
from everloop_schemas.training import LineFailed, ModelTrained, RunFinished, RunRequested
from everloop_shared.clock import Clock
from everloop_shared.messaging.routes import Position

EVALUATION_SIZE = 100
LOOP_LENGTH = 63


@dataclass
class Batch:
    """What the records of one transaction said, until it is folded; dropped when the transaction rolls back."""

    sightings: list[Sighting] = field(default_factory=list)
    outcomes: dict[str, list[tuple[OutcomeObserved, int]]] = field(default_factory=lambda: defaultdict(list))
    happenings: list[Happening] = field(default_factory=list)
    dead_letters: dict[str, DeadLetter] = field(default_factory=dict)

    def copy(self) -> Batch:
        """As it is now, whatever is noted afterwards."""
        outcomes = defaultdict(list, {loop: list(heard) for loop, heard in self.outcomes.items()})
        return Batch(list(self.sightings), outcomes, list(self.happenings), dict(self.dead_letters))


@dataclass
class Handlers:
    """Handlers write into `batch`; the unit of work begins a new one, and closes it before it commits."""

    projections: Projections
    loops: KnownLoops
    clock: Clock
    batch: Batch = field(default_factory=Batch)

    def begin(self) -> None:
        """Start on an empty batch, whatever became of the last one."""
        self.batch = Batch()

    async def close(self) -> list[Event]:
        """Fold the batch into the projections; the events that follow from it."""
        batch, events = self.batch, list[Event]()
        self.batch = Batch()
        for loop, outcomes in batch.outcomes.items():
            events += await self._fold(loop, outcomes, batch)
        grown = await self.projections.count(batch.sightings)
        events += self._dead_letters(batch, grown)
        await self.projections.tell(batch.happenings)
        return events

    async def on_loop_state(self, event: LoopState, at: Position) -> list[Event]:
        """Know the loop's task, metric and label."""
        self.loops.apply(event)
        return []

    async def on_observation(self, event: EventReceived | ObservationReceived, at: Position) -> list[Event]:
        """An observation, by either door."""
        return self._saw(event, "event", event.id)

    async def on_prediction_made(self, event: PredictionMade, at: Position) -> list[Event]:
        """A prediction."""
        return self._saw(event, "prediction", event.subject)

    async def on_outcome_observed(self, event: OutcomeObserved, at: Position) -> list[Event]:
        """An outcome, or a correction of one. Raises LoopNotKnownYet."""
        self.loops.require_arrived(event.loop)
        self.batch.outcomes[event.loop].append((event, at.offset))
        return self._saw(event, "outcome", event.data.prediction_id)

    async def on_decided(self, event: Decided, at: Position) -> list[Event]:
        """A decision of the registry."""
        self._tell(timeline.decision(event))
        if isinstance(event, VersionRegistered):
            return self._saw(event, "version", event.data.model.version)
        if isinstance(event, ModelRolledBack) and event.data.by == "guardrail":
            message = f"{event.data.rolled_back} was taken back: {event.data.reason}"
            return [alert(event.loop, event.revision, self.clock(), "rollback", "warning", message, event.id)]
        return []

    async def on_run_requested(self, event: RunRequested, at: Position) -> list[Event]:
        """A training run began."""
        self._tell(timeline.run_requested(event))
        return []

    async def on_run_finished(self, event: RunFinished, at: Position) -> list[Event]:
        """A training run ended."""
        self._tell(timeline.run_finished(event))
        return []

    async def on_line_failed(self, event: LineFailed, at: Position) -> list[Event]:
        """A line broke on an outcome: a person is told."""
        told = timeline.line_failed(event)
        self._tell(told)
        message, severity = f"{told.what}: {told.why}"[:500], told.data["severity"]
        return [alert(event.loop, event.revision, self.clock(), "line_failed", severity, message, event.id)]

    async def on_version_state(self, event: VersionState, at: Position) -> list[Event]:
        """A version that an instance cannot load: a person is told what serves instead."""
        told = timeline.not_loaded(event)
        if told is None:
            return []
        self._tell(told)
        message = f"{told.what}: {told.why}"[:500]
        return [alert(event.loop, event.revision, self.clock(), "artifact", "critical", message, event.id)]

    async def on_model_trained(self, event: ModelTrained, at: Position) -> list[Event]:
        """A version exists."""
        self._tell(timeline.model_trained(event))
        return self._saw(event, "version", event.data.version)

    async def on_dead_letter(self, event: DeadLetter, at: Position) -> list[Event]:
        """A record that some service refused, of the loop that it named, or of none where that is no name."""
        loop = event.loop if is_loop_name(event.loop) else ""
        self.batch.dead_letters[loop] = event
        self.batch.sightings.append(Sighting(loop, "dead_letter", event.id))
        return []

    def _saw(self, event: Event, kind: Kind, id: str) -> list[Event]:
        self.batch.sightings.append(Sighting(event.loop, kind, id))
        return []

    def _tell(self, happening: Happening | None) -> None:
        if happening:
            self.batch.happenings.append(happening)

    async def _fold(self, loop: str, outcomes: Sequence[tuple[OutcomeObserved, int]], batch: Batch) -> list[Event]:
        state = self.loops.get(loop)
        outcomes = [(event, offset) for event, offset in outcomes if not self.loops.is_past(event)]
        if state is None or not outcomes:
            return []  # its life has ended since these were noted
        work, known = await self.projections.recall(loop, {e.data.prediction_id for e, _ in outcomes})
        fold, events = Fold(state.data.spec, work, known), list[Event]()
        for event, offset in outcomes:
            drift = fold.take(event.data, offset)
            if len(fold.offsets) >= EVALUATION_SIZE:
                events.append(evaluation_updated(fold, event, self.clock()))
            if fold.rising:
                events.append(self._rising(event, fold.rising, batch))
            if drift:
                detected = drift_detected(drift, event, self.clock())
                told = timeline.drift(detected.id, loop, detected.time, detected.data)
                batch.happenings.append(told)
                raised = alert(loop, event.revision, detected.time, "drift", "warning", told.what, detected.id)
                events += [detected, raised]
        if fold.offsets:
            events.append(evaluation_updated(fold, outcomes[-1][0], self.clock()))
        await self.projections.keep(loop, fold, state.data.champion.version, self.clock())
        return events

    def _rising(self, event: OutcomeObserved, said: str, batch: Batch) -> Event:
        raised = alert(event.loop, event.revision, self.clock(), "corrections", "warning", said, event.id)
        what, data = "corrections have become frequent", {"severity": "warning"}
        batch.happenings.append(Happening(raised.id, event.loop, "corrections", raised.time, what, said, data))
        return raised

    def _dead_letters(self, batch: Batch, grown: dict[tuple[str, Kind], tuple[int, int]]) -> list[Event]:
        events: list[Event] = []
        for loop, last in batch.dead_letters.items():
            reached = timeline.dead_letter_alarm(*grown.get((loop, "dead_letter"), (0, 0)))
            if reached is None:
                continue
            count, severity = reached
            message = f"{count} dead letters; the last is from {last.source}: {last.data.error}: {last.data.reason}"
            raised = alert(loop, last.revision, self.clock(), "dead_letter", severity, message[:500], last.id)
            events.append(raised)
            data = {"severity": severity, "count": count}
            told = Happening(raised.id, loop, "dead_letter", raised.time, f"{count} dead letters", message, data)
            batch.happenings.append(told)
        return events
