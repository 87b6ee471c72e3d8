"""The FastAPI application of a service: its routes, health, metrics, documentation and error responses (RFC 9457)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from everloop_shared.endpoint import Health
from everloop_shared.errors import FieldError, InputRejected, ServiceError, Unavailable
from everloop_shared.http.audited import note_refusal
from everloop_shared.http.browser_sessions import BrowserSessions
from everloop_shared.http.conventions import Conventions
from everloop_shared.http.direct import DirectRoute, DirectRoutes
from everloop_shared.http.exposition import content_type, own_metrics, prefers_openmetrics
from everloop_shared.http.guard import RequestGuard
from everloop_shared.http.methods import allowed_methods
from everloop_shared.http.openapi import complete, short_operation_id
from everloop_shared.http.pages import documentation, page
from everloop_shared.http.problems import crash_problem, problem, problem_of, service_problem, status_problem
from everloop_shared.http.uploads import Upload
from everloop_shared.http.whole_answers import WholeAnswers
from everloop_shared.settings import Settings

if TYPE_CHECKING:
    from everloop_shared.audit.trail import AuditTrail


def create_app(
    service: str,
    settings: Settings,
    router: APIRouter,
    health: Health,
    direct: Sequence[DirectRoute] = (),
    conventions: Conventions | None = None,
    uploads: Sequence[Upload] = (),
    trail: AuditTrail | None = None,
    sessions: BrowserSessions | None = None,
) -> GuardedApp:
    """The routes of `router` beside those of every service: /livez /readyz /metrics /docs.

    `direct` are the endpoints among them that answer before the framework, where they can, and `trail` is the audit.
    """
    app = GuardedApp(service, settings, direct, conventions, uploads, trail, sessions)
    app.include_router(router)
    _add_health(app, health)
    _add_error_handlers(app)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return page(documentation(app.openapi()))

    return app


class GuardedApp(FastAPI):
    """FastAPI with the guard outside of all of it, its responses to crashes included, then the direct routes."""

    def __init__(
        self,
        service: str,
        settings: Settings,
        direct: Sequence[DirectRoute],
        conventions: Conventions | None,
        uploads: Sequence[Upload] = (),
        trail: AuditTrail | None = None,
        sessions: BrowserSessions | None = None,
    ) -> None:
        super().__init__(
            title=f"Everloop {service}",
            docs_url=None,
            redoc_url=None,
            redirect_slashes=False,
            separate_input_output_schemas=False,
            generate_unique_id_function=short_operation_id,
        )
        self._document: dict[str, Any] | None = None
        app: ASGIApp = WholeAnswers(super().__call__, self.allowed_methods)
        app = DirectRoutes(app, service, direct) if direct else app
        self.guard = RequestGuard(app, service, settings, self.allowed_methods, conventions, uploads, trail, sessions)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the guard, then a direct route or the framework."""
        await self.guard(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document, generated once."""
        if self._document is None:
            self._document = complete(super().openapi())
        return self._document

    def allowed_methods(self, path: str) -> list[str]:
        """The methods that some route answers at this path."""
        return allowed_methods(self.router.routes, path)


def _add_health(app: GuardedApp, health: Health) -> None:
    @app.get("/livez", response_class=PlainTextResponse, tags=["health"])
    async def get_liveness() -> Response:
        """Whether the process works; 503 with the reason asks to restart it."""
        return _health_answer(health.not_live())

    @app.get("/readyz", response_class=PlainTextResponse, tags=["health"])
    async def get_readiness(request: Request) -> Response:
        """Whether the service answers, with remarks for people; 503 with the reason asks to wait."""
        remarks = health.remarked()
        if remarks and not await app.guard.may_read_remarks(request.headers.get("authorization")):
            remarks = [f"remarks: {len(remarks)}; a token with the role viewer for all loops reads them"]
        return _health_answer(health.not_ready(), remarks)

    openmetrics_form = {"application/openmetrics-text": {"schema": {"type": "string"}}}

    @app.get(
        "/metrics", response_class=PlainTextResponse, tags=["health"], responses={200: {"content": openmetrics_form}}
    )
    async def get_metrics(request: Request) -> Response:
        """The metrics, in Prometheus' text format or as OpenMetrics, by `Accept`."""
        openmetrics = prefers_openmetrics(request.headers.get("accept", ""))
        text = await own_metrics(as_openmetrics=openmetrics)
        return Response(text, media_type=content_type(as_openmetrics=openmetrics))


def _health_answer(reason: str | None, remarks: Sequence[str] = ()) -> Response:
    return PlainTextResponse("\n".join(["ok", *remarks])) if reason is None else problem_of(Unavailable(reason))


def _add_error_handlers(app: GuardedApp) -> None:
    @app.exception_handler(ServiceError)
    async def on_service_error(request: Request, error: ServiceError) -> Response:
        note_refusal(request.scope, error)
        return service_problem(error, request.url.path)

    @app.exception_handler(RequestValidationError)
    async def on_validation_error(request: Request, error: RequestValidationError) -> Response:
        errors = [FieldError(".".join(map(str, e["loc"][1:])) or "body", e["msg"]) for e in error.errors()]
        return problem(422, InputRejected.code, InputRejected.title, "the request is not valid", errors)

    @app.exception_handler(HTTPException)
    async def on_http_exception(request: Request, error: HTTPException) -> Response:
        return status_problem(error.status_code, request.url.path, app.allowed_methods(request.scope["path"]))

    @app.exception_handler(Exception)
    async def on_crash(request: Request, error: Exception) -> Response:
        return crash_problem(error, request.url.path)
