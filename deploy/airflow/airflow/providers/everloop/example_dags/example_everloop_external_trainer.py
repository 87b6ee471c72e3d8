"""A loop asks for a model, and this DAG trains it elsewhere: here, with NumPy, as a linear model in ONNX.

The loop's file names the trainer: `models: [{preset: logistic}, {trainer: numpy, window: 1000 outcomes, every: 100
outcomes}]`. Each run that asks for a model starts the DAG; `trainer` takes the runs that nobody else has taken.
"""

from __future__ import annotations

import os
from datetime import timedelta

from airflow.providers.everloop.assets import everloop_asset
from airflow.providers.everloop.hooks.everloop import EverloopHook
from airflow.providers.everloop.sensors.everloop import EverloopRunFinishedSensor
from airflow.sdk import DAG, task

LOOP = os.environ.get("EXAMPLE_LOOP", "churn")
POLL = float(os.environ.get("EXAMPLE_POLL", "10"))

with DAG(
    dag_id="example_everloop_external_trainer",
    schedule=[everloop_asset("run_requested", LOOP, where={"trainer": "numpy"}, poll_interval=POLL)],
    catchup=False,
    max_active_runs=1,
    tags=["example", "everloop"],
) as dag:

    @task(retries=2, retry_delay=timedelta(seconds=30))
    def train() -> str | None:
        """Train for every run that waits; a second attempt takes what the first one has left."""
        import numpy as np
        from onnx import TensorProto, helper, numpy_helper

        from everloop import trainer

        answered = None
        with EverloopHook().get_conn() as everloop:
            for run in trainer(LOOP, "numpy", everloop=everloop, idle=0):
                with run:
                    names = list(run.data_set.features)
                    x = np.array([[row.features[name] for name in names] for row in run.data_set])
                    y = np.array([1.0 if row.label else -1.0 for row in run.data_set])
                    design = np.column_stack([x, np.ones(len(x))])
                    *weights, bias = np.linalg.solve(design.T @ design + 0.1 * np.eye(design.shape[1]), design.T @ y)
                    constants = {"w": np.array(weights).reshape(-1, 1), "b": np.array([bias])}
                    graph = helper.make_graph(
                        [
                            helper.make_node("MatMul", ["x", "w"], ["product"]),
                            helper.make_node("Add", ["product", "b"], ["score"]),
                            helper.make_node("Sigmoid", ["score"], ["probabilities"]),
                        ],
                        "linear",
                        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, len(names)])],
                        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 1])],
                        [numpy_helper.from_array((4 * v).astype(np.float32), k) for k, v in constants.items()],
                    )
                    opsets = [helper.make_opsetid("", 17)]
                    model = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
                    answered = run.submit(model, features=names).run
        return answered

    @task.short_circuit
    def has_trained(run: str | None) -> bool:
        """Whether there was a run: another trainer may have taken it."""
        return run is not None

    trained = train()
    finished = EverloopRunFinishedSensor(task_id="finished", loop=LOOP, run=str(trained), deferrable=True)
    has_trained(trained) >> finished
