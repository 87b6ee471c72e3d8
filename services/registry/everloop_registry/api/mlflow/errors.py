"""Errors in the form of MLflow's REST API: `error_code` and `message`, with the status that its clients expect."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

from everloop_registry.errors import TooManyLogged, TooManyLoops
from everloop_shared.errors import DETAIL_LENGTH, ErrorKind, ServiceError, cut

log = logging.getLogger(__name__)
CODES = {
    ErrorKind.UNAUTHENTICATED: ("UNAUTHENTICATED", 401),
    ErrorKind.PERMISSION_DENIED: ("PERMISSION_DENIED", 403),
    ErrorKind.NOT_FOUND: ("RESOURCE_DOES_NOT_EXIST", 404),
    ErrorKind.ALREADY_EXISTS: ("RESOURCE_ALREADY_EXISTS", 400),
    ErrorKind.TOO_LARGE: ("INVALID_PARAMETER_VALUE", 413),
    ErrorKind.RESOURCE_EXHAUSTED: ("RESOURCE_EXHAUSTED", 429),
    ErrorKind.INTERNAL: ("INTERNAL_ERROR", 500),
    ErrorKind.UNAVAILABLE: ("TEMPORARILY_UNAVAILABLE", 503),
    ErrorKind.STORAGE_FULL: ("RESOURCE_EXHAUSTED", 507),
}
"""By kind of failure the error code and the status; MLflow has INVALID_PARAMETER_VALUE for all others."""


class MlflowRoute(APIRoute):
    """A route that answers failures in MLflow's form."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, which turns errors into answers."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except ServiceError as e:
                if e.http_status >= 500:
                    fields = {"path": request.url.path, "code": e.code, "reason": e.detail}
                    log.warning("request refused", extra=fields)
                return error_answer(e)

        return answer


def error_answer(error: ServiceError) -> JSONResponse:
    """The error as MLflow's clients read it, with Retry-After where a retry can succeed."""
    code, status = CODES.get(error.kind, ("INVALID_PARAMETER_VALUE", 400))
    if isinstance(error, TooManyLogged | TooManyLoops):
        code = "RESOURCE_EXHAUSTED"  # with a status on which clients do not try again
    response = JSONResponse({"error_code": code, "message": cut(error.detail, DETAIL_LENGTH)}, status)
    if error.retry_after is not None:
        response.headers["retry-after"] = str(max(1, math.ceil(error.retry_after)))
    return response
