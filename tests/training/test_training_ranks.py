"""By a metric of ranks, training reports blocks of outcomes, the same ones as monitoring, and after a restart too."""

from __future__ import annotations

import pickle

from tests.training.training_harness import dependencies, event, feed, make_learner, of, spec, state

from everloop_learning.outcome import Outcome
from everloop_monitoring.domain.evaluation import BatchEvaluation
from everloop_monitoring.domain.state import EvaluationState
from everloop_schemas.registry import BASELINE
from everloop_schemas.training import ChallengeUpdated, RankedBlock
from everloop_training.worker.learners.loop_learner import LoopLearner

LINE = "logistic-regression-0"
RANKED = spec(metric="roc_auc")


def blocks(learner: LoopLearner) -> list[RankedBlock]:
    return [block for each in of(ChallengeUpdated, learner.take_events()) for block in each.data.blocks]


def test_lines_have_losses_by_rank_and_the_one_that_learns_has_the_lower_ones() -> None:
    learner = make_learner(state(of=RANKED))

    feed(learner, 0, 600)

    reported = blocks(learner)
    mean = {
        line: sum(sum(block.losses[line]) for block in reported[5:]) / sum(len(b.losses[line]) for b in reported[5:])
        for line in (LINE, BASELINE)
    }
    assert mean[LINE] < 0.1
    assert mean[BASELINE] == 0.5


def test_other_metrics_have_no_blocks() -> None:
    learner = make_learner()

    feed(learner, 0, 100)

    assert blocks(learner) == []
    assert learner.ranks.offsets == []


def test_a_learner_that_is_restored_within_a_block_reports_the_same_block() -> None:
    kept, killed = make_learner(state(of=RANKED)), make_learner(state(of=RANKED))
    feed(kept, 0, 400)
    expected = blocks(kept)

    feed(killed, 0, 203)
    before = blocks(killed)
    assert killed.ranks.offsets
    restored: LoopLearner = pickle.loads(pickle.dumps(killed))
    restored.attach(dependencies())
    restored.live = True
    feed(restored, 203, 400)

    assert before + blocks(restored) == expected


def test_a_revision_with_another_metric_begins_new_blocks() -> None:
    learner = make_learner(state(of=RANKED))
    feed(learner, 0, 100)
    learner.take_events()

    learner.on_loop_state(state(1, of=spec(metric="accuracy")))
    feed(learner, 100, 150)
    learner.on_loop_state(state(2, of=RANKED))
    feed(learner, 150, 300)

    assert min(block.start for block in blocks(learner)) == 150


def test_monitoring_ends_its_blocks_where_training_does() -> None:
    learner, evaluation = make_learner(state(of=RANKED)), BatchEvaluation(RANKED, EvaluationState())
    for i in range(300):
        observed = event(i)
        learner.learn(Outcome.from_event(observed, i))
        evaluation.add(observed.data, i)

    of_training, served = blocks(learner), evaluation.take_unpublished().blocks

    assert [(b.start, b.end) for b in of_training] == [(b.start, b.end) for b in served]
    assert len(served) > 10
