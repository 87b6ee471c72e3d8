"""Lines become versions: stored, announced, or owed until there is room."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any, Literal

from everloop_models import ArtifactUnavailable, ModelBroken
from everloop_schemas.registry import LoopState
from everloop_training.domain.lines import LearningLine
from everloop_training.domain.roster import Roster
from everloop_training.domain.voice import Voice

log = logging.getLogger(__name__)
RETRY = timedelta(seconds=5)


class Versions:
    """Makes versions of a loop's lines. What cannot be stored is owed and tried again; a refresh is let go."""

    def __init__(self, roster: Roster, voice: Voice) -> None:
        self.roster = roster
        self.owed: dict[str, Literal["initial", "gate"]] = {}
        self.winner: str | None = None
        self.attach(voice)

    def attach(self, voice: Voice) -> None:
        """Take up work, new or out of a snapshot."""
        self.voice = voice
        self._retry_at: datetime | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if k not in ("voice", "_retry_at")}

    def heed(self, state: LoopState) -> None:
        """The registry waits for a fresh version of the line that won the gate: owe it one."""
        winner = state.data.winner if state.data.stage == "training" else None
        if winner and winner != self.winner:
            self.owed[winner] = "gate"
        self.owed = {name: why for name, why in self.owed.items() if why != "gate" or name == winner}
        self.winner = winner

    def pay(self) -> None:
        """Make what is owed, of the lines as they are now."""
        now = self.voice.tools.now()
        if not self.owed or (self._retry_at and now < self._retry_at):
            return
        for name, reason in list(self.owed.items()):
            line = self.roster.lines.get(name)
            if line and line.joined and line.outcomes:
                self.make(line, reason)

    def make(self, line: LearningLine, reason: Literal["initial", "refresh", "gate"]) -> None:
        """Make a version of a line as it is now, and say so."""
        tools, loop = self.voice.tools, self.voice.loop
        self.owed.pop(line.name, None)
        try:
            saved = line.saved
            if saved is None:
                line.keep(saved := tools.keep(loop, line.version, line.model))
        except ArtifactUnavailable as e:
            log.warning("version not stored", extra={"loop": loop, "version": line.version, "reason": e.detail})
            if reason != "refresh":
                self.owed[line.name] = reason
                self._retry_at = tools.now() + RETRY
        except ModelBroken as e:
            self.roster.fail(line, e.detail)
        else:
            self.voice.trained(line, saved, reason)
