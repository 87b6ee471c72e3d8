"""Outcomes that no worker is sent any more: it exited over them three times, or learning them raised an error."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from pathlib import Path

from everloop_learning.outcome import Outcome
from everloop_models.store import write_atomically
from everloop_schemas.feature import OutcomeObserved
from everloop_shared import metrics
from everloop_shared.errors import InputRejected
from everloop_shared.messaging.processing.dead_letter import make_dead_letter
from everloop_training.adapters.event_publisher import EventPublisher
from everloop_training.adapters.history import LogHistory

log = logging.getLogger(__name__)
TOPIC = OutcomeObserved.topic


class ParkedOutcomes:
    """The parked outcomes of each partition, by offset and id, in `partition-N.parked` beside its snapshot.

    Learning the log again with this file gives the same bytes; without it the same outcome is parked again, after three
    more exits. The id keeps a file of another log from leaving out outcomes of this one.
    """

    def __init__(self, folder: Path, history: LogHistory, publisher: EventPublisher) -> None:
        self._folder, self._history, self._publisher = folder, history, publisher
        self._parked: dict[int, dict[int, str]] = {}

    def leave_out(self, partition: int, outcomes: Iterable[tuple[str, Outcome]]) -> list[tuple[str, Outcome]]:
        """The outcomes, each with its loop, that are not parked."""
        return [(loop, outcome) for loop, outcome in outcomes if not self.contains(partition, outcome)]

    def contains(self, partition: int, outcome: Outcome) -> bool:
        """Whether this outcome is parked."""
        return self._of(partition).get(outcome.offset) == outcome.id

    async def park(self, partition: int, offset: int, reason: str) -> None:
        """Publish the dead letter of an outcome, then leave the outcome out. Waits while the broker is away."""
        for at, event in await self._history.records(TOPIC, partition, offset, offset + 1):
            letter = make_dead_letter("training", at, event.key(), event.encode(), InputRejected(reason))
            await self._publisher.publish([letter])
            metrics.DEAD_LETTERS.labels("training", TOPIC.name, letter.data.error).inc()
            log.warning("outcome parked", extra={"partition": partition, "offset": offset, "reason": reason[:500]})
            self._of(partition)[offset] = event.id
        try:
            write_atomically(self._file(partition), json.dumps(self._of(partition)).encode())
        except OSError as e:  # this process leaves it out all the same, and the next one parks it again
            log.warning("parked outcomes not written", extra={"partition": partition, "reason": str(e)})

    def _file(self, partition: int) -> Path:
        return self._folder / f"partition-{partition}.parked"

    def _of(self, partition: int) -> dict[int, str]:
        if partition not in self._parked:
            self._parked[partition] = _read(self._file(partition))
        return self._parked[partition]


def _read(file: Path) -> dict[int, str]:
    try:
        return {int(offset): str(id) for offset, id in json.loads(file.read_bytes()).items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as e:
        log.warning("parked outcomes not readable", extra={"file": str(file), "reason": str(e)})
        return {}
