"""On a census that is biased by sex, the challenger that uses it is held back, and one that does not passes."""

from __future__ import annotations

from typing import Any

import pytest
from tests.builders.census import REQUIRED, SCHEMA, blind_model, census, census_outcomes
from tests.builders.onnx_models import normalised
from tests.registry.registry_harness import HandlerHarness, market_spec
from tests.training.predicting_lines import submission
from tests.training.training_harness import MemoryArtifacts, make_learner, of, state

from everloop_schemas.envelope import Event
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import GateDecided
from everloop_schemas.training import ChallengeUpdated

BIASED, BLIND = "logistic-0", "blind-100"


def census_spec(**gate: Any) -> LoopSpec:
    return market_spec(
        schema=SCHEMA,
        models=[{"preset": "logistic"}],
        monitor={"fairness": ["sex"]},
        gate={"min_outcomes": 200, **gate},
    )


def challenge(spec: LoopSpec, n: int) -> list[Event]:
    """What training reports of both lines over a census, as the registry reads it."""
    artifacts = MemoryArtifacts()
    learner = make_learner(state(of=spec), artifacts)
    stored = artifacts.put("blind", normalised(blind_model(), spec).data)
    for outcome in census_outcomes(census(n)):
        if outcome.offset == 100:
            learner.on_loop_state(state(1, of=spec, submissions=[submission(stored, BLIND, 99)]))
        learner.learn(outcome)
    return [ChallengeUpdated.decode(event.encode()) for event in of(ChallengeUpdated, learner.take_events())]


async def gate_decisions(harness: HandlerHarness, spec: LoopSpec) -> list[tuple[str, bool]]:
    await harness.command("apply", spec)
    await harness.handle(*challenge(spec, 900))
    return [(d.subject, d.data.passed) for d in harness.decisions if isinstance(d, GateDecided)]


async def test_the_challenger_that_is_right_more_often_is_held_back_and_the_fair_one_passes(
    harness: HandlerHarness,
) -> None:
    decided = await gate_decisions(harness, census_spec(require=[REQUIRED]))

    held = [d.data.reason for d in harness.decisions if isinstance(d, GateDecided) and not d.data.passed]
    assert [subject for subject, passed in decided if passed] == [BLIND]
    assert any(reason.startswith(f"held back: {REQUIRED} is required, and it is 0.") for reason in held)
    assert list((await harness.loop()).held_back) == [BIASED]


@pytest.mark.parametrize("require", [[], ["accuracy >= 0.7"]])
async def test_without_the_fairness_requirement_the_biased_one_passes(
    harness: HandlerHarness, require: list[str]
) -> None:
    decided = await gate_decisions(harness, census_spec(require=require))

    assert decided == [(BIASED, True)]
