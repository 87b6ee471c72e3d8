"""A drift of a loop starts this DAG: it retrains, waits for the run in the triggerer, and exports what it learned."""

from __future__ import annotations

import os
from datetime import timedelta

from airflow.providers.everloop.assets import everloop_asset
from airflow.providers.everloop.operators.data import EverloopExportDatasetOperator
from airflow.providers.everloop.operators.loops import EverloopRetrainOperator
from airflow.sdk import DAG, task

LOOP = os.environ.get("EXAMPLE_LOOP", "churn")
FOLDER = os.environ.get("EXAMPLE_FOLDER", "/tmp/everloop")

with DAG(
    dag_id="example_everloop_retrain_on_drift",
    schedule=[everloop_asset("drift_detected", LOOP, poll_interval=float(os.environ.get("EXAMPLE_POLL", "10")))],
    catchup=False,
    tags=["example", "everloop"],
) as dag:

    @task
    def read_drift(triggering_asset_events=None) -> str:  # noqa: ANN001
        """What has drifted, in words; started by hand there is none."""
        events = [event for events in (triggering_asset_events or {}).values() for event in events]
        return events[-1].extra["payload"]["data"]["what"] if events else "started by hand"

    drift = read_drift()
    retrain = EverloopRetrainOperator(
        task_id="retrain",
        loop=LOOP,
        reason=str(drift),
        deferrable=True,
        poll_interval=2.0,
        retries=2,
        retry_delay=timedelta(seconds=30),
    )
    export = EverloopExportDatasetOperator(
        task_id="export",
        loop=LOOP,
        last=1000,
        path=f"{FOLDER}/{{{{ ti.xcom_pull(task_ids='retrain')['run'] }}}}.ndjson",
    )
    drift >> retrain >> export
