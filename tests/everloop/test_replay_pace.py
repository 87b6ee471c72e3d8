"""How far a replay runs ahead of its loop: it waits for predictions, and for nothing else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from everloop.errors import EverloopError
from everloop.replay import pace
from everloop.replay.pace import LoopPace


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "POLL_EVERY_S", 0.001)


class Loop:
    """A loop's status: all that was sent is counted, and `predictions` of them are predicted."""

    def __init__(self, events: int = 0, predictions: int = 0) -> None:
        self.events, self.predictions, self.polls, self.away = events, predictions, 0, False
        self._polled = asyncio.Event()

    async def status(self) -> dict[str, Any]:
        """Its counts."""
        self.polls += 1
        self._polled.set()
        if self.away:
            raise EverloopError("away")
        return {"events": self.events, "predictions": self.predictions}

    async def polled(self, times: int = 3) -> None:
        """Return once it was asked so many times more."""
        until = self.polls + times
        while self.polls < until:
            self._polled.clear()
            await self._polled.wait()


async def test_a_replay_waits_while_too_many_rows_have_no_prediction() -> None:
    loop = Loop(events=7, predictions=4)  # three observations that never got a prediction

    async with LoopPace(loop.status, max_ahead=100) as paced:
        await loop.polled()
        await paced.wait(100)
        loop.events = 7 + 150
        waiting = asyncio.create_task(paced.wait(150))
        await loop.polled()
        before = waiting.done()
        loop.predictions = 4 + 50
        await asyncio.wait_for(waiting, 5)

    assert not before


async def test_rows_that_were_played_before_are_not_waited_for() -> None:
    loop = Loop(events=1_000, predictions=1_000)

    async with LoopPace(loop.status, max_ahead=100) as paced:
        for sent in range(0, 1_000, 50):
            await asyncio.wait_for(paced.wait(sent), 5)

    assert loop.polls


@pytest.mark.parametrize("why", ["predicts nothing any more", "status is unknown"])
async def test_a_loop_is_not_waited_for_that(why: str) -> None:
    loop = Loop()
    loop.away = why == "status is unknown"

    async with LoopPace(loop.status, max_ahead=100, patience_s=0.1) as paced:
        await loop.polled()
        loop.events = 10_000
        await asyncio.wait_for(paced.wait(10_000), 5)

    assert loop.polls
