"""Gives what people say about candidates to the registry by HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from everloop_monitoring.adapters.other_service import OtherService
from everloop_monitoring.errors import VerdictRefused
from everloop_monitoring.ports import Verdict
from everloop_shared.errors import Unavailable
from everloop_shared.tls import ClientTls


class HttpRegistry:
    """The registry at one address."""

    def __init__(self, url: str, tls: ClientTls | None = None) -> None:
        self._service = OtherService("the registry", url, tls)

    async def say(self, verdict: Verdict, loop: str, body: Mapping[str, Any], authorization: str | None) -> None:
        """Returns once the registry has decided."""
        answer = await self._service.post(f"/v1/loops/{loop}/{verdict}", body, authorization)
        if answer.status >= 400:
            raise VerdictRefused(answer.detail, answer.field_errors)
        if answer.body.get("loop") != loop:
            raise Unavailable("what answers at EVERLOOP_REGISTRY_URL is not the registry")
