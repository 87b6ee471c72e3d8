"""Gives records to ingest by HTTP, at the address of the settings and at no other."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from everloop_monitoring.domain.letter_plans import IngestRequest
from everloop_monitoring.errors import LetterRejected
from everloop_shared.access.errors import NotPermitted
from everloop_shared.errors import DETAIL_LENGTH, ERRORS_LIMIT, FieldError, Unavailable, cut
from everloop_shared.tls import ClientContext, ClientTls

TIMEOUT_S = 15.0
MAX_ANSWER_BYTES = 1_000_000
TEMPORARY = (408, 429)
"""Answers below 500 that say nothing about the record."""


class HttpIngest:
    """Ingest at one address. Redirects are not followed. Raises Misconfigured where its TLS files cannot be used."""

    def __init__(self, url: str, tls: ClientTls | None = None) -> None:
        self._url = url.rstrip("/")
        self._context = ClientContext(tls or ClientTls()) if url.startswith("https://") else None

    async def send(self, request: IngestRequest, authorization: str | None) -> list[str]:
        """The ids of what the record became; waits until ingest's broker has them."""
        status, answer = await self._post(request, authorization)
        if status in (401, 403):
            raise NotPermitted(f"ingest does not permit it: {_detail(answer)}")
        if status >= 500 or status in TEMPORARY or 300 <= status < 400:
            raise Unavailable(f"ingest answers {status}: {_detail(answer)}")
        if status >= 400:
            raise LetterRejected(f"ingest does not take the record: {_detail(answer)}", _field_errors(answer))
        ids = answer.get("ids")
        if not isinstance(ids, list) or not all(isinstance(id, str) for id in ids):
            raise Unavailable("what answers at EVERLOOP_INGEST_URL is not ingest")
        return ids

    async def _post(self, request: IngestRequest, authorization: str | None) -> tuple[int, dict[str, Any]]:
        # Imported here, as few processes send a letter: without an HTTP client monitoring starts sooner.
        import httpx

        body = json.dumps(request.body, ensure_ascii=False, allow_nan=False).encode()
        headers = {"content-type": "application/json"} | ({"authorization": authorization} if authorization else {})
        verify = self._context() if self._context else True
        try:
            async with (
                httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False, verify=verify) as client,
                client.stream("POST", self._url + request.path, content=body, headers=headers) as response,
            ):
                return response.status_code, _object(await _read(response.aiter_bytes()))
        except httpx.HTTPError as e:
            raise Unavailable(
                f"ingest does not answer ({type(e).__name__}); the record may have arrived: try again"
            ) from e


async def _read(parts: AsyncIterator[bytes]) -> bytes:
    """An answer; nothing of one that is longer than any of ingest's."""
    body = b""
    async for part in parts:
        body += part
        if len(body) > MAX_ANSWER_BYTES:
            return b""
    return body


def _object(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _detail(answer: dict[str, Any]) -> str:
    return cut(str(answer.get("detail") or "no reason"), DETAIL_LENGTH)


def _field_errors(answer: dict[str, Any]) -> list[FieldError]:
    """The fields that ingest names."""
    errors = answer.get("errors")
    named = [one for one in errors if isinstance(one, dict)] if isinstance(errors, list) else []
    found = (FieldError(str(one.get("field", "")), str(one.get("error", ""))) for one in named[:ERRORS_LIMIT])
    return [one.shortened() for one in found]
