"""HTTP for every service: its routes behind the door, health, metrics, documentation and problem details (RFC 9457)."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from everloop_shared.errors import EverloopError, FieldError
from everloop_shared.http.bodies import read_body
from everloop_shared.http.door import Door
from everloop_shared.http.pages import documentation, page
from everloop_shared.http.problems import TooLarge, UnsupportedType, answer, problem

if TYPE_CHECKING:
    from everloop_shared.service import Service

__all__ = ["TooLarge", "UnsupportedType", "create_app", "page", "read_body"]
log = logging.getLogger(__name__)


class _App(FastAPI):
    """FastAPI with the door around all of it, its answers to crashes included."""

    def __init__(self, service: Service) -> None:
        super().__init__(title=f"Everloop {service.name}", docs_url=None, redoc_url=None, redirect_slashes=False)
        self._service = service

    def build_middleware_stack(self) -> ASGIApp:
        """The stack, and the door before it."""
        return Door(super().build_middleware_stack(), self._service.name, self._service.settings)


def create_app(service: Service) -> FastAPI:
    """The service's routes beside those that all have: /livez /readyz /metrics /docs."""
    app = _App(service)
    app.include_router(service.router)
    _add_health(app, service)
    _add_errors(app)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return page(documentation(app.openapi()))

    return app


def _add_health(app: FastAPI, service: Service) -> None:
    @app.get("/livez", response_class=PlainTextResponse, tags=["health"])
    async def livez() -> Response:
        reason = service.not_live()
        return PlainTextResponse(reason or "ok", 503 if reason else 200)

    @app.get("/readyz", response_class=PlainTextResponse, tags=["health"])
    async def readyz() -> Response:
        reason = service.not_ready()
        return PlainTextResponse(reason or "ok", 503 if reason else 200)

    @app.get("/metrics", response_class=PlainTextResponse, tags=["health"])
    async def metrics() -> Response:
        return Response(await asyncio.to_thread(generate_latest), media_type=CONTENT_TYPE_LATEST)


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(EverloopError)
    async def on_error(request: Request, error: EverloopError) -> Response:
        if error.http_status >= 500:
            log.warning("request refused", extra={"path": request.url.path, "reason": error.detail})
        return answer(error)

    @app.exception_handler(RequestValidationError)
    async def on_invalid(request: Request, error: RequestValidationError) -> Response:
        errors = [FieldError(".".join(map(str, e["loc"][1:])) or "body", e["msg"]) for e in error.errors()]
        return problem(422, "Unprocessable input", "the request does not fit", errors)

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> Response:
        response = problem(error.status_code, "HTTP error", str(error.detail))
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Exception)
    async def on_crash(request: Request, error: Exception) -> Response:
        log.error("request failed", exc_info=error, extra={"path": request.url.path})
        return problem(500, "Internal error", "something broke here; it is in the log")
