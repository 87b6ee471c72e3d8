"""Specs of the right form that are refused: values that would break something later."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.registry.spec_refusals import AMOUNT, BINARY, DIGITS, MANY, errors_of

from everloop_registry.domain.spec_file import read_spec
from everloop_registry.domain.spec_rules import UNSUPPORTED
from everloop_schemas.loop import LoopSpec

OBJECTIVES = BINARY + "monitor: {objectives: {"
RULE = BINARY + "alerts: [{alert: low, when: "


@pytest.mark.parametrize(
    ("text", "field", "says"),
    [
        (BINARY + "refresh: {every: 0}", "refresh.every", "1 outcome at least"),
        (BINARY + "refresh: {every: 0 outcomes}", "refresh.every", "1 outcome at least"),
        (BINARY + f"refresh: {{every: '{DIGITS}'}}", "refresh.every", "up to 10,000,000"),
        (BINARY + f"refresh: {{every: {DIGITS}}}", "refresh.every", "64 bits"),
        (BINARY + "refresh: {every: -5}", "refresh.every", "whole number"),
        (BINARY + "rollout: {approval: required}", "rollout.approval", "before_champion"),
        (BINARY + "rollout: {approvals: 2}", "rollout.approvals", "needs rollout.approval"),
        (BINARY + "rollout: {approval_within: 3d}", "rollout.approval_within", "needs rollout.approval"),
        (BINARY + "rollout: {approval: before_canary, approvals: 11}", "rollout.approvals", "10"),
        (
            BINARY + "rollout: {approval: before_canary, approval_within: 9999d}",
            "rollout.approval_within",
            "3,650 days",
        ),
        (BINARY + "label: {within: 9999999d}", "label.within", "3,650 days"),
        (BINARY + f"label: {{within: {DIGITS}d}}", "label.within", "3,650 days"),
        (BINARY + "label: {within: 0.0000001ms}", "label.within", "1 ms"),
        (BINARY + "label: {within: 1:30}", "label.within", "7d"),
        (BINARY + "features: [{name: m, mean: x, over: 9999999d}]", "features.0.over", "3,650 days"),
        (BINARY + f"features: [{{name: m, mean: x, over: {DIGITS}h}}]", "features.0.over", "3,650 days"),
        (BINARY + f"features: [{{name: m, mean: x, over: {DIGITS} events}}]", "features.0", "whole number"),
        (BINARY + "monitor: {drift: [y]}", "monitor.drift.0", "there is no feature y"),
        (BINARY + "retrain: {on_data_drift: true}", "retrain.on_data_drift", "needs monitor.drift"),
        (BINARY + "monitor: {drift: [x, x]}", "monitor.drift", "names a feature twice"),
        (BINARY + "monitor: {drift: []}", "monitor.drift", "name features, or write all or none"),
        (BINARY + "monitor: {drift: some}", "monitor.drift", "all"),
        (
            "loop: x\ntask: binary\nmonitor: {drift: all}\nschema:\n"
            + "".join(f"  x{i}: {{type: number}}\n" for i in range(201)),
            "monitor.drift",
            "at most 200 of the 201 features",
        ),
        (BINARY + "monitor: {slices: [x, y]}", "monitor.slices.1", "no feature of the loop"),
        (BINARY + "monitor: {slices: [x, x]}", "monitor.slices.1", "twice"),
        (BINARY + "monitor: {slices: [a, b, c, d, e, f]}", "monitor.slices", "at most 5"),
        (BINARY + "monitor: {latency_p99: 31d}", "monitor.latency_p99", "30 days"),
        (BINARY + f"monitor: {{latency_p99: {DIGITS}ms}}", "monitor.latency_p99", "30 days"),
        (OBJECTIVES + "prediction: {within: 0.1ms}}}", "monitor.objectives.prediction.within", "1 ms"),
        (OBJECTIVES + "learned: {within: 99d}}}", "monitor.objectives.learned.within", "30 days"),
        (OBJECTIVES + "recovered: {within: 1d, share: 0.9999999}}}", "monitor.objectives.recovered.share", "no budget"),
        (RULE + "rmse > 3}]", "alerts.0.when", "no metric of a binary loop; use accuracy"),
        (RULE + "accuracy < 80}]", "alerts.0.when", "between 0 and 1"),
        (RULE + "fairness.y.equal_opportunity > 0.1}]", "alerts.0.when", "add y to monitor.fairness"),
        (RULE + "accuracy < 0.8, for: 0 outcomes}]", "alerts.0.for", "1 outcome at least"),
        (RULE + "accuracy < 0.8, for: 9999d}]", "alerts.0.for", "3,650 days"),
        (RULE + "f1 < 0.8}, {alert: low, when: f1 < 0.7}]", "alerts.1.alert", "low is there twice"),
        (BINARY + "expect: [{field: y, between: [0, 1]}]", "expect.0.field", "there is no field y"),
        (BINARY + "expect: [{field: x, one_of: [a]}]", "expect.0.one_of", "is not a number"),
        (BINARY + "expect: [{field: x, present: true}]", "expect.0.present", "missing: null"),
        (BINARY + "expect: [{field: x, between: [1, 0]}]", "expect.0", "first number"),
        (BINARY + "expect: [{field: x, between: [0, 1], share: 0}]", "expect.0.share", "up to 100 %"),
        (BINARY + "expect: [{field: x, between: [0, 1], share: 101%}]", "expect.0.share", "up to 100 %"),
        (BINARY + "expect: [{field: x}]", "expect.0", "exactly one of"),
        (BINARY + "  y: {type: string}\nexpect: [{field: y, between: [0, 1]}]", "expect.0.between", "is for numbers"),
        (
            BINARY + "expect: [{field: x, between: [0, 1]}, {field: x, between: [0, 2]}]",
            "expect.1.between",
            "already",
        ),
        (BINARY + "retrain: {below: 75}", "retrain.below", "between 0 and 1 for accuracy"),
        (BINARY + "retrain: {below: 1}", "retrain.below", "between 0 and 1"),
        (BINARY + "retrain: {below: 0}", "retrain.below", "between 0 and 1"),
        (BINARY + "metric: f1\nretrain: {below: 90}", "retrain.below", "between 0 and 1 for f1"),
        (BINARY + "metric: roc_auc\nretrain: {below: -0.1}", "retrain.below", "between 0 and 1 for roc_auc"),
        (BINARY + "metric: log_loss\nretrain: {below: -1}", "retrain.below", "above 0 for log_loss"),
        (AMOUNT + "metric: r2\nretrain: {below: 1.5}", "retrain.below", "below 1 for r2"),
        (AMOUNT + "retrain: {below: 0}", "retrain.below", "above 0 for mae"),
        (BINARY + f"retrain: {{cooldown: '{DIGITS}'}}", "retrain.cooldown", "up to 10,000,000"),
        (BINARY + "retrain: {on_labels: 99999999999}", "retrain.on_labels", "at most 10,000,000"),
        (BINARY + "retrain: {on_feedback: 99999999999}", "retrain.on_feedback", "at most 10,000,000"),
        (BINARY + f"gate: {{min_outcomes: '{DIGITS}'}}", "gate.min_outcomes", "up to 10,000,000"),
        (BINARY + "gate: {confidence: 0.99999999}", "gate.confidence", "at most 0.9999"),
        (BINARY + "rollout: {canary: [0.000001%, 50%]}", "rollout.canary", "below 0.1%"),
        (BINARY + f"rollout: {{canary: [{', '.join(f'{i / 100}' for i in range(1, 60))}]}}", "rollout.canary", "59"),
        (BINARY + f"rollout: {{shadow: {'0' * 50}{DIGITS}}}", "rollout.shadow", "64 bits"),
        (BINARY + f"rollout: {{step: '{DIGITS} outcomes'}}", "rollout.step", "up to 10,000,000"),
    ],
)
def test_a_value_that_would_break_something_later_is_refused_by_field(text: str, field: str, says: str) -> None:
    found = errors_of(text)

    assert list(found) == [field]
    assert says in found[field]


@pytest.mark.parametrize(("path", "value"), [("rollout.later", "required"), ("rollout.later", None)])
def test_a_field_that_does_not_work_yet_is_refused_beside_the_other_mistakes(
    monkeypatch: pytest.MonkeyPatch, path: str, value: object
) -> None:
    monkeypatch.setitem(UNSUPPORTED, path, ("none", "nothing happens later"))
    part, _, name = path.partition(".")
    body = {"loop": "x", "task": "binary", "schema": {"x": {"type": "number"}}, part: {name: value}}

    alone = errors_of(json.dumps(body), is_json=True)
    beside_another_type = errors_of(json.dumps({**body, "gate": {"confidence": 2}}), is_json=True)
    beside_another_rule = errors_of(json.dumps({**body, "gate": {"confidence": 0.99999}}), is_json=True)

    assert list(alone) == [path]
    assert alone[path].startswith("does not work yet: ")
    assert alone[path].endswith("; remove it")
    assert set(beside_another_type) == set(beside_another_rule) == {path, "gate.confidence"}


def test_a_field_that_does_not_work_yet_may_say_what_happens_anyway() -> None:
    text = BINARY + "rollout: {approval: none}\nmonitor: {slices: [], fairness: [], latency_p99: null}"

    assert read_spec(text.encode(), is_json=False) == read_spec(BINARY.encode(), is_json=False)


@pytest.mark.parametrize(
    "cron",
    [
        "0-9999999 * * * *",
        "0-9999999999 * * * *",
        "* 0-9999999999 * * *",
        "* * 1-99999999999 * *",
        "* * * * 0-99999999999",
        "0/0 * * * *",
        "*/0 * * * *",
        "99999999999 * * * *",
        f"{DIGITS} * * * *",
        f"*/{DIGITS} * * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 8",
        "5-1 * * * *",
        "0 0 30 2 *",
        "0 0 31 4,6,9,11 *",
        "-1 * * * *",
        "1,,2 * * * *",
        "٣ * * * *",
        "* * * *",
        "@daily",
        ",".join(["0"] * 50_000) + " * * * *",
        "0-59," * 20_000 + "0 * * * *",
    ],
)
def test_an_invalid_schedule_is_refused_at_once(cron: str) -> None:
    assert list(errors_of(f'{BINARY}retrain: {{on_schedule: "{cron}"}}')) == ["retrain.on_schedule"]


@pytest.mark.parametrize("cron", ["0 3 * * *", "*/15 9-17 * * 1-5", "0 0 29 2 *", "5/20 0,12 1-7 * 7", "0 0 13 * 5"])
def test_a_schedule_that_fires_is_accepted(cron: str) -> None:
    assert read_spec(f'{BINARY}retrain: {{on_schedule: "{cron}"}}'.encode(), is_json=False).retrain.on_schedule == cron


@pytest.mark.parametrize(
    ("field", "says"),
    [
        ("{type: string, enum: [1, 2]}", "not a string"),
        ("{type: string, enum: [true, false]}", "has true, which is not a string"),
        ("{type: string, enum: [a, 1]}", "not a string"),
        ("{type: string, enum: []}", "empty"),
        ("{type: string, enum: ['']}", "empty"),
        ("{type: string, enum: [a, b, a]}", "twice"),
        ("{type: string, enum: [A1B2, 010]}", "not a string"),
        (f"{{type: string, enum: [{'a' * 300}]}}", "over 256"),
        ('{type: string, enum: ["a\\tb"]}', "control characters"),
        ("{type: number, enum: [a, b]}", "not a number"),
        ("{type: number, enum: [true]}", "not a number"),
        ("{type: number, enum: [1, 1.0]}", "twice"),
        ("{type: number, min: 5, enum: [1, 2]}", "outside min and max"),
        ("{type: number, max: 1, enum: [1, 2]}", "outside min and max"),
        ("{type: integer, min: 5, enum: [1, 2]}", "outside min and max"),
        ("{type: integer, enum: [1.5]}", "not an integer"),
        ("{type: integer, enum: [1.0]}", "not an integer"),
        ("{type: integer, enum: [true, 2]}", "not an integer"),
        ("{type: boolean, enum: [1, 0]}", "not a boolean"),
        ("{type: boolean, enum: [yes, no]}", "not a boolean"),
        (f"{{type: integer, enum: [{', '.join(map(str, range(1001)))}]}}", "at most 1,000"),
    ],
)
def test_an_enum_that_no_value_can_meet_is_refused(field: str, says: str) -> None:
    found = errors_of(f"{BINARY}  c: {field}")

    assert list(found) == ["schema.c.enum"]
    assert says in found["schema.c.enum"]


@pytest.mark.parametrize(
    ("field", "enum"),
    [
        ("{type: string, enum: [NO, SE]}", ("NO", "SE")),
        ("{type: string, enum: [yes, no, on, off]}", ("yes", "no", "on", "off")),
        ("{type: string, enum: [1:30, 2024-01-01]}", ("1:30", "2024-01-01")),
        ("{type: number, enum: [1, 2.5]}", (1, 2.5)),
        ("{type: integer, min: 0, max: 2, enum: [0, 1, 2]}", (0, 1, 2)),
        ("{type: boolean, enum: [true]}", (True,)),
    ],
)
def test_an_enum_that_values_meet_is_accepted_as_it_stands(field: str, enum: tuple[object, ...]) -> None:
    found = read_spec(f"{BINARY}  c: {field}".encode(), is_json=False).fields["c"].enum

    assert found == enum
    assert [type(v) for v in found or ()] == [type(v) for v in enum]


@pytest.mark.parametrize(
    ("bounds", "path"),
    [
        ("{type: integer, min: 0.2, max: 0.8}", "schema.c.min"),
        ("{type: integer, min: 1.0e19}", "schema.c.min"),
        ("{type: integer, max: -1.0e+30}", "schema.c.min"),
        ("{type: number, min: 2, max: 1}", "schema.c"),
        (f"{{type: number, min: {DIGITS}}}", "schema.c.min"),
        ("{type: number, max: 1e999}", "schema.c.max"),
        ("{type: string, min: 1}", "schema.c"),
    ],
)
def test_bounds_that_leave_no_value_are_refused(bounds: str, path: str) -> None:
    assert list(errors_of(f"{BINARY}  c: {bounds}")) == [path]


@pytest.mark.parametrize(
    ("classes", "says"),
    [
        ("['1', 1, true]", "not a string"),
        ("[1, true]", "not a string"),
        ("[1.5, 2.5]", "not a string"),
        ("[a, b, a]", "twice"),
        ("[a]", "one class"),
        ("[]", "empty"),
        ("['', b]", "empty"),
        ('["a\\nb", c]', "control characters"),
        (f"[{', '.join(f'c{i}' for i in range(1001))}]", "at most 1,000"),
        (f"[{'a' * 257}, b]", "over 256"),
    ],
)
def test_invalid_classes_are_refused(classes: str, says: str) -> None:
    found = errors_of(f"{MANY}label: {{classes: {classes}}}")

    assert list(found) == ["label.classes"]
    assert says in found["label.classes"]


@pytest.mark.parametrize(("kind", "classes"), [("integer", "[a, b]"), ("string", "[1, 2]"), ("boolean", "[0, 1]")])
def test_classes_of_another_type_than_the_label_are_refused(kind: str, classes: str) -> None:
    assert list(errors_of(f"{MANY}label: {{type: {kind}, classes: {classes}}}")) == ["label.classes"]


@pytest.mark.parametrize("classes", ["[a, b]", "[1, 2, 3]", "[NO, SE]", "[true, false]"])
def test_classes_of_one_type_are_accepted(classes: str) -> None:
    assert read_spec(f"{MANY}label: {{classes: {classes}}}".encode(), is_json=False).label.classes


@pytest.mark.parametrize("task", ["[]", "{}", "null", "7", "true", '["binary"]', '"x"'])
def test_an_invalid_task_is_refused(task: str) -> None:
    assert "task" in errors_of(
        f'{{"loop": "x", "task": {task}, "schema": {{"x": {{"type": "number"}}}}}}', is_json=True
    )


OLD: list[dict[str, Any]] = [
    {"refresh": {"every": 0}},
    {"label": {"within": "9999999d"}},
    {"label": {"within": f"{DIGITS}d"}},
    {"features": [{"name": "m", "mean": "x", "over": f"{DIGITS}d"}]},
    {"retrain": {"below": 75}},
    {"retrain": {"on_schedule": "0 0 30 2 *"}},
    {"retrain": {"on_schedule": ",".join(["0"] * 500) + " * * * *"}},
    {"schema": {"x": {"type": "string", "enum": [1, 2]}}},
    {"schema": {"x": {"type": "number", "enum": []}}},
    {"schema": {"x": {"type": "integer", "min": 0.2, "max": 0.8}}},
    {"task": "multiclass", "label": {"classes": ["1", 1, True]}},
    {"models": [{"estimator": "river.forest.AMFClassifier", "n_estimators": 300_000}]},
    {"monitor": {"slices": ["x"], "fairness": ["x"], "latency_p99": "20ms"}},
]


@pytest.mark.parametrize("part", OLD)
def test_a_spec_that_an_older_release_accepted_is_refused_by_apply_but_read_back_from_the_log(
    part: dict[str, Any],
) -> None:
    body = {"loop": "x", "task": "binary", "schema": {"x": {"type": "number"}}, **part}

    spec = LoopSpec.model_validate(body)

    assert LoopSpec.model_validate_json(spec.model_dump_json(by_alias=True, exclude_none=True)) == spec
    assert spec.label.within_s <= 3650 * 86400
    assert all((f.duration_s or 0) <= 3650 * 86400 for f in spec.features)
