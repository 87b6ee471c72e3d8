"""The clients send the span of an application that uses OpenTelemetry, and nothing where it does not."""

from __future__ import annotations

import subprocess
import sys

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from tests.monitoring.http_receiver import http_receiver

from everloop import AsyncEverloop, Everloop


@pytest.mark.parametrize(("sampler", "flag"), [(ALWAYS_ON, "01"), (ALWAYS_OFF, "00")])
async def test_a_request_is_a_part_of_the_application_s_trace_with_its_flag(sampler: Sampler, flag: str) -> None:
    tracer = TracerProvider(sampler=sampler).get_tracer("shop")
    with http_receiver() as receiver:
        with tracer.start_as_current_span("checkout") as span, Everloop(serving=receiver.url) as client:
            client.request("serving", "POST", "/a", b"{}")
            async with AsyncEverloop(serving=receiver.url) as other:
                await other.request("serving", "POST", "/b", b"{}")
        with Everloop(serving=receiver.url) as client:
            client.request("serving", "POST", "/c", b"{}")

    context = span.get_span_context()
    expected = f"00-{trace.format_trace_id(context.trace_id)}-{trace.format_span_id(context.span_id)}-{flag}"
    assert [request.headers.get("traceparent") for request in receiver.received] == [expected, expected, None]


def test_the_client_does_not_load_opentelemetry_by_itself() -> None:
    code = (
        "import sys; from everloop.trace_context import trace_headers; print(trace_headers(), "
        "'opentelemetry' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.split() == ["{}", "False"]
