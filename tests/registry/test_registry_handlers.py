"""From evidence to champion and back: what the registry decides about what it hears."""

from __future__ import annotations

from contextlib import suppress
from hashlib import sha256

import pytest
from tests.registry.registry_room import (
    EPOCH,
    Desk,
    challenge,
    drift,
    evaluation,
    run_requested,
    spec,
    state,
    trained,
)

from everloop_learning.errors import LoopNotKnownYet
from everloop_registry.domain.ledger import Cause
from everloop_registry.errors import Conflict, SpecRejected, VersionNotFound
from everloop_schemas.envelope import Event
from everloop_schemas.registry import GateDecided, ModelPromoted, ModelRolledBack, RolloutChanged
from everloop_schemas.training import RunRequested
from everloop_shared.errors import FieldError
from everloop_shared.messaging.routes import Position

WORSE, BETTER = [1.0, 1.0, 0.0], [0.0, 1.0, 0.0]
"""Losses of two lines of which one is right a third more often."""


def lines(start: int, n: int, **losses: list[float]) -> Event:
    """Losses of lines, given as a pattern: `a` stands for line `a-0`, `zero` for the baseline."""
    names = {"zero": "0"}
    return challenge(start, {names.get(k, f"{k}-0"): (v * n)[:n] for k, v in losses.items()})


async def champion_is(desk: Desk, name: str, until: int = 200) -> None:
    """A line wins over the baseline on the first 200 outcomes."""
    await desk.hear(
        run_requested(name),
        challenge(0, {"0": WORSE * 66 + [1.0, 1.0], name: BETTER * 66 + [0.0, 1.0]}),
        evaluation(0, {"0": [0.5] * until}),
        trained(name, until, "gate"),
    )
    assert (await desk.loop()).champion.version == f"{name}@{until}"


async def rollout_of(desk: Desk, name: str = "b-0") -> None:
    """Another line wins over champion a-0 on outcomes 200 to 400 and goes into shadow."""
    await desk.hear(
        run_requested(name),
        challenge(200, {"a-0": WORSE * 66 + [1.0, 1.0], name: BETTER * 66 + [0.0, 1.0]}),
        evaluation(200, {"a-0@200": WORSE * 66 + [1.0, 1.0]}),
        trained(name, 400, "gate"),
    )


def both(start: int, n: int, candidate: str = "b-0@400") -> Event:
    """Logged losses of champion and candidate, alike."""
    return evaluation(start, {"a-0@200": [0.5] * n, candidate: [0.5] * n})


async def test_the_first_line_that_beats_the_baseline_is_promoted_without_canary(at_desk: Desk) -> None:
    await at_desk.hear(run_requested("a-0"), trained("a-0", 30, "initial"))

    won = await at_desk.hear(lines(0, 200, zero=WORSE, a=BETTER))
    promoted = await at_desk.hear(trained("a-0", 199, "gate"))

    assert won == ["gate_decided", "rollout_changed"]
    assert promoted == ["version_registered", "model_promoted"]
    loop = await at_desk.loop()
    assert (loop.champion.version, loop.stage, loop.winner) == ("a-0@199", "idle", None)


async def test_a_version_older_than_the_evidence_is_not_promoted(at_desk: Desk) -> None:
    await at_desk.hear(run_requested("a-0"), lines(0, 200, zero=WORSE, a=BETTER))

    told = await at_desk.hear(trained("a-0", 198, "initial"))

    assert told == ["version_registered"]
    assert (await at_desk.loop()).winner == "a-0"


async def test_a_version_known_before_is_taken_when_the_gate_waits_for_it(at_desk: Desk) -> None:
    await at_desk.hear(trained("a-0", 250, "initial"), lines(0, 200, zero=WORSE, a=BETTER))

    told = await at_desk.hear(trained("a-0", 250, "gate"))

    assert told == ["model_promoted"]


async def test_a_challenger_goes_through_shadow_and_every_canary_step(at_desk: Desk) -> None:
    await champion_is(at_desk, "a-0")
    await rollout_of(at_desk)
    losses = {"a-0@200": [0.5] * 100, "b-0@400": [0.5] * 100}

    seen = []
    await at_desk.hear(state("b-0@400"))
    for start in (400, 500, 600):
        await at_desk.hear(evaluation(start, losses))
        loop = await at_desk.loop()
        seen.append((loop.stage, loop.share, loop.champion.version))

    assert seen == [("canary", 0.1, "a-0@200"), ("canary", 0.5, "a-0@200"), ("idle", 0.0, "b-0@400")]


