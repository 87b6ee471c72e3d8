"""The endpoint that reads the topics, in place of a Kafka consumer."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Response

from everloop.memory_bus.broker import BoundedBroker
from everloop.memory_bus.errors import TopicNotFound
from everloop_schemas.catalogue import TOPICS

Names = Annotated[list[str], Query(min_length=1, description="Topics to read.")]
Since = Annotated[int, Query(ge=0, description="Number to read from; 0 is the beginning.")]
Wait = Annotated[float, Query(ge=0, le=5, description="Seconds to wait for something where there is nothing.")]


def router(broker: BoundedBroker) -> APIRouter:
    """`/v1/topics` and `/v1/records`."""
    routes = APIRouter(prefix="/v1", tags=["topics"])

    @routes.get("/topics", summary="Every topic and how many records it has")
    async def list_topics() -> dict[str, int]:
        return {name: broker.counts[name] for name in sorted(TOPICS)}

    @routes.get(
        "/records",
        summary="Events of some topics, one a line, in the order they came",
        response_class=Response,
        responses={200: {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}}},
    )
    async def read_records(topic: Names, since: Since = 0, wait_s: Wait = 0.0) -> Response:
        for name in topic:
            if name not in TOPICS:
                raise TopicNotFound(f"no topic is called {name[:100]!r}; see /v1/topics")
        deadline = asyncio.get_running_loop().time() + wait_s
        found, after = broker.read_on(set(topic), since)
        while not found and (left := deadline - asyncio.get_running_loop().time()) > 0:
            await broker.wait(left)
            found, after = broker.read_on(set(topic), after)
        lines = b"".join((record.value or b"") + b"\n" for record in found)
        headers = {"everloop-next": str(after), "everloop-end": str(broker.end)}
        return Response(lines, media_type="application/x-ndjson", headers=headers)

    return routes
