"""A line that is better passes the gate only where it meets, by itself, what the spec requires; else it is told why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.builders.events import challenge_updated, drift_detected, evaluation_updated, model_trained, run_requested
from tests.builders.running import until
from tests.registry.registry_harness import (
    BETTER,
    LOOP_FILE,
    WORSE,
    HandlerHarness,
    apply_file,
    count_handled,
    decided_types,
    dump,
    market_spec,
    publish,
    registry,
)
from tests.registry.spec_refusals import BINARY, errors_of

from everloop_registry.domain.decision_log import fold_decisions
from everloop_registry.domain.requirements import find_unmet
from everloop_registry.domain.spec_file import read_spec
from everloop_schemas.decision_chain import digest
from everloop_schemas.envelope import Event
from everloop_schemas.registry import Decided, GateDecided
from everloop_schemas.training import Measured
from everloop_shared.messaging.memory import MemoryBroker

PARITY = "fairness.sex.equal_opportunity"
REQUIRED = (f"{PARITY} <= 0.1", "accuracy >= 0.8")


def measured(parity: float | None, accuracy: float = 0.9, reach: float = 0.05) -> dict[str, Any]:
    interval = {} if parity is None else {"low": parity - reach, "high": parity + reach}
    return {
        PARITY: {"value": parity, "outcomes": 240, **interval},
        "accuracy": {"value": accuracy, "outcomes": 500},
    }


def update(start: int, n: int, /, **of: dict[str, Any]) -> Event:
    """Losses of the baseline and of better lines, with what was measured of each."""
    lines = {f"{name}-0": (BETTER * n)[:n] for name in of}
    measures = {f"{name}-0": measures for name, measures in of.items()}
    return challenge_updated(start, {"0": (WORSE * n)[:n], **lines}, measures=measures)


async def require(harness: HandlerHarness, *required: str) -> None:
    spec = market_spec(monitor={"fairness": ["sex"]}, gate={"require": required or REQUIRED})
    await harness.command("apply", spec)
    await harness.handle(run_requested("a-0"), run_requested("b-0"))


def held(harness: HandlerHarness) -> list[GateDecided]:
    return [d for d in harness.decisions if isinstance(d, GateDecided) and not d.data.passed]


async def test_a_better_line_that_breaks_a_requirement_is_held_back_and_told_once(harness: HandlerHarness) -> None:
    await require(harness)

    first = await harness.handle(update(0, 300, a=measured(0.31)))
    later = await harness.handle(*(update(start, 100, a=measured(0.3)) for start in range(300, 900, 100)))

    [decision] = held(harness)
    assert (first, later) == (["gate_decided"], [])
    assert (decision.subject, decision.data.line, decision.data.champion_line) == ("a-0", "a-0", "0")
    assert decision.data.reason.startswith(
        f"held back: {PARITY} <= 0.1 is required, and it is 0.31 (0.260 to 0.360) over 240 outcomes; it has evidence e^"
    )
    assert decision.correlationid == "run-a-0"
    assert (await harness.loop()).stage == "idle"


async def test_it_passes_once_it_meets_every_requirement(harness: HandlerHarness) -> None:
    await require(harness)
    await harness.handle(update(0, 300, a=measured(0.31)))
    reasons = (await harness.loop()).held_back

    passed = await harness.handle(update(300, 100, a=measured(0.05)))

    loop = await harness.loop()
    assert list(reasons) == ["a-0"]
    assert passed == ["gate_decided", "rollout_changed"]
    assert (loop.winner, loop.held_back) == ("a-0", {})


async def test_the_strongest_line_that_meets_the_requirements_wins_over_a_stronger_one(harness: HandlerHarness) -> None:
    await require(harness)
    weaker = (BETTER * 100)[:240] + [1.0] * 60
    losses = {"0": (WORSE * 100)[:300], "a-0": (BETTER * 100)[:300], "b-0": weaker}
    measures = {"a-0": measured(0.5), "b-0": measured(0.02)}

    decided = await harness.handle(challenge_updated(0, losses, measures=measures))

    assert decided == ["gate_decided", "gate_decided", "rollout_changed"]
    assert [d.subject for d in harness.decisions if isinstance(d, GateDecided)] == ["a-0", "b-0"]
    assert (await harness.loop()).winner == "b-0"


async def test_what_is_not_known_yet_holds_a_line_back_until_it_is(harness: HandlerHarness) -> None:
    await require(harness)

    await harness.handle(update(0, 300, a=measured(None)), update(300, 100, a={}))
    await harness.handle(update(400, 100, a=measured(0.4)), update(500, 100, a=measured(0.4, accuracy=0.7)))
    passed = await harness.handle(update(600, 100, a=measured(0.04)))

    reasons = [decision.data.reason for decision in held(harness)]
    assert len(reasons) == 4
    assert "not known yet after 240 outcomes" in reasons[0]
    assert "accuracy >= 0.8 is required, and not known yet after 0 outcomes" in reasons[1]
    assert "it is 0.4 (0.350 to 0.450)" in reasons[2]
    assert "accuracy >= 0.8 is required, and it is 0.7 over 500 outcomes" in reasons[3]
    assert passed == ["gate_decided", "rollout_changed"]


async def test_requirements_that_change_at_every_batch_are_told_once_each(harness: HandlerHarness) -> None:
    await require(harness)

    for i in range(20):
        of = measured(0.3 if i % 2 else 0.0, accuracy=0.9 if i % 2 else 0.5)
        await harness.handle(update(100 * i, 100, a=of))

    assert len(held(harness)) == 2


async def test_a_line_compared_with_what_was_served_is_held_back_as_well(harness: HandlerHarness) -> None:
    await require(harness)
    await harness.handle(
        update(0, 300, a=measured(0.0)), model_trained("a-0", 300, "gate"), evaluation_updated(0, {"0": [0.5] * 300})
    )
    before = len(held(harness))

    update_without_champion = challenge_updated(300, {"b-0": [0.0] * 200}, measures={"b-0": measured(0.3)})
    await harness.handle(update_without_champion)
    decided = await harness.handle(evaluation_updated(300, {"a-0@300": [1.0] * 200}))

    assert (await harness.loop()).champion.version == "a-0@300"
    assert decided == ["gate_decided"]
    assert [d.subject for d in held(harness)[before:]] == ["b-0"]


async def test_after_a_drift_the_fast_lane_meets_the_requirements_too(harness: HandlerHarness) -> None:
    await require(harness)
    await harness.handle(update(0, 100, a=measured(0.0)), drift_detected(99, 50))

    held_back = await harness.handle(update(100, 100, a=measured(0.3)))
    urgent = await harness.handle(update(200, 100, a=measured(0.05)))

    [win] = [d for d in harness.decisions if isinstance(d, GateDecided) and d.data.passed]
    assert (held_back, urgent) == (["gate_decided"], ["gate_decided", "rollout_changed"])
    assert (win.data.urgent, win.data.epoch) == (True, 2)


async def test_a_spec_that_requires_it_no_more_lets_the_line_pass(harness: HandlerHarness) -> None:
    await require(harness)
    await harness.handle(update(0, 300, a=measured(0.31)))

    await harness.command("apply", market_spec())
    passed = await harness.handle(update(300, 100, a={}))

    assert (await harness.loop()).held_back == {}
    assert passed == ["gate_decided", "rollout_changed"]


async def test_the_decisions_fold_to_the_same_loop_and_their_chain_holds(harness: HandlerHarness) -> None:
    await require(harness)
    await harness.handle(update(0, 300, a=measured(0.31)), update(300, 100, b=measured(0.3), a=measured(0.05)))
    wires = [decision.encode() for decision in harness.decisions]

    folded = fold_decisions("market", wires)

    assert folded == await harness.loop()
    assert [d.prevhash for d in harness.decisions][1:] == [digest(wire) for wire in wires[:-1]]
    assert [Decided.topic.name] * len(wires) == [decision.topic.name for decision in harness.decisions]


@pytest.mark.app
@pytest.mark.usefixtures("databases")
async def test_a_database_that_is_lost_is_rebuilt_with_the_decision_and_it_is_not_made_again(tmp_path: Path) -> None:
    broker, first, second = MemoryBroker(), tmp_path / "one", tmp_path / "two"
    required = LOOP_FILE + "gate: {require: [accuracy >= 0.8]}\n"
    async with registry(broker, first) as client:
        await apply_file(client, required)
        await publish(broker, run_requested("a-0"), update(0, 300, a=measured(0.0, accuracy=0.7)))
        await until(lambda: decided_types(broker)[-1:] == ["gate_decided"])
        told = (await client.get("/market/rollout")).json()["held_back"]

    broker.committed.clear()  # everything is consumed again
    async with registry(broker, second) as client:
        await publish(broker, run_requested("c-0"))
        await until(lambda: count_handled(broker, "training.run_requested.v1") == 2)
        rebuilt = (await client.get("/market/rollout")).json()["held_back"]

    assert told["a-0"].startswith("held back: accuracy >= 0.8 is required, and it is 0.7 over 500 outcomes")
    assert rebuilt == told
    assert decided_types(broker) == ["loop_applied", "gate_decided"]
    assert await dump(second) == await dump(first)


async def test_without_requirements_nothing_is_held_back(harness: HandlerHarness) -> None:
    await harness.handle(run_requested("a-0"))

    decided = await harness.handle(update(0, 300, a=measured(0.9, accuracy=0.1)))

    assert decided == ["gate_decided", "rollout_changed"]


def test_a_metric_without_an_interval_meets_its_bound_at_it() -> None:
    measures = {"accuracy": Measured(value=0.8, outcomes=100)}

    assert find_unmet(("accuracy >= 0.8",), measures) == []
    assert [one.key for one in find_unmet(("accuracy > 0.8",), measures)] == ["accuracy > 0.8"]


@pytest.mark.parametrize(
    ("required", "low", "high", "met"),
    [
        ("log_loss <= 0.6", 0.4, 0.6, True),
        ("log_loss <= 0.6", 0.4, 0.7, False),
        ("accuracy >= 0.4", 0.3, 0.7, False),
        ("accuracy >= 0.4", 0.4, 0.9, True),
    ],
)
def test_a_requirement_is_met_with_a_confidence_of_90_percent(
    required: str, low: float, high: float, met: bool
) -> None:
    measured_once = Measured(value=0.5, outcomes=50, low=low, high=high)

    unmet = find_unmet((required,), {required.partition(" ")[0]: measured_once})

    assert [one.key for one in unmet] == ([] if met else [f"{required} unknown"])
    assert all("not certain yet: it is 0.5 (" in one.reason for one in unmet)


SEXES = BINARY + "  sex: {type: string}\n"
BOTH = SEXES + "monitor: {fairness: [sex]}\n"


@pytest.mark.parametrize(
    ("text", "field", "says"),
    [
        (SEXES + "monitor: {fairness: [race]}", "monitor.fairness.0", "no feature of the loop; add it to features"),
        (SEXES + "features: [{fields: [x]}]\nmonitor: {fairness: [sex]}", "monitor.fairness.0", "add it to features"),
        (SEXES + "monitor: {fairness: [sex, sex]}", "monitor.fairness", "twice"),
        (SEXES + "monitor: {fairness: [a, b, c, d, e, f]}", "monitor.fairness", "at most 5"),
        (SEXES.replace("binary", "multiclass") + "monitor: {fairness: [sex]}", "monitor.fairness", "remove it"),
        (SEXES.replace("binary", "regression") + "monitor: {fairness: [sex]}", "monitor.fairness", "regression loop"),
        (SEXES + "gate: {require: ['fairness.sex.calibration <= 0.1']}", "gate.require.0", "add sex to monitor"),
        (BOTH + "gate: {require: ['accuracy >= 0.8', 'mae <= 3']}", "gate.require.1", "no metric of a binary loop"),
        (BOTH + "gate: {require: ['fairness.sex.calibration <= 3']}", "gate.require.0", "from 0 to 2"),
        (BOTH + "gate: {require: ['fairness.sex.equal_opportunity <= 1.1']}", "gate.require.0", "from 0 to 1"),
        (BOTH + "gate: {require: ['fairness.sex.equal_opportunity >= 0.1']}", "gate.require.0", "write fairness.sex"),
        (BOTH + "alerts: [{alert: a, when: fairness.sex.calibration < 0.1}]", "alerts.0.when", "treated alike; write"),
        (BOTH + "alerts: [{alert: a, when: fairness.sex.calibration > 3}]", "alerts.0.when", "it is from 0 to 2"),
        (BOTH + "gate: {require: ['accuracy <= 0.8']}", "gate.require.0", "write accuracy >= 0.8"),
        (BOTH + "gate: {require: ['log_loss >= 0.8']}", "gate.require.0", "write log_loss <= 0.8"),
        (BOTH + "gate: {require: ['accuracy >= 80']}", "gate.require.0", "from 0 to 1"),
        (BOTH + "gate: {require: ['fairness.sex.parity <= 0.1']}", "gate.require.0", "must be a measure"),
    ],
)
def test_what_cannot_be_compared_or_required_is_refused_with_the_fix(text: str, field: str, says: str) -> None:
    found = errors_of(text)

    assert list(found) == [field]
    assert says in found[field]


def test_what_can_be_is_accepted() -> None:
    text = BOTH + "gate: {require: ['accuracy >= 0.8', 'log_loss < 1.5', 'fairness.sex.equalised_odds <= 0.1']}"

    spec = read_spec(text.encode(), is_json=False)

    assert (spec.monitor.fairness, len(spec.gate.require)) == (("sex",), 3)
