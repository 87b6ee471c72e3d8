"""Join handlers over a store in memory, and the labels and feedback that their tests use."""

from __future__ import annotations

import itertools
from typing import Any

from tests.feature.entity_harness import NO_KEYS
from tests.feature.feature_events import label, loop_state, spec

from everloop_feature.adapters import VaultKeys
from everloop_feature.domain.loops import ActiveLoops
from everloop_feature.handlers.join_table import PREDICTIONS, UNMATCHED, JoinLimits, JoinTable, join_entries
from everloop_feature.handlers.joins import JoinHandlers
from everloop_feature.metrics import PrometheusMetrics
from everloop_schemas.envelope import Event
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.ingest import LabelReceived
from everloop_schemas.serving import PredictionMade
from everloop_shared.messaging.keyed.index import Total
from everloop_shared.messaging.keyed.store import KeyedStore
from everloop_shared.messaging.routes import Position

JoinInput = PredictionMade | LabelReceived


class JoinHarness:
    """Handlers over a store; events get the next offset of their topic. The loops are `shop` and `other`."""

    def __init__(self, max_joins: int = 3, max_bytes: int = 1_000_000, **changes: Any) -> None:
        self.store, loops, metrics = KeyedStore("joins", rule=join_entries), ActiveLoops(), PrometheusMetrics()
        for name in ("shop", "other"):
            loops.apply(loop_state(spec(name, **changes)))
        limit = Total(max_joins, max_bytes)
        table = JoinTable(self.store, loops, metrics, JoinLimits(limit, limit))
        self.handlers = JoinHandlers(loops, table, VaultKeys(NO_KEYS), metrics)
        self._offsets = {kind.topic.name: itertools.count() for kind in (PredictionMade, LabelReceived)}
        self._keys: set[str] = set()

    async def handle(self, event: JoinInput, time_ms: int = 0, offset: int | None = None) -> list[Event]:
        """Handle one record; nothing is published."""
        name = event.topic.name
        at = Position(name, 0, next(self._offsets[name]) if offset is None else offset, time_ms)
        self._keys.add(event.key().decode())
        if isinstance(event, PredictionMade):
            return await self.handlers.on_prediction_made(event, at)
        return await self.handlers.on_label_received(event, at)

    async def outcomes(self, *events: JoinInput) -> list[OutcomeObserved]:
        """The outcomes of several records, as others read them from the topic."""
        caused = [e for event in events for e in await self.handle(event)]
        return [OutcomeObserved.decode(e.encode()) for e in caused if isinstance(e, OutcomeObserved)]

    def stored(self) -> set[str]:
        """The keys under which something is stored."""
        return {key for key in self._keys if self.store.get(key, Position("")) is not None}

    def predictions(self) -> Total:
        """How many predictions are stored, and their bytes."""
        return self.store.index.total(0, PREDICTIONS)

    def unmatched(self) -> Total:
        """How many labels without a prediction are stored, and their bytes."""
        return self.store.index.total(0, UNMATCHED)

    async def sweep(self, time_ms: int) -> list[Event]:
        """Release and expire what is due."""
        return await self.handlers.sweep(Position("", 0, -1, time_ms))


def without_time(event: LabelReceived) -> LabelReceived:
    """A label whose sender gave no time: it carries the time of its arrival."""
    return event.copy_with(time=event.data.received)


def feedback(n: int, id: str = "f", **data: Any) -> LabelReceived:
    """Feedback on the n-th prediction."""
    return label(n, **({"value": None, "id": id, "kind": "feedback"} | data))
