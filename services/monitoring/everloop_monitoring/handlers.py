"""One method per incoming event, which adds it to the batch; finishing the batch evaluates all of it at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from everloop_learning.loops import KnownLoops
from everloop_monitoring.domain import timeline
from everloop_monitoring.domain.evaluation import BatchEvaluation
from everloop_monitoring.domain.events import build_alert, build_drift_event, build_evaluation_event
from everloop_monitoring.domain.timeline import TimelineEntry
from everloop_monitoring.ports import IdKind, Projections
from everloop_schemas.dead_letter import DeadLetter
from everloop_schemas.envelope import Event
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.ingest import EventReceived
from everloop_schemas.names import is_loop_name
from everloop_schemas.registry import Decided, LoopState, ModelRolledBack, VersionRegistered
from everloop_schemas.search import SearchFinished, SearchRequested
from everloop_schemas.serving import ObservationReceived, PredictionMade, VersionState
from everloop_schemas.training import LineFailed, ModelTrained, RunFinished, RunRequested
from everloop_shared.clock import Clock
from everloop_shared.messaging.routes import Position

MAX_OUTCOMES_PER_EVALUATION = 100


@dataclass
class RecordBatch:
    """The records of one transaction, until they are evaluated; dropped when the transaction rolls back."""

    ids: dict[tuple[str, IdKind], list[str]] = field(default_factory=lambda: defaultdict(list))
    outcomes: dict[str, list[tuple[OutcomeObserved, int]]] = field(default_factory=lambda: defaultdict(list))
    entries: list[TimelineEntry] = field(default_factory=list)
    dead_letters: dict[str, DeadLetter] = field(default_factory=dict)

    def copy(self) -> RecordBatch:
        """The batch as it is now, which later additions do not change."""
        outcomes = defaultdict(list, {loop: list(of_loop) for loop, of_loop in self.outcomes.items()})
        ids = defaultdict(list, {of: list(known) for of, known in self.ids.items()})
        return RecordBatch(ids, outcomes, list(self.entries), dict(self.dead_letters))


@dataclass
class Handlers:
    """Handlers add to `batch`; the unit of work begins a new one, and finishes it before it commits."""

    projections: Projections
    loops: KnownLoops
    clock: Clock
    batch: RecordBatch = field(default_factory=RecordBatch)

    def begin_batch(self) -> None:
        """Start an empty batch; the previous one is dropped."""
        self.batch = RecordBatch()

    async def finish_batch(self) -> list[Event]:
        """Add the batch to the projections; the events that follow from it."""
        batch, events = self.batch, list[Event]()
        self.batch = RecordBatch()
        for loop, outcomes in batch.outcomes.items():
            events += await self._evaluate(loop, outcomes, batch)
        grown = await self.projections.count_ids(batch.ids)
        events += self._build_dead_letter_alerts(batch, grown)
        await self.projections.add_timeline_entries(batch.entries)
        return events

    async def on_loop_state(self, event: LoopState, at: Position) -> list[Event]:
        """Follow the loop's task, metric and label."""
        self.loops.apply(event)
        return []

    async def on_observation(self, event: EventReceived | ObservationReceived, at: Position) -> list[Event]:
        """An observation, from ingest or by REST."""
        return self._count(event, "event", event.id)

    async def on_prediction_made(self, event: PredictionMade, at: Position) -> list[Event]:
        """A prediction."""
        return self._count(event, "prediction", event.subject)

    async def on_outcome_observed(self, event: OutcomeObserved, at: Position) -> list[Event]:
        """An outcome, or a correction of one. Raises LoopNotKnownYet."""
        self.loops.require_arrived(event.loop)
        self.batch.outcomes[event.loop].append((event, at.offset))
        return self._count(event, "outcome", event.data.prediction_id)

    async def on_decided(self, event: Decided, at: Position) -> list[Event]:
        """A decision of the registry; a rollback by a guardrail raises an alert."""
        self._add_entry(timeline.decision_entry(event))
        if isinstance(event, VersionRegistered):
            return self._count(event, "version", event.data.model.version)
        if isinstance(event, ModelRolledBack) and event.data.by == "guardrail":
            message = f"{event.data.rolled_back} was rolled back: {event.data.reason}"
            return [build_alert(event.loop, event.revision, self.clock(), "rollback", "warning", message, event.id)]
        return []

    async def on_run_requested(self, event: RunRequested, at: Position) -> list[Event]:
        """A training run began."""
        self._add_entry(timeline.run_requested_entry(event))
        return []

    async def on_run_finished(self, event: RunFinished, at: Position) -> list[Event]:
        """A training run ended."""
        self._add_entry(timeline.run_finished_entry(event))
        return []

    async def on_search_requested(self, event: SearchRequested, at: Position) -> list[Event]:
        """A search for better parameters began."""
        self._add_entry(timeline.search_requested_entry(event))
        return []

    async def on_search_finished(self, event: SearchFinished, at: Position) -> list[Event]:
        """A search ended."""
        self._add_entry(timeline.search_finished_entry(event))
        return []

    async def on_line_failed(self, event: LineFailed, at: Position) -> list[Event]:
        """A line failed on an outcome, which raises an alert."""
        entry = timeline.line_failed_entry(event)
        self._add_entry(entry)
        message, severity = f"{entry.what}: {entry.why}", entry.data["severity"]
        return [build_alert(event.loop, event.revision, self.clock(), "line_failed", severity, message, event.id)]

    async def on_version_state(self, event: VersionState, at: Position) -> list[Event]:
        """A version that an instance cannot load raises an alert, which names the version that serves instead."""
        entry = timeline.load_failure_entry(event)
        if entry is None:
            return []
        self._add_entry(entry)
        message = f"{entry.what}: {entry.why}"
        return [build_alert(event.loop, event.revision, self.clock(), "artifact", "critical", message, event.id)]

    async def on_model_trained(self, event: ModelTrained, at: Position) -> list[Event]:
        """A version was trained."""
        self._add_entry(timeline.model_trained_entry(event))
        return self._count(event, "version", event.data.version)

    async def on_dead_letter(self, event: DeadLetter, at: Position) -> list[Event]:
        """A record that a service could not process, of the loop it names, or of "" where that is not a loop name."""
        loop = event.loop if is_loop_name(event.loop) else ""
        self.batch.dead_letters[loop] = event
        self.batch.ids[loop, "dead_letter"].append(event.id)
        return []

    def _count(self, event: Event, kind: IdKind, id: str) -> list[Event]:
        self.batch.ids[event.loop, kind].append(id)
        return []

    def _add_entry(self, entry: TimelineEntry | None) -> None:
        if entry:
            self.batch.entries.append(entry)

    async def _evaluate(
        self, loop: str, outcomes: Sequence[tuple[OutcomeObserved, int]], batch: RecordBatch
    ) -> list[Event]:
        state = self.loops.get(loop)
        outcomes = [(event, offset) for event, offset in outcomes if not self.loops.is_past(event)]
        if state is None or not outcomes:
            return []  # the loop was deleted after these were added to the batch
        stored = await self.projections.load_evaluation(loop, {e.data.prediction_id for e, _ in outcomes})
        evaluation, events = BatchEvaluation(state.data.spec, *stored), list[Event]()
        for event, offset in outcomes:
            drift = evaluation.add(event.data, offset)
            if len(evaluation.unpublished.offsets) >= MAX_OUTCOMES_PER_EVALUATION:
                events.append(build_evaluation_event(evaluation, event, self.clock()))
            if evaluation.corrections_alert:
                events.append(self._raise_corrections_alert(event, evaluation.corrections_alert, batch))
            if drift:
                detected = build_drift_event(drift, event, self.clock())
                entry = timeline.drift_entry(detected)
                batch.entries.append(entry)
                time, message = detected.time, entry.what
                alert = build_alert(loop, event.revision, time, "drift", "warning", message, detected.id)
                events += [detected, alert]
        if evaluation.unpublished.offsets:
            events.append(build_evaluation_event(evaluation, outcomes[-1][0], self.clock()))
        await self.projections.save_evaluation(loop, evaluation, state.data.champion.version, self.clock())
        return events

    def _raise_corrections_alert(self, event: OutcomeObserved, message: str, batch: RecordBatch) -> Event:
        alert = build_alert(event.loop, event.revision, self.clock(), "corrections", "warning", message, event.id)
        batch.entries.append(timeline.alert_entry(alert, "corrections are frequent", message))
        return alert

    def _build_dead_letter_alerts(
        self, batch: RecordBatch, grown: dict[tuple[str, IdKind], tuple[int, int]]
    ) -> list[Event]:
        events: list[Event] = []
        for loop, last in batch.dead_letters.items():
            reached = timeline.dead_letter_alarm(*grown.get((loop, "dead_letter"), (0, 0)))
            if reached is None:
                continue
            count, severity = reached
            message = f"{count} dead letters; the last is from {last.source}: {last.data.error}: {last.data.reason}"
            alert = build_alert(loop, last.revision, self.clock(), "dead_letter", severity, message, last.id)
            events.append(alert)
            batch.entries.append(timeline.alert_entry(alert, f"{count} dead letters", message, count=count))
        return events
