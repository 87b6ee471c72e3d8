"""What tells drifts of features: monitoring's watch, and River's detectors by their defaults, one for each feature."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from river import drift
from tests.builders.events import prediction_made
from tests.builders.loops import loop_spec

from everloop_monitoring.domain.data_drift.watch import DriftWatch
from everloop_schemas.envelope import Fields
from everloop_schemas.monitoring import DriftDetected

START = datetime(2026, 1, 1, tzinfo=UTC)
AFTER_ALL = START + timedelta(days=365)


class Told(NamedTuple):
    """A drift that was told: at which row, and which feature first."""

    row: int
    feature: str


Detect = Callable[[Iterable[Fields]], Iterator[Told]]


def monitoring(rows: Iterable[Fields]) -> Iterator[Told]:
    """Everloop's watch, on records as they are on the topic; the prediction is constant."""
    watch: DriftWatch | None = None
    for i, row in enumerate(rows):
        if watch is None:
            schema = {name: {"type": "number", "missing": None} for name in row}
            watch = DriftWatch().follow(loop_spec(schema=schema, monitor={"drift": "all"}))
        time = START + timedelta(seconds=i)
        record = prediction_made(f"p{i}", True, features=row, time=time, version="a@1", role="champion")
        for told in watch.add_prediction(record, AFTER_ALL):
            assert isinstance(told, DriftDetected)
            yield Told(i, told.data.features[0].name)


def river(make: Callable[[], Any]) -> Detect:
    """A detector of River for each feature; a missing value is nothing that it could be given."""

    def detect(rows: Iterable[Fields]) -> Iterator[Told]:
        detectors: dict[str, Any] = {}
        for i, row in enumerate(rows):
            for name, value in row.items():
                if name not in detectors:
                    detectors[name] = make()
                detector = detectors[name]
                if value is not None:
                    detector.update(float(value))
                    if detector.drift_detected:
                        yield Told(i, name)

    return detect


DETECTORS: dict[str, Detect] = {
    "Everloop": monitoring,
    "River ADWIN": river(drift.ADWIN),
    "River KSWIN": river(lambda: drift.KSWIN(seed=1)),
    "River PageHinkley": river(drift.PageHinkley),
}
