"""The contract checks on real artifacts."""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from river.tree.nodes.branch import NumericBinaryBranch
from tests.builders.events import model_trained
from tests.registry.registry_harness import market_spec, store_model

from everloop_models import build, save
from everloop_models.first_load import LOAD_MEMORY_BYTES, PRELOADED_MODULES
from everloop_models.store import ArtifactStore
from everloop_registry.adapters.artifact_checks import ChildProcessArtifactChecks
from everloop_schemas.loop_parts import ModelSpec
from everloop_schemas.training import ModelTrained
from everloop_shared.limited import Limited


@pytest.fixture
async def checks(tmp_path: Path) -> AsyncIterator[ChildProcessArtifactChecks]:
    """The checks over a store in `tmp_path`, with a child of their own."""
    async with Limited(preload=PRELOADED_MODULES, memory_bytes=LOAD_MEMORY_BYTES, seconds=20) as child:
        yield ChildProcessArtifactChecks(ArtifactStore(tmp_path.as_uri(), 1_000_000), child, light_bytes=100_000)


def changed(event: ModelTrained, **changes: object) -> ModelTrained:
    """The event with other data."""
    return event.copy_with(data=event.data.model_copy(update=changes))


def store_bytes(folder: Path, data: bytes, reason: str = "refresh") -> ModelTrained:
    """A version whose artifact is these bytes, right in everything else."""
    digest = sha256(data).hexdigest()
    uri = ArtifactStore(folder.as_uri()).put(ArtifactStore.name("market", "a-0@10", digest), data)
    return model_trained("a-0", 10, reason, uri=uri, size=len(data), sha256=digest)


async def test_a_sound_artifact_passes(checks: ChildProcessArtifactChecks, tmp_path: Path) -> None:
    version = store_model("a-0", 10, tmp_path)
    moved = changed(version, uri=version.data.uri.replace(str(tmp_path), "/some/house/of/before"))
    named = changed(version, uri=f"models/market/{version.data.uri.rpartition('/')[2]}")

    assert [await checks.refusal(v.data, [market_spec()]) for v in (version, moved, named)] == [None] * 3


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"size": 2_000_000}, "at most"),
        ({"size": 11}, "not as many bytes"),
        ({"size": 0}, "of 0 bytes"),
        ({"size": -1}, "of -1 bytes"),
        ({"size": 10**30}, "at most"),
        ({"sha256": "0" * 64}, "not its place"),
        ({"sha256": "../../../../etc/passwd"}, "no name"),
        ({"signature": ("demand", "price", "secret")}, "secret"),
        ({"version": "a-0@11"}, "it says that it is"),
        ({"line": "b-0"}, "it says that it is"),
        ({"offset": 10**30, "version": f"a-0@{10**30}"}, "no name"),
        ({"offset": 11, "version": "a-0@11"}, "not its place"),
        ({"line": "../../other/a-0", "version": "../../other/a-0@10"}, "no name"),
        ({"line": "a/b", "version": "a/b@10"}, "no name"),
    ],
)
async def test_a_version_that_contradicts_its_description_is_refused(
    checks: ChildProcessArtifactChecks, tmp_path: Path, changes: dict[str, object], says: str
) -> None:
    version = changed(store_model("a-0", 10, tmp_path), **changes)

    refusal = await checks.refusal(version.data, [market_spec()])

    assert refusal is not None
    assert says in refusal


PLACES = (
    "data:;base64,gAVOLg==",
    "http://127.0.0.1:9/models/market/{}",
    "https://example.org/models/market/{}",
    "github://org:repo@main/models/market/{}",
    "simplecache::file:///models/market/{}",
    "filecache::http://127.0.0.1:9/models/market/{}",
    "memory://models/market/{}",
    "s3://bucket/models/market/{}",
    "ssh://host/models/market/{}",
    "nosuchprotocol://x",
    "file:///etc/passwd",
    "file:///dev/zero",
    "file:///",
    "file:///models/other/{}",
    "file:///models/market/../market/other-{}",
    "models/other/{}",
    "../models/market/{}",
    "/models/market/{}?x",
    "",
)


@pytest.mark.parametrize("place", PLACES)
async def test_a_uri_is_a_name_in_the_store_and_never_followed_elsewhere(
    checks: ChildProcessArtifactChecks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    version = store_model("a-0", 10, tmp_path)
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("it was followed"))

    refusal = await checks.refusal(
        changed(version, uri=place.format(Path(version.data.uri).name)).data, [market_spec()]
    )

    assert refusal is not None
    assert "not its place" in refusal


