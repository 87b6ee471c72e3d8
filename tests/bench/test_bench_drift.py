"""What the bench of known drifts rests on: the fault begins where it says, and each run counts once."""

from __future__ import annotations

import pytest
from tests.bench.drift import ONSET, Faults
from tests.bench.drift_detectors import Told, monitoring
from tests.bench.drift_streams import FAULTS, STREAMS, culprits, with_fault

AGRAWAL = STREAMS[1]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_begins_at_its_row_and_changes_only_its_sensors(fault: str) -> None:
    sound, wrong = list(AGRAWAL.rows(1, 60)), list(with_fault(AGRAWAL, fault, 1, 60, onset=40))

    changed = {name for was, now in zip(sound[40:], wrong[40:], strict=True) for name in now if now[name] != was[name]}

    assert sound[:40] == wrong[:40]
    assert changed == set(culprits(AGRAWAL, fault))


def test_what_is_told_before_the_fault_is_not_its_detection() -> None:
    found = Faults()

    found.add([Told(10, "age"), Told(ONSET + 49, "age"), Told(ONSET + 99, "loan")], ("age",))
    found.add([Told(ONSET + 99, "loan")], ("age",))
    found.add([], ("age",))

    assert (found.runs, found.delays, found.named) == (3, [49, 99], 1)


def test_monitoring_names_a_sensor_that_is_missing() -> None:
    [told] = monitoring(with_fault(AGRAWAL, "missing", 3, 2200, ONSET))

    assert (told.feature, told.row - ONSET) == ("age", 49)
