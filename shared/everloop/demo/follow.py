"""Reads topics as any consumer could, and adds their events to the story."""

from __future__ import annotations

from everloop.demo.story import Story
from everloop.topics import TopicReader
from everloop_schemas.catalogue import decode
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.monitoring import DriftDetected
from everloop_schemas.registry import Decided, LoopState
from everloop_schemas.training import RunFinished, RunRequested

TOPICS = [c.topic.name for c in (OutcomeObserved, DriftDetected, Decided, LoopState, RunFinished, RunRequested)]


async def follow(reader: TopicReader, loop: str, story: Story) -> None:
    """Add events until cancelled."""
    async with reader:
        while True:
            for record in await reader.read():
                event = decode(record.topic, record.value)
                if event.loop == loop:
                    story.on(event)
