"""Finds values in a record by their paths."""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any

Reader = Callable[[dict[str, Any]], Any]


def compile_path(path: str) -> Reader:
    """Reads the value at a path, such as `after.amount`; None where there is none."""
    first, *rest = path.split(".")
    if not rest:
        return lambda root: root.get(first)
    if len(rest) == 1:
        [last] = rest

        def read_two(root: dict[str, Any]) -> Any:
            inner = root.get(first)
            return inner.get(last) if type(inner) is dict else None

        return read_two
    names = (first, *rest)

    def read(root: Any) -> Any:
        for name in names:
            if type(root) is not dict:
                return None
            root = root.get(name)
        return root

    return read


def has_path(root: Any, path: str) -> bool:
    """Whether there is a value at a path, null included."""
    try:
        for name in path.split("."):
            root = itemgetter(name)(root)
    except (KeyError, TypeError):
        return False
    return True
