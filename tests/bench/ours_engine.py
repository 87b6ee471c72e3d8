"""Our aiokafka engine with a trivial handler, run as a service: an event in, the same as another event out."""

from __future__ import annotations

import sys

from fastapi import APIRouter

from everloop_schemas.envelope import Event
from everloop_schemas.ingest import EventReceived
from everloop_schemas.serving import ObservationReceived
from everloop_shared.http import HttpEndpoint
from everloop_shared.messaging.kafka.engine import kafka_factory
from everloop_shared.messaging.routes import Position, Route
from everloop_shared.process import run
from everloop_shared.service import Service
from everloop_shared.settings import Settings


async def on_event_received(event: EventReceived, at: Position) -> list[Event]:
    """Publish it as another event."""
    published = ObservationReceived(
        id=event.id,
        time=event.time,
        subject=event.subject,
        loop=event.loop,
        revision=event.revision,
        data=event.data,
    )
    return [published]


def build(name: str) -> Service:
    """A service that is nothing but its engine."""
    settings = Settings.load(name)
    consumer = kafka_factory(settings)(name).consumer([Route(EventReceived.topic, on_event_received)])
    return Service(
        name=name, settings=settings, endpoints=[HttpEndpoint(name, settings, APIRouter())], consumers=[consumer]
    )


if __name__ == "__main__":
    run(lambda: build(sys.argv[1]))
