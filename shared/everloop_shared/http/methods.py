"""The methods that a path allows: all of them, from all routes, as `Allow` has to name them (RFC 9110, 10.2.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from starlette.routing import BaseRoute, Match

AllowedMethods = Callable[[str], Sequence[str]]
"""The methods that a path allows; none for a path that does not exist."""
_METHODS = ("GET", "PUT", "POST", "PATCH", "DELETE")


def allowed_methods(routes: Sequence[BaseRoute], path: str) -> list[str]:
    """The methods by which some route answers this path, HEAD wherever GET is, and OPTIONS."""

    def is_answered(method: str) -> bool:
        scope = {"type": "http", "path": path, "method": method, "root_path": "", "headers": []}
        return any(route.matches(dict(scope))[0] is Match.FULL for route in routes)

    found = [method for method in _METHODS if is_answered(method)]
    return [*found, *(["HEAD"] if "GET" in found else []), "OPTIONS"] if found else []
