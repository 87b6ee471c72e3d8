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

BATCH_ROWS = 250
"""The most rows or labels in one request."""
ROWS_BEFORE_LABELS = 100
"""Without a label delay: the most rows that are sent before the labels of the first of them."""
SEND_EVERY_S = 0.02
MAX_BEHIND_S = 1.0
Entries = Sequence[dict[str, Any]]


class Sender(Protocol):
    """Sends rows and labels; retries by itself, and raises when it gives up. `AsyncEverloop` is one."""

    def publish(self, loop: str, data: Any) -> Awaitable[Accepted]: ...
    def label(self, loop: str, id: Any) -> Awaitable[Accepted]: ...


class OutcomeWaiter(Protocol):
    """Waits until a prediction has its outcome, for a replay in lockstep."""

    async def wait(self, prediction_id: str) -> None: ...


class Pace(Protocol):
    """Waits while a loop is too far behind what was sent to it."""

    async def wait(self, sent: int) -> None: ...


@dataclass
class Played:
    """The counts so far."""

    sent: int = 0
    accepted: int = 0
    rejected: int = 0
    labels: int = 0


@dataclass
class Player:
    """Plays rows: the label of row i is sent after row i was accepted and before row i + `label_delay` is sent.

    So at most `label_delay` rows are in flight, which bounds the rate to that many per round trip. Without a delay,
    rows are sent in batches of at most `ROWS_BEFORE_LABELS`, and the labels of a batch right after it. `rate` is in
    rows per second, None for as fast as `pace` allows. `on_refused` is called for every row or label that was refused.
    """

    loop: str
    sender: Sender
    label_delay: int | None = None
    rate: float | None = None
    outcomes: OutcomeWaiter | None = None
    pace: Pace | None = None
    on_refused: Callable[[int, Errors], None] = lambda number, errors: None
    on_progress: Callable[[Played], None] = lambda played: None
    played: Played = field(default_factory=Played)
    _held: deque[tuple[int, Row]] = field(default_factory=deque, init=False)
    _pulled: int = field(default=0, init=False)
    _origin: float = field(default=0.0, init=False)

    async def play(self, rows: Iterator[Row]) -> Played:
        """Play them all, and the labels still held at the end."""
        self._origin = _now()
        while batch := list(islice(rows, await self._wait_until_due())):
            if self.label_delay is not None:
                await self._send_labels(before=self._pulled + len(batch) - self.label_delay)
            await self._send_rows(batch)
            if self.label_delay is None:
                await self._send_labels(before=None)
            self.on_progress(self.played)
            if self.pace:
                await self.pace.wait(self.played.sent)
        await self._send_labels(before=None)
        self.on_progress(self.played)
        return self.played

    async def _wait_until_due(self) -> int:
        """Wait until a batch of rows is due, and return its size."""
        most = 1 if self.outcomes else min(BATCH_ROWS, self.label_delay or ROWS_BEFORE_LABELS)
        if self.rate is None:
            return most
        batch = min(most, max(1, int(self.rate * SEND_EVERY_S)))
        behind = _now() - self._origin - (self._pulled + batch - 1) / self.rate
        if behind < 0:
            await asyncio.sleep(-behind)
        elif behind > MAX_BEHIND_S:  # after an outage it continues at its rate, without a burst
            self._origin += behind
        due = int((_now() - self._origin) * self.rate) + 1 - self._pulled
        return max(1, min(most, due))

    async def _send_rows(self, batch: list[Row]) -> None:
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
        self.on_refused(row.number, errors)

    async def _send_labels(self, before: int | None) -> None:
        """Send the held labels of the rows before number `before` (counted from 0); None for all of them."""
        due: list[Row] = []
        while self._held and (before is None or self._held[0][0] < before):
            due.append(self._held.popleft()[1])
        for row in due:
            if row.wrong_label:
                self.on_refused(row.number, row.wrong_label)
        good = [row for row in due if row.label is not None]
        for start in range(0, len(good), 1 if self.outcomes else BATCH_ROWS):
            await self._send_batch(good[start : start + (1 if self.outcomes else BATCH_ROWS)])

    async def _send_batch(self, rows: list[Row]) -> None:
        answer = await self._deliver(self.sender.label, [_label_entry(row) for row in rows])
        self.played.labels += answer.accepted
        bad = {r.index for r in answer.rejected}
        for r in answer.rejected:
            self.on_refused(rows[r.index].number, list(r.errors))
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
        half = len(entries) // 2  # too large for one request
        first, second = await self._deliver(send, entries[:half]), await self._deliver(send, entries[half:])
        later = tuple(replace(r, index=r.index + half) for r in second.rejected)
        return Accepted(first.ids + second.ids, first.rejected + later)


def _label_entry(row: Row) -> dict[str, Any]:
    """The label of a row, with the row's time where it has one; the same file gives the same label events again."""
    timed = {"time": row.event["time"]} if "time" in row.event else {}
    return {"id": row.event["id"], "label": row.label, "key": row.key} | timed


def _now() -> float:
    return asyncio.get_running_loop().time()
