"""Which features follow from personal fields."""

from __future__ import annotations

from typing import Any

import pytest

from everloop_schemas.loop import LoopSpec


def spec(*features: dict[str, Any], personal: str = "income") -> LoopSpec:
    fields = {name: {"type": "number", "personal": name == personal} for name in ("income", "price", "age")}
    given = {"features": features} if features else {}
    return LoopSpec.model_validate({"loop": "market", "task": "binary", "schema": fields, **given})


@pytest.mark.parametrize(
    ("features", "personal"),
    [
        ((), {"income"}),
        (({"fields": ["price", "age"]},), set()),
        (({"name": "i_mean", "mean": "income", "over": "12 events"},), {"i_mean"}),
        (({"name": "p_mean", "mean": "price", "over": "12 events"},), set()),
        (
            ({"fields": "all"}, {"name": "a", "expr": "income / price"}, {"name": "b", "expr": "a + 1"}),
            {"income", "a", "b"},
        ),
        (({"name": "a", "expr": "\uff49ncome * 2"},), {"a"}),
        (({"fields": ["price"]}, {"name": "l", "lag": "label"}), set()),
    ],
)  # fmt: skip
def test_a_feature_is_personal_that_uses_a_personal_field(features: Any, personal: set[str]) -> None:
    found = spec(*features).personal_features

    assert found == personal


def test_without_personal_fields_nothing_is_personal() -> None:
    assert (spec(personal="").personal_fields, spec(personal="").personal_features) == (frozenset(), frozenset())
