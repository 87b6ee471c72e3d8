"""What a loop's learner says: events whose ids follow from their causes, kept until they are taken."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Literal

from everloop_models import RANDOM_SEED, OnlineModel, library_versions
from everloop_schemas.envelope import Event, derived_id
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.training import (
    ChallengeUpdated,
    ChallengeUpdatedData,
    Line,
    LineFailed,
    LineFailedData,
    Manifest,
    ModelTrained,
    ModelTrainedData,
    RunFinished,
    RunFinishedData,
    RunRequested,
    RunRequestedData,
)
from everloop_training.domain.challenge import Challenge
from everloop_training.domain.lines import LearningLine, SavedVersion
from everloop_training.domain.triggers import Cause

log = logging.getLogger(__name__)
REASON = 500
RING_BYTES = 4_000_000


@dataclass(frozen=True)
class Tools:
    """What a learner is given: the clock, and ways to keep a model as a version and to have it back.

    Both raise ArtifactUnavailable, the second also ArtifactCorrupt. `at` is told which
    outcome a line is about to learn, by partition and offset. `ring_bytes` says how many bytes of recent outcomes it
    may hold at hand.
    """

    now: Callable[[], datetime]
    keep: Callable[[str, str, OnlineModel], SavedVersion]
    recall: Callable[[SavedVersion], OnlineModel]
    at: Callable[[int, int], None] = lambda partition, offset: None
    ring_bytes: Callable[[], int] = lambda: RING_BYTES


def run_id(loop: str, key: str, life: int = 1) -> str:
    """The id of the run of a key in one life of a loop."""
    return derived_id(loop, "run", key) if life == 1 else derived_id(loop, "run", life, key)


@dataclass
class Voice:
    """Makes the events of one loop and holds them, in order."""

    loop: str
    partition: int
    tools: Tools
    events: list[Event] = field(default_factory=list)

    def requested(
        self, revision: int, cause: Cause, line: Line, caused_by: str | None, trace: str | None
    ) -> RunRequested:
        """A run begins (not held: whoever asked says it); the same cause is the same run."""
        return RunRequested(
            id=derived_id(self.loop, RunRequested.type_name(), line.run),
            time=self.tools.now(),
            subject=line.run,
            loop=self.loop,
            revision=revision,
            causationid=caused_by,
            correlationid=line.run,
            traceparent=trace,
            data=RunRequestedData(
                key=cause.key, trigger=cause.trigger, reason=cause.reason, **{n: getattr(line, n) for n in _OF_A_LINE}
            ),
        )

    def finished(self, line: LearningLine, failure: str | None = None) -> None:
        """A line's run has ended: it has caught up, or failed."""
        self.ended(line.line, line.revision, line.offset, line.outcomes, failure, line.trace)

    def ended(
        self, line: Line, revision: int, offset: int, outcomes: int, failure: str | None, trace: str | None
    ) -> None:
        """A run has ended at an offset."""
        if failure:
            log.warning("line ended", extra={"loop": self.loop, "line": line.line, "run": line.run, "reason": failure})
        data = RunFinishedData(
            run=line.run,
            line=line.line,
            state="failed" if failure else "trained",
            offset=offset,
            outcomes=outcomes,
            reason=failure,
        )
        self.events.append(
            RunFinished(
                id=derived_id(self.loop, RunFinished.type_name(), line.run),
                time=self.tools.now(),
                subject=line.run,
                loop=self.loop,
                revision=revision,
                correlationid=line.run,
                traceparent=trace,
                data=data,
            )
        )

    def failed(
        self, line: Line, revision: int, offset: int, reason: str, trace: str | None, skipped: Sequence[int] = ()
    ) -> None:
        """A line broke at an offset: it starts again without the offsets in `skipped`, or with none is out for good."""
        state: Literal["restarted", "ended"] = "restarted" if skipped else "ended"
        said = {"loop": self.loop, "line": line.line, "offset": offset, "state": state, "reason": reason}
        log.warning("line failed", extra=said)
        self.events.append(
            LineFailed(
                id=derived_id(self.loop, LineFailed.type_name(), line.line, offset, state),
                time=self.tools.now(),
                subject=line.line,
                loop=self.loop,
                revision=revision,
                correlationid=line.run,
                traceparent=trace,
                data=LineFailedData(
                    line=line.line,
                    run=line.run,
                    state=state,
                    offset=offset,
                    reason=reason[:REASON],
                    skipped=tuple(skipped),
                ),
            )
        )

    def trained(self, line: LearningLine, saved: SavedVersion, reason: Literal["initial", "refresh", "gate"]) -> None:
        """A line has become a version."""
        data = ModelTrainedData(
            version=saved.version,
            line=line.name,
            offset=line.offset,
            run=line.line.run,
            reason=reason,
            uri=saved.uri,
            sha256=saved.sha256,
            size=saved.size,
            signature=line.model.signature,
            manifest=self._manifest(line),
        )
        self.events.append(
            ModelTrained(
                id=derived_id(self.loop, ModelTrained.type_name(), saved.version, reason),
                time=self.tools.now(),
                subject=saved.version,
                loop=self.loop,
                revision=line.revision,
                correlationid=line.line.run,
                traceparent=line.trace,
                data=data,
            )
        )

    def challenged(self, revision: int, challenge: Challenge) -> None:
        """The losses of the lines on a range of outcomes.

        A replay may know of another line by then: that is another event, and the same losses are the same event.
        """
        first, last = challenge.offsets[0], challenge.offsets[-1]
        losses = {name: tuple(values) for name, values in sorted(challenge.padded().items())}
        digest = sha256(repr(losses).encode()).hexdigest()
        data = ChallengeUpdatedData(
            offsets=tuple(challenge.offsets),
            losses=losses,
            lines=tuple(line for _, line in sorted(challenge.lines.items())),
        )
        self.events.append(
            ChallengeUpdated(
                id=derived_id(self.loop, ChallengeUpdated.type_name(), first, last, digest),
                time=self.tools.now(),
                subject=f"{first}-{last}",
                loop=self.loop,
                revision=revision,
                data=data,
            )
        )

    def _manifest(self, line: LearningLine) -> Manifest:
        return Manifest(
            loop_revision=line.revision,
            model=line.line.model,
            topic=OutcomeObserved.topic.name,
            partition=self.partition,
            start_offset=line.line.start_offset,
            end_offset=line.offset,
            outcomes=line.outcomes,
            seed=RANDOM_SEED,
            libraries=library_versions(line.model.format),
            skipped=tuple(sorted(o for o in line.skipped if o <= line.offset)),
            format=line.model.format,
        )


_OF_A_LINE = ("run", "line", "model", "start_offset", "requested_offset")