async def test_every_decision_of_a_rollout_carries_the_run_of_its_line(at_desk: Desk) -> None:
    await champion_is(at_desk, "a-0")
    before = len(at_desk.told)

    await rollout_of(at_desk)
    await at_desk.hear(state("b-0@400"), *(both(s, 100) for s in (400, 500, 600)))

    assert isinstance(at_desk.told[-1], ModelPromoted)
    assert {d.correlationid for d in at_desk.told[before:]} == {"run-b-0"}


async def test_the_canary_waits_until_every_live_instance_is_ready(at_desk: Desk) -> None:
    await champion_is(at_desk, "a-0")
    await at_desk.hear(state("a-0@200", instance="one"), state("a-0@200", instance="two"))
    await rollout_of(at_desk)

    await at_desk.hear(state("b-0@400", instance="one"), evaluation(400, {"a-0@200": [0.5] * 100}))
    waiting = (await at_desk.loop()).stage
    await at_desk.hear(state("b-0@400", instance="two"), evaluation(500, {"a-0@200": [0.5] * 100}))

    assert (waiting, (await at_desk.loop()).stage) == ("shadow", "canary")


async def test_after_an_alarm_there_is_no_shadow_and_a_canary_of_two_times_fifty(at_desk: Desk) -> None:
    await champion_is(at_desk, "a-0")
    await at_desk.hear(drift(199), lines(200, 100, a=WORSE, b=BETTER), trained("b-0", 300, "gate"))

    seen = []
    await at_desk.hear(evaluation(200, {"a-0@200": [0.5] * 100}), state("b-0@300"))
    for start in (300, 350, 400):
        loop = await at_desk.loop()
        seen.append((loop.stage, loop.share))
        await at_desk.hear(both(start, 50, candidate="b-0@300"))

    assert seen == [("canary", 0.25), ("canary", 0.5), ("idle", 0.0)]
    assert (await at_desk.loop()).champion.version == "b-0@300"


async def test_a_candidate_worse_in_logged_predictions_is_rolled_back_by_the_guardrail(at_desk: Desk) -> None:
    await champion_is(at_desk, "a-0")
    await rollout_of(at_desk)

    told = await at_desk.hear(evaluation(400, {"a-0@200": [0.0] * 50, "b-0@400": [1.0] * 50}))

    [back] = [d for d in at_desk.told if isinstance(d, ModelRolledBack)]
    loop = await at_desk.loop()
    assert told == ["model_rolled_back"]
    assert (back.data.version, back.data.rolled_back, back.data.by) == ("a-0@200", "b-0@400", "guardrail")
    assert (loop.candidate, loop.stage, loop.pinned) == (None, "idle", False)


async def test_a_line_rolled_back_must_win_again_on_outcomes_nobody_has_seen(at_desk: Desk) -> None:
    await champion_is(at_desk, "a-0")
    await rollout_of(at_desk)
    await at_desk.hear(state("b-0@400", "failed"))

    again = await at_desk.hear(lines(300, 200, a=WORSE, b=BETTER))
    won = await at_desk.hear(lines(500, 100, a=WORSE, b=BETTER))

    assert (again, won) == ([], ["gate_decided", "rollout_changed"])


async def test_a_rollout_that_serving_never_gets_ready_for_is_rolled_back(at_desk: Desk) -> None:
    await champion_is(at_desk, "a-0")
    await rollout_of(at_desk)

    told = [await at_desk.hear(evaluation(s, {"a-0@200": [0.5] * 500})) for s in (400, 900)]

    assert told == [[], ["model_rolled_back"]]
    assert "ready" in at_desk.told[-1].data.reason


async def test_a_winner_that_training_never_makes_a_version_of_ends(at_desk: Desk) -> None:
    await at_desk.hear(lines(0, 200, zero=WORSE, a=BETTER))

    told = [await at_desk.hear(evaluation(s, {"0": [0.5] * 500})) for s in (0, 500)]

    assert told == [[], ["rollout_changed"]]
    assert (await at_desk.loop()).stage == "idle"


async def test_a_champion_that_serving_cannot_load_makes_way_for_what_served_before(at_desk: Desk) -> None:
    await champion_is(at_desk, "a-0")
    await at_desk.hear(lines(200, 101, a=[0.5]), evaluation(200, {"a-0@200": [0.5] * 101}), trained("a-0", 300))

    told = await at_desk.hear(state("a-0@300", "failed"))

    assert told == ["model_rolled_back"]
    assert (await at_desk.loop()).champion.version == "a-0@200"


