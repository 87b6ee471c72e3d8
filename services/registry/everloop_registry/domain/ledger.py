"""Where decisions are written: numbered, chained, and folded at once into the loop they change."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import TypeVar

from everloop_registry.domain.loop import GENESIS, Loop, fold
from everloop_registry.domain.work import Work
from everloop_schemas.envelope import Data, Event, derived_id
from everloop_schemas.registry import Decided, LoopApplied, LoopDeleted, VersionRegistered
from everloop_schemas.training import ModelTrainedData

D = TypeVar("D", bound=Decided)


def digest(wire: bytes) -> str:
    """What the next decision's `prevhash` says of this one."""
    return sha256(wire).hexdigest()


@dataclass(frozen=True)
class Cause:
    """Why and when the registry acts: the event or command behind it, its trace, and the clock's word."""

    id: str | None
    traceparent: str | None
    now: datetime

    @classmethod
    def of(cls, event: Event, now: datetime) -> Cause:
        """An event as the cause."""
        return cls(event.id, event.traceparent, now)


@dataclass
class Ledger:
    """One loop while something happens to it: its fold, its working state, and what is decided now.

    `head` is the hash of the last decision; `models` the versions that decisions may name.
    """

    name: str
    cause: Cause
    loop: Loop | None = None
    head: str = GENESIS
    work: Work = field(default_factory=Work)
    models: dict[str, ModelTrainedData] = field(default_factory=dict)
    decided: list[Decided] = field(default_factory=list)

    @property
    def known(self) -> Loop:
        """The loop, which is there."""
        assert self.loop is not None, "applied before anything else is decided"
        return self.loop

    def decide(self, kind: type[D], subject: str, data: Data, run: str | None = None) -> D:
        """Write one decision and fold it; its time never runs backwards, so that as-of queries follow the order."""
        loop = self.loop
        sequence = loop.sequence + 1 if loop else 0
        decision = kind(
            id=derived_id(self.name, kind.type_name(), sequence),
            time=max(self.cause.now, loop.time) if loop else self.cause.now,
            subject=subject,
            loop=self.name,
            revision=(loop.revision if loop else 0) + (kind is LoopApplied),
            causationid=self.cause.id,
            correlationid=run,
            traceparent=self.cause.traceparent,
            sequence=sequence,
            prevhash=self.head,
            data=data,
        )
        self.follow(decision, digest(decision.encode()))
        self.decided.append(decision)
        return decision

    def follow(self, decision: Decided, hashed: str) -> None:
        """Fold a decision, made now or long ago, whose wire bytes hash to `hashed`."""
        if isinstance(decision, VersionRegistered):
            self.models[decision.data.model.version] = decision.data.model
        before, after = self.loop, fold(self.loop, decision, self.models)  # raises before anything has changed
        self.loop, self.head = after, hashed
        if isinstance(decision, LoopDeleted):
            self.work = Work()
        self.work.follow(decision, before)

    def recall(self, decision: Decided) -> None:
        """Take in a decision of the past, as the topic has it."""
        self.follow(decision, digest(decision.encode()))
        self.work.recall(decision)
        self.decided.append(decision)

    def events(self) -> list[Event]:
        """What is to be told: the decisions in order, then the state they come to."""
        if not self.decided:
            return []
        told: Iterable[Event] = self.decided
        return [*told, self.known.state().model_copy(update={"traceparent": self.cause.traceparent})]
