"""Kubeflow Pipelines: each component, and the example pipeline, by the local runner against a real installation."""

from __future__ import annotations

import json
import re
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integrations.environments import ROOT, Environment, environment
from tests.integrations.in_memory import in_memory, send, traffic
from tests.journeys.installation import Installation, until
from tests.wheels import build_wheel

from everloop import Everloop

pytestmark = [pytest.mark.integrations, pytest.mark.timeout(600)]
FOLDER = ROOT / "deploy" / "kubeflow"
COMPILED = FOLDER / "pipelines" / "forest.yaml"
PAGE = ROOT / "shared" / "docs" / "kubeflow.md"
LOOP = "page-kubeflow"
SPEC = """
loop: {loop}
task: binary
schema: {{a: {{type: number}}, b: {{type: number}}}}
models: [{{preset: logistic}}]
rollout: {{shadow: 20 predictions, canary: [50%], step: 30 outcomes}}
"""


class Kfp:
    """KFP's local runner in its environment, against an installation."""

    def __init__(self, kfp: Environment, installation: Installation, folder: Path) -> None:
        path = f"{FOLDER}:{FOLDER / 'pipelines'}:{kfp.variables['PYTHONPATH']}"
        self.python, self.folder = kfp.python, folder
        own = {"PYTHONPATH": path, "EVERLOOP_KFP_IMAGE": "python-with-everloop"}  # so that no step asks pip
        self.env = kfp.variables | installation.environment | installation.addresses() | own

    def run(self, name: str, **inputs: Any) -> dict[str, Any]:
        """Run a component, or the pipeline; its outputs. What failed is in the text of the AssertionError."""
        runner = ["-m", "tests.integrations.kfp_runner", str(self.folder / "artifacts"), name, json.dumps(inputs)]
        done = self.python_run(*runner)
        assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-2000:]}"
        outputs: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return outputs

    def python_run(self, *arguments: str, **changed: str) -> subprocess.CompletedProcess[str]:
        """Run Python there."""
        return subprocess.run(
            [self.python, *arguments],
            env=self.env | changed,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation without loops."""
    environment("kfp")  # skips before anything is started
    with in_memory(tmp_path_factory.mktemp("kubeflow")) as started:
        yield started


@pytest.fixture
def kfp(installation: Installation, tmp_path: Path) -> Kfp:
    """The runner against it."""
    return Kfp(environment("kfp"), installation, tmp_path)


def outcomes(installation: Installation, loop: str) -> int:
    """How many outcomes the loop has."""
    return int(installation.status(loop).get("outcomes") or 0)


def test_the_page_s_code_trains_a_forest_that_becomes_champion(kfp: Kfp, installation: Installation) -> None:
    installation.apply(LOOP, SPEC)
    with Everloop(str(installation.folder)) as everloop:
        send(everloop, LOOP, 0, 600)
    assert until(lambda: outcomes(installation, LOOP) >= 600, 90)
    [(_, compile_it), (_, run_it), (_, with_secret)] = re.findall(
        r"^```(bash|py)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL
    )
    (kfp.folder / "deploy").symlink_to(ROOT / "deploy")

    compiled = kfp.python_run(*compile_it.split()[1:])
    with traffic(installation, LOOP, 600):
        ran = kfp.python_run("-c", run_it)
    secret = kfp.python_run("-c", with_secret)

    assert (compiled.returncode, ran.returncode, secret.returncode) == (0, 0, 0), compiled.stderr + ran.stdout[-4000:]
    champion = ran.stdout.splitlines()[-1]
    with Everloop(str(installation.folder)) as everloop:
        promoted = [e for e in everloop.history(LOOP) if e["type"] == "registry.model_promoted.v1"]
        [submitted] = [row["manifest"] for row in everloop.versions(LOOP) if row["reason"] == "submitted"]
    assert champion.startswith("forest-")
    assert champion in {event["data"]["version"] for event in promoted}
    assert submitted["metrics"]["accuracy"] > 0.8
    assert submitted["data_set"]["end"] - submitted["data_set"]["start"] == 299
    assert "everloop-token" in (kfp.folder / "retrain.yaml").read_text()
    assert (kfp.folder / "forest.yaml").exists()


def write_history(file: Path) -> None:
    """240 hours of March 2024, with labels."""
    rows = [
        f"2024-03-{1 + n // 24:02d}T{n % 24:02d}:00:00Z,{n % 7},{n % 3},{str(n % 7 > 3).lower()}" for n in range(240)
    ]
    file.write_text("\n".join(["time,a,b,label", *rows]) + "\n")


def test_each_step_is_a_component_and_again_it_changes_nothing(
    kfp: Kfp, installation: Installation, tmp_path: Path
) -> None:
    text, history = SPEC.format(loop="steps"), tmp_path / "history.csv"
    write_history(history)

    applied, unchanged = (kfp.run("apply_loop", loop_file=text) for _ in range(2))
    filled = kfp.run("backfill", loop="steps", source=str(history), label="label")["Output"]
    assert until(lambda: outcomes(installation, "steps") == 240, 90)
    filled_again = kfp.run("backfill", loop="steps", source=str(history), label="label")["Output"]
    exported = kfp.run("export_data_set", loop="steps", last=100)

    assert (applied["revision"], applied["change"], unchanged["change"]) == (1, "created", "unchanged")
    assert (filled["sent"]["sent"], filled_again["sent"]["sent"]) == (240, 0)
    with Everloop(str(installation.folder)) as everloop:
        rows = everloop.dataset("steps", last=100)
    assert (exported["name"], exported["rows"], exported["digest"]) == (rows.name, 100, rows.digest)
    assert exported["data_set"]["metadata"]["features"] == ["a", "b"]
    assert len(Path(exported["data_set"]["path"]).read_text().splitlines()) == 101


def test_a_run_is_started_once_and_waited_for_and_a_version_is_promoted_once(
    kfp: Kfp, installation: Installation
) -> None:
    installation.apply("runs", SPEC)
    with Everloop(str(installation.folder)) as everloop:
        send(everloop, "runs", 0, 300)
        assert until(lambda: outcomes(installation, "runs") >= 300, 90)

        run, again = (kfp.run("retrain", loop="runs", key="job-7")["Output"] for _ in range(2))
        with traffic(installation, "runs", 1000):
            line = kfp.run("wait_for_run", loop="runs", run=run, within_s=120.0, every_s=0.5)["Output"]
        [started] = [row for row in everloop.runs("runs") if row["run"] == run]
        [version, *_] = [row["version"] for row in everloop.versions("runs") if row["slot"] is None]
        promoted = [kfp.run("promote", loop="runs", version=version)["Output"] for _ in range(2)]
        decided = [e for e in everloop.history("runs") if e["type"] == "registry.model_promoted.v1"]

    assert run == again
    assert (started["state"], started["line"]) == ("trained", line)
    assert promoted == [version] * 2
    assert [event["data"]["version"] for event in decided][-1] == version


def test_a_wait_that_cannot_end_well_fails_with_the_reason(kfp: Kfp, installation: Installation) -> None:
    installation.apply("idle", SPEC)

    with pytest.raises(AssertionError, match="no outcome to learn yet"):
        kfp.run("retrain", loop="idle")
    with pytest.raises(AssertionError, match="run of-nobody of idle is unknown after 1 s"):
        kfp.run("wait_for_run", loop="idle", run="of-nobody", within_s=1.0, every_s=0.2)


def test_the_compiled_example_is_current_and_names_no_token(kfp: Kfp, tmp_path: Path) -> None:
    for name in [name for name in kfp.env if re.fullmatch("EVERLOOP_([A-Z]+_URL|KFP_IMAGE)", name)]:
        del kfp.env[name]
    pipeline = str(FOLDER / "pipelines/forest.py")
    own = kfp.python_run(pipeline, "own.yaml", EVERLOOP_KFP_IMAGE="ghcr.io/me/everloop-kfp:1")
    done = kfp.python_run(pipeline, "compiled.yaml")

    assert done.returncode == own.returncode == 0, done.stderr + own.stderr
    assert (tmp_path / "compiled.yaml").read_text() == COMPILED.read_text(), "python forest.py forest.yaml"
    assert (tmp_path / "own.yaml").read_text().count("image: ghcr.io/me/everloop-kfp:1") == 4
    assert "'everloop==" not in (tmp_path / "own.yaml").read_text()


def test_the_wheel_holds_the_components_and_asks_for_the_light_client(tmp_path: Path) -> None:
    wheel = build_wheel(FOLDER, tmp_path)

    with zipfile.ZipFile(wheel) as packed:
        [metadata] = [name for name in packed.namelist() if name.endswith("METADATA")]
        assert "everloop_kfp/components.py" in packed.namelist()
        assert "Requires-Dist: everloop\n" in packed.read(metadata).decode()
