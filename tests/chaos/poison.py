"""Records that no service can process, for every topic that a service consumes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.chaos.topics import Log, Record

TOO_LARGE_BYTES = 5_000_000
ASIDE = "aside"
"""A loop for records of a revision that is never applied."""
CONSUMED = (
    "ingest.event_received.v1",
    "ingest.label_received.v1",
    "serving.observation_received.v1",
    "serving.prediction_made.v1",
    "serving.version_state.v1",
    "feature.features_computed.v1",
    "feature.entity_state.v1",
    "feature.label_joined.v1",
    "feature.outcome_observed.v1",
    "monitoring.drift_detected.v1",
    "monitoring.evaluation_updated.v1",
    "training.run_requested.v1",
    "training.run_finished.v1",
    "training.line_failed.v1",
    "training.model_trained.v1",
    "training.challenge_updated.v1",
    "registry.decided.v1",
    "registry.loop_state.v1",
    "ingest.dead_letter.v1",
)
WAITED_FOR = (
    "ingest.event_received.v1",
    "ingest.label_received.v1",
    "serving.observation_received.v1",
    "serving.prediction_made.v1",
    "feature.features_computed.v1",
)
"""Topics whose consumers wait for the revision of a record, and then give up."""


def poison(log: Log, loop: str) -> Iterator[tuple[str, Record]]:
    """Topic and record; the broken events are made from the loop's last record on the topic."""
    for topic in CONSUMED:
        last = [*log.of(topic, loop)][-1:]
        key = last[0].key if last else loop.encode()
        wrong: list[Any] = [b"\xff\x00 not json", b'{"half": ', b"[1, 2]", b"null", b"5" * 50]
        wrong += [{"loop": loop, "type": topic, "data": 7}, {"loop": loop, "type": "of.no_service.v1", "data": {}}]
        wrong += [b"x" * TOO_LARGE_BYTES]
        for record in last:
            wrong += list(_broken(record.event, topic))
        for value in wrong:
            raw = value if isinstance(value, bytes) else json.dumps(value).encode()
            yield topic, Record(0, 0, key, raw, {})


def _broken(event: dict[str, Any], topic: str) -> Iterator[dict[str, Any]]:
    yield {**event, "id": "poison-shape", "data": {}}
    yield {**event, "id": "poison-time", "time": "yesterday"}
    yield {**event, "id": "x" * 300}
    if topic in WAITED_FOR:
        yield {**event, "id": f"poison-loop-{topic}", "loop": "nowhere"}
        yield {**event, "id": f"poison-revision-{topic}", "loop": ASIDE, "revision": 99}
