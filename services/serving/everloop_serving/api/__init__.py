"""The HTTP endpoints of serving: its own, and those of the Open Inference Protocol."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastapi import APIRouter

from everloop_serving.api import open_inference, predictions
from everloop_serving.api.direct import direct_routes
from everloop_serving.handlers.inference import InferenceHandlers
from everloop_serving.handlers.requests import RequestHandlers
from everloop_serving.settings import ServingSettings
from everloop_shared.commands import CommandEdge, stored_by_handler
from everloop_shared.http.direct import DirectRoute


def routes_of(
    handlers: RequestHandlers, settings: ServingSettings, not_ready: Callable[[], str | None]
) -> tuple[APIRouter, Sequence[DirectRoute]]:
    """All routes, and the direct ones; `not_ready` returns the reason why the service is not ready, or None."""
    routes, commands = APIRouter(), CommandEdge(stored_by_handler)
    inference = open_inference.Inference(InferenceHandlers(handlers), commands)
    routes.include_router(predictions.router(handlers, commands, settings))
    routes.include_router(open_inference.router(inference, not_ready))
    return routes, direct_routes(handlers, inference, commands, settings)
