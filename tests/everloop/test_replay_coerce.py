"""The text of a CSV cell or an argument as the value that the loop's schema requires."""

from __future__ import annotations

from typing import Any

import pytest

from everloop.replay.coerce import label, value
from everloop_schemas.loop import LoopSpec
from everloop_schemas.loop_parts import FieldSpec

LABELS = ({"type": "integer"}, {"type": "integer", "classes": [0, 1, 2, 1000, 9007199254740993]})
INTEGERS: list[tuple[str, int | None]] = [
    *[("1", 1), ("1.0", 1), (" 1 ", 1), ("01", 1), ("+1", 1), ("1.", 1), ("1e3", 1000), ("-0", 0)],
    *[("9007199254740993.0", 9007199254740993), ("9007199254740993", 9007199254740993)],
    *[("1_000", None), ("0x1", None), ("1,0", None), ("nan", None), ("inf", None), ("1.5", None), ("१", None)],
    *[("9" * 30, None), ("1e999", None), ("1e-9", None), ("true", None), ("--1", None), ("1 000", None)],
]


@pytest.mark.parametrize("text", INTEGERS, ids=lambda t: t[0])
@pytest.mark.parametrize("how", LABELS, ids=["open", "classes"])
def test_the_text_of_an_integer_class_is_read_exactly_or_refused(
    how: dict[str, Any], text: tuple[str, int | None]
) -> None:
    body = {"loop": "x", "task": "multiclass", "schema": {"a": {"type": "number"}}, "label": how}
    spec = LoopSpec.model_validate(body)

    if text[1] is None:
        with pytest.raises(ValueError, match=r"is no|is none of"):
            label(spec, text[0])
    else:
        assert (label(spec, text[0]), type(label(spec, text[0]))) == (text[1], int)


@pytest.mark.parametrize(
    ("kind", "text", "meant"),
    [
        ("number", " 1.5 ", 1.5),
        ("number", "9007199254740993", 9007199254740993),
        ("number", " ", None),
        ("number", "1_0", ValueError),
        ("number", "1,5", ValueError),
        ("number", "1e999", ValueError),
        ("number", "Infinity", ValueError),
        ("number", "1" * 401, ValueError),
        ("integer", "3.0", 3),
        ("integer", "9223372036854775808", ValueError),
        ("boolean", " TRUE ", True),
        ("boolean", "No", False),
        ("boolean", "2", ValueError),
        ("string", " a ", " a "),
    ],
)
def test_the_text_of_a_field_is_converted_or_refused(kind: Any, text: str, meant: Any) -> None:
    field = FieldSpec(type=kind, missing="null")

    if meant is ValueError:
        with pytest.raises(ValueError, match=r"^'"):
            value(field, text)
    else:
        assert value(field, text) == meant


def test_classes_keep_their_own_type() -> None:
    spec = LoopSpec.model_validate(
        {"loop": "x", "task": "multiclass", "schema": {"a": {"type": "number"}}, "label": {"classes": ["a", 3]}}
    )

    assert (label(spec, "a"), label(spec, "3"), label(spec, " ")) == ("a", 3, None)
    with pytest.raises(ValueError, match="none of the classes a, 3"):
        label(spec, "b")
