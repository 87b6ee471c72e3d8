"""A search on real Kafka, with training as a process that is killed while it searches."""

from __future__ import annotations

from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from tests.builders.loops import live_version, loop_state
from tests.training.training_harness import event, losses, of, spec
from tests.training.training_process import Published, service, settings_of

from everloop_schemas.envelope import Event
from everloop_schemas.loop import LoopSpec
from everloop_schemas.search import SearchFinished, SearchRequested, TrialFinished
from everloop_schemas.training import ChallengeUpdated, ModelTrained, RunFinished, RunRequested
from everloop_shared.messaging.kafka.engine import kafka_factory
from everloop_shared.messaging.routes import connected

pytestmark = [pytest.mark.frameworks, pytest.mark.kafka, pytest.mark.timeout(300)]
POOR = {"preset": "logistic", "learning_rate": 0.000001}
OUTCOMES, TRIALS = 1_200, 80
SPEC: LoopSpec = spec(
    models=[POOR],
    search={
        "space": {"models.0.learning_rate": {"log": [0.000001, 1.0]}, "models.0.l2": {"log": [0.00001, 0.1]}},
        "trials": TRIALS,
        "every": OUTCOMES,
        "window": OUTCOMES,
    },
)
KINDS = (SearchRequested, TrialFinished, SearchFinished, RunRequested, RunFinished, ModelTrained, ChallengeUpdated)


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
    whole, killed = settings_of(kafka, tmp_path / "whole"), settings_of(kafka, tmp_path / "killed")
    outcomes = [event(i) for i in range(OUTCOMES + 300)]
    async with connected(kafka_factory(whole)("feature")) as one, connected(kafka_factory(killed)("feature")) as other:
        of_whole, of_killed = Published(one, KINDS), Published(other, KINDS)
        for engine in (one, other):
            await engine.publish([loop_state(SPEC), *outcomes[:OUTCOMES]])
        with service(whole):
            with service(killed) as process:
                await of_killed.until(lambda events: of(TrialFinished, events))
                process.kill()  # kill -9, in the middle of the search
            assert len(of(TrialFinished, await of_killed.read())) < TRIALS
            expected = await of_whole.until(lambda events: trials(events) if of(SearchFinished, events) else None)
        with service(killed):
            [end] = await of_killed.until(lambda events: of(SearchFinished, events))
            await other.publish(outcomes[OUTCOMES:])
            line = await of_killed.until(_line_of_the_search)
            await of_killed.until(lambda events: OUTCOMES + 299 in losses(events).get(line, {}))
            events = await of_killed.read()
            await other.publish([loop_state(SPEC, sequence=2, winner=line, stage="training", champion=live_version())])
            version = await of_killed.until(lambda events: [v for v in of(ModelTrained, events) if v.data.line == line])

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
