"""From evidence to champion and back: what the registry decides about events and commands."""

from __future__ import annotations

from contextlib import suppress
from hashlib import sha256

import pytest
from tests.builders.events import (
    challenge_updated,
    drift_detected,
    evaluation_updated,
    model_trained,
    run_requested,
    version_state,
)
from tests.builders.loops import NOW
from tests.registry.registry_harness import HandlerHarness, spec

from everloop_learning.errors import LoopNotKnownYet
from everloop_registry.domain.decision_log import DecisionContext, digest
from everloop_registry.errors import Conflict, SpecRejected, VersionNotFound
from everloop_schemas.catalogue import decode
from everloop_schemas.envelope import Event
from everloop_schemas.registry import Decided, GateDecided, ModelPromoted, ModelRolledBack, RolloutChanged
from everloop_schemas.training import RunRequested
from everloop_shared.errors import FieldError
from everloop_shared.messaging.routes import Position

WORSE, BETTER = [1.0, 1.0, 0.0], [0.0, 1.0, 0.0]
"""Losses of two lines of which one is right a third more often."""


def lines(start: int, n: int, **losses: list[float]) -> Event:
    """Losses of lines, given as a pattern: `a` stands for line `a-0`, `zero` for the baseline."""
    names = {"zero": "0"}
    return challenge_updated(start, {names.get(k, f"{k}-0"): (v * n)[:n] for k, v in losses.items()})


async def champion_is(harness: HandlerHarness, name: str, until: int = 200) -> None:
    """A line wins over the baseline on the first 200 outcomes."""
    await harness.handle(
        run_requested(name),
        challenge_updated(0, {"0": WORSE * 66 + [1.0, 1.0], name: BETTER * 66 + [0.0, 1.0]}),
        evaluation_updated(0, {"0": [0.5] * until}),
        model_trained(name, until, "gate"),
    )
    assert (await harness.loop()).champion.version == f"{name}@{until}"


async def rollout_of(harness: HandlerHarness, name: str = "b-0") -> None:
    """Another line wins over champion a-0 on outcomes 200 to 400 and goes into shadow."""
    await harness.handle(
        run_requested(name),
        challenge_updated(200, {"a-0": WORSE * 66 + [1.0, 1.0], name: BETTER * 66 + [0.0, 1.0]}),
        evaluation_updated(200, {"a-0@200": WORSE * 66 + [1.0, 1.0]}),
        model_trained(name, 400, "gate"),
    )


def both(start: int, n: int, candidate: str = "b-0@400") -> Event:
    """Logged losses of champion and candidate, alike."""
    return evaluation_updated(start, {"a-0@200": [0.5] * n, candidate: [0.5] * n})


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


async def test_a_persons_rollback_goes_before_the_last_promotion_and_pins(harness: HandlerHarness) -> None:
    await champion_is(harness, "a-0")

    decided = await harness.command("rollback", "market", "looks wrong")
    later = await harness.handle(model_trained("a-0", 300), lines(200, 200, zero=WORSE, a=BETTER))

    loop = await harness.loop()
    assert (decided, later) == (["model_rolled_back"], ["version_registered"])
    assert (loop.champion.version, loop.pinned) == ("0", True)


async def test_after_resume_the_gate_asks_for_new_evidence(harness: HandlerHarness) -> None:
    await champion_is(harness, "a-0")
    await harness.command("rollback", "market", "looks wrong")
    await harness.handle(lines(200, 200, zero=WORSE, a=BETTER))

    decided = await harness.command("resume", "market", "fixed")
    early = await harness.handle(lines(400, 100, zero=WORSE, a=BETTER))
    won = await harness.handle(lines(500, 100, zero=WORSE, a=BETTER))

    assert (decided, early, won) == (["loop_resumed"], [], ["gate_decided", "rollout_changed"])


async def test_a_repeated_rollback_goes_back_once(harness: HandlerHarness) -> None:
    await champion_is(harness, "a-0")
    await harness.command("rollback", "market", "looks wrong")

    with pytest.raises(Conflict, match="pinned to 0"):
        await harness.command("rollback", "market", "looks wrong")
    named = await harness.command("rollback", "market", "looks wrong", "0")

    assert named == []


async def test_a_rollback_can_name_any_registered_version(harness: HandlerHarness) -> None:
    await harness.handle(model_trained("c-0", 50, "initial"))
    await champion_is(harness, "a-0")

    await harness.command("rollback", "market", "the old one", "c-0@50")

    assert (await harness.loop()).champion.version == "c-0@50"
    with pytest.raises(VersionNotFound, match="nobody@1"):
        await harness.command("rollback", "market", "?", "nobody@1")


async def test_a_rollback_ends_a_running_rollout(harness: HandlerHarness) -> None:
    await champion_is(harness, "a-0")
    await rollout_of(harness)

    await harness.command("rollback", "market", "stop it all")

    loop = await harness.loop()
    assert (loop.champion.version, loop.candidate, loop.stage) == ("0", None, "idle")


