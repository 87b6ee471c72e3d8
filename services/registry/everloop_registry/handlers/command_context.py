"""Why, when and for whom the registry decides or logs what a command asks for."""

from __future__ import annotations

from everloop_registry.domain.decision_log import DecisionContext
from everloop_shared.clock import Clock
from everloop_shared.commands import ANONYMOUS, Actor
from everloop_shared.tracing import current_traceparent


def command_context(clock: Clock, actor: Actor) -> DecisionContext:
    """The context of a command that is handled now, within its trace."""
    trace, now = current_traceparent(), clock()
    if actor == ANONYMOUS:
        return DecisionContext(None, trace, now, actor.name)
    return DecisionContext(None, trace, now, actor.name, actor.kind, actor.source)
