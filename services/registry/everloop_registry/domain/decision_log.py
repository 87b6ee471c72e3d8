"""Where decisions are written: numbered, chained, and folded at once into the loop they change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, TypeVar

from everloop_registry.domain.loop import Loop, fold
from everloop_registry.domain.working_state import WorkingState
from everloop_schemas.catalogue import decode
from everloop_schemas.decision_chain import GENESIS, digest
from everloop_schemas.envelope import ControlData, Event, SignedEvent, derived_id, utc_time
from everloop_schemas.registry import Decided, LoopApplied, LoopDeleted, VersionRegistered
from everloop_schemas.training import ModelTrainedData

D = TypeVar("D", bound=Decided)
S = TypeVar("S", bound=SignedEvent)
REGISTRY_ACTOR = "everloop/registry"
"""The actor of decisions that follow from events."""


class Sign(Protocol):
    """Signs an event: the same event, with other bytes on the wire."""

    def __call__(self, event: S) -> S: ...


def leave_unsigned(event: S) -> S:
    """The event as it is, for registries without a key."""
    return event


@dataclass(frozen=True)
class DecisionContext:
    """Why, when and for whom the registry decides: the event behind it (None for a command), its trace, the actor."""

    event_id: str | None
    traceparent: str | None
    now: datetime
    actor: str = REGISTRY_ACTOR
    actor_kind: str | None = None
    actor_source: str | None = None


@dataclass
class DecisionLog:
    """The decisions of one loop, open for the next: their fold `state`, the working state, and the new decisions.

    `head` is the hash of the last decision; `models` are the registered versions that decisions may name.
    """

    name: str
    context: DecisionContext
    state: Loop | None = None
    head: str = GENESIS
    working: WorkingState = field(default_factory=WorkingState)
    models: dict[str, ModelTrainedData] = field(default_factory=dict)
    decided: list[Decided] = field(default_factory=list)
    sign: Sign = leave_unsigned

    @property
    def loop(self) -> Loop:
        """The fold, of a loop that was applied."""
        assert self.state is not None, "applied before anything else is decided"
        return self.state

    def decide(self, kind: type[D], subject: str, data: ControlData, run: str | None = None) -> D:
        """Write one decision and fold it; its time is never before the last one's, so that as-of queries are exact."""
        before = self.state
        sequence = before.sequence + 1 if before else 0
        decision = kind(
            id=derived_id(self.name, kind.type_name(), sequence),
            time=max(self.context.now, before.time) if before else self.context.now,
            subject=subject,
            loop=self.name,
            revision=(before.revision if before else 0) + (kind is LoopApplied),
            causationid=self.context.event_id,
            correlationid=run,
            traceparent=self.context.traceparent,
            actor=self.context.actor,
            actor_kind=self.context.actor_kind,
            actor_source=self.context.actor_source,
            sequence=sequence,
            prevhash=self.head,
            data=data,
        )
        decision = self.sign(decision)  # the hash of the next one is over the signature, too
        self.fold(decision, digest(decision.encode()))
        self.decided.append(decision)
        return decision

    def fold(self, decision: Decided, head: str) -> None:
        """Fold a new or replayed decision, whose bytes hash to `head`."""
        if isinstance(decision, VersionRegistered):
            self.models[decision.data.model.version] = decision.data.model
        before, after = self.state, fold(self.state, decision, self.models)  # raises before anything has changed
        self.state, self.head = after, head
        if isinstance(decision, LoopDeleted):
            self.working = WorkingState()
        self.working.follow_decision(decision, before)

    def replay(self, decision: Decided) -> None:
        """Take in an earlier decision, as the topic has it."""
        self.fold(decision, digest(decision.encode()))
        self.working.skip_past(decision)
        self.decided.append(decision)

    def events_to_publish(self) -> list[Event]:
        """The new decisions in order, then the state that they lead to."""
        if not self.decided:
            return []
        state = self.loop.state_event(self.head).copy_with(traceparent=self.context.traceparent)
        return [*self.decided, self.sign(state)]


def fold_decisions(loop: str, wires: Sequence[bytes]) -> Loop | None:
    """The fold of a loop's first decisions, as they are on the wire; None without any."""
    decision_log = DecisionLog(loop, DecisionContext(None, None, utc_time(0)))
    for wire in wires:
        decision = decode(Decided.topic.name, wire)
        assert isinstance(decision, Decided), "the topic holds nothing else"
        decision_log.fold(decision, digest(wire))
    return decision_log.state
