"""What requests and answers look like, for the OpenAPI document; observations are read and checked elsewhere."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from everloop_schemas.serving import Role
from everloop_shared.http.openapi import FieldProblem
from everloop_shared.http.schemas import Observation, Value

PREDICTION_ERRORS = {
    404: "There is no loop of this name.",
    409: "An id was predicted before from other data; nothing of the request is predicted.",
    413: "The body, or the record made of it, is too large.",
    415: "A content type that this endpoint does not read.",
    422: "It does not fit the loop's schema; `errors` name the fields (`[3].data.x`) and the fix.",
    429: "The broker has been away for too long; retry after `Retry-After` seconds.",
    503: "Starting, or the disk refuses writes; retry after `Retry-After` seconds.",
    504: "Not answered within `Timeout-Ms`; the detail says whether the record is stored.",
}
"""What a request for predictions can be answered with, by either protocol."""


class RequestedObservation(Observation):
    """What to predict from."""

    explain: bool = Field(False, description="asks what each feature contributed; of 100 observations at most")


class Explanation(BaseModel):
    """What each feature contributed: base and contributions sum to the model's score.

    `scale` says what the score is: the probability or the log odds of `of`, its margin (what goes into Softmax), or
    the value.
    """

    method: Literal["linear", "tree", "permutation"]
    of: str | None = Field(None, description="the class that was predicted; absent from a regression")
    scale: Literal["probability", "log_odds", "margin", "value"] | None = None
    base: float
    contributions: dict[str, float]


class Prediction(BaseModel):
    """A prediction, the version that made it, and the features that it was made from."""

    id: str
    prediction: Value
    probabilities: dict[str, float] = Field(default_factory=dict, description="by class; absent from a regression")
    version: str
    role: Role
    features: dict[str, Value | None]
    anomaly: float | None = Field(None, description="how unusual the observation is, 0 to 1, where the loop asks")
    explanation: Explanation | None = Field(None, description="where the request asked, and it was found in time")


class InferenceError(BaseModel):
    """An error of the Open Inference Protocol; the members of a problem may stand beside it."""

    model_config = ConfigDict(extra="allow")

    error: str
    errors: list[FieldProblem] = Field(default_factory=list)


class ServerMetadata(BaseModel):
    """The server and the extensions of the protocol that it knows."""

    name: str
    version: str
    extensions: list[str]


class Live(BaseModel):
    """Whether the server lives."""

    live: bool


class Ready(BaseModel):
    """Whether the server is ready."""

    ready: bool


class ModelReady(BaseModel):
    """Whether a model, or a version of it, is ready."""

    name: str
    ready: bool


class TensorMetadata(BaseModel):
    """An input or output of a model; -1 stands for the number of rows."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] = Field(default_factory=dict)


class ModelMetadata(BaseModel):
    """A loop as a model: its versions, inputs and outputs."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class InputTensor(BaseModel):
    """The values of one field, a row each."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    data: list[Any] = Field(default_factory=list, description="absent where the values follow in binary")


class RequestedOutput(BaseModel):
    """An output that is wanted."""

    name: str
    parameters: dict[str, Any] = Field(default_factory=dict)


class InferenceRequest(BaseModel):
    """Rows to predict from, as a tensor for each field."""

    id: str = Field("", description="the prediction's id; of several rows, its beginning")
    parameters: dict[str, Any] = Field(
        default_factory=dict,
        description="entity, time, binary_data_output; explain: true adds contributions",
    )
    inputs: list[InputTensor]
    outputs: list[RequestedOutput] = Field(default_factory=list)


class OutputTensor(BaseModel):
    """The values of one output, a row each."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    data: list[Any] = Field(default_factory=list, description="absent where the values follow in binary")


class InferenceResponse(BaseModel):
    """The predictions, as tensors."""

    model_name: str
    model_version: str = Field("", description="absent where the rows were predicted by several versions")
    id: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict)
    outputs: list[OutputTensor]
