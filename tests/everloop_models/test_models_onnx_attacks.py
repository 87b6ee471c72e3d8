"""ONNX files that are broken, hostile or of no use to a loop: each is refused with what is wrong and what to do."""

from __future__ import annotations

import builtins
import pickle
from collections.abc import AsyncIterator, Callable
from hashlib import sha256
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper
from tests.builders.loops import loop_spec
from tests.builders.onnx_models import BOOL, FLOAT, INT64, STRING, linear, model, network, normalised, port, weights

from everloop_models import ArtifactCorrupt, ModelBroken
from everloop_models.first_load import LOAD_MEMORY_BYTES, PRELOADED_MODULES, try_artifact, try_model
from everloop_models.formats.onnx.format import check, load
from everloop_models.formats.onnx.interface import METADATA_KEY, GivenInterface
from everloop_schemas.loop import LoopSpec
from everloop_shared.limited import Limited, LimitExceeded


def spec_of(task: str = "binary", names: str = "ab", texts: str = "", **label: object) -> LoopSpec:
    """A loop whose features have names of one letter; those in `texts` are text."""
    fields = {name: {"type": "number"} for name in names} | {name: {"type": "string"} for name in texts}
    return loop_spec(task=task, schema=fields, label=label)


def changed(change: Callable[[onnx.ModelProto], object]) -> onnx.ModelProto:
    """A sound network of two features and two classes, changed."""
    made = network(2, 2)
    change(made)
    return made


def one_node(operator: str, domain: str = "", outputs: int = 1, **attributes: Any) -> onnx.ModelProto:
    """A model of one operator."""
    names = ["y", *[f"y{i}" for i in range(1, outputs)]]
    node = helper.make_node(operator, ["x"], names, domain=domain, **attributes)
    return model([node], [port("x", FLOAT, (None, 2))], [port("y", FLOAT, (None, 2))])


def nested(depth: int) -> onnx.ModelProto:
    """Graphs within graphs."""
    leaf = helper.make_graph([helper.make_node("Identity", ["c"], ["leaf"])], "g", [], [port("leaf", BOOL, ())])
    inner = leaf
    for n in range(depth):
        node = helper.make_node("If", ["c"], [f"i{n}"], then_branch=inner, else_branch=leaf)
        inner = helper.make_graph([node], "g", [], [port(f"i{n}", BOOL, ())])
    last = helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=leaf)
    nodes = [helper.make_node("Softmax", ["x"], ["y"]), last]
    return model(nodes, [port("x", FLOAT, (None, 2))], [port("y", FLOAT, (None, 2))], [weights("c", [True], BOOL, ())])


def varint(number: int) -> bytes:
    """A number as protobuf writes it."""
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


def bottomless(depth: int) -> bytes:
    """The bytes of graphs within graphs, deeper than any library reads or writes them."""
    data = b""
    for _ in range(depth):
        for tag in (0x32, 0x2A, 0x0A):  # the graph of an attribute, of a node, of a graph
            data = bytes([tag]) + varint(len(data)) + data
    return b"\x3a" + varint(len(data)) + data


def chain(length: int) -> onnx.ModelProto:
    """So many nodes, one after the other."""
    nodes = [helper.make_node("Identity", [f"n{i}"], [f"n{i + 1}"]) for i in range(length)]
    nodes.append(helper.make_node("Softmax", [f"n{length}"], ["y"]))
    return model(nodes, [port("n0", FLOAT, (None, 2))], [port("y", FLOAT, (None, 2))])


def external(made: onnx.ModelProto) -> None:
    tensor = made.graph.initializer[0]
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def announce(made: onnx.ModelProto, *dims: int) -> None:
    made.graph.initializer[0].dims[:] = dims


