"""What the sync and the async client share: addresses, retries, and the reading of data sets."""

from __future__ import annotations

import copy
import threading
import time as clock
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from os import PathLike
from typing import TYPE_CHECKING, Any, Self

import httpx

from everloop import wire
from everloop.data_sets import NDJSON, READ_TIMEOUT_S, DataSet, Progress, receive
from everloop.endpoints import Endpoints
from everloop.errors import EverloopError, EverloopUnreachable
from everloop.retry import BACKOFF, RETRIED, retry_after
from everloop_shared.backoff import Attempts
from everloop_shared.tls import ClientTls

if TYPE_CHECKING:
    from everloop_schemas.envelope import Scalar

TIMEOUT_S = 30.0
RETRY_FOR_S = 60.0
ATTEMPT_S = 5.0
"""The timeout of an attempt where another one follows soon."""
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "[::1]")
"""A proxy that the environment names is for other machines, not for a local installation."""
Time = str | datetime
Entries = Iterable[Mapping[str, Any]]
Fields = Mapping[str, "Scalar | None"]


class BaseClient:
    """What the sync and the async client share: the addresses, how long to retry, and how to read a failed attempt."""

    def __init__(
        self,
        data: str | None = None,
        *,
        ingest: str | None = None,
        serving: str | None = None,
        training: str | None = None,
        feature: str | None = None,
        registry: str | None = None,
        monitoring: str | None = None,
        token: str | None = None,
        ca: str | PathLike[str] | None = None,
        certificate: str | PathLike[str] | None = None,
        key: str | PathLike[str] | None = None,
        timeout: float = TIMEOUT_S,
        retry_for: float = RETRY_FOR_S,
        on_retry: Callable[[EverloopError], None] | None = None,
    ) -> None:
        """`data` is the folder of a local installation (default: EVERLOOP_DATA, else .everloop).

        `ingest`, `serving`, `training`, `feature`, `registry` and `monitoring` are URLs; one that is given is used
        instead of what the folder or the environment names. So are the `token` that requests carry, and the files of
        TLS: the authorities to trust (`ca`), and the client's own `certificate` with its `key`.
        `timeout` seconds for one attempt, `retry_for` seconds for all of them on 429, 503 and lost connections;
        `on_retry` is called with each error after which the client retries.
        """
        given = {"ingest": ingest, "serving": serving, "training": training}
        given |= {"feature": feature, "registry": registry, "monitoring": monitoring}
        self._endpoints = Endpoints(data, given, token, ClientTls.of_files(ca, certificate, key))
        self._timeout = timeout
        self._retry_for = retry_for
        self._on_retry = on_retry

    def __getstate__(self) -> dict[str, Any]:
        # Connections stay with their process; a copy makes its own.
        return {name: value for name, value in self.__dict__.items() if name not in ("_http", "_opened_by")}

    def _impatient(self) -> Self:
        """A copy with connections of its own, which asks once and does not wait long for the answer."""
        made = copy.copy(self)
        made._retry_for, made._on_retry, made._timeout = 0.0, None, min(self._timeout, ATTEMPT_S)
        return made

    def _open_connections(self) -> httpx.Client:
        direct = {f"all://{host}": None for host in LOOPBACK_HOSTS}
        return httpx.Client(timeout=self._timeout, mounts=direct, verify=self._endpoints.trusted())

    def _retryable(self, response: httpx.Response) -> tuple[EverloopError, float | None] | None:
        """The error of an answer after which a retry may succeed, and the wait it asks for; None for other answers."""
        if response.status_code not in RETRIED:
            return None
        return wire.http_error(response), retry_after(response.headers)

    def _pause_s(self, attempts: Attempts, error: EverloopError, at_least: float | None) -> float:
        """Seconds until the next attempt; raises the error when there is no time left for one."""
        if (pause := attempts.pause_s(at_least or 0.0)) is None:
            raise error
        if self._on_retry is not None:
            self._on_retry(error)
        return pause

    def _read_data_set(
        self, http: httpx.Client, path: str, on_progress: Progress | None, stop: threading.Event | None = None
    ) -> DataSet:
        """Read a data set whole, with retries."""
        attempts, timeout = Attempts(BACKOFF, self._retry_for), httpx.Timeout(self._timeout, read=READ_TIMEOUT_S)
        while True:
            url = self._endpoints.url("training")
            try:
                headers = {"accept": NDJSON, **self._endpoints.header(url)}
                with http.stream("GET", url + path, headers=headers, timeout=timeout) as response:
                    if response.status_code == 200:
                        return receive(response, on_progress, stop)
                    response.read()
                if (failure := self._retryable(response)) is None:
                    raise wire.http_error(response)
            except httpx.TransportError as e:
                failure = self._lost("training", url, e)
            clock.sleep(self._pause_s(attempts, *failure))

    def _lost(self, service: str, url: str, error: httpx.TransportError) -> tuple[EverloopError, float | None]:
        self._endpoints.refresh(service)
        return EverloopUnreachable(service, url, str(error) or type(error).__name__), None
