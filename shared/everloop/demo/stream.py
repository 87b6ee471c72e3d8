"""The demo's stream: the electricity market at a steady rate, with a drift on the way."""

from __future__ import annotations

import asyncio
import csv
import gzip
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from everloop.async_client import AsyncEverloop

SEND_EVERY_S = 0.1


@dataclass(frozen=True)
class DemoStream:
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
    """The id of a row's observation, and so of its prediction."""
    return f"market-{row:05d}"


def read_market(path: Path, stream: DemoStream) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Observations with their labels, in time order; from row `stream.before` on every label is inverted."""
    with gzip.open(path, "rt") as file:
        for row, record in zip(range(stream.rows), csv.DictReader(file), strict=False):
            price_is_up = record.pop("class") == "1"
            label = price_is_up if row < stream.before else not price_is_up
            data = {name: float(value) for name, value in record.items()}
            yield {"id": row_id(row), "data": data}, {"id": row_id(row), "label": label}


async def play(
    client: AsyncEverloop, loop: str, path: Path, stream: DemoStream, on_sent: Callable[[int], None]
) -> None:
    """Publish every row, and its label once the row is accepted; `on_sent` is called with the number of rows sent."""
    events, labels = zip(*read_market(path, stream), strict=True)
    started = asyncio.get_running_loop().time()
    sent = 0
    while sent < stream.rows:
        elapsed = asyncio.get_running_loop().time() - started
        due = min(int(elapsed * stream.rate) + 1, stream.rows)
        if due > sent:
            await client.publish(loop, list(events[sent:due]))
            await client.label(loop, list(labels[sent:due]))
            sent = due
            on_sent(sent)
        await asyncio.sleep(SEND_EVERY_S)
