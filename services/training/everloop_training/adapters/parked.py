"""Outcomes that no worker is given any more: they have killed it three times, or it raised over them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from pathlib import Path

from everloop_models.store import write_atomically
from everloop_schemas.feature import OutcomeObserved
from everloop_shared import metrics
from everloop_shared.errors import InputRejected
from everloop_shared.messaging.processing.dead_letter import dead_letter
from everloop_training.adapters.history import History
from everloop_training.adapters.pump import Pump
from everloop_training.domain.outcome import Outcome

log = logging.getLogger(__name__)
TOPIC = OutcomeObserved.topic


class Parked:
    """The parked outcomes of each partition, by offset and id, in `partition-N.parked` beside its snapshot.

    Whoever learns from the log again with this file comes to the same bytes; without it the same outcome is parked
    again, at the price of three more deaths. The id keeps a file of another log from hiding what is innocent.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[int, dict[int, str]] = {}

    def without(self, partition: int, outcomes: Iterable[tuple[str, Outcome]]) -> list[tuple[str, Outcome]]:
        """The outcomes, each with its loop, that are not parked."""
        parked = self._of(partition)
        return [(loop, o) for loop, o in outcomes if parked.get(o.offset) != o.id]

    def holds(self, partition: int, offset: int, id: str) -> bool:
        """Whether this outcome is parked."""
        return self._of(partition).get(offset) == id

    async def park(self, history: History, pump: Pump, partition: int, offset: int, reason: str) -> None:
        """Tell the dead letter of an outcome, then give it to nobody any more. Waits while the broker is away."""
        for at, event in await history.records(TOPIC, partition, offset, offset + 1):
            letter = dead_letter("training", at, event.key(), event.encode(), InputRejected(reason))
            await pump.publish([letter])
            metrics.DEAD_LETTERS.labels("training", TOPIC.name, letter.data.error).inc()
            log.warning("outcome parked", extra={"partition": partition, "offset": offset, "reason": reason[:500]})
            self._of(partition)[offset] = event.id
        try:
            write_atomically(self._file(partition), json.dumps(self._of(partition)).encode())
        except OSError as e:  # it is parked in this process, and the next one finds out again
            log.warning("parked outcomes not written", extra={"partition": partition, "reason": str(e)})

    def _file(self, partition: int) -> Path:
        return self._folder / f"partition-{partition}.parked"

    def _of(self, partition: int) -> dict[int, str]:
        if partition not in self._known:
            self._known[partition] = _read(self._file(partition))
        return self._known[partition]


def _read(file: Path) -> dict[int, str]:
    try:
        return {int(offset): str(id) for offset, id in json.loads(file.read_bytes()).items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as e:
        log.warning("parked outcomes unreadable", extra={"file": str(file), "reason": str(e)})
        return {}
