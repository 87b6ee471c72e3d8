"""Requests to the MLflow server of a company, to which the registry is mirrored."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, Self

import httpx

from everloop_registry.adapters.mirror import MirrorAway, MirrorRefused

TIMEOUT_S = 30.0
API = "/api/2.0/mlflow/"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts/"
TOKEN_SETTING = "EVERLOOP_REGISTRY_MLFLOW_MIRROR_TOKEN"
AWAY_CODES = (408, 425, 429)


class MlflowServer:
    """One server's REST API. Credentials are sent to it and are in no error."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url.rstrip("/")
        headers = {"authorization": _authorization(token)} if token else {}
        self._client = httpx.AsyncClient(base_url=self.url, headers=headers, timeout=TIMEOUT_S)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def get(self, path: str, **query: str) -> dict[str, Any]:
        """The answer to a query; raises MirrorAway or MirrorRefused."""
        return await self._ask("GET", API + path, params=query)

    async def post(self, path: str, body: Mapping[str, Any], method: str = "POST") -> dict[str, Any]:
        """The answer to a command; raises as `get`."""
        return await self._ask(method, API + path, json=dict(body))

    async def upload(self, path: str, size: int, chunks: Iterator[bytes]) -> None:
        """Write an artifact that the server proxies; raises as `get`."""
        headers = {"content-length": str(size), "content-type": "application/octet-stream"}
        await self._ask("PUT", ARTIFACTS + path, content=_in_turn(chunks), headers=headers)

    async def _ask(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        try:
            answer = await self._client.request(method, path, **request)
        except httpx.HTTPError as e:
            raise MirrorAway(f"{self.url} cannot be reached: {type(e).__name__} {e}".strip()) from e
        if answer.is_success:
            return _members(answer.content)
        if answer.status_code in (401, 403):
            raise MirrorAway(f"{self.url} does not accept the credentials ({answer.status_code}); set {TOKEN_SETTING}")
        if answer.status_code >= 500 or answer.status_code in AWAY_CODES or answer.is_redirect:
            raise MirrorAway(f"{self.url} answers {answer.status_code} to {path}")
        said = _members(answer.content)
        code = str(said.get("error_code", answer.status_code))
        raise MirrorRefused(code, str(said.get("message") or answer.text)[:500])


def _authorization(token: str) -> str:
    """`USER:PASSWORD` is basic authentication, anything else a bearer token."""
    return f"Basic {base64.b64encode(token.encode()).decode()}" if ":" in token else f"Bearer {token}"


def _members(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


async def _in_turn(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
        yield chunk
