"""Evidently answers the bench: of a sensor that is scaled, the window in which it has drifted, and of which column."""

from __future__ import annotations

import pytest
from tests.bench.drift_streams import STREAMS, with_fault
from tests.bench.evidently_peer import ENVIRONMENT, evidently, find_peer
from tests.integrations.environments import environment

pytestmark = [pytest.mark.integrations, pytest.mark.timeout(300)]


def test_evidently_names_a_sensor_that_is_scaled_and_is_asked_many_times() -> None:
    python = environment(ENVIRONMENT).python
    rows = list(with_fault(STREAMS[0], "scaled", 0, 2500, 1600))

    with evidently(python) as peer:
        told = list(peer.any_column(rows))
        again = list(peer.errors([0] * 1500 + [1] * 500))

    assert told[0].feature == "x1"
    assert 1600 <= told[0].row < 2250
    assert again[0] < 2000


def test_a_quick_run_is_without_it_and_says_so() -> None:
    assert find_peer(quick=True) == (None, "Evidently is skipped by --quick")
