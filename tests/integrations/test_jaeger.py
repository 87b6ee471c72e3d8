"""A request's trace in a real Jaeger, whose receiver is that of the OpenTelemetry Collector."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from tests.integrations.jaeger import jaeger
from tests.journeys.installation import FIELDS, counts, installed
from tests.journeys.traces import ASKED, LABELLED, check_path_of_request

pytestmark = [pytest.mark.integrations, pytest.mark.timeout(300)]
SERVICES = {f"everloop-{name}" for name in ("ingest", "feature", "training", "serving", "monitoring")}


def test_jaeger_shows_one_trace_from_a_request_to_what_was_learned_of_its_outcome(tmp_path: Path) -> None:
    data = dict.fromkeys(FIELDS, 0.5)
    with (
        jaeger(tmp_path) as collector,
        installed(tmp_path / "data", EVERLOOP_OTLP_URL=collector.url, EVERLOOP_TRACE_SAMPLING="0") as installation,
    ):
        installation.apply("asked")
        found = installation.services()
        asked = {"id": "ask-1", "entity": "anna", "data": data}

        answer = httpx.post(f"{found['serving']['url']}/v1/loops/asked/predict", json=asked, headers=ASKED)
        label = {"id": "ask-1", "label": True}
        sent = httpx.post(f"{found['ingest']['url']}/v1/loops/asked/labels", json=label, headers=LABELLED)

        assert (answer.status_code, sent.status_code) == (200, 202), (answer.text, sent.text)
        assert counts(installation.counted("asked", 1)) == (1, 1, 1)
        check_path_of_request(collector)
        assert collector.services() >= SERVICES