async def test_refreshes_of_champion_and_candidate_take_their_slots(at_desk: Desk) -> None:
    await champion_is(at_desk, "a-0")
    await rollout_of(at_desk)

    await at_desk.hear(lines(400, 101, a=[0.5], b=[0.5]), both(400, 101))
    told = await at_desk.hear(trained("a-0", 500), trained("b-0", 500), trained("c-0", 500), trained("a-0", 450))

    loop = await at_desk.loop()
    assert told == ["version_registered", "model_refreshed"] * 2 + ["version_registered"] * 2
    assert (loop.champion.version, loop.candidate.version) == ("a-0@500", "b-0@500")


async def test_a_refresh_of_a_line_that_got_worse_than_its_snapshot_is_refused(at_desk: Desk) -> None:
    await champion_is(at_desk, "a-0")
    await at_desk.hear(lines(200, 100, a=[1.0]), evaluation(200, {"a-0@200": [0.0] * 100}))

    told = await at_desk.hear(trained("a-0", 299))

    assert told == ["version_registered", "gate_decided"]
    assert (await at_desk.loop()).champion.version == "a-0@200"


@pytest.mark.parametrize(("loss", "then"), [(0.0, "a-0@299"), (1.0, "a-0@200")])
async def test_a_refresh_waits_for_the_evidence_up_to_it_in_whatever_order_it_comes(
    at_desk: Desk, loss: float, then: str
) -> None:
    await champion_is(at_desk, "a-0")

    early = await at_desk.hear(trained("a-0", 299), lines(200, 100, a=[loss]), evaluation(200, {"a-0@200": [0.0] * 60}))
    waiting = (await at_desk.loop()).champion.version
    late = await at_desk.hear(evaluation(260, {"a-0@200": [0.0] * 40}))

    assert (early, waiting) == (["version_registered"], "a-0@200")
    assert late == (["gate_decided"] if loss else ["model_refreshed"])
    assert (await at_desk.loop()).champion.version == then


async def test_in_bursts_the_newest_refresh_with_evidence_is_taken_and_the_next_goes_on_waiting(at_desk: Desk) -> None:
    await champion_is(at_desk, "a-0")
    await at_desk.hear(lines(200, 250, a=[0.0]), *(trained("a-0", at) for at in (259, 359, 449)))

    first = await at_desk.hear(evaluation(200, {"a-0@200": [0.0] * 200}))
    version = (await at_desk.loop()).champion.version
    second = await at_desk.hear(evaluation(400, {"a-0@200": [0.0] * 50}))

    assert (first, version, second) == (["model_refreshed"], "a-0@359", ["model_refreshed"])
    assert (await at_desk.loop()).champion.version == "a-0@449"


async def test_right_after_a_promotion_a_line_is_judged_by_what_it_took_over_from(at_desk: Desk) -> None:
    await champion_is(at_desk, "a-0")

    told = await at_desk.hear(lines(200, 100, a=[0.1]), trained("a-0", 299), evaluation(200, {"0": [0.6] * 100}))

    assert told == ["version_registered", "model_refreshed"]


async def test_a_refresh_without_evidence_is_refused_at_the_deadline_and_what_serves_stays(at_desk: Desk) -> None:
    await champion_is(at_desk, "a-0")
    told = await at_desk.hear(lines(200, 100, a=[0.0]), trained("a-0", 299))

    later = [await at_desk.hear(lines(start, 100, a=[0.0])) for start in range(300, 1300, 100)]

    assert told == ["version_registered"]
    assert later == [[]] * 9 + [["gate_decided"]]
    assert "no evidence within 1000 outcomes" in at_desk.told[-1].data.reason
    assert (await at_desk.loop()).champion.version == "a-0@200"


async def test_a_canary_step_waits_until_the_candidates_own_predictions_have_outcomes(at_desk: Desk) -> None:
    await champion_is(at_desk, "a-0")
    await rollout_of(at_desk)
    await at_desk.hear(state("b-0@400"), both(400, 100))

    await at_desk.hear(evaluation(500, {"a-0@200": [0.5] * 300}))
    waiting = await at_desk.loop()
    await at_desk.hear(both(800, 29))
    still = await at_desk.loop()
    await at_desk.hear(both(829, 1))

    assert (waiting.stage, waiting.share, still.share, (await at_desk.loop()).share) == ("canary", 0.1, 0.1, 0.5)


