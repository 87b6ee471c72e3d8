"""The HTTP endpoints of serving: its own, and those of the Open Inference Protocol."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter

from everloop_serving.api import open_inference, predictions
from everloop_serving.handlers.requests import RequestHandlers
from everloop_serving.settings import ServingSettings
from everloop_shared.commands import CommandEdge, stored_by_handler


def router(handlers: RequestHandlers, settings: ServingSettings, not_ready: Callable[[], str | None]) -> APIRouter:
    """All routes of serving; `not_ready` returns the reason why the service is not ready, or None."""
    routes, commands = APIRouter(), CommandEdge(stored_by_handler)
    routes.include_router(predictions.router(handlers, commands, settings))
    routes.include_router(open_inference.router(handlers, commands, settings, not_ready))
    return routes
