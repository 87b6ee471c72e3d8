"""Arithmetic over fields and features: text to a safe tree of closures, never `eval`."""

from __future__ import annotations

import ast
import math
import operator
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from everloop_features.errors import ExpressionRejected
from everloop_features.numbers import finite
from everloop_schemas.envelope import Scalar
from everloop_shared.errors import listed

Kind = Literal["number", "string"]
Values = Mapping[str, Scalar | None]
Evaluate = Callable[[Values], Scalar | None]

MAX_NODES = 250
MAX_DEPTH = 60
MAX_EXPONENT = 64
HELP = "allowed are + - * / // % **, comparisons, and or not, if else, min max abs log exp sqrt round"


@dataclass(frozen=True)
class Expression:
    """A compiled expression. `evaluate` never raises, and returns None where the result is undefined.

    `parts` counts its operations, names and constants.
    """

    kind: Kind
    evaluate: Evaluate
    parts: int = 1


def _power(base: float, exponent: float) -> Any:
    if abs(exponent) > MAX_EXPONENT:
        return None
    return float(base) ** exponent


def _round(value: float, digits: float = 0) -> float | int | None:
    if abs(digits) > 15:
        return None
    return round(value, int(digits)) if digits else round(value)


_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_FUNCTIONS: dict[str, tuple[Callable[..., Any], int, int]] = {  # the function, and how many arguments it takes
    "min": (min, 2, 20),
    "max": (max, 2, 20),
    "abs": (abs, 1, 1),
    "log": (math.log, 1, 1),
    "exp": (math.exp, 1, 1),
    "sqrt": (math.sqrt, 1, 1),
    "round": (_round, 1, 2),
}


def compile_expression(text: str, names: Mapping[str, Kind]) -> Expression:
    """The expression over `names`; raises ExpressionRejected with the reason and the fix."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as e:
        raise ExpressionRejected(f"not an expression: {getattr(e, 'msg', None) or 'too deeply nested'}; {HELP}") from e
    parts = sum(isinstance(node, ast.expr) for node in ast.walk(tree))
    if parts > MAX_NODES or _depth(tree) > MAX_DEPTH:
        raise ExpressionRejected(f"too large; split it (at most {MAX_NODES} parts, {MAX_DEPTH} deep)")
    return replace(_build(tree, names), parts=parts)


def _depth(tree: ast.AST) -> int:
    """The depth of a tree, computed without recursion, because it guards against deep recursion."""
    deepest = 0
    level = [tree]
    while level:
        deepest += 1
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    return deepest


def _build(node: ast.AST, names: Mapping[str, Kind]) -> Expression:
    match node:
        case ast.Constant(value=value):
            return _constant(value)
        case ast.Name(id=name):
            return _name(name, names)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _operation(_BINARY[type(op)], _number(left, names), _number(right, names))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _strict(operator.neg, [_number(operand, names)])
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _number(operand, names)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return _strict(operator.not_, [_number(operand, names)], boolean=True)
        case ast.BoolOp(op=op, values=values):
            return _logic(isinstance(op, ast.And), [_number(v, names) for v in values])
        case ast.Compare(left=left, ops=ops, comparators=rest) if all(type(op) in _COMPARE for op in ops):
            return _comparison([_build(n, names) for n in (left, *rest)], [_COMPARE[type(op)] for op in ops])
        case ast.IfExp(test=test, body=body, orelse=orelse):
            return _choice(_number(test, names), _build(body, names), _build(orelse, names))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            return _call(name, [_number(a, names) for a in args])
    raise ExpressionRejected(f"{ast.unparse(node)[:60]!r} is not allowed; {HELP}")


def _constant(value: object) -> Expression:
    if isinstance(value, str):
        return Expression("string", lambda _: value)
    number = finite(value)
    if number is None:
        raise ExpressionRejected(f"{value!r} is not a finite number or a string")
    answer: Scalar = value if isinstance(value, bool) else number
    return Expression("number", lambda _: answer)


def _name(name: str, names: Mapping[str, Kind]) -> Expression:
    if name not in names:
        raise ExpressionRejected(f"{name!r:.80} is no field and no earlier feature; known are {listed(names)}")
    if names[name] == "string":
        return Expression("string", lambda values: v if isinstance(v := values.get(name), str) else None)
    return Expression("number", lambda values: finite(values.get(name)))


def _number(node: ast.AST, names: Mapping[str, Kind]) -> Expression:
    part = _build(node, names)
    if part.kind != "number":
        raise ExpressionRejected(f"{ast.unparse(node)[:60]!r} is a string; strings can only be compared, by == or !=")
    return part


def _strict(function: Callable[..., Any], parts: list[Expression], boolean: bool = False) -> Expression:
    """A function of numbers: None where an argument is missing, or the result is no finite number."""

    def evaluate(values: Values) -> Scalar | None:
        arguments = [part.evaluate(values) for part in parts]
        if None in arguments:
            return None
        try:
            result = function(*arguments)
        except (ArithmeticError, ValueError):
            return None
        return bool(result) if boolean else finite(result)

    return Expression("number", evaluate)


def _operation(function: Callable[[Any, Any], Any], left: Expression, right: Expression) -> Expression:
    """As `_strict`, of two numbers: most parts of an expression are such operations."""
    evaluate_left, evaluate_right = left.evaluate, right.evaluate

    def evaluate(values: Values) -> Scalar | None:
        a = evaluate_left(values)
        if a is None:
            return None
        b = evaluate_right(values)
        if b is None:
            return None
        try:
            return finite(function(a, b))
        except (ArithmeticError, ValueError):
            return None

    return Expression("number", evaluate)


def _call(name: str, parts: list[Expression]) -> Expression:
    function, least, most = _FUNCTIONS[name]
    if not least <= len(parts) <= most:
        raise ExpressionRejected(f"{name} takes {least} to {most} arguments, not {len(parts)}")
    return _strict(function, parts)


def _logic(conjunction: bool, parts: list[Expression]) -> Expression:
    """and/or in Kleene's three-valued logic: a missing part matters only where the others do not decide."""

    def evaluate(values: Values) -> Scalar | None:
        answers = [None if (v := part.evaluate(values)) is None else bool(v) for part in parts]
        decisive = not conjunction
        if decisive in answers:
            return decisive
        return None if None in answers else conjunction

    return Expression("number", evaluate)


def _comparison(parts: list[Expression], operators: list[Callable[[Any, Any], bool]]) -> Expression:
    kinds = {part.kind for part in parts}
    if len(kinds) > 1:
        raise ExpressionRejected("compares a string with a number; compare like with like")
    if kinds == {"string"} and not {*operators} <= {operator.eq, operator.ne}:
        raise ExpressionRejected("strings can only be compared by == or !=")

    def evaluate(values: Values) -> Scalar | None:
        answers = [part.evaluate(values) for part in parts]
        if None in answers:
            return None
        return all(op(a, b) for op, a, b in zip(operators, answers, answers[1:], strict=False))

    return Expression("number", evaluate)


def _choice(test: Expression, body: Expression, orelse: Expression) -> Expression:
    if body.kind != orelse.kind:
        raise ExpressionRejected("both sides of if ... else must be numbers, or both strings")

    def evaluate(values: Values) -> Scalar | None:
        answer = test.evaluate(values)
        if answer is None:
            return None
        return body.evaluate(values) if answer else orelse.evaluate(values)

    return Expression(body.kind, evaluate)
