"""The provider's wheel in a real Airflow: its tasks by `dag.test()`, and DAGs that a scheduler starts by events."""

from __future__ import annotations

import csv
import itertools
import json
import random
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.builders.onnx_models import logistic_onnx
from tests.integrations.airflow_rig import EXAMPLES, PROVIDER, Airflow, install_wheels, make_home
from tests.integrations.environments import environment
from tests.integrations.in_memory import in_memory
from tests.journeys.installation import Installation, until

from everloop import Everloop, EverloopError

pytestmark = [pytest.mark.integrations, pytest.mark.timeout(1500)]
WITHIN_S = 400.0
CHURN = """
apiVersion: everloop/v1
loop: churn
task: binary
schema: {visits: {type: number}, price: {type: number}}
models:
  - {preset: logistic}
  - {trainer: numpy, window: 300 outcomes, every: 500 outcomes}
monitor: {drift: all}
rollout: {approval: before_champion}
"""


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Everloop on the memory bus, which asks for tokens."""
    with in_memory(tmp_path_factory.mktemp("everloop"), "--auth") as started:
        yield started


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory, installation: Installation) -> Airflow:
    """Airflow with both wheels and a migrated database."""
    made = environment("airflow")
    install_wheels(made, tmp_path_factory.mktemp("wheels"))
    return make_home(made, tmp_path_factory.mktemp("airflow") / "home", installation)


def test_airflow_lists_the_provider_its_connection_and_its_fields(airflow: Airflow) -> None:
    providers = airflow.read("providers", "list")
    hooks = airflow.read("providers", "hooks")
    tested = airflow.cli("connections", "test", "everloop_default")
    wrong = {**json.loads(airflow.env["AIRFLOW_CONN_EVERLOOP_DEFAULT"]), "password": "evl_wrong"}
    refused = Airflow(airflow.python, airflow.home, {**airflow.env, "AIRFLOW_CONN_WRONG": json.dumps(wrong)}).cli(
        "connections", "test", "wrong"
    )
    fields = airflow.run(
        "-c",
        "import json; from airflow.providers_manager import ProvidersManager as P; m = P(); m.hooks;"
        "print('FIELDS', json.dumps([k for k in m.connection_form_widgets if '__everloop__' in k]));"
        "print(json.dumps(m.field_behaviours['everloop'], default=str))",
    )

    [ours] = [one for one in providers if one["package_name"] == "apache-airflow-providers-everloop"]
    [hook] = [one for one in hooks if one["connection_type"] == "everloop"]
    assert (ours["version"], hook["conn_id_attribute_name"]) == ("0.1.0", "everloop_conn_id")
    assert "Connection success" in tested.stdout, tested.stdout + tested.stderr
    assert "the registry refuses the token" in refused.stdout + refused.stderr
    assert all(name in fields.stdout for name in ("ca", "certificate", "registry_url", "console_url", "Token"))


def test_each_task_that_is_tried_again_after_its_work_does_not_do_it_twice(
    airflow: Airflow, installation: Installation
) -> None:
    files, dag = airflow.home / "files", airflow.home / "dags" / "everloop_steps.py"
    shutil.copy(PROVIDER / "tests" / "everloop_steps.py", dag)
    write_history(files / "history.csv", 200)
    (files / "model.onnx").write_bytes(logistic_onnx([1.0, -1.0]))

    with Everloop(str(installation.folder)) as everloop, feeding(everloop, "steps"):
        done = airflow.run(str(dag))

    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    results = {file.stem: read_lines(file) for file in files.glob("*.ndjson")}
    assert {name: len(found) for name, found in results.items()} == dict.fromkeys(
        ("apply", "backfill", "retrain", "submit", "promote", "export"), 2
    )
    assert [one["change"] for one in results["apply"]] == ["created", "unchanged"]
    assert [(one["sent"]["sent"], one["already"]) for one in results["backfill"]] == [(200, 0), (0, 200)]
    assert results["retrain"][0]["run"] == results["retrain"][1]["run"]
    assert [one["new"] for one in results["submit"]] == [True, False]
    assert results["export"][0] == results["export"][1]
    with Everloop(str(installation.folder)) as everloop:
        asked = [run for run in everloop.runs("steps") if "Airflow everloop_steps.retrain" in run["reason"]]
        promoted = [d for d in everloop.history("steps") if d["type"] == "registry.model_promoted.v1"]
    by_hand = [d for d in promoted if "Airflow everloop_steps.promote" in d["data"]["reason"]]
    assert (len(asked), asked[0]["state"]) == (1, "trained")
    assert [d["data"]["version"] for d in by_hand] == [results["submit"][0]["version"]]
    with (files / "steps.csv").open() as file:
        assert len(list(csv.reader(file))) == 101
    assert (files / "link.txt").read_text() == installation.services()["monitoring"]["url"] + "/#steps"


def test_events_start_dags_and_none_is_lost_while_the_triggerer_is_away(
    airflow: Airflow, installation: Installation
) -> None:
    with Everloop(str(installation.folder)) as everloop:
        everloop.apply(CHURN)
        for example in EXAMPLES.glob("example_*.py"):
            shutil.copy(example, airflow.home / "dags")
        with airflow.components():
            has_position = until(lambda: len(positions(airflow)) == 2, WITHIN_S)
            assert has_position, logs(airflow)
            feed(everloop, "churn", 1400, lowest=0, tag="before")
            trained = until(lambda: dag_runs(airflow, "external_trainer", "success"), WITHIN_S)
            assert trained, logs(airflow)
            airflow.kill("triggerer")
            feed(everloop, "churn", 700, lowest=20, tag="after")
            drifts = until(lambda: everloop.drifts("churn", early=True), 60)
            assert drifts
            airflow.start("triggerer")
            with feeding(everloop, "churn"):
                retrained = until(lambda: dag_runs(airflow, "retrain_on_drift", "success"), WITHIN_S)
            assert retrained, logs(airflow)
        runs = everloop.runs("churn")

    answered = [run for run in runs if run["trainer"] == "numpy" and run["state"] == "trained"]
    asked = [run for run in runs if "Airflow example_everloop_retrain_on_drift.retrain" in run["reason"]]
    learned = [run for run in asked if (airflow.home / "files" / f"{run['run']}.ndjson").exists()]
    assert answered
    assert any(drift["what"] in run["reason"] for run in asked for drift in drifts)
    assert [run["state"] for run in learned[:1]] == ["trained"]


@contextmanager
def feeding(everloop: Everloop, loop: str) -> Iterator[None]:
    """Outcomes as they come while the block runs: a run has finished once its line has learned some."""
    ends, turns = threading.Event(), itertools.count()

    def go_on() -> None:
        while not ends.wait(1.0):
            with suppress(EverloopError):  # before the loop is applied
                feed(everloop, loop, 20, lowest=0, tag=f"during-{next(turns)}")

    feeder = threading.Thread(target=go_on)
    feeder.start()
    try:
        yield
    finally:
        ends.set()
        feeder.join()


def feed(everloop: Everloop, loop: str, rows: int, *, lowest: float, tag: str) -> None:
    """Observations, predictions and labels, which say whether there are more visits than the price."""
    drawn = random.Random(tag)
    data = [{"visits": drawn.uniform(lowest, lowest + 10), "price": drawn.uniform(0, 10)} for _ in range(rows)]
    for start in range(0, rows, 100):
        some = [(f"{tag}-{start + i}", row) for i, row in enumerate(data[start : start + 100])]
        entries = [{"id": id, "data": row} for id, row in some]
        everloop.publish(loop, entries)
        everloop.predict(loop, entries)
        everloop.label(loop, [{"id": id, "label": row["visits"] > row["price"]} for id, row in some])


def write_history(file: Path, rows: int) -> None:
    """A history with times and labels."""
    drawn, start = random.Random(7), datetime(2024, 5, 1, tzinfo=UTC)
    with file.open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(["time", "visits", "price", "label"])
        for n in range(rows):
            visits, price = drawn.uniform(0, 10), drawn.uniform(0, 10)
            time = (start + timedelta(minutes=n)).isoformat()
            writer.writerow([time, visits, price, str(visits > price).lower()])


def read_lines(file: Path) -> list[dict[str, Any]]:
    """The lines of JSON in a file."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def dag_runs(airflow: Airflow, dag: str, state: str) -> list[Any]:
    """The runs of an example DAG in a state, from Airflow's database: the command takes seconds to start."""
    return query(airflow, "select id from dag_run where dag_id = ? and state = ?", f"example_everloop_{dag}", state)


def positions(airflow: Airflow) -> list[Any]:
    """The positions that the triggers of assets have stored."""
    return query(airflow, "select key from asset_state_store where key like 'everloop/%'")


def query(airflow: Airflow, sql: str, *values: str) -> list[Any]:
    """Rows of Airflow's database."""
    database = sqlite3.connect(f"file:{airflow.home / 'airflow.db'}?mode=ro", uri=True, timeout=30)
    try:
        return database.execute(sql, values).fetchall()
    finally:
        database.close()


def logs(airflow: Airflow) -> str:
    """The ends of the components' logs."""
    return "\n".join(f"{file.name}: {file.read_text(errors='replace')[-2500:]}" for file in airflow.home.glob("*.log"))
