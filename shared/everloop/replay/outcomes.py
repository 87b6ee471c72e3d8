"""Follows a loop's outcomes on the log, so that a replay in lockstep knows when each row is done."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Self

from everloop.topics import Line, Reader
from everloop_features import State, compile_features
from everloop_schemas.feature import EntityState, LabelJoined, OutcomeObserved
from everloop_schemas.loop import LoopSpec

OUTCOMES, JOINED, STATES = (c.topic.name for c in (OutcomeObserved, LabelJoined, EntityState))


class OutcomeMissing(Exception):
    """A row did not become an outcome in time."""


class LogOutcomes:
    """Knows which predictions of a loop have an outcome; in a loop with `lag: label`, one that features know of.

    Enter it to read the log up to its end; a row whose outcome is on it already is not waited for.
    """

    def __init__(self, reader: Reader, spec: LoopSpec, within_s: float = 120.0) -> None:
        self._reader, self._loop, self._lagged, self._within_s = reader, spec.loop, _lagged(spec), within_s
        self._outcomes: set[str] = set()
        self._past: frozenset[str] = frozenset()
        self._plan = compile_features(spec)
        self._labels: dict[str, State] = {}
        self._joined: dict[str, str] = {}
        self._causes: set[str] = set()
        self._moved = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._reader.__aenter__()
        try:
            while await self._reader.behind():
                await self._read()
        except BaseException:
            await self._reader.__aexit__()
            raise
        self._past = frozenset(self._outcomes)
        self._task = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        await self._reader.__aexit__()

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
        for line in await self._reader.read():
            self._hear(line)
        async with self._moved:
            self._moved.notify_all()

    def _hear(self, line: Line) -> None:
        if self._loop.encode() not in line.value:
            return
        event = json.loads(line.value)
        if event.get("loop") != self._loop:
            return
        match line.topic:
            case t if t == OUTCOMES:
                self._outcomes.add(event["subject"])
            case t if t == JOINED:
                self._hear_joined(LabelJoined.model_validate(event))
            case _:
                self._causes.add(event.get("causationid", ""))

    def _hear_joined(self, event: LabelJoined) -> None:
        """Features tell a state only where a label is news to them: no other one is waited for."""
        data = event.data
        known = self._labels.get(data.entity, {})
        after = self._plan.with_label(known, data.label, data.observed or event.time, data.correction)
        self._labels[data.entity] = after
        self._joined[data.prediction_id] = event.id
        if after == known:
            self._causes.add(event.id)


def topics_of(spec: LoopSpec) -> tuple[str, ...]:
    """The topics that lockstep follows in this loop."""
    return (OUTCOMES, JOINED, STATES) if _lagged(spec) else (OUTCOMES,)


def _lagged(spec: LoopSpec) -> bool:
    return any(feature.lag == "label" for feature in spec.features)
