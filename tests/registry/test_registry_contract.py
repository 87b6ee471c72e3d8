"""The contract checks on real artifacts: what a version must be before anybody may be served by it."""

from __future__ import annotations

import pickle
from hashlib import sha256
from pathlib import Path

import pytest
from tests.registry.registry_room import spec, stored, trained

from everloop_registry.contract import StoredArtifacts
from everloop_schemas.training import ModelTrained

CHECKS = StoredArtifacts("file:///nowhere", max_bytes=1_000_000, light_bytes=1_000_000)


def changed(event: ModelTrained, **changes: object) -> ModelTrained:
    """The event with other data."""
    return event.model_copy(update={"data": event.data.model_copy(update=changes)})


async def test_a_sound_artifact_passes(tmp_path: Path) -> None:
    version = stored("a-0", 10, tmp_path)

    assert await CHECKS.refusal(version.data, [spec()]) is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"size": 2_000_000}, "at most"),
        ({"size": 11}, "bytes"),
        ({"sha256": "0" * 64}, "sha256"),
        ({"signature": ("demand", "price", "secret")}, "secret"),
        ({"uri": "file:///nowhere/at/all.pkl"}, "no artifact"),
        ({"uri": "nosuchprotocol://x"}, "cannot read"),
    ],
)
async def test_a_version_that_is_not_what_it_says_is_refused(
    tmp_path: Path, changes: dict[str, object], says: str
) -> None:
    version = changed(stored("a-0", 10, tmp_path), **changes)

    refusal = await CHECKS.refusal(version.data, [spec()])

    assert refusal is not None
    assert says in refusal


async def test_bytes_that_are_no_model_are_refused_before_they_do_anything(tmp_path: Path) -> None:
    data = pickle.dumps(print, protocol=5)
    path = tmp_path / "evil.pkl"
    path.write_bytes(data)
    version = trained("a-0", 10, uri=path.as_uri(), size=len(data), sha256=sha256(data).hexdigest())

    refusal = await CHECKS.refusal(version.data, [spec()])

    assert refusal is not None
    assert "print" in refusal


async def test_a_large_refresh_is_not_unpickled_again_but_a_first_version_is(tmp_path: Path) -> None:
    path = tmp_path / "large.pkl"
    path.write_bytes(b"no pickle at all")
    of = {"uri": path.as_uri(), "size": 16, "sha256": sha256(b"no pickle at all").hexdigest()}
    checks = StoredArtifacts("file:///nowhere", max_bytes=1_000_000, light_bytes=10)

    refresh = await checks.refusal(trained("a-0", 10, "refresh", **of).data, [spec()])
    first = await checks.refusal(trained("a-0", 10, "gate", **of).data, [spec()])

    assert refresh is None
    assert first is not None


async def test_features_of_an_earlier_revision_are_known(tmp_path: Path) -> None:
    version = stored("a-0", 10, tmp_path)
    later = spec(schema={"price": {"type": "number"}, "wind": {"type": "number"}})

    assert await CHECKS.refusal(version.data, [spec(), later]) is None
    assert await CHECKS.refusal(version.data, [later]) is not None
