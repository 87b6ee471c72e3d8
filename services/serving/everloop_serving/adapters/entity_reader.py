"""Reads the window states of entities from the feature service, within a deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Self
from urllib.parse import quote, urlsplit

import msgspec

from everloop_schemas.feature import EntityState
from everloop_serving.domain.entity_states import EntityStates
from everloop_serving.errors import StateUnread
from everloop_serving.ports import PublishedState
from everloop_shared.access.own_token import OwnToken
from everloop_shared.errors import Misconfigured
from everloop_shared.http_client import Address, HttpAnswer, HttpConnections, HttpRequest, NotConnected, ProtocolError
from everloop_shared.messaging.routes import LogReader
from everloop_shared.tls import ClientContext, ClientTls
from everloop_shared.tracing import current_traceparent

FAILURES_IN_A_ROW = 5
"""After so many reads without an answer, feature counts as away."""
SEALED = "?sealed=true"
MOST_BYTES = 16_000_000
"""No state of an entity is as large."""
AWAY_S = 1.0
"""For so long nobody asks a feature service that is away; then one request tries again."""


class _State(msgspec.Struct):
    applied: int
    state: dict[str, Any]
    revision: int
    personal: str | None = None


class _Problem(msgspec.Struct):
    code: str = ""


class _Target(NamedTuple):
    address: Address
    host: bytes
    path: str
    tls: bool


class Circuit:
    """Remembers that a service is away, so that requests fail at once instead of waiting for it one by one."""

    def __init__(self, timer: Callable[[], float] = time.monotonic) -> None:
        self._timer = timer
        self._failures = 0
        self._asks_again_at = 0.0

    def may_ask(self) -> bool:
        """Whether to ask the service now; while it is away, one caller in `AWAY_S` seconds may."""
        if self._failures < FAILURES_IN_A_ROW:
            return True
        if self._timer() < self._asks_again_at:
            return False
        self._asks_again_at = self._timer() + AWAY_S
        return True

    def report_answer(self) -> None:
        """It answered."""
        self._failures = 0

    def report_failure(self, *, certain: bool = False) -> None:
        """It did not answer; `certain`: nobody listens there."""
        self._failures = max(FAILURES_IN_A_ROW, self._failures) if certain else self._failures + 1
        self._asks_again_at = self._timer() + AWAY_S


class LatestStates:
    """Starts reading the topic of states at its last `most` records: no more fit in memory, the rest can be read."""

    def __init__(self, states: EntityStates, most: int, log_reader: LogReader) -> None:
        self._states, self._most, self._log_reader = states, most, log_reader

    async def start_at(self, topic: str, partition: int) -> int:
        """The route's `start_at`."""
        start = max(0, await self._log_reader.end_offset(EntityState.topic, partition) - self._most)
        if start:
            self._states.complete = False
        return start


class FeatureEntityReader:
    """Implements `ports.EntityReader` by feature's HTTP endpoint, at most `most` reads at a time.

    `urls` are those of all replicas of feature, separated by commas: the one that has an entity's partition is asked
    first once it is known.
    """

    def __init__(
        self,
        urls: str,
        most: int,
        partition_for: Callable[[str], int],
        tls: ClientTls | None = None,
        token: OwnToken | None = None,
    ) -> None:
        self._token = token or OwnToken()
        self._targets = [_target(url.strip()) for url in urls.split(",") if url.strip()]
        self._partition_for = partition_for
        self._owner: dict[int, int] = {}
        self._slots = asyncio.Semaphore(most)
        self._connections = HttpConnections(most_bytes=MOST_BYTES)
        has_tls = any(target.tls for target in self._targets)
        self._secure = HttpConnections(ClientContext(tls or ClientTls()), MOST_BYTES) if has_tls else self._connections
        self._circuit = Circuit()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._connections.close()
        self._secure.close()

    async def read(self, loop: str, entity: str, within_s: float, *, sealed: bool = False) -> PublishedState | None:
        """The state of an entity; None where feature has none. Raises StateUnread."""
        if not self._circuit.may_ask():
            raise StateUnread("away")
        asked = False
        try:
            async with asyncio.timeout(within_s), self._slots:
                asked = True
                answer = await self._ask_owner(loop, entity, SEALED if sealed else "")
        except TimeoutError:
            if asked:
                self._circuit.report_failure()
            raise StateUnread("timeout" if asked else "busy") from None
        except Misconfigured as e:
            raise StateUnread("error") from e
        except (OSError, ProtocolError) as e:
            self._circuit.report_failure(certain=isinstance(e, NotConnected))
            raise StateUnread("away") from e
        self._circuit.report_answer()
        return _read_state(answer)

    async def _ask_owner(self, loop: str, entity: str, query: str) -> HttpAnswer:
        """The answer of the replica that has the entity's partition."""
        path = f"/v1/loops/{loop}/entities/{quote(entity, safe='')}{query}"
        partition = self._partition_for(f"{loop}/{entity}")
        first = self._owner.get(partition, 0)
        sent = [(name.encode(), value.encode()) for name, value in self._token.header().items()]
        if trace := current_traceparent():
            sent.append((b"traceparent", trace.encode()))
        answer: HttpAnswer | None = None
        failure: Exception | None = None
        for turn in range(len(self._targets)):
            number = (first + turn) % len(self._targets)
            target = self._targets[number]
            headers = [(b"host", target.host), *sent]
            request = HttpRequest("GET", (target.path + path).encode(), headers)
            connections = self._secure if target.tls else self._connections
            try:
                answer = await connections.send(target.address, request, connect_s=None, read_s=None)
            except (OSError, ProtocolError) as e:  # that replica is gone, or not there yet: another has its partitions
                failure = e
                continue
            if answer.status != 503:
                self._owner[partition] = number
                return answer
        if answer is None:
            assert failure is not None, "a reader has a target"
            raise failure
        return answer


def _read_state(answer: HttpAnswer) -> PublishedState | None:
    try:
        if answer.status == 200:
            found = msgspec.json.decode(answer.body, type=_State)
            return PublishedState(found.state, found.applied, found.revision, len(answer.body), found.personal)
        if answer.status == 404 and msgspec.json.decode(answer.body, type=_Problem).code == "entity_not_found":
            return None
    except msgspec.MsgspecError as e:
        raise StateUnread("error") from e
    raise StateUnread("elsewhere" if answer.status == 503 else "error")


def _target(url: str) -> _Target:
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    address = parts.hostname or "", parts.port or (443 if tls else 80)
    return _Target(address, parts.netloc.encode(), parts.path.rstrip("/"), tls)
