"""An example: a forest is trained on what a loop has learned from, challenges its champion, and the pipeline waits.

`python forest.py forest.yaml` compiles it.
"""

# KFP reads the annotations as types: they must not become texts.
import os
import sys
from typing import NamedTuple

from everloop_kfp import export_data_set, reach, submit_model, wait_for_promotion, wait_for_run
from kfp import compiler, dsl
from kfp.dsl import Dataset, Input, Metrics, Model, Output

URLS = {
    service: os.environ.get(f"EVERLOOP_{service.upper()}_URL", f"http://everloop-{service}.everloop:8000")
    for service in ("training", "registry")
}
"""The services that it asks: where the environment says, else where the chart has them, as `everloop` in `everloop`."""


@dsl.component(base_image="python:3.12-slim", packages_to_install=["pandas>=2", "scikit-learn>=1.5", "skl2onnx>=1.18"])
def train_forest(data_set: Input[Dataset], model: Output[Model], shown: Output[Metrics], trees: int = 50) -> NamedTuple(
    "Trained", [("features", list), ("classes", list), ("metrics", dict)]
):
    """Train a forest on all numbers of the data set but its newest fifth, which tells its metrics."""
    from collections import namedtuple

    import pandas as pd
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import accuracy_score, log_loss

    rows, about = pd.read_csv(data_set.path), data_set.metadata
    x, y = rows[about["features"]].astype("float32").to_numpy(), rows[about["label"]].to_numpy()
    learned = len(rows) * 4 // 5
    forest = RandomForestClassifier(trees, min_samples_leaf=5, random_state=0).fit(x[:learned], y[:learned])
    found = forest.predict_proba(x[learned:])
    metrics = {
        "accuracy": float(accuracy_score(y[learned:], forest.predict(x[learned:]))),
        "log_loss": float(log_loss(y[learned:], found, labels=forest.classes_)),
    }
    for name, value in metrics.items():
        shown.log_metric(name, value)
    options = {"options": {id(forest): {"zipmap": False}}, "target_opset": 17}
    made = to_onnx(forest, initial_types=[("x", FloatTensorType([None, x.shape[1]]))], **options)
    with open(model.path, "wb") as file:
        file.write(made.SerializeToString())
    trained = namedtuple("Trained", ["features", "classes", "metrics"])
    return trained(about["features"], forest.classes_.tolist(), metrics)


@dsl.pipeline(name="everloop-forest", description="A forest that challenges a loop's champion.")
def forest(loop: str, last: int = 5000, trees: int = 50, within_s: float = 86400.0) -> str:
    """Export, train, submit, and wait until the forest is champion; the champion's version."""
    exported = reach(export_data_set(loop=loop, last=last), URLS)
    trained = train_forest(data_set=exported.outputs["data_set"], trees=trees)
    submitted = reach(
        submit_model(
            loop=loop,
            name="forest",
            model=trained.outputs["model"],
            features=trained.outputs["features"],
            classes=trained.outputs["classes"],
            metrics=trained.outputs["metrics"],
            data_set=exported.outputs["name"],
        ),
        URLS,
    )
    ended = reach(wait_for_run(loop=loop, run=submitted.outputs["run"], within_s=within_s), URLS)
    judged = wait_for_promotion(loop=loop, version=submitted.outputs["version"], within_s=within_s)
    return reach(judged, URLS).after(ended).output


if __name__ == "__main__":
    compiler.Compiler().compile(forest, sys.argv[1])
