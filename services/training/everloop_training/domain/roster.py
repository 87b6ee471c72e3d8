"""The lines of a loop that are learning: brought up, caught up with the log, retired, or out for good."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NamedTuple

from everloop_models import ArtifactCorrupt, ArtifactUnavailable, ModelSpecInvalid, build
from everloop_models.losses import Losses
from everloop_schemas.loop import LoopSpec
from everloop_schemas.training import Line, RunRequested
from everloop_training.domain.lines import LearningLine, LineBroken
from everloop_training.domain.outcome import Outcome
from everloop_training.domain.voice import Voice

WARM = 30
RESTARTS = 5
"""So often a line starts again without what broke it; one that goes on breaking is out for good."""
RING = 3000
CHUNK = 500


class Gap(NamedTuple):
    """Outcomes that a line still has to learn from history: start <= offset < stop."""

    line: str
    start: int
    stop: int


class Roster:
    """Who is learning. `definitions` are all lines there ever were, so that any can be brought back.

    A line that raises starts again without the outcomes that may be to blame, from its last good version or, where
    there is none, from the log. After `RESTARTS` it has failed: its run ends, and it is never built again. `skipped`
    says for each line which offsets each of its restarts left out. The last `RING` outcomes, within the bytes that the
    tools allow, are kept at hand; a line that starts earlier asks for history by `gaps`.
    """

    def __init__(self, losses: Losses, voice: Voice) -> None:
        self.lines: dict[str, LearningLine] = {}
        self.definitions: dict[str, RunRequested] = {}
        self.failed: set[str] = set()
        self.skipped: dict[str, list[frozenset[int]]] = {}
        self.losses = losses
        self.next = 0
        self.attach(voice)

    def attach(self, voice: Voice) -> None:
        """Take up work, new or out of a snapshot, where the recent outcomes are not held."""
        self.voice = voice
        self._recent: deque[Outcome] = deque()
        self._recent_bytes = 0
        self._recent_from = self.next

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if k not in ("voice", "_recent", "_recent_bytes", "_recent_from")}

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
            self._recent_bytes += outcome.size
            while len(self._recent) > RING or self._recent_bytes > self.voice.tools.ring_bytes():
                oldest = self._recent.popleft()
                self._recent_bytes -= oldest.size
                self._recent_from = oldest.offset + 1

    def bring_up(self, request: RunRequested, spec: LoopSpec, finished: bool = False) -> None:
        """Start the line of a run, or start it over; `finished` where its run has ended before."""
        data = request.data
        line = Line.model_validate(data.model_dump())
        try:
            model = build(data.model, spec)
        except ModelSpecInvalid as e:
            self.failed.add(line.line)
            self.voice.failed(line, request.revision, data.requested_offset, str(e), request.traceparent)
            self.voice.ended(line, request.revision, data.requested_offset, 0, str(e), request.traceparent)
            return
        self._start(
            LearningLine(line, model, data.trigger, request.revision, spec, request.traceparent, finished=finished)
        )

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
            if outcome.learnable:
                self._step(line, outcome)
                if self.lines.get(line.name) is not line:
                    return
        line.next = gap.stop
        self._catch_up(line)

    def fail(self, line: LearningLine, reason: str) -> None:
        """A line is out for good."""
        self.failed.add(line.name)
        self.lines.pop(line.name, None)
        self.voice.failed(line.line, line.revision, line.offset, reason, line.trace)
        if not line.finished:
            self.voice.finished(line, reason)

    def _start(self, line: LearningLine) -> None:
        line.skipped = frozenset().union(*self.skipped.get(line.name, ()))
        self.lines[line.name] = line
        self._catch_up(line)

    def _catch_up(self, line: LearningLine) -> None:
        if line.next < self._recent_from:
            return
        for outcome in [o for o in self._recent if o.offset >= line.next]:
            self._step(line, outcome)
            if self.lines.get(line.name) is not line:
                return
        line.joined = True

    def _step(self, line: LearningLine, outcome: Outcome) -> float | None:
        """The line's loss; None where it skips this outcome, or broke on it and is another line object now, or none."""
        if outcome.offset in line.skipped:
            line.next = outcome.offset + 1
            return None
        self.voice.tools.at(self.voice.partition, outcome.offset)
        try:
            return line.step(outcome, self.losses)
        except LineBroken as e:
            self._restart(line, outcome.offset, e)
            return None

    def _restart(self, line: LearningLine, offset: int, broken: LineBroken) -> None:
        restarts = self.skipped.setdefault(line.name, [])
        if len(restarts) >= RESTARTS:
            self.fail(line, f"{broken.reason}; it had started again {RESTARTS} times before")
            return
        restarts.append(broken.suspects)
        self.voice.failed(line.line, line.revision, offset, broken.reason, line.trace, sorted(broken.suspects))
        again = LearningLine(
            line.line,
            build(line.line.model, line.spec),
            line.trigger,
            line.revision,
            line.spec,
            line.trace,
            finished=line.finished,
        )
        for kept in (k for k in reversed(line.kept) if k.offset < min(broken.suspects)):
            with suppress(ArtifactUnavailable, ArtifactCorrupt):
                again.back_to(kept, self.voice.tools.recall(kept.saved))
                again.kept = (kept,)
                break
        self._start(again)
