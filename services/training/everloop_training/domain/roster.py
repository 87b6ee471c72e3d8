"""The lines of a loop that are learning: brought up, caught up with the log, retired, or out for good."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple

from everloop_models import Losses, ModelBroken, ModelSpecInvalid, build
from everloop_schemas.loop import LoopSpec
from everloop_schemas.training import Line, RunRequested
from everloop_training.domain.lines import LearningLine
from everloop_training.domain.outcome import Outcome
from everloop_training.domain.voice import Voice

WARM = 30
RING = 3000
CHUNK = 500


class Gap(NamedTuple):
    """Outcomes that a line still has to learn from history: start <= offset < stop."""

    line: str
    start: int
    stop: int


class Roster:
    """Who is learning. `definitions` are all lines there ever were, so that any can be brought back.

    A line that raises has failed: its run ends, and it is never built again, because it would raise again.
    The last `RING` outcomes are kept at hand; a line that starts earlier asks for history by `gaps`.
    """

    def __init__(self, losses: Losses, voice: Voice) -> None:
        self.lines: dict[str, LearningLine] = {}
        self.definitions: dict[str, RunRequested] = {}
        self.failed: set[str] = set()
        self.losses = losses
        self.next = 0
        self.attach(voice)

    def attach(self, voice: Voice) -> None:
        """Take up work, new or out of a snapshot, where the recent outcomes are not held."""
        self.voice = voice
        self._recent: deque[Outcome] = deque()
        self._recent_from = self.next

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if k not in ("voice", "_recent", "_recent_from")}

    def learn(self, outcome: Outcome) -> dict[str, float]:
        """Every line that has caught up predicts and learns; their losses by name."""
        losses = {}
        for line in list(self.lines.values()):
            if line.joined and (loss := self._step(line, outcome)) is not None:
                losses[line.name] = loss
        return losses

    def passed(self, outcome: Outcome) -> None:
        """Every line has had this record of the log (learnable or not)."""
        self.next = outcome.offset + 1
        if outcome.learnable:
            self._recent.append(outcome)
            if len(self._recent) > RING:
                self._recent_from = self._recent.popleft().offset + 1

    def bring_up(self, request: RunRequested, spec: LoopSpec, finished: bool = False) -> None:
        """Start the line of a run, or start it over; `finished` where its run has ended before."""
        data = request.data
        line = Line.model_validate(data.model_dump())
        try:
            model = build(data.model, spec)
        except ModelSpecInvalid as e:
            self.failed.add(line.line)
            self.voice.ended(line, request.revision, data.requested_offset, 0, str(e), request.traceparent)
            return
        learning = LearningLine(line, model, data.trigger, request.revision, request.traceparent, finished=finished)
        self.lines[line.line] = learning
        self._catch_up(learning)

    def keep(self, wanted: set[str], spec: LoopSpec) -> None:
        """Retire the lines nobody needs any more, bring back those that somebody needs again."""
        wanted = wanted - self.failed
        for name in [n for n in self.lines if n not in wanted]:
            line = self.lines.pop(name)
            if not line.finished:
                self.voice.finished(line, "replaced before it was trained")
        for name in sorted(wanted - set(self.lines)):
            if name in self.definitions:
                self.bring_up(self.definitions[name], spec, finished=True)

    def gaps(self) -> list[Gap]:
        """What each line that has not caught up needs next from history."""
        waiting = [line for line in self.lines.values() if not line.joined]
        return [Gap(line.name, line.next, min(line.next + CHUNK, self.next)) for line in waiting]

    def fill(self, gap: Gap, outcomes: Iterable[Outcome]) -> None:
        """The loop's outcomes in a gap, from history; one that no longer fits changes nothing."""
        line = self.lines.get(gap.line)
        if line is None or line.joined or line.next != gap.start:
            return
        for outcome in outcomes:
            if outcome.learnable and self._step(line, outcome) is None:
                return
        line.next = gap.stop
        self._catch_up(line)

    def fail(self, line: LearningLine, reason: str) -> None:
        """A line is out for good."""
        self.failed.add(line.name)
        self.lines.pop(line.name, None)
        self.voice.finished(line, reason)

    def _catch_up(self, line: LearningLine) -> None:
        if line.next < self._recent_from:
            return
        for outcome in [o for o in self._recent if o.offset >= line.next]:
            if self._step(line, outcome) is None:
                return
        line.joined = True

    def _step(self, line: LearningLine, outcome: Outcome) -> float | None:
        try:
            return line.step(outcome, self.losses)
        except ModelBroken as e:
            self.fail(line, f"at offset {outcome.offset}: {e.detail}")
            return None
