"""The same search on processes of this machine, and on one and two workers of a real Ray on it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from statistics import median

import psutil
from tests.bench.figures import Figure, Sample
from tests.bench.settings import Settings
from tests.everloop_models.search.searching import ratio_stream, search_task, write_rows
from tests.integrations.environments import Environment, NotMade, find
from tests.integrations.ray_cluster import RayCluster, ray_cluster

from everloop_models.search.protocol import TASK, Answer
from everloop_schemas.loop_parts import ModelSpec
from everloop_schemas.search_spec import ParameterRange

MODEL = ModelSpec(estimator="sklearn.ensemble.HistGradientBoostingClassifier")
SPACE = {"max_depth": ParameterRange(between=(2, 12)), "learning_rate": ParameterRange(log=(0.01, 0.3))}
WORKERS = (1, 2)
REPEATS = 3
LIMIT_S = 900
LOOK_EVERY_S = 0.25
"""Between two looks at the CPU time of processes that end meanwhile."""


async def measure(settings: Settings) -> list[Figure]:
    """Processes and Ray take turns, in the environment of Ray; all of a search counts, from its start to its end."""
    try:
        environment = find("ray")
    except NotMade as e:
        return [Figure("search on Ray, skipped", ours=0.0, unit="trials/s", note=str(e))]
    return await asyncio.to_thread(_measure, settings, environment)


def _measure(settings: Settings, environment: Environment) -> list[Figure]:
    ours: dict[int, list[Sample]] = {workers: [] for workers in WORKERS}
    pool: dict[int, list[Sample]] = {workers: [] for workers in WORKERS}
    with ExitStack() as stack:
        folder = settings.folder / "search"
        folder.mkdir()
        write_rows(folder, ratio_stream(settings.search_rows))
        clusters = {n: stack.enter_context(ray_cluster(environment, settings.folder, n)) for n in WORKERS}
        for _ in range(min(settings.runs, REPEATS)):
            for workers, cluster in clusters.items():
                pool[workers].append(_searched(settings, environment, folder, workers, None))
                ours[workers].append(_searched(settings, environment, folder, workers, cluster))
    return [_figure(workers, ours[workers], pool[workers]) for workers in WORKERS]


def _figure(workers: int, ours: list[Sample], pool: list[Sample]) -> Figure:
    what = f"{workers} worker{'s' if workers > 1 else ''}"
    return Figure(
        f"search on Ray, {what}",
        ours=median(sample.rate for sample in ours),
        unit="trials/s",
        bare=median(sample.rate for sample in pool),
        ratio=median(o.rate / p.rate for o, p in zip(ours, pool, strict=True)),
        cpu_us=median(sample.cpu_us for sample in ours),
        bare_cpu_us=median(sample.cpu_us for sample in pool),
        note=f"beside {what} of the process pool; Ray's start of workers and its own CPU are in it",
        runs=tuple(sample.rate for sample in ours),
    )


def _searched(
    settings: Settings, environment: Environment, folder: Path, workers: int, cluster: RayCluster | None
) -> Sample:
    """One search; its CPU is that of its processes and, with Ray, of the cluster meanwhile."""
    made = search_task(MODEL, space=SPACE, trials=settings.search_trials, workers=workers, budget_s=float(LIMIT_S))
    task = made.model_copy(update={"ray": cluster.address if cluster else ""})
    (folder / TASK).write_bytes(task.encode())
    command = [environment.python, "-m", "everloop_models.search.child", str(folder), str(os.getpid())]
    answers = folder / "answers"
    before, started = _cpu_s(cluster.processes("") if cluster else ()), time.perf_counter()
    used = dict[int, float]()
    with answers.open("wb") as output:
        process = subprocess.Popen(command, env=cluster.variables if cluster else environment.variables, stdout=output)
        try:
            while process.poll() is None:
                assert time.perf_counter() - started < LIMIT_S
                used |= _cpu_s([*_tree(process.pid), *(cluster.processes("") if cluster else ())])
                time.sleep(LOOK_EVERY_S)
        finally:
            process.kill()
    seconds = time.perf_counter() - started
    finished = Answer.decode(answers.read_bytes().splitlines()[-1]).finished
    assert finished is not None
    assert finished.state != "failed", finished.reason
    cpu_s = sum(seconds - before.get(pid, 0.0) for pid, seconds in used.items())
    return Sample(finished.trials / seconds, 1e6 * cpu_s / finished.trials)


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
