"""What a collector of OpenTelemetry has of a request and of a drift, after the services have had their part."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Protocol

from tests.builders.otlp import CollectedSpan, Collector, by_name
from tests.journeys.installation import until

APPLICATION = "00f067aa0ba902b7"
"""The span of the application that has asked."""
ASKED = {"traceparent": f"00-{'a1' * 16}-{APPLICATION}-01"}
LABELLED = {"traceparent": f"00-{'b2' * 16}-{APPLICATION}-01"}
OUTCOME = "feature.outcome_observed.v1"
OF_REQUEST = {
    ("serving", "POST /v1/loops/{loop}/predict"),
    ("feature", "process serving.prediction_made.v1"),
    ("monitoring", "process serving.prediction_made.v1"),
    ("feature", f"create {OUTCOME}"),
    ("training", f"process {OUTCOME}"),
    ("training", "learn"),
    ("monitoring", f"process {OUTCOME}"),
}
OF_LABEL = {("ingest", "POST /v1/loops/{loop}/labels"), ("feature", "process ingest.label_received.v1")}
DRIFT, REQUESTED, TRAINED = "monitoring.drift_detected.v1", "training.run_requested.v1", "training.model_trained.v1"
LOADED, REPORTED = "process registry.loop_state.v1", "process serving.version_state.v1"
VERSION_MADE = {f"process {REQUESTED}", f"process {TRAINED}"}
OF_DRIFT = {
    ("monitoring", f"create {DRIFT}"),
    ("registry", f"process {DRIFT}"),
    ("training", f"process {DRIFT}"),
    ("registry", f"process {REQUESTED}"),
    ("registry", f"process {TRAINED}"),
    ("serving", LOADED),
    ("registry", REPORTED),
}


class Traces(Protocol):
    """Who has the spans of traces: our collector, or a real one."""

    def spans(self, trace_id: str) -> list[CollectedSpan]: ...


def check_path_of_request(collected: Traces) -> None:
    """One trace from the request to what was learned of its outcome, linked with that of the label."""
    asked, labelled = ASKED["traceparent"][3:35], LABELLED["traceparent"][3:35]
    until(lambda: _names(collected, asked) >= OF_REQUEST and _names(collected, labelled) >= OF_LABEL, 30)

    spans, of_label = collected.spans(asked), collected.spans(labelled)

    predicted = by_name(spans, "serving", "POST /v1/loops/{loop}/predict")
    joined = by_name(spans, "feature", f"create {OUTCOME}")
    learning = by_name(spans, "training", f"process {OUTCOME}")
    posted = by_name(of_label, "ingest", "POST /v1/loops/{loop}/labels")
    read = by_name(of_label, "feature", "process ingest.label_received.v1")
    for service in ("feature", "monitoring"):
        assert by_name(spans, service, "process serving.prediction_made.v1").parent_id == predicted.span_id
    assert (predicted.parent_id, predicted.kind, predicted.instance) == (APPLICATION, "server", socket.gethostname())
    assert (predicted.attributes["everloop.loop"], predicted.attributes["everloop.version"]) == ("asked", "0")
    assert (joined.parent_id, joined.links) == (predicted.span_id, ((labelled, read.span_id),))
    assert learning.parent_id == by_name(spans, "monitoring", f"process {OUTCOME}").parent_id == joined.span_id
    assert by_name(spans, "training", "learn").parent_id == learning.span_id
    assert (posted.parent_id, read.parent_id) == (APPLICATION, posted.span_id)
    assert not any(span.failed for span in (*spans, *of_label))


def check_hidden(collected: Collector, hidden: Sequence[object]) -> None:
    """None of these values is in anything that was sent."""
    sent = b"".join(request.body for request in list(collected.receiver.received))
    assert [value for value in hidden if str(value).encode() in sent] == []


def check_answer_to_drift(collected: Traces, trace: str) -> None:
    """One trace from the drift to the version that serving loads, though no request before it was sampled."""
    until(lambda: _names(collected, trace) >= OF_DRIFT and _has_led_to_a_load(collected.spans(trace)), 30)

    spans = collected.spans(trace)

    detected = by_name(spans, "monitoring", f"create {DRIFT}")
    answered = by_name(spans, "training", f"process {DRIFT}")
    assert (detected.parent_id, detected.links) == ("", ())
    assert answered.parent_id == by_name(spans, "registry", f"process {DRIFT}").parent_id == detected.span_id
    assert by_name(spans, "registry", f"process {REQUESTED}").parent_id == answered.span_id
    assert _parents(spans, "serving", LOADED) & VERSION_MADE
    assert _parents(spans, "registry", REPORTED) == {LOADED}
    assert not any(span.failed for span in spans)


def _has_led_to_a_load(spans: Sequence[CollectedSpan]) -> bool:
    """Whether what serving has loaded of a made version has arrived, and the spans that its load and report follow."""
    loads, reports = _parents(spans, "serving", LOADED), _parents(spans, "registry", REPORTED)
    return bool(loads & VERSION_MADE) and None not in loads | reports


def _parents(spans: Sequence[CollectedSpan], service: str, name: str) -> set[str | None]:
    """The names of the spans that those of this name follow; None is one that has not arrived."""
    by_id = {span.span_id: span.name for span in spans}
    return {by_id.get(span.parent_id) for span in spans if (span.service, span.name) == (f"everloop-{service}", name)}


def _names(collected: Traces, trace: str) -> set[tuple[str, str]]:
    """Service and name of each span that has arrived; each service sends its own when its next batch is due."""
    return {(span.service.removeprefix("everloop-"), span.name) for span in collected.spans(trace)}
