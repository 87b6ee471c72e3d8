"""Builds the event of a drift of data, predictions or labels."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from everloop_monitoring.domain.data_drift.comparison import Change, Mark
from everloop_schemas.envelope import derived_id
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.monitoring import Detector, DriftDetected, DriftDetectedData, DriftedFeature, DriftKind
from everloop_schemas.serving import PredictionMade

MAX_FEATURES_NAMED = MAX_SLICES_NAMED = 20


def detector_of(is_number: bool) -> Detector:
    """The measure of a column."""
    return "population_stability" if is_number else "jensen_shannon"


def build_data_drift(
    changes: Sequence[Change], cause: PredictionMade | OutcomeObserved, at: Mark, version: str, now: datetime
) -> DriftDetected:
    """The event of these changes, the largest first. `at` is where the loop is; `cause` completed the look.

    Its change point is the first outcome after the largest change began. Labels in flight at that time still belong to
    the time before.
    """
    feature = next((change for change in changes if change.column.kind == "feature"), None)
    subject = feature or changes[0]
    kinds: dict[str, DriftKind] = {"feature": "data", "prediction": "prediction", "label": "label"}
    kind, offset = kinds[subject.column.kind], max(0, at.offset)
    return DriftDetected(
        id=derived_id(cause.loop, DriftDetected.type_name(), kind, subject.column.name, cause.id),
        time=now,
        subject=version,
        loop=cause.loop,
        revision=cause.revision,
        causationid=cause.id,
        traceparent=cause.traceparent,
        data=DriftDetectedData(
            kind=kind,
            subject=subject.column.name,
            detector=detector_of(subject.column.is_number),
            offset=offset,
            change_point=min(offset, subject.mark.offset + 1),
            outcomes=at.outcomes,
            outcomes_since_change=at.outcomes - subject.mark.outcomes,
            version=version,
            features=tuple(_drifted(change) for change in changes[:MAX_FEATURES_NAMED]),
            slices=tuple(dict.fromkeys(name for change in changes for name in change.slices))[:MAX_SLICES_NAMED],
        ),
    )


def _drifted(change: Change) -> DriftedFeature:
    return DriftedFeature(
        name=change.column.name,
        detector=detector_of(change.column.is_number),
        distance=change.distance,
        p_value=change.probability,
        before=change.before,
        after=change.after,
        since=change.mark.time,
    )
