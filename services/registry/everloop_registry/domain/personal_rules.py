"""Rules for personal fields: what needs their values where no keys are is refused, as are models that keep rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from everloop_schemas.loop import LoopSpec
from everloop_shared.errors import FieldError

KEEP_ROWS = (
    "river.neighbors.",
    "sklearn.gaussian_process.",
    "sklearn.neighbors.",
    "sklearn.svm.NuSV",
    "sklearn.svm.SV",
)
"""What estimators begin with whose models hold the rows that they learned."""
SEALED = "follows from a personal field, whose values monitoring never sees"


def check_personal(spec: LoopSpec) -> Iterator[FieldError]:
    """What a spec with personal fields asks for that would need their values in clear."""
    if not spec.personal_fields:
        return
    for part in ("drift", "slices", "fairness"):
        named: Sequence[str] | str = getattr(spec.monitor, part)
        for i, name in enumerate(() if isinstance(named, str) else named):
            if name in spec.personal_features:
                fix = f"leave it out, or write personal: false for what it is made of ({_origin(spec, name)})"
                yield FieldError(f"monitor.{part}.{i}", f"{name} {SEALED}; {fix}")
    yield from _check_expectations(spec)
    for i, model in enumerate(spec.models):
        if (model.estimator or "").startswith(KEEP_ROWS):
            reason = (
                f"{model.estimator} keeps rows of what it learned, so that it would keep those of erased persons too"
            )
            yield FieldError(f"models.{i}.estimator", f"{reason}; use another estimator, such as one of trees")


def _check_expectations(spec: LoopSpec) -> Iterator[FieldError]:
    for i, one in enumerate(spec.expect):
        if one.field in spec.personal_fields and one.then != "dead_letter":
            reason = f"monitoring counts what breaks it, and {one.field} is personal: it never sees its values"
            yield FieldError(f"expect.{i}.then", f"{reason}; write then: dead_letter, which ingest checks")


def _origin(spec: LoopSpec, feature: str) -> str:
    """The personal fields that a feature follows from, or all of the loop where it does so by other features."""
    if feature in spec.personal_fields:
        return feature
    of = next((f for f in spec.features if f.name == feature), None)
    own = {of.field} & spec.personal_fields if of is not None and of.field else set()
    return ", ".join(sorted(own or spec.personal_fields)[:5])