async def test_a_candidate_whose_predictions_never_have_outcomes_is_taken_back(at_desk: Desk) -> None:
    await champion_is(at_desk, "a-0")
    await rollout_of(at_desk)
    await at_desk.hear(state("b-0@400"), both(400, 100))

    told = [await at_desk.hear(evaluation(s, {"a-0@200": [0.5] * 2000})) for s in range(500, 12_500, 2000)]

    assert told == [[], [], [], [], [], ["model_rolled_back"]]
    assert "only 0 of its predictions had outcomes" in at_desk.told[-1].data.reason


@pytest.mark.parametrize("served_first", [False, True])
async def test_a_fresh_line_wins_against_what_a_champion_without_a_line_goes_on_serving(
    at_desk: Desk, served_first: bool
) -> None:
    await champion_is(at_desk, "a-0")
    told = [lines(200, 200, zero=[1.0], b=[0.0]), evaluation(200, {"a-0@200": [1.0] * 200})]

    decided = await at_desk.hear(run_requested("b-0"), *(reversed(told) if served_first else told))

    assert decided == ["gate_decided", "rollout_changed"]
    assert (await at_desk.loop()).winner == "b-0"


async def test_a_version_that_breaks_its_contract_is_refused_and_ends_the_rollout(at_desk: Desk) -> None:
    await at_desk.hear(lines(0, 200, zero=WORSE, a=BETTER))
    at_desk.checks.refused["a-0@200"] = "does not load"

    told = await at_desk.hear(trained("a-0", 200, "gate"), trained("a-0", 200, "gate"))

    [refused] = [d for d in at_desk.told if isinstance(d, GateDecided) and not d.data.passed]
    assert told == ["gate_decided", "rollout_changed"]
    assert "does not load" in refused.data.reason
    assert (await at_desk.loop()).stage == "idle"


@pytest.mark.parametrize(("kind", "subject"), [("data", "price"), ("prediction", "market"), ("concept", "price")])
async def test_only_a_drift_of_the_served_error_restarts_the_gates_test(at_desk: Desk, kind: str, subject: str) -> None:
    await champion_is(at_desk, "a-0")

    await at_desk.hear(lines(200, 150, a=WORSE, b=BETTER), drift(349, kind=kind, subject=subject))
    decided = await at_desk.hear(lines(350, 50, a=WORSE, b=BETTER))

    assert "gate_decided" in decided


async def test_a_running_rollout_goes_on_through_an_alarm(at_desk: Desk) -> None:
    await champion_is(at_desk, "a-0")
    await rollout_of(at_desk)

    told = await at_desk.hear(drift(400), state("b-0@400"), evaluation(400, {"a-0@200": [0.5] * 100}))

    assert told == ["rollout_changed"]
    assert (await at_desk.loop()).share == 0.1


async def test_a_persons_rollback_goes_before_the_last_promotion_and_pins(at_desk: Desk) -> None:
    await champion_is(at_desk, "a-0")

    told = await at_desk.say("rollback", "market", "looks wrong")
    later = await at_desk.hear(trained("a-0", 300), lines(200, 200, zero=WORSE, a=BETTER))

    loop = await at_desk.loop()
    assert (told, later) == (["model_rolled_back"], ["version_registered"])
    assert (loop.champion.version, loop.pinned) == ("0", True)


async def test_after_resume_the_gate_asks_for_new_evidence(at_desk: Desk) -> None:
    await champion_is(at_desk, "a-0")
    await at_desk.say("rollback", "market", "looks wrong")
    await at_desk.hear(lines(200, 200, zero=WORSE, a=BETTER))

    told = await at_desk.say("resume", "market", "fixed")
    early = await at_desk.hear(lines(400, 100, zero=WORSE, a=BETTER))
    won = await at_desk.hear(lines(500, 100, zero=WORSE, a=BETTER))

    assert (told, early, won) == (["loop_resumed"], [], ["gate_decided", "rollout_changed"])


async def test_a_rollback_said_twice_goes_back_once(at_desk: Desk) -> None:
    await champion_is(at_desk, "a-0")
    await at_desk.say("rollback", "market", "looks wrong")

    with pytest.raises(Conflict, match="pinned to 0"):
        await at_desk.say("rollback", "market", "looks wrong")
    named = await at_desk.say("rollback", "market", "looks wrong", "0")

    assert named == []


async def test_a_rollback_can_name_any_registered_version(at_desk: Desk) -> None:
    await at_desk.hear(trained("c-0", 50, "initial"))
    await champion_is(at_desk, "a-0")

    await at_desk.say("rollback", "market", "the old one", "c-0@50")

    assert (await at_desk.loop()).champion.version == "c-0@50"
    with pytest.raises(VersionNotFound, match="nobody@1"):
        await at_desk.say("rollback", "market", "?", "nobody@1")


