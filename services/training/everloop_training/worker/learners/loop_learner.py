"""One loop's learner: every line predicts and learns each outcome, and the losses are reported."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Any, Literal

from everloop_learning.baseline import Baseline, RunningLabels
from everloop_learning.learnable import LearnableOutcomes, learned_label
from everloop_learning.losses import Losses
from everloop_learning.outcome import Outcome
from everloop_learning.rank_blocks import RANKS, RankBlocks, rank_score
from everloop_learning.version import Version, line_of
from everloop_models.model import ModelPrediction
from everloop_schemas.envelope import Event, Scalar, derived_id
from everloop_schemas.registry import BASELINE, LoopState
from everloop_schemas.training import ChallengeUpdated, ChallengeUpdatedData, Line, RankedBlock
from everloop_training.domain.trained_model import EndReply, TrainedModel
from everloop_training.worker.learners.dependencies import LearnerDependencies
from everloop_training.worker.learners.drift_runs import DriftRuns
from everloop_training.worker.learners.event_factory import EventFactory
from everloop_training.worker.learners.learning_line import LearningLine, LoopLine
from everloop_training.worker.learners.line_registry import HistoryGap, LineRegistry
from everloop_training.worker.learners.progress import LoopProgress
from everloop_training.worker.learners.required_measures import RequiredMeasures
from everloop_training.worker.learners.run_starter import RunStarter
from everloop_training.worker.learners.searches import Searches
from everloop_training.worker.learners.trainings import Trainings
from everloop_training.worker.learners.triggers import RunTriggers
from everloop_training.worker.learners.version_maker import VersionMaker

TRAINED_AFTER_OUTCOMES = 30
"""The outcomes that a line learns before its run has finished and the default line becomes the first version."""
REPORTED_OUTCOMES = 100
MIN_REFRESH_S = 0.25
"""The shortest time between two refreshes of a line: registry and serving take a version no faster."""


class LossReporter:
    """Collects the losses of the lines, by outcome, and reports them as `challenge_updated`.

    A line that did not predict an outcome has None there. What the spec requires of lines is reported with them. A
    snapshot holds no unreported losses.
    """

    def __init__(self, events: EventFactory, required: RequiredMeasures) -> None:
        self._events, self._required = events, required
        self._clear()

    def _clear(self) -> None:
        self._offsets: list[int] = []
        self._losses: dict[str, list[float | None]] = {}
        self._lines: dict[str, Line] = {}
        self._blocks: list[RankedBlock] = []

    def __getstate__(self) -> dict[str, Any]:
        return {"_events": self._events, "_required": self._required}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._events, self._required = state["_events"], state["_required"]
        self._clear()

    def add(self, offset: int, losses: dict[str, float], lines: Iterable[Line]) -> None:
        """Add the losses of one outcome by line name; `lines` are those of them that are not the baseline."""
        for name, loss in losses.items():
            known = self._losses.setdefault(name, [])
            known.extend([None] * (len(self._offsets) - len(known)))
            known.append(loss)
        self._lines.update((line.line, line) for line in lines)
        self._offsets.append(offset)

    def add_block(self, block: RankedBlock) -> None:
        """Add the block that ended with the last outcome."""
        self._blocks.append(block)

    @property
    def is_full(self) -> bool:
        """Whether there are as many outcomes as one event reports."""
        return len(self._offsets) >= REPORTED_OUTCOMES

    def report(self, revision: int) -> None:
        """Build the event of the losses collected since the last one, if there are any.

        Its id follows from the losses: the same losses are the same event, and a replay in which another line learns
        too is another event.
        """
        if not self._offsets:
            return
        offsets, loop = self._offsets, self._events.loop
        padded = {name: known + [None] * (len(offsets) - len(known)) for name, known in self._losses.items()}
        losses = {name: tuple(values) for name, values in sorted(padded.items())}
        content = (losses, self._blocks) if self._blocks else losses
        digest = sha256(repr(content).encode()).hexdigest()
        data = ChallengeUpdatedData(
            offsets=tuple(offsets),
            losses=losses,
            lines=tuple(line for _, line in sorted(self._lines.items())),
            measures=self._required.measured(sorted(self._lines)),
            blocks=tuple(self._blocks),
        )
        self._events.pending.append(
            ChallengeUpdated(
                id=derived_id(loop, ChallengeUpdated.type_name(), offsets[0], offsets[-1], digest),
                time=self._events.dependencies.now(),
                subject=f"{offsets[0]}-{offsets[-1]}",
                loop=loop,
                revision=revision,
                data=data,
            )
        )
        self._clear()


class LoopLearner:
    """All lines of a loop, fed with the records of the outcome log in order; those seen before are ignored.

    `take_events` gives what has followed from them. Pickled, it is the loop's part of a snapshot; `attach` completes a
    restored one. `live` says that the log as of the start has been learned, so that owed versions may be made.
    """

    def __init__(self, state: LoopState, partition: int, dependencies: LearnerDependencies) -> None:
        self.loop, self.partition, self.live = state.loop, partition, False
        self.progress, self.triggers = LoopProgress(state), RunTriggers()
        self.learnable = LearnableOutcomes()
        self.events = EventFactory(state.loop, partition, dependencies)
        self.losses, self.labels = Losses(state.data.spec), RunningLabels(state.data.spec.task == "regression")
        self.baseline = Baseline(state.data.spec, self.labels)
        self.ranks, self.required = RankBlocks(), RequiredMeasures(state.data.spec)
        self.loss_reporter = LossReporter(self.events, self.required)
        self.lines = LineRegistry(self.losses, self.events)
        self.versions = VersionMaker(self.lines, self.events)
        self.trainings = Trainings(self.progress, self.lines, self.events)
        self.runs = RunStarter(self.progress, self.lines, self.triggers, self.events, self.trainings)
        self.searches = Searches(self.progress, self.lines, self.events)
        self.drift_runs = DriftRuns(self.progress, self.runs, self.triggers, self.events)
        self.versions.on_loop_state(state)

    def attach(self, dependencies: LearnerDependencies) -> None:
        """Give a learner that was restored from a snapshot its dependencies."""
        self.events.attach(dependencies)
        self.live = False

    @property
    def state(self) -> LoopState:
        """The loop's state, as far as the learner knows it."""
        return self.progress.state

    def take_events(self) -> list[Event]:
        """The events since the last call, in order."""
        self.lines.go_on()
        self.loss_reporter.report(self.state.revision)
        if self.live:
            self.runs.begin_replayed(self.progress.position + 1)
            self.runs.start_submitted()
            self.versions.make_owed_versions()
            self.searches.request_due()
        self.trainings.end_removed()
        events, self.events.pending = self.events.pending, []
        return events

    def learn(self, record: Outcome) -> None:
        """Take in the next record of the outcome log; a repeated one only moves the position."""
        progress = self.progress
        if record.offset <= progress.position:
            return
        self.runs.begin_replayed(record.offset)
        outcome = self.learnable.admit(record)
        if outcome is None:
            progress.position, self.lines.next_offset = record.offset, record.offset + 1
            return
        if progress.first_offset is None:
            progress.first_offset = outcome.offset
        self.runs.start_spec_lines(outcome)
        progress.position = outcome.offset
        learned = self._learn_label(outcome)
        self.triggers.count(progress.spec, outcome, learned)
        if learned:
            self.searches.on_learned(outcome)
        self.lines.advance(outcome)
        self.runs.start_due(outcome)
        self.drift_runs.start_waiting()

    def learn_history(self, gap: HistoryGap, outcomes: Iterable[Outcome]) -> None:
        """Let a line learn outcomes of the past, with the labels that the other lines learned."""
        self.lines.learn_history(gap, self.learnable.admit_again(outcomes))

    def on_loop_state(self, state: LoopState) -> None:
        """Take in the loop's state, which decides which lines learn; an older one changes nothing."""
        before, after = self.state.data, state.data
        if after.sequence <= before.sequence:
            return
        self.progress.state = state
        if line_of(before.champion.version) != line_of(after.champion.version):
            self.lines.previous_champion = line_of(before.champion.version)
        if before.spec.retrain.on_schedule != after.spec.retrain.on_schedule:
            self.triggers.next_fire = None
        self.losses.metric = after.spec.metric
        if after.spec.metric != before.spec.metric:
            self.ranks.clear()
        self.required.follow(after.spec)
        self.versions.on_loop_state(state)
        self.lines.retain_needed(after)
        if self.live:
            self.runs.start_submitted()

    def take_model(self, run: str, model: TrainedModel) -> EndReply:
        """A training has a model: its line predicts with it from the next outcome on."""
        if not self.live or self.is_behind(0):
            return EndReply(None, behind=True)
        self.loss_reporter.report(self.state.revision)
        return self.trainings.take(run, model, self.runs.is_default_line)

    def fail_run(self, run: str, reason: str) -> EndReply:
        """A training has no model."""
        if not self.live or self.is_behind(0):
            return EndReply(None, behind=True)
        return self.trainings.fail(run, reason)

    def is_behind(self, offset: int) -> bool:
        """Whether the log up to `offset` is not learned yet, or is being learned again."""
        return self.progress.position < offset or bool(self.runs.replayed)

    def _learn_label(self, outcome: Outcome) -> bool:
        """Let all lines predict and learn; False where there is no label to learn.

        An erased outcome is one that no line has predicted: what follows from labels alone stays as it was.
        """
        label = learned_label(outcome, self.losses.regression)
        if label is None:
            return False
        predicted = self.baseline.predict() if self.losses.by_probabilities else (self.baseline.value,)
        losses = {BASELINE: self.losses.loss(label, *predicted)}
        learned = self.lines.learn(outcome) if outcome.learnable else {}
        reported = [self.lines.learning[name].reported for name in learned]
        reported = [line for line in reported if outcome.offset > line.requested_offset]
        self.loss_reporter.add(outcome.offset, losses | {r.line: learned[r.line].loss for r in reported}, reported)
        if self.losses.metric in RANKS and outcome.learnable:
            self._rank(outcome.offset, label, {r.line: learned[r.line].prediction for r in reported})
        if self.required.is_on and outcome.learnable:
            self.required.add(outcome, {r.line: learned[r.line].prediction for r in reported})
        self._count_label(outcome, label)
        for name in learned:
            self._make_due_version(self.lines.learning[name], outcome.time)
        if self.loss_reporter.is_full:
            self.loss_reporter.report(self.state.revision)
        return True

    def _rank(self, offset: int, label: Scalar, predictions: dict[str, ModelPrediction]) -> None:
        scores = {line: rank_score(line, each.value, each.probabilities) for line, each in predictions.items()}
        scores[BASELINE] = rank_score(BASELINE, self.baseline.value)
        if block := self.ranks.add(self.losses.metric, offset, label, scores):
            self.loss_reporter.add_block(block)

    def _count_label(self, outcome: Outcome, label: Scalar) -> None:
        self.labels.add(label)
        self.losses.learn(label, outcome.prediction)
        self.progress.count(outcome.offset)

    def _make_due_version(self, line: LoopLine, now: float) -> None:
        """End the run of a line that has just learned enough, and make the version that is due, if any.

        `now` is the time of the log, so that learning it again makes the same versions.
        """
        data = self.state.data
        if not line.finished and line.outcomes >= max(TRAINED_AFTER_OUTCOMES, line.version_after):
            line.finished = True
            is_learned = isinstance(line, LearningLine)  # another has its first version from its first training
            if is_learned and line.trigger == "initial" and self.runs.is_default_line(line.name):
                self._make_version(line, "initial")
            self.events.add_run_finished(line, weighed=self.versions.weigh_submitted(line, data))
        serving = [v for v in (data.champion, data.candidate) if v and line_of(v.version) == line.name]
        is_due = serving and line.is_refresh_due(data.spec.refresh.every, frozenset(v.sha256 for v in serving))
        if is_due and not data.pinned and now - line.refreshed_at >= MIN_REFRESH_S:
            if max(Version.parse(v.version).offset for v in serving) < line.offset:
                line.refreshed_at = now
                self._make_version(line, "refresh")

    def _make_version(self, line: LoopLine, reason: Literal["initial", "refresh"]) -> None:
        self.loss_reporter.report(self.state.revision)
        self.versions.make(line, reason)
