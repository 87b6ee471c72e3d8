"""Which drifts are the same."""

from __future__ import annotations

from everloop_schemas.envelope import derived_id
from everloop_schemas.monitoring import SERVED_ERROR, DriftDetectedData, DriftKind, drift_id


def test_two_subjects_or_kinds_at_one_offset_are_two_drifts() -> None:
    found: list[tuple[DriftKind, str]] = [
        ("data", "price"),
        ("data", "demand"),
        ("label", "price"),
        ("concept", "price"),
        ("concept", SERVED_ERROR),
    ]

    ids = {drift_id("market", kind, subject, 650) for kind, subject in found}

    assert len(ids) == len(found)


def test_a_drift_of_the_served_error_keeps_the_id_that_it_has_on_existing_logs() -> None:
    assert drift_id("market", "concept", SERVED_ERROR, 650) == derived_id("market", "monitoring.drift_detected.v1", 650)


def test_a_record_written_before_there_were_subjects_is_a_drift_of_the_served_error() -> None:
    record = (
        b'{"kind":"concept","detector":"adwin","offset":9,"change_point":8,"outcomes":9,"outcomes_since_change":1,'
        b'"error_before":0.1,"error_after":0.9,"version":"a@1"}'
    )

    drift = DriftDetectedData.model_validate_json(record)

    assert (drift.subject, drift.is_served_error_drift) == (SERVED_ERROR, True)
