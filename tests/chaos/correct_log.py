"""A log and a journal without findings, for the tests of the checker to change."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import yaml
from tests.chaos.check_features import check_features
from tests.chaos.check_ids import check_duplicates, check_ids
from tests.chaos.check_learning import check_evaluations, check_learning
from tests.chaos.findings import Findings
from tests.chaos.journal import Journal, SentLabel, SentObservation
from tests.chaos.topics import Log, Record

from everloop_features import compile_features
from everloop_schemas.loop import LoopSpec

SPEC = LoopSpec.model_validate(
    yaml.safe_load("""
loop: l
task: binary
schema: {x: {type: number}}
features: [{fields: all}, {name: mean, mean: x, over: 3 events}]
models: [{preset: logistic}]
""")
)
TIME = "2026-01-01T00:00:00+00:00"


def put(log: Log, topic: str, id: str, data: dict[str, Any], subject: str = "", **more: Any) -> None:
    event = {"id": id, "subject": subject or id, "loop": "l", "time": TIME, "type": topic, "data": data, **more}
    records = log.records[topic]
    records.append(Record(0, len(records), b"", json.dumps(event).encode(), event))


def change(log: Log, topic: str, at: int, **values: Any) -> None:
    log.records[topic][at].event["data"].update(values)


def correct_log() -> tuple[Log, Journal]:
    """Four observations of one entity, alternately by stream and REST, each predicted and labelled true."""
    log, journal, plan = Log(), Journal(), compile_features(SPEC)
    state: dict[str, Any] = {}
    for i in range(4):
        name, via, fields = f"p{i}", "stream" if i % 2 == 0 else "rest", {"x": i / 7}
        state, features = plan.apply(state, fields, datetime.fromisoformat(TIME))
        seen = {"entity": "e", "fields": fields, "received": TIME}
        made = {"entity": "e", "features": features, "prediction": False, "version": "0", "role": "baseline"}
        made |= {"propensity": 1.0, "shadows": [], "door": via, "observed": TIME}
        if via == "stream":
            put(log, "ingest.event_received.v1", name, seen, "e")
            vector = {"prediction_id": name, "entity": "e", "features": features}
            put(log, "feature.features_computed.v1", f"v{i}", vector, "e")
        else:
            put(log, "serving.observation_received.v1", name, seen, "e")
        put(log, "serving.prediction_made.v1", f"m{i}", made, name)
        put(log, "ingest.label_received.v1", f"w{i}", {"kind": "label", "label": True}, name)
        outcome = {**made, "prediction_id": name, "label": True, "correction": 0, "kind": "label"}
        put(log, "feature.outcome_observed.v1", f"o{i}", outcome, name)
        label = SentLabel("label", {"id": name, "label": True}, acknowledged=True)
        answer = {"prediction": False, "version": "0", "role": "baseline"} if via == "rest" else None
        journal.add(SentObservation("l", name, via, "e", fields, True, answer, [label]))  # type: ignore[arg-type]
    losses = {"0": [1.0, 0.0, 0.0, 0.0]}
    put(log, "training.challenge_updated.v1", "c", {"offsets": [0, 1, 2, 3], "losses": losses})
    put(log, "monitoring.evaluation_updated.v1", "e", {"offsets": [0, 1, 2, 3], "losses": {"0": [1.0] * 4}})
    return log, journal


def claims_found(log: Log, journal: Journal) -> set[str]:
    findings = Findings()
    check_duplicates(log, findings)
    check_ids(log, journal, "l", findings)
    check_features(log, "l", SPEC, findings)
    check_learning(log, "l", SPEC, findings)
    check_evaluations(log, "l", findings)
    return set(findings.by_claim())
