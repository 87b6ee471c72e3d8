"""Reads the house's topics as any consumer could, and feeds the story."""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer  # type: ignore[import-untyped]

from everloop.demo.story import Story
from everloop_schemas.catalogue import decode
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.monitoring import DriftDetected
from everloop_schemas.registry import Decided, LoopState
from everloop_schemas.training import RunFinished, RunRequested

TOPICS = [c.topic.name for c in (OutcomeObserved, DriftDetected, Decided, LoopState, RunFinished, RunRequested)]


async def follow(bootstrap: str, loop: str, story: Story) -> None:
    """Feed the story until cancelled. `bootstrap` is HOST:PORT; topics have no prefix in the demo's house."""
    consumer = AIOKafkaConsumer(
        *TOPICS, bootstrap_servers=bootstrap, auto_offset_reset="earliest", fetch_max_wait_ms=100
    )
    await consumer.start()
    try:
        while True:
            batches = await consumer.getmany(timeout_ms=200)
            records = sorted((r for batch in batches.values() for r in batch), key=lambda r: r.timestamp)
            for record in records:
                event = decode(record.topic, record.value)
                if event.loop == loop:
                    story.on(event)
    finally:
        await consumer.stop()
