"""What a loop's spec expects of the values of fields, beyond what its schema allows; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

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


def name_of(expectation: ExpectationSpec) -> str:
    """Its field and its form, as `age.between`."""
    form = "between" if expectation.between else "one_of" if expectation.one_of else "present"
    return f"{expectation.field}.{form}"


def refused_by(spec: LoopSpec, fields: Mapping[str, Scalar | None]) -> tuple[ExpectationSpec, ...]:
    """The expectations for which an observation is refused: those with `then: dead_letter` that it breaks."""
    return tuple(
        one for one in spec.expect if one.then == "dead_letter" and is_met(one, fields.get(one.field)) is False
    )


def errors_of(broken: Iterable[ExpectationSpec]) -> list[FieldError]:
    """What whoever sent the observation is told, by field."""
    return [
        FieldError(f"data.{one.field}", f"is expected to be {describe(one)}; the loop refuses other values")
        for one in broken
    ]
