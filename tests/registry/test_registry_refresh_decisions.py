"""Newer snapshots of a live line take their slots, wait for evidence, or are refused."""

from __future__ import annotations

import pytest
from tests.builders.events import evaluation_updated, model_trained
from tests.registry.registry_harness import HandlerHarness, both, champion_is, lines, rollout_of


async def test_refreshes_of_champion_and_candidate_take_their_slots(harness: HandlerHarness) -> None:
    await champion_is(harness, "a-0")
    await rollout_of(harness)

    await harness.handle(lines(400, 101, a=[0.5], b=[0.5]), both(400, 101))
    decided = await harness.handle(
        model_trained("a-0", 500), model_trained("b-0", 500), model_trained("c-0", 500), model_trained("a-0", 450)
    )

    loop = await harness.loop()
    assert decided == ["version_registered", "model_refreshed"] * 2 + ["version_registered"] * 2
    assert (loop.champion.version, loop.candidate.version) == ("a-0@500", "b-0@500")


async def test_a_refresh_of_a_line_that_got_worse_than_its_snapshot_is_refused(harness: HandlerHarness) -> None:
    await champion_is(harness, "a-0")
    await harness.handle(lines(200, 100, a=[1.0]), evaluation_updated(200, {"a-0@200": [0.0] * 100}))

    decided = await harness.handle(model_trained("a-0", 299))

    assert decided == ["version_registered", "gate_decided"]
    assert (await harness.loop()).champion.version == "a-0@200"


@pytest.mark.parametrize(("loss", "then"), [(0.0, "a-0@299"), (1.0, "a-0@200")])
async def test_a_refresh_waits_for_the_evidence_up_to_it_in_whatever_order_it_comes(
    harness: HandlerHarness, loss: float, then: str
) -> None:
    await champion_is(harness, "a-0")

    early = await harness.handle(
        model_trained("a-0", 299), lines(200, 100, a=[loss]), evaluation_updated(200, {"a-0@200": [0.0] * 60})
    )
    waiting = (await harness.loop()).champion.version
    late = await harness.handle(evaluation_updated(260, {"a-0@200": [0.0] * 40}))

    assert (early, waiting) == (["version_registered"], "a-0@200")
    assert late == (["gate_decided"] if loss else ["model_refreshed"])
    assert (await harness.loop()).champion.version == then


async def test_in_bursts_the_newest_refresh_with_evidence_is_taken_and_the_next_goes_on_waiting(
    harness: HandlerHarness,
) -> None:
    await champion_is(harness, "a-0")
    await harness.handle(lines(200, 250, a=[0.0]), *(model_trained("a-0", at) for at in (259, 359, 449)))

    first = await harness.handle(evaluation_updated(200, {"a-0@200": [0.0] * 200}))
    version = (await harness.loop()).champion.version
    second = await harness.handle(evaluation_updated(400, {"a-0@200": [0.0] * 50}))

    assert (first, version, second) == (["model_refreshed"], "a-0@359", ["model_refreshed"])
    assert (await harness.loop()).champion.version == "a-0@449"


async def test_right_after_a_promotion_a_line_is_compared_with_what_it_took_over_from(harness: HandlerHarness) -> None:
    await champion_is(harness, "a-0")

    decided = await harness.handle(
        lines(200, 100, a=[0.1]), model_trained("a-0", 299), evaluation_updated(200, {"0": [0.6] * 100})
    )

    assert decided == ["version_registered", "model_refreshed"]


async def test_a_refresh_without_evidence_is_refused_at_the_deadline_and_what_serves_stays(
    harness: HandlerHarness,
) -> None:
    await champion_is(harness, "a-0")
    decided = await harness.handle(lines(200, 100, a=[0.0]), model_trained("a-0", 299))

    later = [await harness.handle(lines(start, 100, a=[0.0])) for start in range(300, 1300, 100)]

    assert decided == ["version_registered"]
    assert later == [[]] * 9 + [["gate_decided"]]
    assert "no evidence within 1000 outcomes" in harness.decisions[-1].data.reason
    assert (await harness.loop()).champion.version == "a-0@200"
