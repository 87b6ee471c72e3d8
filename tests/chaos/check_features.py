"""Feature values follow from the log, bit for bit: there is one order of an entity's inputs that explains all of them.

See decision 0090 for what a fair replay is.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests.chaos.check_ids import EVENTS, MADE, OBSERVED
from tests.chaos.findings import Findings
from tests.chaos.topics import Log, Record

from everloop_features import FeaturePlan, compile_features
from everloop_schemas.loop import LoopSpec

COMPUTED, STATES, JOINED = "feature.features_computed.v1", "feature.entity_state.v1", "feature.label_joined.v1"
STEPS = 200_000
State = dict[str, Any]


@dataclass
class Inputs:
    """What moves one entity: three sequences, each in its order; their interleaving is feature's to decide."""

    events: list[Record] = field(default_factory=list)
    asked: list[Record] = field(default_factory=list)
    labels: list[Record] = field(default_factory=list)


@dataclass
class Told:
    """What was published of one entity: vectors by prediction id, and states by the input that led to them."""

    vectors: dict[str, dict[str, Any]] = field(default_factory=dict)
    states: dict[str, tuple[int, State]] = field(default_factory=dict)


def check_features(log: Log, loop: str, spec: LoopSpec, findings: Findings) -> None:
    """The vectors of the stream door and the states, then what REST predictions used."""
    plan = compile_features(spec)
    told, inputs = _told(log, loop), _inputs(log, loop)
    made = log.first(MADE, loop, "subject")
    for record in log.of(COMPUTED, loop):
        prediction = made.get(record.data["prediction_id"])
        same = prediction is not None and prediction.data["features"] == record.data["features"]
        rest = prediction is not None and prediction.data["door"] == "rest"
        findings.expect("a prediction uses the vector on the log", same or rest, record.data["prediction_id"])
    for entity, given in sorted(inputs.items()):
        missing = [r.event["id"] for r in given.events if r.event["id"] not in told[entity].vectors]
        findings.expect("every observation has a vector", not missing, f"{loop}/{entity}: {missing[:9]}")
        path, best = explain(plan, given, told[entity])
        findings.expect("vectors equal a replay of the inputs", path is not None, f"{loop}/{entity}: {best}")
        if path is not None:
            _check_rest(plan, loop, entity, path, given, made, findings)


def _inputs(log: Log, loop: str) -> dict[str, Inputs]:
    found: dict[str, Inputs] = defaultdict(Inputs)
    seen = set[str]()
    for topic, of in ((EVENTS, "events"), (OBSERVED, "asked"), (JOINED, "labels")):
        for record in log.of(topic, loop):
            if (mark := f"{of == 'labels'}/{record.event['id']}") not in seen:
                seen.add(mark)
                getattr(found[record.data["entity"]], of).append(record)
    return found


def _told(log: Log, loop: str) -> dict[str, Told]:
    found: dict[str, Told] = defaultdict(Told)
    for record in log.of(COMPUTED, loop):
        found[record.data["entity"]].vectors.setdefault(record.data["prediction_id"], record.data["features"])
    for record in log.of(STATES, loop):
        state = (record.data["applied"], record.data["state"])
        found[record.data["entity"]].states.setdefault(record.event["causationid"], state)
    return found


def explain(plan: FeaturePlan, given: Inputs, told: Told) -> tuple[list[State] | None, str]:
    """The states of an entity along an order of its inputs that leads to all that was told; else how far it goes.

    A search over (events, asked, labels) done so far: an input whose own vector or state was told must lead to it.
    """
    stack: list[tuple[tuple[int, int, int], State]] = [((0, 0, 0), {})]
    path, tried, best = list[State](), set[str](), ((0, 0, 0), "nothing was tried")
    ends = (len(given.events), len(given.asked), len(given.labels))
    for _ in range(STEPS):
        if not stack:
            return None, f"after {best[0]} of {ends} (events, asked, labels): {best[1]}"
        at, state = stack.pop()
        mark = f"{at} {json.dumps(state, sort_keys=True)}"
        if mark in tried:
            continue
        tried.add(mark)
        del path[sum(at) :]
        path.append(state)
        if at == ends:
            return path, ""
        follow, why = _next(plan, given, told, at, state)
        if at >= best[0]:
            best = (at, why)
        stack += reversed(follow)
    return None, f"no order found in {STEPS} steps; as far as {best[0]} of {ends}: {best[1]}"


def _next(
    plan: FeaturePlan, given: Inputs, told: Told, at: tuple[int, int, int], state: State
) -> tuple[list[tuple[tuple[int, int, int], State]], str]:
    """Where one more input can lead, and why others cannot."""
    e, a, w = at
    found, why = list[tuple[tuple[int, int, int], State]](), list[str]()
    for where, record in (
        ((e + 1, a, w), given.events[e] if e < len(given.events) else None),
        ((e, a, w + 1), given.labels[w] if w < len(given.labels) else None),
        ((e, a + 1, w), given.asked[a] if a < len(given.asked) else None),
    ):
        if record is None:
            continue
        after, features = _apply(plan, record, state)
        wrong = _contradicts(record, after, features, e + a + (where[2] == w), told)
        why += [f"{record.event['id']} {wrong}"] if wrong else []
        found += [] if wrong else [(where, after)]
    return found, "; ".join(why)


def _apply(plan: FeaturePlan, record: Record, state: State) -> tuple[State, dict[str, Any] | None]:
    if "label" in record.data:
        observed = datetime.fromisoformat(record.data.get("observed") or record.event["time"])
        return json.loads(
            json.dumps(plan.with_label(state, record.data["label"], observed, record.data["correction"]))
        ), None
    after, features = plan.apply(state, record.data["fields"], datetime.fromisoformat(record.event["time"]))
    return json.loads(json.dumps(after)), features


def _contradicts(record: Record, after: State, features: Any, applied: int, told: Told) -> str:
    name = record.event["id"]
    if features is not None and (vector := told.vectors.get(name)) is not None and vector != features:
        return f"has {vector}, this order gives {features}"
    known = told.states.get(name)
    if known is not None and known != (applied, after):
        return f"left the state {known}, this order gives {(applied, after)}"
    return ""


def _check_rest(
    plan: FeaturePlan,
    loop: str,
    entity: str,
    path: list[State],
    given: Inputs,
    made: dict[str, Record],
    findings: Findings,
) -> None:
    """A REST prediction used a state of the entity, or its own last one, moved on by the observation before."""
    own: list[State] = []
    for record in given.asked:
        prediction = made.get(record.event["id"])
        if prediction is None or prediction.data["door"] != "rest":
            continue
        used = prediction.data["features"]
        mine = [after for after, features in (_apply(plan, record, state) for state in own) if features == used]
        told = [after for after, features in (_apply(plan, record, state) for state in path) if features == used]
        findings.expect("REST features equal a replay", mine or told, f"{loop}/{entity} {record.event['id']}: {used}")
        findings.figures["REST predictions ahead of the feature service's word"] += not told
        own = mine + told
