"""What holds for every event: it decides once, and its decisions are chained and keep their bytes."""

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
from tests.registry.registry_harness import BETTER, WORSE, HandlerHarness, champion_is, lines, rollout_of

from everloop_learning.errors import LoopNotKnownYet
from everloop_registry.domain.decision_log import DecisionContext
from everloop_schemas.catalogue import decode
from everloop_schemas.decision_chain import digest
from everloop_schemas.envelope import Event
from everloop_schemas.registry import Decided, GateDecided, LoopState
from everloop_schemas.training import DataSet, RunRequested
from everloop_shared.messaging.routes import Position
from everloop_shared.tracing import caused_by


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


async def test_a_decision_is_within_the_span_of_the_event_that_led_to_it_signed_or_not(harness: HandlerHarness) -> None:
    trained, within = model_trained("a-0", 30, "initial"), "00-" + "1" * 32 + "-" + "3" * 16 + "-01"
    sent = trained.model_copy(update={"traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01"})

    with caused_by(
        trained.model_copy(update={"traceparent": within})
    ):  # as the kernel's span, where the event is signed
        await harness.handle(sent)

    assert harness.decisions[-1].traceparent == within


async def test_the_next_event_of_a_batch_sees_the_state_of_the_last_and_an_undone_one_leaves_nothing(
    harness: HandlerHarness,
) -> None:
    handlers, unit, at = harness.events, harness.unit, Position(RunRequested.topic.name)
    async with unit:
        await handlers.on_run_requested(run_requested("a-0"), at)
        await handlers.on_run_requested(run_requested("b-0"), at)
        with suppress(ZeroDivisionError):
            async with unit.savepoint():
                await handlers.on_run_requested(run_requested("c-0"), at)
                raise ZeroDivisionError
        await handlers.on_run_requested(run_requested("d-0"), at)
        await unit.record([], {})
    async with unit:
        decision_log = await unit.store.open("market", DecisionContext(None, None, NOW))

    assert list(decision_log.working.runs) == ["a-0", "b-0", "d-0"]


async def test_of_the_states_of_a_loop_in_one_transaction_only_the_last_is_published(harness: HandlerHarness) -> None:
    await champion_is(harness, "a-0")
    models, events = [model_trained("a-0", 300), model_trained("a-0", 400)], list[Event]()
    async with harness.unit as unit:
        known = {event.id for event in await unit.waiting(LoopState.topic)}
        for model in models:
            events += await harness.events.on_model_trained(model, Position(model.topic.name))
        await unit.record(events, {})
        new = [event for event in await unit.waiting(LoopState.topic) if event.id not in known]
        sequence = (await unit.store.open("market", DecisionContext(None, None, NOW))).loop.sequence

    assert len([e for e in events if isinstance(e, LoopState)]) == 2
    assert [e.data.sequence for e in new] == [sequence]


async def test_decisions_from_before_actors_were_recorded_keep_their_bytes_and_their_chain(
    harness: HandlerHarness,
) -> None:
    await champion_is(harness, "a-0")
    old: list[bytes] = []
    for decision in harness.decisions:
        prevhash = digest(old[-1]) if old else decision.prevhash
        old.append(decision.copy_with(actor=None, prevhash=prevhash).encode())

    read = [decode(Decided.topic.name, wire) for wire in old]

    assert not any(b"actor" in wire for wire in old)
    assert [event.encode() for event in read] == old
    assert [d.prevhash for d in read if isinstance(d, Decided)][1:] == [digest(wire) for wire in old[:-1]]


@pytest.mark.parametrize("reason", ["trained", "submitted"])
async def test_a_model_that_was_trained_for_a_line_is_registered_and_not_offered(
    harness: HandlerHarness, reason: str
) -> None:
    await champion_is(harness, "a-0")
    await harness.handle(lines(200, 200, a=[0.0]))

    decided = await harness.handle(
        model_trained("a-0", 299, reason), evaluation_updated(200, {"a-0@200": [0.0] * 200}), lines(400, 1100, a=[0.0])
    )

    loop = await harness.loop()
    assert decided == ["version_registered"]
    assert (loop.champion.version, "a-0@299" in loop.kept) == ("a-0@200", True)


async def test_a_line_that_waits_for_its_rollout_does_not_begin_it_with_what_was_trained(
    harness: HandlerHarness,
) -> None:
    await champion_is(harness, "a-0")
    await harness.handle(run_requested("b-0"), lines(200, 200, a=WORSE, b=BETTER))

    early = await harness.handle(model_trained("b-0", 399, "trained"))
    won = await harness.handle(model_trained("b-0", 400, "gate"))

    assert early == ["version_registered"]
    assert won == ["version_registered", "rollout_changed"]


async def test_a_training_is_the_run_of_its_line_once_the_line_predicts_with_its_model(harness: HandlerHarness) -> None:
    asked = run_requested("b-0")
    training = {"run": "training-of-b", "data_set": DataSet(loop="market", start=0, end=9, revision=1)}
    await champion_is(harness, "a-0")

    await harness.handle(asked, asked.copy_with(id="other", data=asked.data.model_copy(update=training)))
    await harness.handle(lines(200, 200, a=WORSE, b=BETTER))

    [won] = [d for d in harness.decisions if d.subject == "b-0" and isinstance(d, GateDecided)]
    assert won.correlationid == "run-b-0"
