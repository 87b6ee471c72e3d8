"""A version is learned again by another process, and is the same; what was changed since is told."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from io import BytesIO
from random import Random
from typing import Any

import pytest

from everloop.data_sets import DataSet
from everloop.rebuilding.rebuild import NotRebuilt, Origin, find_origin, rebuild
from everloop_learning.data_set import Row
from everloop_learning.data_set_columns import DescribedDataSet
from everloop_models import build, library_versions, save
from everloop_schemas.envelope import Fields
from everloop_schemas.loop import LoopSpec
from everloop_schemas.loop_parts import ModelSpec

SPEC = {
    "loop": "m",
    "task": "binary",
    "schema": {"price": {"type": "number"}, "area": {"type": "number"}, "city": {"type": "string"}},
    "features": [{"fields": "all"}],
}
MODEL = {"estimator": "river.linear_model.LogisticRegression", "scale": True}
SKIPPED = 7
VERSION = "logistic-regression-0@59"


def outcomes() -> list[Row]:
    random, time = Random(3), datetime(2026, 1, 1, tzinfo=UTC)
    made = []
    for i in range(60):
        price = random.random()
        features: Fields = {"price": price, "area": random.random() * 1e6, "city": random.choice("abc")}
        made.append(Row(i, time, f"p{i}", features, random.random() < price))
    return made


def data_set(rows: list[Row], erased: int = 0) -> DataSet:
    """The rows as a client has them, with their features sorted by name."""
    lines = b"".join(row.encode() for row in rows)
    types = {"price": "number", "area": "number", "city": "string"}
    about = {"loop": "m", "start": 0, "end": 59, "revision": 1, "digest": sha256(lines).hexdigest(), "rows": len(rows)}
    described = DescribedDataSet.model_validate({**about, "features": types, "label": "boolean", "erased": erased})
    return DataSet(described, BytesIO(lines))


def registered() -> dict[str, Any]:
    """The version as its line made it: each outcome but one was predicted, then learned, in the order of the spec."""
    model = build(ModelSpec.model_validate(MODEL), LoopSpec.model_validate(SPEC))
    for row in outcomes():
        if row.offset != SKIPPED:
            model.predict(row.features)
            model.learn(row.features, row.label)
    artifact = save(model)
    manifest = {
        "format": "river",
        "model": MODEL,
        "start_offset": 0,
        "end_offset": 59,
        "outcomes": 59,
        "loop_revision": 1,
        "skipped": [SKIPPED],
        "libraries": dict(library_versions()),
    }
    more = {"sha256": artifact.sha256, "size": artifact.size, "reason": "refresh", "slot": "champion"}
    return {"version": VERSION, "manifest": manifest, **more}


def asked(version: dict[str, Any]) -> Any:
    applied = {"revision": 1, "data": {"spec": SPEC}}
    answers = {"/v1/loops/m/versions": {"versions": [version]}, "/v1/loops/m/history": {"decisions": [applied]}}
    return lambda service, path: answers[path]


def origin(**changes: Any) -> Origin:
    version = registered()
    version["manifest"] |= changes
    return find_origin("m", VERSION, asked(version))


@pytest.mark.promise(4)
def test_a_version_that_is_learned_again_in_another_process_has_the_same_bytes() -> None:
    found = find_origin("m", "champion", asked(registered()))

    made = rebuild(found, data_set(outcomes()))

    assert found.data_set == "m@0..59#1"
    assert made.is_identical, made
    assert made.outcomes == 59


def test_a_label_that_was_changed_on_the_log_makes_another_version_and_what_else_differs_is_said() -> None:
    rows = outcomes()[:-2]
    rows[30] = rows[30]._replace(label=not rows[30].label)

    made = rebuild(origin(libraries={**library_versions(), "river": "0.1"}), data_set(rows))

    assert not made.is_identical
    fewer, river = made.differences
    assert fewer == "it was made of 59 outcomes, the log has 57 of them"
    assert river == f"river was 0.1, here it is {library_versions()['river']}"


def test_outcomes_of_persons_who_were_erased_since_are_named_as_the_difference() -> None:
    made = rebuild(origin(), data_set(outcomes()[:-3], erased=3))

    assert not made.is_identical
    assert made.differences == ["3 outcomes of erased persons are left out"]


def test_a_version_that_was_trained_elsewhere_is_refused_with_the_name_of_its_trainer() -> None:
    with pytest.raises(NotRebuilt, match="trained elsewhere, by the trainer network"):
        origin(trainer="network")


def test_an_unknown_version_is_refused_with_the_newest_ones() -> None:
    with pytest.raises(NotRebuilt, match=f"m has no version 'x@1'; the newest: {VERSION}"):
        find_origin("m", "x@1", asked(registered()))


def test_a_model_that_breaks_on_the_rows_is_refused_with_the_reason() -> None:
    rows = [row._replace(label="text") for row in outcomes()]
    model = {"estimator": "river.linear_model.LinearRegression"}
    spec = {**SPEC, "task": "regression"}
    found = origin()

    with pytest.raises(NotRebuilt, match=f"{VERSION} cannot be made again"):
        rebuild(
            Origin({**found.registered, "manifest": {**found.manifest, "model": model}}, spec, "m@0..59#1"),
            data_set(rows),
        )
