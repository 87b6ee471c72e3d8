"""Expressions: what is allowed in them, what they evaluate to, and that they can do nothing else."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everloop_features.errors import ExpressionRejected
from everloop_features.expression import Kind, compile_expression
from everloop_schemas.envelope import Scalar

NAMES: dict[str, Kind] = {"a": "number", "b": "number", "side": "string"}


def value(text: str, **values: Scalar | None) -> Scalar | None:
    return compile_expression(text, NAMES).evaluate(values)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a + b * 2", 8),
        ("-(a - b) / b", 1 / 3),
        ("a // b + 7 % b + a ** 3", 9),
        ("min(a, b) + max(a, b, 10) + abs(-1)", 13),
        ("round(log(exp(a)) + sqrt(4), 3)", 4),
        ("1 < a < b", True),
        ("a == 2 and not b > 4 or side == 'sell'", True),
        ("a if side == 'buy' else b", 2),
        ("(a > 1) + (b > 1)", 2),
    ],
)
def test_arithmetic_is_arithmetic(text: str, expected: float) -> None:
    assert value(text, a=2, b=3, side="buy") == pytest.approx(expected)


@pytest.mark.parametrize(
    "text", ["a / 0", "a % 0", "a // 0", "0 ** -1", "log(0)", "sqrt(-1)", "exp(1e6)", "1e300 * 1e300", "(-8) ** 0.5",
             "a ** 65", "a + b", "b > 1", "not b", "min(a, b)", "b if a else a", "a if b else a"],
)  # fmt: skip
def test_what_has_no_answer_is_missing(text: str) -> None:
    assert value(text, a=2, b=None) is None


def test_what_decides_does_not_wait_for_what_is_missing() -> None:
    answers = [value(text, a=1, b=None) for text in ("a or b", "b or a", "b and 0", "b and a", "b or 0")]

    assert answers == [True, True, False, None, None]


@pytest.mark.parametrize(
    "text",
    ["__import__('os')", "a.real", "a[0]", "lambda: 1", "[a]", "(a, b)", "f(a)", "abs(a, b)", "max(a)", "min(*a)",
     "max(a, key=b)", "a := 1", "f'{a}'", "a & b", "a << b", "~a", "a is b", "a in b", "c", "", "a +", "1e999",
     "None", "b'x'", "1j", "a; b", "side * 3", "side < 'x'", "side == 1", "'x' if a else 1", "(" * 300 + "a",
     "+".join(["a"] * 80), "-" * 400 + "a", "exec", "a\x00b"],
)  # fmt: skip
def test_everything_else_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(ExpressionRejected) as refused:
        compile_expression(text, NAMES)

    assert len(str(refused.value)) > 10


numeric = st.recursive(
    st.sampled_from(["a", "b", "0", "1", "2.5", "1e200", "-3"]),
    lambda part: st.one_of(
        st.builds("({} {} {})".format, part, st.sampled_from(["+", "-", "*", "/", "//", "%", "**", "<", "and"]), part),
        st.builds("{}({})".format, st.sampled_from(["abs", "log", "exp", "sqrt", "round"]), part),
        st.builds("({} if {} else {})".format, part, part, part),
    ),
    max_leaves=12,
)
anything = st.one_of(st.none(), st.booleans(), st.integers(), st.floats())


@given(numeric, anything, anything)
def test_evaluation_never_raises_and_is_finite(text: str, a: Scalar | None, b: Scalar | None) -> None:
    answer = value(text, a=a, b=b)

    assert answer is None or (isinstance(answer, int | float) and math.isfinite(answer))


@given(st.text(max_size=60))
def test_any_text_compiles_or_is_refused_with_a_message(text: str) -> None:
    refused = ""
    try:
        compile_expression(text, NAMES).evaluate({"a": 1, "b": 2, "side": "x"})
    except ExpressionRejected as e:
        refused = str(e) or "no message"

    assert refused != "no message"
