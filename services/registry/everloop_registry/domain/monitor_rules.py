"""Rules for what a spec asks to watch and to expect."""

from __future__ import annotations

from collections.abc import Iterator

from everloop_registry.domain.value_rules import check_values
from everloop_schemas.loop import LoopSpec
from everloop_shared.errors import FieldError

MAX_WATCHED = 200
"""Features that monitoring compares with those that the champion learned from."""


def check_drift(spec: LoopSpec) -> Iterator[FieldError]:
    """The features to watch for drift: known, each named once, and not too many."""
    asked = spec.monitor.drift
    if asked == "none" and spec.retrain.on_data_drift:
        yield FieldError("retrain.on_data_drift", "needs monitor.drift: all, or the names of features")
    if asked == "all" and (n := len(set(spec.feature_names) - spec.personal_features)) > MAX_WATCHED:
        yield FieldError("monitor.drift", f"at most {MAX_WATCHED} of the {n:,} features can be watched; name those")
    if isinstance(asked, str):
        return
    if not asked:
        yield FieldError("monitor.drift", "is empty; name features, or write all or none")
    elif len(asked) > MAX_WATCHED:
        yield FieldError("monitor.drift", f"names {len(asked):,} features; at most {MAX_WATCHED}")
    elif len(set(asked)) < len(asked):
        yield FieldError("monitor.drift", "names a feature twice; leave it out")
    for i, name in enumerate(asked):
        if name not in spec.feature_names:
            yield FieldError(f"monitor.drift.{i}", f"there is no feature {name}; name one of the loop's features")


def check_expectations(spec: LoopSpec) -> Iterator[FieldError]:
    """What is expected of fields: known, of the field's type, and not what the schema says already."""
    known = set[tuple[str, str]]()
    for i, one in enumerate(spec.expect):
        path, form = f"expect.{i}", "between" if one.between else "one_of" if one.one_of else "present"
        field = spec.fields.get(one.field)
        if field is None:
            yield FieldError(f"{path}.field", f"there is no field {one.field} in the schema; name one of its fields")
            continue
        if (one.field, form) in known:
            yield FieldError(f"{path}.{form}", f"{one.field} has an expectation with {form} already; leave one out")
        known.add((one.field, form))
        if one.present and field.missing == "refuse":
            yield FieldError(
                f"{path}.present", f"{one.field} is never missing; write missing: null in its schema first"
            )
        if one.between and field.type not in ("number", "integer"):
            yield FieldError(f"{path}.between", f"is for numbers; {one.field} is a {field.type}, use one_of")
        if one.one_of:
            yield from check_values(f"{path}.one_of", one.one_of, field.type)
