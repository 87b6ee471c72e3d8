"""Trials of a search by its process, with 1, 2 and 4 at a time, beside bare Optuna and the bare library."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import psutil
from tests.bench import stream
from tests.bench.bare_search import ITERATIONS, SEED, Rows
from tests.bench.figures import Figure, Sample, against
from tests.bench.settings import Settings
from tests.everloop_models.search.searching import ELECTRICITY, search_task, write_rows

from everloop_models.search.cross_validation import BLOCKS
from everloop_models.search.folds import PARTS
from everloop_models.search.protocol import TASK, Answer, SearchTask
from everloop_schemas.loop_parts import ModelSpec
from everloop_schemas.search_spec import ParameterRange
from everloop_shared.limited import child_environment

WORKERS = (1, 2, 4)
GOAL = 0.5
"""One at a time; the start of the process and its reading of the rows are part of ours."""
TREE, BOOSTING = ModelSpec(preset="hoeffding_tree"), "sklearn.ensemble.HistGradientBoostingClassifier"
LIMIT_S = 3600
LOOK_EVERY_S = 0.1
"""Between two looks at the CPU time of processes that end meanwhile."""
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
            note = f"{os.cpu_count()} cores; start and reading of rows included"
            figures.append(against(name, samples, bare, GOAL if workers == 1 else None, note, "trials/s"))
    return figures


async def _ours(settings: Settings, rows: Rows, what: str, model: ModelSpec, folds: int, workers: int) -> Sample:
    fields = {"space": SPACES[what], "trials": settings.search_trials, "budget_s": float(LIMIT_S), "seed": SEED}
    task = search_task(model, ELECTRICITY, workers, **fields)
    with TemporaryDirectory(dir=settings.folder) as name:
        folder = await asyncio.to_thread(write_rows, Path(name), rows)
        run = await asyncio.to_thread(run_search, folder, task, sys.executable, child_environment())
    done = sum(len(one.trial.folds) / folds for one in run.answers if one.trial and one.trial.seconds)
    return Sample(done / run.seconds, 1e6 * run.cpu_s / done)


class SearchRun(NamedTuple):
    """What the process of a search wrote, how long it took, and what it and all its processes computed."""

    answers: list[Answer]
    seconds: float
    cpu_s: float


def run_search(
    folder: Path,
    task: SearchTask,
    python: str | Path,
    variables: Mapping[str, str],
    others: Callable[[], Iterable[psutil.Process]] = tuple,
) -> SearchRun:
    """A search on the rows in a folder; what `others` compute meanwhile counts too. CPU is as far as it was seen."""
    (folder / TASK).write_bytes(task.encode())
    command = [python, "-m", "everloop_models.search.child", folder, str(os.getpid())]
    before, used, started = _cpu_s(others()), dict[int, float](), time.perf_counter()
    answers = folder / "answers"
    with answers.open("wb") as output:
        process = subprocess.Popen(command, env=variables, stdout=output)
        try:
            while process.poll() is None:
                assert time.perf_counter() - started < LIMIT_S
                used |= _cpu_s([*_tree(process.pid), *others()])
                time.sleep(LOOK_EVERY_S)
        finally:
            process.kill()
            process.wait()
    seconds = time.perf_counter() - started
    cpu_s = sum(by_now - before.get(pid, 0.0) for pid, by_now in used.items())
    return SearchRun([Answer.decode(line) for line in answers.read_bytes().splitlines()], seconds, cpu_s)


def _tree(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _cpu_s(processes: Iterable[psutil.Process]) -> dict[int, float]:
    """By process id, the CPU seconds so far of those that are still there."""
    found = {}
    for process in processes:
        with suppress(psutil.Error):
            found[process.pid] = sum(process.cpu_times()[:2])
    return found


async def _bare(kind: str, settings: Settings) -> Sample:
    sizes = (str(settings.search_trials), str(settings.search_rows))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.bare_search", kind, *sizes),
        stdout=asyncio.subprocess.PIPE,
        env=child_environment(),
    )
    output, _ = await process.communicate()
    return Sample(**json.loads(output))
