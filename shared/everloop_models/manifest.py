"""What comes with an ONNX file over HTTP: a manifest as JSON in a header, beside the file as the body."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from everloop_models.formats.onnx.interface import ClassLabel, GivenInterface
from everloop_shared import strict_json
from everloop_shared.errors import FieldError, InputRejected
from everloop_shared.text import Readable

MANIFEST_HEADER = "everloop-manifest"
ONNX_TYPES = ("application/onnx", "application/octet-stream")
MAX_METRICS, MAX_FEATURES, MAX_CLASSES = 100, 2_000, 1_000
MetricName = Annotated[Readable, Field(min_length=1, max_length=100)]
OutputName = Annotated[Readable, Field(min_length=1, max_length=200)]


class ModelManifest(BaseModel):
    """How the model is fed, what its outputs are where the file does not say it, and its metrics in training."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    features: list[str] | None = Field(
        None, max_length=MAX_FEATURES, description="the columns of a single input, in order; default: the loop's"
    )
    classes: list[ClassLabel] | None = Field(
        None, max_length=MAX_CLASSES, description="the classes in the order of the probabilities' columns"
    )
    label: OutputName | None = Field(None, description="the output that is the label")
    probabilities: OutputName | None = Field(None, description="the output that holds the probabilities")
    value: OutputName | None = Field(None, description="the output that is the value of a regression")
    metrics: dict[MetricName, float] = Field(default_factory=dict, max_length=MAX_METRICS)

    @property
    def given(self) -> GivenInterface:
        """The interface, as far as it is given."""
        features = None if self.features is None else tuple(self.features)
        classes = None if self.classes is None else tuple(self.classes)
        return GivenInterface(features, classes, self.label, self.probabilities, self.value)


M = TypeVar("M", bound=ModelManifest)


def read_manifest(kind: type[M], text: str | None) -> M:
    """The manifest in a header; raises InputRejected with each field that is wrong."""
    if text is None:
        example = 'such as {"metrics": {"accuracy": 0.9}}'
        raise rejected(MANIFEST_HEADER, f"is missing; send the manifest as JSON in this header, {example}")
    try:
        return kind.model_validate(strict_json.read(text.encode("latin-1", "replace")))
    except strict_json.NotJson as e:
        raise rejected(MANIFEST_HEADER, f"is {str(e)[:200]}") from e
    except ValidationError as e:
        wrong = [FieldError(".".join(map(str, p["loc"])) or MANIFEST_HEADER, _message(p)) for p in e.errors()]
        raise InputRejected("; ".join(f"{w.field}: {w.error}" for w in wrong[:5]), wrong) from e


def rejected(field: str, error: str) -> InputRejected:
    """The error of one field."""
    return InputRejected(f"{field}: {error}", [FieldError(field, error)])


def manifest_openapi(schema: dict[str, Any], example: dict[str, Any]) -> dict[str, Any]:
    """The OpenAPI documentation of a request with an ONNX file and its manifest."""
    content = {"application/json": {"schema": schema, "example": example}}
    text = "the manifest as JSON, in ASCII"
    files = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in ONNX_TYPES}
    return {
        "parameters": [
            {"name": MANIFEST_HEADER, "in": "header", "required": True, "description": text, "content": content}
        ],
        "requestBody": {"required": True, "content": files},
    }


def _message(problem: Any) -> str:
    return str(problem["msg"]).removeprefix("Value error, ")
