"""One method per incoming event, which adds it to the batch; finishing the batch evaluates all of it at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from everloop_learning.loops import KnownLoops
from everloop_monitoring.domain import alert_signals, timeline
from everloop_monitoring.domain.alert_signals import healthy_error
from everloop_monitoring.domain.erasure_alerts import signal_of_erasure
from everloop_monitoring.domain.evaluation import BatchEvaluation
from everloop_monitoring.domain.events import build_drift_event, build_evaluation_event
from everloop_monitoring.domain.letters import list_letter
from everloop_monitoring.domain.shown import ShownRecords
from everloop_monitoring.domain.timeline import TimelineEntry
from everloop_monitoring.domain.watch import FollowsVersions, ObservationWatch, Watch, WatchedOutcome
from everloop_monitoring.domain.watches import WATCHES, watches_of
from everloop_monitoring.handlers.alerting import Alerting, Evaluated, NewDeadLetters, News
from everloop_monitoring.handlers.batch import Observation, RecordBatch
from everloop_monitoring.ports import IdKind, Letters, Projections
from everloop_schemas.dead_letter import DeadLetter
from everloop_schemas.envelope import Event
from everloop_schemas.erasure import ErasureConfirmed, ErasureDecided
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.monitoring import AlertRaised, DeadLetterSent, DriftDetected
from everloop_schemas.names import is_loop_name
from everloop_schemas.registry import (
    Decided,
    LoopResumed,
    LoopState,
    ModelPromoted,
    ModelRolledBack,
    VersionRegistered,
)
from everloop_schemas.search import SearchFinished, SearchRequested
from everloop_schemas.serving import PredictionMade, VersionState
from everloop_schemas.training import LineFailed, ModelTrained, RunFinished, RunRequested
from everloop_shared.clock import Clock
from everloop_shared.messaging.routes import Position

MAX_OUTCOMES_PER_EVALUATION = 100


class LoopWatches(NamedTuple):
    """The kinds of watch that a loop has, and whether one of them takes observations, or is told of versions."""

    kinds: Sequence[type[Watch]]
    take_observations: bool
    follow_versions: bool

    @classmethod
    def of(cls, kinds: Sequence[type[Watch]]) -> Self:
        """What these kinds take."""
        observes, follows = (any(issubclass(k, take) for k in kinds) for take in (ObservationWatch, FollowsVersions))
        return cls(kinds, observes, follows)


NO_WATCHES = LoopWatches.of(())


@dataclass
class Handlers:
    """Handlers add to `batch`; the unit of work begins a new one, and finishes it before it commits."""

    projections: Projections
    letters: Letters
    loops: KnownLoops
    clock: Clock
    alerting: Alerting
    watches: Sequence[type[Watch]] = WATCHES
    batch: RecordBatch = field(default_factory=RecordBatch)
    shown: ShownRecords = field(default_factory=ShownRecords)
    _watches: dict[str, tuple[LoopState, LoopWatches]] = field(default_factory=dict)

    def begin_batch(self) -> None:
        """Start an empty batch; the previous one is dropped."""
        self.batch, self.shown = RecordBatch(), ShownRecords()

    async def finish_batch(self) -> list[Event]:
        """Add the batch to the projections; the events that follow from it."""
        batch, events = self.batch, list[Event]()
        self.batch = RecordBatch()
        for loop in batch.watched_loops():
            events += await self._evaluate(loop, batch)
        grown = await self.projections.count_ids(batch.ids)
        for loop, last in batch.dead_letters.items():
            before, after = grown.get((loop, "dead_letter"), (0, 0))
            if after > before:
                batch.news[loop].append(NewDeadLetters(after - before, last))
        told, entries = await self.alerting.follow(batch.news, batch.evaluated)
        await self.projections.add_timeline_entries([*batch.entries, *entries])
        await self.projections.add_shown(self.shown)
        if batch.letters:
            await self.letters.add_letters(batch.letters)
        if batch.sent:
            await self.letters.add_sent(batch.sent)
        return events + told

    async def look_at_alerts(self) -> list[Event]:
        """Follow what alerts do as time passes; the events to publish."""
        events, entries = await self.alerting.look()
        await self.projections.add_timeline_entries(entries)
        return events

    async def on_loop_state(self, event: LoopState, at: Position) -> list[Event]:
        """Follow the loop's task, metric and label."""
        self.loops.apply(event)
        return []

    async def on_observation(self, event: Observation, at: Position) -> list[Event]:
        """An observation, from ingest or by REST."""
        if self._watches_of(event.loop).take_observations:
            self.batch.observations[event.loop].append(event)
        return self._count(event, "event", event.id)

    async def on_prediction_made(self, event: PredictionMade, at: Position) -> list[Event]:
        """A prediction."""
        if self._watches_of(event.loop).kinds:
            self.batch.predictions[event.loop].append(event)
        self.shown.add_prediction(event)
        return self._count(event, "prediction", event.subject)

    async def on_outcome_observed(self, event: OutcomeObserved, at: Position) -> list[Event]:
        """An outcome, or a correction of one. Raises LoopNotKnownYet."""
        self.loops.require_arrived(event.loop)
        self.batch.outcomes[event.loop].append((event, at.offset))
        return self._count(event, "outcome", event.data.prediction_id)

    async def on_decided(self, event: Decided, at: Position) -> list[Event]:
        """A decision of the registry; a rollback by a guardrail raises an alert."""
        entry = timeline.decision_entry(event)
        if isinstance(event, ModelRolledBack) and event.data.by == "guardrail" and entry:
            return self._add_news(event, alert_signals.signal_of_rollback(event, entry))
        self._add_entry(entry)
        if isinstance(event, VersionRegistered):
            return self._count(event, "version", event.data.model.version)
        if isinstance(event, ErasureDecided):
            return self._add_news(event, signal_of_erasure(event))
        if isinstance(event, ModelPromoted | LoopResumed | ErasureConfirmed):
            return self._add_news(event, event)
        return []

    async def on_run_requested(self, event: RunRequested, at: Position) -> list[Event]:
        """A training run began."""
        self._add_entry(timeline.run_requested_entry(event))
        return self._add_news(event, event)

    async def on_run_finished(self, event: RunFinished, at: Position) -> list[Event]:
        """A training run ended."""
        self._add_entry(timeline.run_finished_entry(event))
        if event.data.version is not None:
            self.shown.add_importance(event.loop, event.data.version, event.data.importance)
        return self._add_news(event, event)

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
        return self._add_news(event, alert_signals.signal_of_failed_line(event))

    async def on_version_state(self, event: VersionState, at: Position) -> list[Event]:
        """A version that an instance cannot load raises an alert, which names the version that serves instead."""
        self._add_news(event, event)
        signal = alert_signals.signal_of_version_state(event)
        return self._add_news(event, signal) if signal else []

    async def on_model_trained(self, event: ModelTrained, at: Position) -> list[Event]:
        """A version was trained."""
        self._add_entry(timeline.model_trained_entry(event))
        self._add_news(event, event)
        self.shown.add_importance(event.loop, event.data.version, event.data.importance)
        if self._watches_of(event.loop).follow_versions:
            self.batch.versions[event.loop].append(event)
        return self._count(event, "version", event.data.version)

    async def on_dead_letter(self, event: DeadLetter, at: Position) -> list[Event]:
        """A record that a service could not process, of the loop it names, or of "" where that is not a loop name."""
        loop = event.loop if is_loop_name(event.loop) else ""
        self.batch.dead_letters[loop] = event
        self.batch.ids[loop, "dead_letter"].append(event.id)
        self.batch.letters.append(list_letter(event, at))
        if event.data.unexpected and self._watches_of(loop).take_observations:
            self.batch.refusals[loop].append(event)
        if (signal := alert_signals.signal_of_refused_signature(loop, event)) is not None:
            self.batch.news[loop].append(signal)
        return []

    async def on_dead_letter_sent(self, event: DeadLetterSent, at: Position) -> list[Event]:
        """A dead letter was sent again, here or by another replica."""
        self.batch.sent.append(event)
        self._add_entry(timeline.letter_sent_entry(event))
        return []

    def _count(self, event: Event, kind: IdKind, id: str) -> list[Event]:
        self.batch.ids[event.loop, kind].append(id)
        return []

    def _add_news(self, event: Event, news: News) -> list[Event]:
        self.batch.news[event.loop].append(news)
        return []

    def _add_entry(self, entry: TimelineEntry | None) -> None:
        if entry:
            self.batch.entries.append(entry)

    async def _evaluate(self, loop: str, batch: RecordBatch) -> list[Event]:
        """Evaluate the loop's outcomes, and give them and its predictions to its watches."""
        state = self.loops.get(loop)
        if state is None:
            return []  # the loop was deleted after these were added to the batch
        outcomes = [(event, offset) for event, offset in batch.outcomes[loop] if not self.loops.is_past(event)]
        predictions = [event for event in batch.predictions[loop] if not self.loops.is_past(event)]
        predictions.sort(key=lambda event: event.time)  # partitions are read in turn
        events, watched = await self._score(state, outcomes, batch)
        observations = [event for event in batch.observations[loop] if not self.loops.is_past(event)]
        return events + await self._watch(state, observations, predictions, watched, batch)

    async def _score(
        self, state: LoopState, outcomes: Sequence[tuple[OutcomeObserved, int]], batch: RecordBatch
    ) -> tuple[list[Event], list[WatchedOutcome]]:
        loop, events, watched = state.loop, list[Event](), list[WatchedOutcome]()
        if not outcomes:
            return events, watched
        stored = await self.projections.load_evaluation(loop, {e.data.prediction_id for e, _ in outcomes})
        evaluation = BatchEvaluation(state.data.spec, *stored)
        for event, offset in outcomes:
            before = evaluation.counted.get(event.data.prediction_id)
            drift = evaluation.add(event.data, offset)
            now = evaluation.counted[event.data.prediction_id]
            if before is None or before.label != now.label:
                watched.append(WatchedOutcome(event, offset, before, now))
            if len(evaluation.unpublished.offsets) >= MAX_OUTCOMES_PER_EVALUATION:
                events.append(build_evaluation_event(evaluation, event, self.clock()))
            if evaluation.corrections_alert:
                batch.news[loop].append(alert_signals.signal_of_corrections(event, evaluation.corrections_alert))
            if drift:
                detected = build_drift_event(drift, event, self.clock())
                healthy = healthy_error(detected, evaluation.state, evaluation.is_regression)
                events += self._report_drift(detected, batch, healthy)
        if evaluation.unpublished.offsets:
            events.append(build_evaluation_event(evaluation, outcomes[-1][0], self.clock()))
        batch.evaluated[loop] = Evaluated(evaluation.state, len(outcomes), outcomes[-1][0].id)
        await self.projections.save_evaluation(loop, evaluation, state.data.champion.version, self.clock())
        return events, watched

    async def _watch(
        self,
        state: LoopState,
        observations: Sequence[Observation],
        predictions: Sequence[PredictionMade],
        outcomes: Sequence[WatchedOutcome],
        batch: RecordBatch,
    ) -> list[Event]:
        kinds, events, now = self._watches_of(state.loop).kinds, list[Event](), self.clock()
        versions = [event for event in batch.versions.get(state.loop, ()) if not self.loops.is_past(event)]
        refusals = [letter for letter in batch.refusals.get(state.loop, ()) if not self.loops.is_past(letter)]
        if not kinds or not (observations or predictions or outcomes or versions or refusals):
            return events
        watches = await self.projections.load_watches(state.loop, kinds, state.data.spec)
        for watch in watches:
            if isinstance(watch, ObservationWatch):
                for observation in observations:
                    events += watch.add_observation(observation, now)
                for letter in refusals:
                    events += watch.add_refusals(letter, now)
            for prediction in predictions:
                events += watch.add_prediction(prediction, now)
            for outcome in outcomes:
                events += watch.add_outcome(outcome, now)
            if isinstance(watch, FollowsVersions):
                for version in versions:
                    watch.add_version(version, now)
        await self.projections.save_watches(state.loop, watches)
        return [told for event in events for told in self._report(event, batch)]

    def _watches_of(self, loop: str) -> LoopWatches:
        """The watches that the loop's spec turns on; none for a loop that has not arrived here yet."""
        state, known = self.loops.get(loop), self._watches.get(loop)
        if state is None:
            return NO_WATCHES
        if known is None or known[0] is not state:  # asked for each record
            known = self._watches[loop] = state, LoopWatches.of(watches_of(state.data.spec, self.watches))
        return known[1]

    def _report(self, event: Event, batch: RecordBatch) -> list[Event]:
        """An event of a watch: a drift has an alert beside it, and an alert an entry of the timeline."""
        if isinstance(event, DriftDetected):
            return self._report_drift(event, batch)
        if isinstance(event, AlertRaised):
            ended = event.data.state == "resolved"
            batch.news[event.loop].append(event if ended else alert_signals.signal_of_alert(event))
            return []
        return [event]

    def _report_drift(self, detected: DriftDetected, batch: RecordBatch, healthy: float | None = None) -> list[Event]:
        signal = alert_signals.signal_of_drift(detected, timeline.drift_entry(detected), healthy)
        batch.news[detected.loop].append(signal)
        return [detected]
