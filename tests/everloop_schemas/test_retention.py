"""How long topics are kept, as an operator writes it."""

from __future__ import annotations

import pytest

from everloop_schemas.catalogue import TOPICS
from everloop_schemas.envelope import DAY_MS, FOREVER
from everloop_schemas.retention import is_record, parse_retention
from everloop_shared.errors import Misconfigured
from everloop_shared.settings import Settings


def test_topics_have_their_durations_in_days_years_or_for_ever() -> None:
    text = " serving.prediction_made.v1=14d, feature.outcome_observed.v1 = 3y,ingest.event_received.v1=forever,"

    found = parse_retention(text)

    assert found == {
        "serving.prediction_made.v1": 14 * DAY_MS,
        "feature.outcome_observed.v1": 3 * 365 * DAY_MS,
        "ingest.event_received.v1": FOREVER,
    }
    assert parse_retention("") == {}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("serving.predictions.v1=14d", "is no topic of Everloop"),
        ("serving.prediction_made.v1", "has no duration"),
        ("serving.prediction_made.v1=12h", "is too short"),
        ("serving.prediction_made.v1=soon", "write a duration"),
        ("serving.prediction_made.v1=14d,serving.prediction_made.v1=15d", "named twice"),
        ("registry.decided.v1=3y", "rebuilds and audits read all of it"),
        ("registry.entity_erased.v1=3y", "rebuilds and audits read all of it"),
        ("feature.entity_state.v1=3y", "rebuilds and audits read all of it"),
    ],
)
def test_what_cannot_be_kept_so_is_refused_when_a_service_starts(text: str, named: str) -> None:
    with pytest.raises(Misconfigured, match="EVERLOOP_FEATURE_RETENTION.*" + named):
        Settings.load("feature", {"EVERLOOP_RETENTION": text})


def test_what_audits_and_rebuilds_read_is_the_record_and_outcomes_are_not() -> None:
    record = {name for name, topic in TOPICS.items() if is_record(topic)}

    assert {"registry.decided.v1", "registry.loop_state.v1", "training.run_requested.v1"} <= record
    assert {"feature.entity_erased.v1", "training.model_trained.v1", "registry.run_logged.v1"} <= record
    assert not {"feature.outcome_observed.v1", "serving.prediction_made.v1", "monitoring.alert_raised.v1"} & record
