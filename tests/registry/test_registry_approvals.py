"""Candidates that wait until people have approved, and what people do with candidates by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import pytest
from tests.builders.events import evaluation_updated, model_trained, run_requested, version_state
from tests.registry.registry_harness import (
    BETTER,
    WORSE,
    HandlerHarness,
    both,
    champion_is,
    lines,
    market_spec,
    rollout_of,
)

from everloop_registry.adapters.approval_expiry import ApprovalExpiry
from everloop_registry.domain.decision_log import REGISTRY_ACTOR, DecisionContext, fold_decisions
from everloop_registry.domain.four_eyes import LineOrigin, LineRun, people_behind
from everloop_registry.errors import Conflict, SpecRejected, VersionNotFound
from everloop_schemas.approvals import ApprovalRequested, CandidateApproved
from everloop_schemas.envelope import Event
from everloop_schemas.registry import ModelRolledBack, VersionRegistered, VersionRegisteredData
from everloop_shared.commands import Actor

E = TypeVar("E", bound=Event)
ADA, BOB = Actor("ada", "token", "https://login"), Actor("bob", "key", "evl_1")
STEPS = {"shadow": 100, "canary": [0.1, 0.5], "step": 100}


async def waiting_for(harness: HandlerHarness, approval: str, people: int = 2, within: str = "3d") -> None:
    """A candidate has come to the step that people must approve."""
    await champion_is(harness, "a-0")
    rules = {**STEPS, "approval": approval, "approvals": people, "approval_within": within}
    await harness.command("apply", market_spec(rollout=rules), actor=ADA)
    await rollout_of(harness)
    steps = 1 if approval == "before_canary" else 3
    await harness.handle(version_state("b-0@400"), *(both(400 + 100 * i, 100) for i in range(steps)))
    assert isinstance(harness.decisions[-1], ApprovalRequested)


async def test_a_candidate_waits_in_shadow_until_two_different_people_have_approved(harness: HandlerHarness) -> None:
    await waiting_for(harness, "before_canary")

    nothing = await harness.handle(both(500, 500))
    one = await harness.command("approve", "market", "looks right", actor=ADA)
    twice = await harness.command("approve", "market", "still right", actor=ADA)
    waiting = await harness.loop()
    two = await harness.command("approve", "market", "agreed", "b-0@400", actor=BOB)

    loop, approved = await harness.loop(), [d for d in harness.decisions if isinstance(d, CandidateApproved)]
    assert (nothing, one, twice, two) == ([], ["candidate_approved"], [], ["candidate_approved", "rollout_changed"])
    assert (waiting.stage, waiting.approval.approved_by) == ("shadow", ("ada",))
    assert (loop.stage, loop.share, loop.approval) == ("canary", 0.1, None)
    assert [(d.actor, d.actor_kind, d.data.approved, d.data.reason) for d in approved] == [
        ("ada", "token", 1, "looks right"),
        ("bob", "key", 2, "agreed"),
    ]


async def test_a_candidate_becomes_champion_with_the_last_approval(harness: HandlerHarness) -> None:
    await waiting_for(harness, "before_champion", people=1)
    waiting = await harness.loop()

    decided = await harness.command("approve", "market", "go", actor=BOB)

    assert (waiting.stage, waiting.share, waiting.champion.version) == ("canary", 0.5, "a-0@200")
    assert decided == ["candidate_approved", "model_promoted"]
    assert harness.decisions[-1].actor == "bob"
    assert "approved by bob" in harness.decisions[-1].data.reason
    assert (await harness.loop()).champion.version == "b-0@400"


@pytest.mark.parametrize("harm", ["worse", "failed"])
async def test_a_candidate_that_does_harm_is_rolled_back_while_it_waits(harness: HandlerHarness, harm: str) -> None:
    await waiting_for(harness, "before_champion")
    await harness.command("approve", "market", "go", actor=ADA)
    worse = evaluation_updated(700, {"a-0@200": [0.0] * 100, "b-0@400": [1.0] * 100})

    decided = await harness.handle(worse if harm == "worse" else version_state("b-0@400", "failed"))

    loop = await harness.loop()
    assert decided == ["model_rolled_back"]
    assert (loop.stage, loop.candidate, loop.approval, loop.pinned) == ("idle", None, None, False)
    with pytest.raises(Conflict, match="no candidate is in rollout"):
        await harness.command("approve", "market", "go", actor=BOB)


async def test_an_approval_that_never_comes_rolls_the_candidate_back(harness: HandlerHarness) -> None:
    await waiting_for(harness, "before_canary")
    await harness.command("approve", "market", "go", actor=ADA)
    harness.clock.now += timedelta(days=2, hours=23)
    early = await harness.end_expired()
    harness.clock.now += timedelta(hours=2)

    with pytest.raises(Conflict, match="is being rolled back: 1 of 2 approvals before canary"):
        await harness.command("approve", "market", "too late", actor=BOB)
    decided = await harness.end_expired()

    last = harness.decisions[-1]
    assert (early, decided) == ([], ["model_rolled_back"])
    assert isinstance(last, ModelRolledBack)
    assert (last.actor, last.data.by, last.data.rolled_back) == (REGISTRY_ACTOR, "guardrail", "b-0@400")
    assert "1 of 2 approvals before canary had come when they expired, at 2026-01-04 " in last.data.reason
    assert await harness.end_expired() == []


async def test_the_registry_ends_overdue_approvals_although_nothing_happens(harness: HandlerHarness) -> None:
    await waiting_for(harness, "before_canary", within="1s")
    waited, done = await harness.reader.waiting_for_approval(), asyncio.Event()
    harness.clock.now += timedelta(seconds=2)

    async def execute(handle: Callable[[], Awaitable[Sequence[E]]]) -> Sequence[E]:
        await harness.in_unit(handle)
        done.set()
        return ()

    job = asyncio.create_task(ApprovalExpiry(harness.commands, harness.reader, execute, lambda: True, 0.01).run())
    await asyncio.wait_for(done.wait(), 5)
    job.cancel()

    assert waited == ["market"]
    assert await harness.reader.waiting_for_approval() == []
    assert (await harness.loop()).stage == "idle"


async def test_what_people_say_is_in_the_log_alone_so_that_a_rebuild_gives_the_same(harness: HandlerHarness) -> None:
    await waiting_for(harness, "before_canary")
    await harness.command("approve", "market", "go", actor=ADA)
    half = fold_decisions("market", await harness.reader.wires("market"))
    shown = await harness.loop()
    harness.clock.now += timedelta(days=4)
    await harness.end_expired()

    whole = fold_decisions("market", await harness.reader.wires("market"))

    assert half == shown
    assert half is not None
    assert half.approval is not None
    assert half.approval.approved_by == ("ada",)
    assert whole == await harness.loop()


async def test_a_candidate_stays_the_version_that_people_see_while_it_waits(harness: HandlerHarness) -> None:
    await waiting_for(harness, "before_canary")

    decided = await harness.handle(
        lines(400, 150, a=[0.5], b=[0.5]), both(500, 100), model_trained("b-0", 500), lines(550, 50, a=[0.5], b=[0.5])
    )

    assert decided == ["version_registered"]
    assert (await harness.loop()).candidate.version == "b-0@400"


async def test_the_first_model_waits_too_although_there_is_nothing_to_protect(harness: HandlerHarness) -> None:
    await harness.command("apply", market_spec(rollout={**STEPS, "approval": "before_canary"}))
    await harness.handle(lines(0, 200, zero=WORSE, a=BETTER), model_trained("a-0", 199, "gate"))

    await harness.handle(version_state("a-0@199"), evaluation_updated(0, {"0": [0.5] * 100, "a-0@199": [0.5] * 100}))
    waiting = await harness.loop()
    decided = await harness.command("approve", "market", "go")

    assert (waiting.champion.version, waiting.approval.version) == ("0", "a-0@199")
    assert decided == ["candidate_approved", "rollout_changed"]


async def test_a_rejected_candidate_is_rolled_back_by_a_person_and_nothing_is_pinned(harness: HandlerHarness) -> None:
    await champion_is(harness, "a-0")
    await rollout_of(harness)

    decided = await harness.command("reject", "market", "worse for new customers", actor=BOB)
    again = await harness.handle(lines(300, 200, a=WORSE, b=BETTER))

    loop, back = await harness.loop(), harness.decisions[-1]
    assert (decided, again) == (["model_rolled_back"], [])
    assert (loop.champion.version, loop.candidate, loop.pinned) == ("a-0@200", None, False)
    assert isinstance(back, ModelRolledBack)
    assert (back.data.by, back.data.rolled_back, back.actor) == ("person", "b-0@400", "bob")
    with pytest.raises(Conflict, match="nothing to reject"):
        await harness.command("reject", "market", "again")


async def test_a_person_promotes_a_candidate_that_serving_has_ready(harness: HandlerHarness) -> None:
    await champion_is(harness, "a-0")
    await rollout_of(harness)
    with pytest.raises(Conflict, match="not every live instance"):
        await harness.command("promote", "market", "at once")
    await harness.handle(version_state("b-0@400"))

    decided = await harness.command("promote", "market", "the old one is wrong", actor=BOB)
    repeated = await harness.command("promote", "market", "the old one is wrong", "b-0@400")

    assert (decided, repeated) == (["model_promoted"], [])
    assert harness.decisions[-1].data.reason == "by hand: the old one is wrong"
    loop = await harness.loop()
    assert (loop.champion.version, loop.stage, loop.previous_champion.version) == ("b-0@400", "idle", "a-0@200")


async def test_a_person_promotes_a_registered_version_where_no_candidate_is_in_rollout(harness: HandlerHarness) -> None:
    await harness.handle(model_trained("c-0", 50, "initial"))
    await champion_is(harness, "a-0")

    with pytest.raises(VersionNotFound, match="nobody-0@1"):
        await harness.command("promote", "market", "?", "nobody-0@1")
    with pytest.raises(Conflict, match="everloop rollback market --to 0"):
        await harness.command("promote", "market", "?", "0")
    decided = await harness.command("promote", "market", "we know it", "c-0@50")

    assert decided == ["model_promoted"]
    assert (await harness.loop()).champion.version == "c-0@50"


@pytest.mark.parametrize("approval", ["before_canary", "before_champion"])
async def test_nobody_promotes_past_the_approvals_that_the_spec_asks_for(
    harness: HandlerHarness, approval: str
) -> None:
    await harness.handle(model_trained("c-0", 50, "initial"))
    await waiting_for(harness, approval)

    with pytest.raises(Conflict, match="the spec asks for 2 approvals before"):
        await harness.command("promote", "market", "now", actor=ADA)
    with pytest.raises(Conflict, match="b-0@400 is in rollout; reject it first"):
        await harness.command("promote", "market", "now", "c-0@50", actor=ADA)
    await harness.command("reject", "market", "no", actor=ADA)
    with pytest.raises(Conflict, match="only a candidate that has gone through"):
        await harness.command("promote", "market", "now", "c-0@50", actor=ADA)

    assert (await harness.loop()).champion.version == "a-0@200"


async def test_what_waits_for_nothing_cannot_be_approved(harness: HandlerHarness) -> None:
    await champion_is(harness, "a-0")
    await rollout_of(harness)

    with pytest.raises(Conflict, match="waits for no approval"):
        await harness.command("approve", "market", "go")
    with pytest.raises(Conflict, match="other-0@1 is not in rollout"):
        await harness.command("approve", "market", "go", "other-0@1")


async def test_two_people_are_asked_for_only_where_they_can_be_told_apart(harness: HandlerHarness) -> None:
    spec = market_spec(rollout={**STEPS, "approval": "before_champion", "approvals": 2})

    with pytest.raises(SpecRejected, match="while EVERLOOP_AUTH is off") as refused:
        await harness.command("apply", spec)

    assert [e.field for e in refused.value.errors] == ["rollout.approvals"]
    assert await harness.command("apply", spec, actor=ADA) == ["loop_applied"]


CY, DAN = Actor("cy", "token", "https://login"), Actor("dan", "token", "https://login")


@pytest.mark.parametrize(
    ("run", "says"),
    [
        ({"trigger": "manual", "actor": "ada"}, "ada requested run run-b-0"),
        ({"trigger": "search", "actor": "ada"}, "ada requested run run-b-0"),
        ({"trigger": "initial", "revision": 2}, "ada applied revision 2 of the loop"),
    ],
)
async def test_who_led_to_a_candidate_is_none_of_the_several_people_who_approve_of_it(
    harness: HandlerHarness, run: dict[str, Any], says: str
) -> None:
    asked = run_requested("b-0")
    more = {name: value for name, value in run.items() if name != "trigger"}
    await harness.handle(asked.copy_with(data=asked.data.model_copy(update={"trigger": run["trigger"]}), **more))
    await waiting_for(harness, "before_canary")

    with pytest.raises(Conflict, match=says) as refused:
        await harness.command("approve", "market", "mine", actor=ADA)
    others = [await harness.command("approve", "market", "fine", actor=actor) for actor in (BOB, CY)]

    assert "let somebody else approve" in refused.value.detail
    assert others == [["candidate_approved"], ["candidate_approved", "rollout_changed"]]


async def test_a_single_approval_may_come_from_who_asked_for_the_run(
    harness: HandlerHarness,
) -> None:
    asked = run_requested("b-0")
    await harness.handle(asked.copy_with(actor="ada", data=asked.data.model_copy(update={"trigger": "manual"})))
    await waiting_for(harness, "before_canary", people=1)

    alone = await harness.command("approve", "market", "mine", actor=ADA)

    assert alone == ["candidate_approved", "rollout_changed"]


def test_who_submitted_a_model_has_led_to_it_and_anonymous_is_nobody() -> None:
    runs = (LineRun("r1", "submitted", 1, None), LineRun("r2", "manual", 1, "anonymous"))

    behind = people_behind(LineOrigin(runs, {1: "eve"}, "dan"))

    assert behind == {"dan": "submitted the model"}


async def test_the_store_knows_who_submitted_the_first_version_of_a_line(harness: HandlerHarness) -> None:
    model = model_trained("note-40", 39, "submitted").data
    async with harness.unit as unit:
        log = await unit.store.open("market", DecisionContext(None, None, harness.clock(), "dan", "key", "evl_1"))
        log.decide(VersionRegistered, model.version, VersionRegisteredData(model=model))
        await unit.store.save(log)

        origin, other = [await unit.store.line_origin("market", line) for line in ("note-40", "note-4")]

    assert (origin.submitted_by, other.submitted_by) == ("dan", None)