@pytest.mark.parametrize("kind", ["gone", "folder", "fifo", "link", "link to a device", "folder is a link", "longer"])
async def test_only_a_plain_file_of_the_store_is_read(
    checks: ChildProcessArtifactChecks, tmp_path: Path, kind: str
) -> None:
    version = store_model("a-0", 10, tmp_path)
    path = Path(urlsplit(version.data.uri).path)
    elsewhere = path.rename(tmp_path / "elsewhere.pkl")
    match kind:
        case "folder":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "link":
            path.symlink_to(elsewhere)
        case "link to a device":
            path.symlink_to("/dev/zero")
        case "folder is a link":
            elsewhere.rename(path)
            path.parent.rename(tmp_path / "real")
            path.parent.symlink_to(tmp_path / "real")
        case "longer":
            path.write_bytes(elsewhere.read_bytes() + b"x")

    refusal = await checks.refusal(version.data, [market_spec()])

    assert refusal is not None
    assert str(elsewhere.stat().st_size if elsewhere.exists() else "bytes,") not in refusal


@pytest.mark.parametrize("reason", ["refresh", "gate"])
async def test_bytes_that_are_no_model_are_refused_before_they_do_anything(
    checks: ChildProcessArtifactChecks, tmp_path: Path, reason: str
) -> None:
    refusal = await checks.refusal(store_bytes(tmp_path, pickle.dumps(print, protocol=5), reason).data, [market_spec()])
    large = b"\x80\x05" + b"N" * 200_000 + pickle.dumps(print, protocol=5)[2:]

    assert refusal is not None
    assert "print" in refusal
    assert await checks.refusal(store_bytes(tmp_path, large, reason).data, [market_spec()]) is not None


async def test_a_large_refresh_is_verified_but_not_loaded_and_a_first_version_is_loaded(tmp_path: Path) -> None:
    data = pickle.dumps("no model at all", protocol=5)
    async with Limited(preload=PRELOADED_MODULES, memory_bytes=LOAD_MEMORY_BYTES, seconds=20) as child:
        checks = ChildProcessArtifactChecks(ArtifactStore(tmp_path.as_uri()), child, light_bytes=10)

        refresh = await checks.refusal(store_bytes(tmp_path, data).data, [market_spec()])
        first = await checks.refusal(store_bytes(tmp_path, data, "gate").data, [market_spec()])

    assert refresh is None
    assert first == "the artifact holds a str, not a model"


@pytest.mark.parametrize(
    ("memory", "seconds", "says"), [(10**9, 1, "longer than 1 s"), (10**8, 20, "100 MB of memory")]
)
async def test_what_takes_too_long_or_needs_too_much_is_refused_and_the_next_is_tried(
    tmp_path: Path, memory: int, seconds: float, says: str
) -> None:
    slow, wide = b"N0" * 10_000_000, b"N" * 16_000_000
    heavy = store_bytes(tmp_path, b"\x80\x05" + (slow if seconds == 1 else wide) + b"N.")
    async with Limited(preload=PRELOADED_MODULES, memory_bytes=memory, seconds=seconds) as child:
        checks = ChildProcessArtifactChecks(ArtifactStore(tmp_path.as_uri()), child, light_bytes=1_000_000)

        refusals = [await checks.refusal(v.data, [market_spec()]) for v in (heavy, store_model("b-0", 10, tmp_path))]

    assert says in str(refusals[0])
    assert refusals[1] is None


async def test_a_tree_that_contains_itself_is_refused(checks: ChildProcessArtifactChecks, tmp_path: Path) -> None:
    model: Any = build(ModelSpec(preset="hoeffding_tree"), market_spec())
    model.learn({"price": 1.0, "demand": 1.0}, True)
    root = model.estimator._root  # noqa: SLF001 - River shows its tree in no other way
    branch: Any = NumericBinaryBranch(None, "price", 0.5, 0, root, root)  # type: ignore[no-untyped-call]
    branch.children = [branch, branch]
    model.estimator._root = branch  # noqa: SLF001

    refusal = await checks.refusal(store_bytes(tmp_path, save(model).data).data, [market_spec()])

    assert refusal is not None
    assert "recursion" in refusal


async def test_features_of_an_earlier_revision_are_known(checks: ChildProcessArtifactChecks, tmp_path: Path) -> None:
    version = store_model("a-0", 10, tmp_path)
    later = market_spec(schema={"price": {"type": "number"}, "wind": {"type": "number"}})

    assert await checks.refusal(version.data, [market_spec(), later]) is None
    assert await checks.refusal(version.data, [later]) is not None
