"""What traces cost: CPU per request and per event with nothing recorded, and with a tenth of the traces, in turn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack
from functools import partial
from statistics import median
from typing import Any

from tests.bench import stream
from tests.bench.bus import Record, topics
from tests.bench.figures import Figure, at_most
from tests.bench.rest import USUAL, in_turn, ours, ours_served
from tests.bench.settings import Settings
from tests.bench.subject import drained, service
from tests.builders.otlp import Collector, collector

from everloop_schemas.feature import FeaturesComputed
from everloop_schemas.ingest import EventReceived
from everloop_schemas.registry import LoopState
from everloop_shared.tracing import new_traceparent

RATIO, SHARE = 1.05, 0.1
TOPICS = (EventReceived.topic, FeaturesComputed.topic, LoopState.topic)


async def measure(settings: Settings) -> list[Figure]:
    """Serving answers and publishes by REST, feature handles and publishes: off, and on, in turn, at the same load."""
    with collector() as collected:
        on = {"otlp_url": collected.url, "trace_sampling": SHARE}
        figures = await _requests(settings, on, collected)
        return figures + await _events(settings, on)


async def _requests(settings: Settings, on: dict[str, Any], collected: Collector) -> list[Figure]:
    async with AsyncExitStack() as stack:
        both: tuple[tuple[str, dict[str, Any]], ...] = ("off", {}), ("on", on)
        served = [
            await stack.enter_async_context(ours_served(settings, f"traces-{name}.", **options))
            for name, options in both
        ]
        runs = [partial(ours, subject, bus, USUAL, settings.rest_requests) for subject, bus in served]
        without, recorded = await in_turn(settings, *runs)
        note = f"{len(collected.spans()):,} spans arrived"
    return _figures("a request by REST", [o.cpu_us for o in without], [o.cpu_us for o in recorded], note)


async def _events(settings: Settings, on: dict[str, Any]) -> list[Figure]:
    found: tuple[list[float], list[float]] = [], []
    for run in range(settings.runs):
        for options, costs in zip(({}, on), found, strict=True):
            prefix = f"traces-feature{run}{'-on' if options else ''}."
            costs.append(await _feature(settings, prefix, options))
    return _figures("an event in feature", *found)


async def _feature(settings: Settings, prefix: str, options: dict[str, Any]) -> float:
    async with topics(settings.bootstrap, prefix, *TOPICS) as bus:
        await bus.put(stream.state())
        await bus.fill(EventReceived.topic, _sampled(settings.feature_events))
        async with service("feature", settings.bootstrap, prefix, settings.folder / prefix, **options) as subject:
            samples = await drained(subject, partial(bus.count, FeaturesComputed.topic), settings.feature_events)
    return median(sample.cpu_us for sample in samples)


def _sampled(count: int) -> Iterator[Record]:
    """Observations with a trace context each, a tenth of them sampled."""
    for n, (key, value) in enumerate(stream.observations(count)):
        flag = "01" if n % round(1 / SHARE) == 0 else "00"
        event = EventReceived.decode(value).copy_with(traceparent=new_traceparent()[:-2] + flag)
        yield key, event.encode()


def _figures(what: str, off: list[float], on: list[float], note: str = "") -> list[Figure]:
    ratios = [b / a for a, b in zip(off, on, strict=True)]
    return [
        at_most(f"CPU of {what}, nothing recorded", off, None, "us"),
        at_most(f"CPU of {what}, a tenth recorded", on, None, "us", note),
        at_most(f"CPU of {what}, recorded / not", ratios, RATIO, "times"),
    ]
