"""How an ONNX model is fed and what its outputs mean: written into the file, so that the artifact alone tells it."""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr, ValidationError

from everloop_models.errors import ArtifactCorrupt
from everloop_schemas.loop import Task

METADATA_KEY = "everloop.interface"
ElementType = Literal["float", "double", "int64", "int32", "bool", "string"]
ClassLabel = StrictBool | StrictInt | StrictFloat | StrictStr


class GivenInterface(NamedTuple):
    """What comes with a model and cannot be seen in its file; None where it is left to the rules.

    `features` are the columns of its one input, in order. `classes` are the loop's, in the order of the columns of its
    probabilities. `label`, `probabilities` and `value` (of a regression) name outputs.
    """

    features: tuple[str, ...] | None = None
    classes: tuple[bool | int | float | str, ...] | None = None
    label: str | None = None
    probabilities: str | None = None
    value: str | None = None


class _Part(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="ignore")


class ModelInput(_Part):
    """One input: its columns are the values of `features`; a `flat` one has no dimension for columns."""

    name: str
    type: ElementType
    features: tuple[str, ...]
    flat: bool = False


class Interface(_Part):
    """The whole. `labels` are what the output `label` says for each of `classes`; absent where it says the class.

    `rows_at_once` is False where the model takes one row in each call.
    """

    task: Task
    inputs: tuple[ModelInput, ...] = Field(min_length=1)
    label: str | None = None
    probabilities: str | None = None
    value: str | None = None
    classes: tuple[ClassLabel, ...] = ()
    labels: tuple[ClassLabel, ...] = ()
    opset: int
    rows_at_once: bool = True

    @property
    def features(self) -> tuple[str, ...]:
        """The features that it is fed, in order."""
        return tuple(name for each in self.inputs for name in each.features)

    @property
    def signature(self) -> tuple[str, ...]:
        """The sorted names of its features."""
        return tuple(sorted({*self.features}))

    @property
    def input_names(self) -> tuple[str, ...]:
        """The names of its inputs, for a manifest."""
        return tuple(each.name for each in self.inputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names of the outputs that are asked for, for a manifest."""
        return tuple(name for name in (self.label, self.probabilities, self.value) if name is not None)


def read_interface(text: str | None) -> Interface:
    """The interface in a file's metadata; raises ArtifactCorrupt."""
    if text is None:
        raise ArtifactCorrupt(f"the ONNX file has no {METADATA_KEY}: submit it as a model of the loop, which adds it")
    try:
        interface = Interface.model_validate_json(text)
    except ValidationError as e:
        where = ".".join(map(str, e.errors()[0]["loc"]))
        raise ArtifactCorrupt(f"{METADATA_KEY} of the ONNX file is malformed at {where!r:.80}") from e
    if not interface.output_names or (interface.task == "regression") != (interface.value is not None):
        raise ArtifactCorrupt(f"{METADATA_KEY} of the ONNX file names no output of a {interface.task} model")
    return interface
