"""Starts the runs of one loop: for the models of its spec, for what its triggers count, for drifts and for people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from everloop_learning.outcome import Outcome
from everloop_learning.version import line_of
from everloop_schemas.loop_parts import ModelSpec
from everloop_schemas.training import Line, RunRequested
from everloop_training.worker.learners.event_factory import EventFactory, run_id
from everloop_training.worker.learners.learning_line import slug
from everloop_training.worker.learners.line_registry import LineRegistry
from everloop_training.worker.learners.progress import LoopProgress
from everloop_training.worker.learners.triggers import DueRun, RunTriggers

ADDED_MODEL_OFFSETS = 20_000
"""Offsets before the present at which the line of a model starts that was added to the spec later."""
RUNS_KEPT = 1_000
"""The number of runs of a loop that are remembered; a repeated alert of a forgotten run starts another run."""


class RunStarter:
    """Starts each run once: `requests` are those that have started, by key.

    `replayed` are those that the log holds already and this learner has yet to reach: they start again where they
    did, and are not requested twice. `ended` are the ids of runs whose end is on the log.
    """

    _spec_checked = -1

    def __init__(
        self, progress: LoopProgress, lines: LineRegistry, triggers: RunTriggers, events: EventFactory
    ) -> None:
        self.requests: dict[str, RunRequested] = {}
        self.replayed: list[RunRequested] = []
        self.ended: frozenset[str] = frozenset()
        self._progress, self._lines, self._triggers, self._events = progress, lines, triggers, events

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_spec_checked"}

    def find(self, key: str) -> RunRequested | None:
        """The run of a key, whether it has started or is still to be replayed."""
        return self.requests.get(key) or next((r for r in self.replayed if r.data.key == key), None)

    def adopt(self, runs: Iterable[RunRequested], ended: Iterable[str] = ()) -> None:
        """Take over runs from the log; `ended` are the ids of those whose end is on the log too."""
        self.ended |= frozenset(ended)
        waiting = {r.data.key: r for r in (*self.replayed, *runs) if r.data.key not in self.requests}
        self.replayed = sorted(waiting.values(), key=lambda r: r.data.requested_offset)
        self.begin_replayed(self._progress.position + 1)

    def begin_replayed(self, before: int) -> None:
        """Begin the runs of the log that were requested before this offset."""
        while self.replayed and self.replayed[0].data.requested_offset < before:
            self._begin(self.replayed.pop(0))

    def start_due(self, outcome: Outcome) -> None:
        """Start the run that is due after this outcome, unless the log holds a run that was requested later."""
        due = self._triggers.find_due(self._progress.spec, outcome, self._progress.outcomes)
        if due and not (self.replayed and self.replayed[-1].data.requested_offset >= outcome.offset):
            self._events.pending.append(self.start(due, outcome.id, self._start_offset(due)))

    def start_manual(self, key: str, reason: str) -> RunRequested | None:
        """The run that a person requests; None before the first outcome."""
        due = DueRun("manual", f"manual/{key}", reason)
        if (known := self.find(due.key)) or not self._progress.outcomes:
            return known
        return self.start(due, None, self._start_offset(due))

    def start_spec_lines(self, outcome: Outcome) -> None:
        """A line for every model of the spec: from the first outcome, or, for one added later, from a bounded past."""
        progress, lines = self._progress, self._lines
        if self._spec_checked == progress.state.data.sequence:
            return
        self._spec_checked = progress.state.data.sequence
        models = {_key(m): m for m in progress.spec.models}
        if models.keys() == lines.spec_lines.keys():
            return
        assert progress.first_offset is not None, "set by LoopLearner.learn"
        start = max(progress.first_offset, outcome.offset - ADDED_MODEL_OFFSETS)
        for key, model in models.items():
            if key not in lines.spec_lines:
                name = self._free_name(slug(model), start)
                due = DueRun("initial", f"initial/{name}", "a model of the loop's spec")
                self._events.pending.append(self.start(due, outcome.id, start, model, outcome.offset - 1))
        lines.spec_lines = {key: name for key, name in lines.spec_lines.items() if key in models}
        lines.retain_needed(progress.state.data)

    def is_default_line(self, name: str) -> bool:
        """Whether this is the line of the first model of the spec."""
        return name == self._lines.spec_lines.get(_key(self._progress.spec.models[0]))

    def start(
        self,
        due: DueRun,
        caused_by: str | None,
        start: int,
        model: ModelSpec | None = None,
        requested_offset: int | None = None,
        trace: str | None = None,
    ) -> RunRequested:
        """Start a fresh line at offset `start`, of the champion's model unless another is given."""
        progress = self._progress
        model = model or self._champion_model()
        if due.trigger != "initial" and f"{slug(model)}-{start}" in self._lines.runs:
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
        data = request.data
        self.requests[data.key] = request
        if data.trigger == "drift":
            self._progress.waiting_alert = None  # in a snapshot from before this run, the alert still waits
        if data.trigger == "initial":
            self._lines.spec_lines[_key(data.model)] = data.line
        else:
            self._triggers.restart_counts(self._progress.outcomes)
            self._lines.fresh = data.line
        self._lines.runs[data.line] = request
        self._forget_oldest()
        if data.run not in self.ended:
            self._lines.start(request, self._progress.spec)
        self._lines.retain_needed(self._progress.state.data)

    def _forget_oldest(self) -> None:
        """Forget the oldest runs beyond `RUNS_KEPT`, except of lines that learn or may serve again."""
        needed = {line_of(version) for version in self._progress.state.data.kept} | self._lines.learning.keys()
        unneeded = [key for key, r in self.requests.items() if r.data.line not in needed]
        for key in unneeded[: max(0, len(self.requests) - RUNS_KEPT)]:
            self._lines.runs.pop(self.requests.pop(key).data.line, None)

    def _start_offset(self, due: DueRun) -> int:
        """Feedback means that what is right changes now; other triggers start with the recent outcomes."""
        if due.trigger == "feedback" or not self._progress.recent_offsets:
            return self._progress.position + 1
        return self._progress.recent_offsets[0]

    def _free_name(self, base: str, start: int) -> str:
        name, n = f"{base}-{start}", 2
        while name in self._lines.runs:
            name, n = f"{base}.{n}-{start}", n + 1
        return name

    def _champion_model(self) -> ModelSpec:
        run = self._lines.runs.get(line_of(self._progress.state.data.champion.version))
        return run.data.model if run else self._progress.spec.models[0]


def _key(model: ModelSpec) -> str:
    return model.model_dump_json()
