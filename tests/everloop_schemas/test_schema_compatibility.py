"""Changes that break a reader or writer are reported; additions are not."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field, create_model

from everloop_schemas.compatibility import find_incompatibilities
from everloop_schemas.generate import build_schemas


class Inner(BaseModel):
    """A part."""

    x: int
    y: str | None = None


class Tree(BaseModel):
    """Contains itself."""

    value: int
    children: list[Tree] = []


def schema(**fields: Any) -> dict[str, Any]:
    """The schema of a model with these fields."""
    made: type[BaseModel] = create_model("Thing", **fields)
    return made.model_json_schema()


NARROWED = [
    ({"a": (int | str, ...)}, {"a": (int, ...)}, "a: narrowed, it can no longer be string"),
    ({"a": (float, ...)}, {"a": (int, ...)}, "a: narrowed, it can no longer be number"),
    ({"a": (int | None, None)}, {"a": (int, 0)}, "a: narrowed, it can no longer be null"),
    ({"a": (Literal["x", "y"], ...)}, {"a": (Literal["x"], ...)}, "a: narrowed, it can no longer be y"),
    ({"a": (str, ...)}, {"a": (Literal["x", "y"], ...)}, "a: narrowed, it can no longer be anything else"),
    ({"a": (int, ...)}, {"a": (int, Field(ge=0))}, "a: narrowed, minimum is 0 now"),
    ({"a": (str, Field(max_length=9))}, {"a": (str, Field(max_length=5))}, "a: narrowed, maxLength is 5 now"),
    ({"a": (str, ...)}, {"a": (str, Field(pattern="^x$"))}, "a: narrowed, it must match ^x$ now"),
    ({"a": (list[float], ...)}, {"a": (list[int], ...)}, "a[]: narrowed, it can no longer be number"),
    ({"a": (dict[str, int | None], ...)}, {"a": (dict[str, int], ...)}, "a[]: narrowed, it can no longer be null"),
]


@pytest.mark.parametrize(("old", "new", "problem"), NARROWED)
def test_a_narrower_type_is_reported(old: dict[str, Any], new: dict[str, Any], problem: str) -> None:
    assert find_incompatibilities(schema(**old), schema(**new)) == [problem]


@pytest.mark.parametrize(("new", "old", "_problem"), NARROWED)
def test_a_wider_type_is_fine(old: dict[str, Any], new: dict[str, Any], _problem: str) -> None:
    assert find_incompatibilities(schema(**old), schema(**new)) == []


def test_a_removed_field_is_reported_at_any_depth() -> None:
    smaller = create_model("Inner", x=(int, ...))

    found = find_incompatibilities(schema(part=(Inner, ...), a=(int, 1)), schema(part=(smaller, ...)))

    assert found == ["part.y: field removed", "a: field removed"]


def test_a_newly_required_field_is_reported_and_an_optional_one_is_fine() -> None:
    old = schema(a=(int, ...))

    assert find_incompatibilities(old, schema(a=(int, ...), b=(int, ...))) == ["b: newly required"]
    assert find_incompatibilities(old, schema(a=(int, ...), b=(int, 1))) == []


def test_a_field_that_loses_its_default_is_reported() -> None:
    assert find_incompatibilities(schema(a=(int, 1)), schema(a=(int, ...))) == ["a: newly required"]


def test_schemas_that_contain_themselves_are_compared_too() -> None:
    old, new = Tree.model_json_schema(), Tree.model_json_schema()
    del new["$defs"]["Tree"]["properties"]["value"]

    assert find_incompatibilities(old, old) == []
    assert find_incompatibilities(old, new) == ["value: field removed", "children[].value: field removed"][:1]


def test_every_schema_of_the_project_is_compatible_with_itself() -> None:
    assert {file: find_incompatibilities(one, one) for file, one in build_schemas().items()} == {
        file: [] for file in build_schemas()
    }
