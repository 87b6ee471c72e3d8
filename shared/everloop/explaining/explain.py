"""Puts together what is known of a past prediction, and what contradicts its record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from everloop.explaining.answer import Answer, find_answer, states_before
from everloop.explaining.origin import VersionOrigin, find_version_origin
from everloop.explaining.record import Recorded
from everloop.explaining.replay import NO_ARTIFACT, Replay, replay
from everloop.lineage.collect import Ask
from everloop.local.discovery import Installation
from everloop.wire import loop_path
from everloop_schemas.registry import BASELINE
from everloop_schemas.serving import PredictionMade


@dataclass(frozen=True)
class Explained:
    """A prediction, the state that answered (None where none explains it), its version's origin, and its replay."""

    found: Recorded
    answer: Answer | None
    origin: VersionOrigin | None
    replay: Replay

    @property
    def event(self) -> PredictionMade:
        """The record."""
        return self.found.event

    @property
    def contradictions(self) -> Sequence[str]:
        """What does not fit the record."""
        made, wrong = self.event.data, list[str]()
        if self.answer is None:
            told = f"{made.version!r:.200} as {made.role} with propensity {made.propensity:g}"
            wrong.append(f"no state of {self.event.loop} until then gives version {told}")
        if self.replay.identical is False:
            wrong.append(f"{made.version} is not proven: {self.replay.detail}")
        return wrong


async def explain(installation: Installation, found: Recorded, ask: Ask) -> Explained:
    """Explain the prediction of a record; raises NotExplained, or EverloopError where a service does not answer."""
    event, path = found.event, loop_path(found.event.loop, "history")
    decisions = ask("registry", f"{path}?{urlencode({'as_of': event.time.isoformat()})}")["decisions"]
    answer = find_answer(event, states_before(event.loop, event.time, decisions, ask))
    if event.data.version == BASELINE:
        return Explained(found, answer, None, NO_ARTIFACT)
    origin = find_version_origin(event.loop, event.data.version, event.time, decisions, ask)
    return Explained(found, answer, origin, await replay(installation, event, origin.registered))
