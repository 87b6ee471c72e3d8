"""From evidence to champion and back: the gate, the rollout, and the guardrail."""

from __future__ import annotations

import pytest
from tests.builders.events import drift_detected, evaluation_updated, model_trained, run_requested, version_state
from tests.registry.registry_harness import BETTER, WORSE, HandlerHarness, both, champion_is, lines, rollout_of

from everloop_schemas.registry import GateDecided, ModelPromoted, ModelRolledBack, RolloutChanged


async def test_the_first_line_that_beats_the_baseline_is_promoted_without_canary(harness: HandlerHarness) -> None:
    await harness.handle(run_requested("a-0"), model_trained("a-0", 30, "initial"))

    won = await harness.handle(lines(0, 200, zero=WORSE, a=BETTER))
    promoted = await harness.handle(model_trained("a-0", 199, "gate"))

    assert won == ["gate_decided", "rollout_changed"]
    assert promoted == ["version_registered", "model_promoted"]
    loop = await harness.loop()
    assert (loop.champion.version, loop.stage, loop.winner) == ("a-0@199", "idle", None)


async def test_a_version_older_than_the_evidence_is_not_promoted(harness: HandlerHarness) -> None:
    await harness.handle(run_requested("a-0"), lines(0, 200, zero=WORSE, a=BETTER))

    decided = await harness.handle(model_trained("a-0", 198, "initial"))

    assert decided == ["version_registered"]
    assert (await harness.loop()).winner == "a-0"


async def test_a_version_registered_before_is_promoted_when_the_rollout_waits_for_it(harness: HandlerHarness) -> None:
    await harness.handle(model_trained("a-0", 250, "initial"), lines(0, 200, zero=WORSE, a=BETTER))

    decided = await harness.handle(model_trained("a-0", 250, "gate"))

    assert decided == ["model_promoted"]


async def test_a_challenger_goes_through_shadow_and_every_canary_step(harness: HandlerHarness) -> None:
    await champion_is(harness, "a-0")
    await rollout_of(harness)
    losses = {"a-0@200": [0.5] * 100, "b-0@400": [0.5] * 100}

    seen = []
    await harness.handle(version_state("b-0@400"))
    for start in (400, 500, 600):
        await harness.handle(evaluation_updated(start, losses))
        loop = await harness.loop()
        seen.append((loop.stage, loop.share, loop.champion.version))

    assert seen == [("canary", 0.1, "a-0@200"), ("canary", 0.5, "a-0@200"), ("idle", 0.0, "b-0@400")]


async def test_every_decision_of_a_rollout_carries_the_run_of_its_line(harness: HandlerHarness) -> None:
    await champion_is(harness, "a-0")
    before = len(harness.decisions)

    await rollout_of(harness)
    await harness.handle(version_state("b-0@400"), *(both(s, 100) for s in (400, 500, 600)))

    assert isinstance(harness.decisions[-1], ModelPromoted)
    assert {d.correlationid for d in harness.decisions[before:]} == {"run-b-0"}


async def test_the_canary_waits_until_every_live_instance_is_ready(harness: HandlerHarness) -> None:
    await champion_is(harness, "a-0")
    await harness.handle(version_state("a-0@200", instance="one"), version_state("a-0@200", instance="two"))
    await rollout_of(harness)

    await harness.handle(version_state("b-0@400", instance="one"), evaluation_updated(400, {"a-0@200": [0.5] * 100}))
    waiting = (await harness.loop()).stage
    await harness.handle(version_state("b-0@400", instance="two"), evaluation_updated(500, {"a-0@200": [0.5] * 100}))

    assert (waiting, (await harness.loop()).stage) == ("shadow", "canary")


async def test_after_an_alarm_there_is_no_shadow_and_a_canary_of_two_times_fifty(harness: HandlerHarness) -> None:
    await champion_is(harness, "a-0")
    await harness.handle(
        drift_detected(199, 149), lines(200, 100, a=WORSE, b=BETTER), model_trained("b-0", 300, "gate")
    )

    seen = []
    await harness.handle(evaluation_updated(200, {"a-0@200": [0.5] * 100}), version_state("b-0@300"))
    for start in (300, 350, 400):
        loop = await harness.loop()
        seen.append((loop.stage, loop.share))
        await harness.handle(both(start, 50, candidate="b-0@300"))

    assert seen == [("canary", 0.25), ("canary", 0.5), ("idle", 0.0)]
    assert (await harness.loop()).champion.version == "b-0@300"


async def test_a_candidate_worse_in_logged_predictions_is_rolled_back_by_the_guardrail(harness: HandlerHarness) -> None:
    await champion_is(harness, "a-0")
    await rollout_of(harness)

    decided = await harness.handle(evaluation_updated(400, {"a-0@200": [0.0] * 50, "b-0@400": [1.0] * 50}))

    [back] = [d for d in harness.decisions if isinstance(d, ModelRolledBack)]
    loop = await harness.loop()
    assert decided == ["model_rolled_back"]
    assert (back.data.version, back.data.rolled_back, back.data.by) == ("a-0@200", "b-0@400", "guardrail")
    assert (loop.candidate, loop.stage, loop.pinned) == (None, "idle", False)


