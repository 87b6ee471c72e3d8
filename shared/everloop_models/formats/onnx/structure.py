"""Reads an ONNX file as data, and refuses what may not be run; runs nothing."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from math import prod

import onnx
from google.protobuf.message import DecodeError
from onnx.defs import SchemaError

from everloop_models.errors import ArtifactCorrupt
from everloop_models.formats.onnx.texts import quoted

MAX_NODES = 20_000
MAX_DEPTH = 8
"""Graphs within graphs: `If` and `Scan` have them."""
MAX_PORTS = 2_000
"""Inputs or outputs of a model."""
MAX_RANK = 32
MAX_NAME_CHARACTERS = 200
DOMAINS = {"": "", "ai.onnx": "", "ai.onnx.ml": "ai.onnx.ml"}
"""The sets of operators that are run, with the names that `onnx` knows them by."""
ENDLESS = {"Loop": "nothing bounds how often it repeats: unroll it, or use Scan, which goes over its input once"}
RANDOM = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}


def parse(data: bytes) -> onnx.ModelProto:
    """The model in these bytes, with a structure that may be run; raises ArtifactCorrupt naming what is wrong."""
    model = decode(data)
    if not model.HasField("graph") or not model.graph.node:
        raise ArtifactCorrupt("it is not an ONNX file, or has no graph: export the model again")
    if model.ir_version > onnx.IR_VERSION:
        fix = f"export it with ir_version {onnx.IR_VERSION} or below"
        raise ArtifactCorrupt(f"it has version {model.ir_version} of the file format, which is newer than here: {fix}")
    _check_operator_sets(model)
    _check_graphs(model)
    return model


def decode(data: bytes) -> onnx.ModelProto:
    """What these bytes say, whatever it is; raises ArtifactCorrupt where they are no ONNX file."""
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except (DecodeError, ValueError) as e:
        raise ArtifactCorrupt("it is not an ONNX file, is cut off, or nests too deep: export the model again") from e
    return model


def opset_of(model: onnx.ModelProto) -> int:
    """The version of the standard operators that it uses."""
    return max((each.version for each in model.opset_import if DOMAINS.get(each.domain) == ""), default=1)


def _check_operator_sets(model: onnx.ModelProto) -> None:
    for each in model.opset_import:
        if each.domain not in DOMAINS:
            continue  # it may be named without being used, as converters do
        latest = _latest(DOMAINS[each.domain])
        if not 1 <= each.version <= latest:
            name = each.domain or "ai.onnx"
            fix = f"export it with a target opset of {latest} or below"
            raise ArtifactCorrupt(f"it uses opset {each.version} of {name}, and {latest} is the newest here: {fix}")
    if model.functions:
        fix = "inline them (onnx.inliner.inline_local_functions)"
        raise ArtifactCorrupt(f"it defines {len(model.functions)} functions of its own: {fix}")
    if len(model.training_info):
        raise ArtifactCorrupt("it holds training steps: export it for inference")


@cache
def _latest(domain: str) -> int:
    if domain == "":
        return int(onnx.defs.onnx_opset_version())
    return max(schema.since_version for schema in onnx.defs.get_all_schemas() if schema.domain == domain)


def _check_graphs(model: onnx.ModelProto) -> None:
    """Check all graphs, those within others too, without recursion."""
    versions = {DOMAINS[each.domain]: each.version for each in model.opset_import if each.domain in DOMAINS}
    waiting: list[tuple[onnx.GraphProto, tuple[set[str], ...]]] = [(model.graph, ())]
    nodes = 0
    while waiting:
        graph, outer = waiting.pop()
        nodes += len(graph.node)
        if nodes > MAX_NODES:
            raise ArtifactCorrupt(f"it has more than {MAX_NODES:,} nodes: simplify it, or take a smaller model")
        if len(outer) > MAX_DEPTH:
            raise ArtifactCorrupt(f"it has graphs within graphs more than {MAX_DEPTH} deep: flatten them")
        _check_ports(graph)
        for tensor in graph.initializer:
            _check_tensor(tensor)
        if graph.sparse_initializer:
            raise ArtifactCorrupt("it has sparse weights: make them dense before the export")
        known = {*(each.name for each in graph.input), *(each.name for each in graph.initializer)}
        for node in graph.node:
            _check_node(node, versions)
            _check_order(node, (*outer, known))
            waiting += [(inner, (*outer, known)) for inner in graphs_of(node)]
            known.update(filter(None, node.output))
        if missing := sorted({each.name for each in graph.output}.difference(known, *outer)):
            raise ArtifactCorrupt(f"no node makes its output {quoted(missing[0])}: export the model again")


def _check_ports(graph: onnx.GraphProto) -> None:
    for kind, ports in (("input", graph.input), ("output", graph.output)):
        if len(ports) > MAX_PORTS:
            raise ArtifactCorrupt(f"it has {len(ports):,} {kind}s; at most {MAX_PORTS:,} are taken")
        names = [each.name for each in ports]
        for name in names:
            if not name or not name.isprintable() or len(name) > MAX_NAME_CHARACTERS:
                limits = f"at most {MAX_NAME_CHARACTERS} printable characters"
                raise ArtifactCorrupt(f"the name of its {kind} {quoted(name)} must have {limits}: rename it")
        if len({*names}) < len(names):
            raise ArtifactCorrupt(f"two of its {kind}s have the same name: rename them")


def _check_node(node: onnx.NodeProto, versions: dict[str, int]) -> None:
    operator = f"the operator {quoted(node.op_type)}"
    domain = DOMAINS.get(node.domain)
    if domain is None or domain not in versions:
        fix = "only those of ai.onnx and ai.onnx.ml are run; convert it without custom operators"
        raise ArtifactCorrupt(f"it uses {operator} of the domain {quoted(node.domain)}: {fix}")
    try:
        schema = onnx.defs.get_schema(node.op_type, versions[domain], domain)
    except SchemaError as e:
        which = f"opset {versions[domain]} of {domain or 'ai.onnx'}"
        raise ArtifactCorrupt(f"it uses {operator}, which {which} does not have: convert it for that opset") from e
    if schema.deprecated:
        raise ArtifactCorrupt(f"it uses {operator}, which is not part of its opset any more: convert it again")
    if node.op_type in ENDLESS:
        raise ArtifactCorrupt(f"it uses {operator}: {ENDLESS[node.op_type]}")
    if node.op_type in RANDOM:
        raise ArtifactCorrupt(f"it uses {operator}: the same features must give the same prediction; export without it")
    for tensor in tensors_of(node):
        _check_tensor(tensor)
    for attribute in node.attribute:
        if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
            raise ArtifactCorrupt(f"{operator} has sparse weights: make them dense before the export")


def _check_order(node: onnx.NodeProto, scopes: tuple[set[str], ...]) -> None:
    """Every input is made by something before it, and nothing is made twice."""
    operator = f"the operator {quoted(node.op_type)}"
    for name in node.input:
        if name and not any(name in known for known in scopes):
            where = f"{operator} reads {quoted(name)}, which nothing before it makes"
            raise ArtifactCorrupt(f"{where}: its graph has a cycle or is not in order; export the model again")
    for name in node.output:
        if name and name in scopes[-1]:
            raise ArtifactCorrupt(f"{operator} makes {quoted(name)} a second time: export the model again")


def _check_tensor(tensor: onnx.TensorProto) -> None:
    if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
        fix = "save it in one file (onnx.save with save_as_external_data=False)"
        raise ArtifactCorrupt(f"its weights {quoted(tensor.name)} are in another file, which is not read: {fix}")
    size = tensor.ByteSize()
    if len(tensor.dims) > MAX_RANK or min(tensor.dims, default=0) < 0 or prod(tensor.dims) > 2 * size:
        has = f"have other dimensions than their {size:,} bytes can fill"
        raise ArtifactCorrupt(f"its weights {quoted(tensor.name)} {has}: export the model again")


def tensors_of(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    """The tensors among the attributes of a node."""
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors


def graphs_of(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs among the attributes of a node."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs
