"""Another service of the installation by HTTP, for a person's command: at the address of the settings alone."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple

from everloop_shared.access.errors import NotPermitted
from everloop_shared.errors import DETAIL_LENGTH, ERRORS_LIMIT, FieldError, Unavailable, cut
from everloop_shared.tls import ClientContext, ClientTls

TIMEOUT_S = 15.0
MAX_ANSWER_BYTES = 1_000_000
TEMPORARY = (408, 429)
"""Answers below 500 that say nothing about what was sent."""


class Answer(NamedTuple):
    """What the service says; an answer that is no JSON object is an empty one."""

    status: int
    body: dict[str, Any]

    @property
    def detail(self) -> str:
        """Why it refuses."""
        return cut(str(self.body.get("detail") or "no reason"), DETAIL_LENGTH)

    @property
    def field_errors(self) -> list[FieldError]:
        """The fields that it names."""
        errors = self.body.get("errors")
        named = [one for one in errors if isinstance(one, dict)] if isinstance(errors, list) else []
        found = (FieldError(str(one.get("field", "")), str(one.get("error", ""))) for one in named[:ERRORS_LIMIT])
        return [one.shortened() for one in found]


class OtherService:
    """One service at one address. Redirects are not followed. Raises Misconfigured where TLS files cannot be used."""

    def __init__(self, name: str, url: str, tls: ClientTls | None = None) -> None:
        """`name`: as people read it in a refusal."""
        self._name, self._url = name, url.rstrip("/")
        self._context = ClientContext(tls or ClientTls()) if url.startswith("https://") else None

    async def post(self, path: str, body: Mapping[str, Any], authorization: str | None) -> Answer:
        """What it answers to whoever has this authorization. Raises NotPermitted, or Unavailable."""
        answer = await self._send(path, body, authorization)
        if answer.status in (401, 403):
            raise NotPermitted(f"{self._name} does not permit it: {answer.detail}")
        if answer.status >= 500 or answer.status in TEMPORARY or 300 <= answer.status < 400:
            raise Unavailable(f"{self._name} answers {answer.status}: {answer.detail}")
        return answer

    async def _send(self, path: str, body: Mapping[str, Any], authorization: str | None) -> Answer:
        # Imported here, as few processes send a command: without an HTTP client monitoring starts sooner.
        import httpx

        content = json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
        headers = {"content-type": "application/json"} | ({"authorization": authorization} if authorization else {})
        verify = self._context() if self._context else True
        try:
            async with (
                httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False, verify=verify) as client,
                client.stream("POST", self._url + path, content=content, headers=headers) as response,
            ):
                return Answer(response.status_code, read_object(await read_answer(response.aiter_bytes())))
        except httpx.HTTPError as e:
            raise Unavailable(
                f"{self._name} does not answer ({type(e).__name__}); it may have arrived all the same: try again"
            ) from e


async def read_answer(parts: AsyncIterator[bytes]) -> bytes:
    """An answer; nothing of one that is longer than any that is expected."""
    body = b""
    async for part in parts:
        body += part
        if len(body) > MAX_ANSWER_BYTES:
            return b""
    return body


def read_object(text: bytes) -> dict[str, Any]:
    """A JSON object; an empty one where it is something else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
