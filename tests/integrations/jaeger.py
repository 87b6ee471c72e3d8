"""The real Jaeger, and the spans that it answers with, as its own page asks for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.builders.otlp import CollectedSpan
from tests.integrations.environments import FOLDER, environment
from tests.integrations.prometheus import get, running

from everloop.local.ports import HOST, free_port

LISTENERS = (
    "collector.otlp.http.host-port",
    "collector.otlp.grpc.host-port",
    "collector.http-server.host-port",
    "collector.grpc-server.host-port",
    "query.http-server.host-port",
    "query.grpc-server.host-port",
    "admin.http.host-port",
)


@dataclass(frozen=True)
class Jaeger:
    """A Jaeger that keeps traces in memory: `url` takes OTLP over HTTP, `query` answers its page's questions."""

    url: str
    query: str

    def spans(self, trace_id: str) -> list[CollectedSpan]:
        """The spans of one trace so far."""
        answer = get(f"{self.query}/api/traces/{trace_id}")
        return [_span(span, trace["processes"]) for trace in (answer or {}).get("data", ()) for span in trace["spans"]]

    def services(self) -> set[str]:
        """The services that it has spans of."""
        return set(get(f"{self.query}/api/services")["data"])


@contextmanager
def jaeger(folder: Path) -> Iterator[Jaeger]:
    """A Jaeger on free ports of this machine, until the block ends; skips the test where it was not built."""
    environment("jaeger")
    at = {name: f"{HOST}:{free_port()}" for name in LISTENERS}
    command = [str(FOLDER / "jaeger" / "bin" / "jaeger"), *(f"--{name}={address}" for name, address in at.items())]
    with running(f"http://{at['admin.http.host-port']}", *command, folder=folder, health="/"):
        yield Jaeger(f"http://{at['collector.otlp.http.host-port']}", f"http://{at['query.http-server.host-port']}")


def _span(span: Mapping[str, Any], processes: Mapping[str, Any]) -> CollectedSpan:
    process, tags = processes[span["processID"]], _values(span["tags"])
    parents = [one["spanID"] for one in span["references"] if one["refType"] == "CHILD_OF"]
    links = [(one["traceID"], one["spanID"]) for one in span["references"] if one["refType"] == "FOLLOWS_FROM"]
    return CollectedSpan(
        service=process["serviceName"],
        instance=_values(process["tags"])["service.instance.id"],
        name=span["operationName"],
        kind=tags.pop("span.kind"),
        trace_id=span["traceID"],
        span_id=span["spanID"],
        parent_id=parents[0] if parents else "",
        links=tuple(links),
        attributes=tags,
        failed=bool(tags.get("error")),
        seconds=span["duration"] / 1e6,
    )


def _values(tags: list[dict[str, Any]]) -> dict[str, Any]:
    return {tag["key"]: tag["value"] for tag in tags}
