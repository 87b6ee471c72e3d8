"""The lines of one loop: which of them learn, how they catch up with the log, and what happens when one breaks."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NamedTuple

from everloop_learning.losses import Losses
from everloop_learning.outcome import Outcome
from everloop_learning.step import Step
from everloop_learning.version import line_of
from everloop_models import ArtifactCorrupt, ArtifactUnavailable, ModelSpecInvalid, build
from everloop_schemas.envelope import Fields
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import BASELINE, LoopStateData
from everloop_schemas.training import RunRequested
from everloop_training.domain.tuned_model import is_tuned
from everloop_training.worker.learners.event_factory import EventFactory, requested_line
from everloop_training.worker.learners.learning_line import LearningLine, LineBroken, LoopLine
from everloop_training.worker.learners.predicting_line import LineModel, PredictingLine
from everloop_training.worker.learners.recent_outcomes import RecentOutcomes

MAX_RESTARTS = 5
"""A line that breaks more often has failed for good; one that learns nothing, more often with the same model."""
MODELS_KEPT = 10
"""The models of a line that are remembered: those that were trained last, with which its last outcomes can be predicted
again."""
HISTORY_OFFSETS = 500
"""Offsets of history that a line learns at once."""


class HistoryGap(NamedTuple):
    """Outcomes that a line still has to learn from history: start <= offset < stop."""

    line: str
    start: int
    stop: int


class LineRegistry:
    """The lines of one loop; `learning` are those at work, `runs` the run of every line, so that any can be rebuilt.

    `models` are those that were trained for a line which learns nothing itself, oldest first. `tuned` is, by number of
    a model of the spec, the line of the parameters that the last search found for it.

    A line that breaks starts again without the outcomes that may have broken it, from its last good version or, where
    there is none, from the log; `skipped` holds, per line, what each of its restarts left out. After `MAX_RESTARTS` it
    has failed: its run ends, and it is never built again. A line that starts before the recent outcomes, which a
    snapshot does not hold, needs history: see `gaps`.
    """

    def __init__(self, losses: Losses, events: EventFactory) -> None:
        self.learning: dict[str, LoopLine] = {}
        self.models: dict[str, list[LineModel]] = {}
        self.runs: dict[str, RunRequested] = {}
        self.failed: set[str] = set()
        self.skipped: dict[str, list[frozenset[int]]] = {}
        self.spec_lines: dict[str, str] = {}
        self.tuned: dict[int, str] = {}
        self.fresh, self.previous_champion = BASELINE, BASELINE
        self.next_offset = 0
        self._losses, self._events = losses, events
        self._recent = RecentOutcomes(0)

    def latest_features(self, count: int) -> list[Fields]:
        """The features of the last outcomes that are in memory, oldest first."""
        return self._recent.latest_features(count)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_recent"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._recent = RecentOutcomes(self.next_offset)

    def learn(self, outcome: Outcome) -> dict[str, Step]:
        """Every line that has caught up predicts the outcome and learns it; predictions and losses by name."""
        steps = {}
        for line in list(self.learning.values()):
            if line.caught_up and (step := self._learn(line, outcome)) is not None:
                steps[line.name] = step
        return steps

    def advance(self, outcome: Outcome) -> None:
        """Move on to the next record of the log: every line that has caught up has handled this one."""
        self.next_offset = outcome.offset + 1
        if outcome.learnable:
            self._recent.add(outcome, self._events.dependencies.recent_bytes())
            if outcome.opened:
                self._recent.expire(outcome.opened)

    def start(self, run: RunRequested, spec: LoopSpec, finished: bool = False) -> None:
        """Start the line of a run, or start it over; `finished` where its run has ended before."""
        data = run.data
        line = requested_line(run)
        parts = line, data.trigger, run.revision, spec, run.traceparent
        if data.model.kind != "online":
            models = self.models.setdefault(line.line, [])
            predicting = PredictingLine(*parts, models=models, finished=finished)
            predicting.next_offset = max(data.start_offset, self.next_offset)
            self._start(predicting)
            return
        try:
            model = build(data.model, spec)
        except ModelSpecInvalid as e:
            self.failed.add(line.line)
            self._events.add_line_failed(line, run.revision, data.requested_offset, str(e), run.traceparent)
            self._events.add_run_end(line, run.revision, data.requested_offset, 0, str(e), run.traceparent)
            return
        self._start(LearningLine(*parts, model=model, finished=finished))

    def add_model(self, line: str, new: LineModel) -> None:
        """A line predicts the outcomes after `new.after` with this model."""
        models = self.models.setdefault(line, [])
        if all(known.run != new.run for known in models):
            models.append(new)
            models.sort(key=lambda known: known.after)  # stable: of two at the same offset the later one counts
            del models[:-MODELS_KEPT]

    def forget(self, line: str) -> None:
        """Forget the run of a line, which is not built again."""
        self.runs.pop(line, None)
        self.models.pop(line, None)

    def retain_needed(self, state: LoopStateData) -> None:
        """Learn the lines of spec, champion, candidate, winner, champion before, last fresh and tuned, submissions."""
        versions = [state.champion.version, *([state.candidate.version] if state.candidate else [])]
        needed = {line_of(v) for v in versions} | set(self.spec_lines.values())
        needed |= {self.previous_champion, self.fresh, state.winner or BASELINE}
        needed |= {submission.line for submission in state.submissions}
        self.retain((needed | self._still_tuned(state.spec)) - {BASELINE}, state.spec)

    def _still_tuned(self, spec: LoopSpec) -> set[str]:
        """The lines that searches found for models of the spec as they are now."""
        models = dict(enumerate(spec.models)) if spec.search is not None else {}
        tuned = ((models.get(i), self.runs.get(line)) for i, line in self.tuned.items())
        return {run.data.line for model, run in tuned if model and run and is_tuned(run.data.model, model)}

    def retain(self, needed: set[str], spec: LoopSpec) -> None:
        """Stop the lines that are not needed any more, and rebuild those that are needed again."""
        needed = needed - self.failed
        for name in [n for n in self.learning if n not in needed]:
            line = self.learning.pop(name)
            if not line.finished:
                self._events.add_run_finished(line, "replaced before it was trained")
        for name in sorted(needed - set(self.learning)):
            if name in self.runs:
                self.start(self.runs[name], spec, finished=True)

    def gaps(self) -> list[HistoryGap]:
        """The history that each line needs next, of those that have not caught up and can go on."""
        behind = [line for line in self.learning.values() if not line.caught_up and not _is_waiting(line)]
        return [
            HistoryGap(line.name, line.next_offset, min(line.next_offset + HISTORY_OFFSETS, self.next_offset))
            for line in behind
        ]

    def learn_history(self, gap: HistoryGap, outcomes: Iterable[Outcome]) -> None:
        """A line learns the loop's outcomes in a gap; a gap that no longer fits changes nothing."""
        line = self.learning.get(gap.line)
        if line is None or line.caught_up or line.next_offset != gap.start:
            return
        if self._learn_all(line, [outcome for outcome in outcomes if outcome.learnable]):
            line.next_offset = gap.stop
            self._catch_up(line)

    def go_on(self) -> None:
        """Let lines that wait for their model go on, once it can be loaded."""
        for line in [line for line in self.learning.values() if _is_waiting(line)]:
            if self._prepare(line, line.next_offset):
                self._catch_up(line)

    def fail(self, line: LoopLine, reason: str) -> None:
        """Remove a line for good: it is never built again, and its run has failed if it was not over."""
        self.failed.add(line.name)
        self.learning.pop(line.name, None)
        self._events.add_line_failed(line.line, line.revision, line.offset, reason, line.trace)
        if not line.finished:
            self._events.add_run_finished(line, reason)

    def _start(self, line: LoopLine) -> None:
        line.skipped = frozenset().union(*self.skipped.get(line.name, ()))
        self.learning[line.name] = line
        self._catch_up(line)

    def _catch_up(self, line: LoopLine) -> None:
        """Learn the recent outcomes, where they reach back to the line's next offset."""
        self._recent.expire(self._events.dependencies.now().timestamp())
        if line.next_offset < self._recent.complete_from:
            return
        if self._learn_all(line, self._recent.since(line.next_offset)):
            line.caught_up = True

    def _learn_all(self, line: LoopLine, outcomes: Iterable[Outcome]) -> bool:
        """Whether the line has handled all of these; not where it was replaced, has failed, or waits for its model."""
        for outcome in outcomes:
            self._learn(line, outcome)
            if self.learning.get(line.name) is not line or _is_waiting(line):
                return False
        return True

    def _learn(self, line: LoopLine, outcome: Outcome) -> Step | None:
        """The line's step; None where it skips this outcome, or breaks on it and is replaced in `learning` or fails."""
        if isinstance(line, PredictingLine):
            return self._predict(line, outcome)
        assert isinstance(line, LearningLine), "the lines that do not learn predict"
        if outcome.offset in line.skipped:
            line.next_offset = outcome.offset + 1
            return None
        self._events.dependencies.mark_in_progress(self._events.partition, outcome.offset)
        try:
            return line.predict_then_learn(outcome, self._losses)
        except LineBroken as e:
            self._restart(line, outcome.offset, e)
            return None

    def _predict(self, line: PredictingLine, outcome: Outcome) -> Step | None:
        """The step of a line that learns nothing; None where it has no model yet, waits for it, or breaks.

        Without learning nothing of an outcome stays in it: it has nothing to start again from, and goes on with the
        next outcome.
        """
        if not self._prepare(line, outcome.offset):
            return None
        line.next_offset = outcome.offset + 1
        if line.model is None:
            return None
        self._events.dependencies.mark_in_progress(self._events.partition, outcome.offset)
        try:
            return line.predict(outcome, self._losses)
        except LineBroken as e:
            line.failures += 1
            if line.failures > MAX_RESTARTS:
                self.fail(line, f"{e.reason}; its model had broken on {MAX_RESTARTS} outcomes before")
            else:
                skipped = [outcome.offset]
                self._events.add_line_failed(line.line, line.revision, outcome.offset, e.reason, line.trace, skipped)
            return None

    def _prepare(self, line: LoopLine, offset: int) -> bool:
        """Let a line have the model for an offset; where it cannot be loaded now, the line waits and is behind."""
        if not isinstance(line, PredictingLine):
            return True
        try:
            line.load_for(offset, self._events.dependencies.load_model)
        except ArtifactCorrupt as e:
            self.fail(line, f"its model cannot be loaded: {e.detail}")
            return False
        if line.waiting:
            line.caught_up, line.next_offset = False, offset
        return not line.waiting

    def _restart(self, line: LearningLine, offset: int, broken: LineBroken) -> None:
        restarts = self.skipped.setdefault(line.name, [])
        if len(restarts) >= MAX_RESTARTS:
            self.fail(line, f"{broken.reason}; it had started again {MAX_RESTARTS} times before")
            return
        restarts.append(broken.suspects)
        suspects = sorted(broken.suspects)
        self._events.add_line_failed(line.line, line.revision, offset, broken.reason, line.trace, suspects)
        model = build(line.line.model, line.spec)
        parts = line.line, line.trigger, line.revision, line.spec, line.trace
        restarted = LearningLine(*parts, model=model, finished=line.finished)
        for point in (p for p in reversed(line.restart_points) if p.offset < suspects[0]):
            with suppress(ArtifactUnavailable, ArtifactCorrupt):
                restarted.restart_from(point, self._events.dependencies.load_version(point.saved))
                break
        self._start(restarted)


def _is_waiting(line: LoopLine) -> bool:
    return isinstance(line, PredictingLine) and line.waiting
