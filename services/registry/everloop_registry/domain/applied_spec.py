"""Rules for a spec that is applied which need more than the spec: who applies it, and the loop that has the name."""

from __future__ import annotations

from everloop_registry.errors import SpecRejected
from everloop_schemas.loop import LoopSpec
from everloop_shared.errors import FieldError

MAX_SPEC_JSON_BYTES = 500_000
"""A spec is sent in one event, and again in the event of the loop's state."""


def as_published(spec: LoopSpec) -> LoopSpec:
    """The spec as every service reads it from the log; raises SpecRejected where it is too large to be sent."""
    wire = spec.model_dump_json(exclude_none=True, by_alias=True)
    if len(wire) > MAX_SPEC_JSON_BYTES:
        wrong = FieldError("body", f"has {len(wire):,} bytes as JSON; at most {MAX_SPEC_JSON_BYTES:,} can be sent")
        raise SpecRejected(f"{wrong.field}: {wrong.error}", [wrong])
    return LoopSpec.model_validate_json(wire)


def check_people(spec: LoopSpec, *, is_anonymous: bool) -> None:
    """Refuse what nobody could fulfil: without authentication all people have one name. Raises SpecRejected."""
    if spec.rollout.approvals > 1 and is_anonymous:
        said = "different people cannot be told apart while EVERLOOP_AUTH is off; turn it on, or ask for 1 approval"
        wrong = FieldError("rollout.approvals", said)
        raise SpecRejected(f"{wrong.field}: {wrong.error}", [wrong])


def check_same_task(old: LoopSpec, new: LoopSpec) -> None:
    """Refuse another kind of label, which what was learned does not fit; raises SpecRejected."""
    wrong = [
        FieldError(field, f"cannot change from {a} to {b} while the loop exists; apply it under another name")
        for field, a, b in (
            ("task", old.task, new.task),
            ("label.type", old.label_type, new.label_type),
        )
        if a != b
    ]
    if wrong:
        raise SpecRejected("; ".join(f"{e.field}: {e.error}" for e in wrong), wrong)
