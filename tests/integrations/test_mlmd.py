"""Lineage in a real store of ML Metadata, of a loop on a real installation."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.docs.snippets import snippets
from tests.integrations.environments import ROOT, Environment, environment
from tests.journeys.installation import Installation, installed, until

from everloop import Everloop
from everloop.local.ports import free_port

pytestmark = [pytest.mark.integrations, pytest.mark.timeout(400)]
LOOP = "lineage"
SPEC = """
loop: {loop}
task: binary
schema: {{a: {{type: number}}, b: {{type: number}}}}
models:
  - {{preset: logistic}}
  - {{estimator: sklearn.ensemble.HistGradientBoostingClassifier, window: 1000, every: 200}}
"""
PAGE = ROOT / "shared/docs/clients/mlmd.md"
Written = tuple[int, int, int]


class Exporter:
    """The command in the environment with ML Metadata, against an installation."""

    def __init__(self, mlmd: Environment, installation: Installation) -> None:
        self.mlmd, self.env = mlmd, {**mlmd.variables, **installation.environment, **_only_path(mlmd)}

    def command(self, uri: str, *options: str) -> list[str]:
        """Its command line."""
        return [self.mlmd.python, "-m", "everloop", "lineage", LOOP, "--mlmd", uri, "--json", *options]

    def write(self, uri: str, *options: str) -> Written:
        """Export once: new or changed runs, artifacts, and events."""
        done = self.run(self.command(uri, *options))
        assert done.returncode == 0, done.stderr
        written = json.loads(done.stdout)
        return written["runs"], written["artifacts"], written["events"]

    def dump(self, file: Path) -> dict[str, Any]:
        """What the store holds."""
        done = self.run([self.mlmd.python, "-m", "tests.integrations.metadata_dump", str(file)])
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    @contextmanager
    def running(self, *command: str) -> Iterator[subprocess.Popen[str]]:
        """A program in this environment, ended at the end."""
        process = subprocess.Popen(
            [self.mlmd.python, *command], env=self.env, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        """Run a program in it."""
        return subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=120, check=False)


def _only_path(mlmd: Environment) -> dict[str, str]:
    return {"PYTHONPATH": mlmd.variables["PYTHONPATH"]}


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A loop with an online line and a batch line that was trained."""
    environment("mlmd")  # skips before anything is started
    with installed(tmp_path_factory.mktemp("lineage")) as started:
        started.apply(LOOP, SPEC)
        with Everloop(str(started.folder)) as everloop:
            rows = [{"id": f"r{n}", "data": {"a": n % 7, "b": n % 3}} for n in range(300)]
            answers = everloop.predict(LOOP, rows)
            everloop.label(LOOP, [{"id": one.id, "label": n % 7 > 3} for n, one in enumerate(answers)])
        assert until(lambda: [run for run in runs_of(started) if run["data_set"] and run["state"] == "trained"], 90)
        assert until(lambda: {v["format"] for run in runs_of(started) for v in run["versions"]} >= {"river"}, 60)
        yield started


@pytest.fixture
def exporter(installation: Installation) -> Exporter:
    """The exporter against it."""
    return Exporter(environment("mlmd"), installation)


def runs_of(installation: Installation) -> list[dict[str, Any]]:
    """The runs as the command shows them."""
    done = installation.everloop("lineage", LOOP, "--json")
    return list(json.loads(done.stdout)["runs"]) if done.returncode == 0 else []


def named(dump: dict[str, Any]) -> list[tuple[str, str]]:
    """Every node by type and name."""
    return [(node["type"], node["node"]) for node in (*dump["executions"], *dump["artifacts"])]


