"""Sends rows at a steady rate, and their labels a number of rows later, in order, through any outage."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Protocol

from everloop.errors import EverloopHTTPError
from everloop.replay.rows import Errors, Row
from everloop.results import Accepted

BATCH = 250
TICK_S = 0.02
BEHIND_S = 1.0
Entries = Sequence[dict[str, Any]]


class Sender(Protocol):
    """Where rows and labels go; retries by itself, and raises when it has given up. `AsyncEverloop` is one."""

    def publish(self, loop: str, data: Any) -> Awaitable[Accepted]: ...
    def label(self, loop: str, id: Any) -> Awaitable[Accepted]: ...


class Outcomes(Protocol):
    """Waits until what was sent has become an outcome, for a replay in lockstep."""

    async def wait(self, prediction_id: str) -> None: ...


@dataclass
class Played:
    """What has come of it so far."""

    sent: int = 0
    accepted: int = 0
    rejected: int = 0
    labels: int = 0


@dataclass
class Player:
    """Plays rows: the label of row i is sent after row i was accepted and before row i + `label_delay` is sent.

    So at most `label_delay` rows travel at once, which bounds the rate to that many per round trip. `rate` is in
    rows per second, None as fast as it goes. `refused` hears of every row or label that was refused.
    """

    loop: str
    sender: Sender
    label_delay: int = 1
    rate: float | None = None
    outcomes: Outcomes | None = None
    refused: Callable[[int, Errors], None] = lambda number, errors: None
    progress: Callable[[Played], None] = lambda played: None
    played: Played = field(default_factory=Played)
    _held: deque[tuple[int, Row]] = field(default_factory=deque, init=False)
    _pulled: int = field(default=0, init=False)
    _origin: float = field(default=0.0, init=False)

    async def play(self, rows: Iterator[Row]) -> Played:
        """Play them all, and the labels still held at the end."""
        self._origin = _now()
        while batch := list(islice(rows, await self._due())):
            await self._label(before=self._pulled + len(batch))
            await self._publish(batch)
            self.progress(self.played)
        await self._label(before=None)
        self.progress(self.played)
        return self.played

    async def _due(self) -> int:
        """Wait until a batch of rows is due, and say how many."""
        most = 1 if self.outcomes else min(BATCH, self.label_delay)
        if self.rate is None:
            return most
        batch = min(most, max(1, int(self.rate * TICK_S)))
        behind = _now() - self._origin - (self._pulled + batch - 1) / self.rate
        if behind < 0:
            await asyncio.sleep(-behind)
        elif behind > BEHIND_S:  # after an outage it goes on at its rate, without a burst
            self._origin += behind
        due = int((_now() - self._origin) * self.rate) + 1 - self._pulled
        return max(1, min(most, due))

    async def _publish(self, batch: list[Row]) -> None:
        first, self._pulled = self._pulled, self._pulled + len(batch)
        good = [(i, row) for i, row in enumerate(batch, first) if not row.wrong]
        for row in batch:
            if row.wrong:
                self._refuse(row, row.wrong)
        answer = await self._deliver(self.sender.publish, [row.event for _, row in good])
        bad = {r.index: r.errors for r in answer.rejected}
        for index, (i, row) in enumerate(good):
            if index in bad:
                self._refuse(row, list(bad[index]))
            elif row.label is not None or row.wrong_label:
                self._held.append((i, row))
        self.played.sent += len(good)
        self.played.accepted += len(good) - len(bad)

    def _refuse(self, row: Row, errors: Errors) -> None:
        self.played.rejected += 1
        self.refused(row.number, errors)

    async def _label(self, before: int | None) -> None:
        """Send the held labels that must go before rows up to number `before` (counted from 0) are sent."""
        due: list[Row] = []
        while self._held and (before is None or self._held[0][0] + self.label_delay < before):
            due.append(self._held.popleft()[1])
        for row in due:
            if row.wrong_label:
                self.refused(row.number, row.wrong_label)
        good = [row for row in due if row.label is not None]
        for start in range(0, len(good), 1 if self.outcomes else BATCH):
            await self._say(good[start : start + (1 if self.outcomes else BATCH)])

    async def _say(self, rows: list[Row]) -> None:
        answer = await self._deliver(self.sender.label, [_word(row) for row in rows])
        self.played.labels += answer.accepted
        bad = {r.index for r in answer.rejected}
        for r in answer.rejected:
            self.refused(rows[r.index].number, list(r.errors))
        for index, row in enumerate(rows):
            if self.outcomes and index not in bad:
                await self.outcomes.wait(row.event["id"])

    async def _deliver(self, send: Callable[[str, Any], Awaitable[Accepted]], entries: Entries) -> Accepted:
        if not entries:
            return Accepted(())
        try:
            return await send(self.loop, list(entries))
        except EverloopHTTPError as e:
            if e.status == 422 and e.rejected:
                return Accepted((), e.rejected)
            if e.status != 413 or len(entries) == 1:
                raise
        half = len(entries) // 2  # too much for one request
        first, second = await self._deliver(send, entries[:half]), await self._deliver(send, entries[half:])
        later = tuple(replace(r, index=r.index + half) for r in second.rejected)
        return Accepted(first.ids + second.ids, first.rejected + later)


def _word(row: Row) -> dict[str, Any]:
    """The label of a row, with the row's time where it has one; the same file gives the same label events again."""
    timed = {"time": row.event["time"]} if "time" in row.event else {}
    return {"id": row.event["id"], "label": row.label, "key": row.key} | timed


def _now() -> float:
    return asyncio.get_running_loop().time()
