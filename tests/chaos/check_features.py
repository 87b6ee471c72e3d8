"""Feature values follow from the log, bit for bit: there is one order of an entity's inputs that explains all of them.

Decision 0090 defines a fair replay.
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
MAX_STEPS = 200_000
State = dict[str, Any]


@dataclass
class Inputs:
    """The inputs of one entity: three sequences, each in its order; feature decides how they interleave."""

    events: list[Record] = field(default_factory=list)
    rest: list[Record] = field(default_factory=list)
    labels: list[Record] = field(default_factory=list)


@dataclass
class Published:
    """The published results of one entity: vectors by prediction id, and states by the input that led to them."""

    vectors: dict[str, dict[str, Any]] = field(default_factory=dict)
    states: dict[str, tuple[int, State]] = field(default_factory=dict)


def check_features(log: Log, loop: str, spec: LoopSpec, findings: Findings) -> None:
    """The vectors of the stream and the states, then the features that REST predictions used."""
    plan = compile_features(spec)
    published, inputs = _published(log, loop), _inputs(log, loop)
    made = log.first(MADE, loop, "subject")
    for record in log.of(COMPUTED, loop):
        prediction = made.get(record.data["prediction_id"])
        same = prediction is not None and prediction.data["features"] == record.data["features"]
        by_rest = prediction is not None and prediction.data["door"] == "rest"
        findings.expect("a prediction uses the vector on the log", same or by_rest, record.data["prediction_id"])
    for entity, given in sorted(inputs.items()):
        missing = [r.event["id"] for r in given.events if r.event["id"] not in published[entity].vectors]
        findings.expect("every observation has a vector", not missing, f"{loop}/{entity}: {missing[:9]}")
        path, best = explain(plan, given, published[entity])
        findings.expect("vectors equal a replay of the inputs", path is not None, f"{loop}/{entity}: {best}")
        if path is not None:
            _check_rest(plan, loop, entity, path, given, made, findings)


def _inputs(log: Log, loop: str) -> dict[str, Inputs]:
    found: dict[str, Inputs] = defaultdict(Inputs)
    seen = set[str]()
    for topic, of in ((EVENTS, "events"), (OBSERVED, "rest"), (JOINED, "labels")):
        for record in log.of(topic, loop):
            if (mark := f"{of == 'labels'}/{record.event['id']}") not in seen:
                seen.add(mark)
                getattr(found[record.data["entity"]], of).append(record)
    return found


def _published(log: Log, loop: str) -> dict[str, Published]:
    found: dict[str, Published] = defaultdict(Published)
    for record in log.of(COMPUTED, loop):
        found[record.data["entity"]].vectors.setdefault(record.data["prediction_id"], record.data["features"])
    for record in log.of(STATES, loop):
        state = (record.data["applied"], record.data["state"])
        found[record.data["entity"]].states.setdefault(record.event["causationid"], state)
    return found


def explain(plan: FeaturePlan, given: Inputs, published: Published) -> tuple[list[State] | None, str]:
    """The states of an entity along an order of its inputs that leads to all published results; else how far it goes.

    A search over the inputs done so far (events, rest, labels): one whose vector or state is published must give it.
    """
    stack: list[tuple[tuple[int, int, int], State]] = [((0, 0, 0), {})]
    path, tried, best = list[State](), set[str](), ((0, 0, 0), "no input was tried")
    ends = (len(given.events), len(given.rest), len(given.labels))
    for _ in range(MAX_STEPS):
        if not stack:
            return None, f"after {best[0]} of {ends} (events, rest, labels): {best[1]}"
        at, state = stack.pop()
        mark = f"{at} {json.dumps(state, sort_keys=True)}"
        if mark in tried:
            continue
        tried.add(mark)
        del path[sum(at) :]
        path.append(state)
        if at == ends:
            return path, ""
        follow, why = _next(plan, given, published, at, state)
        if at >= best[0]:
            best = (at, why)
        stack += reversed(follow)
    return None, f"no order found in {MAX_STEPS} steps; as far as {best[0]} of {ends}: {best[1]}"


def _next(
    plan: FeaturePlan, given: Inputs, published: Published, at: tuple[int, int, int], state: State
) -> tuple[list[tuple[tuple[int, int, int], State]], str]:
    """The states that one more input can lead to, and why others are excluded."""
    e, a, w = at
    found, why = list[tuple[tuple[int, int, int], State]](), list[str]()
    for where, record in (
        ((e + 1, a, w), given.events[e] if e < len(given.events) else None),
        ((e, a, w + 1), given.labels[w] if w < len(given.labels) else None),
        ((e, a + 1, w), given.rest[a] if a < len(given.rest) else None),
    ):
        if record is None:
            continue
        after, features = _apply(plan, record, state)
        wrong = _contradicts(record, after, features, e + a + (where[2] == w), published)
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


def _contradicts(record: Record, after: State, features: Any, applied: int, published: Published) -> str:
    name = record.event["id"]
    if features is not None and (vector := published.vectors.get(name)) is not None and vector != features:
        return f"has {vector}, this order gives {features}"
    state = published.states.get(name)
    if state is not None and state != (applied, after):
        return f"left the state {state}, this order gives {(applied, after)}"
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
    """A REST prediction used a state of the entity, or its own last one, after the observation before it."""
    own: list[State] = []
    for record in given.rest:
        prediction = made.get(record.event["id"])
        if prediction is None or prediction.data["door"] != "rest":
            continue
        used = prediction.data["features"]
        mine = [after for after, features in (_apply(plan, record, state) for state in own) if features == used]
        on_log = [after for after, features in (_apply(plan, record, state) for state in path) if features == used]
        findings.expect("REST features equal a replay", mine or on_log, f"{loop}/{entity} {record.event['id']}: {used}")
        findings.figures["REST predictions ahead of feature's published states"] += not on_log
        own = mine + on_log