def test_runs_data_sets_and_versions_are_joined_and_written_once(
    exporter: Exporter, installation: Installation, tmp_path: Path
) -> None:
    file, shown = tmp_path / "metadata.db", runs_of(installation)
    first = exporter.write(f"sqlite:///{file}")
    until(lambda: exporter.write(f"sqlite:///{file}") == (0, 0, 0), 60)  # the loop makes a version still, perhaps

    dump = exporter.dump(file)
    nodes = {node["id"]: node for node in dump["artifacts"]}
    assert exporter.write(f"sqlite:///{file}") == (0, 0, 0)
    assert first[0] >= len(shown) >= 2
    assert max(Counter(named(dump)).values()) == 1
    assert max(Counter((*event[:3],) for event in dump["events"]).values()) == 1
    [run, *_] = [run for run in shown if run["data_set"] and run["state"] == "trained"]
    [execution] = [one for one in dump["executions"] if one["run"] == run["name"]]
    joined = [(kind, nodes[artifact], path) for node, artifact, kind, path in dump["events"] if node == execution["id"]]
    [read] = [artifact for kind, artifact, path in joined if (kind, path) == ("INPUT", "data_set/0")]
    with Everloop(str(installation.folder)) as everloop:
        assert read["digest"] == everloop.dataset(read["name"]).digest
    assert (execution["type"], execution["state"], execution["line"]) == ("everloop.Run", "COMPLETE", run["line"])
    assert json.loads(execution["metrics"]) == run["metrics"]
    assert execution["metric_validation_log_loss"] == pytest.approx(run["metrics"]["validation_log_loss"], abs=1e-6)
    made = {v["name"]: (v["sha256"], v["uri"], v["format"]) for one in shown for v in one["versions"]}
    found = {n["version"]: (n["sha256"], n["uri"], n["format"]) for n in nodes.values() if "version" in n}
    assert made.items() <= found.items()
    outputs = {nodes[artifact]["version"] for _, artifact, kind, _ in dump["events"] if kind == "OUTPUT"}
    assert outputs == found.keys()
    assert {("everloop.Loop", LOOP), ("pipeline", LOOP), ("pipeline_run", f"{LOOP}.{run['name']}")} <= {
        (kind, name) for kind, name in dump["contexts"]
    }
    assert dump["bases"] == {"everloop.DataSet": 1, "everloop.Version": 2, "everloop.Run": 1}


def test_it_follows_new_runs_and_is_killed_without_leaving_anything_twice(
    exporter: Exporter, installation: Installation, tmp_path: Path
) -> None:
    file = tmp_path / "metadata.db"
    with exporter.running("-m", *exporter.command(f"sqlite:///{file}", "--follow", "--every", "0.2")[2:]) as follower:
        assert follower.stdout is not None
        assert json.loads(follower.stdout.readline())["runs"] >= 2
        done = installation.everloop("retrain", LOOP, "--reason", "followed", "--json")
        run = json.loads(done.stdout)["run"]
        assert json.loads(follower.stdout.readline())["runs"] >= 1
        follower.send_signal(signal.SIGKILL)
    exporter.write(f"sqlite:///{file}")

    dump = exporter.dump(file)
    assert run in {one["run"] for one in dump["executions"]}
    assert max(Counter(named(dump)).values()) == 1
    assert max(Counter((*event[:3],) for event in dump["events"]).values()) == 1


def test_a_server_takes_it_by_grpc_and_a_store_that_is_away_is_said(exporter: Exporter, tmp_path: Path) -> None:
    file, port = tmp_path / "served.db", free_port()
    away = exporter.run(exporter.command(f"grpc://127.0.0.1:{port}"))
    wrong = exporter.run(exporter.command("postgresql://127.0.0.1/metadata"))
    with exporter.running("-m", "tests.integrations.metadata_server", str(port), str(file)):
        assert until(lambda: exporter.run(exporter.command(f"grpc://127.0.0.1:{port}")).returncode == 0, 60)
        exporter.write(f"grpc://127.0.0.1:{port}", "--pipeline", "lineage-staging")

    names = [name for kind, name in named(exporter.dump(file)) if kind == "everloop.Run"]
    assert {name.partition("/")[0] for name in names} == {LOOP, "lineage-staging"}
    assert (away.returncode, wrong.returncode) == (1, 1)
    assert "metadata store" in away.stderr
    assert "write sqlite:///FILE, or grpc://HOST:PORT" in wrong.stderr


def test_the_snippets_of_the_page_run_in_that_environment(
    exporter: Exporter, installation: Installation, tmp_path: Path
) -> None:
    for snippet in snippets(PAGE):
        done = snippet.run(tmp_path, installation.folder)
        assert done.returncode == 0, done.stderr
    blocks = re.findall(r"^```(bash|py)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    [(_, write), (_, read)] = blocks
    command = write.strip().replace("mlmd/bin/everloop", f"{exporter.mlmd.python} -m everloop").split()
    installed_at = {"cwd": tmp_path, "env": exporter.env, "capture_output": True, "text": True}

    def has_version() -> bool:
        shutil.rmtree(tmp_path / "metadata.db", ignore_errors=True)
        written = subprocess.run(command, check=True, **installed_at)  # type: ignore[call-overload]
        done = subprocess.run([exporter.mlmd.python, "-c", read], check=False, **installed_at)  # type: ignore[call-overload]
        return bool(written.stdout) and done.returncode == 0 and "page-mlmd@" in done.stdout

    assert until(has_version, 60)
