"""Opens the personal values of outcomes, wherever training reads them; those of erased persons stay closed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

from everloop_learning.data_set import Row
from everloop_learning.loops import KnownLoops
from everloop_learning.outcome import Outcome
from everloop_schemas.feature import OutcomeObserved
from everloop_shared import metrics
from everloop_shared.errors import InputRejected
from everloop_shared.messaging.routes import Position
from everloop_shared.personal import Vault

log = logging.getLogger(__name__)


class PersonalOutcomes:
    """Opens outcomes with the keys of their entities, in a thread where there is something to open.

    One whose key was destroyed, or whose sealed values were changed, is erased: it is left out however often the log
    is read from then on. All methods raise Unavailable while the keys are away.
    """

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def remarks(self, loops: KnownLoops) -> list[str]:
        """What people should know: the loops whose records wait because this service has no keys."""
        waiting = [state.loop for state in loops.all() if state.data.spec.personal_fields]
        if not waiting or self._vault.is_configured:
            return []
        fix = "set EVERLOOP_PERSONAL_KEYS_URL and EVERLOOP_PERSONAL_MASTER_KEY"
        return [f"loops with personal fields wait for keys, {fix}: {', '.join(waiting[:5])}"]

    async def outcome(self, event: OutcomeObserved, at: Position) -> Outcome:
        """The outcome in one record."""
        [(_, outcome)] = await self.outcomes([(at, event)])
        return outcome

    async def outcomes(self, records: Sequence[tuple[Position, OutcomeObserved]]) -> list[tuple[str, Outcome]]:
        """The outcomes in these records, each with its loop."""
        if all(event.data.personal is None for _, event in records):
            return [(event.loop, _outcome(event, at)) for at, event in records]
        return await asyncio.to_thread(self._open_all, records)

    async def rows(self, rows: list[Row]) -> list[Row]:
        """The rows with their personal values, without those of erased persons."""
        if all(row.sealed is None for row in rows):
            return rows
        return await asyncio.to_thread(self._open_rows, rows)

    def _open_all(self, records: Sequence[tuple[Position, OutcomeObserved]]) -> list[tuple[str, Outcome]]:
        self._fetch([event for _, event in records])
        return [(event.loop, self._open_outcome(event, at)) for at, event in records]

    def _open_outcome(self, event: OutcomeObserved, at: Position) -> Outcome:
        if event.data.personal is None:
            return _outcome(event, at)
        opened = self._open(event)
        if opened is None:
            return _outcome(event, at)._replace(erased=True)
        return _outcome(opened, at)._replace(opened=time.time())

    def _open_rows(self, rows: Sequence[Row]) -> list[Row]:
        self._fetch([row.sealed for row in rows if row.sealed])
        found = list[Row]()
        for row in rows:
            if row.sealed is None:
                found.append(row)
            elif opened := self._open(row.sealed):
                found.append(row._replace(features=opened.data.features, sealed=None))
        return found

    def _fetch(self, events: Sequence[OutcomeObserved]) -> None:
        entities = dict[str, list[str]]()
        for event in events:
            if event.data.personal is not None:
                entities.setdefault(event.loop, []).append(event.data.entity)
        for loop, some in entities.items():
            self._vault.fetch_now(loop, some)

    def _open(self, event: OutcomeObserved) -> OutcomeObserved | None:
        try:
            opened = self._vault.open_event_now(event)
        except InputRejected as e:
            where = {"loop": event.loop, "outcome": event.id, "reason": e.detail}
            log.warning("an outcome is left out: its sealed values cannot be opened", extra=where)
            opened = None
        if opened is None:
            metrics.PERSONAL_ERASED.labels("training").inc()
        return opened


WITHOUT_KEYS = PersonalOutcomes(Vault("", None))
"""For loops without personal fields."""


def _outcome(event: OutcomeObserved, at: Position) -> Outcome:
    return Outcome.from_event(event, at.offset, at.timestamp, at.size)
