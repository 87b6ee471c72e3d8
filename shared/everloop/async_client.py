"""The async client: the methods of the sync one, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self, overload

import httpx

from everloop import wire
from everloop.client import LOOPBACK_HOSTS, BaseClient, Entries, Fields, Time
from everloop.errors import EverloopError
from everloop.loopback import LoopbackTransport
from everloop.results import Accepted, Prediction
from everloop.retry import BACKOFF
from everloop_shared.backoff import Attempts

if TYPE_CHECKING:
    from everloop_schemas.envelope import Scalar


class AsyncEverloop(BaseClient):
    """The async client: the methods of `Everloop`, awaited.

    >>> import asyncio
    >>> from everloop import AsyncEverloop
    >>> async def ask():
    ...     async with AsyncEverloop() as everloop:
    ...         return await everloop.predict("market", {"price": 3.0})
    >>> asyncio.run(ask()).prediction
    True
    """

    def __init__(self, data: str | None = None, **options: Any) -> None:
        super().__init__(data, **options)
        loopback = LoopbackTransport()
        self._options["mounts"] |= {f"http://{host}": loopback for host in LOOPBACK_HOSTS}
        self._http: httpx.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def publish(
        self,
        loop: str,
        data: Fields | Entries,
        *,
        id: str | None = None,
        entity: str | None = None,
        time: Time | None = None,
    ) -> Accepted:
        """As `Everloop.publish`."""
        single = isinstance(data, Mapping)
        entries = [wire.observation(data, id, entity, time)] if isinstance(data, Mapping) else wire.with_ids(data)
        return await self._send(loop, "events", entries, single)

    @overload
    async def predict(
        self, loop: str, data: Fields, *, id: str | None = None, entity: str | None = None, time: Time | None = None
    ) -> Prediction: ...
    @overload
    async def predict(self, loop: str, data: Entries) -> list[Prediction]: ...
    async def predict(
        self,
        loop: str,
        data: Fields | Entries,
        *,
        id: str | None = None,
        entity: str | None = None,
        time: Time | None = None,
    ) -> Prediction | list[Prediction]:
        """As `Everloop.predict`."""
        body = wire.prediction_request(data, id, entity, time)
        return wire.read_predictions(await self._post("serving", wire.loop_path(loop, "predict"), body))

    async def label(
        self, loop: str, id: str | Entries, label: Scalar | None = None, *, time: Time | None = None
    ) -> Accepted:
        """As `Everloop.label`."""
        entries = wire.with_keys(id, time, label=label)
        return await self._send(loop, "labels", entries, isinstance(id, str))

    async def feedback(
        self,
        loop: str,
        id: str | Entries,
        *,
        correct: bool | None = None,
        label: Scalar | None = None,
        comment: str | None = None,
        source: str | None = None,
        time: Time | None = None,
    ) -> Accepted:
        """As `Everloop.feedback`."""
        values = {"correct": correct, "label": label, "comment": comment, "source": source}
        entries = wire.with_keys(id, time, **values)
        return await self._send(loop, "feedback", entries, isinstance(id, str))

    async def _send(self, loop: str, endpoint: str, entries: Entries, single: bool) -> Accepted:
        answers, path = list[Accepted](), wire.loop_path(loop, endpoint)
        try:
            for batch in wire.batches(entries):
                answers.append(Accepted((), tuple(batch.rejected)))
                if single and batch.rejected:
                    raise wire.refusal(batch.rejected[0])
                if batch.texts:
                    response = await self._post("ingest", path, batch.body(single))
                    answers.append(wire.read_accepted(response, batch.indexes, single))
        except EverloopError as e:
            e.delivered = wire.merge(answers)
            raise
        return wire.merge(answers)

    async def _post(self, service: str, path: str, body: bytes) -> httpx.Response:
        return await self.request(service, "POST", path, body)

    async def request(
        self, service: str, method: str, path: str, content: bytes | None = None, content_type: str = wire.JSON
    ) -> httpx.Response:
        """As `Everloop.request`."""
        attempts, headers = Attempts(BACKOFF, self._retry_for), {"content-type": content_type}
        self._http = self._http or httpx.AsyncClient(**self._options)
        while True:
            url = self._endpoints.url(service)
            try:
                response = await self._http.request(method, url + path, content=content, headers=headers)
                failure = self._retryable(response)
            except httpx.TransportError as e:
                failure = self._lost(service, url, e)
            if failure is None:
                return response
            if (pause := attempts.pause_s(failure[1] or 0.0)) is None:
                raise failure[0]
            self._on_retry(failure[0])
            await asyncio.sleep(pause)