async def test_a_line_rolled_back_must_win_again_on_unseen_outcomes(harness: HandlerHarness) -> None:
    await champion_is(harness, "a-0")
    await rollout_of(harness)
    await harness.handle(version_state("b-0@400", "failed"))

    again = await harness.handle(lines(300, 200, a=WORSE, b=BETTER))
    won = await harness.handle(lines(500, 100, a=WORSE, b=BETTER))

    assert (again, won) == ([], ["gate_decided", "rollout_changed"])


async def test_a_rollout_that_serving_never_gets_ready_for_is_rolled_back(harness: HandlerHarness) -> None:
    await champion_is(harness, "a-0")
    await rollout_of(harness)

    decided = [await harness.handle(evaluation_updated(s, {"a-0@200": [0.5] * 500})) for s in (400, 900)]

    assert decided == [[], ["model_rolled_back"]]
    assert "ready" in harness.decisions[-1].data.reason


async def test_a_winner_that_training_never_makes_a_version_of_ends(harness: HandlerHarness) -> None:
    await harness.handle(lines(0, 200, zero=WORSE, a=BETTER))

    decided = [await harness.handle(evaluation_updated(s, {"0": [0.5] * 500})) for s in (0, 500)]

    assert decided == [[], ["rollout_changed"]]
    assert (await harness.loop()).stage == "idle"


async def test_a_champion_that_serving_cannot_load_makes_way_for_what_served_before(harness: HandlerHarness) -> None:
    await champion_is(harness, "a-0")
    await harness.handle(
        lines(200, 101, a=[0.5]), evaluation_updated(200, {"a-0@200": [0.5] * 101}), model_trained("a-0", 300)
    )

    decided = await harness.handle(version_state("a-0@300", "failed"))

    assert decided == ["model_rolled_back"]
    assert (await harness.loop()).champion.version == "a-0@200"


async def test_a_canary_step_waits_until_the_candidates_own_predictions_have_outcomes(harness: HandlerHarness) -> None:
    await champion_is(harness, "a-0")
    await rollout_of(harness)
    await harness.handle(version_state("b-0@400"), both(400, 100))

    await harness.handle(evaluation_updated(500, {"a-0@200": [0.5] * 300}))
    waiting = await harness.loop()
    await harness.handle(both(800, 29))
    still = await harness.loop()
    await harness.handle(both(829, 1))

    assert (waiting.stage, waiting.share, still.share, (await harness.loop()).share) == ("canary", 0.1, 0.1, 0.5)


async def test_a_candidate_whose_predictions_never_have_outcomes_is_rolled_back(harness: HandlerHarness) -> None:
    await champion_is(harness, "a-0")
    await rollout_of(harness)
    await harness.handle(version_state("b-0@400"), both(400, 100))

    decided = [await harness.handle(evaluation_updated(s, {"a-0@200": [0.5] * 2000})) for s in range(500, 12_500, 2000)]

    assert decided == [[], [], [], [], [], ["model_rolled_back"]]
    assert "only 0 of its predictions had outcomes" in harness.decisions[-1].data.reason


@pytest.mark.parametrize("served_first", [False, True])
async def test_a_fresh_line_wins_against_what_a_champion_without_a_line_serves(
    harness: HandlerHarness, served_first: bool
) -> None:
    await champion_is(harness, "a-0")
    events = [lines(200, 200, zero=[1.0], b=[0.0]), evaluation_updated(200, {"a-0@200": [1.0] * 200})]

    decided = await harness.handle(run_requested("b-0"), *(reversed(events) if served_first else events))

    assert decided == ["gate_decided", "rollout_changed"]
    assert (await harness.loop()).winner == "b-0"


async def test_a_version_that_breaks_its_contract_is_refused_and_ends_the_rollout(harness: HandlerHarness) -> None:
    await harness.handle(lines(0, 200, zero=WORSE, a=BETTER))
    harness.checks.refused["a-0@200"] = "does not load"

    decided = await harness.handle(model_trained("a-0", 200, "gate"), model_trained("a-0", 200, "gate"))

    [refused] = [d for d in harness.decisions if isinstance(d, GateDecided) and not d.data.passed]
    assert decided == ["gate_decided", "rollout_changed"]
    assert "does not load" in refused.data.reason
    assert (await harness.loop()).stage == "idle"


@pytest.mark.parametrize(("kind", "subject"), [("data", "price"), ("prediction", "market"), ("concept", "price")])
async def test_only_a_drift_of_the_served_error_restarts_the_gates_test(
    harness: HandlerHarness, kind: str, subject: str
) -> None:
    await champion_is(harness, "a-0")

    await harness.handle(lines(200, 150, a=WORSE, b=BETTER), drift_detected(349, 299, kind, subject))
    decided = await harness.handle(lines(350, 50, a=WORSE, b=BETTER))

    assert "gate_decided" in decided


async def test_a_running_rollout_goes_on_through_an_alarm(harness: HandlerHarness) -> None:
    await champion_is(harness, "a-0")
    await rollout_of(harness)

    decided = await harness.handle(
        drift_detected(400, 350), version_state("b-0@400"), evaluation_updated(400, {"a-0@200": [0.5] * 100})
    )

    assert decided == ["rollout_changed"]
    assert (await harness.loop()).share == 0.1


async def test_a_step_of_a_rollout_has_a_reason(harness: HandlerHarness) -> None:
    await champion_is(harness, "a-0")
    await rollout_of(harness)

    reasons = [d.data.reason for d in harness.decisions if isinstance(d, RolloutChanged | GateDecided | ModelPromoted)]

    assert len(reasons) == 6
    assert all(reasons)
