"""What the registry decides about persons who are to be forgotten, and about the receipts that say it is done."""

from __future__ import annotations

from dataclasses import dataclass

from everloop_registry.domain.decision_log import DecisionLog
from everloop_registry.domain.erasures import find_pending, is_confirmed
from everloop_registry.errors import Conflict
from everloop_registry.handlers.command_context import command_context, event_context, open_existing
from everloop_registry.ports import DecisionStore
from everloop_schemas.envelope import Event, derived_id
from everloop_schemas.erasure import (
    AboutModels,
    EntityErased,
    EntityErasedData,
    EntityErasureDone,
    ErasureConfirmed,
    ErasureConfirmedData,
    ErasureDecided,
    ErasureDecidedData,
)
from everloop_shared.clock import Clock
from everloop_shared.commands import Actor
from everloop_shared.messaging.routes import Position


@dataclass
class ErasureHandlers:
    """The command and the receipt; each is idempotent and returns decisions, the loop's state, and what is asked for.

    There is no limit of how many are erased in an hour: who asks to be forgotten must be.
    """

    store: DecisionStore
    clock: Clock

    async def erase(
        self, loop: str, entity: str, reason: str, models: AboutModels, versions: tuple[str, ...] = (), *, actor: Actor
    ) -> list[Event]:
        """Decide that an entity is erased, and ask feature to do it.

        Where that is under way already, nothing is decided, and feature is asked again by the same event: the one
        before may be lost with a database, or be a dead letter, and nobody else can send it.

        Raises LoopNotFound, and Conflict where a run could not learn without the entity.
        """
        decision_log = await open_existing(self.store, loop, command_context(self.clock, actor))
        if models == "retrain" and not decision_log.loop.spec.personal_fields:
            raise Conflict(
                f"{loop} has no personal fields, so a run would learn from the same outcomes again: choose keep"
            )
        if pending := find_pending(await self.store.erasures(loop, entity)):
            return [_ask_for(decision_log, pending)]
        data = ErasureDecidedData(reason=reason, models=models, versions=versions)
        decided = decision_log.decide(ErasureDecided, entity, data)
        await self.store.save(decision_log)
        return [*decision_log.events_to_publish(), _ask_for(decision_log, decided)]

    async def on_erasure_done(self, event: EntityErasureDone, at: Position) -> list[Event]:
        """Feature has erased an entity: the chain of decisions says so, once for each receipt."""
        decision_log = await self.store.open(event.loop, event_context(self.clock, event))
        loop = decision_log.state
        if loop is None or loop.is_past(event.revision):
            return []
        if is_confirmed(await self.store.erasures(event.loop, event.subject), event.id):
            return []
        done = event.data
        data = ErasureConfirmedData(cause=done.cause, removed=done.removed, decision=done.decision)
        decision_log.decide(ErasureConfirmed, event.subject, data)
        await self.store.save(decision_log)
        return decision_log.events_to_publish()


def _ask_for(decision_log: DecisionLog, decided: ErasureDecided) -> EntityErased:
    context, data = decision_log.context, decided.data
    request = EntityErased(
        id=derived_id(decided.loop, EntityErased.type_name(), decided.sequence),
        time=decided.time,
        subject=decided.subject,
        loop=decided.loop,
        revision=decided.revision,
        causationid=decided.id,
        traceparent=context.traceparent,
        data=EntityErasedData(
            decision=decided.sequence, reason=data.reason, models=data.models, actor=decided.actor or context.actor
        ),
    )
    return decision_log.sign(request)
