"""A DAG of every operator, each of which fails once after it has acted, and is tried again; run by `dag.test()`."""

from __future__ import annotations

import json
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.providers.everloop.operators.data import EverloopBackfillOperator, EverloopExportDatasetOperator
from airflow.providers.everloop.operators.loops import (
    EverloopApplyOperator,
    EverloopPromoteOperator,
    EverloopRetrainOperator,
)
from airflow.providers.everloop.operators.models import EverloopSubmitModelOperator
from airflow.providers.everloop.sensors.everloop import EverloopModelPromotedSensor, EverloopRunFinishedSensor
from airflow.sdk import DAG, task

FOLDER = Path(os.environ["EXAMPLE_FOLDER"])
FILE = """
apiVersion: everloop/v1
loop: steps
task: binary
schema: {visits: {type: number}, price: {type: number}}
models: [{preset: logistic}]
rollout: {shadow: 20 predictions, canary: [50%], step: 30 outcomes}
"""


def fail_once(context: Any, result: Any = None) -> None:
    """Fail the first attempt, once it has done its work and before Airflow knows of it; note every result."""
    ti = context["ti"]
    with (FOLDER / f"{ti.task_id}.ndjson").open("a") as file:
        file.write(json.dumps(result, default=str) + "\n")
    if ti.try_number == 1:
        raise RuntimeError("the worker is lost after the work is done")


common: dict[str, Any] = {"retries": 1, "retry_delay": timedelta(0), "post_execute": fail_once}
with DAG(dag_id="everloop_steps", schedule=None, catchup=False) as dag:

    @task
    def note_link(ti: Any = None) -> None:
        """Note where the link of a task leads."""
        link = dag.get_task("retrain").operator_extra_links[0].get_link(dag.get_task("retrain"), ti_key=ti)
        (FOLDER / "link.txt").write_text(link)

    apply = EverloopApplyOperator(task_id="apply", file=FILE, **common)
    backfill = EverloopBackfillOperator(
        task_id="backfill", loop="steps", source=str(FOLDER / "history.csv"), label="label", **common
    )
    retrain = EverloopRetrainOperator(
        task_id="retrain", loop="steps", reason="steps", deferrable=True, poll_interval=0.5, **common
    )
    finished = EverloopRunFinishedSensor(
        task_id="finished",
        loop="steps",
        run="{{ ti.xcom_pull(task_ids='retrain')['run'] }}",
        deferrable=True,
        poke_interval=0.5,
    )
    submit = EverloopSubmitModelOperator(
        task_id="submit", loop="steps", model=str(FOLDER / "model.onnx"), name="dag", **common
    )
    promote = EverloopPromoteOperator(
        task_id="promote",
        loop="steps",
        version="{{ ti.xcom_pull(task_ids='submit')['version'] }}",
        reason="by the DAG",
        **common,
    )
    promoted = EverloopModelPromotedSensor(
        task_id="promoted",
        loop="steps",
        version="{{ ti.xcom_pull(task_ids='submit')['version'] }}",
        poke_interval=0.5,
    )
    export = EverloopExportDatasetOperator(
        task_id="export", loop="steps", start=0, end=99, path=str(FOLDER / "steps.csv"), **common
    )
    note_link() >> apply >> backfill >> retrain >> finished >> submit >> promote >> promoted >> export


if __name__ == "__main__":
    sys.exit(0 if dag.test().state == "success" else 1)
