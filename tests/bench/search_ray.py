"""The same search on processes of this machine, and on one and two workers of a real Ray on it."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path

from tests.bench.figures import Figure, Sample, against
from tests.bench.search import run_search
from tests.bench.settings import Settings
from tests.everloop_models.search.searching import ratio_stream, search_task, write_rows
from tests.integrations.environments import Environment, NotMade, find
from tests.integrations.ray_cluster import RayCluster, ray_cluster

from everloop_schemas.loop_parts import ModelSpec
from everloop_schemas.search_spec import ParameterRange

MODEL = ModelSpec(estimator="sklearn.ensemble.HistGradientBoostingClassifier")
SPACE = {"max_depth": ParameterRange(between=(2, 12)), "learning_rate": ParameterRange(log=(0.01, 0.3))}
WORKERS = (1, 2)
REPEATS = 3
BUDGET_S = 900.0


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
    note = f"beside {what} of the process pool; Ray's start of workers and its own CPU are in it"
    return against(f"search on Ray, {what}", ours, pool, None, note, "trials/s")


def _searched(
    settings: Settings, environment: Environment, folder: Path, workers: int, cluster: RayCluster | None
) -> Sample:
    """One search; its CPU is that of its processes and, with Ray, of the cluster meanwhile."""
    made = search_task(MODEL, space=SPACE, trials=settings.search_trials, workers=workers, budget_s=BUDGET_S)
    if cluster is None:
        run = run_search(folder, made, environment.python, environment.variables)
    else:
        task = made.model_copy(update={"ray": cluster.address})
        run = run_search(folder, task, environment.python, cluster.variables, lambda: cluster.processes(""))
    finished = run.answers[-1].finished
    assert finished is not None
    assert finished.state != "failed", finished.reason
    return Sample(finished.trials / run.seconds, 1e6 * run.cpu_s / finished.trials)
