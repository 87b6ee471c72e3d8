"""Plays the electricity market into the loop at a steady rate, with a drift on the way."""

from __future__ import annotations

import asyncio
import csv
import gzip
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from everloop.client import AsyncEverloop

TICK_S = 0.1


@dataclass(frozen=True)
class Script:
    """How many rows are played before and after the drift, and how many of them a second."""

    before: int = 2600
    after: int = 1400
    rate: float = 45.0

    @property
    def rows(self) -> int:
        """All rows."""
        return self.before + self.after

    @property
    def onset_id(self) -> str:
        """The id of the first row after the drift."""
        return row_id(self.before)


def row_id(row: int) -> str:
    """The id of an observation, and so of its prediction."""
    return f"market-{row:05d}"


def market(path: Path, script: Script) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Observations with their labels, in time order; from `script.before` on every label is the opposite."""
    with gzip.open(path, "rt") as file:
        for row, record in zip(range(script.rows), csv.DictReader(file), strict=False):
            price_is_up = record.pop("class") == "1"
            label = price_is_up if row < script.before else not price_is_up
            data = {name: float(value) for name, value in record.items()}
            yield {"id": row_id(row), "data": data}, {"id": row_id(row), "label": label}


async def play(client: AsyncEverloop, loop: str, path: Path, script: Script, progress: Callable[[int], None]) -> None:
    """Publish every row, and its label once the row is in; `progress` hears how many rows have been sent."""
    events, labels = zip(*market(path, script), strict=True)
    started = asyncio.get_running_loop().time()
    sent = 0
    while sent < script.rows:
        elapsed = asyncio.get_running_loop().time() - started
        due = min(int(elapsed * script.rate) + 1, script.rows)
        if due > sent:
            await client.publish(loop, list(events[sent:due]))
            await client.label(loop, list(labels[sent:due]))
            sent = due
            progress(sent)
        await asyncio.sleep(TICK_S)
