"""Decides which feature goes into which input of an ONNX model."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import cast

from everloop_models.errors import ArtifactCorrupt
from everloop_models.formats.onnx.interface import ElementType, ModelInput
from everloop_models.formats.onnx.ports import Port
from everloop_models.formats.onnx.texts import quoted
from everloop_shared.errors import listed


def assign_features(
    ports: Sequence[Port], names: Sequence[str], texts: Set[str], given: tuple[str, ...] | None
) -> tuple[ModelInput, ...]:
    """Each input with its features: `given` ones in order, else those that inputs are named after, else all `names`.

    Raises ArtifactCorrupt naming the input or the feature, and the fix.
    """
    if not ports:
        raise ArtifactCorrupt("it has no input: export it with one for the features")
    if unknown := [name for name in given or () if name not in names]:
        raise ArtifactCorrupt(f"features: the loop has no {quoted(unknown[0])}; it has {listed(names)}")
    if given is not None and len({*given}) < len(given):
        raise ArtifactCorrupt("features: each feature is named once, in the order of the columns")
    if len(ports) == 1:
        found = [_input(ports[0], _columns(ports[0], names, given))]
    else:
        found = [_input(port, (name,)) for port, name in zip(ports, _names_of(ports, names, given), strict=True)]
    for each in found:
        _check_types(each, texts)
    return tuple(found)


def takes_rows_at_once(ports: Sequence[Port]) -> bool:
    """Whether every input takes any number of rows; raises ArtifactCorrupt where one takes neither that nor one."""
    for port in ports:
        rows = port.dimensions[0] if port.dimensions else None
        if rows not in (None, 1):
            fix = "export it with a first dimension that varies (dynamic_axes), or of 1"
            raise ArtifactCorrupt(f"its input {quoted(port.name)} takes {rows} rows at a time: {fix}")
    return not any(port.dimensions and port.dimensions[0] == 1 for port in ports)


def _columns(port: Port, names: Sequence[str], given: tuple[str, ...] | None) -> tuple[str, ...]:
    """The features of a model's only input."""
    takes = port.columns
    if given is None:
        if port.name in names and takes in (1, None):
            return (port.name,)
        if takes in (None, len(names)):
            return tuple(names)
    elif takes in (None, len(given)):
        return given
    has = f"the loop has {len(names)} features" if given is None else f"{len(given)} features are named"
    fix = "name its columns in their order as `features`; they are among " + listed(names)
    raise ArtifactCorrupt(f"its input {quoted(port.name)} takes {takes} columns, and {has}: {fix}")


def _names_of(ports: Sequence[Port], names: Sequence[str], given: tuple[str, ...] | None) -> Sequence[str]:
    """The feature of each of several inputs."""
    for port in ports:
        if port.columns not in (1, None):
            fix = "give every feature an input of one column, or all features one input together"
            raise ArtifactCorrupt(f"it has {len(ports)} inputs, and {quoted(port.name)} takes {port.columns}: {fix}")
    unknown = [port.name for port in ports if port.name not in names]
    if not unknown:
        return [port.name for port in ports]
    if given is not None and len(given) == len(ports):
        return given
    fix = f"the loop's features are {listed(names)}; name inputs after them, or their features in order as `features`"
    raise ArtifactCorrupt(f"its input {quoted(unknown[0])} is no feature of the loop: {fix}")


def _input(port: Port, features: tuple[str, ...]) -> ModelInput:
    return ModelInput(name=port.name, type=cast(ElementType, port.type), features=features, flat=port.is_flat)


def _check_types(each: ModelInput, texts: Set[str]) -> None:
    for name in each.features:
        if name in texts and each.type != "string":
            fix = f"give it an input of its own, of strings, named {name}, and encode it in the model; or leave it out"
            raise ArtifactCorrupt(f"the feature {name} is text, and the input {quoted(each.name)} takes numbers: {fix}")
        if name not in texts and each.type == "string":
            fix = "give it an input of numbers"
            raise ArtifactCorrupt(f"the feature {name} is a number, and {quoted(each.name)} takes strings: {fix}")
