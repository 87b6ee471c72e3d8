"""The training runs of a loop's lines that learn nothing themselves: when they are due, and how they end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator

from everloop_learning.outcome import Outcome
from everloop_learning.version import Version
from everloop_models import ArtifactCorrupt, ArtifactUnavailable
from everloop_models.explain import IMPORTANCE_ROWS, importance_of
from everloop_schemas.loop_parts import ModelSpec
from everloop_schemas.training import DataSet, Line, RunFinished, RunRequested, VersionReason
from everloop_training.domain.trained_model import REASON_CHARACTERS, EndReply, TrainedModel
from everloop_training.worker.learners.event_factory import EventFactory, requested_line, run_id
from everloop_training.worker.learners.line_registry import LineRegistry
from everloop_training.worker.learners.predicting_line import LineModel, PredictingLine
from everloop_training.worker.learners.progress import LoopProgress
from everloop_training.worker.learners.training_schedule import TrainingSchedule, window_of
from everloop_training.worker.learners.triggers import DueRun

log = logging.getLogger(__name__)
TRAININGS_KEPT = 20
"""The trainings of a line that are remembered."""
NOT_AT_WORK = "its line is no longer at work"


class Trainings:
    """The training runs of one loop. `begun` are the last ones by line, oldest first, `ends` how they ended, by id.

    A line may have two that have not ended: the oldest, which may be in work, and the newest. So a training that takes
    longer than the next one takes to be due still ends, and one that nobody works on does not pile up more. After a
    drift only the newest counts.
    """

    def __init__(self, progress: LoopProgress, lines: LineRegistry, events: EventFactory) -> None:
        self.schedules: dict[str, TrainingSchedule] = {}
        self.begun: dict[str, list[RunRequested]] = {}
        self.ends: dict[str, RunFinished] = {}
        self._progress, self._lines, self._events = progress, lines, events

    def lines(self) -> list[PredictingLine]:
        """The lines at work that are trained."""
        lines = self._lines.learning.values()
        return [line for line in lines if isinstance(line, PredictingLine) and line.trigger != "submitted"]

    def adopt_ends(self, ends: Iterable[RunFinished]) -> None:
        """Take over the ends of trainings from the log: their lines predict from the same offsets on as before."""
        for end in ends:
            of, self.ends[end.data.run] = end.data, end
            if of.artifact is not None:
                model = LineModel(of.offset, of.run, of.artifact, of.data_set, of.metrics, of.trainer)
                self._lines.add_model(of.line, model)

    def is_past(self, run: RunRequested) -> bool:
        """Whether a training has begun, or been forgotten."""
        begun = self.begun.get(run.data.line, [])
        return bool(begun) and run.data.requested_offset <= begun[-1].data.requested_offset

    def due(self, outcome: Outcome) -> Iterator[RunRequested]:
        """The trainings that are due after this outcome, one line after the other."""
        progress = self._progress
        for line in self.lines():
            schedule = self._schedule_of(line.name, line.line.model)
            if not schedule.is_due(progress.outcomes) or not self.can_train(line):
                continue
            answered, key = schedule.answered, f"outcomes/{line.name}/{progress.position}"
            if answered:
                yield self.request(line, DueRun("drift", key, answered.data.reason), answered.causationid)
            else:
                reason = f"{schedule.due} outcomes since offset {schedule.origin}"
                yield self.request(line, DueRun("outcomes", key, reason), outcome.id)

    def can_train(self, line: PredictingLine) -> bool:
        """Whether there are outcomes that the last training of a line was not asked to learn."""
        begun = self.begun.get(line.name)
        return not begun or begun[-1].data.requested_offset < self._progress.position

    def request(
        self, line: PredictingLine, due: DueRun, caused_by: str | None, data_from: int = 0, trace: str | None = None
    ) -> RunRequested:
        """The request of a training on the last outcomes, of those from `data_from` on; `begin` it next."""
        progress, model = self._progress, line.line.model
        start = max(
            progress.offsets.start_of_last(window_of(model)),
            self._schedule_of(line.name, line.line.model).data_from,
            data_from,
        )
        loop, revision = progress.state.loop, progress.state.revision
        run = run_id(loop, due.key, progress.state.data.life)
        wanted = Line(line=line.name, model=model, run=run, start_offset=start, requested_offset=progress.position)
        data_set = DataSet(loop=loop, start=start, end=progress.position, revision=revision)
        return self._events.build_run_requested(revision, due, wanted, caused_by, trace, data_set=data_set)

    def begin(self, run: RunRequested) -> list[RunRequested]:
        """A training has been requested, now or when the log was learned before; returns those that are forgotten."""
        data = run.data
        begun = self.begun.setdefault(data.line, [])
        begun.append(run)
        self._schedule_of(data.line, data.model).advance(self._progress.outcomes)
        older = [r for r in begun[:-1] if r.data.run not in self.ends]
        self._supersede(older if data.trigger == "drift" else older[1:], data.run)
        forgotten = begun[:-TRAININGS_KEPT]
        self._supersede(forgotten, data.run)
        del begun[:-TRAININGS_KEPT]
        for each in forgotten:
            del self.ends[each.data.run]
        return forgotten

    def on_answer(self, answer: RunRequested) -> None:
        """An alert was answered by a run: every line is trained on what came after the change."""
        since = self._progress.offsets.count_since(answer.data.start_offset)
        for line in self.lines():
            if answer.data.start_offset > self._schedule_of(line.name, line.line.model).origin:
                before = self._progress.outcomes - since
                self.schedules[line.name] = TrainingSchedule.from_change(line.line.model, answer, before)

    def take(self, run_id: str, trained: TrainedModel, is_default: Callable[[str], bool]) -> EndReply:
        """Let the line of a training predict with its model from the next outcome on; `behind` while it has to wait.

        `is_default` says whether a line is the spec's first: its first model is the loop's first version.
        """
        if (run := self._find(run_id)) is None or run_id in self.ends:
            return EndReply(self.ends.get(run_id))
        line, position = self._lines.learning.get(run.data.line), self._progress.position
        if not isinstance(line, PredictingLine):
            return self.fail(run_id, NOT_AT_WORK)
        dependencies, version = self._events.dependencies, str(Version(line.name, position))
        try:
            model = dependencies.load_model(trained.stored)
            saved = dependencies.copy_version(self._events.loop, version, trained.stored)
        except ArtifactUnavailable as e:
            log.warning("trained model not taken yet", extra={"version": version, "reason": e.detail})
            return EndReply(None, behind=True)
        except ArtifactCorrupt as e:
            return self.fail(run_id, f"its model cannot be loaded: {e.detail}")
        seal = dependencies.seal(saved.uri, saved.sha256)
        stored = trained.stored.model_copy(update={"uri": saved.uri, "signature": model.signature, "seal": seal})
        data_set = trained.data_set or run.data.data_set
        source = LineModel(position, run_id, stored, data_set, trained.metrics, trained.trainer)
        reason: VersionReason = "initial" if is_default(line.name) and not line.models else "trained"
        self._lines.add_model(line.name, source)
        if new := line.take(source, model, saved):
            importance = importance_of(model, self._lines.latest_features(IMPORTANCE_ROWS))
            self._events.add_model_trained(new, saved, reason, importance)
        return EndReply(self._end(run, source=source, seconds=trained.seconds))

    def fail(self, run_id: str, reason: str) -> EndReply:
        """End a training without a model: its line keeps the one that it has."""
        if (run := self._find(run_id)) is None or run_id in self.ends:
            return EndReply(self.ends.get(run_id))
        return EndReply(self._end(run, reason[:REASON_CHARACTERS]))

    def end_removed(self) -> None:
        """End the trainings of lines that are no longer at work."""
        for line, runs in self.begun.items():
            if line not in self._lines.learning:
                self._fail_open(runs, NOT_AT_WORK)

    def forget(self, line: str) -> None:
        """Forget the trainings of a line that is forgotten."""
        self.schedules.pop(line, None)
        for run in self.begun.pop(line, []):
            self.ends.pop(run.data.run, None)

    def _find(self, run_id: str) -> RunRequested | None:
        return next((run for runs in self.begun.values() for run in runs if run.data.run == run_id), None)

    def _end(
        self,
        run: RunRequested,
        failure: str | None = None,
        source: LineModel | None = None,
        seconds: float | None = None,
    ) -> RunFinished:
        data, position = run.data, self._progress.position
        rows = source.data_set.rows if source and source.data_set else None
        end = self.ends[data.run] = self._events.add_run_end(
            requested_line(run),
            run.revision,
            position,
            rows or 0,
            failure,
            run.traceparent,
            source,
            artifact=source.stored if source else None,
            seconds=seconds,
        )
        if source:
            runs = self.begun[data.line]
            self._supersede(runs[: runs.index(run)], data.run)
        return end

    def _supersede(self, runs: Iterable[RunRequested], by: str) -> None:
        self._fail_open(runs, f"superseded by run {by}")

    def _fail_open(self, runs: Iterable[RunRequested], reason: str) -> None:
        for run in runs:
            if run.data.run not in self.ends:
                self._end(run, reason)

    def _schedule_of(self, line: str, model: ModelSpec) -> TrainingSchedule:
        if line not in self.schedules:
            started, progress = self._lines.runs.get(line), self._progress
            origin = started.data.start_offset if started else progress.position + 1
            before = progress.outcomes - progress.offsets.count_since(origin)
            self.schedules[line] = TrainingSchedule.from_start(model, origin, before)
        return self.schedules[line]
