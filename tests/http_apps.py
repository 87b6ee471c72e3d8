"""The HTTP application of a service, for tests that send requests without a socket."""

from __future__ import annotations

from fastapi import FastAPI

from everloop_shared.http import HttpEndpoint
from everloop_shared.service import Service


def http_app(service: Service) -> FastAPI:
    """The application behind the service's HTTP endpoint."""
    [endpoint] = [e for e in service.endpoints if isinstance(e, HttpEndpoint)]
    return endpoint.app(service)
