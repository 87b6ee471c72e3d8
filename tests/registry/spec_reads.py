"""Which fields of the loop spec some code reads: a small type inference over syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from typing import NamedTuple, get_args

from pydantic import BaseModel

from everloop_schemas.loop import LoopSpec
from everloop_schemas.loop_parts import WINDOW_FUNCTIONS


class SpecField(NamedTuple):
    """A field, or a property that reads fields, of one class of the spec."""

    owner: str
    name: str


def _spec_classes(cls: type[BaseModel]) -> dict[str, type[BaseModel]]:
    found = {cls.__name__: cls}
    for field in cls.model_fields.values():
        for kind in _parts(field.annotation):
            found |= _spec_classes(kind)
    return found


def _parts(annotation: object) -> list[type[BaseModel]]:
    """The classes of the spec in an annotation, within containers and unions too."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [part for argument in get_args(annotation) for part in _parts(argument)]


SPEC_CLASSES = _spec_classes(LoopSpec)
"""LoopSpec and the classes of its parts, by name."""
SPEC_NAMES = ("spec", "_spec")
"""An attribute or a method of this name gives a LoopSpec, on whatever object."""


def field_type(owner: str, name: str) -> str | None:
    """The class of the spec that a field holds, alone or in a container."""
    field = SPEC_CLASSES[owner].model_fields.get(name)
    parts = _parts(field.annotation) if field else []
    return parts[0].__name__ if parts else None


def spec_reads(modules: Iterable[ast.Module]) -> set[SpecField]:
    """Every field that is read outside the spec's classes, there or by a property that is read."""
    outside, by_property = set[SpecField](), dict[SpecField, set[SpecField]]()
    for module in modules:
        for owner, function in _functions(module):
            found = set(_Reads(owner, function))
            if owner in SPEC_CLASSES:
                by_property[SpecField(owner, function.name)] = found
            else:
                outside |= found
    reached, waiting = set[SpecField](), list(outside)
    while waiting:
        field = waiting.pop()
        if field not in reached:
            reached.add(field)
            waiting += by_property.get(field, ())
    return reached


Function = ast.FunctionDef | ast.AsyncFunctionDef


def _functions(node: ast.AST, owner: str = "") -> Iterator[tuple[str, Function]]:
    """The outermost functions, each with the class that it belongs to."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function):
            yield owner, child
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, child.name)
        else:
            yield from _functions(child, owner)


class _Reads:
    """The reads in one function, in the order of its names: a name has the class that was assigned to it last."""

    def __init__(self, owner: str, function: Function) -> None:
        self._function = function
        self._names: dict[str, str] = {"self": owner} if owner in SPEC_CLASSES else {}

    def __iter__(self) -> Iterator[SpecField]:
        for _ in range(2):  # a second time, for names that comprehensions use before the walk has met their target
            for node in ast.walk(self._function):
                self._bind(node)
        for node in ast.walk(self._function):
            if isinstance(node, ast.Attribute) and (owner := self._class(node.value)):
                yield SpecField(owner, node.attr)
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr":
                owner, name = self._class(node.args[0]), node.args[1]
                names = [str(name.value)] if isinstance(name, ast.Constant) else WINDOW_FUNCTIONS
                yield from (SpecField(owner, n) for n in names if owner)

    def _bind(self, node: ast.AST) -> None:
        match node:
            case ast.arg(arg=name, annotation=annotation) if annotation is not None:
                self._set(name, self._annotated(annotation))
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation):
                self._set(name, self._annotated(annotation))
            case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)):
                for target, value in zip(targets, values, strict=False):
                    self._assign(target, value)
            case ast.Assign(targets=[target], value=value) | ast.NamedExpr(target=target, value=value):
                self._assign(target, value)
            case ast.For(target=target, iter=values) | ast.comprehension(target=target, iter=values):
                while isinstance(target, ast.Tuple):  # (i, spec), (i, (name, spec)): the last is the spec
                    target = target.elts[-1]
                self._assign(target, values)

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Name):
            self._set(target.id, self._class(value))

    def _set(self, name: str, of: str | None) -> None:
        if of is not None:
            self._names[name] = of

    def _annotated(self, annotation: ast.expr) -> str | None:
        names = (n.id for n in ast.walk(annotation) if isinstance(n, ast.Name))
        return next((name for name in names if name in SPEC_CLASSES), None)

    def _class(self, node: ast.expr) -> str | None:
        """The class of the spec that an expression gives; a container counts as what it holds."""
        match node:
            case ast.Name(id=name):
                return self._names.get(name)
            case ast.Attribute(value=value, attr=attribute):
                owner = self._class(value)
                if owner is None:
                    return "LoopSpec" if attribute in SPEC_NAMES else None
                return owner if attribute in ("items", "values", "get") else field_type(owner, attribute)
            case ast.Call(func=ast.Name(id="enumerate" | "zip" | "list" | "tuple" | "sorted"), args=[first, *_]):
                return self._class(first)
            case ast.Call(func=function):
                return self._class(function)
            case ast.Subscript(value=value):
                return self._class(value)
            case ast.IfExp(body=body):
                return self._class(body)
        return None