async def test_the_same_spec_again_is_no_decision_and_another_is_a_revision(harness: HandlerHarness) -> None:
    again = await harness.command("apply", spec())
    changed = await harness.command("apply", spec(gate={"confidence": 0.99}))

    assert (again, changed) == ([], ["loop_applied"])
    assert (await harness.loop()).revision == 2


async def test_an_existing_loop_keeps_its_task(harness: HandlerHarness) -> None:
    with pytest.raises(SpecRejected) as refused:
        await harness.command("apply", spec(task="regression"))

    assert [e.field for e in refused.value.errors] == ["task", "label.type"]


async def test_a_spec_that_cannot_be_built_is_refused_by_field(harness: HandlerHarness) -> None:
    harness.checks.wrong = [FieldError("features.0.expr", "no field 'x'")]

    with pytest.raises(SpecRejected, match=r"features\.0\.expr"):
        await harness.commands.check(spec(gate={"confidence": 0.99}))


async def test_a_spec_that_is_too_large_for_an_event_is_refused(harness: HandlerHarness) -> None:
    fields = {f"f{i}": {"type": "string", "enum": ["x" * 50 + str(n) for n in range(100)]} for i in range(100)}

    with pytest.raises(SpecRejected, match="at most 500,000"):
        await harness.command("apply", spec(schema=fields))


async def test_an_event_of_an_unknown_loop_is_retried(harness: HandlerHarness) -> None:
    with pytest.raises(LoopNotKnownYet):
        await harness.handle(challenge_updated(0, {"0": [1.0]}, loop="nowhere"))


async def test_consuming_everything_again_decides_nothing(harness: HandlerHarness) -> None:
    events = [
        run_requested("a-0"),
        model_trained("a-0", 30, "initial"),
        lines(0, 200, zero=WORSE, a=BETTER),
        model_trained("a-0", 200, "gate"),
        evaluation_updated(0, {"0": [0.5] * 300}),
        drift_detected(250, 200),
        model_trained("a-0", 300),
        lines(200, 200, a=WORSE, b=BETTER),
        model_trained("b-0", 400, "gate"),
        version_state("b-0@400"),
        *(evaluation_updated(s, {"a-0@300": [0.5] * 50, "b-0@400": [0.4] * 50}) for s in (400, 450, 500, 550)),
    ]
    await harness.handle(*events)
    assert (await harness.loop()).champion.version == "b-0@400"

    again = await harness.handle(*events)

    assert again == []


async def test_each_decision_chains_to_the_bytes_of_the_one_before(harness: HandlerHarness) -> None:
    await champion_is(harness, "a-0")
    await rollout_of(harness)

    wires = [d.encode() for d in harness.decisions]

    hashes = ["0" * 64, *(sha256(wire).hexdigest() for wire in wires)]
    assert [d.prevhash for d in harness.decisions] == hashes[:-1]
    assert [d.sequence for d in harness.decisions] == list(range(len(wires)))
    assert await harness.reader.wires("market") == wires


async def test_the_trace_of_the_cause_is_in_the_bytes_that_are_hashed(harness: HandlerHarness) -> None:
    traced = model_trained("a-0", 30, "initial").model_copy(
        update={"traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01"}
    )

    await harness.handle(traced)

    assert harness.decisions[-1].traceparent == traced.traceparent
    assert harness.decisions[-1].causationid == traced.id


async def test_a_step_of_a_rollout_has_a_reason(harness: HandlerHarness) -> None:
    await champion_is(harness, "a-0")
    await rollout_of(harness)

    reasons = [d.data.reason for d in harness.decisions if isinstance(d, RolloutChanged | GateDecided | ModelPromoted)]

    assert len(reasons) == 6
    assert all(reasons)


async def test_the_next_event_of_a_batch_sees_the_state_of_the_last_and_an_undone_one_leaves_nothing(
    harness: HandlerHarness,
) -> None:
    handlers, unit, at = harness.events, harness.unit, Position(RunRequested.topic.name)
    async with unit:
        await handlers.on_run_requested(run_requested("a-0"), at)
        await handlers.on_run_requested(run_requested("b-0"), at)
        with suppress(ZeroDivisionError):
            async with unit.part():
                await handlers.on_run_requested(run_requested("c-0"), at)
                raise ZeroDivisionError
        await handlers.on_run_requested(run_requested("d-0"), at)
        await unit.record([], {})
    async with unit:
        decision_log = await unit.store.open("market", DecisionContext(None, None, NOW))

    assert list(decision_log.working.runs) == ["a-0", "b-0", "d-0"]


async def test_decisions_from_before_actors_were_recorded_keep_their_bytes_and_their_chain(
    harness: HandlerHarness,
) -> None:
    await champion_is(harness, "a-0")
    old: list[bytes] = []
    for decision in harness.decisions:
        prevhash = digest(old[-1]) if old else decision.prevhash
        old.append(decision.model_copy(update={"actor": None, "prevhash": prevhash}).encode())

    read = [decode(Decided.topic.name, wire) for wire in old]

    assert not any(b"actor" in wire for wire in old)
    assert [event.encode() for event in read] == old
    assert [d.prevhash for d in read if isinstance(d, Decided)][1:] == [digest(wire) for wire in old[:-1]]
