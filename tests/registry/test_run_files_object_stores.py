"""The files of runs on S3 and Google Cloud Storage: the same as on a disk, and unavailable while the store is away."""

from __future__ import annotations

import io

import pytest
from tests.object_stores import ObjectStore

from everloop_models import ArtifactUnavailable
from everloop_registry.adapters.run_files import RunFiles
from everloop_registry.errors import ArtifactNotFound
from everloop_shared import file_systems


class BrokenUpload(io.BytesIO):
    """A client that goes away in the middle."""

    def read(self, size: int | None = -1) -> bytes:
        """The first megabyte only."""
        if self.tell() >= 1_000_000:
            raise ConnectionResetError("the client is gone")
        return super().read(size)


def test_files_are_written_listed_read_and_deleted(object_store: ObjectStore) -> None:
    files, content = RunFiles(object_store.url), b"0123456789" * 300_000

    files.write("runs/1/artifacts/model/weights.bin", io.BytesIO(content))
    files.write("runs/1/artifacts/notes.txt", io.BytesIO(b"notes"))

    assert [(e.path, e.is_dir, e.size) for e in files.entries("runs/1/artifacts")] == [
        ("model", True, None),
        ("notes.txt", False, 5),
    ]
    assert files.count("runs/1") == (2, len(content) + 5)
    opened = files.open("runs/1/artifacts/model/weights.bin")
    assert (opened.size, b"".join(opened.chunks)) == (len(content), content)
    files.delete("runs/1")
    files.delete("runs/1")
    assert files.count("runs/1") == (0, 0)
    with pytest.raises(ArtifactNotFound):
        files.open("runs/1/artifacts/notes.txt")


def test_a_file_whose_upload_breaks_off_is_not_there(object_store: ObjectStore) -> None:
    files = RunFiles(object_store.url)

    with pytest.raises(ArtifactUnavailable):
        files.write("runs/1/artifacts/half.bin", BrokenUpload(b"0" * 3_000_000))

    assert files.entries("runs/1/artifacts") == []


def test_a_store_that_is_away_is_unavailable(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_systems, "CALL_S", 0.5)
    files = RunFiles(object_store.url + "/away")
    object_store.relay.turn("away")

    for call in (
        lambda: files.entries("runs/1"),
        lambda: files.open("runs/1/a"),
        lambda: files.write("runs/1/a", io.BytesIO(b"a")),
        lambda: files.delete("runs/1"),
    ):
        with pytest.raises(ArtifactUnavailable):
            call()
