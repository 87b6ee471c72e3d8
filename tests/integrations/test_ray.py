"""Searches and batch trainings on a real Ray with two workers, which are killed, and on one that is away."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from tests.everloop_models.search.searching import ratio_stream, search_task, write_rows
from tests.integrations.environments import Environment
from tests.integrations.ray_cluster import BUSY, RayCluster, ray_cluster, until, until_ended

from everloop.local.ports import free_port
from everloop_models.search.protocol import TASK, Answer, SearchTask
from everloop_schemas.loop_parts import ModelSpec
from everloop_schemas.search_spec import ParameterRange

pytestmark = [pytest.mark.integrations, pytest.mark.timeout(300)]
TREE = ModelSpec(estimator="sklearn.tree.DecisionTreeClassifier")
DEPTHS = {"max_depth": ParameterRange(between=(1, 12)), "min_samples_leaf": ParameterRange(log=(1, 100))}
HOEFFDING = ModelSpec(preset="hoeffding_tree")
GRACE = {"grace_period": ParameterRange(between=(10, 400)), "max_depth": ParameterRange(between=(1, 8))}


class Search:
    """The process of a search in the environment of Ray, and what it answers."""

    def __init__(self, ray: Environment, folder: Path, task: SearchTask, variables: dict[str, str]) -> None:
        (folder / TASK).write_bytes(task.encode())
        self._errors = folder / "errors"
        with self._errors.open("w") as errors:
            self.process = subprocess.Popen(
                [ray.python, "-m", "everloop_models.search.child", str(folder), str(os.getpid())],
                env=variables,
                stdout=subprocess.PIPE,
                stderr=errors,
            )

    def answers(self) -> list[dict[str, Any]]:
        """All answers, without how long each took."""
        output, _ = self.process.communicate(timeout=240)
        assert self.process.returncode == 0, self._errors.read_text()[-3_000:]
        answers = [Answer.decode(line).model_dump(exclude_none=True) for line in output.splitlines()]
        for answer in answers:
            for part in answer.values():
                if isinstance(part, dict):
                    part.pop("seconds")
        return answers


def _search(ray: Environment, folder: Path, address: str, variables: dict[str, str], rows: int, **task: Any) -> Search:
    folder.mkdir()
    write_rows(folder, ratio_stream(rows))
    made = search_task(**{"model": TREE, "space": DEPTHS, "workers": 2, **task})
    return Search(ray, folder, made.model_copy(update={"ray": address}), variables)


@pytest.mark.parametrize(
    ("auto", "model", "space"), [(False, TREE, DEPTHS), (True, HOEFFDING, GRACE)], ids=["client-batch", "auto-online"]
)
def test_the_same_seed_gives_the_same_trials_on_ray_as_on_processes(
    ray: Environment, cluster: RayCluster, tmp_path: Path, auto: bool, model: ModelSpec, space: Any
) -> None:
    how = {"rows": 800, "model": model, "space": space, "trials": 8, "features": 2}
    here = _search(ray, tmp_path / "here", "", cluster.variables, **how).answers()

    there = _search(ray, tmp_path / "there", "auto" if auto else cluster.address, cluster.variables, **how).answers()

    assert there == here
    assert len(there) == 11
    assert not any(answer["trial"]["state"] == "failed" for answer in there[:-1])


def test_a_search_whose_workers_are_killed_again_and_again_ends_as_without(
    ray: Environment, cluster: RayCluster, tmp_path: Path
) -> None:
    how = {"rows": 20_000, "trials": 8}
    here = _search(ray, tmp_path / "here", "", cluster.variables, **how).answers()

    search = _search(ray, tmp_path / "there", cluster.address, cluster.variables, **how)
    for _ in range(2):
        killed = until(lambda: cluster.processes(BUSY))
        for worker in killed:
            worker.kill()
        until_ended(killed)
    there = search.answers()

    assert there == here


def test_a_search_ends_where_ray_dies_meanwhile_and_says_so(ray: Environment, tmp_path: Path) -> None:
    with ray_cluster(ray, tmp_path) as cluster:
        search = _search(ray, tmp_path / "there", "auto", cluster.variables, rows=100_000, trials=40)
        until(lambda: cluster.processes(BUSY))
        cluster.kill()
        started = time.monotonic()

        [*_, last] = search.answers()

    assert "is away" in last["unavailable"]
    assert time.monotonic() - started < 60


@pytest.mark.parametrize("auto", [False, True], ids=["client", "auto"])
def test_a_search_says_soon_that_ray_is_away(ray: Environment, tmp_path: Path, auto: bool) -> None:
    address = "auto" if auto else f"ray://127.0.0.1:{free_port()}"

    [answer] = _search(ray, tmp_path / "there", address, ray.variables, rows=100).answers()

    assert answer["unavailable"].startswith(f"Ray at {address} cannot be reached: ")


def test_a_search_fails_where_a_worker_has_another_release_of_a_package_and_names_it(
    ray: Environment, tmp_path: Path
) -> None:
    other = tmp_path / "other" / "scikit_learn-9.9.9.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: scikit-learn\nVersion: 9.9.9\n")
    path = f"{other.parent}{os.pathsep}{ray.variables['PYTHONPATH']}"
    with ray_cluster(ray._replace(variables={**ray.variables, "PYTHONPATH": path}), tmp_path, 1) as cluster:
        driver = {**cluster.variables, "PYTHONPATH": ray.variables["PYTHONPATH"]}

        [answer] = _search(ray, tmp_path / "there", cluster.address, driver, rows=100).answers()

    assert answer["finished"]["state"] == "failed"
    assert "scikit-learn is 9.9.9, here it is 1." in answer["finished"]["reason"]
    assert "pip install" in answer["finished"]["reason"]


@pytest.mark.parametrize("auto", [False, True], ids=["client", "auto"])
def test_where_a_search_is_killed_its_workers_end(
    ray: Environment, cluster: RayCluster, tmp_path: Path, auto: bool
) -> None:
    address = "auto" if auto else cluster.address
    search = _search(ray, tmp_path / "there", address, cluster.variables, rows=100_000, trials=40)
    busy = until(lambda: cluster.processes(BUSY))
    inside = [child for worker in busy for child in worker.children(recursive=True)]

    search.process.kill()
    search.process.communicate()

    until_ended([*busy, *inside])


LARGE = """
import json, sys
from pathlib import Path
from everloop_models.compute.ray_driver import connected
with connected(sys.argv[1], []) as driver:
    driver.put([Path(sys.argv[2])])
    print(json.dumps(driver.call("tests.integrations.ray_functions:seen", [["large"]] * 2, 60)))
"""


def test_a_large_file_is_stored_once_for_all_calls_on_a_machine(
    ray: Environment, cluster: RayCluster, tmp_path: Path
) -> None:
    data = os.urandom(1 << 20) * 70
    (tmp_path / "large").write_bytes(data)
    command = [ray.python, "-c", LARGE, cluster.address, str(tmp_path / "large")]

    first, second = json.loads(subprocess.check_output(command, env=cluster.variables))

    assert first["sha256"] == second["sha256"] == hashlib.sha256(data).hexdigest()
    assert first["inode"] == second["inode"]
    assert first["process"] != second["process"]
    assert not Path(first["folder"]).exists()
