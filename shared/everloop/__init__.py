"""What users import and run: the client, the `everloop` command, and the local installation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from everloop.client import AsyncEverloop, Everloop
    from everloop.errors import EverloopHTTPError, EverloopUnreachable
    from everloop.results import Accepted, Prediction, Rejected

__all__ = [
    "Accepted",
    "AsyncEverloop",
    "Everloop",
    "EverloopHTTPError",
    "EverloopUnreachable",
    "Prediction",
    "Rejected",
]


def __getattr__(name: str) -> Any:
    # On first use, so that the command line and the supervisor start without an HTTP client.
    from importlib import import_module

    for module in ("everloop.client", "everloop.errors", "everloop.results"):
        if name in __all__ and hasattr(found := import_module(module), name):
            return getattr(found, name)
    raise AttributeError(f"module 'everloop' has no attribute {name!r}")
