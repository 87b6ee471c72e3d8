"""What monitoring does when a dead letter is sent again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from everloop_learning.loops import KnownLoops
from everloop_monitoring.domain.letter_plans import SendPlan
from everloop_monitoring.domain.letters import ListedLetter, SentAs, build_sent
from everloop_monitoring.errors import IngestNotKnown
from everloop_monitoring.ports import Ingest, Letters
from everloop_schemas.envelope import Event
from everloop_schemas.monitoring import DeadLetterSent
from everloop_shared.clock import Clock
from everloop_shared.commands import Actor
from everloop_shared.tracing import current_traceparent


@dataclass(frozen=True)
class LetterHandlers:
    """The commands about dead letters. `ingest` is None where monitoring was not given its address.

    `own_authorization` is monitoring's own at ingest, for letters of senders who may not publish by themselves; None
    where it has none.
    """

    letters: Letters
    loops: KnownLoops
    clock: Clock
    ingest: Ingest | None = None
    own_authorization: Callable[[], str | None] = lambda: None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def deliver(
        self, letter: ListedLetter, plan: SendPlan, before: Sequence[DeadLetterSent], authorization: str | None
    ) -> str:
        """Give the record to ingest where its plan says so, by this authorization; the id of its event.

        Outside of the unit of work, as ingest answers once its broker has acknowledged. What was sent `before` is not
        given again. Raises LoopNotFound, IngestNotKnown, LetterRejected, NotPermitted or Unavailable.
        """
        self.loops.require(plan.loop)
        if plan.event is not None:
            return plan.event.id
        known = next((sent.data.event for sent in before if sent.data.digest == plan.digest), None)
        if known is not None or plan.request is None:
            return known or letter.id
        if self.ingest is None:
            raise IngestNotKnown(letter.id)
        ids = await self.ingest.send(plan.request, authorization)
        return ids[0] if ids else letter.id

    async def record_sent(
        self, letter: ListedLetter, sent: SentAs, actor: Actor, event: Event | None = None
    ) -> list[Event]:
        """Remember that a letter's record went again, and send its event; nothing where just this is remembered.

        Inside the open unit of work. Raises LoopNotFound.
        """
        self.loops.require(sent.loop)
        built = build_sent(letter, sent, actor.as_fields(), self.clock())
        recorded = built.copy_with(traceparent=current_traceparent())
        if await self.letters.has_sent(recorded):
            return []
        await self.letters.add_sent([recorded])
        return [recorded] if event is None else [event, recorded]
