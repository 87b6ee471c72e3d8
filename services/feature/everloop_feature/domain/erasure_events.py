"""Builds what feature publishes about an entity that it has forgotten."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from everloop_feature.domain.entity import Entity
from everloop_feature.domain.loops import ActiveLoop
from everloop_schemas.envelope import Event, derived_id
from everloop_schemas.erasure import EntityErased, EntityErasureDone, EntityErasureDoneData, ErasureCause, Removed
from everloop_schemas.feature import EntityState, EntityStateData


@dataclass(frozen=True)
class Forgotten:
    """Which entity of which loop was forgotten, when and why; `reason_id` names the command, or the key."""

    loop: ActiveLoop
    entity: str
    cause: ErasureCause
    reason_id: str
    time: datetime
    decision: int | None = None
    traceparent: str | None = None

    @classmethod
    def asked_for(cls, event: EntityErased, loop: ActiveLoop) -> Forgotten:
        """By a person's command."""
        return cls(loop, event.subject, "person", event.id, event.time, event.data.decision, event.traceparent)


def what_is_removed(loop: ActiveLoop, entity: Entity | None) -> Removed:
    """What is said of an entity that was stored; None where nothing was."""
    spec = loop.spec
    if entity is None:
        return Removed(sealed=loop.is_personal)
    return Removed(
        observations=entity.applied,
        windows=sum(1 for feature in spec.features if feature.function is not None),
        features=len(spec.feature_names),
        sealed=loop.is_personal,
    )


def build_erasure_events(forgotten: Forgotten, removed: Removed) -> list[Event]:
    """An empty state, which takes the place of the entity's last one on the compacted topic, and the receipt.

    They are the same events where this is done again after a crash, but for what is still there to be removed.
    """
    loop, cause = forgotten.loop.spec.loop, (forgotten.cause, forgotten.reason_id)
    state = EntityState(
        id=derived_id(loop, EntityState.type_name(), *cause),
        data=EntityStateData(entity=forgotten.entity, applied=0, state={}),
        **_about(forgotten),
    )
    return [state, build_receipt(forgotten, removed)]


def build_receipt(forgotten: Forgotten, removed: Removed) -> EntityErasureDone:
    """That nothing is left of what was known of an entity until its erasure was decided."""
    loop = forgotten.loop.spec.loop
    return EntityErasureDone(
        id=derived_id(loop, EntityErasureDone.type_name(), forgotten.cause, forgotten.reason_id),
        data=EntityErasureDoneData(cause=forgotten.cause, removed=removed, decision=forgotten.decision),
        **_about(forgotten),
    )


def _about(forgotten: Forgotten) -> dict[str, Any]:
    return {
        "time": forgotten.time,
        "subject": forgotten.entity,
        "loop": forgotten.loop.spec.loop,
        "revision": forgotten.loop.revision,
        "causationid": forgotten.reason_id,
        "traceparent": forgotten.traceparent,
    }
