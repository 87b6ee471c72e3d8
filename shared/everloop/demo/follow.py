"""Reads the installation's topics as any consumer could, and feeds the story."""

from __future__ import annotations

from everloop.demo.story import Story
from everloop.topics import Reader
from everloop_schemas.catalogue import decode
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.monitoring import DriftDetected
from everloop_schemas.registry import Decided, LoopState
from everloop_schemas.training import RunFinished, RunRequested

TOPICS = [c.topic.name for c in (OutcomeObserved, DriftDetected, Decided, LoopState, RunFinished, RunRequested)]


async def follow(reader: Reader, loop: str, story: Story) -> None:
    """Feed the story until cancelled."""
    async with reader:
        while True:
            for line in await reader.read():
                event = decode(line.topic, line.value)
                if event.loop == loop:
                    story.on(event)
