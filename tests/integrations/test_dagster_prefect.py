"""The code of the pages on Dagster and Prefect, run by these against a real installation."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from tests.integrations.environments import ROOT, environment
from tests.integrations.in_memory import in_memory, traffic
from tests.journeys.installation import Installation, until

from everloop import Everloop, Prediction

pytestmark = [pytest.mark.integrations, pytest.mark.timeout(600)]
SPEC = """
loop: {loop}
task: binary
schema: {{a: {{type: number}}, b: {{type: number}}}}
models: [{{preset: logistic}}]
"""
BATCH = 100
DAGSTER = """
import json
from dagster import DagsterInstance, build_sensor_context, materialize
with DagsterInstance.ephemeral() as instance:
    done = materialize([data_set, fresh_line], instance=instance)
    events = [event.step_materialization_data for event in done.get_asset_materialization_events()]
    told = [event.materialization.metadata for event in events]
    keys = [request.run_key for request in on_drift(build_sensor_context(instance=instance, definitions=definitions))]
print(json.dumps({"told": [{name: value.value for name, value in each.items()} for each in told], "keys": keys}))
"""
PREFECT = """
import json
print(json.dumps(weekly(last=300, within_s=120)))
"""


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation without loops."""
    with in_memory(tmp_path_factory.mktemp("orchestrators")) as started:
        yield started


def drifted(installation: Installation, loop: str) -> list[str]:
    """A loop whose labels turned into their opposites after its champion had predicted them; the ids of its drifts."""
    installation.apply(loop, SPEC)
    starts = count(0, BATCH)
    with Everloop(str(installation.folder)) as everloop:
        assert until(lambda: live(everloop, loop, next(starts)).role == "champion", 120)
        for _ in range(10):
            live(everloop, loop, next(starts))
        for _ in range(15):
            live(everloop, loop, next(starts), turned=True)
        return [str(drift["id"]) for drift in until(lambda: everloop.drifts(loop), 60)]


def live(everloop: Everloop, loop: str, start: int, *, turned: bool = False) -> Prediction:
    """Send a batch of rows and labels, and wait for their outcomes; the last prediction."""
    numbers = range(start, start + BATCH)
    made = everloop.predict(loop, [{"id": f"r{n}", "data": {"a": n % 7, "b": n % 3}} for n in numbers])
    everloop.label(loop, [{"id": f"r{n}", "label": (n % 7 > 3) != turned} for n in numbers])
    assert until(lambda: (everloop.status(loop).get("outcomes") or 0) >= start + BATCH, 120)
    return made[-1]


def run(name: str, page: str, then: str, installation: Installation, folder: Path) -> dict[str, Any]:
    """Run the code of a page and some more in an environment; what it printed at last."""
    [code] = re.findall(r"^```py\n(.*?)^```$", (ROOT / "shared/docs" / page).read_text(), re.MULTILINE | re.DOTALL)
    (folder / "of_page.py").write_text(code + then)
    found = environment(name)
    own = {
        "PREFECT_HOME": str(folder),
        "DAGSTER_HOME": str(folder),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
    }
    path = {"PYTHONPATH": found.variables["PYTHONPATH"]}
    done = subprocess.run(
        [found.python, "of_page.py"],
        cwd=folder,
        env=os.environ | installation.environment | path | own,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    printed: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return printed


def test_dagster_materialises_the_assets_and_asks_for_a_run_by_each_drift(
    installation: Installation, tmp_path: Path
) -> None:
    environment("dagster")
    drifts = drifted(installation, "page-dagster")

    printed = run("dagster", "dagster.md", DAGSTER, installation, tmp_path)

    exported, started = printed["told"]
    with Everloop(str(installation.folder)) as everloop:
        rows = everloop.dataset("page-dagster", last=5000)
        assert (exported["name"], exported["digest"], exported["rows"]) == (rows.name, rows.digest, len(rows))
        assert started["run"] in {row["run"] for row in everloop.runs("page-dagster")}
    assert drifts
    assert set(drifts) <= set(printed["keys"])


def test_prefect_runs_the_flow_and_its_run_ends(installation: Installation, tmp_path: Path) -> None:
    environment("prefect")
    installation.apply("page-prefect", SPEC)
    with Everloop(str(installation.folder)) as everloop:
        rows = [{"id": f"r{n}", "data": {"a": n % 7, "b": n % 3}} for n in range(400)]
        everloop.predict("page-prefect", rows)
        everloop.label("page-prefect", [{"id": f"r{n}", "label": n % 7 > 3} for n in range(400)])
        assert until(lambda: (everloop.status("page-prefect").get("outcomes") or 0) >= 400, 120)

        with traffic(installation, "page-prefect", 1000):
            printed = run("prefect", "prefect.md", PREFECT, installation, tmp_path)

        assert everloop.dataset(printed["data_set"]["name"]).digest == printed["data_set"]["digest"]
        [started] = [row for row in everloop.runs("page-prefect") if row["run"] == printed["run"]]
    assert printed["state"] == "trained" == started["state"]
    assert (tmp_path / "data-set.csv").exists()
