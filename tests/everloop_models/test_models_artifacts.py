"""Artifacts: verified before they are loaded, made of models only, written whole or not at all."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.builders.loops import loop_spec

from everloop_models import Artifact, ArtifactCorrupt, ArtifactUnavailable, build, save, verify_and_load
from everloop_models.formats.river.estimators import PRESETS
from everloop_models.store import ArtifactStore
from everloop_schemas.envelope import Fields
from everloop_schemas.loop import LoopSpec
from everloop_schemas.loop_parts import ModelSpec


def spec(task: str = "binary", **parts: Any) -> LoopSpec:
    return loop_spec(**{"task": task, "schema": {"a": {"type": "number"}}, **parts})


def artifact() -> Artifact:
    return save(build(spec().models[0], spec()))


def test_one_changed_byte_is_detected_before_anything_is_unpickled() -> None:
    good = artifact()
    bad = good.data[:-5] + bytes([good.data[-5] ^ 1]) + good.data[-4:]

    with pytest.raises(ArtifactCorrupt, match="sha256"):
        verify_and_load(bad, good.sha256)


@pytest.mark.parametrize("call", [(os.system, ("true",)), (subprocess.Popen, (["true"],)), (eval, ("1",))])
def test_a_pickle_that_would_run_code_is_refused_even_with_its_own_sha256(call: Any) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return call

    data = pickle.dumps(Evil(), protocol=5)

    with pytest.raises(ArtifactCorrupt, match="no model is made of"):
        verify_and_load(data, sha256(data).hexdigest())


def test_a_method_of_another_class_is_refused() -> None:
    data = pickle.dumps("text".upper, protocol=5)

    with pytest.raises(ArtifactCorrupt):
        verify_and_load(data, sha256(data).hexdigest())


def test_an_artifact_is_stored_under_a_name_that_follows_from_its_content(tmp_path: Path) -> None:
    store, good = ArtifactStore(tmp_path.as_uri()), artifact()

    uri = store.put(store.name("market", "line-0@29", good.sha256), good.data)

    assert uri.endswith(f"models/market/line-0@29-{good.sha256[:16]}.pkl")
    assert store.get(store.named(uri, "market", "line-0@29", good.sha256), good.size) == good.data
    assert len(list((tmp_path / "models/market").iterdir())) == 1


def test_a_store_in_memory_works_the_same() -> None:
    store, good = ArtifactStore("memory://artifacts"), artifact()
    name = store.name("x", "a@1", good.sha256)

    uri = store.put(name, good.data)

    assert store.named(uri, "x", "a@1", good.sha256) == name
    assert store.get(name, good.size) == good.data
    with pytest.raises(ArtifactCorrupt, match="not as many bytes"):
        store.get(name, good.size - 1)


def test_a_full_disk_is_a_clear_error_and_leaves_nothing_half_written() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    store = ArtifactStore("file:///dev/full")

    with pytest.raises(ArtifactUnavailable, match="cannot write"):
        store.put(f"models/x/a@1-{'0' * 16}.pkl", b"bytes")


def test_a_missing_artifact_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactUnavailable, match="cannot read"):
        ArtifactStore(tmp_path.as_uri()).get(f"models/x/a@1-{'0' * 16}.pkl")


@pytest.mark.parametrize(
    "name",
    ["../x.pkl", "/etc/passwd", "models/x/../../y", "models/x/a@1.pkl", "models/X/a@1-0123456789abcdef.pkl", "", "a"],
)
def test_only_names_of_artifacts_are_written_and_read(tmp_path: Path, name: str) -> None:
    store = ArtifactStore((tmp_path / "store").as_uri())

    for use in (store.get, lambda name: store.put(name, b"x")):
        with pytest.raises(ArtifactCorrupt, match="no name"):
            use(name)
    assert not list(tmp_path.iterdir())


def test_nothing_of_more_than_the_largest_size_is_read(tmp_path: Path) -> None:
    store, name = ArtifactStore(tmp_path.as_uri(), max_bytes=100), f"models/x/a@1-{'0' * 16}.pkl"
    store.put(name, b"x" * 101)

    for size in (0, 101, 2**70, -1):
        with pytest.raises(ArtifactCorrupt):
            store.get(name, size)


def row(random: Random) -> tuple[Fields, bool]:
    a, b = random.random(), random.random()
    return {"a": a, "b": b, "c": random.choice(["x", "y", "z"])}, (a + b > 1) != (random.random() < 0.1)


@pytest.mark.parametrize("preset", [name for name, kinds in PRESETS.items() if False in kinds])
def test_a_model_that_went_through_a_snapshot_becomes_the_same_artifact(preset: str) -> None:
    random = Random(1)
    rows = [row(random) for _ in range(300)]
    straight, restored = (build(ModelSpec(preset=preset), spec()) for _ in range(2))

    for i, (features, label) in enumerate(rows):
        for model in (straight, restored):
            model.learn(json.loads(json.dumps(features)), label)  # every event has text objects of its own
        if i % 75 == 74:
            restored = pickle.loads(pickle.dumps(restored))

    assert save(restored).sha256 == save(straight).sha256