def endless() -> onnx.ModelProto:
    """A loop that ends when its condition is false, which it never is."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["v"], ["w"])],
        "body",
        [port("i", INT64, ()), port("go", BOOL, ()), port("v", FLOAT, (None, 2))],
        [port("on", BOOL, ()), port("w", FLOAT, (None, 2))],
    )
    node = helper.make_node("Loop", ["", "true", "x"], ["y"], body=body)
    inputs, outputs = [port("x", FLOAT, (None, 2))], [port("y", FLOAT, (None, 2))]
    return model([node], inputs, outputs, [weights("true", [True], BOOL, ())])


def cyclic() -> onnx.ModelProto:
    nodes = [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Softmax", ["a"], ["b"])]
    return model(nodes, [port("x", FLOAT, (None, 2))], [port("b", FLOAT, (None, 2))])


FILES: dict[str, tuple[onnx.ModelProto | bytes, str]] = {
    "nothing": (b"", "not an ONNX file, or has no graph"),
    "a page": (b"<!DOCTYPE html><html>", "not an ONNX file"),
    "a pickle": (pickle.dumps({"a": 1}), "not an ONNX file"),
    "cut off": (network(2, 2).SerializeToString()[:-40], "not an ONNX file, is cut off"),
    "half": (network(20, 20).SerializeToString()[:900], "not an ONNX file, is cut off"),
    "external data": (changed(external), "'w' are in another file, which is not read: save it in one file"),
    "a trillion values": (changed(lambda m: announce(m, 10**6, 10**6)), "other dimensions than their"),
    "2 GB": (changed(lambda m: announce(m, 2 * 10**9)), "other dimensions than their"),
    "more than any integer": (changed(lambda m: announce(m, *[2**62] * 32)), "other dimensions than their"),
    "negative": (changed(lambda m: announce(m, -1, 4)), "other dimensions than their"),
    "many dimensions": (changed(lambda m: announce(m, *[1] * 40)), "other dimensions than their"),
    "an unknown operator": (one_node("Teleport"), "'Teleport', which opset 17 of ai.onnx does not have"),
    "an operator of later": (one_node("Gelu"), "'Gelu', which opset 17 of ai.onnx does not have"),
    "an operator of before": (one_node("Upsample"), "'Upsample', which is not part of its opset any more"),
    "a custom domain": (one_node("Do", "my.company"), "'Do' of the domain 'my.company': only those of ai.onnx"),
    "a contributed one": (one_node("Gelu", "com.microsoft"), "domain 'com.microsoft': only those of ai.onnx"),
    "an opset to come": (changed(lambda m: setattr(m.opset_import[0], "version", 99)), "uses opset 99 of ai.onnx"),
    "no opset": (changed(lambda m: setattr(m.opset_import[0], "version", -1)), "uses opset -1 of ai.onnx"),
    "a format to come": (changed(lambda m: setattr(m, "ir_version", 99)), "version 99 of the file format"),
    "graphs within graphs": (nested(10), "graphs within graphs more than 8 deep"),
    "very deep": (bottomless(200), "nests too deep"),
    "too many nodes": (chain(20_001), "more than 20,000 nodes"),
    "a loop without end": (endless(), "'Loop': nothing bounds how often it repeats: unroll it"),
    "dice": (one_node("RandomNormalLike"), "the same features must give the same prediction"),
    "a cycle": (cyclic(), "'Add' reads 'b', which nothing before it makes: its graph has a cycle"),
    "made twice": (
        changed(lambda m: m.graph.node.extend([m.graph.node[0]])),
        "'MatMul' makes 'product' a second time",
    ),
    "no such output": (changed(lambda m: setattr(m.graph.output[0], "name", "z")), "no node makes its output 'z'"),
    "a coloured name": (
        changed(lambda m: setattr(m.graph.input[0], "name", "\x1b[31mx")),
        r"the name of its input '\x1b[31mx' must have at most 200 printable characters",
    ),
    "a coloured operator": (one_node("\x1b[2J\n"), r"the operator '\x1b[2J\n'"),
    "a long name": (changed(lambda m: setattr(m.graph.output[0], "name", "y" * 5000)), "at most 200 printable"),
    "sparse weights": (changed(lambda m: m.graph.sparse_initializer.add()), "sparse weights: make them dense"),
    "functions": (changed(lambda m: m.functions.add(name="f", domain="d")), "functions of its own: inline them"),
    "training": (changed(lambda m: m.training_info.add()), "training steps: export it for inference"),
    "images": (changed(lambda m: m.graph.input[0].type.tensor_type.shape.dim.add()), "3 dimensions"),
    "half floats": (changed(lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 10)), "type float16"),
    "batches of 32": (network(2, 2, rows=32), "takes 32 rows at a time: export it with a first dimension that varies"),
    "other columns": (network(7, 2), "'x' takes 7 columns, and the loop has 2 features: name its columns"),
    "three classes": (network(2, 3), "3 probabilities, and 2 classes are named"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_may_not_be_run_is_refused_with_what_is_wrong(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made, says = FILES[kind]
    monkeypatch.setattr(builtins, "open", lambda *_, **__: pytest.fail("a file was opened"))

    with pytest.raises(ArtifactCorrupt) as refused:
        normalised(made, spec_of())

    assert says in refused.value.detail
    assert refused.value.detail.isprintable()
    assert len(refused.value.detail) < 500


LOOPS: dict[str, tuple[onnx.ModelProto, LoopSpec, GivenInterface | None, str]] = {
    "text in a column": (network(2, 2), spec_of(names="a", texts="t"), None, "the feature t is text, and the input"),
    "numbers as strings": (
        model(
            [
                helper.make_node(
                    "LabelEncoder", ["a"], ["y"], domain="ai.onnx.ml", keys_strings=["x"], values_int64s=[1]
                )
            ],
            [port("a", STRING)],
            [port("y", STRING)],
        ),
        spec_of(names="a"),
        None,
        "the feature a is a number, and 'a' takes strings",
    ),
    "an unknown column": (network(2, 2), spec_of(), GivenInterface(("a", "secret")), "the loop has no 'secret'"),
    "a column twice": (network(2, 2), spec_of(), GivenInterface(("a", "a")), "each feature is named once"),
    "a column too few": (network(2, 2), spec_of(), GivenInterface(("a",)), "takes 2 columns, and 1 features are named"),
    "an unknown class": (
        network(2, 2),
        spec_of("multiclass", classes=["x", "y"]),
        GivenInterface(classes=("x", "z")),
        "'z' is no label of the loop; they are x, y",
    ),
    "a class twice": (
        network(2, 2),
        spec_of("multiclass", classes=["x", "y"]),
        GivenInterface(classes=("x", "x")),
        "two of its classes (x, x) are the same",
    ),
    "unnamed classes": (network(2, 3), spec_of("multiclass"), None, "does not say which class each column"),
    "an unknown output": (network(2, 2), spec_of(), GivenInterface(probabilities="p"), "has no output 'p'; it has 'y'"),
    "a classifier for a regression": (network(2, 2), spec_of("regression"), None, "a regression has one output"),
}


@pytest.mark.parametrize("kind", LOOPS)
def test_a_sound_model_that_does_not_fit_the_loop_is_refused_with_the_fix(kind: str) -> None:
    made, spec, given, says = LOOPS[kind]

    with pytest.raises(ArtifactCorrupt) as refused:
        normalised(made, spec, given)

    assert says in refused.value.detail


def test_a_file_without_its_interface_or_with_a_malformed_one_is_not_loaded() -> None:
    bare, broken = network(2, 2), network(2, 2)
    broken.metadata_props.add(key=METADATA_KEY, value='{"task": "binary", "inputs": "\\u001b"}')

    for made, says in ((bare, "has no everloop.interface"), (broken, "malformed at 'inputs'")):
        with pytest.raises(ArtifactCorrupt, match=says):
            check(made.SerializeToString())
        with pytest.raises(ArtifactCorrupt, match=says):
            load(made.SerializeToString())


def test_five_thousand_nodes_are_taken() -> None:
    found = load(normalised(chain(5_000), spec_of()).data).predict({"a": 1.0, "b": 0.0})

    assert found.value is False


def test_a_model_whose_rows_influence_each_other_is_refused() -> None:
    made = network(2, 1, last="Softmax")
    made.graph.node[-1].attribute.append(helper.make_attribute("axis", 0))
    across = network(2, 2)
    across.graph.node[-1].attribute.append(helper.make_attribute("axis", 0))

    for each in (made, across):
        model = load(normalised(each, spec_of()).data)
        with pytest.raises(ModelBroken, match=r"several rows at once: let none|which are none"):
            try_model(model, [{"a": 0.5, "b": 0.25}])


def test_a_model_that_takes_too_long_is_refused() -> None:
    slow = load(repeats_as_its_feature_says())
    too_long = "ms per event; at most 20 ms: take a smaller model|predicting took longer than 1 s"

    with pytest.raises(ModelBroken, match=too_long):
        try_model(slow, [{"a": 3e5}])


OUTPUTS = {
    "logits": ("Identity", "its probabilities are [", "which are none: end the model with Softmax"),
    "not numbers": ("Log", "its probabilities are [nan", "which are none"),
    "another shape": ("Transpose", "have the shape (2, 1), and (1, 2) is expected", ""),
}


@pytest.mark.parametrize("kind", OUTPUTS)
def test_an_output_that_is_no_prediction_is_refused(kind: str) -> None:
    operator, says, too = OUTPUTS[kind]
    found = load(normalised(network(2, 2, last=operator), spec_of()).data)

    with pytest.raises(ModelBroken) as refused:
        found.predict({"a": -5.0, "b": -5.0})

    assert says in refused.value.detail
    assert too in refused.value.detail


@pytest.mark.parametrize("value", [float("nan"), 1e38, "text"])
def test_a_value_that_is_not_finite_is_refused(value: Any) -> None:
    found = load(normalised(linear(2), spec_of("regression")).data)

    with pytest.raises(ModelBroken, match=r"the prediction is|the feature a is text, and the model takes a number"):
        found.predict({"a": value, "b": 3e38})


def grows_with_its_feature() -> bytes:
    """A model that makes as many values as its feature says."""
    nodes = [
        helper.make_node("Cast", ["a"], ["n"], to=INT64),
        helper.make_node("Reshape", ["n", "one"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["values"]),
        helper.make_node("ReduceSum", ["values"], ["y"]),
    ]
    one = weights("one", [1], INT64)
    return normalised(model(nodes, [port("a", shape=(1, 1))], [port("y", shape=(1,))], [one]), regression()).data


def repeats_as_its_feature_says() -> bytes:
    """A model that adds up all numbers below its feature."""
    body = helper.make_graph(
        [helper.make_node("Add", ["sum", "n"], ["more"])],
        "body",
        [port("sum", shape=(1,)), port("n", shape=())],
        [port("more", shape=(1,))],
    )
    nodes = [
        helper.make_node("Squeeze", ["a"], ["end"]),
        helper.make_node("Range", ["zero", "end", "one"], ["numbers"]),
        helper.make_node("Scan", ["start", "numbers"], ["y"], num_scan_inputs=1, body=body),
    ]
    constants = [weights("zero", [0.0], dims=()), weights("one", [1.0], dims=()), weights("start", [0.0])]
    return normalised(model(nodes, [port("a", shape=(1, 1))], [port("y", shape=(1,))], constants), regression()).data


def regression() -> LoopSpec:
    return spec_of("regression", "a")


def test_a_prediction_that_would_fill_the_memory_fails_and_the_next_is_made() -> None:
    found = load(grows_with_its_feature())

    with pytest.raises(ModelBroken, match="predicting failed"):
        found.predict({"a": 1e9})

    assert found.predict({"a": 10}).value == 0


def test_a_prediction_without_end_is_ended_and_the_next_is_made() -> None:
    found = load(repeats_as_its_feature_says())

    with pytest.raises(ModelBroken, match="took longer than 1 s"):
        found.predict({"a": 3e7})

    assert found.predict({"a": 100}).value == 4950


@pytest.fixture
async def child() -> AsyncIterator[Limited]:
    """A process as registry and serving use it, with little memory and time."""
    async with Limited(preload=PRELOADED_MODULES, memory_bytes=LOAD_MEMORY_BYTES, seconds=30, cpu_seconds=10) as child:
        yield child


def constant_bomb() -> bytes:
    """A model that makes 40 GB of a constant as it is loaded."""
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["values"]),
        helper.make_node("ReduceSum", ["values"], ["sum"]),
        helper.make_node("Add", ["a", "sum"], ["y"]),
    ]
    shape = weights("shape", [10**5, 10**5], INT64)
    return normalised(model(nodes, [port("a")], [port("y")], [shape]), regression()).data


async def test_a_constant_that_would_fill_the_memory_is_refused_by_the_child(child: Limited) -> None:
    data = constant_bomb()

    with pytest.raises((ArtifactCorrupt, ModelBroken, LimitExceeded)):
        await child.run(try_artifact, data, sha256(data).hexdigest(), {"a": 1.0}, "onnx")
