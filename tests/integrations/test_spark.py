"""Spark ML as a trainer: from the archive, from the topic, and after a kill, on a real local Spark and a real Kafka."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.integrations.environments import ROOT, Environment, environment
from tests.journeys.installation import Installation, installed, until

from everloop import Everloop
from everloop_archive.layout import TableName
from everloop_archive.stores import ArchiveStore
from everloop_archive.table_log import TableLog

JOB = ROOT / "deploy" / "spark" / "train.py"
QUICK = ("--master", "local[2]", "--memory", "512m", "--conf", "spark.driver.extraJavaOptions=-XX:TieredStopAtLevel=1")
"""Compiled quickly rather than well: a test of seconds ends before the better code is worth its making."""
SPEC = """
loop: {loop}
task: binary
schema: {{a: {{type: number}}, b: {{type: number, missing: "null"}}, shop: {{type: string, missing: "null"}}}}
models:
  - preset: logistic
  - {{trainer: {loop}, window: 2000 outcomes, every: 200 outcomes, algorithm: random_forest, numTrees: 3, maxDepth: 3}}
"""
EVERY = 200

pytestmark = [pytest.mark.integrations, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def spark() -> Environment:
    """The environment of the job."""
    return environment("spark")


@pytest.fixture(scope="module")
def installation(spark: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation with an archive, whose leases are short."""
    folder = tmp_path_factory.mktemp("spark")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVERLOOP_ARCHIVE", (folder / "archive").as_uri())
        patch.setenv("EVERLOOP_ARCHIVE_SECONDS", "1")
        patch.setenv("EVERLOOP_TRAINING_LEASE_S", "5")
        with installed(folder / "data") as started:
            yield started


def send(client: Everloop, loop: str, start: int, rows: int) -> None:
    """Observations with some missing values, and their labels."""
    chance = random.Random(start)
    entries, labels = [], []
    for i in range(start, start + rows):
        a, b = chance.random(), chance.random()
        data = {"a": a, "b": b if i % 7 else None, "shop": chance.choice(["north", "south", None])}
        entries.append({"id": f"{loop}-{i}", "data": data})
        labels.append({"id": f"{loop}-{i}", "label": (a > 0.5) != (b > 0.5)})
    client.publish(loop, entries)
    client.label(loop, labels)


def runs_of_trainer(client: Everloop, loop: str) -> list[dict[str, Any]]:
    """The runs that ask the job for a model."""
    runs = client.request("training", "GET", f"/v1/loops/{loop}/runs").json()["runs"]
    return [run for run in runs if run["model"].get("trainer") == loop and run["data_set"]]


def archived(archive: Path, loop: str) -> int:
    """The number of outcomes of a loop in the archive."""
    log = TableLog(ArchiveStore(archive.as_uri()), TableName("outcomes", loop))
    return sum(file.rows for file in log.files())


class Job:
    """The job as a process."""

    def __init__(self, spark: Environment, installation: Installation, loop: str, folder: Path, *args: str) -> None:
        self._log = folder / f"{len(list(folder.iterdir()))}.log"
        env = {**installation.environment, "EVERLOOP_SOURCE": str(ROOT)}
        command = [spark.python, str(JOB), loop, "--name", loop, *QUICK, *args]
        with self._log.open("wb") as file:
            self.process = subprocess.Popen(command, env=env, stdout=file, stderr=subprocess.STDOUT)

    def said(self) -> str:
        """Its log so far."""
        return self._log.read_text()

    def kill(self) -> None:
        """Kill it at once."""
        self.process.kill()
        self.process.wait(30)


@contextmanager
def job(spark: Environment, installation: Installation, loop: str, folder: Path, *args: str) -> Iterator[Job]:
    """The job, ended at the end."""
    started = Job(spark, installation, loop, folder, *args)
    try:
        yield started
    finally:
        started.kill()


