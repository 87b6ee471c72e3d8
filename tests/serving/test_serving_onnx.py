"""Serving with ONNX models: as champion and as candidate, by REST and on the stream, beside River's."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import pytest
from onnx import helper
from tests.builders.loops import live_version, loop_spec
from tests.builders.onnx_models import network, normalised
from tests.serving.conftest import SPEC

from everloop_features import compile_features
from everloop_models import Artifact
from everloop_models.store import ArtifactStore
from everloop_schemas.registry import LiveVersion
from everloop_serving.adapters.artifacts import ArtifactLoader

if TYPE_CHECKING:
    from tests.serving.conftest import RunningServing

pytestmark = pytest.mark.app


def onnx_version(serving: RunningServing, name: str, made: onnx.ModelProto | bytes | None = None) -> LiveVersion:
    """An ONNX version in the store; bytes are stored as they are."""
    data = made if isinstance(made, bytes) else normalised(made or network(3, 2), loop_spec(**SPEC)).data
    artifact = Artifact.of(data)
    uri = serving.store.put(serving.store.name("market", name, artifact.sha256, "onnx"), artifact.data)
    return live_version(name, uri=uri, sha256=artifact.sha256, size=artifact.size, format="onnx")


async def ready(serving: RunningServing, version: str) -> None:
    """Wait until a version is in memory; the first load of a process imports every format."""
    await serving.until(lambda: (version, "ready") in serving.version_states(), deadline_s=40)


async def answer_of(serving: RunningServing, version: str) -> dict[str, Any]:
    """An answer of this version, once it is in memory."""
    await ready(serving, version)
    found: dict[str, Any] = (await serving.predict()).json()
    assert found["version"] == version
    return found


async def test_an_onnx_champion_answers_by_rest_and_on_the_stream_alike(serving: RunningServing) -> None:
    await serving.publish(serving.state(onnx_version(serving, "net-0@10")))
    await serving.start()

    by_rest = await answer_of(serving, "net-0@10")
    await serving.publish(serving.features("streamed"))
    streamed = await serving.until(lambda: [p for p in serving.predictions() if p.subject == "streamed"])

    assert streamed[0].data.version == "net-0@10"
    assert by_rest["probabilities"] == streamed[0].data.probabilities
    assert sorted(by_rest["probabilities"]) == ["false", "true"]
    assert sum(by_rest["probabilities"].values()) == pytest.approx(1)


async def test_a_list_of_rows_is_predicted_as_one_by_one(serving: RunningServing) -> None:
    await serving.publish(serving.state(onnx_version(serving, "net-0@10")))
    await serving.start()
    await ready(serving, "net-0@10")
    rng = random.Random(1)
    rows = [{"entity": f"e{n}", "data": {"price": rng.random(), "demand": rng.random()}} for n in range(20)]

    together = (await serving.client.post("/v1/loops/market/predict", json=rows)).json()
    alone = [(await serving.client.post("/v1/loops/market/predict", json=row)).json() for row in rows]

    assert [each["version"] for each in together] == ["net-0@10"] * 20
    assert [each["prediction"] for each in together] == [each["prediction"] for each in alone]


async def test_an_onnx_champion_takes_over_from_river_and_gives_way_to_it_under_load(serving: RunningServing) -> None:
    await serving.publish(serving.state(serving.version("river-0@5")))
    await serving.start()
    await answer_of(serving, "river-0@5")

    for version in (onnx_version(serving, "net-0@10"), serving.version("river-0@20")):
        await serving.publish(serving.state(version))
        await answer_of(serving, version.version)

    answers = [await serving.predict() for _ in range(50)]
    assert {answer.status_code for answer in answers} == {200}


async def test_an_onnx_candidate_predicts_in_shadow_and_serves_its_share(serving: RunningServing) -> None:
    champion, candidate = serving.version("river-0@5"), onnx_version(serving, "net-0@10")
    await serving.publish(serving.state(champion, candidate=candidate, stage="canary", share=0.5))
    await serving.start()
    await ready(serving, "river-0@5")
    await ready(serving, "net-0@10")

    for n in range(40):
        await serving.predict(f"p{n}")

    found = await serving.until(
        lambda: len(made := [p for p in serving.predictions() if p.subject.startswith("p")]) == 40 and made
    )
    assert {p.data.version for p in found} == {"river-0@5", "net-0@10"}
    assert all(len(p.data.shadows) == 1 for p in found)


async def test_a_row_that_an_onnx_champion_cannot_predict_is_answered_by_version_zero(serving: RunningServing) -> None:
    made = network(3, 2)
    made.graph.node.insert(0, helper.make_node("Sqrt", ["x"], ["root"]))  # not a number below zero
    made.graph.node[1].input[0] = "root"
    await serving.publish(serving.state(onnx_version(serving, "net-0@10", made)))
    await serving.start()
    await answer_of(serving, "net-0@10")

    answer = await serving.predict(price=-1.0)

    assert (answer.status_code, answer.json()["version"]) == (200, "0")
    reports = await serving.until(lambda: [state for state in serving.version_states() if state[1] == "fell_back"])
    assert reports[0][0] == "net-0@10"


@pytest.mark.parametrize("kind", ["a pickle", "cut off", "without its interface"])
async def test_an_onnx_version_that_cannot_be_loaded_leaves_the_champion_serving(
    serving: RunningServing, kind: str
) -> None:
    sound = normalised(network(3, 2), loop_spec(**SPEC)).data
    bare = network(3, 2).SerializeToString()
    broken = {"a pickle": b"\x80\x04N.", "cut off": sound[:-30], "without its interface": bare}[kind]
    await serving.publish(serving.state(serving.version("river-0@5")))
    await serving.start()
    await answer_of(serving, "river-0@5")

    await serving.publish(serving.state(onnx_version(serving, "net-0@10", broken)))

    await serving.until(lambda: ("net-0@10", "failed") in serving.version_states(), deadline_s=40)
    assert (await serving.predict()).json()["version"] == "river-0@5"


async def test_a_copy_from_a_remote_store_is_named_by_its_format_and_deleted_with_its_version(tmp_path: Path) -> None:
    store = ArtifactStore(f"memory://{tmp_path.name}")
    data = normalised(network(3, 2), loop_spec(**SPEC)).data
    artifact, name = Artifact.of(data), "net-0@10"
    uri = store.put(store.name("market", name, artifact.sha256, "onnx"), data)
    version = live_version(name, uri=uri, sha256=artifact.sha256, size=artifact.size, format="onnx")
    spec = loop_spec(**SPEC)

    async def tried(*_: object) -> None:
        """As if another process had loaded it."""

    loader = ArtifactLoader(store, tmp_path, tried)
    await loader.load(version, spec, compile_features(spec), lambda: True)

    assert [path.name for path in tmp_path.iterdir()] == [f"{artifact.sha256}.onnx"]
    loader.delete_copies_except(set())
    assert not [*tmp_path.iterdir()]
