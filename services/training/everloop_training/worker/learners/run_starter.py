"""Starts the runs of one loop: for the models of its spec, for what its triggers count, for drifts and for people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from everloop_learning.line_identity import ADDED_MODEL_OFFSETS, model_key, slug
from everloop_learning.outcome import Outcome
from everloop_learning.version import line_of
from everloop_schemas.loop_parts import ModelSpec
from everloop_schemas.search import SearchRequested
from everloop_schemas.training import Line, RunFinished, RunRequested
from everloop_training.domain.tuned_model import is_tuned
from everloop_training.worker.learners.event_factory import EventFactory, requested_line, run_id
from everloop_training.worker.learners.line_registry import LineRegistry
from everloop_training.worker.learners.predicting_line import LineModel, PredictingLine
from everloop_training.worker.learners.progress import LoopProgress
from everloop_training.worker.learners.training_schedule import OUTCOMES_AFTER_CHANGE, every_of
from everloop_training.worker.learners.trainings import Trainings
from everloop_training.worker.learners.triggers import WINDOW_OUTCOMES, DueRun, RunTriggers

RUNS_KEPT = 1_000
"""The number of runs of a loop that are remembered; a repeated alert of a forgotten run starts another run."""


class RunStarter:
    """Starts each run once: `requests` are those that have started, by key.

    `replayed` are those that the log holds already and this learner has yet to reach: they start again where they
    did, and are not requested twice. `ended` are the ids of runs whose end is on the log.
    """

    _spec_checked = -1

    def __init__(
        self,
        progress: LoopProgress,
        lines: LineRegistry,
        triggers: RunTriggers,
        events: EventFactory,
        trainings: Trainings,
    ) -> None:
        self.requests: dict[str, RunRequested] = {}
        self.replayed: list[RunRequested] = []
        self.ended: frozenset[str] = frozenset()
        self._progress, self._lines, self._triggers, self._events = progress, lines, triggers, events
        self._trainings = trainings

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_spec_checked"}

    def find(self, key: str) -> RunRequested | None:
        """The run of a key, whether it has started or is still to be replayed."""
        return self.requests.get(key) or next((r for r in self.replayed if r.data.key == key), None)

    def adopt(self, runs: Iterable[RunRequested], ends: Iterable[RunFinished] = ()) -> None:
        """Take over runs from the log, with their ends as far as these are on the log too."""
        runs, by_run = list(runs), {end.data.run: end for end in ends if end.loop == self._progress.state.loop}
        self.ended |= frozenset(by_run)
        trained = [r.data.run for r in runs if r.data.data_set is not None]
        self._trainings.adopt_ends(by_run[run] for run in trained if run in by_run)
        waiting = {r.data.key: r for r in (*self.replayed, *runs) if not self._has_begun(r)}
        self.replayed = sorted(waiting.values(), key=lambda r: r.data.requested_offset)
        self.begin_replayed(self._progress.position + 1)

    def begin_replayed(self, before: int) -> None:
        """Begin the runs of the log that were requested before this offset."""
        while self.replayed and self.replayed[0].data.requested_offset < before:
            self._begin(self.replayed.pop(0))

    def start_due(self, outcome: Outcome) -> None:
        """Start the run that is due after this outcome, unless the log holds a run that was requested later."""
        due = self._triggers.find_due(self._progress.spec, outcome, self._progress.outcomes)
        if self.replayed and self.replayed[-1].data.requested_offset >= outcome.offset:
            return
        if due and (request := self.start_fresh(due, outcome.id, self._start_offset(due))):
            self._events.pending.append(request)
        for training in list(self._trainings.due(outcome)):
            self._events.pending.append(training)
            self._begin(training)

    def start_manual(self, key: str, reason: str) -> RunRequested | None:
        """The run that a person requests; None before the first outcome."""
        due = DueRun("manual", f"manual/{key}", reason)
        if (known := self.find(due.key)) or not self._progress.outcomes:
            return known
        return self.start_fresh(due, None, self._start_offset(due))

    def start_tuned(self, search: SearchRequested, model: ModelSpec, reason: str) -> RunRequested | None:
        """A line for the parameters that a search found, the same for the same search.

        It starts with the outcomes that were searched, and is judged on those to come. None where the spec does not
        have the model any more that was searched, or has it with these parameters.
        """
        data, models = search.data, self._progress.spec.models
        due = DueRun("search", f"search/{data.index}/{data.search}", reason)
        if known := self.find(due.key):
            return known
        if data.index >= len(models) or not is_tuned(model, models[data.index]):
            return None
        return self.start(due, search.id, data.data_set.start, model)

    def start_fresh(
        self, due: DueRun, caused_by: str | None, start: int, trace: str | None = None
    ) -> RunRequested | None:
        """Answer what happened: with a fresh line of the champion's model, or with a training of its line.

        None where that line has failed. For a champion that was submitted the first model of the spec stands in.
        """
        model, name = self._model_to_renew()
        if model.kind == "online":
            return self.start(due, caused_by, start, model, trace=trace)
        line = self._lines.learning.get(name)
        if not isinstance(line, PredictingLine):
            return None
        if not self._trainings.can_train(line):
            return self._trainings.begun[name][-1]
        request = self._trainings.request(line, due, caused_by, start if due.trigger == "drift" else 0, trace)
        self._begin(request)
        return request

    def has_enough_since(self, change_point: int) -> bool:
        """Whether a run for this change can start: at once, or for a line that is trained, once it has the outcomes."""
        model, name = self._model_to_renew()
        line = self._lines.learning.get(name)
        if model.kind == "online" or not isinstance(line, PredictingLine):
            return True
        enough = min(every_of(model), OUTCOMES_AFTER_CHANGE)
        return self._progress.offsets.count_since(change_point) >= enough and self._trainings.can_train(line)

    def start_submitted(self) -> None:
        """Start a line for every model that was submitted, once there is an outcome and no run is to be replayed."""
        progress = self._progress
        for submission in progress.state.data.submissions if progress.first_offset is not None else ():
            key = f"submitted/{submission.version}"
            if self.replayed or self.find(key):
                continue
            line = Line(
                line=submission.line,
                model=submission.model,
                run=submission.run,
                start_offset=progress.position + 1,
                requested_offset=progress.position,
            )
            due = DueRun("submitted", key, f"{submission.version} was submitted")
            revision, artifact = progress.state.revision, submission.artifact
            request = self._events.build_run_requested(revision, due, line, None, None, artifact=artifact)
            self._events.pending.append(request)
            self._begin(request)

    def start_spec_lines(self, outcome: Outcome) -> None:
        """A line for every model of the spec: from the first outcome, or, for one added later, from a bounded past."""
        progress, lines = self._progress, self._lines
        if self._spec_checked == progress.state.data.sequence:
            return
        self._spec_checked = progress.state.data.sequence
        models = {model_key(m): m for m in progress.spec.models}
        if models.keys() == lines.spec_lines.keys():
            return
        assert progress.first_offset is not None, "set by LoopLearner.learn"
        start = max(progress.first_offset, outcome.offset - ADDED_MODEL_OFFSETS)
        for key, model in models.items():
            if key not in lines.spec_lines:
                name = self._free_name(slug(model), start)
                due = DueRun("initial", f"initial/{name}", "a model of the loop's spec")
                begin = start if model.kind == "online" else outcome.offset  # it learns nothing of the past
                self._events.pending.append(self.start(due, outcome.id, begin, model, outcome.offset - 1))
        lines.spec_lines = {key: name for key, name in lines.spec_lines.items() if key in models}
        lines.retain_needed(progress.state.data)

    def is_default_line(self, name: str) -> bool:
        """Whether this is the line of the first model of the spec."""
        return name == self._lines.spec_lines.get(model_key(self._progress.spec.models[0]))

    def start(
        self,
        due: DueRun,
        caused_by: str | None,
        start: int,
        model: ModelSpec,
        requested_offset: int | None = None,
        trace: str | None = None,
    ) -> RunRequested:
        """Start a fresh line of a model at offset `start`."""
        progress = self._progress
        if due.trigger not in ("initial", "search") and f"{slug(model)}-{start}" in self._lines.runs:
            start = progress.position + 1  # the same model from the same offset would be the same line, no challenger
        line = Line(
            line=self._free_name(slug(model), start),
            model=model,
            run=run_id(progress.state.loop, due.key, progress.state.data.life),
            start_offset=start,
            requested_offset=progress.position if requested_offset is None else requested_offset,
        )
        request = self._events.build_run_requested(progress.state.revision, due, line, caused_by, trace)
        self._begin(request)
        return request

    def _begin(self, request: RunRequested) -> None:
        data, cause = request.data, request.data.key.partition("/")[0]
        self.requests[data.key] = request
        if cause == "drift":
            self._progress.waiting_alert = None  # in a snapshot from before this run, the alert still waits
            self._trainings.on_answer(request)
        if cause not in ("initial", "outcomes", "submitted", "search"):
            self._triggers.restart_counts(self._progress.outcomes)
        if data.data_set is None:
            self._begin_line(request)
        else:
            for forgotten in self._trainings.begin(request):
                del self.requests[forgotten.data.key]

    def _begin_line(self, request: RunRequested) -> None:
        data = request.data
        if data.trigger == "initial":
            self._lines.spec_lines[model_key(data.model)] = data.line
        elif data.trigger == "submitted":
            if not self._begin_submitted(request):
                return
        elif data.trigger == "search":
            self._lines.tuned[int(data.key.split("/")[1])] = data.line
        else:
            self._lines.fresh = data.line
        self._lines.runs[data.line] = request
        self._forget_oldest()
        if data.run not in self.ended:
            self._lines.start(request, self._progress.spec)
        self._lines.retain_needed(self._progress.state.data)

    def _begin_submitted(self, request: RunRequested) -> bool:
        """Give the line of a submitted model that model; False where another line has its name, and its run fails."""
        data = request.data
        if data.line in self._lines.runs:
            if data.run not in self.ended:
                line, reason = requested_line(request), "another line has its name; submit it again"
                self._events.add_run_end(line, request.revision, data.requested_offset, 0, reason, request.traceparent)
            return False
        assert data.artifact is not None, "a submission is a model"
        known = next((s for s in self._progress.state.data.submissions if s.run == data.run), None)
        data_set, metrics = (known.data_set, known.metrics) if known else (None, {})
        model = LineModel(data.requested_offset, data.run, data.artifact, data_set, metrics, slug(data.model))
        self._lines.add_model(data.line, model)
        return True

    def _forget_oldest(self) -> None:
        """Forget the oldest runs beyond `RUNS_KEPT`, except of lines that learn or may serve again."""
        needed = {line_of(version) for version in self._progress.state.data.kept} | self._lines.learning.keys()
        lines = {key: r.data.line for key, r in self.requests.items() if r.data.data_set is None}
        unneeded = [key for key, line in lines.items() if line not in needed]
        for key in unneeded[: max(0, len(lines) - RUNS_KEPT)]:
            line = self.requests.pop(key).data.line
            self._lines.forget(line)
            self._trainings.forget(line)

    def _start_offset(self, due: DueRun) -> int:
        """Feedback means that what is right changes now; other triggers start with the recent outcomes."""
        if due.trigger == "feedback" or not self._progress.outcomes:
            return self._progress.position + 1
        return self._progress.offsets.start_of_last(WINDOW_OUTCOMES)

    def _free_name(self, base: str, start: int) -> str:
        name, n = f"{base}-{start}", 2
        while name in self._lines.runs:
            name, n = f"{base}.{n}-{start}", n + 1
        return name

    def _model_to_renew(self) -> tuple[ModelSpec, str]:
        """The champion's model and its line; where nothing can renew that, the spec's first."""
        run = self._lines.runs.get(line_of(self._progress.state.data.champion.version))
        if run and run.data.artifact is None:
            return run.data.model, run.data.line
        first = self._progress.spec.models[0]
        return first, self._lines.spec_lines.get(model_key(first), "")

    def _has_begun(self, run: RunRequested) -> bool:
        is_training = run.data.data_set is not None
        return run.data.key in self.requests or (is_training and self._trainings.is_past(run))
