"""Decides which outputs of an ONNX model are its label, its probabilities or its value, and of which classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import onnx

from everloop_metrics import class_name
from everloop_models.errors import ArtifactCorrupt
from everloop_models.formats.onnx.class_labels import Labels, find_labels
from everloop_models.formats.onnx.interface import ClassLabel, GivenInterface
from everloop_models.formats.onnx.ports import Port
from everloop_models.formats.onnx.texts import quoted
from everloop_schemas.loop import LoopSpec
from everloop_shared.errors import listed

_FRACTIONS = ("float", "double")
_TRUTH: dict[ClassLabel, bool] = {
    0: False,
    1: True,
    -1: False,
    "false": False,
    "true": True,
    "0": False,
    "1": True,
}
"""What says false and true in a loop with boolean labels; the booleans themselves are equal to 0 and 1."""
NAME_CLASSES = "name the loop's classes in the order of its columns as `classes`"


class Meaning(NamedTuple):
    """The outputs by what they are; classes in the order of the columns, and what the label output says for each."""

    label: str | None
    probabilities: str | None
    value: str | None
    classes: Labels = ()
    labels: Labels = ()


def find_meaning(
    graph: onnx.GraphProto, ports: Sequence[Port], zipped: Labels | None, spec: LoopSpec, given: GivenInterface
) -> Meaning:
    """What a model's outputs mean for the loop; `zipped` are classes that a ZipMap names. Raises ArtifactCorrupt."""
    if spec.task == "regression":
        return Meaning(None, None, _value(ports, given))
    label, probabilities = _label(ports, given), _probabilities(ports, given)
    if label is None and probabilities is None:
        fix = "export a classifier with its label (whole numbers or strings), its probabilities (floats), or both"
        raise ArtifactCorrupt(f"none of its outputs ({_names(ports)}) is a label or probabilities: {fix}")
    raw = zipped or (find_labels(graph, label.name) if label else None)
    columns = probabilities.columns if probabilities else None
    classes = _classes(raw, columns, label, probabilities, spec, given)
    if len(classes) > 1 and columns is not None and columns != len(classes) and (columns, len(classes)) != (1, 2):
        raise ArtifactCorrupt(f"it has {columns} probabilities, and {len(classes)} classes are named: {NAME_CLASSES}")
    if len({*classes}) < len(classes):
        raise ArtifactCorrupt(f"two of its classes ({_listed(classes)}) are the same: {NAME_CLASSES}")
    labels = (raw or _labels(label, classes)) if label else ()
    return Meaning(label.name if label else None, probabilities.name if probabilities else None, None, classes, labels)


def _value(ports: Sequence[Port], given: GivenInterface) -> str:
    if given.value is not None:
        return _named(ports, given.value, "value").name
    found = [port for port in ports if port.type in _FRACTIONS and port.columns in (1, None)]
    if len(found) != 1:
        fix = "a regression has one output of floats, one a row; if there are more, name it as `value`"
        raise ArtifactCorrupt(f"its outputs are {_names(ports)}: {fix}")
    return found[0].name


def _label(ports: Sequence[Port], given: GivenInterface) -> Port | None:
    if given.label or given.probabilities:
        return _named(ports, given.label, "label") if given.label else None
    found = [port for port in ports if port.type not in _FRACTIONS and port.columns in (1, None)]
    return _only(found, "label", hint="label")


def _probabilities(ports: Sequence[Port], given: GivenInterface) -> Port | None:
    if given.label or given.probabilities:
        return _named(ports, given.probabilities, "probabilities") if given.probabilities else None
    return _only([port for port in ports if port.type in _FRACTIONS], "probabilities", hint="prob")


def _only(found: Sequence[Port], what: str, hint: str) -> Port | None:
    """The one, or of several the one whose name has the hint in it, as converters name it."""
    if len(found) < 2:
        return found[0] if found else None
    if len(named := [port for port in found if hint in port.name.lower()]) == 1:
        return named[0]
    raise ArtifactCorrupt(f"its outputs {_names(found)} may all be its {what}: name the one as `{what}`")


def _named(ports: Sequence[Port], name: str, what: str) -> Port:
    for port in ports:
        if port.name == name:
            return port
    raise ArtifactCorrupt(f"{what}: it has no output {quoted(name)}; it has {_names(ports)}")


def _classes(
    raw: Labels | None,
    columns: int | None,
    label: Port | None,
    probabilities: Port | None,
    spec: LoopSpec,
    given: GivenInterface,
) -> Labels:
    if given.classes is not None:
        if raw is not None and len(raw) != len(given.classes):
            raise ArtifactCorrupt(f"classes: it has {len(raw)}, and {len(given.classes)} are named: {NAME_CLASSES}")
        return tuple(_known(each, spec) for each in given.classes)
    if raw is not None:
        return tuple(_class_of(each, number, len(raw), spec) for number, each in enumerate(raw))
    if spec.label_type == "boolean":
        return (False, True)
    if spec.label.classes and (label is None or label.type != "string") and columns in (None, len(spec.label.classes)):
        return spec.label.classes
    if spec.label_type == "integer" and not spec.label.classes and columns is not None:
        return tuple(range(columns))
    says_the_class = label is not None and (label.type == "string") == (spec.label_type == "string")
    if columns is None and probabilities is None and says_the_class:
        return ()
    raise ArtifactCorrupt(f"it does not say which class each column of its probabilities is of: {NAME_CLASSES}")


def _class_of(raw: ClassLabel, number: int, count: int, spec: LoopSpec) -> ClassLabel:
    """The class of the loop that a classifier's own label stands for."""
    kind, named = spec.label_type, spec.label.classes
    if kind == "boolean":
        truth = _TRUTH.get(raw.lower() if isinstance(raw, str) else raw)
        if truth is not None:
            return truth
    elif kind == "integer":
        if isinstance(raw, int) or (isinstance(raw, str) and raw.lstrip("-").isdecimal()):
            return _known(int(raw), spec)
    elif isinstance(raw, str) or (named and class_name(raw) in named):
        return _known(class_name(raw), spec)
    elif named and len(named) == count and raw == number:
        return named[number]
    has = f"its class {quoted(class_name(raw))} is none of the loop"
    raise ArtifactCorrupt(f"{has}, whose labels are {_listed(named) if named else kind}: {NAME_CLASSES}")


def _known(one: ClassLabel, spec: LoopSpec) -> ClassLabel:
    types: dict[str, type] = {"boolean": bool, "integer": int, "string": str}
    if type(one) is not types.get(spec.label_type) or (spec.label.classes and one not in spec.label.classes):
        which = _listed(spec.label.classes) if spec.label.classes else f"of type {spec.label_type}"
        raise ArtifactCorrupt(f"classes: {quoted(class_name(one))} is no label of the loop; they are {which}")
    return one


def _labels(label: Port, classes: Labels) -> Labels:
    """What a label output says for each class where its classifier does not list it."""
    if label.type == "string":
        return tuple(map(class_name, classes))
    if label.type == "bool" or all(type(one) is int for one in classes):
        return classes
    return tuple(range(len(classes)))


def _listed(classes: Sequence[ClassLabel]) -> str:
    return listed([class_name(each) for each in classes])


def _names(ports: Sequence[Port]) -> str:
    return listed([quoted(port.name) for port in ports]) if ports else "none that is a tensor"
