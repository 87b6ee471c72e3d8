"""The HTTP API of ingest: three endpoints that take observations, labels and feedback."""

from everloop_ingest.api.requests import IngestApi
from everloop_ingest.api.routes import router

__all__ = ["IngestApi", "router"]
