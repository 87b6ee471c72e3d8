"""Puts weights that lie in files beside an ONNX file into it: MLflow and large exports store them apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx

from everloop_models.errors import ArtifactCorrupt
from everloop_models.formats.onnx.structure import decode, graphs_of, tensors_of
from everloop_models.formats.onnx.texts import quoted

MAX_TENSORS = 100_000


def with_weights(data: bytes, files: Mapping[str, bytes], most: int) -> bytes:
    """The ONNX file with the weights of `files`, by name, in it; the same bytes where it needs none.

    A name is looked up and never followed. Raises ArtifactCorrupt naming what is missing, or beyond `most` bytes.
    """
    model, added = decode(data), 0
    for number, tensor in enumerate(_tensors(model)):
        if number >= MAX_TENSORS:
            raise ArtifactCorrupt(f"it has more than {MAX_TENSORS:,} weights: simplify it, or take a smaller model")
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            weights = _found(tensor, files)
            added += len(weights)
            if added + len(data) > most:
                raise ArtifactCorrupt(f"with its weights it has more than {most:,} bytes: take a smaller model")
            _put(tensor, weights)
    return model.SerializeToString(deterministic=True) if added else data


def _found(tensor: onnx.TensorProto, files: Mapping[str, bytes]) -> bytes:
    said = {each.key: each.value for each in tensor.external_data}
    location = said.get("location", "")
    if (file := files.get(location)) is None:
        raise ArtifactCorrupt(f"its weights {quoted(tensor.name)} are in a file {quoted(location)}, which is not there")
    try:
        start = int(said.get("offset", 0))
        length = int(said.get("length", len(file) - start))
    except ValueError as e:
        raise ArtifactCorrupt(f"the place of its weights {quoted(tensor.name)} is no number: export it again") from e
    if start < 0 or length < 0 or start + length > len(file):
        raise ArtifactCorrupt(f"its weights {quoted(tensor.name)} go beyond their file: export the model again")
    return file[start : start + length]


def _put(tensor: onnx.TensorProto, weights: bytes) -> None:
    tensor.ClearField("external_data")
    tensor.data_location = onnx.TensorProto.DEFAULT
    tensor.raw_data = weights


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of a model, those of graphs within graphs too, without recursion."""
    waiting = [model.graph]
    while waiting:
        graph = waiting.pop()
        yield from graph.initializer
        for node in graph.node:
            yield from tensors_of(node)
            waiting += graphs_of(node)
