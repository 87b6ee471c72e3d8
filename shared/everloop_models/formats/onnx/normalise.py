"""Makes the artifact of a loop from an ONNX file of any framework: with its interface in it, and without ZipMap."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import NamedTuple

import onnx

from everloop_models.errors import ArtifactCorrupt
from everloop_models.formats.onnx.class_labels import remove_zipmap
from everloop_models.formats.onnx.feeding import assign_features, takes_rows_at_once
from everloop_models.formats.onnx.interface import METADATA_KEY, GivenInterface, Interface, read_interface
from everloop_models.formats.onnx.meaning import find_meaning
from everloop_models.formats.onnx.ports import inputs_of, outputs_of
from everloop_models.formats.onnx.structure import opset_of, parse
from everloop_schemas.loop import LoopSpec

NOTHING_GIVEN = GivenInterface()


class NormalisedModel(NamedTuple):
    """An artifact, and the interface that is written in it."""

    data: bytes
    interface: Interface


def normalise(
    data: bytes,
    spec: LoopSpec,
    names: Sequence[str],
    texts: Set[str] = frozenset(),
    given: GivenInterface = NOTHING_GIVEN,
) -> NormalisedModel:
    """The artifact that serves `spec` with the model in an ONNX file; runs nothing, and equal calls give equal bytes.

    `names` are the loop's features in the order of its plan, `texts` those that are text. `given` is what comes with
    the file; where nothing does, the interface of a file that was normalised before holds for its features and classes.

    Raises ArtifactCorrupt naming what is wrong and how to mend it.
    """
    model = parse(data)
    if given == NOTHING_GIVEN:
        given = _given_before(model, spec)
    inputs = inputs_of(model.graph)
    zipped = remove_zipmap(model.graph)
    meaning = find_meaning(model.graph, outputs_of(model.graph), zipped, spec, given)
    interface = Interface(
        task=spec.task,
        inputs=assign_features(inputs, names, texts, given.features),
        **meaning._asdict(),
        opset=opset_of(model),
        rows_at_once=takes_rows_at_once(inputs),
    )
    write_interface(model, interface)
    return NormalisedModel(model.SerializeToString(deterministic=True), interface)


def check(data: bytes) -> None:
    """Raise ArtifactCorrupt unless the bytes are an ONNX file that `normalise` could have made; run nothing."""
    _interface_in(parse(data))


def _interface_in(model: onnx.ModelProto) -> Interface:
    found = [each.value for each in model.metadata_props if each.key == METADATA_KEY]
    return read_interface(found[-1] if found else None)


def _given_before(model: onnx.ModelProto, spec: LoopSpec) -> GivenInterface:
    try:
        before = _interface_in(model)
    except ArtifactCorrupt:
        return NOTHING_GIVEN
    if before.task != spec.task:
        return NOTHING_GIVEN
    return GivenInterface(before.features, before.classes or None, before.label, before.probabilities, before.value)


def write_interface(model: onnx.ModelProto, interface: Interface) -> None:
    """Write the interface into the metadata of its file, in place of one that is there."""
    others = [each for each in model.metadata_props if each.key != METADATA_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(others)
    model.metadata_props.add(key=METADATA_KEY, value=interface.model_dump_json())
