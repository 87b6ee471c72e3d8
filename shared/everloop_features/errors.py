"""Why features cannot be computed: the spec is wrong, or an observation reuses an id."""

from __future__ import annotations

from everloop_shared.errors import ErrorKind, FieldError, InputRejected


class FeaturesRejected(InputRejected, ValueError):
    """The `features` of a spec do not fit; `errors` names each field (`features.2.expr`) and the fix."""

    title = "Features do not fit"

    def __init__(self, errors: list[FieldError]) -> None:
        super().__init__("; ".join(f"{e.field}: {e.error}" for e in errors[:5]), errors)


class ExpressionRejected(ValueError):
    """An expression has something that is not allowed; the message says what, and the fix."""


class IdTaken(InputRejected):
    """Another observation came under this id before: the same id with another entity, time or other fields."""

    kind = ErrorKind.ALREADY_EXISTS
    title = "Id taken"