async def test_a_rollback_ends_a_running_rollout(at_desk: Desk) -> None:
    await champion_is(at_desk, "a-0")
    await rollout_of(at_desk)

    await at_desk.say("rollback", "market", "stop it all")

    loop = await at_desk.loop()
    assert (loop.champion.version, loop.candidate, loop.stage) == ("0", None, "idle")


async def test_the_same_spec_again_is_no_decision_and_another_is_a_revision(at_desk: Desk) -> None:
    again = await at_desk.say("apply", spec())
    changed = await at_desk.say("apply", spec(gate={"confidence": 0.99}))

    assert (again, changed) == ([], ["loop_applied"])
    assert (await at_desk.loop()).revision == 2


async def test_a_living_loop_keeps_its_task(at_desk: Desk) -> None:
    with pytest.raises(SpecRejected) as refused:
        await at_desk.say("apply", spec(task="regression"))

    assert [e.field for e in refused.value.errors] == ["task", "label.type"]


async def test_a_spec_that_cannot_be_built_is_refused_by_field(at_desk: Desk) -> None:
    at_desk.checks.wrong = [FieldError("features.0.expr", "no field 'x'")]

    with pytest.raises(SpecRejected, match=r"features\.0\.expr"):
        await at_desk.handlers.check(spec(gate={"confidence": 0.99}))


async def test_a_spec_that_is_too_large_to_travel_is_refused(at_desk: Desk) -> None:
    fields = {f"f{i}": {"type": "string", "enum": ["x" * 50 + str(n) for n in range(100)]} for i in range(100)}

    with pytest.raises(SpecRejected, match="at most 500,000"):
        await at_desk.say("apply", spec(schema=fields))


async def test_an_event_of_an_unknown_loop_waits(at_desk: Desk) -> None:
    with pytest.raises(LoopNotKnownYet):
        await at_desk.hear(challenge(0, {"0": [1.0]}, loop="nowhere"))


async def test_hearing_everything_again_decides_nothing(at_desk: Desk) -> None:
    heard = [
        run_requested("a-0"),
        trained("a-0", 30, "initial"),
        lines(0, 200, zero=WORSE, a=BETTER),
        trained("a-0", 200, "gate"),
        evaluation(0, {"0": [0.5] * 300}),
        drift(250),
        trained("a-0", 300),
        lines(200, 200, a=WORSE, b=BETTER),
        trained("b-0", 400, "gate"),
        state("b-0@400"),
        *(evaluation(s, {"a-0@300": [0.5] * 50, "b-0@400": [0.4] * 50}) for s in (400, 450, 500, 550)),
    ]
    await at_desk.hear(*heard)
    assert (await at_desk.loop()).champion.version == "b-0@400"

    again = await at_desk.hear(*heard)

    assert again == []


async def test_each_decision_chains_to_the_bytes_of_the_one_before(at_desk: Desk) -> None:
    await champion_is(at_desk, "a-0")
    await rollout_of(at_desk)

    wires = [d.encode() for d in at_desk.told]

    hashes = ["0" * 64, *(sha256(wire).hexdigest() for wire in wires)]
    assert [d.prevhash for d in at_desk.told] == hashes[:-1]
    assert [d.sequence for d in at_desk.told] == list(range(len(wires)))
    assert await at_desk.reader.wires("market") == wires


async def test_the_trace_of_the_cause_is_in_the_bytes_that_are_hashed(at_desk: Desk) -> None:
    traced = trained("a-0", 30, "initial").model_copy(update={"traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01"})

    await at_desk.hear(traced)

    assert at_desk.told[-1].traceparent == traced.traceparent
    assert at_desk.told[-1].causationid == traced.id


async def test_a_step_of_a_rollout_says_why(at_desk: Desk) -> None:
    await champion_is(at_desk, "a-0")
    await rollout_of(at_desk)

    reasons = [d.data.reason for d in at_desk.told if isinstance(d, RolloutChanged | GateDecided | ModelPromoted)]

    assert len(reasons) == 6
    assert all(reasons)


async def test_what_an_event_left_in_a_batch_is_seen_by_the_next_and_stays_where_a_later_one_is_undone(
    at_desk: Desk,
) -> None:
    handlers, unit, at = at_desk.handlers, at_desk.unit, Position(RunRequested.topic.name)
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
        ledger = await unit.book.open("market", Cause(None, None, EPOCH))

    assert list(ledger.work.runs) == ["a-0", "b-0", "d-0"]
