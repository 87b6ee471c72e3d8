"""Gives records to ingest by HTTP."""

from __future__ import annotations

from everloop_monitoring.adapters.other_service import OtherService
from everloop_monitoring.domain.letter_plans import IngestRequest
from everloop_monitoring.errors import LetterRejected
from everloop_shared.errors import Unavailable
from everloop_shared.tls import ClientTls


class HttpIngest:
    """Ingest at one address."""

    def __init__(self, url: str, tls: ClientTls | None = None) -> None:
        self._service = OtherService("ingest", url, tls)

    async def send(self, request: IngestRequest, authorization: str | None) -> list[str]:
        """The ids of what the record became; waits until ingest's broker has them."""
        answer = await self._service.post(request.path, request.body, authorization)
        if answer.status >= 400:
            raise LetterRejected(f"ingest does not take the record: {answer.detail}", answer.field_errors)
        ids = answer.body.get("ids")
        if not isinstance(ids, list) or not all(isinstance(id, str) for id in ids):
            raise Unavailable("what answers at EVERLOOP_INGEST_URL is not ingest")
        return ids
