"""The async client: the methods of the sync one, awaited."""

from __future__ import annotations

import asyncio
import os
import ssl
import threading
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, overload

import httpx

from everloop import onnx_wire, wire
from everloop.async_loop_methods import AsyncLoopMethods
from everloop.base_client import LOOPBACK_HOSTS, Entries, Fields, Time
from everloop.data_sets import DataSet, Progress, request_path
from everloop.errors import EverloopError
from everloop.loop_requests import REQUESTED
from everloop.loopback import LoopbackTransport
from everloop.results import Accepted, Prediction, Submitted
from everloop.retry import BACKOFF
from everloop.searches import Search, read_search, read_searches, search_body, searches_path
from everloop.trace_context import trace_headers
from everloop_shared.backoff import Attempts

if TYPE_CHECKING:
    from everloop_schemas.envelope import Scalar

AsyncEntries = Entries | AsyncIterable[Mapping[str, Any]]


class AsyncEverloop(AsyncLoopMethods):
    """The async client: the methods of `Everloop`, awaited; lists may also be async iterables.

    One client serves several event loops. Each has connections of its own, which are closed with the event loop, or
    before by `aclose`.

    >>> import asyncio
    >>> from everloop import AsyncEverloop
    >>> async def ask():
    ...     async with AsyncEverloop() as everloop:
    ...         return await everloop.predict("market", {"price": 3.0})
    >>> asyncio.run(ask()).prediction
    True
    """

    _http: dict[asyncio.AbstractEventLoop, _Connections] | None = None
    _opened_by: int | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        if self._http is not None and (lasting := self._http.pop(asyncio.get_running_loop(), None)) is not None:
            await lasting.until_loop_ends.aclose()

    async def publish(
        self,
        loop: str,
        data: Fields | AsyncEntries,
        *,
        id: str | None = None,
        entity: str | None = None,
        time: Time | None = None,
    ) -> Accepted:
        """As `Everloop.publish`."""
        single = isinstance(data, Mapping)
        entries = [wire.observation(data, id, entity, time)] if isinstance(data, Mapping) else data
        return await self._send(loop, "events", entries, wire.with_id, single)

    @overload
    async def predict(
        self,
        loop: str,
        data: Fields,
        *,
        id: str | None = None,
        entity: str | None = None,
        time: Time | None = None,
        explain: bool = False,
    ) -> Prediction: ...
    @overload
    async def predict(self, loop: str, data: AsyncEntries, *, explain: bool = False) -> list[Prediction]: ...
    async def predict(
        self,
        loop: str,
        data: Fields | AsyncEntries,
        *,
        id: str | None = None,
        entity: str | None = None,
        time: Time | None = None,
        explain: bool = False,
    ) -> Prediction | list[Prediction]:
        """As `Everloop.predict`."""
        given = [entry async for entry in data] if isinstance(data, AsyncIterable) else data
        body = wire.prediction_request(given, id, entity, time, explain)
        return wire.read_predictions(await self._post("serving", wire.loop_path(loop, "predict"), body))

    async def label(
        self, loop: str, id: str | AsyncEntries, label: Scalar | None = None, *, time: Time | None = None
    ) -> Accepted:
        """As `Everloop.label`."""
        entries = [{"id": id}] if isinstance(id, str) else id
        return await self._send(loop, "labels", entries, wire.with_key(time, label=label), isinstance(id, str))

    async def feedback(
        self,
        loop: str,
        id: str | AsyncEntries,
        *,
        correct: bool | None = None,
        label: Scalar | None = None,
        comment: str | None = None,
        source: str | None = None,
        time: Time | None = None,
    ) -> Accepted:
        """As `Everloop.feedback`."""
        entries = [{"id": id}] if isinstance(id, str) else id
        complete = wire.with_key(time, correct=correct, label=label, comment=comment, source=source)
        return await self._send(loop, "feedback", entries, complete, isinstance(id, str))

    async def submit(
        self,
        loop: str,
        model: onnx_wire.Model,
        *,
        name: str,
        features: Sequence[str] | None = None,
        classes: Sequence[Scalar] | None = None,
        metrics: Mapping[str, float] | None = None,
        data_set: Any = None,
        outputs: Mapping[str, str] | None = None,
    ) -> Submitted:
        """As `Everloop.submit`."""
        content, path = await asyncio.to_thread(onnx_wire.read_model, model), wire.loop_path(loop, "versions")
        described = {"name": name, "data_set": onnx_wire.data_set_name(data_set)}
        headers = onnx_wire.manifest_header(features, classes, metrics, outputs, **described)
        return onnx_wire.read_submitted(await self.request("registry", "POST", path, content, onnx_wire.ONNX, headers))

    async def searches(self, loop: str, *, trials: bool = False, search: str | None = None) -> list[Search]:
        """As `Everloop.searches`."""
        return read_searches(await self.request("training", "GET", searches_path(loop, trials, search)))

    async def search(self, loop: str, *, model: int = 0, reason: str = REQUESTED, key: str | None = None) -> Search:
        """As `Everloop.search`."""
        return read_search(await self._post("training", searches_path(loop), search_body(model, reason, key)), loop)

    async def dataset(
        self,
        loop: str,
        *,
        last: int | None = None,
        start: int | None = None,
        end: int | None = None,
        since: Time | None = None,
        until: Time | None = None,
        on_progress: Progress | None = None,
    ) -> DataSet:
        """As `Everloop.dataset`; a thread reads it, in which `on_progress` is called."""
        path = request_path(loop, last=last, start=start, end=end, since=since, until=until)
        stop = threading.Event()

        def read() -> DataSet:
            with self._open_connections() as http:
                return self._read_data_set(http, path, on_progress, stop)

        try:
            return await asyncio.to_thread(read)
        finally:
            stop.set()

    async def _send(
        self, loop: str, endpoint: str, entries: AsyncEntries, complete: Callable[[Any], Any], single: bool
    ) -> Accepted:
        answers, path = list[Accepted](), wire.loop_path(loop, endpoint)
        try:
            async for batch in wire.async_batches(entries, complete):
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
        self,
        service: str,
        method: str,
        path: str,
        content: bytes | None = None,
        content_type: str = wire.JSON,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """As `Everloop.request`."""
        attempts = Attempts(BACKOFF, self._retry_for)
        sent = {**trace_headers(), "content-type": content_type, **(headers or {})}
        while True:
            url = self._endpoints.url(service)
            try:
                authorized, http = sent | self._endpoints.header(url), await self._connections()
                response = await http.request(method, url + path, content=content, headers=authorized)
                failure = self._retryable(response)
            except httpx.TransportError as e:
                failure = self._lost(service, url, e)
            if failure is None:
                return response
            await asyncio.sleep(self._pause_s(attempts, *failure))

    async def _connections(self) -> httpx.AsyncClient:
        # Connections belong to an event loop: a second `asyncio.run`, a thread or a forked process has its own.
        if self._http is None or self._opened_by != os.getpid():
            self._http, self._opened_by = {}, os.getpid()
        running = asyncio.get_running_loop()
        if (lasting := self._http.get(running)) is None:
            for closed in [loop for loop in self._http if loop.is_closed()]:
                del self._http[closed]
            lasting = self._http[running] = await _Connections.open(self._timeout, self._endpoints.trusted())
        return lasting.http


@dataclass(frozen=True)
class _Connections:
    """Connections of one event loop. The loop closes its async generators at its end, and they with theirs."""

    http: httpx.AsyncClient
    until_loop_ends: AsyncGenerator[None, None]

    @classmethod
    async def open(cls, timeout: float, trusted: ssl.SSLContext | bool) -> Self:
        loopback, local = LoopbackTransport(), {f"all://{host}": None for host in LOOPBACK_HOSTS}
        mounts = local | {f"http://{host}": loopback for host in LOOPBACK_HOSTS}
        http = httpx.AsyncClient(timeout=timeout, mounts=mounts, verify=trusted)
        until_loop_ends = _close_at_the_end(http)
        await anext(until_loop_ends)
        return cls(http, until_loop_ends)


async def _close_at_the_end(http: httpx.AsyncClient) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        await http.aclose()
