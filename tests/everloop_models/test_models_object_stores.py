"""Artifacts on S3 and Google Cloud Storage: stored, found again, and errors that say whether a retry helps."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from tests.object_stores import ObjectStore

from everloop_models import ArtifactMissing, ArtifactUnavailable
from everloop_models.store import ArtifactStore, name_in
from everloop_shared import file_systems

SHA256 = "0123456789abcdef" * 4


def test_an_artifact_is_put_read_listed_and_deleted(object_store: ObjectStore) -> None:
    store, name = ArtifactStore(object_store.url), ArtifactStore.name("churn", "a-0@1", SHA256)

    uri = store.put(name, b"x" * 6_000_000)
    again = store.put(name, b"x" * 6_000_000)

    assert uri == again == f"{object_store.url}/{name}"
    assert store.named(uri, "churn", "a-0@1", SHA256) == name_in(uri) == name
    assert store.get(name, 6_000_000) == b"x" * 6_000_000
    assert store.loops() == ["churn"]
    [(listed, size, age)] = store.files("churn")
    assert (listed, size) == (name, 6_000_000)
    assert 0 <= age < 60
    store.delete(name)
    store.delete(name)
    assert store.files("churn") == []


def test_an_artifact_that_is_not_there_is_missing_and_a_store_that_is_away_is_not(
    object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(file_systems, "CALL_S", 0.5)
    store, name = ArtifactStore(object_store.url + "/away"), ArtifactStore.name("churn", "a-0@1", SHA256)
    store.put(name, b"bytes")
    with pytest.raises(ArtifactMissing):
        store.get(ArtifactStore.name("churn", "a-0@2", SHA256))

    object_store.relay.turn("away")
    with caplog.at_level(logging.DEBUG, "everloop"):
        for call in (lambda: store.get(name), lambda: store.put(name, b"b"), store.loops, lambda: store.delete(name)):
            with pytest.raises(ArtifactUnavailable) as raised:
                call()
            assert not isinstance(raised.value, ArtifactMissing)
            assert "test-secret" not in str(raised.value)
    object_store.relay.turn("up")

    assert store.get(name) == b"bytes"


def test_a_bucket_that_is_not_there_says_so(object_store: ObjectStore) -> None:
    store = ArtifactStore(f"{object_store.scheme}://no-such-bucket-here")

    with pytest.raises(ArtifactUnavailable, match="cannot write"):
        store.put(ArtifactStore.name("churn", "a-0@1", SHA256), b"bytes")


def test_without_credentials_the_error_names_them(
    s3_store: ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    s3_store.use(monkeypatch)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://localhost:{s3_store.relay.port}")
    store = ArtifactStore("s3://bucket")

    with pytest.raises(ArtifactUnavailable, match="credentials"):
        store.put(ArtifactStore.name("churn", "a-0@1", SHA256), b"bytes")