def test_every_algorithm_becomes_an_onnx_model_that_says_the_same(spark: Environment) -> None:
    script = ROOT / "deploy" / "spark" / "check.py"
    settings = QUICK[-1]

    done = subprocess.run(
        [spark.python, str(script), settings], env=spark.variables, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr[-3_000:]
    models = {line["name"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert len(models) == 7
    assert {tuple(model["inputs"]) for model in models.values()} == {("a", "n.b", "is it", "never", "shop")}
    assert models["random_forest"]["classes"] == ["a", "b", "c"]
    assert all(model["metrics"]["validation_accuracy"] > 0.6 for model in models.values() if model["classes"])


def test_a_model_that_spark_trained_on_the_archive_challenges_also_where_a_job_was_killed(
    spark: Environment, installation: Installation, tmp_path: Path
) -> None:
    loop = "spark-archive"
    installation.apply(loop, SPEC)
    archive = ("--archive", (installation.folder.parent / "archive").as_uri())
    with Everloop(str(installation.folder)) as client:
        send(client, loop, 0, EVERY)
        [run] = until(lambda: runs_of_trainer(client, loop), 60)
        assert until(lambda: archived(installation.folder.parent / "archive", loop) == EVERY, 60)
        with job(spark, installation, loop, tmp_path, *archive) as killed:
            assert until(lambda: f"run {run['run']}" in killed.said(), 180), killed.said()
        taken = [e for e in installation.read("training.run_finished.v1", loop) if e["data"]["run"] == run["run"]]

        with job(spark, installation, loop, tmp_path, *archive) as working:
            assert until(lambda: "has ended" in working.said(), 300), working.said()
            said = working.said()
        [ended] = [r for r in runs_of_trainer(client, loop) if r["run"] == run["run"]]
        data_set = client.dataset(run["data_set"]["name"])
        versions = client.request("registry", "GET", f"/v1/loops/{loop}/versions").json()["versions"]

    assert taken == []
    assert ended["state"] == "trained", said
    [version] = [v for v in versions if v["manifest"]["trainer"] == loop]
    assert version["manifest"]["format"] == "onnx"
    assert version["manifest"]["data_set"]["digest"] == data_set.digest
    assert version["manifest"]["data_set"]["rows"] == len(data_set)
    assert "by the client" not in said
    assert re.search(r"the ONNX file says the same as Spark on \d+ rows", said)


def test_a_model_that_spark_trained_on_the_topic_challenges(
    spark: Environment, installation: Installation, tmp_path: Path
) -> None:
    loop = "spark-topic"
    installation.apply(loop, SPEC)
    stream = ("--stream", "--folder", str(tmp_path / "stream"))
    with Everloop(str(installation.folder)) as client:
        send(client, loop, 0, EVERY)
        first = until(lambda: runs_of_trainer(client, loop), 60)[-1]
        with job(spark, installation, loop, tmp_path, *stream) as working:
            assert until(lambda: f"run {first['run']} has ended" in working.said(), 300), working.said()
            send(client, loop, EVERY, EVERY)
            assert until(lambda: len(runs_of_trainer(client, loop)) == 2, 60)
            assert until(lambda: working.said().count("has ended") == 2, 300), working.said()
        versions = client.request("registry", "GET", f"/v1/loops/{loop}/versions").json()["versions"]
        trained = [v["manifest"]["data_set"] for v in versions if v["manifest"]["trainer"] == loop]
        digests = {
            (each["start"], each["end"]): client.dataset(loop, start=each["start"], end=each["end"]).digest
            for each in trained
        }

    assert len(trained) == 2
    assert {(each["start"], each["end"]): each["digest"] for each in trained} == digests


def test_what_the_archive_does_not_have_yet_comes_from_the_log(
    spark: Environment, installation: Installation, tmp_path: Path
) -> None:
    loop = "spark-both"
    installation.apply(loop, SPEC)
    archive, before = installation.folder.parent / "archive", tmp_path / "before"
    with Everloop(str(installation.folder)) as client:
        send(client, loop, 0, EVERY)
        assert until(lambda: archived(archive, loop) == EVERY, 60)
        shutil.copytree(archive, before)
        send(client, loop, EVERY, EVERY)
        assert until(lambda: len(runs_of_trainer(client, loop)) == 2, 60)
        newest = max(runs_of_trainer(client, loop), key=lambda run: int(run["data_set"]["end"]))
        with job(spark, installation, loop, tmp_path, "--archive", before.as_uri()) as working:
            assert until(lambda: f"run {newest['run']} has ended" in working.said(), 300), working.said()
            said = working.said()
        data_set = client.dataset(newest["data_set"]["name"])
        versions = client.request("registry", "GET", f"/v1/loops/{loop}/versions").json()["versions"]

    assert f"run {newest['run']}: {EVERY} rows are read by the client, the others by Spark" in said
    digests = [v["manifest"]["data_set"]["digest"] for v in versions if v["manifest"]["trainer"] == loop]
    assert data_set.digest in digests
    assert len(data_set) == 2 * EVERY
