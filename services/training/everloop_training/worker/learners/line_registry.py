"""The lines of one loop: which of them learn, how they catch up with the log, and what happens when one breaks."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NamedTuple

from everloop_learning.losses import Losses
from everloop_learning.outcome import Outcome
from everloop_learning.version import line_of
from everloop_models import ArtifactCorrupt, ArtifactUnavailable, ModelSpecInvalid, build
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import BASELINE, LoopStateData
from everloop_schemas.training import Line, RunRequested
from everloop_training.worker.learners.event_factory import EventFactory
from everloop_training.worker.learners.learning_line import LearningLine, LineBroken
from everloop_training.worker.learners.recent_outcomes import RecentOutcomes

MAX_RESTARTS = 5
"""A line that breaks more often has failed for good."""
HISTORY_OFFSETS = 500
"""Offsets of history that a line learns at once."""


class HistoryGap(NamedTuple):
    """Outcomes that a line still has to learn from history: start <= offset < stop."""

    line: str
    start: int
    stop: int


class LineRegistry:
    """The lines of one loop; `learning` are those at work, `runs` the run of every line, so that any can be rebuilt.

    A line that breaks starts again without the outcomes that may have broken it, from its last good version or, where
    there is none, from the log; `skipped` holds, per line, what each of its restarts left out. After `MAX_RESTARTS` it
    has failed: its run ends, and it is never built again. A line that starts before the recent outcomes, which a
    snapshot does not hold, needs history: see `gaps`.
    """

    def __init__(self, losses: Losses, events: EventFactory) -> None:
        self.learning: dict[str, LearningLine] = {}
        self.runs: dict[str, RunRequested] = {}
        self.failed: set[str] = set()
        self.skipped: dict[str, list[frozenset[int]]] = {}
        self.spec_lines: dict[str, str] = {}
        self.fresh, self.previous_champion = BASELINE, BASELINE
        self.next_offset = 0
        self._losses, self._events = losses, events
        self._recent = RecentOutcomes(0)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_recent"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._recent = RecentOutcomes(self.next_offset)

    def learn(self, outcome: Outcome) -> dict[str, float]:
        """Every line that has caught up predicts the outcome and learns it; their losses by name."""
        losses = {}
        for line in list(self.learning.values()):
            if line.caught_up and (loss := self._learn(line, outcome)) is not None:
                losses[line.name] = loss
        return losses

    def advance(self, outcome: Outcome) -> None:
        """Move on to the next record of the log: every line that has caught up has handled this one."""
        self.next_offset = outcome.offset + 1
        if outcome.learnable:
            self._recent.add(outcome, self._events.dependencies.recent_bytes())

    def start(self, run: RunRequested, spec: LoopSpec, finished: bool = False) -> None:
        """Start the line of a run, or start it over; `finished` where its run has ended before."""
        data = run.data
        line = Line.model_validate(data.model_dump())
        try:
            model = build(data.model, spec)
        except ModelSpecInvalid as e:
            self.failed.add(line.line)
            self._events.add_line_failed(line, run.revision, data.requested_offset, str(e), run.traceparent)
            self._events.add_run_end(line, run.revision, data.requested_offset, 0, str(e), run.traceparent)
            return
        self._start(LearningLine(line, model, data.trigger, run.revision, spec, run.traceparent, finished=finished))

    def retain_needed(self, state: LoopStateData) -> None:
        """Learn the lines of spec, champion, candidate, winner, the champion before, and the last fresh line."""
        versions = [state.champion.version, *([state.candidate.version] if state.candidate else [])]
        needed = {line_of(v) for v in versions} | set(self.spec_lines.values())
        needed |= {self.previous_champion, self.fresh, state.winner or BASELINE}
        self.retain(needed - {BASELINE}, state.spec)

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
        """The history that each line needs next, of those that have not caught up."""
        behind = [line for line in self.learning.values() if not line.caught_up]
        return [
            HistoryGap(line.name, line.next_offset, min(line.next_offset + HISTORY_OFFSETS, self.next_offset))
            for line in behind
        ]

    def learn_history(self, gap: HistoryGap, outcomes: Iterable[Outcome]) -> None:
        """A line learns the loop's outcomes in a gap; a gap that no longer fits changes nothing."""
        line = self.learning.get(gap.line)
        if line is None or line.caught_up or line.next_offset != gap.start:
            return
        for outcome in outcomes:
            if outcome.learnable:
                self._learn(line, outcome)
                if self.learning.get(line.name) is not line:
                    return
        line.next_offset = gap.stop
        self._catch_up(line)

    def fail(self, line: LearningLine, reason: str) -> None:
        """Remove a line for good: it is never built again, and its run has failed if it was not over."""
        self.failed.add(line.name)
        self.learning.pop(line.name, None)
        self._events.add_line_failed(line.line, line.revision, line.offset, reason, line.trace)
        if not line.finished:
            self._events.add_run_finished(line, reason)

    def _start(self, line: LearningLine) -> None:
        line.skipped = frozenset().union(*self.skipped.get(line.name, ()))
        self.learning[line.name] = line
        self._catch_up(line)

    def _catch_up(self, line: LearningLine) -> None:
        """Learn the recent outcomes, where they reach back to the line's next offset."""
        if line.next_offset < self._recent.complete_from:
            return
        for outcome in self._recent.since(line.next_offset):
            self._learn(line, outcome)
            if self.learning.get(line.name) is not line:
                return
        line.caught_up = True

    def _learn(self, line: LearningLine, outcome: Outcome) -> float | None:
        """The line's loss; None where it skips this outcome, or breaks on it and is replaced in `learning` or fails."""
        if outcome.offset in line.skipped:
            line.next_offset = outcome.offset + 1
            return None
        self._events.dependencies.mark_in_progress(self._events.partition, outcome.offset)
        try:
            return line.predict_then_learn(outcome, self._losses)
        except LineBroken as e:
            self._restart(line, outcome.offset, e)
            return None

    def _restart(self, line: LearningLine, offset: int, broken: LineBroken) -> None:
        restarts = self.skipped.setdefault(line.name, [])
        if len(restarts) >= MAX_RESTARTS:
            self.fail(line, f"{broken.reason}; it had started again {MAX_RESTARTS} times before")
            return
        restarts.append(broken.suspects)
        suspects = sorted(broken.suspects)
        self._events.add_line_failed(line.line, line.revision, offset, broken.reason, line.trace, suspects)
        model = build(line.line.model, line.spec)
        restarted = LearningLine(
            line.line, model, line.trigger, line.revision, line.spec, line.trace, finished=line.finished
        )
        for point in (p for p in reversed(line.restart_points) if p.offset < suspects[0]):
            with suppress(ArtifactUnavailable, ArtifactCorrupt):
                restarted.restart_from(point, self._events.dependencies.load_version(point.saved))
                break
        self._start(restarted)
