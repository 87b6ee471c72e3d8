"""File systems by URL: errors with their reason, calls that end, and no credentials in what is said."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.object_stores import ObjectStore

from everloop_shared import file_systems
from everloop_shared.file_systems import open_file_system, os_errors, without_credentials


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores may take seconds instead of minutes."""
    monkeypatch.setattr(file_systems, "CONNECT_S", 1)
    monkeypatch.setattr(file_systems, "ANSWER_S", 1)
    monkeypatch.setattr(file_systems, "CALL_S", 0.7)


def test_a_file_is_created_once_by_whoever_comes_first(object_store: ObjectStore) -> None:
    fs, path = open_file_system(object_store.url)
    fs.pipe_file(f"{path}/commit", b"first", mode="create")

    with pytest.raises(FileExistsError), os_errors():
        fs.pipe_file(f"{path}/commit", b"second", mode="create")

    assert fs.cat_file(f"{path}/commit") == b"first"


def test_what_another_process_wrote_is_seen_at_once(object_store: ObjectStore) -> None:
    fs, path = open_file_system(object_store.url)
    fs.pipe_file(f"{path}/a", b"a")
    assert len(fs.ls(path)) == 1

    another: Any = type(fs)
    another(**fs.storage_options, skip_instance_cache=True).pipe_file(f"{path}/b", b"b")

    assert len(fs.ls(path)) == 2


def test_a_store_that_is_away_is_an_os_error_with_the_reason(object_store: ObjectStore, impatient: None) -> None:
    fs, path = open_file_system(object_store.url)
    fs.pipe_file(f"{path}/a", b"a")
    object_store.relay.turn("away")

    calls: list[Callable[[], object]] = [
        lambda: fs.cat_file(f"{path}/a"),
        lambda: fs.pipe_file(f"{path}/b", b"b"),
        lambda: fs.ls(path),
    ]
    for call in calls:
        with pytest.raises(OSError, match=r"\w") as raised, os_errors():
            call()
        assert not isinstance(raised.value, FileNotFoundError)

    object_store.relay.turn("up")
    assert fs.cat_file(f"{path}/a") == b"a"


def test_a_store_that_does_not_answer_ends_the_call(object_store: ObjectStore, impatient: None) -> None:
    fs, path = open_file_system(object_store.url + "/silent")
    object_store.relay.turn("silent")
    started = time.monotonic()

    with pytest.raises(OSError, match=r"(?i)time"), os_errors():
        fs.cat_file(f"{path}/a")

    assert time.monotonic() - started < 15


def test_errors_of_the_code_itself_stay_as_they_are() -> None:
    with pytest.raises(KeyError), os_errors():
        raise KeyError("a")


def test_a_url_is_said_without_its_user_and_password() -> None:
    assert without_credentials("cannot write to sftp://me:secret@host/x") == "cannot write to sftp://host/x"
    assert without_credentials("file:///home/a@b") == "file:///home/a@b"
