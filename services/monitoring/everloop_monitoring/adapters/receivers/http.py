"""Posts JSON to the addresses that the operator's file names, and nowhere else: redirects are not followed."""

from __future__ import annotations

from collections.abc import Mapping

import httpx

TIMEOUT_S = 15.0
TEMPORARY = (401, 403, 404, 408, 410, 425, 429)
"""Answers that say nothing about the message: the receiver, its address or its secret is what has to change."""
MAX_RETRY_AFTER_S = 600.0


class ReceiverAway(Exception):
    """The receiver cannot be reached, or accepts nothing now; a later attempt may succeed, after `retry_after_s`."""

    def __init__(self, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class MessageRefused(Exception):
    """The receiver does not accept what this message says."""


async def post(client: httpx.AsyncClient, url: str, body: bytes, headers: Mapping[str, str]) -> None:
    """Post a body; raises ReceiverAway or MessageRefused. No error names the address, which may be a secret."""
    try:
        answer = await client.post(url, content=body, headers={"content-type": "application/json", **headers})
    except (httpx.HTTPError, httpx.InvalidURL) as e:
        raise ReceiverAway(f"no answer: {type(e).__name__}") from e
    status = answer.status_code
    if answer.is_success:
        return
    if status >= 500 or status in TEMPORARY or answer.is_redirect:
        raise ReceiverAway(f"answers {status}", _retry_after(answer))
    raise MessageRefused(f"answers {status}: {answer.text[:200]}")


def open_client() -> httpx.AsyncClient:
    """A client that follows no redirect and keeps no cookie between receivers."""
    return httpx.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False)


def _retry_after(answer: httpx.Response) -> float:
    text = answer.headers.get("retry-after", "")
    return min(float(text), MAX_RETRY_AFTER_S) if text.isascii() and text.isdecimal() else 0.0
