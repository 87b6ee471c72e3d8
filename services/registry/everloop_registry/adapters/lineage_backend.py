"""Posts events to the lineage backend that the operator names, and nowhere else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from everloop_registry.adapters.mirror import MirrorAway, MirrorRefused

TIMEOUT_S = 15.0
"""Within it an answer is there as a whole, however slowly it comes."""
ENDPOINT = "/api/v1/lineage"
"""Where OpenLineage's own clients post to, at a URL without a path."""
TEMPORARY = (401, 403, 404, 405, 408, 410, 425, 429)
"""Answers that say nothing about the event: the backend, its address or its key is what has to change."""
ANSWER_BYTES = 2_000
"""Of an answer that are read: enough for a reason."""
KEY_SETTING = "EVERLOOP_OPENLINEAGE_API_KEY"


class LineageBackend:
    """One backend. The key is sent to it and is in no error."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url.rstrip("/") + ("" if urlsplit(url).path.strip("/") else ENDPOINT)
        headers = {"content-type": "application/json", **({"authorization": f"Bearer {key}"} if key else {})}
        self._client = httpx.AsyncClient(headers=headers, timeout=TIMEOUT_S, follow_redirects=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def send(self, event: Mapping[str, Any]) -> None:
        """Post an event; raises MirrorAway or MirrorRefused."""
        body = json.dumps(event, separators=(",", ":"), allow_nan=False).encode()
        try:
            async with asyncio.timeout(TIMEOUT_S), self._client.stream("POST", self.url, content=body) as answer:
                said = b"" if answer.is_success else await _beginning(answer)
        except (httpx.HTTPError, TimeoutError) as e:
            raise MirrorAway(f"{self.url} does not answer: {type(e).__name__} {e}".strip()) from e
        status = answer.status_code
        if answer.is_success:
            return  # whatever else it says
        if status in (401, 403):
            raise MirrorAway(f"{self.url} does not accept the key ({status}); set {KEY_SETTING}")
        if status < 400 or status >= 500 or status in TEMPORARY:
            raise MirrorAway(f"{self.url} answers {status}")
        raise MirrorRefused(str(status), said.decode(errors="replace")[:500])


async def _beginning(answer: httpx.Response) -> bytes:
    found = b""
    async for chunk in answer.aiter_raw(ANSWER_BYTES):
        found += chunk
        if len(found) >= ANSWER_BYTES:
            break
    return found[:ANSWER_BYTES]
