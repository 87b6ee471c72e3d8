"""Parameters are proposed within the space, as values of the types that a spec has, the same from the same seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from everloop_models.search.task import Evaluation
from everloop_schemas.search import Parameters
from everloop_schemas.search_spec import ParameterRange

if TYPE_CHECKING:
    from everloop_models.search.sampler import Sampler

pytestmark = pytest.mark.frameworks
SPACE = {
    "depth": ParameterRange(between=(2, 5)),
    "rate": ParameterRange(log=(0.001, 10.0)),
    "leaves": ParameterRange(log=(1, 1000)),
    "share": ParameterRange(between=(0, 0.5)),
    "kind": ParameterRange(choice=(True, 1, 0.5, "gini")),
}


def sampler(space: dict[str, ParameterRange] = SPACE, seed: int = 3, metric: str = "accuracy") -> Sampler:
    from everloop_models.search.sampler import Sampler

    return Sampler(space, metric, seed)


def scored(score: float) -> Evaluation:
    return Evaluation(state="complete", folds=(score, score), score=score)


def searched(one: Sampler, rounds: int, sign: float = 1.0) -> list[Parameters]:
    """Rounds of a search for a rate of 1."""
    found: list[Parameters] = []
    for _ in range(rounds):
        asked = one.ask(4)
        one.tell([scored(-sign * abs(float(each["rate"] or 0) - 1.0)) for each in asked])
        found += asked
    return found


def test_values_are_within_their_ranges_and_of_their_types() -> None:
    for each in searched(sampler(), 8):
        assert type(each["depth"]) is int
        assert each["depth"] in range(2, 6)
        assert type(each["leaves"]) is int
        assert type(each["rate"]) is float
        assert 0.001 <= each["rate"] <= 10
        assert type(each["share"]) is float
        assert 0 <= each["share"] <= 0.5
        assert (type(each["kind"]), each["kind"]) in [(bool, True), (int, 1), (float, 0.5), (str, "gini")]


def test_the_same_seed_and_scores_give_the_same_parameters() -> None:
    first, again, other = searched(sampler(), 8), searched(sampler(), 8), searched(sampler(seed=4), 8)

    assert first == again
    assert first != other


@pytest.mark.parametrize(("metric", "sign"), [("accuracy", 1.0), ("mae", -1.0)])
def test_later_parameters_are_nearer_to_the_best(metric: str, sign: float) -> None:
    found = [abs(float(each["rate"] or 0) - 1.0) for each in searched(sampler(metric=metric), 20, sign)]

    assert sum(found[40:]) / 40 < sum(found[:12]) / 12 * 0.75


def test_failed_and_pruned_trials_are_told_too() -> None:
    one = sampler()
    one.ask(4)

    one.tell([Evaluation.failed("no"), Evaluation(state="pruned", folds=(0.1,), score=0.1), scored(0.5), scored(0.6)])

    assert len(one.ask(4)) == 4


def test_the_model_as_it_is_counts_where_it_lies_within_the_space() -> None:
    space = {"rate": ParameterRange(between=(0.0, 10.0))}
    tried: list[tuple[Parameters, int]] = [({"rate": 1.0}, 1), ({"rate": 11.0}, 0), ({"rate": True}, 0), ({}, 0)]
    for parameters, known in tried:
        one = sampler(space)

        one.tell_base(parameters, scored(0.9))

        assert len(one.told) == known


def test_a_space_of_whole_numbers_and_choices_has_a_size() -> None:
    assert sampler({name: SPACE[name] for name in ("depth", "kind")}).size == 16
    assert sampler().size is None
