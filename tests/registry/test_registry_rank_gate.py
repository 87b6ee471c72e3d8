"""By a metric of ranks, gate and guardrail decide by how lines rank outcomes, however honest probabilities are."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest
from tests.builders.events import challenge_updated, evaluation_updated, model_trained, run_requested, version_state
from tests.builders.loops import loop_spec
from tests.registry.registry_harness import BETTER, WORSE, HandlerHarness, handler_harness, market_spec

from everloop_learning.losses import Losses
from everloop_learning.rank_blocks import RankBlocks
from everloop_registry.domain.gate import MAX_PENDING_BLOCKS, Gate, GateWin
from everloop_schemas.loop_parts import GateSpec
from everloop_schemas.training import ChallengeUpdatedData, RankedBlock

SPEC = GateSpec(min_outcomes=200)
LINES = ("a-0", "b-0")


class Ranked(NamedTuple):
    """An outcome with the probability of `true` by champion and challenger."""

    label: bool
    champion: float
    challenger: float


Draw = Callable[[Random], Ranked]


def better_ranks_dishonestly(rng: Random) -> Ranked:
    """The challenger ranks far better, and squeezes its probabilities into a corner; the champion is honest."""
    label = rng.random() < 0.3
    seen = rng.gauss(1.0 * label, 1)
    clear = rng.gauss(2.0 * label, 1)
    honest = 1 / (1 + math.exp(-(seen - 0.5 + math.log(0.3 / 0.7))))
    return Ranked(label, honest, 0.9 + 0.1 / (1 + math.exp(-clear)))


def alike(rng: Random) -> Ranked:
    """Neither ranks better than the other; both see some of the truth."""
    label = rng.random() < 0.3
    truth = rng.gauss(1.2 * label, 1)
    scores = [1 / (1 + math.exp(-truth - rng.gauss(0, 1))) for _ in range(2)]
    return Ranked(label, *scores)


def updates(metric: str, draw: Draw, seed: int, n: int, start: int = 0) -> Iterator[ChallengeUpdatedData]:
    """What training reports of both lines, 100 outcomes at a time; by ranks, blocks alone tell them apart."""
    rng, blocks, losses = Random(seed), RankBlocks(), Losses(loop_spec(metric=metric))
    for at in range(start, start + n, 100):
        rows, ended = [], list[RankedBlock]()
        for offset in range(at, at + 100):
            label, *chances = draw(rng)
            if metric == "brier":
                said = [{"true": chance, "false": 1 - chance} for chance in chances]
                rows.append([losses.loss(label, p["true"] > 0.5, p) for p in said])
            else:
                rows.append([0.5, 0.5])
                if block := blocks.add(metric, offset, label, dict(zip(LINES, chances, strict=True))):
                    ended.append(block)
        reported = dict(zip(LINES, zip(*rows, strict=True), strict=True))
        yield challenge_updated(at, reported).data.model_copy(update={"blocks": tuple(ended)})


def first_win(gate: Gate, reported: Iterator[ChallengeUpdatedData], by_rank: bool = True) -> GateWin | None:
    return next((win for data in reported if (win := gate.observe("a-0", data, SPEC, by_rank=by_rank))), None)


@pytest.mark.parametrize("metric", ["roc_auc", "pr_auc"])
def test_a_line_that_ranks_better_wins_although_its_probabilities_are_worse(metric: str) -> None:
    by_rank = first_win(Gate(), updates(metric, better_ranks_dishonestly, 1, 4_000))
    by_brier = first_win(Gate(), updates("brier", better_ranks_dishonestly, 1, 4_000), by_rank=False)

    assert by_rank is not None
    assert by_rank.line == "b-0"
    assert by_rank.outcomes >= SPEC.min_outcomes
    assert by_brier is None


@pytest.mark.parametrize("metric", ["roc_auc", "pr_auc"])
def test_of_lines_that_rank_alike_few_ever_win_however_often_the_gate_looks(metric: str) -> None:
    wins = sum(first_win(Gate(), updates(metric, alike, seed, 1_500)) is not None for seed in range(40))

    assert wins <= 40 * 0.05  # it spends half of 5 % on the first epoch of one challenger


def test_a_line_against_itself_never_has_evidence() -> None:
    gate = Gate()

    first_win(gate, updates("roc_auc", lambda rng: (one := alike(rng))._replace(challenger=one.champion), 1, 1_000))

    assert gate.challengers["b-0"].bet.log_e == pytest.approx(0.0)


def test_a_block_with_outcomes_from_before_a_restart_does_not_count() -> None:
    gate, reported = Gate(), list(updates("roc_auc", better_ranks_dishonestly, 2, 400))
    for data in reported[:2]:
        gate.observe("a-0", data, SPEC, by_rank=True)

    gate.restart_for_alarm(150)
    for data in reported[2:]:
        gate.observe("a-0", data, SPEC, by_rank=True)

    unseen = [block for data in reported for block in data.blocks if block.start > 199]
    assert gate.challengers["b-0"].bet.outcomes == sum(block.outcomes for block in unseen)
    assert any(block.start <= 199 < block.end for data in reported for block in data.blocks)


def test_blocks_seen_before_change_nothing() -> None:
    once, twice = Gate(), Gate()
    reported = list(updates("roc_auc", alike, 3, 300))
    for data in reported:
        once.observe("a-0", data, SPEC, by_rank=True)

    twice = twice.model_validate_json(twice.model_dump_json())
    for data in reported:
        twice.observe("a-0", data, SPEC, by_rank=True)
        twice = Gate.model_validate_json(twice.model_dump_json())
        twice.observe("a-0", data, SPEC, by_rank=True)
    everything = challenge_updated(0, {"a-0": [0.5] * 300, "b-0": [0.5] * 300}).data
    twice.observe("a-0", everything.model_copy(update={"blocks": reported[0].blocks}), SPEC, by_rank=True)

    assert once == twice


def test_while_the_champions_line_has_no_block_what_was_served_takes_its_place() -> None:
    gate, served = Gate(), dict[int, tuple[float, ...]]()
    for data in updates("roc_auc", better_ranks_dishonestly, 4, 4_000):
        served |= {block.end: block.losses["a-0"] for block in data.blocks}
        alone = [block.model_copy(update={"losses": {"b-0": block.losses["b-0"]}}) for block in data.blocks]
        gate.observe("a-0", data.model_copy(update={"blocks": tuple(alone)}), SPEC, by_rank=True)
    waiting = len(gate.pending_blocks)

    win = gate.compare_pending(SPEC, {}, served)

    assert waiting == MAX_PENDING_BLOCKS
    assert win is not None
    assert gate.pending_blocks == {}


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[HandlerHarness]:
    async with handler_harness(tmp_path) as made:
        await made.command("apply", market_spec(metric="roc_auc"))
        yield made


def blocks(start: int, n: int, **losses: Sequence[float]) -> tuple[RankedBlock, ...]:
    """Blocks of ten outcomes, in which lines have these losses."""
    by_line = {name if name == "0" else f"{name}-0": tuple(values) for name, values in losses.items()}
    return tuple(RankedBlock(start=at, end=at + 9, outcomes=10, losses=by_line) for at in range(start, start + n, 10))


async def test_a_loop_by_roc_auc_promotes_and_rolls_back_by_ranks_while_other_losses_say_the_opposite(
    harness: HandlerHarness,
) -> None:
    wrong_way = {"0": BETTER * 66 + [0.0, 1.0], "a-0": WORSE * 66 + [1.0, 1.0]}
    challenge = challenge_updated(0, wrong_way)
    ranked = blocks(0, 200, **{"0": [0.5, 0.5], "a": [0.0, 0.2]})
    challenge = challenge.model_copy(update={"data": challenge.data.model_copy(update={"blocks": ranked})})

    first = await harness.handle(run_requested("a-0"), challenge)
    await harness.handle(evaluation_updated(0, {"0": [0.5] * 200}), model_trained("a-0", 200, "gate"))

    assert first == ["gate_decided", "rollout_changed"]
    assert (await harness.loop()).champion.version == "a-0@200"

    # when: another line wins, goes into canary, and what it predicts there ranks worse, by other losses better
    challenge = challenge_updated(200, {"a-0": [0.5] * 200, "b-0": [0.5] * 200})
    ranked = blocks(200, 200, a=[0.5, 0.5], b=[0.0, 0.2])
    challenge = challenge.model_copy(update={"data": challenge.data.model_copy(update={"blocks": ranked})})
    await harness.handle(run_requested("b-0"), challenge, evaluation_updated(200, {"a-0@200": [0.5] * 200}))
    await harness.handle(model_trained("b-0", 400, "gate"), version_state("b-0@400"))
    served = evaluation_updated(400, {"a-0": [0.6] * 200, "b-0": [0.1] * 200})
    served = served.model_copy(
        update={"data": served.data.model_copy(update={"blocks": blocks(400, 200, a=[0.1, 0.1], b=[0.9, 0.6])})}
    )
    decided = await harness.handle(served)

    assert "model_rolled_back" in decided
    assert (await harness.loop()).champion.version == "a-0@200"


async def test_evidence_by_one_metric_is_none_by_another(harness: HandlerHarness) -> None:
    await harness.handle(run_requested("a-0"))
    challenge = challenge_updated(0, {"0": [0.5] * 150, "a-0": [0.5] * 150})
    ranked = blocks(0, 150, **{"0": [0.5, 0.5], "a": [0.0, 0.2]})
    await harness.handle(challenge.model_copy(update={"data": challenge.data.model_copy(update={"blocks": ranked})}))

    await harness.command("apply", market_spec(metric="accuracy"))
    decided = await harness.handle(challenge_updated(150, {"0": [0.5] * 150, "a-0": [0.5] * 150}))

    assert decided == []
