"""Spans reach a real receiver of OTLP, and one that is away, slow or unwilling costs a service nothing but spans."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from prometheus_client import REGISTRY
from tests.builders.otlp import Collector, collector
from tests.engines.buses import until

from everloop.local.ports import free_port
from everloop_shared.errors import Misconfigured
from everloop_shared.settings import Settings
from everloop_shared.spans import export
from everloop_shared.spans.export import BATCH_SPANS, WAITING_SPANS
from everloop_shared.spans.recorder import SpanRecorder
from everloop_shared.spans.recorders import recorder_of
from everloop_shared.spans.started import start_spans, stop_spans

pytestmark = pytest.mark.app
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NAME = "example"


@pytest.fixture
def sent_to() -> Iterator[Collector]:
    """A collector; the recorder of the test's service is stopped after it."""
    with collector() as running:
        yield running
        running.receiver.open.set()
        stop_spans(NAME)


def started(url: str, **settings: str) -> SpanRecorder:
    """The recorder of a service with these settings."""
    start_spans(NAME, Settings.load(NAME, {"EVERLOOP_OTLP_URL": url, "EVERLOOP_INSTANCE": "pod-3"} | settings))
    recorder = recorder_of(NAME)
    assert recorder is not None
    return recorder


def counted(result: str) -> float:
    """The metric of spans with this result."""
    return REGISTRY.get_sample_value("everloop_spans_total", {"service": NAME, "result": result}) or 0.0


def test_a_span_arrives_as_it_was_recorded_when_the_service_stops(sent_to: Collector) -> None:
    recorder, before = started(sent_to.url, EVERLOOP_OTLP_HEADERS="x-key=secret-1,tenant=a"), counted("sent")
    link = PARENT.replace("b7ad", "aaaa")
    span = recorder.begin("process t", "consumer", PARENT, {"everloop.loop": "market", "n": 3}, (link,))

    recorder.end(span, ValueError("no text"))
    stop_spans(NAME)

    [arrived] = sent_to.spans()
    assert (arrived.service, arrived.instance, arrived.name, arrived.kind) == (
        "everloop-example",
        "pod-3",
        "process t",
        "consumer",
    )
    assert (arrived.trace_id, arrived.parent_id, arrived.span_id) == (PARENT[3:35], PARENT[36:52], span.span_id)
    assert arrived.links == ((link[3:35], link[36:52]),)
    assert arrived.attributes == {"everloop.loop": "market", "n": 3, "error.type": "ValueError"}
    assert (arrived.failed, 0 <= arrived.seconds < 60) == (True, True)
    headers = sent_to.receiver.received[0].headers
    assert (headers["x-key"], headers["tenant"], headers["content-type"]) == (
        "secret-1",
        "a",
        "application/x-protobuf",
    )
    assert counted("sent") == before + 1


