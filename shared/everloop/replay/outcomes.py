"""Follows a loop's outcomes on the log, so that a replay in lockstep knows when each row is done."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, ConsumerRecord  # type: ignore[import-untyped]

from everloop_schemas.feature import EntityState, LabelJoined, OutcomeObserved
from everloop_schemas.loop import LoopSpec
from everloop_shared.messaging.kafka_client import client_settings
from everloop_shared.settings import Settings

OUTCOMES, JOINED, STATES = (c.topic.name for c in (OutcomeObserved, LabelJoined, EntityState))


class OutcomeMissing(Exception):
    """A row did not become an outcome in time."""


class LogOutcomes:
    """Knows which predictions of a loop have an outcome; in a loop with `lag: label`, one that features know of.

    Enter it to read the log up to its end; a row whose outcome is on it already is not waited for.
    """

    def __init__(self, settings: Settings, spec: LoopSpec, within_s: float = 120.0) -> None:
        prefix = settings.topic_prefix
        lagged = any(feature.lag == "label" for feature in spec.features)
        topics = (OUTCOMES, JOINED, STATES) if lagged else (OUTCOMES,)
        self._prefix, self._loop, self._lagged, self._within_s = prefix, spec.loop, lagged, within_s
        self._consumer = AIOKafkaConsumer(
            *(prefix + topic for topic in topics),
            **client_settings(settings, "replay"),
            auto_offset_reset="earliest",
            isolation_level="read_committed",
        )
        self._outcomes: set[str] = set()
        self._past: frozenset[str] = frozenset()
        self._joined: dict[str, str] = {}
        self._causes: set[str] = set()
        self._moved = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._consumer.start()
        try:
            ends = await self._consumer.end_offsets(self._consumer.assignment())
            while [p for p, end in ends.items() if await self._consumer.position(p) < end]:
                await self._read()
        except BaseException:
            with suppress(asyncio.CancelledError):
                await self._consumer.stop()
            raise
        self._past = frozenset(self._outcomes)
        self._task = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        await self._consumer.stop()

    async def wait(self, prediction_id: str) -> None:
        """Return once the prediction has an outcome. Raises OutcomeMissing."""
        try:
            async with asyncio.timeout(self._within_s), self._moved:
                await self._moved.wait_for(lambda: self._done(prediction_id))
        except TimeoutError as e:
            raise OutcomeMissing(
                f"row {prediction_id} has no outcome {self._within_s:g} s after its label; look at the services' logs"
            ) from e

    def _done(self, prediction_id: str) -> bool:
        if prediction_id not in self._outcomes:
            return False
        told = self._joined.get(prediction_id) in self._causes
        return told or not self._lagged or prediction_id in self._past

    async def _follow(self) -> None:
        while True:
            await self._read()

    async def _read(self) -> None:
        for batch in (await self._consumer.getmany(timeout_ms=500)).values():
            for record in batch:
                self._hear(record)
        async with self._moved:
            self._moved.notify_all()

    def _hear(self, record: ConsumerRecord[Any, Any]) -> None:
        if record.value is None or self._loop.encode() not in record.value:
            return
        event = json.loads(record.value)
        if event.get("loop") != self._loop:
            return
        match record.topic.removeprefix(self._prefix):
            case t if t == OUTCOMES:
                self._outcomes.add(event["subject"])
            case t if t == JOINED:
                self._joined[event["data"]["prediction_id"]] = event["id"]
            case _:
                self._causes.add(event.get("causationid", ""))
