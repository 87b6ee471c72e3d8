"""Follows a loop's outcomes on the log, so that a replay in lockstep knows when a row has been processed."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Self

import msgspec

from everloop.topics import TopicReader, TopicRecord
from everloop_features import State, compile_features
from everloop_schemas.feature import EntityState, LabelJoined, OutcomeObserved
from everloop_schemas.loop import LoopSpec

OUTCOMES, JOINED, STATES = (c.topic.name for c in (OutcomeObserved, LabelJoined, EntityState))


class OutcomeMissing(Exception):
    """A row did not become an outcome in time."""


class LogOutcomes:
    """Knows which predictions of a loop have an outcome, and with `lag: label`, which outcomes the features include.

    Enter it to read the log up to its end; `wait` returns at once for a row whose outcome was there already.
    """

    def __init__(self, reader: TopicReader, spec: LoopSpec, within_s: float = 120.0) -> None:
        self._reader, self._loop, self._lagged, self._within_s = reader, spec.loop, has_lagged_label(spec), within_s
        self._outcomes: set[str] = set()
        self._past: frozenset[str] = frozenset()
        self._plan = compile_features(spec)
        self._labels: dict[str, State] = {}
        self._joined: dict[str, str] = {}
        self._causes: set[str] = set()
        self._changed = asyncio.Condition()
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
            async with asyncio.timeout(self._within_s), self._changed:
                await self._changed.wait_for(lambda: self._is_done(prediction_id))
        except TimeoutError as e:
            raise OutcomeMissing(
                f"row {prediction_id} has no outcome {self._within_s:g} s after its label; read the services' logs"
            ) from e

    def _is_done(self, prediction_id: str) -> bool:
        if prediction_id not in self._outcomes:
            return False
        in_features = self._joined.get(prediction_id) in self._causes
        return in_features or not self._lagged or prediction_id in self._past

    async def _follow(self) -> None:
        while True:
            await self._read()

    async def _read(self) -> None:
        for record in await self._reader.read():
            self._add(record)
        async with self._changed:
            self._changed.notify_all()

    def _add(self, record: TopicRecord) -> None:
        if self._loop.encode() not in record.value:
            return
        event = json.loads(record.value)
        if event.get("loop") != self._loop:
            return
        match record.topic:
            case t if t == OUTCOMES:
                self._outcomes.add(event["subject"])
            case t if t == JOINED:
                self._add_joined(msgspec.convert(event, LabelJoined))
            case _:
                self._causes.add(event.get("causationid", ""))

    def _add_joined(self, event: LabelJoined) -> None:
        """Feature publishes a state only where the label changes it: no other state is waited for."""
        data = event.data
        known = self._labels.get(data.entity, {})
        after = self._plan.with_label(known, data.label, data.observed or event.time, data.correction)
        self._labels[data.entity] = after
        self._joined[data.prediction_id] = event.id
        if after == known:
            self._causes.add(event.id)


def topics_of(spec: LoopSpec) -> tuple[str, ...]:
    """The topics that lockstep follows in this loop."""
    return (OUTCOMES, JOINED, STATES) if has_lagged_label(spec) else (OUTCOMES,)


def has_lagged_label(spec: LoopSpec) -> bool:
    """Whether a feature of the loop depends on labels, so that it matters when they come."""
    return any(feature.lag == "label" for feature in spec.features)
