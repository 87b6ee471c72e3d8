"""Quality is measured for every group, over all outcomes and the last ones, and corrections change it exactly."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace
from pydantic import TypeAdapter
from tests.builders.events import outcome_data
from tests.builders.loops import loop_spec
from tests.monitoring.quality_log import SeenLog, other_label, quality_log, watched_spec

from everloop_learning.version import line_of
from everloop_metrics import metric_input, score_of
from everloop_monitoring.domain.quality.groups import MAX_NAMED
from everloop_monitoring.domain.quality.watch import QualityWatch
from everloop_schemas.feature import OutcomeObservedData
from everloop_schemas.loop import METRICS
from everloop_schemas.serving import Shadow

TASKS = tuple(METRICS)
NEAR = {"roc_auc": 0.01, "pr_auc": 0.01}
"""Odds are counted in steps of 13 %."""


def scores(task: str, log: list[OutcomeObservedData]) -> dict[str, Any]:
    found = {}
    for metric in METRICS[task]:
        score = score_of(
            metric,
            [metric_input(metric, o.label, o.prediction, o.probabilities) for o in log if o.label is not None],
        )
        found[metric] = None if score is None else pytest.approx(score, abs=NEAR.get(metric, 1e-6))
    return found


@pytest.mark.parametrize("task", TASKS)
def test_each_group_has_every_metric_over_all_its_outcomes_and_over_the_last_ones(task: str) -> None:
    log = quality_log(task, 600)

    seen = SeenLog(watched_spec(task)).add(*log)

    def expect(group: dict[str, Any], whole: list[OutcomeObservedData], rolling: list[OutcomeObservedData]) -> None:
        assert (group["outcomes"], group["rolling_outcomes"]) == (len(whole), len(rolling))
        assert (group["whole"], group["rolling"]) == (scores(task, whole), scores(task, rolling))

    lately = log[-500:]
    expect(seen.group("served", "served"), log, lately)
    for role in ("champion", "canary"):
        expect(seen.group("role", role), *([o for o in part if o.role == role] for part in (log, lately)))
    for line in ("a-1", "b-1"):
        served = [[o for o in part if line_of(o.version) == line] for part in (log, lately)]
        expect(seen.group("line", line), *served)
    for plan in "xyz":
        of_plan = [[o for o in part if o.features["plan"] == plan] for part in (log, lately)]
        expect(seen.group("slice", plan, "plan"), *of_plan)
    expect(seen.group("version", "a-1@0"), [o for o in log if o.version == "a-1@0"], [])


def test_a_shadow_is_measured_by_its_own_predictions() -> None:
    log = quality_log("binary", 300)
    shadows = [replace(o, prediction=o.shadows[0].prediction, probabilities=o.shadows[0].probabilities) for o in log]

    seen = SeenLog(watched_spec()).add(*log)

    for by, name in (("role", "shadow"), ("line", "c-1"), ("version", "c-1@7")):
        assert seen.group(by, name)["whole"] == scores("binary", shadows)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("seed", range(2))
def test_corrections_in_any_order_leave_what_a_recount_gives(task: str, seed: int) -> None:
    rng, log, spec = Random(seed), quality_log(task, 300, seed), watched_spec(task)
    seen = SeenLog(spec)
    wrong: list[OutcomeObservedData] = []
    for right in log:
        first = (
            None
            if rng.random() < 0.1
            else other_label(task, right.label or 0, rng)
            if rng.random() < 0.4
            else right.label
        )
        seen.add(replace(right, label=first))
        if first != right.label:
            wrong.append(replace(right, correction=1))
        if wrong and rng.random() < 0.3:
            seen.add(wrong.pop(rng.randrange(len(wrong))))
    seen.add(*rng.sample(wrong, len(wrong)))

    recount = SeenLog(spec).add(*log)

    def content(of: SeenLog) -> list[dict[str, Any]]:
        return [{k: v for k, v in g.items() if not k.startswith("rolling")} for g in of.quality()["groups"]]

    assert content(seen) == content(recount)
    assert seen.quality()["labels"]["corrected"] > 0


def test_a_correction_changes_what_is_rolling_too() -> None:
    log, spec = quality_log("binary", 520), watched_spec()
    seen = SeenLog(spec).add(*(replace(o, label=not o.label) for o in log))

    seen.add(*(replace(o, correction=1) for o in reversed(log)))

    assert seen.quality()["groups"] == SeenLog(spec).add(*log).quality()["groups"]


def test_numbers_are_cut_into_ranges_after_two_hundred_and_no_outcome_is_lost() -> None:
    log = quality_log("binary", 900)

    seen = SeenLog(watched_spec()).add(*log)

    sizes = [g for g in seen.quality()["groups"] if g.get("slice") == "size"]
    assert len(sizes) == 5
    assert sum(g["outcomes"] for g in sizes) == 900
    assert sum(g["rolling_outcomes"] for g in sizes) == 500
    assert min(g["outcomes"] for g in sizes) > 100


def test_the_confusion_matrix_and_the_reliability_curve_count_every_outcome() -> None:
    log = quality_log("multiclass", 400)

    group = SeenLog(watched_spec("multiclass")).add(*log).group("served", "served")

    table = group["confusion"]
    for i, label in enumerate(table["classes"]):
        for j, value in enumerate(table["classes"]):
            assert table["counts"][i][j] == sum((o.label, o.prediction) == (label, value) for o in log)
    assert sum(one["n"] for one in group["reliability"]) == 400
    assert all(one["from"] <= one["predicted"] <= one["to"] for one in group["reliability"])


def test_the_interval_of_a_metric_contains_it() -> None:
    for task, named in (("binary", {"accuracy", "brier", "log_loss", "precision", "recall"}), ("regression", {"mae"})):
        group = SeenLog(watched_spec(task)).add(*quality_log(task, 500)).group("served", "served")

        assert set(group["interval"]) == named
        for metric, (low, high) in group["interval"].items():
            assert low < group["whole"][metric] < high
            assert high - low < 0.3 * max(1.0, group["whole"][metric])


def test_baselines_stand_beside_what_was_served() -> None:
    log = quality_log("binary", 500)
    labels = [bool(o.label) for o in log]
    share = sum(labels) / 500

    baselines = SeenLog(watched_spec()).add(*log).quality()["baselines"]

    same = sum(a == b for a, b in zip(labels, [False, *labels], strict=False)) / 500
    assert baselines["no_change"]["accuracy"] == pytest.approx(same)
    assert baselines["majority"]["brier"] == pytest.approx(share * (1 - share))
    assert baselines["majority"]["roc_auc"] == 0.5
    assert set(baselines["majority"]) == set(METRICS["binary"])
    regression = SeenLog(watched_spec("regression")).add(*quality_log("regression", 300)).quality()["baselines"]
    assert regression["mean"]["mae"] > 5
    assert regression["mean"]["r2"] < 0.1


def test_labels_have_their_coverage_and_delay() -> None:
    log = quality_log("binary", 400)

    labels = SeenLog(watched_spec()).add(*log).quality(predictions=1_000)["labels"]

    delays = sorted((o.labelled - o.predicted).total_seconds() for o in log)
    assert (labels["predictions"], labels["labelled"], labels["coverage"]) == (1_000, 400, 0.4)
    assert labels["delay_s"]["p50"] == pytest.approx(delays[199], rel=0.06)
    assert labels["delay_s"]["p99"] == pytest.approx(delays[395], rel=0.06)


def test_the_state_is_bounded_and_finite_whatever_records_hold() -> None:
    rng = Random(3)
    texts = ["x" * 10_000, "\0", "\t\t", "'; DROP", "😀" * 999, ""]
    seen = SeenLog(watched_spec("multiclass", label={"type": "string"}))
    for i in range(900):
        name = f"{i}{rng.choice(texts)}"
        chances = {name: 1e-300, "b" * 9_999: 1.0, "c": 0.5}
        shadows = tuple(Shadow(version=f"s{i}-{j}@1", prediction=f"{j}{i}", probabilities=chances) for j in range(3))
        features = {"plan": name, "size": rng.choice([1e308, -1e308, 5e-324, 2**63, float(i)]), "vip": None}
        seen.add(
            outcome_data(
                str(i), name, prediction=rng.choice([name, "c"]), probabilities=chances, version=f"v{i}-1@{i}",
                features=features, shadows=shadows, role="champion",
            )
        )  # fmt: skip

    state = TypeAdapter(QualityWatch).dump_json(seen.watch)
    answer = json.dumps(seen.quality(), allow_nan=False)

    groups = seen.watch.grouped.sums
    assert len(groups) <= 2 * MAX_NAMED + 4 + 3 * 21 + 3
    assert len(state) < 1_500_000
    assert len(answer) < 1_500_000
    assert TypeAdapter(QualityWatch).validate_json(state) == seen.watch


def test_a_regression_of_extreme_numbers_is_finite_and_can_be_taken_back() -> None:
    log, spec = quality_log("regression", 300), watched_spec("regression")
    seen = SeenLog(spec).add(*(replace(o, label=1.7e308 if i % 2 else -1.7e308) for i, o in enumerate(log)))
    json.dumps(seen.quality(), allow_nan=False)

    seen.add(*(replace(o, correction=1) for o in log))

    assert seen.quality()["groups"] == SeenLog(spec).add(*log).quality()["groups"]


def test_a_prediction_that_is_no_class_of_a_binary_loop_is_wrong_and_breaks_nothing() -> None:
    strange = [replace(o, prediction="x", probabilities=chances) for o in quality_log("binary", 20, seed=5)
               for chances in (None, {"x": 1.0})]  # fmt: skip
    strange = [replace(o, prediction_id=f"s{i}") for i, o in enumerate(strange)]

    group = SeenLog(watched_spec()).add(*strange, *quality_log("binary", 100)).group("served", "served")

    table = group["confusion"]
    assert table["classes"] == ["false", "true", "other"]
    assert sum(row[2] for row in table["counts"]) == 40
    assert all(0.0 <= one["predicted"] <= 1.0 for one in group["reliability"])
    assert {"precision", "recall"} <= set(group["interval"])


def test_a_version_that_is_forgotten_counts_again_from_its_return_on() -> None:
    old = outcome_data("first", True, version="a-1@1", role="champion", features={})
    others = [outcome_data(str(i), True, version=f"b-1@{i}", role="champion", features={}) for i in range(MAX_NAMED)]
    back = outcome_data("back", True, version="a-1@1", role="champion", features={})
    seen = SeenLog(watched_spec()).add(old, *others, back)

    seen.add(replace(old, label=False, correction=1), replace(back, label=False, correction=1))

    group = seen.group("version", "a-1@1")
    assert (group["outcomes"], group["whole"]["accuracy"]) == (1, 0.0)
    assert seen.group("served", "served")["outcomes"] == MAX_NAMED + 2


def test_slices_that_are_named_later_count_from_then_on() -> None:
    log, without = quality_log("binary", 200), watched_spec(monitor={"quality": True})
    seen = SeenLog(without).add(*log[:100])
    assert not [g for g in seen.quality()["groups"] if g["by"] == "slice"]

    seen.spec = watched_spec()
    seen.watch = seen.watch.follow(seen.spec)
    seen.add(*log[100:], *(replace(o, label=not o.label, correction=1) for o in log))

    plans = [g for g in seen.quality()["groups"] if g.get("slice") == "plan"]
    assert sum(g["outcomes"] for g in plans) == 100
    assert seen.group("served", "served")["outcomes"] == 200


def test_it_is_off_unless_the_spec_asks_for_it() -> None:
    specs = [loop_spec(), watched_spec(), watched_spec(monitor={"quality": True})]

    assert [QualityWatch.is_on(spec) for spec in specs] == [False, True, True]
