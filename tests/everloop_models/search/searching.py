"""Searches as the training service starts them, and streams to search on."""

from __future__ import annotations

import asyncio
import csv
import gzip
import json
import os
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from tests.bench.stream import CSV, FIELDS
from tests.builders.loops import loop_spec

from everloop_models.search.protocol import ROWS, TASK, Answer, SearchTask
from everloop_schemas.envelope import Fields, Scalar
from everloop_schemas.loop import LoopSpec
from everloop_schemas.loop_parts import ModelSpec
from everloop_schemas.search import SearchFinishedData, SearchRequestedData, TrialFinishedData
from everloop_schemas.training import DataSet

MEMORY_BYTES = 1_000_000_000
Labelled = tuple[Fields, Scalar]
ELECTRICITY = loop_spec(schema={name: {"type": "number"} for name in FIELDS})
RATIO_SPEC = loop_spec(schema={"a": {"type": "number"}, "b": {"type": "number"}, "c": {"type": "string"}})


class Searched(NamedTuple):
    """What a search has written."""

    trials: list[TrialFinishedData]
    finished: SearchFinishedData

    @property
    def without_time(self) -> list[dict[str, Any]]:
        """The trials, without how long they took."""
        return [trial.model_dump(exclude={"seconds"}) for trial in self.trials]


def ratio_stream(rows: int, noise: float = 0.1, seed: int = 1) -> Iterable[Labelled]:
    """Labels say whether a is more than 1.3 times b, but for some noise."""
    random = Random(seed)
    for _ in range(rows):
        a, b = random.uniform(1, 10), random.uniform(1, 10)
        yield {"a": a, "b": b, "c": random.choice("xyz")}, (a / b > 1.3) ^ (random.random() < noise)


def electricity(rows: int) -> Iterator[Labelled]:
    """The first rows of the electricity market: will the price rise?"""
    with gzip.open(CSV, "rt") as file:
        for row in islice(csv.DictReader(file), rows):
            yield {name: float(row[name]) for name in FIELDS}, row["class"] == "1"


def write_rows(folder: Path, rows: Iterable[Labelled], entities: int = 7) -> Path:
    """The rows of a search as the service writes them; returns the folder."""
    with (folder / ROWS).open("w") as file:
        for i, (features, label) in enumerate(rows):
            row = {"offset": i, "time": "2026-01-01T00:00:00Z", "prediction_id": f"p{i}", "features": features}
            file.write(json.dumps({**row, "label": label, "entity": f"e{i % entities}"}) + "\n")
    return folder


def search_task(model: ModelSpec, spec: LoopSpec = RATIO_SPEC, workers: int = 1, **fields: Any) -> SearchTask:
    """A task; `fields` are those of the request."""
    defaults: dict[str, Any] = {
        "search": "s-1",
        "key": "search/0/1",
        "reason": "every 1,000 outcomes",
        "index": 0,
        "data_set": DataSet(loop="market", start=0, end=999, revision=1),
        "metric": spec.metric,
        "trials": 8,
        "budget_s": 300.0,
        "seed": 7,
    }
    request = SearchRequestedData(**{**defaults, **fields, "model": model})
    memory = MEMORY_BYTES
    return SearchTask(request=request, spec=spec, budget_s=request.budget_s, workers=workers, memory_bytes=memory)


async def started(folder: Path, task: SearchTask, parent: int | None = None) -> asyncio.subprocess.Process:
    """The process of a search."""
    (folder / TASK).write_bytes(task.encode())
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "everloop_models.search.child", str(folder), str(parent or os.getpid())),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )


async def searched(folder: Path, task: SearchTask) -> Searched:
    """What the process of a search writes until it ends."""
    process = await started(folder, task)
    output, _ = await process.communicate()
    assert process.returncode == 0
    answers = [Answer.decode(line) for line in output.splitlines()]
    trials = [answer.trial for answer in answers[:-1]]
    finished = answers[-1].finished
    assert finished is not None
    return Searched([trial for trial in trials if trial is not None], finished)
