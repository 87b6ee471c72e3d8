"""Trials of a search by its process, with 1, 2 and 4 at a time, beside bare Optuna and the bare library."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from tests.bench import stream
from tests.bench.bare_search import ITERATIONS, SEED, Rows
from tests.bench.figures import Figure, Sample, against
from tests.bench.settings import Settings

from everloop_learning.data_set import Row
from everloop_models.search.cross_validation import BLOCKS
from everloop_models.search.folds import PARTS
from everloop_models.search.protocol import ROWS, TASK, Answer, SearchTask
from everloop_schemas.loop import LoopSpec
from everloop_schemas.loop_parts import ModelSpec
from everloop_schemas.search import SearchRequestedData
from everloop_schemas.search_spec import ParameterRange
from everloop_schemas.training import DataSet
from everloop_shared.limited import child_environment

WORKERS = (1, 2, 4)
GOAL = 0.5
"""One at a time; the start of the process and its reading of the rows are part of ours."""
TREE, BOOSTING = ModelSpec(preset="hoeffding_tree"), "sklearn.ensemble.HistGradientBoostingClassifier"
LOOK_EVERY_S = 0.1
SPACES = {
    "Hoeffding tree, prequential": {
        "grace_period": ParameterRange(between=(50, 400)),
        "delta": ParameterRange(log=(1e-7, 1e-2)),
    },
    "gradient boosting, cross-validated": {
        "learning_rate": ParameterRange(log=(0.01, 0.3)),
        "max_leaf_nodes": ParameterRange(between=(4, 63)),
    },
}
MODELS = {
    "Hoeffding tree, prequential": (TREE, PARTS - 1),
    "gradient boosting, cross-validated": (ModelSpec(estimator=BOOSTING, max_iter=ITERATIONS), BLOCKS),
}
"""The model, and how many folds a whole trial has: of one that is pruned, the folds that it had are counted."""


async def measure(settings: Settings) -> list[Figure]:
    """The same rows, ranges and seed; the two sides run in turn."""
    rows: Rows = [(dict(fields), label) for _, fields, label in stream.rows(settings.search_rows)]
    figures = []
    for what, (model, folds) in MODELS.items():
        bare: list[Sample] = []
        ours: dict[int, list[Sample]] = {workers: [] for workers in WORKERS}
        for _ in range(min(settings.runs, 2)):
            bare.append(await _bare(model.kind, settings))
            for workers in WORKERS:
                ours[workers].append(await _ours(settings, rows, what, model, folds, workers))
        for workers, samples in ours.items():
            name = f"search, {what}, {workers} at a time / bare Optuna in one process"
            figure = against(name, samples, bare, GOAL, f"{os.cpu_count()} cores; start and reading of rows included")
            met = figure.met if workers == 1 else None
            figures.append(replace(figure, unit="trials/s", met=met, goal=figure.goal if workers == 1 else ""))
    return figures


async def _ours(settings: Settings, rows: Rows, what: str, model: ModelSpec, folds: int, workers: int) -> Sample:
    spec = LoopSpec.model_validate({**stream.spec(), "features": [{"fields": "all"}]})
    request = SearchRequestedData(
        search="bench",
        key="bench",
        reason="bench",
        index=0,
        model=model,
        data_set=DataSet(loop=spec.loop, start=0, end=len(rows) - 1, revision=1),
        metric="accuracy",
        trials=settings.search_trials,
        budget_s=3600.0,
        seed=SEED,
        space=SPACES[what],
    )
    task = SearchTask(request=request, spec=spec, budget_s=3600.0, workers=workers, memory_bytes=1_000_000_000)
    with TemporaryDirectory(dir=settings.folder) as name:
        folder = Path(name)
        (folder / TASK).write_bytes(task.encode())
        written = (Row(i, stream.START, f"p{i}", dict(x), y, "e") for i, (x, y) in enumerate(rows))
        (folder / ROWS).write_bytes(b"".join(row.encode_with_entity() for row in written))
        started = time.perf_counter()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "everloop_models.search.child", name, str(os.getpid())),
            stdout=asyncio.subprocess.PIPE,
            env=child_environment(),
        )
        used: dict[int, float] = {}
        watching = asyncio.create_task(_watch(process.pid, used))
        output, _ = await process.communicate()
        elapsed = time.perf_counter() - started
        watching.cancel()
    answers = [Answer.decode(line) for line in output.splitlines()]
    done = sum(len(one.trial.folds) / folds for one in answers if one.trial and one.trial.seconds)
    return Sample(done / elapsed, 1e6 * sum(used.values()) / done)


async def _watch(pid: int, used: dict[int, float]) -> None:
    """Keep what each process of a search has computed, as far as it was seen."""
    process = psutil.Process(pid)
    while True:
        try:
            for one in (process, *process.children(recursive=True)):
                times = one.cpu_times()
                used[one.pid] = times.user + times.system
        except psutil.NoSuchProcess:
            pass
        await asyncio.sleep(LOOK_EVERY_S)


async def _bare(kind: str, settings: Settings) -> Sample:
    process = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-m",
            "tests.bench.bare_search",
            kind,
            str(settings.search_trials),
            str(settings.search_rows),
        ),
        stdout=asyncio.subprocess.PIPE,
        env=child_environment(),
    )
    output, _ = await process.communicate()
    return Sample(**json.loads(output))
