"""Reads topics from their beginning: from Kafka, or by HTTP from the memory bus."""

from __future__ import annotations

import heapq
import json
from collections.abc import Awaitable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, Self

import httpx

from everloop.errors import EverloopUnreachable
from everloop.extras import require_local
from everloop.local.discovery import FoundToken, Installation, find_token
from everloop_schemas.catalogue import CLASSES
from everloop_shared.settings import Settings

WAIT_S = 0.5


@dataclass(frozen=True)
class TopicRecord:
    """A record: its topic, without prefix, and its value."""

    topic: str
    value: bytes


class TopicReader(Protocol):
    """Some topics from their beginning. Enter it, then read; it commits no offsets."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *exc: object) -> None: ...

    async def read(self) -> list[TopicRecord]:
        """The records since the last read, in the order of the log; waits half a second at most.

        Raises EverloopUnreachable.
        """

    async def behind(self) -> bool:
        """Whether a record is unread that was there on entering."""


def reader(installation: Installation, topics: Sequence[str], name: str) -> TopicReader:
    """The reader of this installation's topics. Raises InstallationNotFound where it has neither bus."""
    if installation.topics:
        return HttpTopicReader(installation.topics, topics, find_token(str(installation.folder)))
    require_local(f"everloop {name}, which reads Kafka,")
    settings = Settings.load(name).model_copy(
        update={"kafka_bootstrap": installation.kafka(), "kafka_config": installation.kafka_config}
    )
    return KafkaTopicReader(settings, topics, name)


class KafkaTopicReader:
    """Reads from the broker, without a consumer group."""

    def __init__(self, settings: Settings, topics: Iterable[str], name: str) -> None:
        from aiokafka import AIOKafkaConsumer  # type: ignore[import-untyped]  # not part of the light installation

        from everloop_shared.messaging.kafka.client import client_settings

        self._bootstrap, self._prefix = settings.kafka_bootstrap, settings.topic_prefix
        self._ends: dict[Any, int] = {}
        self._consumer = AIOKafkaConsumer(
            *(self._prefix + topic for topic in topics),
            **client_settings(settings, name),
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            fetch_max_wait_ms=100,
        )

    async def __aenter__(self) -> Self:
        try:
            await self._answer(self._consumer.start())
            self._ends = await self._answer(self._consumer.end_offsets(self._consumer.assignment()))
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._consumer.stop()

    async def read(self) -> list[TopicRecord]:
        """The records since the last read."""
        fetched = await self._answer(self._consumer.getmany(timeout_ms=int(WAIT_S * 1000)))
        # Merged, not sorted: the clocks of several producers of a partition do not agree with its order.
        records = heapq.merge(*fetched.values(), key=lambda r: r.timestamp)
        return [TopicRecord(r.topic.removeprefix(self._prefix), r.value) for r in records if r.value is not None]

    async def behind(self) -> bool:
        """Whether a record is unread that was there on entering."""
        return any([await self._answer(self._consumer.position(p)) < end for p, end in self._ends.items()])

    async def _answer(self, call: Awaitable[Any]) -> Any:
        from aiokafka.errors import KafkaError  # type: ignore[import-untyped]

        try:
            return await call
        except KafkaError as e:
            raise EverloopUnreachable("kafka", self._bootstrap, str(e) or type(e).__name__) from e


class HttpTopicReader:
    """Reads from the memory bus, by HTTP."""

    def __init__(self, url: str, topics: Iterable[str], token: FoundToken | None = None) -> None:
        self._url, self._topics, self._token = url, list(topics), token
        self._http = httpx.AsyncClient(base_url=url, trust_env=False, timeout=10.0)
        self._next, self._end = 0, 0

    async def __aenter__(self) -> Self:
        try:
            self._end = int((await self._get(self._next)).headers["everloop-end"])
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        with suppress(RuntimeError):  # closed already
            await self._http.aclose()

    async def read(self) -> list[TopicRecord]:
        """The records since the last read."""
        answer = await self._get(self._next, WAIT_S)
        self._next = int(answer.headers["everloop-next"])
        return [TopicRecord(CLASSES[json.loads(raw)["type"]].topic.name, raw) for raw in answer.content.splitlines()]

    async def behind(self) -> bool:
        """Whether a record is unread that was there on entering."""
        return self._next < self._end

    async def _get(self, since: int, wait_s: float = 0.0) -> httpx.Response:
        try:
            query: dict[str, list[str] | float] = {"topic": self._topics, "since": since, "wait_s": wait_s}
            headers = self._token.header(self._url) if self._token else {}
            return (await self._http.get("/v1/records", params=query, headers=headers)).raise_for_status()
        except httpx.HTTPError as e:
            raise EverloopUnreachable("topics", self._url, str(e) or type(e).__name__) from e
