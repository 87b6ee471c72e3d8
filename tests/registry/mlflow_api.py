"""The registry on the memory engine behind a real port, for MLflow's own client, which blocks: it runs in a thread."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from tests.builders.running import http_client, run_until_exit
from tests.databases import database_url

from everloop.local.ports import HOST
from everloop_registry.app import build as build_registry
from everloop_registry.settings import RegistrySettings
from everloop_shared.http import HttpEndpoint
from everloop_shared.messaging.memory import MemoryBroker

T = TypeVar("T")
ENVIRONMENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}


@dataclass
class MlflowHarness:
    """A running registry: its broker, an HTTP client of its own API, and MLflow's client."""

    broker: MemoryBroker
    http: httpx.AsyncClient
    url: str
    client: Any

    async def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        """A call of MLflow's client, which blocks."""
        return await self.ask(getattr(self.client, method), *arguments, **options)

    async def ask(self, call: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """Any call that blocks."""
        return await asyncio.to_thread(call, *arguments, **options)

    async def refused(self, method: str, *arguments: Any, **options: Any) -> tuple[str, str]:
        """The error code and the message of a call that must be refused."""
        from mlflow.exceptions import MlflowException

        with pytest.raises(MlflowException) as caught:
            await self.call(method, *arguments, **options)
        return caught.value.error_code, str(caught.value)


@asynccontextmanager
async def mlflow_registry(broker: MemoryBroker, folder: Path, **settings: Any) -> AsyncIterator[MlflowHarness]:
    """A registry on a database in a folder, once it is ready."""
    mlflow = imported_mlflow()
    chosen = {"data": folder, "port": 0, "database_url": database_url(folder), "settle_s": 0.0, **settings}
    service = build_registry(RegistrySettings(**chosen), broker.engine)
    async with run_until_exit(service), http_client(service, "/v1/loops") as http:
        [endpoint] = [e for e in service.endpoints if isinstance(e, HttpEndpoint)]
        url = f"http://{HOST}:{endpoint.port}"
        yield MlflowHarness(broker, http, url, mlflow.MlflowClient(tracking_uri=url, registry_uri=url))


def imported_mlflow() -> Any:
    """MLflow, whose own imports warn; without retries and telemetry."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        return __import__("mlflow")
