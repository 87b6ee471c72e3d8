"""An ONNX model in memory: predicts one row of features, or many at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from everloop_models.errors import ArtifactCorrupt
from everloop_models.explain.attribution import Attribution
from everloop_models.formats.onnx.decoding import OutputDecoder
from everloop_models.formats.onnx.encoding import TensorEncoder
from everloop_models.formats.onnx.interface import METADATA_KEY, Interface, read_interface
from everloop_models.formats.onnx.runtime import Session
from everloop_models.formats.onnx.texts import quoted
from everloop_models.formats.onnx.trees.attribution import TreeAttribution
from everloop_models.formats.onnx.usual import USUAL_KEY, read_usual
from everloop_models.model import ModelPrediction
from everloop_schemas.envelope import Fields, Scalar


class OnnxModel:
    """A session with what goes into it and what its outputs mean."""

    format: ClassVar[str] = "onnx"

    def __init__(self, interface: Interface, session: Session) -> None:
        self.interface, self._session = interface, session
        self._usual = read_usual(session.metadata.get(USUAL_KEY), interface)
        self._encoder, self._decoder = TensorEncoder(interface), OutputDecoder(interface)
        self._trees: TreeAttribution | None = None

    @classmethod
    def from_bytes(cls, data: bytes) -> OnnxModel:
        """The model in a file that `normalise` has made; raises ArtifactCorrupt."""
        session = Session(data)
        interface = read_interface(session.metadata.get(METADATA_KEY))
        _check_ports(interface.input_names, session.inputs, "input")
        _check_ports(interface.output_names, session.outputs, "output")
        made = cls(interface, session)
        made._trees = TreeAttribution.find(data, interface)
        return made

    @property
    def signature(self) -> tuple[str, ...]:
        """The sorted names of the features it is fed."""
        return self.interface.signature

    def reference(self, features: Fields) -> Fields:
        """The usual values that the file names, 0 or an empty text for others; None for features that it is not fed."""
        return {name: self._usual.get(name) for name in features}

    @property
    def has_attribution(self) -> bool:
        """Whether it is one ensemble of trees, behind operators that make each column of one feature."""
        return self._trees is not None

    def attribute(self, features: Fields, value: Scalar) -> Attribution | None:
        """What each feature contributed to the score of `value` beside the usual observation; None for other models.

        Raises ModelBroken as predicting does.
        """
        if self._trees is None:
            return None
        output = 0 if self.interface.task == "regression" else self.interface.classes.index(value)
        usual = self.reference(features)
        return self._trees.attribute(self._encoder, features, usual, output, self.interface.rows_at_once)

    def predict(self, features: Fields) -> ModelPrediction:
        """The prediction for these features; raises ModelBroken where it fails or is not finite."""
        return self._run((features,))[0]

    def predict_many(self, rows: Sequence[Fields]) -> list[ModelPrediction]:
        """One prediction a row, in one call where the model takes many; raises ModelBroken where one of them fails."""
        if not self.interface.rows_at_once:
            return [self.predict(row) for row in rows]
        return self._run(rows) if rows else []

    def _run(self, rows: Sequence[Fields]) -> list[ModelPrediction]:
        outputs = self._session.run(self._decoder.names, self._encoder.encode(rows))
        return self._decoder.decode(outputs, len(rows))

    def __getstate__(self) -> None:
        raise TypeError("an ONNX model is kept as a reference to its artifact, never pickled")


def _check_ports(named: Sequence[str], has: Sequence[str], kind: str) -> None:
    if missing := [name for name in named if name not in has]:
        raise ArtifactCorrupt(f"its interface names the {kind} {quoted(missing[0])}, which the model does not have")
    if kind == "input" and len(has) != len(named):
        raise ArtifactCorrupt("its interface does not name every input of the model")
