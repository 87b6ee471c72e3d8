"""HTTP for every service: health, metrics, problem details (RFC 9457), and limits on what a door takes in."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from everloop_shared.errors import EverloopError, FieldError, Overloaded, Rejected, Unavailable
from everloop_shared.tracing import accepted, new_traceparent, traced

if TYPE_CHECKING:
    from everloop_shared.service import Service

log = logging.getLogger(__name__)
MAX_IN_FLIGHT = 1000
HEALTH = ("/livez", "/readyz", "/metrics")


class TooLarge(Rejected):
    """A body over the limit."""

    http_status = 413
    title = "Content too large"


class UnsupportedType(Rejected):
    """A content type this door does not read."""

    http_status = 415
    title = "Unsupported media type"


async def read_body(request: Request, limit: int) -> bytes:
    """The request's body; raises TooLarge as soon as it is longer than `limit` bytes, without reading the rest."""
    chunks, size = [], 0
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise TooLarge(f"the body is over {limit:,} bytes; send it in smaller parts")
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise TooLarge(f"the body is over {limit:,} bytes; send it in smaller parts")
        chunks.append(chunk)
    return b"".join(chunks)


def problem(status: int, title: str, detail: str, errors: list[FieldError] | None = None) -> JSONResponse:
    """Problem details, RFC 9457, with the fields that are wrong."""
    body: dict[str, Any] = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    if errors:
        body["errors"] = [{"field": e.field, "error": e.error} for e in errors]
    return JSONResponse(body, status, media_type="application/problem+json")


def answer(error: EverloopError) -> JSONResponse:
    """The error as problem details, with Retry-After where trying again will help."""
    response = problem(error.http_status, error.title, error.detail, error.errors)
    if error.retry_after is not None:
        response.headers["retry-after"] = str(max(1, math.ceil(error.retry_after)))
    return response


class Doorkeeper:
    """ASGI middleware: at most `limit` requests at once (health aside), each under a W3C trace context."""

    def __init__(self, app: ASGIApp, limit: int = MAX_IN_FLIGHT) -> None:
        self._app = app
        self._limit = limit
        self._inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in HEALTH:
            await self._app(scope, receive, send)
            return
        if self._inside >= self._limit:
            await answer(Overloaded(f"{self._limit:,} requests are in hand already"))(scope, receive, send)
            return
        self._inside += 1
        try:
            with traced(accepted(Headers(scope=scope).get("traceparent")) or new_traceparent()):
                await self._app(scope, receive, send)
        except asyncio.CancelledError:  # the door closes, and this one took longer than the drain
            await answer(Unavailable("the service is stopping; try again"))(scope, receive, send)
        finally:
            self._inside -= 1


def create_app(service: Service) -> FastAPI:
    """The service's routes beside those that all have: /livez /readyz /metrics /docs."""
    app = FastAPI(title=f"Everloop {service.name}", docs_url="/docs", redoc_url=None)
    app.add_middleware(Doorkeeper)
    app.include_router(service.router)
    _add_health(app, service)
    _add_errors(app)
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
