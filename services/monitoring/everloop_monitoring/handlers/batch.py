"""The records of one transaction."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, fields
from typing import Any

from everloop_monitoring.domain.letters import ListedLetter
from everloop_monitoring.domain.timeline import TimelineEntry
from everloop_monitoring.handlers.alerting import Evaluated, News
from everloop_monitoring.ports import IdKind
from everloop_schemas.dead_letter import DeadLetter
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.ingest import EventReceived
from everloop_schemas.monitoring import DeadLetterSent
from everloop_schemas.serving import ObservationReceived, PredictionMade
from everloop_schemas.training import ModelTrained

Observation = EventReceived | ObservationReceived
"""From ingest, or by REST."""


@dataclass
class RecordBatch:
    """The records of one transaction, until they are evaluated; dropped when the transaction rolls back."""

    ids: dict[tuple[str, IdKind], list[str]] = field(default_factory=lambda: defaultdict(list))
    outcomes: dict[str, list[tuple[OutcomeObserved, int]]] = field(default_factory=lambda: defaultdict(list))
    predictions: dict[str, list[PredictionMade]] = field(default_factory=lambda: defaultdict(list))
    entries: list[TimelineEntry] = field(default_factory=list)
    dead_letters: dict[str, DeadLetter] = field(default_factory=dict)
    news: dict[str, list[News]] = field(default_factory=lambda: defaultdict(list))
    versions: dict[str, list[ModelTrained]] = field(default_factory=lambda: defaultdict(list))
    evaluated: dict[str, Evaluated] = field(default_factory=dict)
    letters: list[ListedLetter] = field(default_factory=list)
    sent: list[DeadLetterSent] = field(default_factory=list)
    observations: dict[str, list[Observation]] = field(default_factory=lambda: defaultdict(list))
    refusals: dict[str, list[DeadLetter]] = field(default_factory=lambda: defaultdict(list))

    def watched_loops(self) -> list[str]:
        """The loops with records that are evaluated or watched, in an order in which replicas lock rows alike."""
        watched = (self.outcomes, self.predictions, self.observations, self.versions, self.refusals)
        return sorted({loop for of in watched for loop in of})

    def copy(self) -> RecordBatch:
        """The batch as it is now, which later additions do not change."""
        return RecordBatch(**{part.name: _copy_of(getattr(self, part.name)) for part in fields(self)})


def _copy_of(part: Any) -> Any:
    """Of a list, or of lists or single records by key."""
    if isinstance(part, list):
        return list(part)
    copied = {key: list(of) if isinstance(of, list) else of for key, of in part.items()}
    return defaultdict(list, copied) if isinstance(part, defaultdict) else copied
