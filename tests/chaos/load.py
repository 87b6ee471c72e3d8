"""Applications: they send by both doors, remember what was acknowledged, and try again until it is."""

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
from tests.chaos.journal import Asked, Journal, Word
from tests.chaos.loops import SPECS, World

WORKERS = 8
TIMEOUT_S = 25.0
ENTITIES = {"stream": ("s1", "s2", "b1", "b2"), "rest": ("r1", "r2", "b1", "b2")}
"""Entities by door; those that begin with b are moved by both."""
COME_BACK = (429, 503)
WELL = {"events": 202, "labels": 202, "feedback": 202, "predict": 200}


@dataclass
class Load:
    """Sends `rate` observations a second, over all loops and both doors, until `stop`; `url` names a service's door."""

    url: Callable[[str], str | None]
    journal: Journal
    seed: int
    rate: float
    turn: asyncio.Event = field(default_factory=asyncio.Event)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    answers: dict[str, dict[int, int]] = field(default_factory=dict)
    give_up_at: float = float("inf")

    async def run(self) -> None:
        """Work until stopped; returns when everything in hand is acknowledged, or given up."""
        limits = httpx.Limits(max_keepalive_connections=0)  # a door that was killed keeps no connection
        async with httpx.AsyncClient(timeout=TIMEOUT_S, limits=limits, trust_env=False) as client:
            workers = [(loop, n) for loop in SPECS for n in range(WORKERS)]
            await asyncio.gather(*[self._work(client, loop, n, len(workers)) for loop, n in workers])

    async def _work(self, client: httpx.AsyncClient, loop: str, n: int, workers: int) -> None:
        random = Random(f"{self.seed}/{loop}/{n}")
        world, later = World(random), deque[tuple[float, Asked, Word]]()
        for i in count():
            if self.stop.is_set():
                break
            due = time.monotonic() + workers / self.rate
            world.turned = self.turn.is_set()
            asked = self._new(random, world, loop, f"{loop}-{n}-{i}")
            await self._ask(client, asked)
            if random.random() < 0.03:
                await self._ask(client, asked)  # an application that was not sure
            for word in self._words(random, world, asked):
                later.append((time.monotonic() + random.choice([0, 0, 0.3, 3]), asked, word))
            while later and later[0][0] <= time.monotonic():
                await self._say(client, *later.popleft()[1:])
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        for _, asked, word in later:
            await self._say(client, asked, word)

    def _new(self, random: Random, world: World, loop: str, name: str) -> Asked:
        door = random.choice(["stream", "rest"])
        entity = random.choice(ENTITIES[door])
        return self.journal.add(Asked(loop, name, door, entity, world.fields(loop)))  # type: ignore[arg-type]

    def _words(self, random: Random, world: World, asked: Asked) -> list[Word]:
        """Mostly one label, sometimes none, sometimes a correction or an opinion after it.

        Most applications give each word a key, as the client does; some are plain and send what they know again.
        """
        if random.random() < 0.1:
            return []
        truth = world.label(asked.loop, asked.fields)
        words = [Word("label", {"id": asked.id, "label": truth})]
        chance = random.random()
        if chance < 0.08:
            words.append(Word("label", {"id": asked.id, "label": world.other(truth)}))
            for word, time in zip(words, _times(random), strict=True):
                word.body |= {"time": time} if time else {}
        elif chance < 0.16:
            words.append(Word("feedback", {"id": asked.id, "label": world.other(truth), "source": "user"}))
        elif chance < 0.25 and isinstance(truth, bool):
            words.append(Word("feedback", {"id": asked.id, "correct": random.random() < 0.5}))
        if random.random() < 0.8:
            for n, word in enumerate(words):
                word.body["key"] = f"{asked.id}-{n}"
        return words

    async def _ask(self, client: httpx.AsyncClient, asked: Asked) -> None:
        service, door = ("ingest", "events") if asked.door == "stream" else ("serving", "predict")
        body = {"id": asked.id, "entity": asked.entity, "data": asked.fields}
        answer = await self._send(client, service, asked.loop, door, body)
        if answer is None:
            return
        if asked.door == "rest" and asked.answer not in (None, answer):
            self.journal.surprises.append(f"{asked.id}: answered {asked.answer}, then {answer}")
        asked.acknowledged = True
        asked.answer = asked.answer or (answer if asked.door == "rest" else None)

    async def _say(self, client: httpx.AsyncClient, asked: Asked, word: Word) -> None:
        asked.words.append(word)
        door = "labels" if word.kind == "label" else "feedback"
        word.acknowledged = await self._send(client, "ingest", asked.loop, door, word.body) is not None

    async def _send(self, client: httpx.AsyncClient, service: str, loop: str, door: str, body: Any) -> Any:
        """The answer once it is a good one; None when it was refused for good or given up."""
        while time.monotonic() < self.give_up_at:
            url = self.url(service)
            try:
                answer = await client.post(f"{url}/v1/loops/{loop}/{door}", json=body)
            except (httpx.TransportError, httpx.InvalidURL):
                self._count(door, 0)
                await asyncio.sleep(0.2)
                continue
            self._count(door, answer.status_code)
            if answer.status_code == WELL[door]:
                return answer.json()
            if answer.status_code not in COME_BACK:
                self.journal.surprises.append(f"{door} {body['id']}: {answer.status_code} {answer.text[:300]}")
                return None
            if "retry-after" not in answer.headers:
                self.journal.surprises.append(f"{door} {body['id']}: {answer.status_code} without Retry-After")
            await asyncio.sleep(min(1.0, float(answer.headers.get("retry-after", 1))))
        return None

    def _count(self, door: str, status: int) -> None:
        seen = self.answers.setdefault(door, {})
        seen[status] = seen.get(status, 0) + 1


def _times(random: Random) -> tuple[str | None, str | None]:
    """Times of a label and of the one after it: of two the later stands, and without one it is the arrival's."""
    now = datetime.now(UTC)
    before, after = ((now + timedelta(milliseconds=ms)).isoformat() for ms in (-500, 5))
    said = now.isoformat()
    return random.choice([(None, None), (None, said), (said, None), (said, after), (said, before), (said, said)])


@asynccontextmanager
async def loaded(url: Callable[[str], str | None], journal: Journal, rate: float = 20) -> AsyncIterator[Load]:
    """Applications send while this lasts, and until all they have is acknowledged."""
    load = Load(url, journal, seed=9, rate=rate)
    working = asyncio.create_task(load.run())
    try:
        yield load
    finally:
        load.stop.set()
        load.give_up_at = time.monotonic() + 60
        await working
