"""The client: publish, predict, label and feedback, sync and async, with retries that change nothing twice."""

from __future__ import annotations

import asyncio
import time as clock
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

import httpx

from everloop import wire
from everloop.endpoints import Endpoints
from everloop.errors import EverloopError, EverloopUnreachable
from everloop.results import Accepted, Prediction
from everloop.retry import RETRIED, Attempts, retry_after

if TYPE_CHECKING:
    from everloop_schemas.envelope import Scalar

TIMEOUT_S = 30.0
RETRY_FOR_S = 60.0
Time = str | datetime
Words = Iterable[Mapping[str, Any]]
Observed = Mapping[str, "Scalar | None"]


class _Client:
    """What both clients share: where to ask, how long to try, and what a failed attempt means."""

    def __init__(
        self,
        data: str | None = None,
        *,
        ingest: str | None = None,
        serving: str | None = None,
        timeout: float = TIMEOUT_S,
        retry_for: float = RETRY_FOR_S,
        on_retry: Callable[[EverloopError], None] | None = None,
    ) -> None:
        """`data` is the folder of a local installation (default: EVERLOOP_DATA, else .everloop).

        `ingest` and `serving` are URLs; one that is given is used instead of what the folder or the environment names.

        `timeout` seconds for one attempt, `retry_for` for all of them on 429, 503 and lost connections;
        `on_retry` hears of each failure that is tried again.
        """
        self._endpoints = Endpoints(data, {"ingest": ingest, "serving": serving})
        self._retry_for = retry_for
        self._on_retry = on_retry or (lambda failure: None)
        # A proxy of the environment is for the outside world, not for a local installation.
        near = {f"all://{host}": None for host in ("127.0.0.1", "localhost", "[::1]")}
        self._options: dict[str, Any] = {"timeout": timeout, "mounts": near}

    def _refused(self, response: httpx.Response) -> tuple[EverloopError, float | None] | None:
        if response.status_code not in RETRIED:
            return None
        return wire.http_error(response), retry_after(response.headers)

    def _lost(self, service: str, url: str, error: httpx.TransportError) -> tuple[EverloopError, float | None]:
        self._endpoints.refresh(service)
        return EverloopUnreachable(service, url, str(error) or type(error).__name__), None


class Everloop(_Client):
    """The sync client. All methods raise EverloopHTTPError, EverloopUnreachable, or InstallationNotFound.

    A list with bad entries is no error: the answer's `rejected` names them.
    """

    def __init__(self, data: str | None = None, **options: Any) -> None:
        super().__init__(data, **options)
        self._http: httpx.Client | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            self._http.close()
            self._http = None

    def publish(
        self,
        loop: str,
        data: Observed | Words,
        *,
        id: str | None = None,
        entity: str | None = None,
        time: Time | None = None,
    ) -> Accepted:
        """Send one observation (its fields), or many: `{"id"?, "entity"?, "time"?, "data": {field: value}}`."""
        alone = isinstance(data, Mapping)
        events = [wire.event(data, id, entity, time)] if isinstance(data, Mapping) else wire.identified(data)
        return self._deliver(loop, "events", events, alone)

    def predict(
        self, loop: str, data: Observed, *, id: str | None = None, entity: str | None = None, time: Time | None = None
    ) -> Prediction:
        """Ask for a prediction; asking again under the same id gives the same one."""
        body = wire.event(data, id, entity, time)
        return wire.prediction(self._post("serving", wire.path(loop, "predict"), wire.encoded(body)))

    def label(self, loop: str, id: str | Words, label: Scalar | None = None, *, time: Time | None = None) -> Accepted:
        """Tell the truth about one prediction, or about many: `{"id", "label", "time"?, "key"?}`.

        A label without a time counts as of its arrival; of several, the one with the latest time stands.
        """
        words = wire.words(id, time, label=label)
        return self._deliver(loop, "labels", words, isinstance(id, str))

    def feedback(
        self,
        loop: str,
        id: str | Words,
        *,
        correct: bool | None = None,
        label: Scalar | None = None,
        comment: str | None = None,
        source: str | None = None,
        time: Time | None = None,
    ) -> Accepted:
        """Tell what a user said of one prediction, or of many: `{"id", "correct"|"label", "comment"?, "source"?}`.

        What is given beside a list, such as `source`, is meant for each entry of it that says nothing else.
        """
        said = {"correct": correct, "label": label, "comment": comment, "source": source}
        words = wire.words(id, time, **said)
        return self._deliver(loop, "feedback", words, isinstance(id, str))

    def _deliver(self, loop: str, door: str, entries: Words, alone: bool) -> Accepted:
        answers, path = list[Accepted](), wire.path(loop, door)
        try:
            for part in wire.parts(entries):
                answers.append(Accepted((), tuple(part.rejected)))
                if alone and part.rejected:
                    raise wire.refusal(part.rejected[0])
                if part.texts:
                    response = self._post("ingest", path, part.body(alone))
                    answers.append(wire.accepted(response, part.indexes, alone))
        except EverloopError as e:
            e.delivered = wire.together(answers)
            raise
        return wire.together(answers)

    def _post(self, service: str, path: str, body: bytes) -> httpx.Response:
        return self.request(service, "POST", path, body)

    def request(
        self, service: str, method: str, path: str, content: bytes | None = None, content_type: str = wire.JSON
    ) -> httpx.Response:
        """Ask any service of the installation, with retries; the answer may be a refusal."""
        attempts, headers = Attempts(self._retry_for), {"content-type": content_type}
        self._http = self._http or httpx.Client(**self._options)
        while True:
            url = self._endpoints.url(service)
            try:
                response = self._http.request(method, url + path, content=content, headers=headers)
                failure = self._refused(response)
            except httpx.TransportError as e:
                failure = self._lost(service, url, e)
            if failure is None:
                return response
            if (pause := attempts.pause(failure[1])) is None:
                raise failure[0]
            self._on_retry(failure[0])
            clock.sleep(pause)


