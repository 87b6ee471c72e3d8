"""How a person's data is erased: what the registry decides and asks for, and what feature says once it is done."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from everloop_schemas.envelope import FOREVER, ControlData, ControlEvent, SignedEvent, Topic
from everloop_schemas.registry import Decided

AboutModels = Literal["keep", "retrain"]
"""What becomes of the versions that learned from the entity: nothing, or a run that learns again without it."""
ErasureCause = Literal["person", "retention"]
"""Why an entity was erased: somebody asked for it, or it was not seen for as long as the loop's spec keeps it."""


class ErasureDecidedData(ControlData):
    """What is erased and why. `versions` are those that the caller knew to have learned from the entity."""

    reason: str
    models: AboutModels
    versions: tuple[str, ...] = ()


class ErasureDecided(Decided):
    """An entity is to be erased; `subject` is the entity."""

    topic: ClassVar[Topic] = Decided.topic
    type: Literal["registry.erasure_decided.v1"] = "registry.erasure_decided.v1"
    data: ErasureDecidedData


class Removed(ControlData):
    """What was removed of an entity.

    `observations` is how many its windows were made of, `windows` how many features had one, `features` how many
    values its last vector had. Not `sealed`: the loop has no personal fields, so that what is on topics stays there
    until their retention ends.
    """

    observations: int = 0
    windows: int = 0
    features: int = 0
    sealed: bool


class ErasureConfirmedData(ControlData):
    """The receipt of feature: what is gone. `decision` is the sequence number of the decision that asked for it.

    An erasure by `retention` follows from the loop's spec: no decision asked for it.
    """

    cause: ErasureCause
    removed: Removed
    decision: int | None = None


class ErasureConfirmed(Decided):
    """An entity is erased; `subject` is the entity."""

    topic: ClassVar[Topic] = Decided.topic
    type: Literal["registry.erasure_confirmed.v1"] = "registry.erasure_confirmed.v1"
    data: ErasureConfirmedData


class EntityErasedData(ControlData):
    """The decision with this sequence number, for those who hold what is erased."""

    decision: int = Field(ge=0)
    reason: str
    models: AboutModels
    actor: str


class EntityErased(SignedEvent):
    """Erase this entity (`subject`); feature does, and answers with `EntityErasureDone`."""

    topic: ClassVar[Topic] = Topic(
        "registry.entity_erased.v1", owner="registry", keyed_by="loop/subject", retention_ms=FOREVER
    )
    signed_for: ClassVar[Literal["artifacts", "decisions"]] = "decisions"
    type: Literal["registry.entity_erased.v1"] = "registry.entity_erased.v1"
    source: str = "everloop/registry"
    data: EntityErasedData


class EntityErasureDoneData(ControlData):
    """What was removed. `decision` is that of `EntityErased`; none for an erasure by `retention`."""

    cause: ErasureCause
    removed: Removed
    decision: int | None = None


class EntityErasureDone(ControlEvent):
    """The key and all that feature had of an entity (`subject`) are gone; `causationid` is the `EntityErased`."""

    topic: ClassVar[Topic] = Topic(
        "feature.entity_erased.v1", owner="feature", keyed_by="loop/subject", retention_ms=FOREVER
    )
    type: Literal["feature.entity_erased.v1"] = "feature.entity_erased.v1"
    source: str = "everloop/feature"
    data: EntityErasureDoneData
