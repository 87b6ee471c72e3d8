"""What a loop's spec expects of the values of fields, beyond what its schema allows; pure."""

from __future__ import annotations

from collections.abc import Mapping

from everloop_schemas.envelope import Scalar
from everloop_schemas.loop import LoopSpec
from everloop_schemas.monitor_spec import ExpectationSpec
from everloop_shared.errors import FieldError

MAX_NAMED = 10


def is_met(expectation: ExpectationSpec, value: Scalar | None) -> bool | None:
    """Whether a value is as expected; None for a missing one of which only its range or its values are expected."""
    if expectation.present:
        return value is not None
    if value is None:
        return None
    if expectation.between is not None:
        lowest, highest = expectation.between
        return isinstance(value, int | float) and lowest <= value <= highest
    return value in (expectation.one_of or ())


def describe(expectation: ExpectationSpec) -> str:
    """What is expected, in words that follow `is expected to be`."""
    if expectation.between is not None:
        return f"between {expectation.between[0]:g} and {expectation.between[1]:g}"
    if expectation.one_of is None:
        return "present"
    named = ", ".join(str(value)[:40] for value in expectation.one_of[:MAX_NAMED])
    return f"one of {named}" + (" and others" if len(expectation.one_of) > MAX_NAMED else "")


def refuse_unexpected(spec: LoopSpec, fields: Mapping[str, Scalar | None]) -> list[FieldError]:
    """The fields for which an observation is refused: those of expectations with `then: dead_letter` that it breaks."""
    return [
        FieldError(f"data.{one.field}", f"is expected to be {describe(one)}; the loop refuses other values")
        for one in spec.expect
        if one.then == "dead_letter" and is_met(one, fields.get(one.field)) is False
    ]