async def test_spans_leave_while_the_service_runs(sent_to: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("everloop_shared.spans.export.SEND_EVERY_S", 0.05)
    recorder = started(sent_to.url + "/v1/traces")

    recorder.end(recorder.begin("a", "internal", None))

    await until(lambda: len(sent_to.spans()) == 1)
    assert sent_to.spans()[0].parent_id == "", "it begins a trace"


async def test_a_full_batch_does_not_wait_for_its_time(sent_to: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("everloop_shared.spans.export.SEND_EVERY_S", 60.0)
    recorder = started(sent_to.url)

    for _ in range(BATCH_SPANS + 1):
        recorder.end(recorder.begin("a", "internal", None))

    await until(lambda: len(sent_to.spans()) >= BATCH_SPANS)


def test_an_exporter_of_the_sdk_that_takes_no_bytes_gets_the_sdks_spans(
    sent_to: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert export.bytes_sender(OTLPSpanExporter(sent_to.url)) is not None, "the release that is installed takes them"
    monkeypatch.setattr(export, "bytes_sender", lambda exporter: None)
    recorder = started(sent_to.url)

    recorder.end(recorder.begin("a", "consumer", PARENT, {"n": 1}), "InputRejected")
    stop_spans(NAME)

    [arrived] = sent_to.spans()
    assert (arrived.name, arrived.kind, arrived.parent_id) == ("a", "consumer", PARENT[36:52])
    assert (arrived.attributes, arrived.failed) == ({"n": 1, "error.type": "InputRejected"}, True)


async def test_a_span_that_cannot_be_encoded_is_counted_with_its_batch_and_the_next_is_sent(
    sent_to: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("everloop_shared.spans.export.SEND_EVERY_S", 0.05)
    recorder, before = started(sent_to.url), counted("refused")
    recorder.end(recorder.begin("\ud800", "internal", None))
    await until(lambda: counted("refused") > before)

    recorder.end(recorder.begin("b", "internal", None))
    stop_spans(NAME)

    assert counted("refused") == before + 1
    assert [span.name for span in sent_to.spans()] == ["b"]


@pytest.mark.parametrize("value", [msgspec.Raw(b"1"), [], 2**64, "\ud800"])
def test_an_attribute_that_the_protocol_cannot_hold_is_left_out_and_its_span_is_sent(
    sent_to: Collector, value: object
) -> None:
    recorder = started(sent_to.url)

    recorder.end(recorder.begin("a", "internal", None, {"wrong": value, "right": 1}))
    recorder.end(recorder.begin("b", "internal", None))
    stop_spans(NAME)

    assert [(span.name, span.attributes) for span in sent_to.spans()] == [("a", {"right": 1}), ("b", {})]


def test_a_span_after_the_end_is_counted_as_not_sent(sent_to: Collector) -> None:
    recorder, before = started(sent_to.url), counted("not_sent_at_stop")
    stop_spans(NAME)

    recorder.end(recorder.begin("a", "internal", None))

    assert counted("not_sent_at_stop") == before + 1


def test_a_collector_that_is_away_costs_a_full_queue_of_counted_spans_and_a_bounded_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("everloop_shared.spans.started.STOP_WITHIN_S", 0.2)
    recorder, before = started(f"http://127.0.0.1:{free_port()}"), counted("queue_full")
    began = time.perf_counter()

    for _ in range(2 * WAITING_SPANS + 1_000):
        recorder.end(recorder.begin("a", "internal", None))
    recorded_s, stopping = time.perf_counter() - began, time.perf_counter()
    stop_spans(NAME)

    assert recorded_s < 3, "some 5 µs a span; a wait for the collector would be 5 s"
    assert time.perf_counter() - stopping < 3
    assert counted("queue_full") > before
    assert recorder_of(NAME) is None


def test_a_collector_that_never_answers_does_not_hold_up_the_end_of_a_service(
    sent_to: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("everloop_shared.spans.started.STOP_WITHIN_S", 0.2)
    recorder = started(sent_to.url)
    sent_to.receiver.open.clear()
    recorder.end(recorder.begin("a", "internal", None))
    began = time.perf_counter()

    stop_spans(NAME)

    assert time.perf_counter() - began < 3


def test_a_collector_that_refuses_is_counted(sent_to: Collector) -> None:
    recorder, before = started(sent_to.url), counted("refused")
    sent_to.receiver.answers = [401]

    recorder.end(recorder.begin("a", "internal", None))
    stop_spans(NAME)

    assert counted("refused") == before + 1


def test_headers_come_from_a_file_and_errors_do_not_quote_them(tmp_path: Path) -> None:
    file = tmp_path / "headers"
    file.write_text("Authorization=Bearer s3cr=et\n")

    found = Settings(otlp_headers_file=file).read_otlp_headers()
    file.write_text("s3cret")
    with pytest.raises(Misconfigured, match="EVERLOOP_OTLP_HEADERS_FILE: must be NAME=VALUE") as wrong:
        Settings(otlp_headers_file=file).read_otlp_headers()
    with pytest.raises(Misconfigured, match="cannot read"):
        Settings(otlp_headers_file=tmp_path / "missing").read_otlp_headers()

    assert found == {"authorization": "Bearer s3cr=et"}
    assert "s3cret" not in wrong.value.detail
    assert "s3cret" not in repr(Settings(otlp_headers="a=s3cret"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTLP_URL", "collector:4318"),
        ("OTLP_URL", "ftp://collector"),
        ("OTLP_URL", "http://user:secret@collector"),
        ("TRACE_SAMPLING", "1.1"),
        ("TRACE_SAMPLING", "-0.1"),
        ("TRACE_SAMPLING", "10%"),
        ("TRACE_FORCED_PER_S", "-1"),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(Misconfigured, match=f"EVERLOOP_{NAME.upper()}_{name}"):
        Settings.load(NAME, {f"EVERLOOP_{name}": value})


OFF = """
import sys
import everloop_ingest.app
from everloop_shared.settings import Settings
from everloop_shared.spans.started import start_spans
start_spans("ingest", Settings.load("ingest", {}))
print([name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))])
"""


def test_a_service_without_an_address_loads_no_sdk_of_opentelemetry() -> None:
    command = [sys.executable, "-c", OFF]

    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.strip() == "[]"
