"""The HTTP application of a service, for tests that send requests without a socket."""

from __future__ import annotations

from typing import cast

from fastapi import FastAPI
from tests.openapi_conformity import ConformingApp

from everloop_shared.http import HttpEndpoint
from everloop_shared.service import Service


def http_app(service: Service) -> FastAPI:
    """The application behind the service's HTTP endpoint, which checks its answers against its document."""
    [endpoint] = [e for e in service.endpoints if isinstance(e, HttpEndpoint)]
    return cast(FastAPI, ConformingApp(endpoint.app(service)))
