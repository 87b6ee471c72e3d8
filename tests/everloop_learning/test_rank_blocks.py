"""Blocks of outcomes compare lines by a metric of ranks, the same for all lines, and with a bounded memory."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from random import Random

import pytest
from sklearn.metrics import average_precision_score, roc_auc_score  # type: ignore[import-untyped]

from everloop_learning.rank_blocks import MAX_OUTCOMES, OF_EACH_CLASS, RankBlocks, rank_score
from everloop_schemas.training import RankedBlock

LINES = {"good": 1.5, "bad": 0.5}


def stream(n: int, share: float, seed: int = 1) -> Iterator[tuple[int, bool, dict[str, float]]]:
    """Offsets, labels, and scores of a line that ranks well and of one that does not."""
    rng = Random(seed)
    for offset in range(n):
        label = rng.random() < share
        yield offset, label, {line: rng.gauss(gap * label, 1) for line, gap in LINES.items()}


def blocks_of(metric: str, rows: Iterator[tuple[int, bool, dict[str, float]]]) -> list[RankedBlock]:
    blocks = RankBlocks()
    return [block for row in rows if (block := blocks.add(metric, *row)) is not None]


@pytest.mark.parametrize("share", [0.5, 0.1, 0.9])
def test_the_mean_loss_is_what_is_missing_to_the_auc(share: float) -> None:
    rows = list(stream(6_000, share))

    found = blocks_of("roc_auc", iter(rows))

    for line in LINES:
        losses = [loss for block in found for loss in block.losses[line]]
        auc = roc_auc_score([label for _, label, _ in rows], [scores[line] for *_, scores in rows])
        assert 1 - sum(losses) / len(losses) == pytest.approx(auc, abs=0.025)
    assert all(len(block.losses["good"]) == OF_EACH_CLASS for block in found)
    assert sum(block.outcomes for block in found) <= 6_000


def test_by_pr_auc_a_block_has_the_average_precision_within_it() -> None:
    rows = list(stream(400, 0.2))

    found = blocks_of("pr_auc", iter(rows))

    for block in found:
        within = rows[block.start : block.end + 1]
        expected = average_precision_score([label for _, label, _ in within], [s["good"] for *_, s in within])
        [loss] = block.losses["good"]
        assert loss == pytest.approx(1 - expected)
        assert block.outcomes == len(within)
    assert len(found) > 10


def test_equal_scores_count_as_half() -> None:
    constant = [(offset, label, {"majority": 0.3}) for offset, label, _ in stream(100, 0.5)]

    found = blocks_of("roc_auc", iter(constant))

    assert {loss for block in found for loss in block.losses["majority"]} == {0.5}


def test_a_line_has_losses_in_the_blocks_that_it_predicted_whole() -> None:
    rows = [(offset, label, dict(scores)) for offset, label, scores in stream(200, 0.5)]
    for offset, _, scores in rows:
        if offset < 30:
            del scores["bad"]
        if offset == 100:
            scores["bad"] = math.nan

    with_gaps, whole = blocks_of("roc_auc", iter(rows)), blocks_of("roc_auc", stream(200, 0.5))

    assert [(block.start, block.end) for block in with_gaps] == [(block.start, block.end) for block in whole]
    for block, other in zip(with_gaps, whole, strict=True):
        assert block.losses["good"] == other.losses["good"]
        assert ("bad" in block.losses) == (block.start >= 30 and not block.start <= 100 <= block.end)


def test_where_a_class_is_rare_a_block_is_bounded_and_still_ends() -> None:
    rows = [(i, i in (1_200, 1_300), {"good": float(i in (1_200, 1_300)), "bad": 0.0}) for i in range(2_000)]
    blocks, found = RankBlocks(), []
    for row in rows:
        if block := blocks.add("roc_auc", *row):
            found.append(block)
        assert len(blocks.offsets) < MAX_OUTCOMES

    assert [(block.start, block.end, block.losses) for block in found] == [
        (701, 1_200, {"good": (0.0,), "bad": (0.5,)}),
        (1_201, 1_700, {"good": (0.0,), "bad": (0.5,)}),
    ]


def test_the_open_block_goes_on_from_its_stored_state_and_is_dropped_with_its_metric() -> None:
    rows, stored = list(stream(100, 0.3)), RankBlocks()
    found = []
    for row in rows:
        state = json.dumps({name: getattr(stored, name) for name in RankBlocks.__slots__})
        stored = RankBlocks(**json.loads(state))
        if block := stored.add("roc_auc", *row):
            found.append(block)

    assert found == blocks_of("roc_auc", iter(rows))
    stored.add("pr_auc", 100, True, {})
    assert stored.offsets == [100]


def test_a_prediction_without_probabilities_is_certain_and_the_baseline_ranks_nothing() -> None:
    assert rank_score("a-0", True) == 1.0
    assert rank_score("a-0", False, {}) == 0.0
    assert rank_score("a-0", False, {"true": 0.4, "false": 0.6}) == 0.4
    assert rank_score("0", False, {"true": 0.4, "false": 0.6}) == rank_score("0", True)
