"""A search on real Kafka, with training as a process that is killed while it searches."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import mean
from typing import Any, TypeVar
from uuid import uuid4

import pytest
from tests.builders.loops import live_version, loop_state
from tests.training.training_harness import event, losses, of, spec

from everloop_schemas.envelope import Event
from everloop_schemas.loop import LoopSpec
from everloop_schemas.search import SearchFinished, SearchRequested, TrialFinished
from everloop_schemas.training import ChallengeUpdated, ModelTrained, RunFinished, RunRequested
from everloop_shared.messaging.kafka.engine import kafka_factory
from everloop_shared.messaging.routes import Engine, connected
from everloop_training.settings import TrainingSettings

pytestmark = [pytest.mark.frameworks, pytest.mark.kafka, pytest.mark.timeout(300)]
POOR = {"preset": "logistic", "learning_rate": 0.000001}
OUTCOMES, TRIALS, WITHIN_S = 1_200, 24, 120.0
SPEC: LoopSpec = spec(
    models=[POOR],
    search={
        "space": {"models.0.learning_rate": {"log": [0.000001, 1.0]}, "models.0.l2": {"log": [0.00001, 0.1]}},
        "trials": TRIALS,
        "every": OUTCOMES,
        "window": OUTCOMES,
    },
)
TOPICS = (SearchRequested, TrialFinished, SearchFinished, RunRequested, RunFinished, ModelTrained, ChallengeUpdated)
T = TypeVar("T")


@contextmanager
def service(settings: TrainingSettings) -> Iterator[subprocess.Popen[bytes]]:
    """The training service as a process."""
    names = ("data", "port", "instance", "kafka_bootstrap", "topic_prefix", "partitions")
    named = {f"EVERLOOP_{name}".upper(): str(getattr(settings, name)) for name in names}
    process = subprocess.Popen([sys.executable, "-m", "everloop_training"], env={**os.environ, **named})
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def published(engine: Engine) -> list[Event]:
    topics = [kind.topic for kind in TOPICS]
    return [e for t in topics for _, e in await engine.read(t, 0, 0, await engine.end_offset(t, 0))]


async def until(engine: Engine, condition: Callable[[list[Event]], T | None]) -> T:
    """The value of a condition on what training has published."""
    async with asyncio.timeout(WITHIN_S):
        while not (value := condition(await published(engine))):
            await asyncio.sleep(0.05)
    return value


def trials(events: list[Event]) -> dict[int, Any]:
    """What each trial came to, without the time that it took; each is on the log once, or the same again."""
    found: dict[int, Any] = {}
    for trial in of(TrialFinished, events):
        came_to = trial.data.model_dump(exclude={"seconds"})
        assert found.setdefault(trial.data.trial, came_to) == came_to
    return found


async def test_a_killed_search_is_done_again_with_the_same_trials_and_its_best_model_challenges(
    kafka: Any, tmp_path: Path
) -> None:
    def settings(name: str) -> TrainingSettings:
        prefix = f"{uuid4().hex[:8]}."
        parts = {"kafka_bootstrap": kafka.bootstrap, "topic_prefix": prefix, "partitions": 1, "instance": "t"}
        return TrainingSettings(data=tmp_path / name, port=0, **parts)

    whole, killed = settings("whole"), settings("killed")
    outcomes = [event(i) for i in range(OUTCOMES + 300)]
    async with connected(kafka_factory(whole)("feature")) as one, connected(kafka_factory(killed)("feature")) as other:
        for engine in (one, other):
            await engine.publish([loop_state(SPEC), *outcomes[:OUTCOMES]])
        with service(whole):
            with service(killed) as process:
                await until(other, lambda events: of(TrialFinished, events))
                process.kill()  # kill -9, in the middle of the search
            assert len(of(TrialFinished, await published(other))) < TRIALS
            expected = await until(one, lambda events: trials(events) if of(SearchFinished, events) else None)
        with service(killed):
            [end] = await until(other, lambda events: of(SearchFinished, events))
            await other.publish(outcomes[OUTCOMES:])
            line = await until(other, _line_of_the_search)
            await until(other, lambda events: OUTCOMES + 299 in losses(events).get(line, {}))
            events = await published(other)
            await other.publish([loop_state(SPEC, sequence=2, winner=line, stage="training", champion=live_version())])
            version = await until(other, lambda events: [v for v in of(ModelTrained, events) if v.data.line == line])

    assert trials(events) == expected
    assert len(of(SearchRequested, events)) == 1
    assert (end.data.state, end.data.run is not None) == ("improved", True)
    assert end.data.score is not None
    assert end.data.base_score is not None
    assert end.data.score > end.data.base_score + 0.1
    by_line = losses(events)
    assert min(by_line[line]) >= OUTCOMES
    assert mean(by_line[line].values()) < mean(by_line["logistic-0"][i] for i in by_line[line]) - 0.1
    assert version[0].data.manifest.model == end.data.model


def _line_of_the_search(events: list[Event]) -> str | None:
    """The line that challenges, once its run has ended well."""
    run = next((r.data for r in of(RunRequested, events) if r.data.trigger == "search"), None)
    ended = [f.data.state for f in of(RunFinished, events) if run and f.data.run == run.run]
    return run.line if run and ended == ["trained"] else None
