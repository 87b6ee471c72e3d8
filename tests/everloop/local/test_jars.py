"""Kafka's jars come whole or not at all, once, whoever else fetches."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from everloop.local import jars
from everloop.local.errors import FolderNotWritable, KafkaNotFetched

JARS = {"one": b"1" * 5000, "two": b"2" * 3000}


class Repository(http.server.ThreadingHTTPServer):
    """A Maven repository on the loopback, with two packages."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), FileHandler)
        self.served: list[str] = []
        self.files = {f"/org/example/{name}/1.0/{name}-1.0.jar": body for name, body in JARS.items()}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class FileHandler(http.server.BaseHTTPRequestHandler):
    server: Repository

    def do_GET(self) -> None:
        body = self.server.files.get(self.path)
        self.send_response(404 if body is None else 200)
        self.send_header("content-length", str(len(body or b"")))
        self.end_headers()
        if body is not None:
            self.wfile.write(body)
            self.server.served.append(self.path)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    lock = tmp_path / "kafka.lock"
    lines = [f"org.example:{n}:1.0 {len(b)} {hashlib.sha256(b).hexdigest()}" for n, b in JARS.items()]
    lock.write_text("\n".join(lines))
    monkeypatch.setattr(jars, "LOCK", lock)
    monkeypatch.setenv("EVERLOOP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Repository() as server:
        monkeypatch.setenv("EVERLOOP_MAVEN_REPOSITORY", server.url)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def test_it_is_fetched_once_with_its_progress(repository: Repository) -> None:
    seen: list[tuple[int, int]] = []

    first = jars.fetch(lambda done, total, what: seen.append((done, total)))
    again = jars.fetch()

    assert [file.read_bytes() for file in first] == list(JARS.values())
    assert again == first
    assert len(repository.served) == 2
    assert (seen[0], seen[-1]) == ((0, 8000), (8000, 8000))


def test_a_broken_jar_is_fetched_again_and_the_others_are_not(repository: Repository) -> None:
    one = jars.fetch()[0]
    one.write_bytes(b"x" * 5000)

    jars.fetch()

    assert one.read_bytes() == JARS["one"]
    assert len([path for path in repository.served if "/two/" in path]) == 1


def test_what_the_lock_does_not_name_is_refused(repository: Repository) -> None:
    repository.files["/org/example/two/1.0/two-1.0.jar"] = b"evil" * 750

    with pytest.raises(KafkaNotFetched, match=r"two-1.0.jar.*not the one in the lock"):
        jars.fetch()

    assert not list(jars.cache_folder().rglob("two*.jar"))


def test_two_fetches_at_the_same_time_download_once(repository: Repository) -> None:
    with ThreadPoolExecutor() as pool:
        both = list(pool.map(lambda _: jars.fetch(), range(2)))

    assert both[0] == both[1]
    assert sorted(repository.served) == sorted(repository.files)


def test_without_a_way_to_the_packages_it_says_what_to_do(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERLOOP_MAVEN_REPOSITORY", "http://127.0.0.1:1")

    with pytest.raises(KafkaNotFetched) as caught:
        jars.fetch()

    assert "cannot be reached" in caught.value.what
    assert "everloop kafka fetch" in caught.value.fix
    assert "--kafka HOST:PORT" in caught.value.fix


def test_a_cache_that_cannot_be_written_is_named(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EVERLOOP_CACHE", str(tmp_path / "file"))

    with pytest.raises(FolderNotWritable, match="cannot be written"):
        jars.fetch()


def test_the_committed_lock_names_kafka_and_its_log_binding() -> None:
    names = {jar.artifact for jar in jars.read_lock()}

    assert {"kafka_2.13", "kafka-clients", "log4j-slf4j-impl"} <= names
    assert len(names) == len(jars.read_lock())
