"""What people decide: apply, rollback and resume."""

from __future__ import annotations

import pytest
from tests.builders.events import model_trained
from tests.registry.registry_harness import BETTER, WORSE, HandlerHarness, champion_is, lines, market_spec, rollout_of

from everloop_registry.errors import Conflict, SpecRejected, VersionNotFound
from everloop_shared.errors import FieldError


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
    again = await harness.command("apply", market_spec())
    changed = await harness.command("apply", market_spec(gate={"confidence": 0.99}))

    assert (again, changed) == ([], ["loop_applied"])
    assert (await harness.loop()).revision == 2


async def test_an_existing_loop_keeps_its_task(harness: HandlerHarness) -> None:
    with pytest.raises(SpecRejected) as refused:
        await harness.command("apply", market_spec(task="regression"))

    assert [e.field for e in refused.value.errors] == ["task", "label.type"]


async def test_a_spec_that_cannot_be_built_is_refused_by_field(harness: HandlerHarness) -> None:
    harness.checks.wrong = [FieldError("features.0.expr", "no field 'x'")]

    with pytest.raises(SpecRejected, match=r"features\.0\.expr"):
        await harness.commands.check(market_spec(gate={"confidence": 0.99}))


async def test_a_spec_that_is_too_large_for_an_event_is_refused(harness: HandlerHarness) -> None:
    fields = {f"f{i}": {"type": "string", "enum": ["x" * 50 + str(n) for n in range(100)]} for i in range(100)}

    with pytest.raises(SpecRejected, match="at most 500,000"):
        await harness.command("apply", market_spec(schema=fields))
