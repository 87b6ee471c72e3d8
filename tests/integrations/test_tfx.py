"""TFX: data validated with the schema of a loop file, a forest trained, and submitted to a real installation."""

from __future__ import annotations

import os
import random
import re
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integrations.environments import ROOT, Environment, environment
from tests.integrations.in_memory import in_memory
from tests.journeys.installation import Installation, until

from everloop import Everloop

pytestmark = [pytest.mark.integrations, pytest.mark.timeout(900)]
PAGE, JOB = ROOT / "shared/docs/tfx.md", ROOT / "deploy" / "tfx"
LOOP = "page-tfx"
SPEC = """
loop: {loop}
task: binary
schema:
  a: {{type: number, min: -1, max: 1}}
  b: {{type: number}}
  plan: {{type: string, enum: [free, pro]}}
  calls: {{type: integer, min: 0, missing: "null"}}
features: [{{fields: all}}, {{name: calls_before, mean: calls, over: 10 events}}]
models: [{{preset: logistic}}]
"""
WANTED = """
feature { name: "a" value_count { min: 1 max: 1 } type: FLOAT float_domain { min: -1 max: 1 disallow_nan: true
  disallow_inf: true } presence { min_fraction: 1 min_count: 1 } }
feature { name: "plan" value_count { min: 1 max: 1 } type: BYTES string_domain { name: "plan" value: "free"
  value: "pro" } presence { min_fraction: 1 min_count: 1 } }
feature { name: "calls" value_count { min: 1 max: 1 } type: INT int_domain { min: 0 } }
feature { name: "calls_before" value_count { min: 1 max: 1 } type: FLOAT float_domain { disallow_nan: true
  disallow_inf: true } }
feature { name: "label" value_count { min: 1 max: 1 } type: INT int_domain { min: 0 max: 1 } presence { min_fraction: 1
  min_count: 1 } }
"""
COMPARE = """
import sys
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
found, wanted = (text_format.Parse(text, schema_pb2.Schema()) for text in (open(sys.argv[1]).read(), sys.argv[2]))
by_name = {feature.name: feature for feature in found.feature}
print([each.name for each in wanted.feature if by_name[each.name] != each], sorted(by_name))
"""


@pytest.fixture(scope="module")
def tfx() -> Environment:
    """The environment of TFX."""
    return environment("tfx")


@pytest.fixture(scope="module")
def installation(tfx: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A loop with 400 outcomes."""
    chance = random.Random(1)
    with in_memory(tmp_path_factory.mktemp("tfx")) as started:
        started.apply(LOOP, SPEC)
        rows: list[dict[str, Any]] = [
            {"a": chance.uniform(-1, 1), "b": chance.uniform(-1, 1), "plan": plan, "calls": calls}
            for plan, calls in [("pro", 1), ("free", None)] * 200
        ]
        with Everloop(str(started.folder)) as everloop:
            everloop.predict(LOOP, [{"id": f"r{n}", "data": row} for n, row in enumerate(rows)])
            everloop.label(LOOP, [{"id": f"r{n}", "label": row["a"] * row["b"] > 0} for n, row in enumerate(rows)])
        assert until(lambda: (started.status(LOOP).get("outcomes") or 0) >= 400, 120)
        yield started


def run(
    tfx: Environment, installation: Installation, folder: Path, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run Python of the environment as the page says, in a folder that has the repository's deploy."""
    path = {"PYTHONPATH": f"{JOB}:{ROOT / 'shared'}:{ROOT / 'schemas'}", "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(
        [tfx.python, *arguments],
        cwd=folder,
        env=os.environ | installation.environment | path,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def commands() -> list[list[str]]:
    """The page's two commands, without Python's name."""
    blocks = re.findall(r"^```bash\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return [block.split()[1:] for block in blocks]


def test_a_forest_of_valid_data_is_submitted_and_invalid_data_end_the_pipeline_before_anything_is_trained(
    tfx: Environment, installation: Installation, tmp_path: Path
) -> None:
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    rows = ["0.5,0.5,pro,1,1,true", "0.5,-0.5,free,1,1,false", "7,0.5,platinum,1,1,true", "0.5,0.5,,1,1,true"]
    (tmp_path / "extract.csv").write_text("\n".join(["a,b,plan,calls,calls_before,label", *(rows * 10)]) + "\n")
    valid, invalid = commands()

    trained = run(tfx, installation, tmp_path, *valid)
    compared = run(tfx, installation, tmp_path, "-c", COMPARE, "tfx-runs/schema/schema.pbtxt", WANTED)
    refused = run(tfx, installation, tmp_path, *invalid)

    assert trained.returncode == 0, trained.stderr[-4000:]
    assert compared.stdout.strip() == "[] ['a', 'b', 'calls', 'calls_before', 'label', 'plan']"
    with Everloop(str(installation.folder)) as everloop:
        [submitted] = [row for row in everloop.versions(LOOP) if row["reason"] == "submitted"]
    assert submitted["version"].startswith("tfx-forest-")
    assert submitted["manifest"]["metrics"]["accuracy"] > 0.7
    assert submitted["manifest"]["data_set"]["end"] - submitted["manifest"]["data_set"]["start"] == 399
    assert refused.returncode == 1
    assert "Unexpected string values" in refused.stderr
    assert "platinum" in refused.stderr
    assert "Out-of-range" in refused.stderr or "High values" in refused.stderr or "Unexpectedly high" in refused.stderr
    assert [executions(tmp_path / "tfx-runs" / "metadata.db", kind) for kind in ("Trainer", "SubmitModel")] == [1, 1]


def executions(store: Path, kind: str) -> int:
    """How many executions of a component the pipeline's ML Metadata has."""
    with sqlite3.connect(store) as database:
        query = "SELECT COUNT(*) FROM Execution JOIN Type ON Type.id = Execution.type_id WHERE Type.name LIKE ?"
        return int(database.execute(query, (f"%{kind}",)).fetchone()[0])
