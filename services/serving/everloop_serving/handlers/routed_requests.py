"""What one of several workers does with a request: it predicts itself, or asks the worker that the row belongs to."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from zlib import crc32

from msgspec import structs

from everloop_features.observation import Observation
from everloop_schemas.serving import PredictionMade
from everloop_serving.domain.new_predictions import id_taken
from everloop_serving.domain.peer_messages import AnyPeerMessage, ClaimIds, FindPrediction, GetRevision, PredictRows
from everloop_serving.domain.served_loop import ServedLoop
from everloop_serving.errors import DeadlineExceeded, PredictionNotFound
from everloop_serving.handlers.requests import RequestHandlers
from everloop_serving.ports import Peers
from everloop_shared.bounded import Bounded
from everloop_shared.random_ids import random_id

CLAIMS, CLAIM_BYTES = 50_000, 16_000_000
LOOP_WAIT_S = 2.0
LOOP_POLL_S = 0.02
"""A loop that another worker knows is known here a moment later."""


@dataclass
class RoutedRequestHandlers(RequestHandlers):
    """Handles requests of one worker among several, so that they act as one.

    An id belongs to one worker, by its hash, and in a loop with windows an entity does too. In a loop with windows a
    row goes to the worker of its entity, which has all observations of the entity, once the worker of its id has noted
    for which entity the id is used, and refused a second one. In other loops a row with an id goes to the worker of its
    id, and one without stays where it is. So a repeated id gets the same prediction wherever it arrives.
    """

    peers: Peers = field(kw_only=True)
    _claims: Bounded[tuple[str, int, str], str] = field(default_factory=lambda: Bounded(CLAIMS, CLAIM_BYTES))

    async def predict_all(
        self,
        loop: str,
        rows: Sequence[Observation],
        traceparent: str | None = None,
        deadline: float | None = None,
        version: str | None = None,
    ) -> list[PredictionMade]:
        """As for a single process; rows of different workers are stored together or not at all for each of them."""
        served = self.require_loop(loop)
        if served.plan.has_windows:
            await self._claim_ids(served, rows, deadline)
        request = PredictRows(loop, rows, traceparent, deadline, version)
        return await self._distribute(request, [self._owner(served, row) for row in rows])

    def predict_at_once(
        self, loop: str, rows: Sequence[Observation], traceparent: str | None = None, version: str | None = None
    ) -> list[PredictionMade] | None:
        """As for a single process, where all rows and ids belong to this worker."""
        served = self.require_loop(loop)
        here = self.peers.number
        if any(self._owner(served, row) != here for row in rows):
            return None
        if served.plan.has_windows and any(row.id is not None for row in rows):
            return None
        return super().predict_at_once(loop, rows, traceparent, version)

    def predict_elsewhere(
        self, loop: str, rows: Sequence[Observation], traceparent: str | None = None
    ) -> Awaitable[list[PredictionMade]] | None:
        """As `predict_all`, where all rows belong to one other worker, and no id has to be claimed first."""
        served = self.require_loop(loop)
        owner = self._owner(served, rows[0])
        if owner == self.peers.number or any(self._owner(served, row) != owner for row in rows[1:]):
            return None
        if served.plan.has_windows and any(row.id is not None for row in rows):
            return None
        return self._predict_at(owner, PredictRows(loop, rows, traceparent, None))

    def answer_at_once(self, message: AnyPeerMessage) -> Sequence[bytes] | None:
        """The answer to another worker; None, before anything is changed, where it has to wait for something."""
        if not isinstance(message, PredictRows) or message.deadline is not None or not self.loops.get(message.loop):
            return None
        made = super().predict_at_once(message.loop, message.rows, message.traceparent, message.version)
        return None if made is None else [prediction.encode() for prediction in made]

    async def answer(self, message: AnyPeerMessage) -> Sequence[bytes]:
        """The answer to another worker."""
        match message:
            case PredictRows():
                await self._wait_for(message.loop)
                return self.sealed.encode(self.require_loop(message.loop), await self._predict_here(message))
            case ClaimIds():
                await self._wait_for(message.loop)
                self._claim(self.require_loop(message.loop), message.entities)
                return []
            case FindPrediction():
                found = self.recent.get(message.loop, message.prediction_id, self.require_loop(message.loop).life)
                return [found.event.encode()] if found else []
            case GetRevision():
                served = self.loops.get(message.loop)
                return [b"%d" % served.revision] if served else []
        raise TypeError(f"no message of a worker: {message!r:.80}")

    async def look_up_prediction(self, loop: str, prediction_id: str) -> PredictionMade:
        """The prediction made under this id by any worker; raises LoopNotFound or PredictionNotFound."""
        try:
            return await super().look_up_prediction(loop, prediction_id)
        except PredictionNotFound:
            answers = await self.peers.ask_others(FindPrediction(loop, prediction_id))
            for found in chain.from_iterable(answers.values()):
                return await self.sealed.open_for_answer(PredictionMade.decode(found))
            raise

    async def look_up_revision(self, loop: str) -> int:
        """The lowest revision that a worker serves: whoever waits for one can use it at every worker."""
        revision = self.require_loop(loop).revision
        answers = await self.peers.ask_others(GetRevision(loop))
        return min([revision, *(int(value[0]) if value else 0 for value in answers.values())])

    def _owner(self, loop: ServedLoop, row: Observation) -> int:
        if loop.plan.has_windows:
            return worker_of(loop.loop, row.entity, self.peers.count)
        return self.peers.number if row.id is None else worker_of(loop.loop, row.id, self.peers.count)

    async def _claim_ids(self, loop: ServedLoop, rows: Sequence[Observation], deadline: float | None) -> None:
        claims = defaultdict[int, dict[str, str]](dict)
        for row in rows:
            if row.id is not None:
                claims[worker_of(loop.loop, row.id, self.peers.count)][row.id] = row.entity
        if here := claims.pop(self.peers.number, None):
            self._claim(loop, here)
        if claims:
            await asyncio.gather(*(self._ask(n, ClaimIds(loop.loop, ids), deadline) for n, ids in claims.items()))

    def _claim(self, loop: ServedLoop, entities: dict[str, str]) -> None:
        """Note which entities these ids are used for; raises IdTaken where one was used for another."""
        for id_, entity in entities.items():
            key = (loop.loop, loop.life, id_)
            before = self._claims.get(key)
            if before is None:
                found = self.recent.get(loop.loop, id_, loop.life)
                before = found.event.data.entity if found else entity
                self._claims.put(key, before, len(id_) + len(before))
            if before != entity:
                raise id_taken(id_)

    async def _distribute(self, request: PredictRows, owners: Sequence[int]) -> list[PredictionMade]:
        """Predict each row at its worker; the predictions are in the order of the rows."""
        if len(owners) == 1 or all(owner == owners[0] for owner in owners):
            return await self._predict_at(owners[0], request)
        parts = defaultdict[int, list[int]](list)
        for n, owner in enumerate(owners):
            parts[owner].append(n)
        results = await asyncio.gather(
            *(
                self._predict_at(owner, structs.replace(request, rows=[request.rows[n] for n in part]))
                for owner, part in parts.items()
            )
        )
        predictions = dict(zip(chain.from_iterable(parts.values()), chain.from_iterable(results), strict=True))
        return [predictions[n] for n in range(len(owners))]

    async def _predict_at(self, owner: int, request: PredictRows) -> list[PredictionMade]:
        if owner == self.peers.number:
            return await self._predict_here(request)
        if all(row.id is None for row in request.rows) and not await self.peers.is_reachable(owner):
            return await self._predict_here(request)  # from the windows that feature publishes, a little later
        rows = [structs.replace(row, id=random_id()) if row.id is None else row for row in request.rows]
        values = await self._ask(owner, structs.replace(request, rows=rows), request.deadline)
        return [await self.sealed.open_for_answer(PredictionMade.decode(value)) for value in values]

    async def _ask(self, worker: int, message: AnyPeerMessage, deadline: float | None) -> Sequence[bytes]:
        if deadline is None:
            return await self.peers.ask(worker, message)
        try:
            async with asyncio.timeout(self._seconds_left(deadline)):
                return await self.peers.ask(worker, message)
        except TimeoutError:
            raise DeadlineExceeded(
                "another worker did not answer in the time given by Timeout-Ms; the same request gets its answer"
            ) from None

    async def _predict_here(self, request: PredictRows) -> list[PredictionMade]:
        return await super().predict_all(
            request.loop, request.rows, request.traceparent, request.deadline, request.version
        )

    async def _wait_for(self, loop: str) -> None:
        latest = asyncio.get_running_loop().time() + LOOP_WAIT_S
        while self.loops.get(loop) is None and asyncio.get_running_loop().time() < latest:
            await asyncio.sleep(LOOP_POLL_S)


def worker_of(loop: str, name: str, count: int) -> int:
    """The worker that an id or an entity belongs to: the same in every process and at every start."""
    return crc32(f"{loop}/{name}".encode()) % count
