"""Applications: they send to both endpoints, keep a journal of what was acknowledged, and retry until it is."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from random import Random
from typing import Any

import httpx
from tests.chaos.journal import Journal, SentLabel, SentObservation
from tests.chaos.loops import SPECS, DataGenerator

WORKERS = 8
TIMEOUT_S = 25.0
ENTITIES = {"stream": ("s1", "s2", "b1", "b2"), "rest": ("r1", "r2", "b1", "b2")}
"""Entities by endpoint; those that begin with b are sent to both."""
RETRIED = (429, 503)
ACCEPTED = {"events": 202, "labels": 202, "feedback": 202, "predict": 200}


@dataclass
class Load:
    """Sends `rate` observations a second, to all loops and both endpoints, until `stop`; `url` is that of a service.

    `repeats` is the share of observations that are sent a second time under their id.
    """

    url: Callable[[str], str | None]
    journal: Journal
    seed: int
    rate: float
    repeats: float = 0.03
    invert: asyncio.Event = field(default_factory=asyncio.Event)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    answers: dict[str, dict[int, int]] = field(default_factory=dict)
    give_up_at: float = float("inf")

    async def run(self) -> None:
        """Send until stopped; returns when everything is acknowledged, or given up."""
        limits = httpx.Limits(max_keepalive_connections=0)  # a service that was killed keeps no connection
        async with httpx.AsyncClient(timeout=TIMEOUT_S, limits=limits, trust_env=False) as client:
            workers = [(loop, n) for loop in SPECS for n in range(WORKERS)]
            await asyncio.gather(*[self._work(client, loop, n, len(workers)) for loop, n in workers])

    async def _work(self, client: httpx.AsyncClient, loop: str, n: int, workers: int) -> None:
        random = Random(f"{self.seed}/{loop}/{n}")
        data, later = DataGenerator(random), deque[tuple[float, SentObservation, SentLabel]]()
        for i in count():
            if self.stop.is_set():
                break
            due = time.monotonic() + workers / self.rate
            data.inverted = self.invert.is_set()
            observation = self._new_observation(random, data, loop, f"{loop}-{n}-{i}")
            await self._send_observation(client, observation)
            if random.random() < self.repeats:
                await self._send_observation(client, observation)  # a duplicate
            for label in self._new_labels(random, data, observation):
                later.append((time.monotonic() + random.choice([0, 0, 0.3, 3]), observation, label))
            while later and later[0][0] <= time.monotonic():
                await self._send_label(client, *later.popleft()[1:])
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        for _, observation, label in later:
            await self._send_label(client, observation, label)

    def _new_observation(self, random: Random, data: DataGenerator, loop: str, name: str) -> SentObservation:
        via = random.choice(["stream", "rest"])
        entity = random.choice(ENTITIES[via])
        return self.journal.add(SentObservation(loop, name, via, entity, data.fields(loop)))  # type: ignore[arg-type]

    def _new_labels(self, random: Random, data: DataGenerator, observation: SentObservation) -> list[SentLabel]:
        """Mostly one label, sometimes none, sometimes a correction or feedback after it.

        Most applications give each label a key, as the client does; some do not, and send duplicates.
        """
        if random.random() < 0.1:
            return []
        truth = data.label(observation.loop, observation.fields)
        labels = [SentLabel("label", {"id": observation.id, "label": truth})]
        chance = random.random()
        if chance < 0.08:
            labels.append(SentLabel("label", {"id": observation.id, "label": data.other(truth)}))
            for label, time in zip(labels, _times(random), strict=True):
                label.body |= {"time": time} if time else {}
        elif chance < 0.16:
            values = {"label": data.other(truth), "source": "user"}
            labels.append(SentLabel("feedback", {"id": observation.id, **values}))
        elif chance < 0.25 and isinstance(truth, bool):
            labels.append(SentLabel("feedback", {"id": observation.id, "correct": random.random() < 0.5}))
        if random.random() < 0.8:
            for n, label in enumerate(labels):
                label.body["key"] = f"{observation.id}-{n}"
        return labels

    async def _send_observation(self, client: httpx.AsyncClient, observation: SentObservation) -> None:
        service, endpoint = ("ingest", "events") if observation.via == "stream" else ("serving", "predict")
        body = {"id": observation.id, "entity": observation.entity, "data": observation.fields}
        answer = await self._send(client, service, observation.loop, endpoint, body)
        if answer is None:
            return
        if observation.via == "rest" and observation.answer not in (None, answer):
            self.journal.surprises.append(f"{observation.id}: answered {observation.answer}, then {answer}")
        observation.acknowledged = True
        observation.answer = observation.answer or (answer if observation.via == "rest" else None)

    async def _send_label(self, client: httpx.AsyncClient, observation: SentObservation, label: SentLabel) -> None:
        observation.labels.append(label)
        endpoint = "labels" if label.kind == "label" else "feedback"
        answer = await self._send(client, "ingest", observation.loop, endpoint, label.body)
        label.acknowledged = answer is not None

    async def _send(self, client: httpx.AsyncClient, service: str, loop: str, endpoint: str, body: Any) -> Any:
        """The answer once it is accepted; None when it was refused or given up."""
        while time.monotonic() < self.give_up_at:
            url = self.url(service)
            try:
                answer = await client.post(f"{url}/v1/loops/{loop}/{endpoint}", json=body)
            except (httpx.TransportError, httpx.InvalidURL):
                self._count(endpoint, 0)
                await asyncio.sleep(0.2)
                continue
            self._count(endpoint, answer.status_code)
            if answer.status_code == ACCEPTED[endpoint]:
                return answer.json()
            if answer.status_code not in RETRIED:
                self.journal.surprises.append(f"{endpoint} {body['id']}: {answer.status_code} {answer.text[:300]}")
                return None
            if "retry-after" not in answer.headers:
                self.journal.surprises.append(f"{endpoint} {body['id']}: {answer.status_code} without Retry-After")
            await asyncio.sleep(min(1.0, float(answer.headers.get("retry-after", 1))))
        return None

    def _count(self, endpoint: str, status: int) -> None:
        seen = self.answers.setdefault(endpoint, {})
        seen[status] = seen.get(status, 0) + 1


def _times(random: Random) -> tuple[str | None, str | None]:
    """Times of a label and of the next one: the later one counts, and without a time that of the arrival."""
    now = datetime.now(UTC)
    before, after = ((now + timedelta(milliseconds=ms)).isoformat() for ms in (-500, 5))
    at = now.isoformat()
    return random.choice([(None, None), (None, at), (at, None), (at, after), (at, before), (at, at)])


@asynccontextmanager
async def loaded(
    url: Callable[[str], str | None], journal: Journal, rate: float = 20, repeats: float = 0.03
) -> AsyncIterator[Load]:
    """Applications send for the length of the block, and until everything they sent is acknowledged."""
    load = Load(url, journal, seed=9, rate=rate, repeats=repeats)
    working = asyncio.create_task(load.run())
    try:
        yield load
    finally:
        load.stop.set()
        load.give_up_at = time.monotonic() + 60
        await working