class AsyncEverloop(_Client):
    """The async client; the methods of `Everloop`, awaited."""

    def __init__(self, data: str | None = None, **options: Any) -> None:
        super().__init__(data, **options)
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
        data: Observed | Words,
        *,
        id: str | None = None,
        entity: str | None = None,
        time: Time | None = None,
    ) -> Accepted:
        """As `Everloop.publish`."""
        alone = isinstance(data, Mapping)
        events = [wire.event(data, id, entity, time)] if isinstance(data, Mapping) else wire.identified(data)
        return await self._deliver(loop, "events", events, alone)

    async def predict(
        self, loop: str, data: Observed, *, id: str | None = None, entity: str | None = None, time: Time | None = None
    ) -> Prediction:
        """As `Everloop.predict`."""
        body = wire.event(data, id, entity, time)
        return wire.prediction(await self._post("serving", wire.path(loop, "predict"), wire.encoded(body)))

    async def label(
        self, loop: str, id: str | Words, label: Scalar | None = None, *, time: Time | None = None
    ) -> Accepted:
        """As `Everloop.label`."""
        words = wire.words(id, time, label=label)
        return await self._deliver(loop, "labels", words, isinstance(id, str))

    async def feedback(
        self,
        loop: str,
        id: str | Words,
        *,
        correct: bool | None = None,
        label: Scalar | None = None,
        comment: str | None = None,
        source: str | None = None,
        time: Time | None = None,
    ) -> Accepted:
        """As `Everloop.feedback`."""
        said = {"correct": correct, "label": label, "comment": comment, "source": source}
        words = wire.words(id, time, **said)
        return await self._deliver(loop, "feedback", words, isinstance(id, str))

    async def _deliver(self, loop: str, door: str, entries: Words, alone: bool) -> Accepted:
        answers, path = list[Accepted](), wire.path(loop, door)
        try:
            for part in wire.parts(entries):
                answers.append(Accepted((), tuple(part.rejected)))
                if alone and part.rejected:
                    raise wire.refusal(part.rejected[0])
                if part.texts:
                    response = await self._post("ingest", path, part.body(alone))
                    answers.append(wire.accepted(response, part.indexes, alone))
        except EverloopError as e:
            e.delivered = wire.together(answers)
            raise
        return wire.together(answers)

    async def _post(self, service: str, path: str, body: bytes) -> httpx.Response:
        return await self.request(service, "POST", path, body)

    async def request(
        self, service: str, method: str, path: str, content: bytes | None = None, content_type: str = wire.JSON
    ) -> httpx.Response:
        """As `Everloop.request`."""
        attempts, headers = Attempts(self._retry_for), {"content-type": content_type}
        self._http = self._http or httpx.AsyncClient(**self._options)
        while True:
            url = self._endpoints.url(service)
            try:
                response = await self._http.request(method, url + path, content=content, headers=headers)
                failure = self._refused(response)
            except httpx.TransportError as e:
                failure = self._lost(service, url, e)
            if failure is None:
                return response
            if (pause := attempts.pause(failure[1])) is None:
                raise failure[0]
            self._on_retry(failure[0])
            await asyncio.sleep(pause)
