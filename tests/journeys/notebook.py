"""What a data scientist's notebook does: read a data set, train a forest on it, and log it by MLflow's client."""

from __future__ import annotations

import json
import sys

import mlflow
from mlflow.models import infer_signature
from skl2onnx import to_onnx  # type: ignore[import-untyped]
from skl2onnx.common.data_types import FloatTensorType  # type: ignore[import-untyped]
from sklearn.ensemble import RandomForestClassifier  # type: ignore[import-untyped]

from everloop import Everloop


def main(loop: str, registry: str) -> None:
    """Print the run and the version of the loop that the forest became."""
    with Everloop() as everloop:
        rows = everloop.dataset(loop)
    frame = rows.to_pandas()
    x, y = frame[list(rows.features)].astype("float32"), frame["label"].astype(bool)
    forest = RandomForestClassifier(30, max_depth=8, random_state=1).fit(x.to_numpy(), y)
    columns = [("x", FloatTensorType([None, x.shape[1]]))]
    model = to_onnx(forest, initial_types=columns, options={id(forest): {"zipmap": False}}, target_opset=17)
    mlflow.set_tracking_uri(registry)
    mlflow.set_registry_uri(registry)
    mlflow.set_experiment("notebook")
    with mlflow.start_run() as run:
        mlflow.log_params({"trees": 30, "data_set": rows.name, "digest": rows.digest})
        signature = infer_signature(x.head(5), forest.predict(x.head(5).to_numpy()))
        info = mlflow.onnx.log_model(model, name="forest", signature=signature, registered_model_name=loop)
    version = mlflow.MlflowClient().get_model_version(loop, str(info.registered_model_version))
    sys.stdout.write(json.dumps({"run": run.info.run_id, "version": version.tags["everloop.version"]}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
