"""The contract checks on ONNX artifacts: what a file says of itself is compared with the loop, and it is tried."""

from __future__ import annotations

from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import pytest
from onnx import helper
from tests.builders.events import model_trained
from tests.builders.loops import loop_spec
from tests.builders.onnx_models import network, normalised, weights
from tests.registry.registry_harness import market_spec

from everloop_models import library_versions
from everloop_models.first_load import LOAD_MEMORY_BYTES, PRELOADED_MODULES
from everloop_models.store import ArtifactStore
from everloop_registry.adapters.artifact_checks import ChildProcessArtifactChecks
from everloop_schemas.training import ModelTrainedData
from everloop_shared.limited import Limited


@pytest.fixture
async def checks(tmp_path: Path) -> AsyncIterator[ChildProcessArtifactChecks]:
    """The checks over a store in `tmp_path`."""
    async with Limited(preload=PRELOADED_MODULES, memory_bytes=LOAD_MEMORY_BYTES, seconds=60) as child:
        yield ChildProcessArtifactChecks(ArtifactStore(tmp_path.as_uri(), 1_000_000), child, light_bytes=100_000)


def stored(folder: Path, data: bytes, extension: str = "onnx") -> ModelTrainedData:
    """A version of format onnx whose artifact is these bytes."""
    digest = sha256(data).hexdigest()
    name = ArtifactStore.name("market", "net-0@10", digest, "onnx")
    uri = ArtifactStore(folder.as_uri()).put(name, data).replace(".onnx", f".{extension}")
    trained = model_trained("net-0", 10, "submitted", uri=uri, size=len(data), sha256=digest).data
    about = {"format": "onnx", "inputs": ("x",), "outputs": ("y",), "opset": 17, "libraries": library_versions("onnx")}
    return trained.model_copy(update={"manifest": trained.manifest.model_copy(update=about)})


def sound(last: str = "Softmax") -> bytes:
    """A model of the loop's features."""
    spec = market_spec()
    return normalised(network(len(spec.fields), 2, last), spec.model_copy(update={"features": spec.features[:1]})).data


async def test_a_sound_model_passes(checks: ChildProcessArtifactChecks, tmp_path: Path) -> None:
    assert await checks.refusal(stored(tmp_path, sound()), [market_spec()]) is None


async def test_a_file_that_is_fed_other_features_than_the_loop_has_is_refused(
    checks: ChildProcessArtifactChecks, tmp_path: Path
) -> None:
    other = loop_spec(schema={"price": {"type": "number"}, "secret": {"type": "number"}})
    made = network(2, 2)
    made.graph.initializer.append(weights("none", [0.0]))
    made.graph.node.insert(0, helper.make_node("IsNaN", ["x"], ["missing"]))
    made.graph.node.insert(1, helper.make_node("Where", ["missing", "none", "x"], ["filled"]))
    made.graph.node[2].input[0] = "filled"

    refusal = await checks.refusal(stored(tmp_path, normalised(made, other).data), [market_spec()])

    assert refusal == "it needs features that no revision of the loop has: secret"


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("logits", "which are none: end the model with Softmax"),
        ("no interface", "has no everloop.interface: submit it as a model of the loop"),
        ("cut off", "not an ONNX file, is cut off"),
        ("a pickle", "not an ONNX file"),
    ],
)
async def test_a_file_that_cannot_be_served_is_refused(
    checks: ChildProcessArtifactChecks, tmp_path: Path, kind: str, says: str
) -> None:
    data = {
        "logits": sound("Identity"),
        "no interface": network(2, 2).SerializeToString(),
        "cut off": sound()[:-30],
        "a pickle": b"\x80\x04N.",
    }[kind]

    refusal = await checks.refusal(stored(tmp_path, data), [market_spec()])

    assert refusal is not None
    assert says in refusal


async def test_an_artifact_with_the_name_of_another_format_is_not_read(
    checks: ChildProcessArtifactChecks, tmp_path: Path
) -> None:
    refusal = await checks.refusal(stored(tmp_path, sound(), extension="pkl"), [market_spec()])

    assert refusal is not None
    assert "not its place in the store" in refusal
