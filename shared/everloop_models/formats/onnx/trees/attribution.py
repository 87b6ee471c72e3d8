"""Finds the tree ensemble that an ONNX model's score follows from, and attributes the score to features exactly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import onnx

from everloop_models.explain.attribution import Attribution
from everloop_models.formats.onnx.encoding import Tensor, TensorEncoder
from everloop_models.formats.onnx.interface import Interface
from everloop_models.formats.onnx.runtime import Session
from everloop_models.formats.onnx.structure import decode
from everloop_models.formats.onnx.trees.columns import Owners, constants_of, cut_before, find_owners
from everloop_models.formats.onnx.trees.nodes import Array, NotSupported, attributes_of
from everloop_models.formats.onnx.trees.shapley import share_among
from everloop_models.formats.onnx.trees.worth import Worth
from everloop_schemas.envelope import Fields

MAX_BYTES = 64_000_000
"""Of a file: larger ones hold more nodes than are read here, or other weights."""
_ENSEMBLES = {"TreeEnsembleClassifier": 1, "TreeEnsembleRegressor": 0}
"""Which output of an operator has the scores."""
_SAME = {"Identity", "Cast", "Flatten", "Reshape", "Squeeze"}
"""Operators behind an ensemble that leave the scores as they are."""
_SCALED = ("Mul", "Div")
"""Those behind it that LightGBM's converter writes: a mean of trees, or times 1."""
_FRACTIONS = (np.float32, np.float64)


class TreeAttribution:
    """Attributes what a tree ensemble says, beside a usual observation."""

    def __init__(self, worth: Worth, columns: str, owners: Owners, before: bytes | None) -> None:
        self._worth, self._columns, self._owners, self._before = worth, columns, owners, before
        self._session: Session | None = None

    @classmethod
    def find(cls, data: bytes, interface: Interface) -> TreeAttribution | None:
        """The attribution for the model in a file, where its score is that of one ensemble; else None.

        In front of the ensemble there may be operators that make each column of one feature.
        """
        if len(data) > MAX_BYTES or not any(name.encode() in data for name in _ENSEMBLES):
            return None
        try:
            return cls._read(decode(data), interface)
        except Exception:  # a file may hold anything; it is predicted with all the same, and explained otherwise
            return None

    @classmethod
    def _read(cls, model: onnx.ModelProto, interface: Interface) -> TreeAttribution | None:
        found, owners = _find_ensemble(model.graph, interface), find_owners(model.graph, interface)
        if found is None or found.node.input[0] not in owners:
            return None
        worth, name = Worth(found.node, attributes_of(found.node), found.factor), found.node.input[0]
        if int(worth.nodes.column.max()) >= len(owners[name]):
            return None
        worth.terms_of(0)
        is_fed = any(each.name == name for each in interface.inputs)
        return cls(worth, name, owners[name], None if is_fed else cut_before(model, name))

    def attribute(
        self, encoder: TensorEncoder, features: Fields, usual: Fields, output: int, rows_at_once: bool
    ) -> Attribution | None:
        """What the features contributed to the score of this output; None where it would take too long."""
        both = self._rows(encoder, [features, {**features, **usual}], rows_at_once)
        if both.shape != (2, len(self._owners)):
            return None
        row, other = both.astype(both.dtype if both.dtype in _FRACTIONS else np.float32)
        terms = self._worth.terms_of(output)
        score, base = self._worth.score(row, terms), self._worth.score(other, terms)
        players = self._players(row, other)
        found = (
            share_among(
                self._worth.nodes,
                self._worth.roots_of(terms),
                row,
                other,
                players.of_column,
                lambda at: self._worth.weigh(at, terms),
            )
            if players.names
            else np.zeros(0)
        )
        if found is None:
            return None
        contributions = dict.fromkeys(features, 0.0) | dict(zip(players.names, found.tolist(), strict=True))
        said = self._worth.said(score, terms, row)
        return Attribution("tree", score, base, contributions, terms.scale, said)

    def _rows(self, encoder: TensorEncoder, rows: list[Fields], at_once: bool) -> Tensor:
        """The columns that the ensemble gets."""
        if not at_once and self._before is not None:
            return np.concatenate([self._made_of(encoder.encode([row])) for row in rows])
        return self._made_of(encoder.encode(rows))

    def _made_of(self, fed: Mapping[str, Tensor]) -> Tensor:
        if self._before is None:
            tensor = fed[self._columns]
            return tensor.reshape(len(tensor), -1)
        if self._session is None:
            self._session = Session(self._before)
        names = self._session.inputs
        made: Tensor = self._session.run([self._columns], {name: fed[name] for name in names})[0]
        return made

    def _players(self, row: Array, other: Array) -> _Players:
        differ = (row != other) & ~(np.isnan(row) & np.isnan(other))
        names = sorted({self._owners[i] for i in np.flatnonzero(differ)})
        number = {name: i for i, name in enumerate(names)}
        of_column = np.full(len(row), -1)
        of_column[differ] = [number[self._owners[i]] for i in np.flatnonzero(differ)]
        return _Players(names, of_column)


class _Players(NamedTuple):
    """The features in which two rows differ, and which of them each column is of (-1: it does not differ)."""

    names: list[str]
    of_column: Array


class _Found(NamedTuple):
    """An ensemble, and what its scores are multiplied with."""

    node: onnx.NodeProto
    factor: float


def _find_ensemble(graph: onnx.GraphProto, interface: Interface) -> _Found | None:
    """The one ensemble whose output, times a number, is the model's probabilities, or its value."""
    makers = {name: node for node in graph.node for name in node.output if name}
    name = interface.probabilities if interface.task != "regression" else interface.value
    node, factor, constants = makers.get(name or ""), 1.0, constants_of(graph)
    while node is not None and node.op_type in (*_SAME, *_SCALED):
        if node.op_type in _SCALED:
            by = _number_in(constants.get(node.input[1]))
            factor = factor * by if node.op_type == "Mul" else factor / by
        name = node.input[0]
        node = makers.get(name)
    if node is None or node.op_type not in _ENSEMBLES or node.output[_ENSEMBLES[node.op_type]] != name:
        return None
    return _Found(node, factor)


def _number_in(tensor: onnx.TensorProto | None) -> float:
    """The one number in a constant; raises ValueError where it is no such constant."""
    if tensor is None:
        raise NotSupported("a factor that is no constant")
    return float(onnx.numpy_helper.to_array(tensor).item())
