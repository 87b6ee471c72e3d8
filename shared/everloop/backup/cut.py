"""Where to cut the logs of an installation that goes on working, so that no effect is kept without its cause."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from everloop_schemas.catalogue import TOPICS
from everloop_schemas.envelope import FOREVER, Topic
from everloop_schemas.feature import EntityState, OutcomeObserved
from everloop_schemas.registry import Decided, LoopState
from everloop_schemas.training import ModelTrained

Ends = dict[tuple[str, int], int]
"""The offset before which a partition is kept, by topic (without prefix) and partition."""
ASK = Callable[[Sequence[Topic]], Awaitable[Ends]]
TIMES = 100

FOREVER_TOPICS = [topic for topic in TOPICS.values() if topic.compacted or topic.retention_ms == FOREVER]
DECISIONS = [Decided.topic, LoopState.topic]
LAST = [OutcomeObserved.topic, EntityState.topic]
EFFECTS_FIRST = [
    *DECISIONS,
    *(topic for topic in FOREVER_TOPICS if topic not in DECISIONS + LAST),
    *LAST,
]
"""The order in which the ends are asked for: decisions follow from versions and losses, those from outcomes."""
ARTIFACTS_IN = ModelTrained.topic


@dataclass(frozen=True)
class Cut:
    """The ends, and whether no decision was made while they were asked for."""

    ends: Ends
    settled: bool


async def cut(ends_of: ASK, there: Sequence[Topic]) -> Cut:
    """Ask for the ends of the topics that are there, effects first.

    Between two equal looks at the decisions none was made: then no outcome carries a revision of the loop that
    the decisions before the cut do not know. Where decisions are made all the time, the last try counts.
    """
    decisions = [topic for topic in EFFECTS_FIRST if topic in there and topic in DECISIONS]
    others = [topic for topic in EFFECTS_FIRST if topic in there and topic not in DECISIONS]
    for _ in range(TIMES):
        before, ends = await ends_of(decisions), Ends()
        for topic in others:
            ends |= await ends_of([topic])
        if await ends_of(decisions) == before:
            return Cut(before | ends, settled=True)
    return Cut(before | ends, settled=False)


def untold(decided: Mapping[str, int], states: Mapping[str, int]) -> str | None:
    """The first loop whose state on the log is not that after its last decision, None where all are told.

    Each decision is followed by the state at once; a cut between the two would leave the state behind for good.
    Both mappings: loop to sequence.
    """
    return next((loop for loop in sorted(decided) if states.get(loop) != decided[loop]), None)
