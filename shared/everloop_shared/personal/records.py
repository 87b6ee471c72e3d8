"""Which parts of a record are personal: they are taken out into its token, and put back when it is opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from everloop_schemas.envelope import DataEvent

E = TypeVar("E", bound=DataEvent)
MAPPINGS = ("fields", "features")
"""Members whose named values are personal where the spec says so; `explanation.contributions` goes with `features`."""
COMMENT_HOLDER = " prediction:"
"""What the holders of keys of comments begin with. No id begins with white space, so no entity is such a holder."""
WHOLE = ("state", "comment")
"""Members that are personal as a whole in loops with personal fields."""


def token_of(event: DataEvent) -> str | None:
    """The sealed values of an event, None where it has none."""
    return getattr(event.data, "personal", None)


def holder_of(event: DataEvent) -> str:
    """Whose key seals an event: the entity's; that of its prediction for a comment, whose entity is not known yet."""
    entity: str | None = getattr(event.data, "entity", None)
    return comment_holder(event.data.prediction_id) if entity is None else entity


def comment_holder(prediction: str) -> str:
    """Who holds the key of a comment on a prediction."""
    return f"{COMMENT_HOLDER}{prediction}"


def take_out(event: E, names: frozenset[str]) -> tuple[E, dict[str, Any] | None]:
    """The event without the values of `names`, and these by member; None where its token has them, or it has none."""
    data, changes, values = event.data, dict[str, Any](), dict[str, Any]()
    for member in MAPPINGS:
        if held := _named(getattr(data, member, None), names):
            values[member] = held
            values["places"] = [place for place, name in enumerate(getattr(data, member)) if name in names]
            changes[member] = {k: v for k, v in getattr(data, member).items() if k not in names}
    for member in WHOLE:
        if whole := getattr(data, member, None):
            values[member] = whole
            changes[member] = None if member == "comment" else {}
    is_sealed = token_of(event) is not None
    explanation = getattr(data, "explanation", None)
    if explanation is not None and (held := _named(explanation.contributions, names)):
        values["contributions"], is_sealed = held, False
        rest = {k: v for k, v in explanation.contributions.items() if k not in names}
        changes["explanation"] = msgspec.structs.replace(explanation, contributions=rest)
    clear = event.copy_with(data=msgspec.structs.replace(data, **changes)) if changes else event
    return clear, None if is_sealed or not values else values


def put_back(event: E, values: Mapping[str, Any]) -> E:
    """The event with its personal values, in the places that they had: models may depend on the order of features."""
    data, changes = event.data, dict[str, Any]()
    for member in MAPPINGS:
        if held := values.get(member):
            if hasattr(data, member):
                changes[member] = in_places(getattr(data, member), held, values.get("places", ()))
    for member in WHOLE:
        if held := values.get(member):
            if hasattr(data, member):
                changes[member] = held
    explanation = getattr(data, "explanation", None)
    if explanation is not None and (held := values.get("contributions")):
        changes["explanation"] = msgspec.structs.replace(explanation, contributions=explanation.contributions | held)
    return event.copy_with(data=msgspec.structs.replace(data, **changes))


def with_token(event: E, token: str) -> E:
    """The event with this token."""
    return event.copy_with(data=msgspec.structs.replace(event.data, personal=token))


def in_places(others: dict[str, Any], held: dict[str, Any], places: Sequence[int]) -> dict[str, Any]:
    """Both together: these values have these places, and after the others where none is known."""
    found, rest = list(others.items()), list(held.items())
    for place, item in zip(places, rest, strict=False):
        found.insert(place, item)
    return dict(found) | held


def _named(values: Mapping[str, Any] | None, names: frozenset[str]) -> dict[str, Any]:
    return {k: v for k, v in values.items() if k in names} if values else {}
