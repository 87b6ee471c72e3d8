"""The offsets at which a backup cuts the logs, so that it keeps no effect without its cause."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from everloop_schemas.catalogue import TOPICS
from everloop_schemas.envelope import FOREVER, Topic
from everloop_schemas.feature import EntityState, OutcomeObserved
from everloop_schemas.registry import Decided, LoopState
from everloop_schemas.search import SearchFinished
from everloop_schemas.training import ModelTrained, RunFinished, RunRequested

Ends = dict[tuple[str, int], int]
"""The offset before which a partition is kept, by topic (without prefix) and partition."""
AskEnds = Callable[[Sequence[Topic]], Awaitable[Ends]]
MAX_CUTS = 100
"""How often the cut is repeated while decisions are being made."""

FOREVER_TOPICS = [topic for topic in TOPICS.values() if topic.compacted or topic.retention_ms == FOREVER]
DECISIONS = [Decided.topic, LoopState.topic]
SEARCHED = [SearchFinished.topic]
LAST = [OutcomeObserved.topic, EntityState.topic]
EFFECTS_FIRST = [
    *DECISIONS,
    *SEARCHED,
    *(topic for topic in FOREVER_TOPICS if topic not in DECISIONS + SEARCHED + LAST),
    *LAST,
]
"""The order in which the ends are asked for: decisions follow from versions and losses, those from outcomes.

The end of a search names the run that it has started, so it is kept only with that.
"""
ARTIFACTS_IN = (ModelTrained.topic, RunRequested.topic, RunFinished.topic)
"""Beside the decisions, which name those of models that came in from elsewhere."""


@dataclass(frozen=True)
class Cut:
    """The ends, and whether no decision was made while they were asked for."""

    ends: Ends
    settled: bool


async def cut(ends_of: AskEnds, there: Sequence[Topic]) -> Cut:
    """Ask for the ends of the topics that are there, effects first.

    If the ends of the decisions are equal before and after, none was made meanwhile: then no outcome carries a
    revision that the decisions before the cut do not have. The last of MAX_CUTS attempts counts in any case.
    """
    decisions = [topic for topic in EFFECTS_FIRST if topic in there and topic in DECISIONS]
    others = [topic for topic in EFFECTS_FIRST if topic in there and topic not in DECISIONS]
    for _ in range(MAX_CUTS):
        before, ends = await ends_of(decisions), Ends()
        for topic in others:
            ends |= await ends_of([topic])
        if await ends_of(decisions) == before:
            return Cut(before | ends, settled=True)
    return Cut(before | ends, settled=False)


def loop_without_state(decided: Mapping[str, int], states: Mapping[str, int]) -> str | None:
    """The first loop whose last decision is not followed by its state; None where every state is there.

    The registry publishes the state after each decision; a cut between the two would lose the state for good.
    Both mappings: loop to sequence.
    """
    return next((loop for loop in sorted(decided) if states.get(loop) != decided[loop]), None)
