"""Makes versions of a loop's lines: stored and published, or owed until they can be stored."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any, Literal

from everloop_models import ArtifactCorrupt, ArtifactUnavailable, ModelBroken
from everloop_models.explain import IMPORTANCE_ROWS, importance_of
from everloop_schemas.registry import LoopState, LoopStateData
from everloop_training.worker.learners.event_factory import EventFactory, WeighedVersion
from everloop_training.worker.learners.learning_line import LearningLine, LoopLine, SavedVersion
from everloop_training.worker.learners.line_registry import LineRegistry
from everloop_training.worker.learners.predicting_line import PredictingLine

log = logging.getLogger(__name__)
WEIGHED_EVERY = 5_000
"""Outcomes of a line between two refreshes whose importance is found: it takes as long as learning some hundred."""
RETRY_AFTER = timedelta(seconds=5)


class VersionMaker:
    """Makes versions of a loop's lines. One that cannot be stored is owed and tried again; a refresh is dropped."""

    _retry_at: datetime | None = None

    def __init__(self, lines: LineRegistry, events: EventFactory) -> None:
        self.owed: dict[str, Literal["initial", "gate"]] = {}
        self.winner: str | None = None
        self._lines, self._events = lines, events

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_retry_at"}

    def on_loop_state(self, state: LoopState) -> None:
        """Owe a version of the line that won the gate, once, while the registry waits for it."""
        winner = state.data.winner if state.data.stage == "training" else None
        if winner and winner != self.winner:
            self.owed[winner] = "gate"
        self.owed = {name: reason for name, reason in self.owed.items() if reason != "gate" or name == winner}
        self.winner = winner

    def make_owed_versions(self) -> None:
        """Make the versions that are owed, of the lines as they are now."""
        now = self._events.dependencies.now()
        if not self.owed or (self._retry_at and now < self._retry_at):
            return
        for name, reason in list(self.owed.items()):
            line = self._lines.learning.get(name)
            if line and line.caught_up and line.can_be_version:
                self.make(line, reason)

    def make(self, line: LoopLine, reason: Literal["initial", "refresh", "gate"]) -> None:
        """Store a version of a line as it is now, and publish it."""
        dependencies, loop = self._events.dependencies, self._events.loop
        self.owed.pop(line.name, None)
        try:
            saved = line.saved
            if saved is None:
                saved = self._store(line)
                line.add_restart_point(saved)
        except ArtifactUnavailable as e:
            log.warning("version not stored", extra={"loop": loop, "version": line.version, "reason": e.detail})
            if reason != "refresh":
                self.owed[line.name] = reason
                self._retry_at = dependencies.now() + RETRY_AFTER
        except (ModelBroken, ArtifactCorrupt) as e:
            self._lines.fail(line, e.detail)
        else:
            self._events.add_model_trained(line, saved, reason, self._weigh(line, reason))

    def _weigh(self, line: LoopLine, reason: Literal["initial", "refresh", "gate"]) -> dict[str, float] | None:
        """The importance of the line's features; of refreshes by learning seldom, as they are frequent.

        A line that learns nothing is refreshed only once for each model that was trained for it.
        """
        is_frequent = reason == "refresh" and isinstance(line, LearningLine)
        if is_frequent and line.outcomes - line.weighed_at < WEIGHED_EVERY:
            return None
        model = line.model if isinstance(line, LearningLine | PredictingLine) else None
        rows = self._lines.latest_features(IMPORTANCE_ROWS)
        if model is None or not rows:
            return None
        line.weighed_at = line.outcomes
        return importance_of(model, rows)

    def weigh_submitted(self, line: LoopLine, state: LoopStateData) -> WeighedVersion | None:
        """The importance of the features of a model that was submitted, on the outcomes that it has predicted."""
        version = next((known.version for known in state.submissions if known.line == line.name), None)
        if version is None or not isinstance(line, PredictingLine) or line.model is None:
            return None
        found = importance_of(line.model, self._lines.latest_features(IMPORTANCE_ROWS))
        return WeighedVersion(version, found) if found else None

    def _store(self, line: LoopLine) -> SavedVersion:
        """Store the model of a line; one that learns nothing has a new name for the same bytes."""
        dependencies, loop = self._events.dependencies, self._events.loop
        if isinstance(line, PredictingLine):
            assert line.source is not None, "see can_be_version"
            return dependencies.copy_version(loop, line.version, line.source.stored)
        assert isinstance(line, LearningLine), "the lines that do not learn predict"
        return dependencies.store_version(loop, line.version, line.model)
