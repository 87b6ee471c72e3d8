"""Why, when and for whom the registry decides or logs what a command or an event asks for, and about which loops."""

from __future__ import annotations

from everloop_learning.errors import LoopNotFound
from everloop_registry.domain.decision_log import DecisionContext, DecisionLog
from everloop_registry.ports import DecisionStore
from everloop_schemas.envelope import Event
from everloop_shared.clock import Clock
from everloop_shared.commands import ANONYMOUS, Actor
from everloop_shared.tracing import current_traceparent


def command_context(clock: Clock, actor: Actor) -> DecisionContext:
    """The context of a command that is handled now, within its trace."""
    trace, now = current_traceparent(), clock()
    if actor == ANONYMOUS:
        return DecisionContext(None, trace, now, actor.name)
    return DecisionContext(None, trace, now, actor.name, actor.kind, actor.source)


def event_context(clock: Clock, event: Event) -> DecisionContext:
    """The context of an event that is handled now, within the span of its handling, else within the event's trace."""
    return DecisionContext(event.id, current_traceparent() or event.traceparent, clock())


async def open_existing(store: DecisionStore, loop: str, context: DecisionContext) -> DecisionLog:
    """The decision log of a loop; raises LoopNotFound where it was never applied, or was deleted."""
    decision_log = await store.open(loop, context)
    if decision_log.state is None or decision_log.state.deleted:
        raise LoopNotFound(loop, deleted=decision_log.state is not None)
    return decision_log
