"""Components of TFX: one that ends a pipeline whose data does not fit its schema, and one that submits the model."""

import json
from pathlib import Path

from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.dsl.component.experimental.annotations import InputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import ExampleAnomalies, Model

from everloop import Everloop

ANOMALIES = "SchemaDiff.pb"
DESCRIBED = "described.json"
"""What a trainer writes beside `model.onnx`: features, classes and metrics, as `Everloop.submit` takes them."""


class DataDoesNotFit(Exception):
    """The examples do not fit the loop's schema; the text says which features of which split, and how."""


@component
def RequireFittingData(anomalies: InputArtifact[ExampleAnomalies]) -> None:
    """End the pipeline where ExampleValidator has found anomalies, which by itself it only writes down."""
    wrong = []
    for file in sorted(Path(anomalies.uri).rglob(ANOMALIES)):
        found = anomalies_pb2.Anomalies.FromString(file.read_bytes())
        for name, info in sorted(found.anomaly_info.items()):
            reasons = "; ".join(f"{reason.short_description}: {reason.description}" for reason in info.reason)
            wrong.append(f"{file.parent.name}: {name}: {reasons}")
    if wrong:
        raise DataDoesNotFit("\n".join(wrong))


@component
def SubmitModel(
    model: InputArtifact[Model], loop: Parameter[str], name: Parameter[str], data_set: Parameter[str]
) -> None:
    """Submit the ONNX file that the trainer wrote; it challenges the loop's champion. Again it is the same version."""
    folder = Path(model.uri) / "Format-Serving"
    described = json.loads((folder / DESCRIBED).read_text())
    with Everloop() as everloop:
        submitted = everloop.submit(loop, folder / "model.onnx", name=name, data_set=data_set or None, **described)
    model.set_string_custom_property("everloop_version", submitted.version)
